//! NFS version 4: its types, and by hand the arguments that the server only reads.

use super::c_oracle::Oracle;
use super::{Numbers, Type, encode, of};
use nfsd::nfs4::op::open::args::{Claim4, Createhow4, DelegationType4, OpenArgs};
use nfsd::nfs4::op::{
    backchannel_ctl::*, bind_conn_to_session::*, close::*, commit::*, create::*, create_session::*,
    destroy_clientid::*, destroy_session::*, exchange_id::*, lock::*, lockt::*, locku::*,
    open_confirm::*, open_downgrade::*, read::*, readdir::*, reclaim_complete::*, rename::*,
    renew::*, secinfo_no_name::*, sequence::*, set_ssv::*, setattr::*, setclientid::*,
    setclientid_confirm::*, test_stateid::*, write::*,
};
use nfsd::nfs4::types::*;
use nfsd::xdr::{Dec, Decode, Encode, Sample, Tape};

/// As [`of`], for types that can be written in several ways.
const fn several<T: Sample<'static> + Decode<'static> + Encode>(name: &'static str) -> Type {
    Type {
        several: true,
        ..of::<T>(name)
    }
}

/// Arguments that are sampled, and parts of arguments and results.
pub const TYPES: &[Type] = &[
    of::<u32>("ACCESS4args"),
    of::<CloseArgs>("CLOSE4args"),
    of::<CommitArgs>("COMMIT4args"),
    several::<CreateArgs<'_>>("CREATE4args"),
    of::<Clientid4>("DELEGPURGE4args"),
    of::<Stateid4>("DELEGRETURN4args"),
    several::<Bitmap4>("GETATTR4args"),
    of::<Component4<'_>>("LINK4args"),
    of::<LocktArgs<'_>>("LOCKT4args"),
    of::<LockuArgs>("LOCKU4args"),
    of::<Component4<'_>>("LOOKUP4args"),
    several::<Fattr4<'_>>("NVERIFY4args"),
    of::<OpenConfirmArgs>("OPEN_CONFIRM4args"),
    of::<OpenDowngradeArgs>("OPEN_DOWNGRADE4args"),
    of::<NfsFh4<'_>>("PUTFH4args"),
    of::<ReadArgs>("READ4args"),
    several::<ReaddirArgs>("READDIR4args"),
    of::<Component4<'_>>("REMOVE4args"),
    of::<RenameArgs<'_>>("RENAME4args"),
    of::<RenewArgs>("RENEW4args"),
    of::<Component4<'_>>("SECINFO4args"),
    several::<SetattrArgs<'_>>("SETATTR4args"),
    of::<SetclientidArgs<'_>>("SETCLIENTID4args"),
    of::<SetclientidConfirmArgs>("SETCLIENTID_CONFIRM4args"),
    several::<Fattr4<'_>>("VERIFY4args"),
    of::<WriteArgs<'_>>("WRITE4args"),
    of::<StateOwner4<'_>>("RELEASE_LOCKOWNER4args"),
    of::<BackchannelCtlArgs<'_>>("BACKCHANNEL_CTL4args"),
    of::<BindConnToSessionArgs>("BIND_CONN_TO_SESSION4args"),
    several::<ExchangeIdArgs<'_>>("EXCHANGE_ID4args"),
    of::<CreateSessionArgs<'_>>("CREATE_SESSION4args"),
    of::<DestroySessionArgs>("DESTROY_SESSION4args"),
    of::<Stateid4>("FREE_STATEID4args"),
    of::<SecinfoStyle4>("SECINFO_NO_NAME4args"),
    of::<SequenceArgs>("SEQUENCE4args"),
    of::<SetSsvArgs<'_>>("SET_SSV4args"),
    of::<DestroyClientidArgs>("DESTROY_CLIENTID4args"),
    of::<ReclaimCompleteArgs>("RECLAIM_COMPLETE4args"),
    of::<Stateid4>("stateid4"),
    of::<ChangeInfo4>("change_info4"),
    several::<Fattr4<'_>>("fattr4"),
    several::<Bitmap4>("bitmap4"),
    of::<StateOwner4<'_>>("open_owner4"),
    of::<StateOwner4<'_>>("lock_owner4"),
    of::<Lock4Denied<'_>>("LOCK4denied"),
    of::<ServerOwner4<'_>>("server_owner4"),
    of::<ChannelAttrs4>("channel_attrs4"),
];

/// A sampled value of a type, encoded.
fn sampled<T: Sample<'static> + Encode>(numbers: &mut Numbers) -> Vec<u8> {
    encode(&T::sample(&mut Tape::new(numbers.tape())))
}

