//! Differential tests: every rule of this crate against the answer of the running kernel.
//!
//! They need root and a file system with POSIX ACLs, and say loudly when they could not run. The cases are
//! random from a fixed seed; `ACL_KERNEL_SEED` picks another one.

#[path = "../../tests/src/not_run.rs"]
mod not_run;

use acl::{Acl, Caller, Entry, Kind, Node, Perm, Tag, inherit, mode, permits, permitted, xattr};
use rustix::fs::{
    Access, AtFlags, CWD, FileType, Mode, OFlags, StatVfsMountFlags, XattrFlags, accessat, chmod,
    chown, getxattr, lstat, mkdir, mknodat, open, removexattr, setxattr, statvfs, symlink,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid, geteuid, umask};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

use not_run::not_run;

const NODES: u32 = 400;
const CALLERS: u32 = 120;
const LISTS: u32 = 20_000;
const CHMODS: u32 = 5_000;
const CREATIONS: u32 = 5_000;

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn new() -> Random {
        let seed = std::env::var("ACL_KERNEL_SEED");
        Random(seed.map_or(4, |text| text.parse().expect("ACL_KERNEL_SEED is a number")))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u32) -> u32 {
        (self.next() % u64::from(bound)) as u32
    }

    /// True in one of `n` cases.
    fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    /// Few ids, for users and groups alike, so that they meet; root among them.
    fn id(&mut self) -> u32 {
        [0, 2001, 2002, 2003, 2004, 2005][self.below(6) as usize]
    }

    fn perm(&mut self) -> Perm {
        Perm::from_low_bits(self.below(8))
    }

    fn mode(&mut self) -> u32 {
        self.below(0o1000)
    }

    fn entry(&mut self, tag: Tag) -> Entry {
        let perm = self.perm();
        Entry { tag, perm }
    }

    /// A valid ACL; a fifth have no named entries.
    fn acl(&mut self) -> Acl {
        let mut entries = vec![self.entry(Tag::UserObj)];
        let (users, groups) = if self.one_in(5) {
            (0, 0)
        } else {
            (self.below(4), self.below(4))
        };
        for _ in 0..users {
            let tag = Tag::User(self.id());
            entries.push(self.entry(tag));
        }
        entries.push(self.entry(Tag::GroupObj));
        for _ in 0..groups {
            let tag = Tag::Group(self.id());
            entries.push(self.entry(tag));
        }
        if users + groups > 0 || self.one_in(2) {
            entries.push(self.entry(Tag::Mask));
        }
        entries.push(self.entry(Tag::Other));
        Acl::new(entries).expect("built in order")
    }

    fn maybe_acl(&mut self) -> Option<Acl> {
        (!self.one_in(4)).then(|| self.acl())
    }
}

/// A directory on a file system with ACLs, searchable by all.
struct Scratch {
    directory: TempDir,
    fd: OwnedFd,
}

impl Scratch {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A scratch directory under `parent`, or why it will not do.
    fn under(parent: &Path) -> Result<Scratch, String> {
        let said = |error: &dyn std::fmt::Display| format!("{}: {error}", parent.display());
        let directory = TempDir::new_in(parent).map_err(|error| said(&error))?;
        let path = directory.path();
        if statvfs(path).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::NOEXEC)) {
            return Err(said(&"mounted noexec"));
        }
        let probe = xattr::encode(&mode::to_acl(0o755));
        setxattr(path, xattr::ACCESS, &probe, XattrFlags::empty()).map_err(|error| said(&error))?;
        chmod(path, Mode::from_raw_mode(0o755)).map_err(|error| said(&error))?;
        let flags = OFlags::DIRECTORY | OFlags::RDONLY;
        let fd = open(path, flags, Mode::empty()).map_err(|error| said(&error))?;
        Ok(Scratch { directory, fd })
    }

    fn new() -> Result<Scratch, String> {
        if !geteuid().is_root() {
            return Err("root".to_owned());
        }
        let mut reasons = String::new();
        let built = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        for parent in [std::env::temp_dir(), built, PathBuf::from("/dev/shm")] {
            match Scratch::under(&parent) {
                Ok(scratch) => return Ok(scratch),
                Err(reason) => reasons = format!("{reasons} [{reason}]"),
            }
        }
        Err(format!("a file system with POSIX ACLs:{reasons}"))
    }
}

