//! Fuzzes the arguments of NFS version 4 operations. The first byte is an operation's number, for the law of its
//! arguments; or 0 for a whole COMPOUND, as the server's own table reads it.
#![no_main]

mod law;
#[path = "law/several.rs"]
mod several;

use libfuzzer_sys::fuzz_target;
use nfsd::nfs4::Op4;
use nfsd::nfs4::op::{
    backchannel_ctl::*, bind_conn_to_session::*, close::*, commit::*, create::*, create_session::*,
    exchange_id::*, lockt::*, locku::*, open_confirm::*, open_downgrade::*, read::*, readdir::*,
    rename::*, row, secinfo_no_name::*, sequence::*, set_ssv::*, setattr::*, setclientid::*,
    setclientid_confirm::*, skip_args, write::*,
};
use nfsd::nfs4::types::*;
use nfsd::xdr::Dec;

/// Operation after operation until one cannot be read.
fn compound(raw: &[u8]) {
    let mut dec = Dec::new(raw);
    let Ok(_) = dec.get::<Tag4<'_>>() else { return };
    while let Ok(Some(op)) = dec.u32().map(Op4::from_wire) {
        let before = dec.rest();
        let Ok(served) = skip_args(op, &mut dec) else {
            return;
        };
        assert_eq!(served, row(op).is_some(), "{op}");
        if !served {
            return;
        }
        let used = before.len() - dec.remaining();
        // They need every byte they take, and no other.
        let mut alone = Dec::new(&before[..used]);
        assert_eq!(skip_args(op, &mut alone), Ok(true));
        assert_eq!(alone.finish(), Ok(()));
        if used > 0 {
            assert!(
                skip_args(op, &mut Dec::new(&before[..used - 1])).is_err(),
                "{op}"
            );
        }
    }
}

fuzz_target!(|data: &[u8]| {
    if let Some((0, raw)) = data.split_first().map(|(n, raw)| (*n, raw)) {
        return compound(raw);
    }
    choose!(data;
        3 => u32,
        4 => CloseArgs,
        5 => CommitArgs,
        11 => Component4<'_>,
        13 => LocktArgs<'_>,
        14 => LockuArgs,
        20 => OpenConfirmArgs,
        21 => OpenDowngradeArgs,
        22 => NfsFh4<'_>,
        25 => ReadArgs,
        29 => RenameArgs<'_>,
        35 => SetclientidArgs<'_>,
        36 => SetclientidConfirmArgs,
        38 => WriteArgs<'_>,
        40 => BackchannelCtlArgs<'_>,
        41 => BindConnToSessionArgs,
        43 => CreateSessionArgs<'_>,
        52 => SecinfoStyle4,
        53 => SequenceArgs,
        54 => SetSsvArgs<'_>,
        // Parts of many.
        200 => Stateid4,
        201 => ChangeInfo4,
        202 => StateOwner4<'_>,
        203 => Tag4<'_>,
        204 => NfsFtype4,;
        6 => CreateArgs<'_>,
        9 => Bitmap4,
        17 => Fattr4<'_>,
        26 => ReaddirArgs,
        34 => SetattrArgs<'_>,
        42 => ExchangeIdArgs<'_>,
    );
});
