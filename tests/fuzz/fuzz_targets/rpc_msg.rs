//! Fuzzes RPC messages: a call that parses encodes to the same header, every refusal has a reply a client can read, and
//! a reply that parses encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nfsd::rpc::auth::{Identity, authenticate};
use nfsd::rpc::msg::{
    CallHeader, Parsed, Refusal, ReplyHeader, encode_refusal, encode_success, parse,
};
use nfsd::xdr::{Dec, Enc};

fn refused(xid: u32, refusal: Refusal) {
    let mut reply = Vec::new();
    encode_refusal(&mut Enc::new(&mut reply, 64), xid, refusal).expect("a refusal is short");
    let mut dec = Dec::new(&reply);
    let header: ReplyHeader<'_> = dec.get().expect("is a reply");
    assert_eq!((header.xid, header.outcome), (xid, Err(refusal)));
    assert_eq!(dec.finish(), Ok(()));
}

fn call(record: &[u8]) {
    match parse(record) {
        Parsed::Ignore(_) => {}
        Parsed::Refuse { xid, refusal } => refused(xid, refusal),
        Parsed::Call(call) => {
            match authenticate(&call) {
                Ok(Identity::None) => assert!(call.cred.body.is_empty()),
                Ok(Identity::Unix(user)) => assert!(user.gids.len() <= 16),
                Err(stat) => refused(call.xid, Refusal::Auth(stat)),
            }
            let header = CallHeader {
                xid: call.xid,
                prog: call.prog,
                vers: call.vers,
                proc: call.proc,
                cred: call.cred,
                verf: call.verf,
            };
            let mut again = Vec::new();
            Enc::new(&mut again, 1000)
                .put(&header)
                .expect("a header is short");
            assert_eq!(again.len(), record.len() - call.args.remaining());
            assert_eq!(again[..28], record[..28]);
        }
    }
}

fn reply(record: &[u8]) {
    let mut dec = Dec::new(record);
    let Ok(header) = dec.get::<ReplyHeader<'_>>() else {
        return;
    };
    let mut again = Vec::new();
    let mut enc = Enc::new(&mut again, 1000);
    match header.outcome {
        Ok(()) => encode_success(&mut enc, header.xid, &header.verf),
        Err(refusal) => encode_refusal(&mut enc, header.xid, refusal),
    }
    .expect("a header is short");
    let same: ReplyHeader<'_> = Dec::new(&again).get().expect("is a reply");
    assert_eq!((same.xid, same.outcome), (header.xid, header.outcome));
}

fuzz_target!(|record: &[u8]| {
    call(record);
    reply(record);
});
