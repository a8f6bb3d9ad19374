//! What the RFCs leave no choice about, in small steps that any server can be asked: `tests/reference` also runs these
//! against nfs-ganesha. No test here looks into the server, or changes files behind its back.

use nfsd::nfs4::Op4;
use nfsd::nfs4::attr::bit;
use nfsd::nfs4::op::create::Createtype4;
use nfsd::nfs4::op::lock::Lock4Denied;
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nfs4::types::*;
use tests::client::nfs4::{Ops, Raw, fattr, mode4};
use tests::client::session::{Session, Terms};
use tests::client::{Client, Fh, encode};
use tests::daemon::TestServer;
use tests::peer::Agreed;

use super::state::{BOTH, DENY_NONE, DENY_WRITE, READ, What, client_40};
use super::state::{close, lock, open, opened, read, unlock, write};
use super::{create, session};

const TO_END: u64 = u64::MAX;

fn named(op: Op4, name: &[u8]) -> Ops {
    Ops::new().op(op, &Component4(name))
}

fn rename(old: &[u8], new: &[u8]) -> Ops {
    let both = [old, new].map(|name| encode(&Component4(name)));
    Ops::new().op(Op4::Rename, &Raw(&both.concat()))
}

fn setattr(attrs: &[u8]) -> Ops {
    let args = [&encode(&Stateid4::ANONYMOUS)[..], attrs].concat();
    Ops::new().op(Op4::Setattr, &Raw(&args))
}

fn readdir(maxcount: u32) -> Ops {
    let place = [encode(&0_u64), encode(&0_u64)].concat();
    let sizes = [encode(&maxcount), encode(&maxcount)].concat();
    let attrs = encode(&Bitmap4::of(&[bit::TYPE]));
    Ops::new().op(Op4::Readdir, &Raw(&[place, sizes, attrs].concat()))
}

fn lockt(range: (u64, u64)) -> Ops {
    let words = [encode(&2_u32), encode(&range.0), encode(&range.1)].concat();
    let owner = encode(&StateOwner4 {
        clientid: 0,
        owner: OwnerName4(b"asks"),
    });
    Ops::new().op(Op4::Lockt, &Raw(&[words, owner].concat()))
}

fn downgrade(stateid: &Stateid4, access: u32) -> Ops {
    let words = [encode(stateid), encode(&0_u32), encode(&access)].concat();
    Ops::new().op(Op4::OpenDowngrade, &Raw(&[words, encode(&0_u32)].concat()))
}

/// OPEN in a session.
fn opens(shares: (u32, u32), what: What<'_>) -> Ops {
    open(Ops::new(), 0, shares, (0, b"owner"), what)
}

/// Opens a file of the export; its stateid and handle.
fn holds(s: &mut Session, root: &Fh, shares: (u32, u32), what: What<'_>) -> (Stateid4, Fh) {
    let mut done = s.at(root, &opens(shares, what).getfh());
    let stateid: Stateid4 = done.body(Op4::Open);
    done.more::<ChangeInfo4>();
    let _: (u32, Bitmap4) = (done.more(), done.more());
    // What servers say of why there is no delegation is theirs.
    if done.more::<u32>() == 3 && matches!(done.more::<u32>(), 1 | 2) {
        done.more::<u32>();
    }
    (stateid, done.fh())
}

/// A directory `dir` with `in` in it, a file `file`, a symbolic link `link`, a FIFO `fifo`.
fn furnished(server: &TestServer) -> (Session, Fh) {
    let (mut s, root) = session(server);
    let kinds = [
        (Createtype4::Directory, &b"dir"[..]),
        (Createtype4::Symlink(Linktext4(b"file")), b"link"),
        (Createtype4::Fifo, b"fifo"),
    ];
    for (kind, name) in kinds {
        s.at(&root, &create(Ops::new(), &kind, name))
            .ok(Op4::Create);
    }
    let inner = create(Ops::new().lookup(b"dir"), &Createtype4::Directory, b"in");
    assert_eq!(s.at(&root, &inner).status, S::Ok);
    let (stateid, fh) = holds(&mut s, &root, (BOTH, DENY_NONE), What::Make(b"file"));
    s.at(&fh, &close(Ops::new(), 0, &stateid));
    (s, root)
}

