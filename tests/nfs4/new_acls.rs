//! What new files begin with: ACLs sent with OPEN and CREATE, and modes under a umask (`mode_umask`).

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use nfsd::nfs4::Op4;
use nfsd::nfs4::attr::bit;
use nfsd::nfs4::op::create::Createtype4;
use nfsd::nfs4::status::{Nfsstat4 as S, restrict};
use nfsd::nfs4::types::*;
use tests::client::nfs4::{Ops, Raw, Results, fattr};
use tests::client::session::Session;
use tests::client::{Fh, encode};
use tests::daemon::{Setup, TestServer, policies};

use super::acls::{Entry, NAMED, list, mode, stored};
use super::session;

/// Numbers of io_uring operations (`io_uring_enter(2)`).
mod op {
    pub const OPENAT2: u8 = 28;
    pub const MKDIRAT: u8 = 37;
    pub const LINKAT: u8 = 39;
    pub const SETXATTR: u8 = 42;
}

/// What [`NAMED`] is stored as.
const TEXT: &str = "u::rw-,u:1001:r--,g::r--,g:1002:rw-,m::rw-,o::---";
/// Of the directory things are made in.
const DEFAULT: &str = "u::rwx,u:3001:rwx,g::r-x,m::rwx,o::r-x";
/// FILE_INHERIT, DIRECTORY_INHERIT, INHERIT_ONLY.
const HANDED_DOWN: u32 = 0xb;

/// `rwx` for the owner alone, handed down to user 1001 as well.
const DIRECTORY: &[Entry<'_>] = &[
    (0, 0, 0x16_01e7, "OWNER@"),
    (0, HANDED_DOWN, 0x16_01e7, "OWNER@"),
    (0, HANDED_DOWN, 0x12_00a1, "1001"),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum How {
    Unchecked,
    Guarded,
    Exclusive([u8; 8]),
}

/// OPEN for reading and writing with these attributes.
fn open(how: How, name: &[u8], attrs: &[u8]) -> Ops {
    let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(encode).collect() };
    let mut args = words(&[0, 3, 0]);
    let owner = OwnerName4(b"maker");
    args.extend(encode(&StateOwner4 { clientid: 0, owner }));
    match how {
        How::Unchecked => args.extend(words(&[1, 0])),
        How::Guarded => args.extend(words(&[1, 1])),
        How::Exclusive(verifier) => {
            args.extend(words(&[1, 3]));
            args.extend(verifier);
        }
    }
    args.extend(attrs);
    args.extend(words(&[0]));
    args.extend(encode(&Component4(name)));
    Ops::new().op(Op4::Open, &Raw(&args))
}

fn create(what: &Createtype4<'_>, name: &[u8], attrs: &[u8]) -> Ops {
    let mut args = encode(what);
    args.extend(encode(&Component4(name)));
    args.extend(attrs);
    Ops::new().op(Op4::Create, &Raw(&args))
}

/// The attributes a successful OPEN says it set.
fn set_by_open(done: &mut Results) -> Bitmap4 {
    done.body::<Stateid4>(Op4::Open);
    done.more::<ChangeInfo4>();
    done.more::<u32>();
    done.more()
}

fn set_by_create(done: &mut Results) -> Bitmap4 {
    done.body::<ChangeInfo4>(Op4::Create);
    done.more()
}

fn set_default(path: &Path, entries: &[(acl::Tag, u32)]) {
    let entry = |&(tag, perm)| acl::Entry {
        tag,
        perm: acl::Perm::from_low_bits(perm),
    };
    let acl = acl::Acl::new(entries.iter().map(entry).collect()).expect("an ACL");
    let value = acl::xattr::encode(&acl);
    rustix::fs::setxattr(
        path,
        acl::xattr::DEFAULT,
        &value,
        rustix::fs::XattrFlags::empty(),
    )
    .expect("setxattr");
}

/// A server, and a session in its export, which hands ACLs down if `inherits`.
fn bed(setup: Setup, inherits: bool) -> (TestServer, Session, Fh) {
    let server = setup.start();
    if inherits {
        use acl::Tag::{GroupObj, Mask, Other, User, UserObj};
        let default = [
            (UserObj, 7),
            (User(3001), 7),
            (GroupObj, 5),
            (Mask, 7),
            (Other, 5),
        ];
        set_default(&server.export(), &default);
        assert_eq!(stored(&server.export(), acl::xattr::DEFAULT), DEFAULT);
    }
    let (session, root) = session(&server);
    (server, session, root)
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).expect("readdir");
    let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("an entry").file_name();
    names
        .map(|entry| name(entry).to_string_lossy().into_owned())
        .collect()
}

