//! Against C: code that rpcgen made from .x files transcribed from the RFCs, and libtirpc.

use super::{Numbers, TYPES, encode, nfs4, samples};
use nfsd::rpc::auth::sys::AuthSys;
use nfsd::rpc::auth::{AuthStat, OpaqueAuth};
use nfsd::rpc::msg::{CallHeader, Refusal, encode_refusal, encode_success, success_header};
use nfsd::rpc::portmap::{Mapping, Rpcb, RpcbString};
use nfsd::xdr::{Enc, Sample, Tape};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tests::need::not_run;

/// The C program, running.
pub struct Oracle {
    child: Child,
    requests: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    /// Starts it. Without it the test ends here, loudly, and fails if RINGNFS_REQUIRE_TOOLS is 1.
    pub fn start() -> Option<Oracle> {
        let Some(program) = option_env!("RINGNFS_XDR_ORACLE") else {
            let why = option_env!("RINGNFS_XDR_ORACLE_MISSING").unwrap_or("not built");
            // Named by the test runner after the test.
            let thread = std::thread::current();
            let what = format!("C (rpcsvc-proto, libtirpc-dev, gcc): {why}");
            not_run(thread.name().unwrap_or("codec"), &what);
            return None;
        };
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the oracle starts");
        let answers = BufReader::new(child.stdout.take().expect("piped"));
        let requests = child.stdin.take();
        Some(Oracle {
            child,
            requests,
            answers,
        })
    }

    /// What C makes of these bytes as `name`: the same value encoded by C, or why not.
    pub fn recode(&mut self, name: &str, raw: &[u8]) -> Result<Vec<u8>, String> {
        let mut line = format!("{name} ");
        for byte in raw {
            write!(line, "{byte:02x}").expect("a string takes everything");
        }
        line.push('\n');
        let requests = self.requests.as_mut().expect("open until the end");
        requests
            .write_all(line.as_bytes())
            .expect("the oracle reads");
        let mut answer = String::new();
        self.answers
            .read_line(&mut answer)
            .expect("the oracle answers");
        let hex = answer.trim_end();
        if hex.len() % 2 == 1 || hex.starts_with('!') {
            return Err(answer);
        }
        let byte = |i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex");
        Ok((0..hex.len()).step_by(2).map(byte).collect())
    }

    /// C reads these bytes to the end and encodes them again.
    #[track_caller]
    pub fn agrees(&mut self, name: &str, raw: &[u8]) {
        assert_eq!(
            self.recode(name, raw).as_deref(),
            Ok(raw),
            "{name} {raw:02x?}"
        );
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        drop(self.requests.take());
        let _ = self.child.wait();
    }
}

/// What we encode, C reads to the end and encodes to the same bytes.
#[test]
fn c_reads_what_we_write() {
    let Some(mut oracle) = Oracle::start() else {
        return;
    };
    for kind in TYPES.iter().chain(nfs4::TYPES) {
        for raw in samples(kind) {
            oracle.agrees(kind.name, &raw);
        }
    }
}

/// Bytes with one word changed: what we accept C accepts too, and both see the same value.
#[test]
fn we_accept_no_more_than_c() {
    let Some(mut oracle) = Oracle::start() else {
        return;
    };
    let mut numbers = Numbers(7);
    let mut accepted = 0;
    for kind in TYPES.iter().chain(nfs4::TYPES) {
        for mut raw in samples(kind) {
            let word = match numbers.below(3) {
                0 => numbers.next() as u32,
                1 => numbers.below(80) as u32,
                _ => u32::MAX,
            };
            let words = raw.len() as u64 / 4;
            if let Some(slot) = raw.chunks_exact_mut(4).nth(numbers.below(words) as usize) {
                slot.copy_from_slice(&word.to_be_bytes());
            }
            let raw: &'static [u8] = raw.leak();
            if let Some(ours) = (kind.recode)(raw) {
                accepted += 1;
                let mut theirs = oracle.recode(kind.name, raw);
                if kind.several {
                    theirs = theirs.map(|raw| (kind.recode)(raw.leak()).expect("the same value"));
                }
                assert_eq!(theirs, Ok(ours), "{} {raw:02x?}", kind.name);
            }
        }
    }
    assert!(
        accepted > 1000,
        "only {accepted} changed values were accepted"
    );
}

