//! Permission decisions held to the kernel's: random modes, owners, groups and ACLs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::sync::Arc;

use crate::scratch::{Tree, n, trees};
use acl::posix::{Acl, Entry, Perm, Tag};
use rustix::fs::{Access, AtFlags, CWD, XattrFlags};
use vfs::uring::blocking;
use vfs::uring::counters::Call;
use vfs::{Cred, Errno, File, Rights, exec};

/// A fixed sequence: the same cases in every run.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn perm(&mut self) -> Perm {
        Perm::from_low_bits(self.roll(8) as u32)
    }

    /// A user or a group, one that ACLs name, or not.
    pub fn id(&mut self) -> u32 {
        1000 + self.roll(4) as u32
    }

    pub fn acl(&mut self) -> Acl {
        let mut entries = Vec::new();
        for tag in [Tag::UserObj, Tag::GroupObj, Tag::Mask, Tag::Other] {
            entries.push(Entry {
                tag,
                perm: self.perm(),
            });
        }
        for id in 1000..1003 {
            if self.roll(2) == 0 {
                entries.push(Entry {
                    tag: Tag::User(id),
                    perm: self.perm(),
                });
            }
            if self.roll(2) == 0 {
                entries.push(Entry {
                    tag: Tag::Group(id),
                    perm: self.perm(),
                });
            }
        }
        Acl::sorted(entries).expect("a valid ACL")
    }

    pub fn cred(&mut self) -> Cred {
        let uid = [0, 1000, 1001, 1002][self.roll(4) as usize];
        let groups: Vec<u32> = (1000..1004).filter(|_| self.roll(3) == 0).collect();
        Cred::new(uid, 1000 + self.roll(4) as u32, &groups)
    }
}

/// What `access(2)` tells a thread with this identity.
async fn kernel(cred: &Cred, path: &std::path::Path) -> Rights {
    let path = path.to_owned();
    let ask = blocking::run(cred, Call::Statfs, move || {
        let may = |how| match rustix::fs::accessat(CWD, &path, how, AtFlags::EACCESS) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::ACCESS) => Ok(false),
            Err(e) => Err(Errno::from(e)),
        };
        Ok(Rights {
            read: may(Access::READ_OK)?,
            write: may(Access::WRITE_OK)?,
            execute: may(Access::EXEC_OK)?,
        })
    });
    ask.await.expect("access(2)")
}

/// READ and WRITE follow, with NFS's two exceptions: the owner, and who may execute.
async fn data_follows(t: &Tree, cred: &Cred, file: &Arc<File>, rights: Rights, owner: u32) {
    let mine = cred.uid() == owner;
    let read = t.get(cred, file, 0, 4).await;
    assert_eq!(
        read.is_ok(),
        rights.read || rights.execute || mine,
        "{rights:?} {cred:?}"
    );
    let wrote = t.put(cred, file, 0, b"text").await.result;
    assert_eq!(wrote.is_ok(), rights.write || mine, "{rights:?} {cred:?}");
    let denied = [read.err(), wrote.err()].into_iter().flatten();
    denied.for_each(|e| assert_eq!(e, Errno::EACCES));
}

#[test]
fn decisions_are_the_kernels() {
    trees(|t| async move {
        let root = Cred::root();
        let (file, _) = (t.make(&root, "f").await, ());
        fs::create_dir(t.path.join("d")).expect("mkdir");
        fs::write(t.path.join("d/in"), b"x").expect("write");
        let (dir, _) = t.find("d").await.expect("find");
        let mut dice = Dice(42);
        for case in 0..400 {
            let (name, held) = [("f", &file), ("d", &dir)][case % 2];
            let path = t.path.join(name);
            let owner = 1000 + dice.roll(3) as u32;
            chown(&path, Some(owner), Some(1000 + dice.roll(3) as u32)).expect("chown");
            let _ = rustix::fs::removexattr(&path, "system.posix_acl_access");
            let mode = dice.roll(0o1000) as u32;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
            if dice.roll(2) == 0 {
                let value = acl::xattr::encode(&dice.acl());
                let name = "system.posix_acl_access";
                rustix::fs::setxattr(&path, name, &value, XattrFlags::empty()).expect("setxattr");
            }
            if case % 10 == 0 {
                // Long enough for the ACL to be remembered.
                exec::sleep(std::time::Duration::from_millis(25)).await;
            }
            for _ in 0..6 {
                let cred = dice.cred();
                let want = kernel(&cred, &path).await;
                let (got, attr) = t.vfs.access(&cred, held).await.expect("access");
                assert_eq!(got, want, "case {case}: {cred:?} {attr:?}");
                if name == "f" {
                    data_follows(&t, &cred, held, want, owner).await;
                    continue;
                }
                let list = t
                    .vfs
                    .readdir(&cred, held, 0, [0; 8], 4096, true)
                    .await
                    .result;
                assert_eq!(list.is_ok(), want.read, "case {case}: {cred:?} {attr:?}");
                let nodes = list.map(|page| page.entries.iter().any(|e| e.node.is_some()));
                assert!(
                    nodes.is_err() || nodes == Ok(want.execute),
                    "attributes need search"
                );
                let found = t.vfs.lookup(&cred, held, &n("in")).await.result;
                assert_eq!(
                    found.is_ok(),
                    want.execute,
                    "case {case}: {cred:?} {attr:?}"
                );
            }
        }
    });
}