fn acl_of(entries: &[Entry<'_>]) -> Vec<u8> {
    fattr(&[(bit::ACL, list(entries))])
}

const fn kinds() -> [Createtype4<'static>; 3] {
    [
        Createtype4::Fifo,
        Createtype4::Socket,
        Createtype4::Char(1, 3),
    ]
}

#[test]
fn they_have_it_instead_of_what_is_handed_down() {
    for policy in policies() {
        let (server, mut s, root) = bed(Setup::default().policy(&policy), true);
        let at = |name: &str| server.export().join(name);
        for (how, name) in [
            (How::Unchecked, "u"),
            (How::Guarded, "g"),
            (How::Exclusive([5; 8]), "e"),
        ] {
            let mut done = s.at(&root, &open(how, name.as_bytes(), &acl_of(NAMED)));
            assert_eq!(set_by_open(&mut done), Bitmap4::of(&[bit::ACL]));
            assert_eq!(stored(&at(name), acl::xattr::ACCESS), TEXT, "{name}");
            assert_eq!(mode(&at(name)), 0o660);
        }
        // The mode first, then the ACL: three bits are left of it. Of a umask none. Other attributes as ever.
        let time = [encode(&1_u32), encode(&77_i64), encode(&5_u32)].concat();
        let both = fattr(&[
            (bit::ACL, list(NAMED)),
            (bit::MODE, encode(&0o6777_u32)),
            (bit::OWNER, encode(&OwnerName4(b"1234"))),
            (bit::TIME_MODIFY_SET, time),
        ]);
        let mut done = s.at(&root, &open(How::Guarded, b"both", &both));
        assert!(set_by_open(&mut done).has(bit::MODE));
        let meta = fs::metadata(at("both")).expect("there");
        assert_eq!((meta.mode() & 0o7777, meta.uid()), (0o6660, 1234));
        assert_eq!((meta.mtime(), meta.mtime_nsec()), (77, 5));
        assert_eq!(stored(&at("both"), acl::xattr::ACCESS), TEXT);
        let umask = [encode(&0o4777_u32), encode(&0o777_u32)].concat();
        let both = fattr(&[(bit::ACL, list(NAMED)), (bit::MODE_UMASK, umask)]);
        set_by_open(&mut s.at(&root, &open(How::Guarded, b"mask", &both)));
        assert_eq!(mode(&at("mask")), 0o4660);
        assert_eq!(stored(&at("mask"), acl::xattr::ACCESS), TEXT);
        // One that says no more than a mode becomes the mode.
        let plain = acl_of(&NAMED[..1]);
        set_by_open(&mut s.at(&root, &open(How::Guarded, b"plain", &plain)));
        assert_eq!(mode(&at("plain")), 0o600);
        assert_eq!(stored(&at("plain"), acl::xattr::ACCESS), "");

        for (number, what) in kinds().into_iter().enumerate() {
            let name = format!("node{number}");
            let mut done = s.at(&root, &create(&what, name.as_bytes(), &acl_of(NAMED)));
            assert_eq!(set_by_create(&mut done), Bitmap4::of(&[bit::ACL]));
            assert_eq!(stored(&at(&name), acl::xattr::ACCESS), TEXT);
        }
        let what = Createtype4::Directory;
        set_by_create(&mut s.at(&root, &create(&what, b"d", &acl_of(DIRECTORY))));
        assert_eq!(mode(&at("d")), 0o700);
        let handed = "u::rwx,u:1001:r-x,g::---,m::r-x,o::---";
        assert_eq!(stored(&at("d"), acl::xattr::DEFAULT), handed);
        set_by_create(&mut s.at(&root, &create(&what, b"d1", &acl_of(&DIRECTORY[..1]))));
        assert_eq!(stored(&at("d1"), acl::xattr::ACCESS), "");
        assert_eq!(stored(&at("d1"), acl::xattr::DEFAULT), "", "not inherited");
        let sticky = fattr(&[
            (bit::ACL, list(DIRECTORY)),
            (bit::MODE, encode(&0o1777_u32)),
        ]);
        set_by_create(&mut s.at(&root, &create(&what, b"d2", &sticky)));
        assert_eq!(mode(&at("d2")), 0o1700);
        let all = names(&server.export());
        assert_eq!(all.len(), 12, "{all:?}");
        drop(s);
        assert_eq!(server.stat("acls.in_use"), 0);
    }
}

#[test]
fn what_is_there_keeps_its_own() {
    for policy in policies() {
        let (server, mut s, root) = bed(Setup::default().policy(&policy), true);
        let path = server.export().join("f");
        fs::write(&path, "text").expect("a file");
        let (acl, before) = (stored(&path, acl::xattr::ACCESS), mode(&path));
        assert_ne!(acl, TEXT);
        let mut done = s.at(&root, &open(How::Unchecked, b"f", &acl_of(NAMED)));
        assert_eq!(set_by_open(&mut done), Bitmap4::EMPTY);
        for how in [How::Guarded, How::Exclusive([7; 8])] {
            let done = s.at(&root, &open(how, b"f", &acl_of(NAMED)));
            assert_eq!(done.status, S::Exist);
        }
        for what in [Createtype4::Directory, Createtype4::Fifo] {
            let done = s.at(&root, &create(&what, b"f", &acl_of(&NAMED[..1])));
            assert_eq!(done.status, S::Exist);
        }
        assert_eq!(
            (stored(&path, acl::xattr::ACCESS), mode(&path)),
            (acl, before)
        );
        assert_eq!(fs::read(&path).expect("there"), b"text");
        assert_eq!(names(&server.export()), ["f"]);

        // Sent again, with the verifier it was made with: the same file, with what it has by now.
        let exclusive = open(How::Exclusive([9; 8]), b"x", &acl_of(NAMED));
        set_by_open(&mut s.at(&root, &exclusive));
        let made = fs::metadata(server.export().join("x"))
            .expect("there")
            .ino();
        let mut done = s.at(&root, &exclusive);
        assert_eq!(set_by_open(&mut done), Bitmap4::of(&[bit::ACL]));
        let path = server.export().join("x");
        assert_eq!(fs::metadata(&path).expect("there").ino(), made);
        assert_eq!(stored(&path, acl::xattr::ACCESS), TEXT);
    }
}

#[test]
fn refused() {
    let (server, mut s, root) = bed(Setup::default(), false);
    let many = {
        let mut bytes = encode(&(acl::nfs4::MAX_ACES as u32 + 1));
        let one = list(&[(0, 0, 1, "EVERYONE@")]);
        for _ in 0..=acl::nfs4::MAX_ACES {
            bytes.extend(&one[4..]);
        }
        bytes
    };
    for (value, status) in [
        (list(&[(0, 0, 1, "nobody-knows@nowhere")]), S::Badowner),
        (list(&[(0, 0, 1, "")]), S::Inval),
        (list(&[(0, 0, 1 << 31, "OWNER@")]), S::Inval),
        (list(&[(2, 0, 1, "OWNER@")]), S::Attrnotsupp),
        (list(&[(0, HANDED_DOWN, 1, "OWNER@")]), S::Attrnotsupp),
        (list(&[(4, 0, 1, "OWNER@")]), S::Badxdr),
        (many, S::Badxdr),
    ] {
        let attrs = fattr(&[(bit::ACL, value)]);
        for how in [How::Unchecked, How::Guarded, How::Exclusive([1; 8])] {
            assert_eq!(s.at(&root, &open(how, b"f", &attrs)).status, status);
        }
        let fifo = create(&Createtype4::Fifo, b"f", &attrs);
        assert_eq!(s.at(&root, &fifo).status, status);
    }
    let link = Createtype4::Symlink(Linktext4(b"to"));
    let done = s.at(&root, &create(&link, b"l", &acl_of(NAMED)));
    assert_eq!(done.status, S::Attrnotsupp);
    assert!(names(&server.export()).is_empty());
    // As many entries as there may be: most of them say the same.
    let mut most = encode(&(acl::nfs4::MAX_ACES as u32));
    let one = list(&[(0, 0, 0x12_0081, "EVERYONE@")]);
    for _ in 0..acl::nfs4::MAX_ACES {
        most.extend(&one[4..]);
    }
    let attrs = fattr(&[(bit::ACL, most)]);
    set_by_open(&mut s.at(&root, &open(How::Guarded, b"most", &attrs)));
    assert_eq!(mode(&server.export().join("most")), 0o444);
    drop(s);
    assert_eq!(server.stat("acls.in_use"), 0);
}

/// Operations behind the OPEN that do not even decode: the file is there, with its ACL.
#[test]
fn the_rest_of_the_compound_is_malformed() {
    let (server, mut s, root) = bed(Setup::default(), true);
    let half = encode(&Stateid4::ANONYMOUS);
    let ops = open(How::Guarded, b"f", &acl_of(NAMED)).raw(Op4::Setattr.wire(), &half);
    let mut done = s.at(&root, &ops);
    set_by_open(&mut done);
    assert_eq!(done.status, S::Badxdr);
    let path = server.export().join("f");
    assert_eq!(stored(&path, acl::xattr::ACCESS), TEXT);
    assert_eq!(server.stat("acls.in_use"), 0);
    // Nor does the OPEN itself: cut anywhere, nothing is made.
    let whole = {
        let mut args: Vec<u8> = [0_u32, 3, 0].iter().flat_map(encode).collect();
        let owner = OwnerName4(b"maker");
        args.extend(encode(&StateOwner4 { clientid: 0, owner }));
        args.extend([1_u32, 1].iter().flat_map(encode));
        args.extend(acl_of(NAMED));
        args.extend(encode(&0_u32));
        args.extend(encode(&Component4(b"cut")));
        args
    };
    for len in (0..whole.len()).step_by(4) {
        let done = s.at(&root, &Ops::new().raw(Op4::Open.wire(), &whole[..len]));
        assert_eq!(done.status, S::Badxdr, "{len}");
    }
    assert_eq!(names(&server.export()), ["f"]);
    assert_eq!(server.stat("acls.in_use"), 0);
}

/// Every step of making something with an ACL fails once: there is nothing then, and afterwards it can be made.
#[test]
fn a_failure_leaves_nothing() {
    let setup = Setup::default().policy("ring").faults("");
    let (server, mut s, root) = bed(setup, true);
    let faults = |rules: &str| server.control(&format!("faults {rules}")).expect("faults");
    let file = |how| (Op4::Open, open(how, b"new", &acl_of(NAMED)));
    let made = |what| (Op4::Create, create(&what, b"new", &acl_of(&NAMED[..2])));
    let exclusive = How::Exclusive([3; 8]);
    for errno in [libc::ENOSPC, libc::EOPNOTSUPP, libc::EDQUOT, libc::EIO] {
        // The first SETXATTR of an exclusive create is of its verifier, which can be kept in times, too.
        for ((op, ops), code, skip) in [
            (file(How::Unchecked), op::SETXATTR, 0),
            (file(How::Guarded), op::SETXATTR, 0),
            (file(exclusive), op::SETXATTR, 1),
            (file(How::Guarded), op::LINKAT, 0),
            (made(Createtype4::Directory), op::MKDIRAT, 0),
            (made(Createtype4::Directory), op::SETXATTR, 0),
            (made(Createtype4::Directory), op::SETXATTR, 1),
            (made(Createtype4::Fifo), op::SETXATTR, 0),
        ] {
            faults(&format!("{code}:{errno}:{skip}:1"));
            let done = s.at(&root, &ops);
            faults("");
            let case = format!("{op} {code} {errno} {skip}");
            let expected = match errno {
                libc::EOPNOTSUPP => S::Attrnotsupp,
                errno => restrict(op, 2, vfs::Errno(errno).into()),
            };
            assert_eq!(done.status, expected, "{case}");
            assert_eq!(names(&server.export()), [""; 0], "{case}");
            assert_eq!(server.stat("acls.in_use"), 0, "{case}");
            assert_eq!(s.at(&root, &ops).status, S::Ok, "{case}");
            remove(&mut s, &root, b"new");
        }
    }
}

fn remove(s: &mut Session, dir: &[u8], name: &[u8]) {
    let remove = Ops::new().op(Op4::Remove, &Component4(name));
    assert_eq!(s.at(dir, &remove).status, S::Ok);
}

/// Where there are no nameless files they are made under a name of the server's, which nothing is left of.
#[test]
fn without_nameless_files() {
    let setup = Setup::default().policy("ring").faults("");
    let (server, mut s, root) = bed(setup, true);
    let faults = |rules: &str| server.control(&format!("faults {rules}")).expect("faults");
    let nameless = format!("{}:{}:1:1", op::OPENAT2, libc::EOPNOTSUPP);
    for how in [How::Guarded, How::Exclusive([3; 8])] {
        let ops = open(how, b"new", &acl_of(NAMED));
        let last = u32::from(how != How::Guarded);
        faults(&format!(
            "{nameless},{}:{}:{last}:1",
            op::SETXATTR,
            libc::ENOSPC
        ));
        assert_eq!(s.at(&root, &ops).status, S::Nospc);
        assert!(names(&server.export()).is_empty(), "{how:?}");
        faults(&nameless);
        assert_eq!(s.at(&root, &ops).status, S::Ok);
        faults("");
        assert_eq!(names(&server.export()), ["new"]);
        let path = server.export().join("new");
        assert_eq!(stored(&path, acl::xattr::ACCESS), TEXT);
        // Made again, as it stands.
        let again = match how {
            How::Guarded => S::Exist,
            _ => S::Ok,
        };
        assert_eq!(s.at(&root, &ops).status, again);
        remove(&mut s, &root, b"new");
    }
}

/// Somebody on the server looks all the time: whenever the name is there, so is the ACL.
#[test]
fn nobody_sees_another_acl() {
    for policy in policies() {
        let (server, mut s, root) = bed(Setup::default().policy(&policy), true);
        let export = server.export();
        let (over, export) = (&AtomicBool::new(false), &export);
        let watch = move |name: &'static str, right: &'static str| {
            let path = export.join(name);
            let (mut seen, mut value) = (0, vec![0; 4096]);
            while !over.load(Ordering::Relaxed) {
                match rustix::fs::getxattr(&path, acl::xattr::ACCESS, &mut value) {
                    Ok(len) => {
                        let acl = acl::xattr::decode(&value[..len]).expect("an ACL");
                        assert_eq!(format!("{acl:?}"), right, "{name}");
                        seen += 1;
                    }
                    Err(rustix::io::Errno::NOENT) => {}
                    Err(e) => panic!("{name}: {e}"),
                }
            }
            seen
        };
        thread::scope(|scope| {
            let file = scope.spawn(move || watch("f", TEXT));
            // Changing a directory takes DELETE_CHILD.
            let text = "u::r--,u:1001:r--,g::r--,m::r--,o::---";
            let dir = scope.spawn(move || watch("d", text));
            for _ in 0..100 {
                set_by_open(&mut s.at(&root, &open(How::Unchecked, b"f", &acl_of(NAMED))));
                let entries = &NAMED[..3];
                let made = create(&Createtype4::Directory, b"d", &acl_of(entries));
                set_by_create(&mut s.at(&root, &made));
                remove(&mut s, &root, b"f");
                remove(&mut s, &root, b"d");
            }
            over.store(true, Ordering::Relaxed);
            let seen = (file.join().expect("right"), dir.join().expect("right"));
            assert!(seen.0 > 0 && seen.1 > 0, "never looked at: {seen:?}");
        });
    }
}

fn umasked(mode: u32, umask: u32) -> Vec<u8> {
    let value = [encode(&mode), encode(&umask)].concat();
    fattr(&[(bit::MODE_UMASK, value)])
}

/// As open(2), mkdir(2) and mknod(2) under umask(2).
#[test]
fn modes_under_a_umask() {
    for policy in policies() {
        for inherits in [false, true] {
            let (server, mut s, root) = bed(Setup::default().policy(&policy), inherits);
            let at = |name: &str| server.export().join(name);
            let inherited = |mask: &str, other: &str| match inherits {
                true => format!("u::rw-,u:3001:rwx,g::r-x,m::{mask},o::{other}"),
                false => String::new(),
            };
            for (how, name) in [
                (How::Unchecked, "u"),
                (How::Guarded, "g"),
                (How::Exclusive([5; 8]), "e"),
            ] {
                for _ in 0..2 {
                    let ops = open(how, name.as_bytes(), &umasked(0o666, 0o077));
                    let mut done = s.at(&root, &ops);
                    if how == How::Guarded && done.status == S::Exist {
                        continue;
                    }
                    set_by_open(&mut done);
                    let bits = if inherits { 0o664 } else { 0o600 };
                    assert_eq!(mode(&at(name)), bits, "{how:?} {policy} {inherits}");
                    let acl = stored(&at(name), acl::xattr::ACCESS);
                    assert_eq!(acl, inherited("rw-", "r--"));
                }
            }
            let mut done = s.at(&root, &open(How::Guarded, b"m", &umasked(0o640, 0o022)));
            assert_eq!(set_by_open(&mut done), Bitmap4::of(&[bit::MODE_UMASK]));
            assert_eq!(mode(&at("m")), 0o640);
            assert_eq!(
                stored(&at("m"), acl::xattr::ACCESS),
                inherited("r--", "---")
            );
            for (what, name) in [(Createtype4::Fifo, "p"), (Createtype4::Socket, "s")] {
                let made = create(&what, name.as_bytes(), &umasked(0o666, 0o027));
                let mut done = s.at(&root, &made);
                assert_eq!(set_by_create(&mut done), Bitmap4::of(&[bit::MODE_UMASK]));
                let bits = if inherits { 0o664 } else { 0o640 };
                assert_eq!(mode(&at(name)), bits);
            }
            // What mkdir(2) does not take is set afterwards, and does not bring back what the umask took.
            for (mode_sent, bits) in [(0o777, 0), (0o2777, 0o2000), (0o1777, 0o1000)] {
                let name = format!("d{mode_sent:o}");
                let what = Createtype4::Directory;
                let made = create(&what, name.as_bytes(), &umasked(mode_sent, 0o027));
                assert_eq!(s.at(&root, &made).status, S::Ok);
                let expected = if inherits { 0o775 } else { 0o750 };
                assert_eq!(mode(&at(&name)), expected | bits, "{name}");
            }
            // Nor does an owner.
            let owned = [encode(&0o4777_u32), encode(&0o027_u32)].concat();
            let owner = (bit::OWNER, encode(&OwnerName4(b"1234")));
            let owned = fattr(&[owner, (bit::MODE_UMASK, owned)]);
            set_by_open(&mut s.at(&root, &open(How::Guarded, b"o", &owned)));
            let bits = if inherits { 0o4775 } else { 0o4750 };
            assert_eq!(mode(&at("o")), bits);
        }
    }
}

#[test]
fn where_a_umask_means_nothing() {
    let (server, mut s, root) = bed(Setup::default(), false);
    let value = [encode(&0o666_u32), encode(&0o077_u32)].concat();
    let both = fattr(&[
        (bit::MODE, encode(&0o600_u32)),
        (bit::MODE_UMASK, value.clone()),
    ]);
    let inval = S::Inval;
    let status = s.at(&root, &open(How::Guarded, b"f", &both)).status;
    assert_eq!(status, inval);
    let made = create(&Createtype4::Directory, b"d", &both);
    assert_eq!(s.at(&root, &made).status, inval);
    let mut args = encode(&Stateid4::ANONYMOUS);
    args.extend(umasked(0o666, 0));
    let set = Ops::new().op(Op4::Setattr, &Raw(&args));
    assert_eq!(s.at(&root, &set).status, inval);
    let get = Ops::new().getattr(&[bit::MODE_UMASK]);
    assert_eq!(s.at(&root, &get).status, inval);
    for op in [Op4::Verify, Op4::Nverify] {
        let compare = Ops::new().op(op, &Raw(&umasked(0o666, 0)));
        assert_eq!(s.at(&root, &compare).status, inval);
    }
    // A file that is there keeps its mode, with an ACL or without.
    let path = server.export().join("there");
    fs::write(&path, "").expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).expect("chmod");
    let mut done = s.at(
        &root,
        &open(How::Unchecked, b"there", &umasked(0o666, 0o022)),
    );
    assert_eq!(set_by_open(&mut done), Bitmap4::EMPTY);
    assert_eq!(mode(&path), 0o604);
    // Of 4.2 only.
    let mut older = Session::new(server.client(), 1);
    let unknown = open(How::Guarded, b"f", &umasked(0o666, 0o077));
    assert_eq!(older.at(&root, &unknown).status, S::Attrnotsupp);
    let mut done = older.at(&root, &Ops::new().getattr(&[bit::MODE_UMASK]));
    assert!(done.attrs().0.is_empty());
    for (s, all) in [(&mut older, false), (&mut s, true)] {
        let bits = [bit::SUPPORTED_ATTRS, bit::SUPPATTR_EXCLCREAT];
        let attrs = s.at(&root, &Ops::new().getattr(&bits)).attrs();
        for bits in bits {
            let set = attrs.get::<Bitmap4>(bits);
            assert_eq!(set.has(bit::MODE_UMASK), all);
            assert!(set.has(bit::ACL) && set.has(bit::DACL) && !set.has(59));
        }
    }
    assert_eq!(names(&server.export()), ["there"]);
}
