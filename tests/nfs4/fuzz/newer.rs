//! What only sessions have: operations on clients and sessions (4.1), on ranges, copies and extended attributes (4.2, RFC
//! 8276). Like all material they make sense, mostly.

use nfsd::nfs4::Op4;
use nfsd::nfs4::types::*;
use nfsd::xdr::Dec;
use tests::client::encode;
use tests::client::session::Terms;

use super::{Material, Numbers, Part, bare, join, part};

/// Names of extended attributes, too long and empty ones among them.
const XATTRS: [&[u8]; 5] = [b"a", b"b", b"user.a", b"", &[b'x'; 256]];
/// Offsets and lengths, aligned to blocks and not.
const PLACES: [u64; 6] = [0, 1, 4096, 65_536, 1 << 40, u64::MAX];

fn word(word: u32) -> Vec<u8> {
    encode(&word)
}

impl Material {
    /// One operation of 4.2, with what it needs before it.
    pub fn newer(&self, n: &mut Numbers) -> Vec<Part> {
        let (offset, length) = (encode(&n.of(&PLACES)), encode(&n.of(&PLACES)));
        let stateid = self.stateid(n);
        let range = join(&[&stateid, &offset, &length]);
        let one = match n.below(14) {
            0 if self.bounded => part(Op4::Allocate, range),
            0 | 1 => part(Op4::Deallocate, range),
            2 => {
                let what = word(n.below(3) as u32);
                part(Op4::Seek, join(&[&stateid, &offset, &what]))
            }
            3 => {
                let count = word(n.of(&[0, 1, 5000, u32::MAX]));
                part(Op4::ReadPlus, join(&[&stateid, &offset, &count]))
            }
            4 => {
                let hints = encode(&Bitmap4::of(&[n.below(14) as u32]));
                part(Op4::IoAdvise, join(&[&range, &hints]))
            }
            5 => part(Op4::OffloadStatus, stateid),
            6 => part(Op4::OffloadCancel, stateid),
            7..=9 => return self.copying(n),
            _ => self.xattr(n),
        };
        vec![one]
    }

    /// COPY or CLONE from one file to another, or within one.
    fn copying(&self, n: &mut Numbers) -> Vec<Part> {
        let mut parts = vec![self.fh(n), bare(Op4::Savefh), self.fh(n)];
        if n.below(2) == 0 {
            parts.push(self.open(n));
        }
        let both = join(&[&self.stateid(n), &self.stateid(n)]);
        let places = [n.of(&PLACES), n.of(&PLACES), n.of(&[0, 0, 4096, 10_000])];
        let places = places.map(|place| encode(&place)).concat();
        parts.push(if n.below(3) == 0 {
            part(Op4::Clone, join(&[&both, &places]))
        } else {
            // Consecutive, synchronous, and from no other server.
            let how = [n.below(2), n.below(2), 0].map(|flag| word(flag as u32));
            part(Op4::Copy, join(&[&both, &places, &how.concat()]))
        });
        parts
    }

    fn xattr(&self, n: &mut Numbers) -> Part {
        let key = encode(&Component4(n.of(&XATTRS)));
        match n.below(4) {
            0 => part(Op4::Getxattr, key),
            1 => {
                let value = encode(&Data4(&[b'v'; 5000][..n.of(&[0, 7, 5000])]));
                part(
                    Op4::Setxattr,
                    join(&[&word(n.below(3) as u32), &key, &value]),
                )
            }
            2 => {
                let cookie = encode(&n.of(&[0_u64, 1, u64::MAX]));
                let count = word(n.of(&[0, 20, 5000]));
                part(Op4::Listxattrs, join(&[&cookie, &count]))
            }
            _ => part(Op4::Removexattr, key),
        }
    }

    /// An operation on the client, its sessions or connections. Outside of a session it may stand alone.
    pub fn of_sessions(&self, n: &mut Numbers) -> Part {
        let (clientid, sequence) = n.of(&self.clients);
        let session = n.of(&self.sessions);
        let mut terms = Terms::new(1).named(n.of(&[b"fuzz".as_slice(), b"other"]));
        terms.verifier = n.of(&[0_u64, 1, 2]).to_be_bytes();
        // Not for callbacks: nobody would give delegations back, and the host would wait for that.
        terms.flags = n.below(2) as u32;
        terms.message = n.of(&[0, 100, 1 << 20, u32::MAX]);
        terms.cached = n.of(&[0, 4096, u32::MAX]);
        terms.ops = n.of(&[0, 1, 64, u32::MAX]);
        terms.slots = n.of(&[0, 1, 4, u32::MAX]);
        match n.below(10) {
            0 | 1 => {
                // Among others: update of a confirmed one, and what no client may send.
                let flags = n.of(&[0, 0, 0x100, 0x4000_0000, 0x8000_0000, u32::MAX]);
                part(Op4::ExchangeId, terms.exchange_id(flags))
            }
            2..=4 => part(Op4::CreateSession, terms.create_session(clientid, sequence)),
            5 => part(Op4::DestroySession, session.to_vec()),
            6 => part(Op4::DestroyClientid, encode(&clientid)),
            7 => {
                let channel = word(n.of(&[0, 1, 1]));
                let bound = join(&[&session, &channel, &encode(&false)]);
                part(Op4::BindConnToSession, bound)
            }
            8 => {
                let security = join(&[&word(0x4000_0000), &word(1), &word(0)]);
                part(Op4::BackchannelCtl, security)
            }
            _ => {
                let stateids = [self.stateid(n), self.stateid(n)].concat();
                part(Op4::TestStateid, join(&[&word(2), &stateids]))
            }
        }
    }

    /// Keeps what an answer brought of stateids, clients and sessions.
    pub fn learn_newer(&mut self, bytes: &[u8]) {
        let after = |op: Op4| {
            let wanted = [op.wire(), 0].map(u32::to_be_bytes).concat();
            let found = bytes.windows(8).position(|window| window == wanted)?;
            Some(Dec::new(&bytes[found + 8..]))
        };
        let copy = after(Op4::Copy).and_then(|mut dec| (dec.u32() == Ok(1)).then(|| dec.get()));
        let lock = after(Op4::Lock).map(|mut dec| dec.get());
        for stateid in [copy, lock].into_iter().flatten().flatten() {
            self.stateids.truncate(20);
            self.stateids.insert(0, stateid);
        }
        if let Some(mut dec) = after(Op4::ExchangeId)
            && let (Ok(clientid), Ok(sequence)) = (dec.get(), dec.get())
        {
            self.clients.truncate(4);
            self.clients.insert(0, (clientid, sequence));
        }
        if let Some(Ok(session)) = after(Op4::CreateSession).map(|mut dec| dec.get()) {
            self.sessions.truncate(4);
            self.sessions.insert(0, session);
        }
    }
}
