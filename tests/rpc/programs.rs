//! MOUNT, the port mapper, and where the server listens.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

use nfsd::mount::types::{Dirpath, Fhstatus, MOUNT_PROGRAM, MountProc, Mountstat3, Stat1};
use nfsd::nfs3::args::Mkdir3Args;
use nfsd::nfs3::res::Create3Res;
use nfsd::nfs3::status::Nfsstat3;
use nfsd::nfs3::{NFS_PROGRAM, Proc3};
use nfsd::rpc::msg::Refusal;
use nfsd::rpc::portmap::{Mapping, PMAP_PROG, PmapList, PmapProc};
use tests::client::mount::{mount1, mount3, pmap};
use tests::client::nfs3::{Outcome as _, at, mode, nfs3};
use tests::client::{Client, Login, PATIENCE};
use tests::daemon::{Setup, TestServer, fresh_dir, policies};

#[track_caller]
fn wait(what: &str, mut until: impl FnMut() -> bool) {
    let late = Instant::now() + PATIENCE;
    while !until() {
        assert!(Instant::now() < late, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn mount_version_3() {
    let server = TestServer::start();
    let mut client = server.client();
    let path = server.export();
    client.call(mount3(MountProc::Null), &()).results::<()>();
    let (root, flavors) = client.mnt(path.as_os_str().as_bytes()).expect("MNT");
    assert_eq!(flavors, [1]);
    client.attr(&root);
    let shown = path.display().to_string();
    let listed = client.exports();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].dir, shown);
    assert_eq!(client.dump(), [("127.0.0.1".to_owned(), shown.clone())]);
    let args = Dirpath(shown.as_bytes());
    client.call(mount3(MountProc::Umnt), &args).results::<()>();
    assert_eq!(client.dump(), []);
    client.mount(&path);
    client.call(mount3(MountProc::Umntall), &()).results::<()>();
    assert_eq!(client.dump(), []);
    // MOUNT is for everybody; NFS then is not.
    client.set_login(Login::None);
    client.mount(&path);
}

/// Directories below the export can be mounted, by their real names only; nothing else can, and nobody learns why.
#[test]
fn paths_of_mnt() {
    let dir = fresh_dir();
    let make = |name: &str| std::fs::create_dir_all(dir.path().join(name)).expect("mkdir");
    make("export/below/deep");
    make("outside");
    let link = |to: &str, name: &str| {
        std::os::unix::fs::symlink(to, dir.path().join(name)).expect("a link");
    };
    link("below", "export/link");
    link("/", "export/slash");
    link("../outside", "export/out");
    std::fs::write(dir.path().join("export/file"), "x").expect("a file");
    let server = Setup::default().start_in(dir);
    let mut client = server.client();
    let base = server.export().display().to_string();
    let mut mnt = |path: &str| client.mnt(path.as_bytes()).map(|(fh, _)| fh);
    let root = mnt(&base).expect("the export");
    assert_eq!(mnt(&format!("{base}/")), Ok(root.clone()));
    assert_eq!(mnt(&format!("{base}//")), Ok(root.clone()));
    let deep = mnt(&format!("{base}/below/deep")).expect("a directory below");
    assert_ne!(deep, root);
    for refused in [
        "/",
        "",
        "export",
        "/nowhere",
        &server.dir().display().to_string(),
        &format!("{}/outside", server.dir().display()),
        &format!("{base}/."),
        &format!("{base}/.."),
        &format!("{base}/../outside"),
        &format!("{base}/below/../../outside"),
        &format!("{base}x"),
        &format!("{base}/nul\0byte"),
    ] {
        assert_eq!(mnt(refused), Err(Mountstat3::Acces), "{refused}");
    }
    for (below, statuses) in [
        ("link", &[Mountstat3::Notdir, Mountstat3::Acces][..]),
        ("link/deep", &[Mountstat3::Notdir, Mountstat3::Acces]),
        ("slash/etc", &[Mountstat3::Notdir, Mountstat3::Acces]),
        ("out", &[Mountstat3::Notdir, Mountstat3::Acces]),
        ("file", &[Mountstat3::Notdir]),
        ("file/x", &[Mountstat3::Notdir]),
        ("nothing", &[Mountstat3::Noent]),
    ] {
        let status = mnt(&format!("{base}/{below}")).expect_err(below);
        assert!(statuses.contains(&status), "{below}: {status}");
    }
    let long = format!("{base}/{}", "n".repeat(256));
    assert_eq!(mnt(&long), Err(Mountstat3::Nametoolong));
    let answer = client.call(
        mount3(MountProc::Mnt),
        &nfsd::nfs3::types::Nfspath3(&[b'/'; 1025]),
    );
    assert_eq!(answer.outcome(), Err(Refusal::GarbageArgs));
}

/// Version 1 has handles of 32 bytes, which ours do not fit: MNT says so, the rest works.
#[test]
fn mount_version_1() {
    let server = TestServer::start();
    let mut client = server.client();
    client.call(mount1(MountProc::Null), &()).results::<()>();
    let path = server.export();
    let answer = client.call(
        mount1(MountProc::Mnt),
        &Dirpath(path.as_os_str().as_bytes()),
    );
    let status: Fhstatus = answer.results();
    assert_eq!(status.ok(), Err(Stat1(13)));
    let answer = client.call(mount1(MountProc::Export), &());
    let list: nfsd::mount::types::Exports<'_> = answer.results();
    assert_eq!(list.iter().count(), 1);
    client.call(mount1(MountProc::Umntall), &()).results::<()>();
}

#[test]
fn the_port_mapper() {
    // An address of its own: the port of the port mapper is fixed.
    let server = Setup {
        listen: vec!["127.77.3.4:0".to_owned()],
        ..Setup::default()
    };
    let server = server.args(&["--portmapper"]).start();
    let port = server.addr().port();
    let mapper = SocketAddr::new(server.addr().ip(), 111);
    assert!(server.addrs().contains(&mapper), "{:?}", server.addrs());
    let mut client = Client::connect(mapper);
    client.pmap(PmapProc::Null, &()).results::<()>();
    for (prog, vers, prot, expected) in [
        (NFS_PROGRAM, 3, 6, port),
        (MOUNT_PROGRAM, 3, 6, port),
        (MOUNT_PROGRAM, 1, 6, port),
        (NFS_PROGRAM, 3, 17, 0),
        (NFS_PROGRAM, 2, 6, 0),
        (100_021, 4, 6, port),
        (100_024, 1, 6, port),
        (100_227, 3, 6, port),
    ] {
        let got = client.getport(prog, vers, prot);
        assert_eq!(got, u32::from(expected), "{prog} {vers} {prot}");
    }
    let answer = client.call(pmap(PmapProc::Dump), &());
    let list: PmapList<'_> = answer.results();
    let nfs = Mapping {
        prog: NFS_PROGRAM,
        vers: 3,
        prot: 6,
        port: u32::from(port),
    };
    assert!(list.iter().any(|mapping| mapping == nfs));
    // Nobody registers anything here, and nobody calls through it.
    let set = client.pmap(PmapProc::Set, &nfs);
    assert!(!set.results::<bool>());
    let unset = client.pmap(PmapProc::Unset, &nfs);
    assert!(!unset.results::<bool>());
    let callit = client.pmap(PmapProc::Callit, &nfs);
    assert_eq!(callit.outcome(), Err(Refusal::ProcUnavail));
    let answer = client.call([PMAP_PROG, 4, 0], &());
    answer.results::<()>();
    let answer = client.call([PMAP_PROG, 9, 0], &());
    assert_eq!(
        answer.outcome(),
        Err(Refusal::ProgMismatch { low: 2, high: 4 })
    );
}

#[test]
fn ipv6_and_several_addresses() {
    let listen = ["127.0.0.1:0", "[::1]:0", "127.0.0.2:0"];
    let setup = Setup {
        listen: listen.map(str::to_owned).to_vec(),
        ..Setup::default()
    };
    let server = setup.start();
    assert_eq!(server.addrs().len(), 3);
    let mut handles = Vec::new();
    for addr in server.addrs() {
        let mut client = Client::connect(*addr);
        let root = client.mount(&server.export());
        client.attr(&root);
        handles.push(root);
    }
    handles.dedup();
    assert_eq!(handles.len(), 1, "one export, one handle");
    let mut client = Client::connect(server.addrs()[1]);
    client.mount(&server.export());
    assert!(client.dump().iter().any(|(host, _)| host == "::1"));
}

/// A second server on the same addresses says so and ends.
#[test]
fn an_address_in_use() {
    let server = TestServer::start();
    let dir = fresh_dir();
    let output = std::process::Command::new(tests::daemon::binary())
        .arg("serve")
        .arg(dir.path().join("export"))
        .args(["--listen", &server.addr().to_string()])
        .arg("--state-dir")
        .arg(dir.path().join("state"))
        .arg("--runtime-dir")
        .arg(dir.path().join("runtime"))
        .output()
        .expect("a second server");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&server.addr().to_string()), "{said}");
    server.client().null();
}

