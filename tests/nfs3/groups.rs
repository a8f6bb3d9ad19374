//! Groups that the server looks up (`manage_gids`), in databases of users and groups that are the test's own.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nfsd::nfs3::status::Nfsstat3;
use nfsd::nfs3::types::{Sattr3, StableHow};
use tests::client::nfs3::Outcome as _;
use tests::client::{Client, Login, PATIENCE};
use tests::daemon::{Setup, TestServer, fresh_dir, policies};
use tests::need::{self, Need};

const NEEDS: &[Need] = &[
    Need::Root,
    Need::Program("unshare", "util-linux"),
    Need::Program("nsenter", "util-linux"),
];
const MANAGED: &str = "manage_gids = true";

/// In all of [`GROUPS`], and its own.
const MEMBER: u32 = 4001;
/// In none but its own.
const OTHER: u32 = 4002;
/// Not in the database.
const STRANGER: u32 = 4003;
/// More than AUTH_SYS has room for.
const GROUPS: std::ops::RangeInclusive<u32> = 5001..=5020;
/// Nobody's.
const FALSE: u32 = 5021;

/// A file and a directory for each group and nobody else.
fn populate(export: &Path) {
    for gid in GROUPS.chain([FALSE]) {
        let (file, dir) = (format!("f{gid}"), format!("d{gid}"));
        let (file, dir) = (export.join(file), export.join(dir));
        fs::write(&file, "data").expect("a file");
        fs::create_dir(&dir).expect("a directory");
        for (path, mode) in [(&file, 0o060), (&dir, 0o070)] {
            chown(path, Some(0), Some(gid)).expect("chown");
            fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
        }
    }
    fs::write(export.join("open"), "data").expect("a file");
}

fn start(policy: &str, config: &str) -> TestServer {
    let dir = fresh_dir();
    populate(&dir.path().join("export"));
    let accounts = dir.path().join("accounts");
    fs::create_dir(&accounts).expect("a directory");
    let mut passwd = "root:x:0:0::/:/bin/sh\n".to_owned();
    let mut group = "root:x:0:\n".to_owned();
    for (name, uid) in [("member", MEMBER), ("other", OTHER)] {
        passwd += &format!("{name}:x:{uid}:{uid}::/:/bin/sh\n");
        group += &format!("{name}:x:{uid}:\n");
    }
    GROUPS.for_each(|gid| group += &format!("g{gid}:x:{gid}:member\n"));
    let files = "passwd: files\ngroup: files\n".to_owned();
    for (name, text) in [
        ("passwd", passwd),
        ("group", group),
        ("nsswitch.conf", files),
    ] {
        fs::write(accounts.join(name), text).expect("a database");
    }
    let setup = Setup {
        accounts: Some(accounts),
        ..Setup::config(config)
    };
    setup.policy(policy).start_in(dir)
}

fn user(uid: u32, gid: u32, gids: &[u32]) -> Login {
    let gids = gids.to_vec();
    Login::Sys { uid, gid, gids }
}

/// Whether a caller has the rights of a group, for the server's own decision (READ of an open file) and for the kernel's.
#[track_caller]
fn has(client: &mut Client, root: &[u8], login: Login, group: u32) -> bool {
    client.as_user(login, |client| {
        let file = client.fh_of(root, format!("f{group}").as_bytes());
        let dir = client.fh_of(root, format!("d{group}").as_bytes());
        let read = client.read(&file, 0, 10).status();
        let made = client.mkdir(&dir, b"made", Sattr3::default()).status();
        if made == Nfsstat3::Ok {
            client.rmdir(&dir, b"made").expect("RMDIR");
        }
        assert_eq!(read, made, "READ and MKDIR");
        assert!([Nfsstat3::Ok, Nfsstat3::Acces].contains(&read), "{read}");
        read == Nfsstat3::Ok
    })
}