/// Runs `body` with a scratch directory on a thread of its own, whose credentials end with it.
fn with_kernel(name: &str, body: impl FnOnce(&Scratch, &mut Random) + Send) {
    match Scratch::new() {
        Ok(scratch) => std::thread::scope(|threads| {
            let thread = threads.spawn(|| body(&scratch, &mut Random::new()));
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }),
        Err(lacking) => not_run(&format!("kernel::{name}"), &lacking),
    }
}

fn raw_mode(bits: u32) -> Mode {
    Mode::from_raw_mode(bits)
}

fn mode_of(path: &Path) -> u32 {
    lstat(path).expect("lstat").st_mode
}

/// The ACL the kernel has, decoded by this crate.
fn acl_of(path: &Path, name: &str) -> Option<Acl> {
    let mut buffer = [0u8; 1024];
    match getxattr(path, name, &mut buffer[..]) {
        Ok(len) => Some(xattr::decode(&buffer[..len]).expect("the kernel's own bytes")),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => None,
        Err(error) => panic!("getxattr {name}: {error}"),
    }
}

fn set_acl(path: &Path, name: &str, bytes: &[u8]) -> Result<(), Errno> {
    setxattr(path, name, bytes, XattrFlags::empty())
}

fn make(path: &Path, kind: Kind, bits: u32) {
    match kind {
        Kind::Directory => mkdir(path, raw_mode(bits)),
        Kind::Regular => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
            open(path, flags, raw_mode(bits)).map(drop)
        }
        Kind::Symlink => symlink("target", path),
        Kind::Other => mknodat(CWD, path, FileType::Fifo, raw_mode(bits), 0),
    }
    .unwrap_or_else(|error| panic!("making a {kind:?}: {error}"));
}

fn unmake(path: &Path, kind: Kind) {
    let removed = match kind {
        Kind::Directory => std::fs::remove_dir(path),
        _ => std::fs::remove_file(path),
    };
    removed.expect("remove");
}

struct Subject {
    name: String,
    mode: u32,
    uid: u32,
    gid: u32,
    acl: Option<Acl>,
    kind: Kind,
}

/// A random file made in the kernel and, by the rules of `mode`, here; both must agree on mode and ACL.
fn subject(scratch: &Scratch, random: &mut Random, name: String) -> Subject {
    let kind = match random.below(6) {
        0 | 1 => Kind::Directory,
        2 => Kind::Other,
        _ => Kind::Regular,
    };
    let path = scratch.path(&name);
    make(&path, kind, 0o700);
    let (uid, gid) = (random.id(), random.id());
    chown(&path, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).expect("chown");
    let bits = random.mode() | random.below(8) << 9;
    chmod(&path, raw_mode(bits)).expect("chmod");
    let (mode, acl) = match random.maybe_acl() {
        Some(acl) => {
            set_acl(&path, xattr::ACCESS, &xattr::encode(&acl)).expect("setxattr");
            mode::set_access(bits, acl)
        }
        None => (bits, None),
    };
    assert_eq!(mode_of(&path) & 0o7777, mode, "mode of {name}");
    assert_eq!(acl_of(&path, xattr::ACCESS), acl, "ACL of {name}");
    Subject {
        name,
        mode,
        uid,
        gid,
        acl,
        kind,
    }
}

/// Makes this thread ask as `who`. The real and saved uid stay root so that the next one can be taken on; the kernel
/// drops the capabilities from the effective set meanwhile, and looks at nothing but that and the effective ids.
fn become_caller(who: &Caller<'_>) {
    let root = Uid::ROOT;
    set_thread_res_uid(root, root, root).expect("setresuid to root");
    let groups: Vec<Gid> = who.groups.iter().map(|&gid| Gid::from_raw(gid)).collect();
    set_thread_groups(&groups).expect("setgroups");
    let gid = Gid::from_raw(who.gid);
    set_thread_res_gid(gid, gid, gid).expect("setresgid");
    set_thread_res_uid(root, Uid::from_raw(who.uid), root).expect("setresuid");
}

