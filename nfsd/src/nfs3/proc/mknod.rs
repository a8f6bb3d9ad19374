//! MKNOD: a device, socket or named pipe (RFC 1813 3.3.11).

use vfs::{Created, NodeKind};

use super::name;
use crate::cx::{Cx, Opened, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::args::Mknod3Args;
use crate::nfs3::attr::initial_attr;
use crate::nfs3::made::{self, Settle};
use crate::nfs3::status::Nfsstat3;
use crate::nfs3::types::{Mknoddata3, Sattr3, Specdata3};
use crate::xdr::XdrError;

pub async fn run(cx: &Cx, args: Mknod3Args<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    match cx.open(args.where_.dir.0).await {
        Ok(dir) => {
            let made = mknod(cx, &args, &dir).await;
            made::answer(cx, Proc3::Mknod, &dir, made, reply).await
        }
        Err(status) => made::no_dir(Proc3::Mknod, status, reply),
    }
}

async fn mknod(
    cx: &Cx,
    args: &Mknod3Args<'_>,
    dir: &Opened,
) -> Result<(Created, Settle), Nfsstat3> {
    dir.writable()?;
    let name = name(args.where_.name)?;
    let (kind, sattr) = node(&args.what)?;
    let set = initial_attr(&dir.cred, sattr)?;
    let vfs = &cx.server.vfs;
    let created = vfs.mknod(&dir.cred, &dir.file, &name, kind, &set).await;
    // Special files cannot be opened for fsync(2), their directory can.
    Ok((created, Settle::Dir))
}

/// What to make.
///
/// # Errors
/// `BADTYPE` for other types, `INVAL` for device numbers Linux does not have.
fn node(what: &Mknoddata3) -> Result<(NodeKind, &Sattr3), Nfsstat3> {
    Ok(match what {
        Mknoddata3::Fifo(sattr) => (NodeKind::Fifo, sattr),
        Mknoddata3::Sock(sattr) => (NodeKind::Socket, sattr),
        Mknoddata3::Chr(device) => {
            let (major, minor) = numbers(device.spec)?;
            (NodeKind::Char(major, minor), &device.dev_attributes)
        }
        Mknoddata3::Blk(device) => {
            let (major, minor) = numbers(device.spec)?;
            (NodeKind::Block(major, minor), &device.dev_attributes)
        }
        Mknoddata3::Other(_) => return Err(Nfsstat3::Badtype),
    })
}

fn numbers(spec: Specdata3) -> Result<(u32, u32), Nfsstat3> {
    Ok(vfs::device_numbers(spec.specdata1, spec.specdata2)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nfs3::types::Devicedata3;

    fn device(major: u32, minor: u32) -> Devicedata3 {
        Devicedata3 {
            dev_attributes: Sattr3::default(),
            spec: Specdata3 {
                specdata1: major,
                specdata2: minor,
            },
        }
    }

    #[test]
    fn kinds_and_numbers() {
        let kind = |what: Mknoddata3| node(&what).map(|(kind, _)| kind);
        let none = Sattr3::default();
        assert_eq!(kind(Mknoddata3::Fifo(none)), Ok(NodeKind::Fifo));
        assert_eq!(kind(Mknoddata3::Sock(none)), Ok(NodeKind::Socket));
        assert_eq!(kind(Mknoddata3::Other(1)), Err(Nfsstat3::Badtype));
        let (major, minor) = (0xfff, 0xf_ffff);
        let chr = Mknoddata3::Chr(device(major, minor));
        assert_eq!(kind(chr), Ok(NodeKind::Char(major, minor)));
        let blk = Mknoddata3::Blk(device(7, 1));
        assert_eq!(kind(blk), Ok(NodeKind::Block(7, 1)));
        for bad in [device(major + 1, 0), device(0, minor + 1)] {
            assert_eq!(kind(Mknoddata3::Chr(bad)), Err(Nfsstat3::Inval));
            assert_eq!(kind(Mknoddata3::Blk(bad)), Err(Nfsstat3::Inval));
        }
    }
}