/// The kernel may have the address of a killed server for a while yet: the next one waits until it is free.
#[test]
fn an_address_in_use_for_a_while() {
    // An address of its own: nobody else is given its port meanwhile.
    let held = TcpListener::bind("127.77.3.5:0").expect("a port");
    let addr = held.local_addr().expect("its address");
    let dir = fresh_dir();
    let log = dir.path().join("log");
    let setup = Setup {
        listen: vec![addr.to_string()],
        ..Setup::default()
    };
    let waited = std::thread::spawn(move || {
        let said = || std::fs::read_to_string(&log).unwrap_or_default();
        wait("the server's first try", || said().contains("in use"));
        let served = said().contains("serving");
        drop(held);
        served
    });
    let server = setup.start_in(dir);
    assert!(
        !waited.join().expect("the other server"),
        "on a port in use"
    );
    assert_eq!(server.addr(), addr);
    server.client().null();
}

/// Requests in flight keep the export they matched, at whatever point they wait when it becomes read-only or goes.
#[test]
fn requests_in_flight_keep_their_export() {
    const ONE: &str = "@DIR@/one *(rw,insecure,no_root_squash)\n@DIR@/two *(rw,insecure)";
    const READ_ONLY: &str = "@DIR@/one *(ro,insecure,no_root_squash)\n@DIR@/two *(rw,insecure)";
    const REMOVED: &str = "@DIR@/two *(rw,insecure)";
    for policy in policies() {
        let dir = fresh_dir();
        for name in ["one", "two"] {
            std::fs::create_dir(dir.path().join(name)).expect("mkdir");
        }
        let mut server = Setup::exports(ONE).policy(&policy).faults("").start_in(dir);
        let one = server.dir().join("one");
        let mut client = server.client();
        for (exports, then) in [(READ_ONLY, Nfsstat3::Rofs), (REMOVED, Nfsstat3::Stale)] {
            let mut points = 0;
            loop {
                server.reexport(ONE).expect("a reload");
                let root = client.mount(&one);
                let name = format!("{then:?}{points}").into_bytes();
                let held = server.control(&format!("faults *:hold:{points}:1"));
                held.expect("fault injection");
                let args = Mkdir3Args {
                    where_: at(&root, &name),
                    attributes: mode(0o755),
                };
                let xid = client.start(nfs3(Proc3::Mkdir), &args);
                let mut record = None;
                wait("neither held nor answered", || {
                    let soon = Duration::from_millis(1);
                    record = client.try_record(soon).ok().flatten();
                    let held = || server.control("faults held").expect("faults");
                    record.is_some() || held().trim() != "0"
                });
                if record.is_none() {
                    server.reexport(exports).expect("a reload");
                    assert_eq!(client.mkdir(&root, b"other", mode(0o755)).status(), then);
                }
                server.control("faults").expect("fault injection");
                if record.is_some() {
                    break;
                }
                let answer = client.answer(xid);
                let made: Create3Res<'_> = answer.results();
                let made = made.ok().expect("MKDIR of before the reload");
                assert!(made.obj.is_some() && made.obj_attributes.is_some());
                assert_eq!(client.mkdir(&root, b"next", mode(0o755)).status(), then);
                assert!(one.join(String::from_utf8_lossy(&name).as_ref()).is_dir());
                points += 1;
            }
            println!("{policy}: MKDIR waits at {points} points");
            assert!(points > 0, "never held");
        }
    }
}