#[test]
fn the_oracle_can_disagree() {
    let Some(mut oracle) = Oracle::start() else {
        return;
    };
    assert!(oracle.recode("x_mapping", &[0; 15]).is_err(), "cut");
    assert!(oracle.recode("x_mapping", &[0; 20]).is_err(), "too long");
    assert!(oracle.recode("no_such_type", &[0; 16]).is_err());
    assert!(
        oracle.recode("dirpath", &[255; 4]).is_err(),
        "above the maximum"
    );
    // Padding that is not zero comes back as zero.
    let raw = [0, 0, 0, 1, b'/', 1, 2, 3];
    assert_eq!(
        oracle.recode("dirpath", &raw),
        Ok(vec![0, 0, 0, 1, b'/', 0, 0, 0])
    );
}

#[test]
fn rpc_messages() {
    let Some(mut oracle) = Oracle::start() else {
        return;
    };
    let body: Vec<u8> = (0..=255).collect();
    for len in [0, 1, 4, 255] {
        let auth = OpaqueAuth {
            flavor: 1,
            body: &body[..len],
        };
        let call = CallHeader {
            xid: 0xdead_beef,
            prog: 100_003,
            vers: 3,
            proc: 7,
            cred: auth,
            verf: auth,
        };
        let mut reply = Vec::new();
        encode_success(&mut Enc::new(&mut reply, 1000), 1, &auth).expect("fits");
        for (name, raw) in [
            ("x_rpc_msg", encode(&call)),
            ("tirpc_callmsg", encode(&call)),
            ("x_rpc_msg", reply.clone()),
            ("tirpc_replymsg", reply),
        ] {
            oracle.agrees(name, &raw);
        }
    }
    let mut refusals = vec![
        Refusal::RpcMismatch,
        Refusal::ProgUnavail,
        Refusal::ProgMismatch { low: 3, high: 4 },
        Refusal::ProcUnavail,
        Refusal::GarbageArgs,
        Refusal::SystemErr,
    ];
    refusals.extend(AuthStat::ALL.iter().map(|stat| Refusal::Auth(*stat)));
    for refusal in refusals {
        let mut raw = Vec::new();
        encode_refusal(&mut Enc::new(&mut raw, 100), 5, refusal).expect("fits");
        oracle.agrees("x_rpc_msg", &raw);
        oracle.agrees("tirpc_replymsg", &raw);
    }
    oracle.agrees("tirpc_replymsg", &success_header(9));
}

/// The types libtirpc has itself. Its strings end at a NUL byte, so these have none.
#[test]
fn types_of_libtirpc() {
    let Some(mut oracle) = Oracle::start() else {
        return;
    };
    let texts: [&[u8]; 4] = [b"", b"tcp", b"127.0.0.1.8.1", &[b'x'; 255]];
    for seed in 0..200 {
        let tape = Numbers(seed).tape();
        let mut sys = AuthSys::sample(&mut Tape::new(tape));
        sys.machinename = texts[seed as usize % 4];
        oracle.agrees("tirpc_authunix_parms", &encode(&sys));
        oracle.agrees(
            "tirpc_pmap",
            &encode(&Mapping::sample(&mut Tape::new(tape))),
        );
        let rpcb = Rpcb {
            r_netid: RpcbString(texts[(seed as usize + 1) % 4]),
            r_addr: RpcbString(texts[(seed as usize + 2) % 4]),
            r_owner: RpcbString(texts[(seed as usize + 3) % 4]),
            ..Rpcb::sample(&mut Tape::new(tape))
        };
        oracle.agrees("tirpc_rpcb", &encode(&rpcb));
    }
}
