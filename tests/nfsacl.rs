//! NFSACL: every procedure with the raw client, what becomes of ACLs when something fails, and the kernel client.

#[path = "nfsacl/kernel.rs"]
mod kernel;
#[path = "nfsacl/lifetime.rs"]
mod lifetime;
#[path = "nfsacl/local.rs"]
mod local;
#[path = "nfsacl/procedures.rs"]
mod procedures;
#[path = "nfsacl/refusals.rs"]
pub(crate) mod refusals;
#[path = "nfsacl/vanish.rs"]
mod vanish;

use std::path::Path;

/// An ACL of a file on the server's side in short text form; empty if it has none.
#[track_caller]
fn stored(path: &Path, name: &str) -> String {
    let mut value = vec![0; 65_536];
    match rustix::fs::getxattr(path, name, &mut value) {
        Ok(len) => format!("{:?}", acl::xattr::decode(&value[..len]).expect("an ACL")),
        Err(rustix::io::Errno::NODATA) => String::new(),
        Err(e) => panic!("{}: {e}", path.display()),
    }
}

/// Access and default ACL of a file on the server's side.
#[track_caller]
fn both(path: &Path) -> (String, String) {
    (
        stored(path, acl::xattr::ACCESS),
        stored(path, acl::xattr::DEFAULT),
    )
}

/// A local process sets an ACL, given in short text form.
#[track_caller]
fn set_local(path: &Path, name: &str, text: &str) {
    let list = tests::client::nfsacl::from_text(text, 0);
    let value = match list.change(true) {
        Ok(vfs::AclChange::Set(acl)) => acl::xattr::encode(&acl),
        other => panic!("{text}: {other:?}"),
    };
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, name, &value, flags).expect("setxattr");
}
