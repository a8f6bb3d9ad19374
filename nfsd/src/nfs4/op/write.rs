//! WRITE: data into a file (RFC 8881 18.32, RFC 7530 16.36).

use vfs::Stable;

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::stateful::io_grant;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Data4, Offset4, Stateid4};
use crate::xdr::{xdr_enum, xdr_struct};

xdr_enum! {
    /// `stable_how4`.
    pub enum StableHow4 {
        /// In memory is enough.
        Unstable = 0 "UNSTABLE4",
        /// The data, and what is needed to find it.
        DataSync = 1 "DATA_SYNC4",
        /// All of it.
        FileSync = 2 "FILE_SYNC4",
    }
}

xdr_struct! {
    /// `WRITE4args`.
    pub struct WriteArgs<'a> {
        /// What allows it.
        pub stateid: Stateid4,
        /// Where to.
        pub offset: Offset4,
        /// How stable it must be before the answer.
        pub stable: StableHow4,
        /// What.
        pub data: Data4<'a>,
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: WriteArgs<'_>,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let opened = c.regular()?;
    let end = args.offset.checked_add(args.data.0.len() as u64);
    end.ok_or(Nfsstat4::Inval)?;
    let grant = io_grant(c, opened, &args.stateid, true)?;
    let (decided, _passing) = (grant.decided, grant.passing);
    opened.writable()?;
    let is_async = opened.options.is_async();
    let stable = if is_async {
        Stable::Unstable
    } else {
        as_vfs(args.stable)
    };
    let (vfs, io_max) = (&c.cx.server.vfs, c.cx.server.io_max as usize);
    let data = args.data.0.get(..io_max).unwrap_or(args.data.0);
    let data = c.cx.slice_of(data);
    let changed = if decided {
        vfs.write_open(&opened.cred, &opened.file, args.offset, data, stable)
            .await
    } else {
        vfs.write(&opened.cred, &opened.file, args.offset, data, stable)
            .await
    };
    let written = changed.result?;
    // `async` exports say what was asked for is done (exports(5)).
    let committed = if is_async {
        args.stable
    } else {
        as_wire(written.committed)
    };
    out.put(&written.count)?;
    out.put(&committed)?;
    out.put(&vfs.write_verifier())?;
    Ok(())
}

const fn as_vfs(stable: StableHow4) -> Stable {
    match stable {
        StableHow4::Unstable => Stable::Unstable,
        StableHow4::DataSync => Stable::DataSync,
        StableHow4::FileSync => Stable::FileSync,
    }
}

const fn as_wire(stable: Stable) -> StableHow4 {
    match stable {
        Stable::Unstable => StableHow4::Unstable,
        Stable::DataSync => StableHow4::DataSync,
        Stable::FileSync => StableHow4::FileSync,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdr::{Dec, Enc};

    #[test]
    fn write_stability_goes_both_ways() {
        for stable in StableHow4::ALL {
            assert_eq!(as_wire(as_vfs(*stable)), *stable);
        }
    }

    #[test]
    fn write_arguments() {
        let args = WriteArgs {
            stateid: Stateid4::BYPASS,
            offset: 5,
            stable: StableHow4::DataSync,
            data: Data4(b"abcde"),
        };
        let mut wire = Vec::new();
        Enc::new(&mut wire, 100).put(&args).expect("fits");
        assert_eq!(Dec::new(&wire).get(), Ok(args));
        wire[27] = 3;
        assert!(Dec::new(&wire).get::<WriteArgs<'_>>().is_err());
    }
}