#[test]
fn groups_are_those_of_the_server() {
    if !need::have("groups_are_those_of_the_server", &[NEEDS]) {
        return;
    }
    for policy in policies() {
        let server = start(&policy, MANAGED);
        let (client, root) = &mut server.mounted();
        // A primary group is the client's to choose, and that of no other request.
        assert!(has(client, root, user(OTHER, FALSE, &[]), FALSE));
        assert!(!has(client, root, user(OTHER, OTHER, &[]), FALSE));
        // More than 16, and none that only the client knows of.
        let sixteen: Vec<u32> = (FALSE..).take(16).collect();
        for claimed in [&[][..], &[FALSE], &sixteen] {
            let member = user(MEMBER, MEMBER, claimed);
            for group in GROUPS {
                assert!(has(client, root, member.clone(), group), "{group}");
            }
            assert!(!has(client, root, member, FALSE), "{claimed:?}");
        }
        for uid in [OTHER, STRANGER] {
            let claims = user(uid, uid, &[5001, FALSE]);
            assert!(!has(client, root, claims.clone(), 5001), "{uid}");
            assert!(!has(client, root, claims, FALSE), "{uid}");
        }
        // A file may be given to groups its owner is in.
        client.as_user(user(MEMBER, MEMBER, &[FALSE]), |client| {
            let own = client.new_file(root, b"own", 0o644);
            let group = |gid| Sattr3 {
                gid: Some(gid),
                ..Sattr3::default()
            };
            client.setattr(&own, group(5020), None).expect("SETATTR");
            assert_eq!(client.attr(&own).gid, 5020);
            let refused = client.setattr(&own, group(FALSE), None).status();
            assert_eq!(refused, Nfsstat3::Perm);
        });
    }
    // Without it, the client is believed.
    let server = start(&policies()[0], "");
    let (client, root) = &mut server.mounted();
    assert!(has(client, root, user(MEMBER, MEMBER, &[FALSE]), FALSE));
    assert!(!has(client, root, user(MEMBER, MEMBER, &[]), 5001));
}

/// Something in place of the server's database of users.
struct Broken<'a> {
    server: &'a TestServer,
}

impl<'a> Broken<'a> {
    #[track_caller]
    fn by(server: &'a TestServer, by: &Path) -> Broken<'a> {
        let by = by.display().to_string();
        inside(server, &["mount", "--bind", &by, "/etc/passwd"]);
        Broken { server }
    }
}

impl Drop for Broken<'_> {
    fn drop(&mut self) {
        inside(self.server, &["umount", "/etc/passwd"]);
    }
}

/// Runs a command in the mount namespace of a server.
fn inside(server: &TestServer, command: &[&str]) {
    let pid = server.pid().to_string();
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["-t", &pid, "-m", "--"]).args(command);
    assert!(nsenter.status().expect("nsenter").success(), "{command:?}");
}

#[track_caller]
fn wait(what: &str, mut until: impl FnMut() -> bool) {
    let late = Instant::now() + PATIENCE;
    while !until() {
        assert!(Instant::now() < late, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// While the database fails nobody has groups but who was asked for before; afterwards it is asked again.
#[test]
fn a_name_service_that_fails() {
    if !need::have("a_name_service_that_fails", &[NEEDS]) {
        return;
    }
    let server = start("adaptive", MANAGED);
    let (client, root) = &mut server.mounted();
    // A file that cannot be opened.
    let socket = server.dir().join("socket");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    let broken = Broken::by(&server, &socket);
    let member = user(MEMBER, MEMBER, &[5001, FALSE]);
    assert!(!has(client, root, member.clone(), 5001));
    assert!(!has(client, root, member.clone(), FALSE));
    assert!(
        server.log().contains("cannot be looked up"),
        "{}",
        server.log()
    );
    drop(broken);
    wait("never asked again", || {
        has(client, root, member.clone(), 5001)
    });
    let _broken = Broken::by(&server, &socket);
    assert!(has(client, root, member, 5001), "what is known is known");
}

/// While the database does not answer, who has to be asked for waits, and nobody else.
#[test]
fn a_name_service_that_hangs() {
    if !need::have("a_name_service_that_hangs", &[NEEDS]) {
        return;
    }
    let server = start("adaptive", MANAGED);
    let (client, root) = &mut server.mounted();
    assert!(has(client, root, user(MEMBER, MEMBER, &[]), 5001));
    let fifo: PathBuf = server.dir().join("fifo");
    let path = fifo.display().to_string();
    let made = Command::new("mkfifo").arg(&path).status();
    assert!(made.expect("mkfifo").success());
    let open = client.fh_of(root, b"open");
    let broken = Broken::by(&server, &fifo);
    let mut waiting = server.client().with_login(user(OTHER, OTHER, &[]));
    let xid = waiting.start_write(&open, 0, b"x", StableHow::Unstable);
    wait("never asked", || server.stat("requests.in_flight") > 0);
    for group in GROUPS {
        assert!(has(client, root, user(MEMBER, MEMBER, &[]), group));
    }
    let answer = waiting.try_record(Duration::ZERO);
    assert!(answer.is_err(), "answered without its groups");
    // An empty database.
    drop(File::options().write(true).open(&fifo).expect("the fifo"));
    assert_eq!(waiting.finish_write(xid).status(), Nfsstat3::Acces);
    drop(broken);
}