/// What is asked, where below the root, and the answer.
type Case = (&'static str, &'static str, Ops, S);

fn of_kinds() -> Vec<Case> {
    let any = Stateid4::ANONYMOUS;
    let size = fattr(&[(bit::SIZE, encode(&0_u64))]);
    vec![
        (
            "LOOKUP of nothing",
            "",
            named(Op4::Lookup, b"gone"),
            S::Noent,
        ),
        (
            "LOOKUP without a name",
            "",
            named(Op4::Lookup, b""),
            S::Inval,
        ),
        (
            "LOOKUP of a long name",
            "",
            named(Op4::Lookup, &[b'n'; 256]),
            S::Nametoolong,
        ),
        (
            "LOOKUP in a file",
            "file",
            named(Op4::Lookup, b"a"),
            S::Notdir,
        ),
        (
            "LOOKUP in a link",
            "link",
            named(Op4::Lookup, b"a"),
            S::Symlink,
        ),
        (
            "LOOKUPP of a file",
            "file",
            Ops::new().bare(Op4::Lookupp),
            S::Notdir,
        ),
        (
            "READLINK of a file",
            "file",
            Ops::new().bare(Op4::Readlink),
            S::WrongType,
        ),
        (
            "READ of a directory",
            "dir",
            read(Ops::new(), &any, 1),
            S::Isdir,
        ),
        (
            "READ of a link",
            "link",
            read(Ops::new(), &any, 1),
            S::Symlink,
        ),
        (
            "READ of a FIFO",
            "fifo",
            read(Ops::new(), &any, 1),
            S::WrongType,
        ),
        (
            "WRITE of a directory",
            "dir",
            write(Ops::new(), &any, b"x"),
            S::Isdir,
        ),
        (
            "WRITE of a link",
            "link",
            write(Ops::new(), &any, b"x"),
            S::Symlink,
        ),
        (
            "WRITE of a FIFO",
            "fifo",
            write(Ops::new(), &any, b"x"),
            S::WrongType,
        ),
        (
            "SETATTR of a directory's size",
            "dir",
            setattr(&size),
            S::Isdir,
        ),
        ("READDIR of a file", "file", readdir(4096), S::Notdir),
        ("READDIR with no room", "", readdir(20), S::Toosmall),
    ]
}

fn of_names() -> Vec<Case> {
    let dir = Createtype4::Directory;
    vec![
        (
            "REMOVE of nothing",
            "",
            named(Op4::Remove, b"gone"),
            S::Noent,
        ),
        (
            "REMOVE of a full directory",
            "",
            named(Op4::Remove, b"dir"),
            S::Notempty,
        ),
        (
            "REMOVE in a file",
            "file",
            named(Op4::Remove, b"a"),
            S::Notdir,
        ),
        (
            "CREATE of what is there",
            "",
            create(Ops::new(), &dir, b"file"),
            S::Exist,
        ),
        (
            "CREATE in a file",
            "file",
            create(Ops::new(), &dir, b"a"),
            S::Notdir,
        ),
        (
            "CREATE in a link",
            "link",
            create(Ops::new(), &dir, b"a"),
            S::Notdir,
        ),
        (
            "CREATE of a file",
            "",
            create(Ops::new(), &Createtype4::Other(1), b"a"),
            S::Badtype,
        ),
        (
            "OPEN of nothing",
            "",
            opens((READ, 0), What::Name(b"gone")),
            S::Noent,
        ),
        (
            "OPEN of a directory",
            "",
            opens((READ, 0), What::Name(b"dir")),
            S::Isdir,
        ),
        (
            "OPEN of a link",
            "",
            opens((READ, 0), What::Name(b"link")),
            S::Symlink,
        ),
        (
            "OPEN of a FIFO",
            "",
            opens((READ, 0), What::Name(b"fifo")),
            S::WrongType,
        ),
        (
            "OPEN in a file",
            "file",
            opens((READ, 0), What::Name(b"a")),
            S::Notdir,
        ),
        (
            "OPEN with no access",
            "",
            opens((0, 0), What::Name(b"file")),
            S::Inval,
        ),
        (
            "SECINFO in a file",
            "file",
            named(Op4::Secinfo, b"a"),
            S::Notdir,
        ),
    ]
}