/// The arguments are read whole, and by C to the same bytes; with a byte less they are neither.
fn read<T: Decode<'static>>(oracle: &mut Oracle, name: &str, raw: Vec<u8>) -> T {
    oracle.agrees(name, &raw);
    let raw: &'static [u8] = raw.leak();
    let mut dec = Dec::new(raw);
    let value = dec
        .get()
        .unwrap_or_else(|why| panic!("{name} {raw:02x?}: {why}"));
    assert_eq!(dec.finish(), Ok(()), "{name} {raw:02x?}");
    let cut = &raw[..raw.len() - 1];
    assert!(Dec::new(cut).get::<T>().is_err(), "{name} cut");
    assert!(oracle.recode(name, cut).is_err(), "{name} cut");
    value
}

/// `openflag4` with every way to create, and none: `None` or `createmode4`.
fn openhow(numbers: &mut Numbers, mode: Option<u32>) -> Vec<u8> {
    let Some(mode) = mode else {
        return encode(&0_u32);
    };
    let mut out = encode(&1_u32);
    out.extend(encode(&mode));
    if mode >= 2 {
        out.extend(sampled::<Verifier4>(numbers));
    }
    if mode != 2 {
        out.extend(sampled::<Fattr4<'_>>(numbers));
    }
    out
}

/// `open_claim4` of a type.
fn claim(numbers: &mut Numbers, kind: u32) -> Vec<u8> {
    let mut out = encode(&kind);
    out.extend(match kind {
        0 | 3 => sampled::<Component4<'_>>(numbers),
        1 => sampled::<DelegationType4>(numbers),
        2 => {
            let mut both = sampled::<Stateid4>(numbers);
            both.extend(sampled::<Component4<'_>>(numbers));
            both
        }
        5 => sampled::<Stateid4>(numbers),
        _ => Vec::new(),
    });
    out
}

/// CLAIM_NULL to CLAIM_DELEG_PREV_FH in the order of RFC 5662.
fn kind_of(claim: &Claim4<'_>) -> u32 {
    match claim {
        Claim4::Null(_) => 0,
        Claim4::Previous(_) => 1,
        Claim4::DelegateCur(..) => 2,
        Claim4::DelegatePrev(_) => 3,
        Claim4::Fh => 4,
        Claim4::DelegCurFh(_) => 5,
        Claim4::DelegPrevFh => 6,
    }
}

#[test]
fn arguments_of_open() {
    let Some(mut oracle) = Oracle::start() else {
        return;
    };
    let mut numbers = Numbers(11);
    for mode in [None, Some(0), Some(1), Some(2), Some(3)] {
        for kind in (0..7).cycle().take(35) {
            let mut raw = encode(&5_u32);
            raw.extend(encode(&0x0203_u32));
            raw.extend(encode(&1_u32));
            raw.extend(sampled::<StateOwner4<'_>>(&mut numbers));
            raw.extend(openhow(&mut numbers, mode));
            raw.extend(claim(&mut numbers, kind));
            let args: OpenArgs<'_> = read(&mut oracle, "OPEN4args", raw);
            assert_eq!(
                (args.seqid, args.share_access, args.share_deny),
                (5, 0x203, 1)
            );
            let how = args.openhow.map(|how| match how {
                Createhow4::Unchecked(_) => 0,
                Createhow4::Guarded(_) => 1,
                Createhow4::Exclusive(_) => 2,
                Createhow4::Exclusive41(..) => 3,
            });
            assert_eq!((how, kind_of(&args.claim)), (mode, kind));
        }
    }
}

#[test]
fn arguments_of_lock() {
    let Some(mut oracle) = Oracle::start() else {
        return;
    };
    let mut numbers = Numbers(12);
    for seed in 0..100_u64 {
        let known = seed % 2 == 0;
        let locktype = sampled::<LockType4>(&mut numbers);
        let mut raw = locktype.clone();
        raw.extend(encode(&(seed % 3 == 0)));
        raw.extend(encode(&seed));
        raw.extend(encode(&u64::MAX));
        raw.extend(encode(&!known));
        raw.extend(if known {
            sampled::<ExistLockOwner4>(&mut numbers)
        } else {
            sampled::<OpenToLockOwner4<'_>>(&mut numbers)
        });
        let args: LockArgs<'_> = read(&mut oracle, "LOCK4args", raw);
        assert_eq!(encode(&args.locktype), locktype);
        assert_eq!(
            (args.reclaim, args.offset, args.length),
            (seed % 3 == 0, seed, u64::MAX)
        );
        assert_eq!(matches!(args.locker, Locker4::Known(_)), known);
    }
}

#[test]
fn arguments_of_test_stateid() {
    let Some(mut oracle) = Oracle::start() else {
        return;
    };
    let mut numbers = Numbers(13);
    for len in [0, 1, 2, 50] {
        let mut raw = encode(&len);
        for _ in 0..len {
            raw.extend(sampled::<Stateid4>(&mut numbers));
        }
        let _: TestStateidArgs<'_> = read(&mut oracle, "TEST_STATEID4args", raw);
    }
}