/// SIGHUP and `reload` replace the exports; what is gone is STALE, what stays keeps its handles.
#[test]
fn exports_replaced_while_serving() {
    let dir = fresh_dir();
    for name in ["one", "two"] {
        std::fs::create_dir(dir.path().join(name)).expect("mkdir");
    }
    let setup = Setup::exports("@DIR@/one *(rw,insecure,no_root_squash)\n@DIR@/two *(rw,insecure)");
    let mut server = setup.start_in(dir);
    let mut client = server.client();
    let (one, two) = (server.dir().join("one"), server.dir().join("two"));
    let (one_fh, two_fh) = (client.mount(&one), client.mount(&two));
    let said = server.reexport("@DIR@/one *(ro,insecure,no_root_squash)");
    assert!(said.expect("a reload").contains("1 exported"));
    client.attr(&one_fh);
    assert_eq!(client.getattr(&two_fh).status(), Nfsstat3::Stale);
    let made = client.mkdir(&one_fh, b"d", Default::default());
    assert_eq!(made.status(), Nfsstat3::Rofs, "options take effect at once");
    assert_eq!(client.exports().len(), 1);
    // A file with a mistake changes nothing.
    let refused = server.reexport("@DIR@/one *(rw,nonsense)");
    assert!(refused.expect_err("nonsense").contains("nonsense"));
    let made = client.mkdir(&one_fh, b"d", Default::default());
    assert_eq!(made.status(), Nfsstat3::Rofs);
    // The same again by signal: the old handle is good again.
    let text = "@DIR@/one *(rw,insecure,no_root_squash)\n@DIR@/two *(rw,insecure)";
    server.write_exports(text);
    assert_eq!(client.getattr(&two_fh).status(), Nfsstat3::Stale);
    let reloads = |server: &TestServer| server.log().matches("reloaded: ").count();
    let before = reloads(&server);
    server.signal(rustix::process::Signal::HUP);
    wait("SIGHUP", || reloads(&server) > before);
    client.attr(&two_fh);
    client
        .mkdir(&one_fh, b"d", Default::default())
        .expect("MKDIR");
    assert_eq!(client.mount(&two), two_fh);
}