#[test]
fn names_and_kinds_of_files() {
    let server = TestServer::start();
    let (mut s, root) = furnished(&server);
    let mut agreed = Agreed::new();
    for (what, at, ops, expected) in of_kinds().into_iter().chain(of_names()) {
        let walked = Ops::new().walk(at).then(&ops);
        agreed.same(what, s.at(&root, &walked).status, expected);
    }
    let from_root = |ops: &Ops| Ops::new().bare(Op4::Savefh).then(ops);
    for (what, old, new, expected) in [
        ("RENAME of nothing", &b"gone"[..], &b"x"[..], S::Noent),
        ("RENAME of a file to a directory", b"file", b"dir", S::Exist),
        ("RENAME of a directory to a file", b"dir", b"file", S::Exist),
        ("RENAME to the same", b"file", b"file", S::Ok),
    ] {
        let done = s.at(&root, &from_root(&rename(old, new)));
        agreed.same(what, done.status, expected);
    }
    let link = |of: &[u8], name: &[u8]| {
        let back = Ops::new().lookup(of).bare(Op4::Savefh).putfh(&root);
        back.then(&named(Op4::Link, name))
    };
    agreed.same(
        "LINK to what is there",
        s.at(&root, &link(b"file", b"dir")).status,
        S::Exist,
    );
    agreed.same(
        "LINK of a directory",
        s.at(&root, &link(b"dir", b"new")).status,
        S::Isdir,
    );
    agreed.end();
}

