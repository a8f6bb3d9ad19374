//! SETXATTR: sets an extended attribute (RFC 8276 8.4.2).

use vfs::Replace;

use super::getxattr::Xattrvalue4;
use crate::cx::Reply;
use crate::nfs4::allow;
use crate::nfs4::compound::Compound;
use crate::nfs4::reply::change_info;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Component4;
use crate::xdr::{xdr_enum, xdr_struct};

xdr_enum! {
    /// `setxattr_option4`.
    pub enum SetxattrOption4 {
        /// Whether it is there or not.
        Either = 0 "SETXATTR4_EITHER",
        /// Only if it is not there.
        Create = 1 "SETXATTR4_CREATE",
        /// Only if it is there.
        Replace = 2 "SETXATTR4_REPLACE",
    }
}

xdr_struct! {
    /// `SETXATTR4args`.
    pub struct SetxattrArgs<'a> {
        /// Whether it must be there.
        pub option: SetxattrOption4,
        /// Its name, without `user.`.
        pub key: Component4<'a>,
        /// Its value.
        pub value: Xattrvalue4<'a>,
    }
}

const fn how(option: SetxattrOption4) -> Replace {
    match option {
        SetxattrOption4::Either => Replace::Either,
        SetxattrOption4::Create => Replace::Create,
        SetxattrOption4::Replace => Replace::Replace,
    }
}

fn status(errno: vfs::Errno) -> Nfsstat4 {
    match errno {
        // Beyond what the kernel or the file system takes.
        vfs::Errno::E2BIG | vfs::Errno::ERANGE => Nfsstat4::Xattr2big,
        other => other.into(),
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: SetxattrArgs<'_>,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let opened = c.with_xattrs()?;
    let _passing = allow::changing(c, opened).await?;
    if args.value.0.len() > vfs::XATTR_VALUE_MAX {
        return Err(Nfsstat4::Xattr2big);
    }
    let vfs = &c.cx.server.vfs;
    let changed = vfs
        .setxattr(
            &opened.cred,
            &opened.file,
            args.key.0,
            args.value.0.to_vec(),
            how(args.option),
        )
        .await;
    changed.result.map_err(status)?;
    c.cx.settle(opened, &[&opened.file]).await?;
    out.put(&change_info(&changed.wcc))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setxattr_errors() {
        use vfs::Errno;
        assert_eq!(status(Errno::E2BIG), Nfsstat4::Xattr2big);
        assert_eq!(status(Errno::ENODATA), Nfsstat4::Noxattr);
        assert_eq!(status(Errno::EEXIST), Nfsstat4::Exist);
        assert_eq!(status(Errno::EOPNOTSUPP), Nfsstat4::Notsupp);
        assert_eq!(status(Errno::ENOSPC), Nfsstat4::Nospc);
        assert_eq!(how(SetxattrOption4::Create), Replace::Create);
    }
}
