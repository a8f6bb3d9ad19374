//! CREATE: anything but a regular file (RFC 8881 18.4, RFC 7530 16.4).

use vfs::{Created, FileKind, NewAcls, NodeKind, SetAttr};

use crate::cx::{Opened, Reply};
use crate::nfs3::made::Settle;
use crate::nfs4::attr;
use crate::nfs4::compound::Compound;
use crate::nfs4::reply::{beside, change_info, name};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Component4, Fattr4, Linktext4, NfsFtype4};
use crate::xdr::{Dec, Decode, Enc, Encode, Result as XdrResult};

/// `createtype4`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "RFC 8881 18.4 words")]
pub enum Createtype4<'a> {
    Symlink(Linktext4<'a>),
    Block(u32, u32),
    Char(u32, u32),
    Socket,
    Fifo,
    Directory,
    /// Any other: `BADTYPE`.
    Other(u32),
}

impl Createtype4<'_> {
    /// The kind of file, if CREATE makes such.
    fn kind(&self) -> Option<FileKind> {
        Some(match self {
            Self::Symlink(_) => FileKind::Symlink,
            Self::Block(..) => FileKind::Block,
            Self::Char(..) => FileKind::Char,
            Self::Socket => FileKind::Socket,
            Self::Fifo => FileKind::Fifo,
            Self::Directory => FileKind::Directory,
            Self::Other(_) => return None,
        })
    }
}

impl<'a> Decode<'a> for Createtype4<'a> {
    fn decode(dec: &mut Dec<'a>) -> XdrResult<Self> {
        let kind = dec.u32()?;
        Ok(match NfsFtype4::from_wire(kind) {
            Some(NfsFtype4::Lnk) => Self::Symlink(dec.get()?),
            Some(NfsFtype4::Blk) => Self::Block(dec.u32()?, dec.u32()?),
            Some(NfsFtype4::Chr) => Self::Char(dec.u32()?, dec.u32()?),
            Some(NfsFtype4::Sock) => Self::Socket,
            Some(NfsFtype4::Fifo) => Self::Fifo,
            Some(NfsFtype4::Dir) => Self::Directory,
            _ => Self::Other(kind),
        })
    }
}

impl Encode for Createtype4<'_> {
    fn encode(&self, enc: &mut Enc<'_>) -> XdrResult<()> {
        let numbers = |enc: &mut Enc<'_>, kind: NfsFtype4, major, minor| {
            enc.put(&kind)?;
            enc.u32(major)?;
            enc.u32(minor)
        };
        match self {
            Self::Symlink(target) => enc.put(&NfsFtype4::Lnk).and_then(|()| enc.put(target)),
            Self::Block(major, minor) => numbers(enc, NfsFtype4::Blk, *major, *minor),
            Self::Char(major, minor) => numbers(enc, NfsFtype4::Chr, *major, *minor),
            Self::Socket => enc.put(&NfsFtype4::Sock),
            Self::Fifo => enc.put(&NfsFtype4::Fifo),
            Self::Directory => enc.put(&NfsFtype4::Dir),
            Self::Other(kind) => enc.u32(*kind),
        }
    }
}

#[cfg(any(test, feature = "samples"))]
impl<'a> crate::xdr::Sample<'a> for Createtype4<'a> {
    fn sample(tape: &mut crate::xdr::Tape<'a>) -> Self {
        use crate::xdr::Sample as S;
        match tape.below(7) {
            0 => Self::Symlink(S::sample(tape)),
            1 => Self::Block(S::sample(tape), S::sample(tape)),
            2 => Self::Char(S::sample(tape), S::sample(tape)),
            3 => Self::Socket,
            4 => Self::Fifo,
            5 => Self::Directory,
            _ => Self::Other(NfsFtype4::Reg.wire()),
        }
    }
}