#[test]
fn attributes() {
    let server = TestServer::start();
    let (mut s, root) = furnished(&server);
    let mut agreed = Agreed::new();
    let (stateid, fh) = holds(&mut s, &root, (BOTH, DENY_NONE), What::Name(b"file"));
    s.at(&fh, &write(Ops::new(), &stateid, b"12345678"));
    let bits = [bit::TYPE, bit::CHANGE, bit::SIZE, bit::MODE, bit::NUMLINKS];
    let get = |s: &mut Session| s.at(&fh, &Ops::new().getattr(&bits)).attrs();
    let first = get(&mut s);
    agreed.same("type", first.get(bit::TYPE), NfsFtype4::Reg);
    agreed.same("size", first.get(bit::SIZE), 8_u64);
    agreed.same("mode", first.get(bit::MODE), 0o640_u32);
    agreed.same("links", first.get(bit::NUMLINKS), 1_u32);
    let set = fattr(&[(bit::SIZE, encode(&3_u64)), (bit::MODE, encode(&0o604_u32))]);
    agreed.same("SETATTR", s.at(&fh, &setattr(&set)).status, S::Ok);
    let second = get(&mut s);
    agreed.same("size set", second.get(bit::SIZE), 3_u64);
    agreed.same("mode set", second.get(bit::MODE), 0o604_u32);
    let moved = first.get::<u64>(bit::CHANGE) != second.get::<u64>(bit::CHANGE);
    agreed.same("change moves", moved, true);
    let all = Ops::new().getattr(&[bit::SUPPORTED_ATTRS]);
    let supported: Bitmap4 = s.at(&fh, &all).attrs().get(bit::SUPPORTED_ATTRS);
    let required = (0..=11).chain([bit::FILEHANDLE, bit::SUPPATTR_EXCLCREAT]);
    for number in required {
        agreed.same(
            "a required attribute",
            (number, supported.has(number)),
            (number, true),
        );
    }
    // Of those not supported nothing is said, and nothing is wrong (RFC 8881 18.7.3).
    let unknown = s.at(&fh, &Ops::new().getattr(&[bit::TYPE, 95])).status;
    agreed.same("GETATTR of an attribute nobody knows", unknown, S::Ok);
    let only_set = s.at(&fh, &Ops::new().getattr(&[bit::TIME_MODIFY_SET]));
    agreed.same(
        "GETATTR of one that can only be set",
        only_set.status,
        S::Inval,
    );
    let fixed = fattr(&[(bit::TYPE, encode(&1_u32))]);
    agreed.same(
        "SETATTR of one that can only be read",
        s.at(&fh, &setattr(&fixed)).status,
        S::Inval,
    );
    let none = fattr(&[(95, encode(&1_u32))]);
    agreed.same(
        "SETATTR of an attribute nobody knows",
        s.at(&fh, &setattr(&none)).status,
        S::Attrnotsupp,
    );
    let mode = mode4(0o604);
    let verify = |op| Ops::new().op(op, &Raw(&mode));
    agreed.same("VERIFY", s.at(&fh, &verify(Op4::Verify)).status, S::Ok);
    agreed.same("NVERIFY", s.at(&fh, &verify(Op4::Nverify)).status, S::Same);
    s.at(&fh, &setattr(&mode4(0o600)));
    agreed.same(
        "VERIFY of another",
        s.at(&fh, &verify(Op4::Verify)).status,
        S::NotSame,
    );
    agreed.same(
        "NVERIFY of another",
        s.at(&fh, &verify(Op4::Nverify)).status,
        S::Ok,
    );
    agreed.end();
}

/// Locks of one client under an open, and what another sees.
fn locks(agreed: &mut Agreed, [a, b]: [&mut Session; 2], fh: &Fh, now: &Stateid4) {
    let at = |range| lock(Ops::new(), 0, now, (0, b"holder"), range);
    agreed.same("LOCK of nothing", a.at(fh, &at((0, 0))).status, S::Inval);
    agreed.same(
        "LOCK beyond the end",
        a.at(fh, &at((TO_END, 2))).status,
        S::Inval,
    );
    let mut done = a.at(fh, &at((5, TO_END)));
    let held: Stateid4 = done.body(Op4::Lock);
    let mut done = b.at(fh, &lockt((0, 6)));
    agreed.same(
        "LOCKT of what is locked",
        done.status_of(Op4::Lockt),
        S::Denied,
    );
    let by: Lock4Denied<'_> = done.more();
    agreed.same(
        "whose lock",
        (by.offset, by.owner.owner.0),
        (5, &b"holder"[..]),
    );
    agreed.same("the length of a lock to the end", by.length, TO_END);
    agreed.same("LOCKT beside it", b.at(fh, &lockt((0, 5))).status, S::Ok);
    agreed.same("LOCKT of one's own", a.at(fh, &lockt((0, 5))).status, S::Ok);
    let free = Ops::new().op(Op4::FreeStateid, &held);
    agreed.same(
        "FREE_STATEID of locks held",
        a.at(fh, &free).status,
        S::LocksHeld,
    );
    let mut done = a.at(fh, &unlock(Ops::new(), 0, &held));
    let after: Stateid4 = done.body(Op4::Locku);
    agreed.same(
        "LOCKU",
        (after.seqid, after.other),
        (held.seqid + 1, held.other),
    );
    agreed.same(
        "LOCKT of what is free",
        b.at(fh, &lockt((0, 6))).status,
        S::Ok,
    );
}