fn kernel_permits(scratch: &Scratch, name: &str, want: Perm) -> bool {
    let access = Access::from_bits(want.bits()).expect("R_OK, W_OK and X_OK are 4, 2 and 1");
    match accessat(&scratch.fd, name, access, AtFlags::EACCESS) {
        Ok(()) => true,
        Err(Errno::ACCESS) => false,
        Err(error) => panic!("faccessat {name}: {error}"),
    }
}

#[test]
fn access_decisions() {
    with_kernel("access_decisions", |scratch, random| {
        let subjects: Vec<Subject> = (0..NODES)
            .map(|index| subject(scratch, random, format!("node{index}")))
            .collect();
        let (mut granted, mut denied, mut conjunctions) = (0u32, 0u32, 0u32);
        for _ in 0..CALLERS {
            let (uid, gid) = (random.id(), random.id());
            let mut groups: Vec<u32> = (0..random.below(4)).map(|_| random.id()).collect();
            groups.sort_unstable();
            groups.dedup();
            let who = Caller {
                uid,
                gid,
                groups: &groups,
            };
            become_caller(&who);
            for Subject {
                name,
                mode,
                uid,
                gid,
                acl,
                kind,
            } in &subjects
            {
                let acl = acl.as_ref();
                let node = Node {
                    mode: *mode,
                    uid: *uid,
                    gid: *gid,
                    acl,
                    kind: *kind,
                };
                let answers = [0u32, 1, 2, 3, 4, 5, 6, 7].map(|bits| {
                    let want = Perm::from_low_bits(bits);
                    let ours = permits(&node, &who, want);
                    let kernel = kernel_permits(scratch, name, want);
                    assert_eq!(ours, kernel, "{want:?} for {who:?} on {mode:04o} {node:?}");
                    ours
                });
                let access = permitted(*mode, *uid, *gid, acl, &who, *kind);
                let single = (access.read, access.write, access.execute);
                assert_eq!(single, (answers[4], answers[2], answers[1]));
                granted += answers.iter().filter(|&&yes| yes).count() as u32;
                denied += answers.iter().filter(|&&yes| !yes).count() as u32;
                conjunctions += u32::from(answers[4] && answers[2] && !answers[6]);
            }
        }
        become_caller(&Caller {
            uid: 0,
            gid: 0,
            groups: &[],
        });
        assert!(
            granted > 50_000 && denied > 50_000,
            "{granted} granted, {denied} denied"
        );
        assert!(
            conjunctions > 0,
            "no case where r and w are granted but not rw"
        );
    });
}

/// Entries that are often almost valid: a valid list with an edit, encoded, then perhaps a spoiled byte or length.
fn almost_valid(random: &mut Random) -> Vec<u8> {
    let mut bytes = xattr::encode(&random.acl());
    let entries = (bytes.len() - 4) / 8;
    let at = |random: &mut Random| 4 + 8 * random.below(entries as u32) as usize;
    match random.below(8) {
        0 => {
            let (from, to) = (at(random), at(random));
            for byte in 0..8 {
                bytes.swap(from + byte, to + byte);
            }
        }
        1 => {
            let gone = at(random);
            bytes.drain(gone..gone + 8);
        }
        2 => {
            let twice = at(random);
            bytes.extend_from_within(twice..);
        }
        3 => {
            let twice = at(random);
            let copy: Vec<u8> = bytes[twice..twice + 8].to_vec();
            bytes.splice(twice..twice, copy);
        }
        4 => {
            let nobody = at(random);
            bytes[nobody + 4..nobody + 8].fill(0xff);
        }
        5 => {
            let spoiled = random.below(bytes.len() as u32) as usize;
            bytes[spoiled] = random.below(256) as u8;
        }
        6 => bytes.truncate(random.below(bytes.len() as u32) as usize),
        _ => {}
    }
    bytes
}