crate::xdr::xdr_struct! {
    /// `CREATE4args`.
    pub struct CreateArgs<'a> {
        /// What to make.
        pub objtype: Createtype4<'a>,
        /// Its name.
        pub objname: Component4<'a>,
        /// Its attributes.
        pub createattrs: Fattr4<'a>,
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: CreateArgs<'_>,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let dir = c.dir()?;
    let name = name(args.objname)?;
    dir.writable()?;
    let kind = args.objtype.kind().ok_or(Nfsstat4::Badtype)?;
    let (setting, acls) = attr::acl::initial(c, dir, &args.createattrs, kind).await?;
    let way = match acls {
        None => Settle::of_dir(&setting.set),
        Some(_) => Settle::Both,
    };
    let created = match &acls {
        None => make(c, dir, &name, &args.objtype, &setting.set).await?,
        Some(acls) => {
            let with = make_with(c, dir, &name, &args.objtype, &setting.set, acls);
            Box::pin(with).await?
        }
    };
    let (file, _) = match acls {
        None => created.result?,
        Some(_) => created.result.map_err(attr::acl::refused)?,
    };
    way.made(c.cx, dir, &file).await?;
    out.put(&change_info(&created.dir))?;
    out.put(&setting.mask)?;
    let place = beside(dir, file);
    c.set_current(place);
    Ok(())
}

async fn make(
    c: &Compound<'_>,
    dir: &Opened,
    name: &vfs::Name,
    what: &Createtype4<'_>,
    set: &SetAttr,
) -> Result<Created, Nfsstat4> {
    let (vfs, cred) = (&c.cx.server.vfs, &dir.cred);
    Ok(match what {
        Createtype4::Directory => vfs.mkdir(cred, &dir.file, name, set).await,
        Createtype4::Symlink(target) if target.0.is_empty() => return Err(Nfsstat4::Inval),
        Createtype4::Symlink(target) => vfs.symlink(cred, &dir.file, name, target.0, set).await,
        _ => vfs.mknod(cred, &dir.file, name, node(what)?, set).await,
    })
}

/// As [`make`], with ACLs, which symbolic links do not have.
async fn make_with(
    c: &Compound<'_>,
    dir: &Opened,
    name: &vfs::Name,
    what: &Createtype4<'_>,
    set: &SetAttr,
    acls: &NewAcls,
) -> Result<Created, Nfsstat4> {
    let (vfs, cred, dir) = (&c.cx.server.vfs, &dir.cred, &dir.file);
    Ok(match what {
        Createtype4::Directory => vfs.mkdir_with_acls(cred, dir, name, set, acls).await,
        _ => {
            let made = vfs.mknod_with_acls(cred, dir, name, node(what)?, set, acls);
            made.await
        }
    })
}

/// # Errors
/// `BADTYPE` for what is no special file; `INVAL` for device numbers Linux does not have.
fn node(what: &Createtype4<'_>) -> Result<NodeKind, Nfsstat4> {
    Ok(match what {
        Createtype4::Fifo => NodeKind::Fifo,
        Createtype4::Socket => NodeKind::Socket,
        Createtype4::Char(major, minor) => {
            let (major, minor) = numbers(*major, *minor)?;
            NodeKind::Char(major, minor)
        }
        Createtype4::Block(major, minor) => {
            let (major, minor) = numbers(*major, *minor)?;
            NodeKind::Block(major, minor)
        }
        _ => return Err(Nfsstat4::Badtype),
    })
}

/// # Errors
/// `INVAL` for device numbers Linux does not have.
fn numbers(major: u32, minor: u32) -> Result<(u32, u32), Nfsstat4> {
    Ok(vfs::device_numbers(major, minor)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_come_back() {
        use Createtype4 as T;
        let all = [
            T::Symlink(Linktext4(b"to")),
            T::Block(8, 1),
            T::Char(1, 3),
            T::Socket,
            T::Fifo,
            T::Directory,
            T::Other(1),
            T::Other(77),
        ];
        for what in all {
            let mut wire = Vec::new();
            Enc::new(&mut wire, 64).put(&what).expect("fits");
            assert_eq!(Dec::new(&wire).get::<T<'_>>(), Ok(what));
        }
        assert_eq!(numbers(1 << 12, 0), Err(Nfsstat4::Inval));
        assert_eq!(numbers(0, 1 << 20), Err(Nfsstat4::Inval));
        assert_eq!(numbers(0xfff, 0xf_ffff), Ok((0xfff, 0xf_ffff)));
    }
}