#[test]
fn opens_and_locks() {
    let server = TestServer::start();
    let (mut a, root) = furnished(&server);
    let mut b = Session::new(server.client(), 1);
    let mut agreed = Agreed::new();
    let (first, fh) = holds(&mut a, &root, (READ, DENY_NONE), What::Name(b"file"));
    let (now, _) = holds(&mut a, &root, (BOTH, DENY_NONE), What::Name(b"file"));
    agreed.same(
        "OPEN again",
        (now.seqid, now.other),
        (first.seqid + 1, first.other),
    );
    let later = Stateid4 {
        seqid: now.seqid + 1,
        ..now
    };
    let using = |stateid: &Stateid4| read(Ops::new(), stateid, 1);
    agreed.same(
        "an old stateid",
        a.at(&fh, &using(&first)).status,
        S::OldStateid,
    );
    agreed.same(
        "a stateid to come",
        a.at(&fh, &using(&later)).status,
        S::BadStateid,
    );
    agreed.same(
        "another client's stateid",
        b.at(&fh, &using(&now)).status,
        S::BadStateid,
    );
    let wrong = a.at(&root, &Ops::new().lookup(b"fifo").then(&using(&now)));
    agreed.same("another file's stateid", wrong.status != S::Ok, true);
    // Shares.
    let denied = b.at(&root, &opens((READ, DENY_WRITE), What::Name(b"file")));
    agreed.same("denying who writes", denied.status, S::ShareDenied);
    let guarded = [&[1_u32, 1][..]]
        .concat()
        .iter()
        .flat_map(encode)
        .collect::<Vec<u8>>();
    let mut make = [0_u32, 3, 0].iter().flat_map(encode).collect::<Vec<u8>>();
    make.extend(encode(&StateOwner4 {
        clientid: 0,
        owner: OwnerName4(b"o"),
    }));
    make.extend([guarded, mode4(0o600), encode(&0_u32)].concat());
    make.extend(encode(&Component4(b"file")));
    let there = a.at(&root, &Ops::new().op(Op4::Open, &Raw(&make)));
    agreed.same("GUARDED of what is there", there.status, S::Exist);
    locks(&mut agreed, [&mut a, &mut b], &fh, &now);
    // Less access, and none.
    agreed.same(
        "OPEN_DOWNGRADE to nothing",
        a.at(&fh, &downgrade(&now, 0)).status,
        S::Inval,
    );
    let mut done = a.at(&fh, &downgrade(&now, READ));
    let less: Stateid4 = done.body(Op4::OpenDowngrade);
    agreed.same(
        "WRITE after OPEN_DOWNGRADE",
        a.at(&fh, &write(Ops::new(), &less, b"x")).status,
        S::Openmode,
    );
    agreed.same(
        "CLOSE",
        a.at(&fh, &close(Ops::new(), 0, &less)).status,
        S::Ok,
    );
    agreed.same(
        "READ after CLOSE",
        a.at(&fh, &using(&less)).status,
        S::BadStateid,
    );
    agreed.same(
        "CLOSE again",
        a.at(&fh, &close(Ops::new(), 0, &less)).status,
        S::BadStateid,
    );
    // Without an open.
    let (reads, _) = holds(&mut a, &root, (READ, DENY_WRITE), What::Name(b"file"));
    agreed.same(
        "WRITE under an open for reading",
        a.at(&fh, &write(Ops::new(), &reads, b"x")).status,
        S::Openmode,
    );
    let any = write(Ops::new(), &Stateid4::ANONYMOUS, b"x");
    agreed.same(
        "WRITE of who has nothing open",
        b.at(&fh, &any).status,
        S::Locked,
    );
    agreed.same(
        "OPEN for writing",
        b.at(&root, &opens((BOTH, 0), What::Name(b"file"))).status,
        S::ShareDenied,
    );
    agreed.end();
}