#[test]
fn xattr_validity() {
    with_kernel("xattr_validity", |scratch, random| {
        let path = scratch.path("file");
        make(&path, Kind::Regular, 0o600);
        let (mut taken, mut refused) = (0u32, 0u32);
        for _ in 0..LISTS {
            let bytes = almost_valid(random);
            // No value or no entry means removal to setxattr(2), which is no ACL to decode.
            if bytes.is_empty() || (bytes.len() == 4 && bytes == [2, 0, 0, 0]) {
                continue;
            }
            let before = mode_of(&path);
            let kernel = set_acl(&path, xattr::ACCESS, &bytes);
            match xattr::decode(&bytes) {
                Ok(acl) => {
                    assert_eq!(kernel, Ok(()), "{acl:?}");
                    let (mode, kept) = mode::set_access(before, acl);
                    assert_eq!((mode_of(&path), acl_of(&path, xattr::ACCESS)), (mode, kept));
                    taken += 1;
                }
                Err(error) => {
                    let expected = match error {
                        xattr::Error::Version(_) => Errno::OPNOTSUPP,
                        _ => Errno::INVAL,
                    };
                    assert_eq!(kernel, Err(expected), "{error} {bytes:?}");
                    refused += 1;
                }
            }
        }
        assert!(
            taken > LISTS / 10 && refused > LISTS / 10,
            "{taken} taken, {refused} refused"
        );
    });
}

#[test]
fn chmod_under_an_acl() {
    with_kernel("chmod_under_an_acl", |scratch, random| {
        let path = scratch.path("file");
        make(&path, Kind::Regular, 0o600);
        let mut kept_count = 0u32;
        for _ in 0..CHMODS {
            let (acl, bits) = (random.acl(), random.mode());
            set_acl(&path, xattr::ACCESS, &xattr::encode(&acl)).expect("setxattr");
            chmod(&path, raw_mode(bits)).expect("chmod");
            let kept = (!mode::is_equivalent(&acl)).then(|| mode::chmod(&acl, bits));
            assert_eq!(mode_of(&path) & 0o7777, bits, "{acl:?}");
            assert_eq!(acl_of(&path, xattr::ACCESS), kept, "{acl:?} chmod {bits:o}");
            kept_count += u32::from(kept.is_some());
        }
        assert!(kept_count > CHMODS / 10);
    });
}

#[test]
fn default_acl_inheritance() {
    with_kernel("default_acl_inheritance", |scratch, random| {
        let parent = scratch.path("parent");
        make(&parent, Kind::Directory, 0o700);
        let path = parent.join("new");
        let before = umask(Mode::empty());
        for _ in 0..CREATIONS {
            let default = random.maybe_acl();
            match &default {
                Some(acl) => set_acl(&parent, xattr::DEFAULT, &xattr::encode(acl)).expect("set"),
                None => match removexattr(&parent, xattr::DEFAULT) {
                    Ok(()) | Err(Errno::NODATA) => {}
                    Err(error) => panic!("removexattr: {error}"),
                },
            }
            let kinds = [Kind::Regular, Kind::Directory, Kind::Symlink, Kind::Other];
            let kind = kinds[random.below(4) as usize];
            let asked = if kind == Kind::Symlink {
                0o777
            } else {
                random.mode()
            };
            let mask = random.mode();
            umask(raw_mode(mask));
            make(&path, kind, asked);
            let ours = inherit::create(asked, mask, default.as_ref(), kind);
            let kernel = inherit::Created {
                mode: mode_of(&path) & 0o7777,
                access: if kind == Kind::Symlink {
                    None
                } else {
                    acl_of(&path, xattr::ACCESS)
                },
                default: if kind == Kind::Symlink {
                    None
                } else {
                    acl_of(&path, xattr::DEFAULT)
                },
            };
            assert_eq!(
                ours, kernel,
                "{kind:?} {asked:o} umask {mask:o} in {default:?}"
            );
            unmake(&path, kind);
        }
        umask(before);
    });
}

/// The bound of the codec is the kernel's: one byte more than an xattr can have is E2BIG, not EINVAL.
#[test]
fn xattr_limit() {
    with_kernel("xattr_limit", |scratch, _| {
        let path = scratch.path("file");
        make(&path, Kind::Regular, 0o600);
        let mut bytes = vec![2, 0, 0, 0];
        bytes.resize(xattr::MAX_LEN + 8, 0);
        assert_eq!(set_acl(&path, xattr::ACCESS, &bytes), Err(Errno::TOOBIG));
        assert_eq!(
            xattr::decode(&bytes),
            Err(xattr::Error::TooLong(bytes.len()))
        );
        bytes.truncate(xattr::MAX_LEN);
        assert_eq!(set_acl(&path, xattr::ACCESS, &bytes), Err(Errno::INVAL));
        assert_eq!(xattr::decode(&bytes), Err(xattr::Error::Tag(0)));
    });
}
