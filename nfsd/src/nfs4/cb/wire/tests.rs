//! What is sent decodes to itself; what comes back is taken apart whatever it is.

use super::*;
use crate::nfs4::types::Other;
use crate::xdr::{Decode, Sample, Tape};
use proptest::prelude::*;

fn bytes(value: &impl Encode) -> Vec<u8> {
    let mut out = Vec::new();
    Enc::new(&mut out, 1 << 20).put(value).unwrap();
    out
}

/// A value comes back as it was, and cut short it is an error.
fn law<T>(tape: &'static [u8])
where
    T: Decode<'static> + Encode + Sample<'static> + PartialEq + std::fmt::Debug,
{
    let value = T::sample(&mut Tape::new(tape));
    let raw: &'static [u8] = bytes(&value).leak();
    let mut dec = Dec::new(raw);
    assert_eq!(dec.get::<T>().as_ref(), Ok(&value));
    dec.finish().unwrap();
    for cut in 0..raw.len() {
        assert!(Dec::new(&raw[..cut]).get::<T>().is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn arguments_come_back(tape in proptest::collection::vec(any::<u8>(), 0..300)) {
        let tape: &'static [u8] = tape.leak();
        law::<CbGetattr4args<'static>>(tape);
        law::<CbRecall4args<'static>>(tape);
        law::<CbNotifyLock4args<'static>>(tape);
        law::<CbRecallAny4args>(tape);
        law::<CbSequence4args>(tape);
        law::<CbSequence4resok>(tape);
        law::<CbOffload4args<'static>>(tape);
        law::<CbOp4>(tape);
    }

    /// Whatever a client sends, there is an answer or an error, never a panic.
    #[test]
    fn any_reply_is_taken_apart(
        words in proptest::collection::vec(prop_oneof![0..16_u32, any::<u32>()], 0..40),
        in_session: bool,
    ) {
        let raw: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
        if let Ok(reply) = CbReply::decode(&raw, in_session) {
            prop_assert!(in_session || reply.sequence.is_none());
        }
    }
}

const STATEID: Stateid4 = Stateid4 {
    seqid: 1,
    other: Other([7; 12]),
};

const TURN: CbSequence4resok = CbSequence4resok {
    sessionid: [3; 16],
    sequenceid: 5,
    slotid: 1,
    highest_slotid: 3,
    target_highest_slotid: 2,
};

/// A reply of these words and parts.
fn reply(status: Nfsstat4, results: &[&[u8]]) -> Vec<u8> {
    let mut out = bytes(&status);
    out.extend(bytes(&Tag4(b"any")));
    out.extend((results.len() as u32).to_be_bytes());
    results.iter().for_each(|r| out.extend_from_slice(r));
    out
}

fn result(op: CbOp4, status: u32, body: &[u8]) -> Vec<u8> {
    let mut out = bytes(&op);
    out.extend(status.to_be_bytes());
    out.extend_from_slice(body);
    out
}

#[test]
fn a_compound_is_what_the_rfc_says() {
    let recall = CbArgs::Recall(CbRecall4args {
        stateid: STATEID,
        truncate: false,
        fh: NfsFh4(b"abcd"),
    });
    let plain = CbCompound {
        minor: 0,
        ident: 9,
        sequence: None,
        op: Some(&recall),
    };
    let mut words: Vec<u32> = vec![0, 0, 9, 1, 4, 1];
    words.extend([0x0707_0707; 3]);
    words.extend([0, 4, u32::from_be_bytes(*b"abcd")]);
    let expected: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
    assert_eq!(bytes(&plain), expected);
    let alone = CbCompound {
        minor: 1,
        ident: 0,
        sequence: Some(CbSequence4args {
            sessionid: [0; 16],
            sequenceid: 1,
            slotid: 2,
            highest_slotid: 3,
            cachethis: false,
            referring: ArrayVec::new(),
        }),
        op: None,
    };
    let words = [0, 1, 0, 1, 11, 0, 0, 0, 0, 1, 2, 3, 0, 0_u32];
    let expected: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
    assert_eq!(bytes(&alone), expected);
}

#[test]
fn replies_of_a_session() {
    let turn = result(CbOp4::Sequence, 0, &bytes(&TURN));
    let done = result(CbOp4::Recall, 0, &[]);
    let decoded = CbReply::decode(&reply(Nfsstat4::Ok, &[&turn, &done]), true).unwrap();
    assert_eq!(decoded.sequence, Some(Ok(TURN)));
    assert_eq!(decoded.op, Some(CbDone::Ok));
    let failed = result(CbOp4::Recall, 10025, &[]);
    let decoded = reply(Nfsstat4::BadStateid, &[&turn, &failed]);
    let decoded = CbReply::decode(&decoded, true).unwrap();
    assert_eq!(decoded.op, Some(CbDone::Failed(Nfsstat4::BadStateid)));
    let refused = result(CbOp4::Sequence, 10063, &[]);
    let decoded = CbReply::decode(&reply(Nfsstat4::SeqMisordered, &[&refused]), true).unwrap();
    assert_eq!(decoded.sequence, Some(Err(Nfsstat4::SeqMisordered)));
    assert_eq!(decoded.op, None);
    // Not what was asked.
    for wrong in [
        reply(Nfsstat4::Ok, &[&done]),
        reply(Nfsstat4::Ok, &[&done, &turn]),
        reply(Nfsstat4::Ok, &[&turn, &turn]),
        reply(Nfsstat4::Ok, &[&turn, &done, &done]),
    ] {
        assert!(CbReply::decode(&wrong, true).is_err());
    }
    // A status nobody knows is a failure all the same.
    let odd = result(CbOp4::Recall, 77_777, &[]);
    let decoded = CbReply::decode(&reply(Nfsstat4::Ok, &[&odd]), false).unwrap();
    assert_eq!(decoded.op, Some(CbDone::Failed(Nfsstat4::Serverfault)));
}

#[test]
fn attributes_of_a_file_delegated() {
    let body = |bits: &[u32], values: &[u64]| {
        let values: Vec<u8> = values.iter().flat_map(|v| v.to_be_bytes()).collect();
        bytes(&Fattr4 {
            mask: Bitmap4::of(bits),
            values: Attrlist4(&values),
        })
    };
    let answer = |body: &[u8]| {
        let done = result(CbOp4::Getattr, 0, body);
        let decoded = CbReply::decode(&reply(Nfsstat4::Ok, &[&done]), false)?;
        Ok::<_, XdrError>(decoded.op)
    };
    let attrs = |change, size| Ok(Some(CbDone::Attrs(CbAttrs { change, size })));
    assert_eq!(
        answer(&body(&[CHANGE, SIZE], &[8, 9])),
        attrs(Some(8), Some(9))
    );
    assert_eq!(answer(&body(&[SIZE], &[9])), attrs(None, Some(9)));
    assert_eq!(answer(&body(&[], &[])), attrs(None, None));
    assert!(answer(&body(&[SIZE], &[9, 9])).is_err());
    assert!(answer(&body(&[SIZE], &[])).is_err());
    assert!(answer(&body(&[SIZE, 33], &[9, 9])).is_err());
}