#[test]
fn sessions() {
    let server = TestServer::start();
    let mut client: Client = server.client();
    let mut agreed = Agreed::new();
    let terms = Terms::new(1);
    let unknown = client.exchange_id(&terms, 0x4000_0000).err();
    agreed.same("EXCHANGE_ID: update of nobody", unknown, Some(S::Noent));
    let flags = client.exchange_id(&terms, 0x0400_0000).err();
    agreed.same("EXCHANGE_ID: a flag there is not", flags, Some(S::Inval));
    let known = client.exchange_id(&terms, 0).expect("new");
    let (id, number) = (known.clientid, known.sequence);
    let nobody = client.create_session(&terms, id ^ 1 << 60, number).err();
    agreed.same("CREATE_SESSION of nobody", nobody, Some(S::StaleClientid));
    let early = client.create_session(&terms, id, number + 1).err();
    agreed.same("CREATE_SESSION too early", early, Some(S::SeqMisordered));
    let created = client
        .create_session(&terms, id, number)
        .expect("a session");
    let again = client.create_session(&terms, id, number);
    agreed.same("CREATE_SESSION again", again, Ok(created));
    let sequence = |id: &Sessionid4, number: u32, slot: u32, keep: bool| {
        let words = [number, slot, slot, u32::from(keep)];
        let args = [&id[..], &words.iter().flat_map(encode).collect::<Vec<u8>>()].concat();
        Ops::new().raw(Op4::Sequence.wire(), &args)
    };
    let mut other = created.id;
    other[9] ^= 0x55;
    let root = |ops: Ops| ops.putrootfh();
    let cases = [
        ("no SEQUENCE", root(Ops::new()), S::OpNotInSession),
        (
            "another session",
            root(sequence(&other, 1, 0, true)),
            S::Badsession,
        ),
        (
            "another slot",
            root(sequence(&created.id, 1, 9999, true)),
            S::Badslot,
        ),
        (
            "too late a number",
            root(sequence(&created.id, 3, 0, true)),
            S::SeqMisordered,
        ),
        (
            "RECLAIM_COMPLETE alone",
            Ops::new().op(Op4::ReclaimComplete, &false),
            S::OpNotInSession,
        ),
        (
            "DESTROY_SESSION of none",
            Ops::new().raw(Op4::DestroySession.wire(), &other),
            S::Badsession,
        ),
        (
            "DESTROY_CLIENTID with a session",
            Ops::new().op(Op4::DestroyClientid, &id),
            S::ClientidBusy,
        ),
        (
            "DESTROY_CLIENTID of nobody",
            Ops::new().op(Op4::DestroyClientid, &(id ^ 1 << 60)),
            S::StaleClientid,
        ),
    ];
    for (what, ops, expected) in cases {
        agreed.same(what, client.compound(1, &ops).status, expected);
    }
    let ask = |ops: &Ops| ops.args(1, b"tag");
    let mut say = |ops: &Ops| {
        let answer = client.call(tests::client::nfs4::COMPOUND, &Raw(&ask(ops)));
        answer.bytes().to_vec()
    };
    let first = sequence(&created.id, 1, 0, true).putrootfh().getfh();
    let answer = say(&first);
    agreed.same("a request again", say(&first), answer);
    let twice = sequence(&created.id, 2, 0, true).then(&sequence(&created.id, 3, 0, true));
    agreed.same(
        "SEQUENCE twice",
        client.compound(1, &twice).status,
        S::SequencePos,
    );
    let mut s = Session::of(server.client(), 1, id, created);
    let one_fs = Ops::new().op(Op4::ReclaimComplete, &true);
    for number in 3..=6 {
        let ops = match number {
            3 => one_fs.clone(),
            4 | 5 => Ops::new().op(Op4::ReclaimComplete, &false),
            _ => Ops::new().bare(Op4::Restorefh),
        };
        let (what, expected) = match number {
            3 => (
                "RECLAIM_COMPLETE of one file system without a filehandle",
                S::Nofilehandle,
            ),
            4 => ("RECLAIM_COMPLETE", S::Ok),
            5 => ("RECLAIM_COMPLETE again", S::CompleteAlready),
            _ => ("RESTOREFH without a saved filehandle", S::Nofilehandle),
        };
        let done = s.outside(&sequence(&created.id, number, 0, false).then(&ops));
        agreed.same(what, done.status, expected);
    }
    agreed.end();
}

