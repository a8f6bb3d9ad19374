//! WRITE: data into a file (RFC 1813 3.3.7).

use vfs::Stable;

use super::{failed, unchanged};
use crate::conflict::{Touch, touch3};
use crate::cx::{Cx, Opened, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::args::Write3Args;
use crate::nfs3::attr::wcc_data;
use crate::nfs3::res::{Write3Res, Write3ResOk};
use crate::nfs3::status::Nfsstat3;
use crate::nfs3::types::{StableHow, WccData};
use crate::xdr::XdrError;

pub async fn run(cx: &Cx, args: Write3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    let (written, file_wcc) = match cx.open(args.file.0).await {
        Ok(file) => write(cx, &args, &file).await,
        Err(status) => (Err(status), WccData::default()),
    };
    let res: Write3Res = match written {
        Ok((count, committed)) => Write3Res::Ok(Write3ResOk {
            file_wcc,
            count,
            committed,
            verf: cx.server.vfs.write_verifier(),
        }),
        Err(status) => failed(Proc3::Write, status, file_wcc),
    };
    reply.put(&res)
}

async fn write(
    cx: &Cx,
    args: &Write3Args<'_>,
    file: &Opened,
) -> (Result<(u32, StableHow), Nfsstat3>, WccData) {
    let data = match file.writable().and_then(|()| data(args, cx.server.io_max)) {
        Ok(data) => data,
        Err(status) => return (Err(status), unchanged(cx, file).await),
    };
    let _passing = match touch3(cx, file, Touch::Write).await {
        Ok(passing) => passing,
        Err(status) => return (Err(status), unchanged(cx, file).await),
    };
    let is_async = file.options.is_async();
    let stable = if is_async {
        StableHow::Unstable
    } else {
        args.stable
    };
    let (vfs, data) = (&cx.server.vfs, cx.slice_of(data));
    let changed = vfs
        .write(&file.cred, &file.file, args.offset, data, as_vfs(stable))
        .await;
    let written = changed.result.map_err(Nfsstat3::from).map(|written| {
        // `async` exports say what was asked for is done (exports(5)).
        let committed = if is_async {
            args.stable
        } else {
            as_wire(written.committed)
        };
        (written.count, committed)
    });
    (written, wcc_data(&file.file, &changed.wcc))
}

/// The bytes to write: `count` of them, but not more than a server offers to take at once.
///
/// # Errors
/// `INVAL` when there are fewer than `count`.
fn data<'a>(args: &Write3Args<'a>, io_max: u32) -> Result<&'a [u8], Nfsstat3> {
    let data = args.data.0.get(..args.count as usize);
    let data = data.ok_or(Nfsstat3::Inval)?;
    Ok(data.get(..io_max as usize).unwrap_or(data))
}

const fn as_vfs(stable: StableHow) -> Stable {
    match stable {
        StableHow::Unstable => Stable::Unstable,
        StableHow::DataSync => Stable::DataSync,
        StableHow::FileSync => Stable::FileSync,
    }
}

const fn as_wire(stable: Stable) -> StableHow {
    match stable {
        Stable::Unstable => StableHow::Unstable,
        Stable::DataSync => StableHow::DataSync,
        Stable::FileSync => StableHow::FileSync,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nfs3::types::{Data3, NfsFh3};

    #[test]
    fn count_and_data_that_differ() {
        let args = |count, len: usize| Write3Args {
            file: NfsFh3(b""),
            offset: 0,
            count,
            stable: StableHow::Unstable,
            data: Data3(&b"0123456789"[..len]),
        };
        assert_eq!(data(&args(10, 10), 100), Ok(&b"0123456789"[..]));
        assert_eq!(data(&args(4, 10), 100), Ok(&b"0123"[..]));
        assert_eq!(data(&args(0, 10), 100), Ok(&b""[..]));
        assert_eq!(data(&args(10, 9), 100), Err(Nfsstat3::Inval));
        assert_eq!(data(&args(u32::MAX, 10), 100), Err(Nfsstat3::Inval));
        assert_eq!(data(&args(10, 10), 3), Ok(&b"012"[..]));
    }

    #[test]
    fn stability_goes_both_ways() {
        for stable in StableHow::ALL {
            assert_eq!(as_wire(as_vfs(*stable)), *stable);
        }
    }
}
