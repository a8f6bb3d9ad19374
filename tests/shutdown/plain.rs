//! Ordinary changes of a directory and of a file, as requests, and what may have become of them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nfsd::nfs3::Proc3;
use nfsd::nfs3::args::{
    Commit3Args, Link3Args, Remove3Args, Rename3Args, Setattr3Args, Symlink3Args, Symlinkdata3,
};
use nfsd::nfs3::types::{NfsFh3, Nfspath3, Sattr3, StableHow};
use nfsd::nfs4::Op4;
use nfsd::nfs4::attr::bit;
use nfsd::nfs4::op::commit::CommitArgs;
use nfsd::nfs4::op::create::Createtype4;
use nfsd::nfs4::op::rename::RenameArgs;
use nfsd::nfs4::op::write::{StableHow4, WriteArgs};
use nfsd::nfs4::types::{Component4, Data4, Linktext4, Stateid4};
use tests::client::nfs3::{at as place, nfs3};
use tests::client::nfs4::{Ops, Raw, fattr};
use tests::client::{Client, encode};

use super::{At, FILES, Request, TEXT};

/// More than comes with the record's begin.
static DATA: [u8; 100_000] = [b'x'; 100_000];
const SHORT: u64 = 2;
const TARGET: &[u8] = b"f1";

impl Request {
    /// Of NFSv4: changes `f0`, or makes a name `fresh`.
    pub(super) fn plain_ops(self, at: &At) -> Ops {
        let (dir, file) = (Ops::new().putfh(&at.dir), Ops::new().putfh(&at.file));
        match self {
            Request::Remove => dir.op(Op4::Remove, &Component4(b"f0")),
            Request::Rename => {
                let args = RenameArgs {
                    oldname: Component4(b"f0"),
                    newname: Component4(b"f1"),
                };
                dir.bare(Op4::Savefh).op(Op4::Rename, &args)
            }
            Request::Link => {
                let linked = file.bare(Op4::Savefh).putfh(&at.dir);
                linked.op(Op4::Link, &Component4(b"fresh"))
            }
            Request::Symlink => {
                let mut args = encode(&Createtype4::Symlink(Linktext4(TARGET)));
                args.extend(encode(&Component4(b"fresh")));
                args.extend(fattr(&[]));
                dir.op(Op4::Create, &Raw(&args))
            }
            Request::Write => {
                let args = WriteArgs {
                    stateid: Stateid4::ANONYMOUS,
                    offset: 0,
                    stable: StableHow4::FileSync,
                    data: Data4(&DATA),
                };
                file.op(Op4::Write, &args)
            }
            Request::Commit => {
                let args = CommitArgs {
                    offset: 0,
                    count: 0,
                };
                file.op(Op4::Commit, &args)
            }
            _ => {
                let mut args = encode(&Stateid4::ANONYMOUS);
                args.extend(fattr(&[(bit::SIZE, encode(&SHORT))]));
                file.op(Op4::Setattr, &Raw(&args))
            }
        }
    }

    /// The same of NFSv3.
    pub(super) fn plain_start(self, client: &mut Client, at: &At) -> u32 {
        let file = NfsFh3(&at.file);
        let name = |name| place(&at.dir, name);
        match self {
            Request::Remove => {
                let object = name(b"f0");
                client.start(nfs3(Proc3::Remove), &Remove3Args { object })
            }
            Request::Rename => {
                let (from, to) = (name(b"f0"), name(b"f1"));
                client.start(nfs3(Proc3::Rename), &Rename3Args { from, to })
            }
            Request::Link => {
                let link = name(b"fresh");
                client.start(nfs3(Proc3::Link), &Link3Args { file, link })
            }
            Request::Symlink => {
                let args = Symlink3Args {
                    where_: name(b"fresh"),
                    symlink: Symlinkdata3 {
                        symlink_attributes: Sattr3::default(),
                        symlink_data: Nfspath3(TARGET),
                    },
                };
                client.start(nfs3(Proc3::Symlink), &args)
            }
            Request::Write => client.start_write(&at.file, 0, &DATA, StableHow::FileSync),
            Request::Commit => {
                let (offset, count) = (0, 0);
                let args = Commit3Args {
                    file,
                    offset,
                    count,
                };
                client.start(nfs3(Proc3::Commit), &args)
            }
            _ => {
                let args = Setattr3Args {
                    object: file,
                    new_attributes: Sattr3 {
                        size: Some(SHORT),
                        ..Sattr3::default()
                    },
                    guard: None,
                };
                client.start(nfs3(Proc3::Setattr), &args)
            }
        }
    }

    /// Whether something is still done after the answer: what was removed is closed.
    pub(super) fn goes_on(self) -> bool {
        matches!(self, Request::Remove | Request::Rename)
    }

    /// The directory is as it was or as it shall be; as it shall be if the client was told so.
    #[track_caller]
    pub(super) fn whole(self, dir: &Path, answered: bool, case: &str) {
        let names = fs::read_dir(dir).expect("the directory").count();
        let first = fs::read(dir.join("f0"));
        let done = match self {
            Request::Remove | Request::Rename => {
                let second = fs::read(dir.join("f1")).expect("a file");
                assert_eq!(second, TEXT, "{case}");
                assert_eq!(names, FILES - usize::from(first.is_err()), "{case}");
                first.is_err()
            }
            Request::Link => {
                let links = fs::metadata(dir.join("f0")).expect("a file").nlink();
                assert_eq!(names, FILES + links as usize - 1, "{case}");
                links == 2
            }
            Request::Symlink => {
                let target = fs::read_link(dir.join("fresh"));
                assert_eq!(names, FILES + usize::from(target.is_ok()), "{case}");
                target.is_ok_and(|target| target == Path::new("f1"))
            }
            Request::Write | Request::Truncate => {
                let new = match self {
                    Request::Write => &DATA[..],
                    _ => &TEXT[..SHORT as usize],
                };
                let now = first.expect("a file");
                assert!(now == TEXT || now == new, "{case}: {} bytes", now.len());
                now == new
            }
            Request::Commit => first.expect("a file") == TEXT,
            _ => return,
        };
        assert!(done || !answered, "{case}: answered and not done");
    }
}