#[test]
fn compounds_and_4_0() {
    let server = TestServer::start();
    let (mut client, root, clientid) = client_40(&server);
    let mut agreed = Agreed::new();
    for (what, ops, expected) in [
        (
            "GETATTR of nothing",
            Ops::new().getattr(&[bit::TYPE]),
            S::Nofilehandle,
        ),
        (
            "SAVEFH of nothing",
            Ops::new().bare(Op4::Savefh),
            S::Nofilehandle,
        ),
        (
            "RESTOREFH of nothing",
            Ops::new().bare(Op4::Restorefh),
            S::Restorefh,
        ),
        (
            "PUTFH of an empty handle",
            Ops::new().putfh(b""),
            S::Badhandle,
        ),
        (
            "an operation there is not",
            Ops::new().raw(77_777, &[]),
            S::OpIllegal,
        ),
        ("operation 2", Ops::new().raw(2, &[]), S::OpIllegal),
        (
            "an operation of 4.1",
            Ops::new().raw(Op4::DestroyClientid.wire(), &[0; 8]),
            S::OpIllegal,
        ),
        (
            "RENEW of nobody",
            Ops::new().op(Op4::Renew, &(clientid ^ 1 << 60)),
            S::StaleClientid,
        ),
        ("RENEW", Ops::new().op(Op4::Renew, &clientid), S::Ok),
    ] {
        agreed.same(what, client.compound(0, &ops).status, expected);
    }
    let nothing = client.compound(0, &Ops::new());
    agreed.same(
        "no operation at all",
        (nothing.status, nothing.left),
        (S::Ok, 0),
    );
    let later = client.compound(9, &Ops::new().putrootfh());
    agreed.same(
        "a minor version there is not",
        (later.status, later.left),
        (S::MinorVersMismatch, 0),
    );
    let owner = (clientid, &b"owner"[..]);
    let make = open(Ops::new(), 9, (BOTH, DENY_NONE), owner, What::Make(b"f")).getfh();
    let mut at = |fh: &[u8], ops: &Ops| {
        let mut done = client.compound(0, &Ops::new().putfh(fh).then(ops));
        done.ok(Op4::Putfh);
        done
    };
    let mut done = at(&root, &make);
    let (stateid, rflags) = opened(&mut done);
    let fh = done.fh();
    agreed.same("a new owner", rflags & 2, 2);
    agreed.same("OPEN again", opened(&mut at(&root, &make)).0, stateid);
    let early = at(&fh, &write(Ops::new(), &stateid, b"x")).status;
    agreed.same("WRITE before OPEN_CONFIRM", early, S::BadStateid);
    let confirm = [encode(&stateid), encode(&10_u32)].concat();
    let mut done = at(&fh, &Ops::new().op(Op4::OpenConfirm, &Raw(&confirm)));
    let now: Stateid4 = done.body(Op4::OpenConfirm);
    agreed.same("OPEN_CONFIRM", now.seqid, stateid.seqid + 1);
    agreed.same(
        "WRITE",
        at(&fh, &write(Ops::new(), &now, b"x")).status,
        S::Ok,
    );
    agreed.same(
        "a number that is not the next",
        at(&fh, &close(Ops::new(), 15, &now)).status,
        S::BadSeqid,
    );
    agreed.same("CLOSE", at(&fh, &close(Ops::new(), 11, &now)).status, S::Ok);
    agreed.same(
        "READ after CLOSE",
        at(&fh, &read(Ops::new(), &now, 1)).status,
        S::BadStateid,
    );
    agreed.end();
}
