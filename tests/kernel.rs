//! The real Linux NFS client (user-mode Linux 6.1) against the server, with every protocol version.
//!
//! `RINGNFS_SERVER=ganesha|knfsd` runs the same tests against a peer; `RINGNFS_SOAK=1` the long variants;
//! `RINGNFS_VERSIONS=3,4.2` (or `all`) those versions.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Instant;

use tests::image::{Fs, Image};
use tests::need::{self, GUEST, number, soak};
use tests::netns::Rig;
use tests::server::{self, Config, Kind, Server};
use tests::uml::{Boot, Guest};
use tests::version::Version;

/// One server, one guest, not mounted yet. Fields drop in this order.
pub struct Bed {
    pub guest: Arc<Guest>,
    pub server: Server,
    pub rig: Arc<Rig>,
    pub version: Version,
    test: String,
    start: Instant,
}

/// Everything a test needs, or None after saying what is missing.
pub fn bed(test: &str, version: Version, config: &Config) -> Option<Bed> {
    if !need::have(test, &[GUEST, config.kind.needs()]) {
        return None;
    }
    let start = Instant::now();
    let rig = Rig::new();
    rig.place(&PathBuf::from(env!("CARGO_BIN_EXE_guest")));
    let server = Server::start(&rig, config);
    let guest = Arc::new(Guest::boot(&rig, &Boot::default()));
    Some(Bed {
        guest,
        server,
        rig,
        version,
        test: test.to_owned(),
        start,
    })
}

impl Drop for Bed {
    fn drop(&mut self) {
        eprintln!("{}: {:.1} s", self.test, self.start.elapsed().as_secs_f64());
    }
}

impl Bed {
    /// Mounts the export at /mnt/nfs.
    pub fn mount(&self, options: &str) {
        self.mount_on(&self.guest, options);
    }

    /// Mounts the export at /mnt/nfs of another guest.
    pub fn mount_on(&self, guest: &Guest, options: &str) {
        // A server in its grace period lets a first mount wait.
        let target = &self.server.target;
        guest.ok(120, &target.mount(self.version, "/mnt/nfs", options));
    }

    /// Another guest of the same rig, 10.99.0.`addr`, with the export mounted.
    pub fn another(&self, addr: u8) -> Guest {
        let boot = Boot {
            addr,
            ..Boot::default()
        };
        let guest = Guest::boot(&self.rig, &boot);
        self.mount_on(&guest, "");
        guest
    }
}

/// Not a test: runs the shell script `RINGNFS_SCRIPT` in a guest with the export mounted at /mnt/nfs.
/// `RINGNFS_VERSIONS=4.2 RINGNFS_SCRIPT='ls -l /mnt/nfs' cargo test -p tests script -- --ignored --nocapture`
#[test]
#[ignore = "a tool for looking around"]
fn script() {
    let version = std::env::var("RINGNFS_VERSIONS").unwrap_or("3".into());
    let version = Version::ALL.into_iter().find(|v| v.name() == version);
    let version = version.expect("RINGNFS_VERSIONS: one version");
    let Some(bed) = bed("kernel::script", version, &Config::default()) else {
        return;
    };
    bed.mount(&std::env::var("RINGNFS_OPTIONS").unwrap_or_default());
    let script = std::env::var("RINGNFS_SCRIPT").expect("RINGNFS_SCRIPT");
    let out = bed.guest.run(number("RINGNFS_SECONDS", 600), &script);
    eprintln!(
        "{}
--- status {}
--- server\n{}",
        out.output,
        out.status,
        bed.server.log(2000)
    );
}

/// Not a test: runs the shell script `RINGNFS_SCRIPT` on this machine, beside a server, in its network; the server is at
/// `$HOST`:`$PORT` and exports `$EXPORT` (v4). For protocol suites of others:
/// `RINGNFS_SERVER=ganesha RINGNFS_SCRIPT='...' cargo test -p tests beside -- --ignored --nocapture`
#[test]
#[ignore = "a tool for looking around"]
fn beside() {
    let config = Config::default();
    if !need::have("kernel::beside", &[GUEST, config.kind.needs()]) {
        return;
    }
    let rig = Rig::new();
    let server = Server::start(&rig, &config);
    let script = std::env::var("RINGNFS_SCRIPT").expect("RINGNFS_SCRIPT");
    let target = &server.target;
    let status = rig
        .command("bash")
        .args(["-c", &script])
        .env("HOST", &target.host)
        .env("PORT", target.port.to_string())
        .env("EXPORT", &target.export4)
        .status();
    eprintln!("--- {:?}\n--- server\n{}", status, server.log(4000));
}

/// The oracle itself: what the checks demand holds on local file systems.
#[test]
fn checks_hold_on_local_file_systems() {
    if !need::have("kernel::checks_hold_on_local_file_systems", &[GUEST]) {
        return;
    }
    let rig = Rig::new();
    for kind in Fs::ALL {
        let image = Image::new(&rig, kind.name(), kind, 1024);
        let log = rig.dir().join("checks.log");
        let out = File::create(&log).expect("log");
        let status = rig
            .command(env!("CARGO_BIN_EXE_guest"))
            .env("FS", kind.name())
            .arg("checks")
            .arg(image.dir())
            .arg("local")
            .stdout(out.try_clone().expect("log"))
            .stderr(Stdio::from(out))
            .status()
            .expect("nsenter");
        assert!(
            status.success(),
            "{kind:?}:\n{}",
            fs::read_to_string(&log).unwrap_or_default()
        );
    }
}

by_version! { checks:
    checks_v3 V3 default, checks_v4_0 V4_0 soak, checks_v4_1 V4_1 default, checks_v4_2 V4_2 default,
}

/// Every check through the kernel client, on each file system; 4.0 and 4.1 on one of them, or on each in a soak.
fn checks(test: &str, version: Version) {
    let once = version != Version::V4_2 && !soak();
    for fs in Fs::ALL.into_iter().take(if once { 1 } else { 3 }) {
        let config = Config {
            fs,
            ..Config::default()
        };
        let Some(bed) = bed(test, version, &config) else {
            return;
        };
        bed.mount("");
        let name = fs.name();
        let script = format!("FS={name} $RIG/guest checks /mnt/nfs {version}; umount /mnt/nfs");
        let out = bed.guest.ok(600, &script);
        let told = |l: &&str| l.contains(": ") || l.ends_with("failed");
        let told: Vec<_> = out.lines().filter(told).collect();
        eprintln!("{test} on {fs:?}: {}", told.join("; "));
    }
}

/// The same binary on the guest's own kernel, Linux 6.1, mounted there: the oldest kernel it promises to run on.
#[test]
fn server_on_linux_6_1() {
    if !need::have("kernel::server_on_linux_6_1", &[GUEST]) {
        return;
    }
    let rig = Rig::new();
    rig.place(&PathBuf::from(env!("CARGO_BIN_EXE_guest")));
    rig.place(server::ringnfs());
    let disk = |name: &str| {
        let path = rig.dir().join(name);
        let image = File::create(&path).expect("disk");
        image.set_len(1 << 30).expect("size");
        path
    };
    // One for each run: the server's own mount keeps a file system busy for a moment after its end.
    let boot = Boot {
        disks: vec![disk("disk-a"), disk("disk-b")],
        ..Boot::default()
    };
    let guest = Guest::boot(&rig, &boot);
    for (policy, device) in [("ring", "/dev/ubda"), ("adaptive", "/dev/ubdb")] {
        let out = guest.ok(
            300,
            &format!(
                "uname -r; mkfs.ext4 -q -F {device}; mkdir -p /mnt/disk /mnt/nfs /tmp/state; mount {device} /mnt/disk
                modprobe -a nfs nfsv3
                $RIG/ringnfs serve /mnt/disk --listen 127.0.0.1:2049 --options rw,no_root_squash,insecure \\
                    --io-policy {policy} --state-dir /tmp/state --runtime-dir /tmp/state >/tmp/log 2>&1 &
                server=$!
                for i in $(seq 100); do grep -q serving /tmp/log && break; sleep 0.1; done
                cat /tmp/log
                mount -t nfs -o vers=3,proto=tcp,port=2049,mountport=2049,mountproto=tcp,nolock 127.0.0.1:/mnt/disk /mnt/nfs
                FS=ext4 $RIG/guest checks /mnt/nfs 3
                $RIG/ringnfs stats --runtime-dir /tmp/state | grep sqe
                umount /mnt/nfs; kill $server; wait $server; umount -l /mnt/disk"
            ),
        );
        assert!(out.contains("6.1."), "{out}");
        eprintln!("{policy}: {out}");
    }
}

by_version! { mount_options: mount_options_v3 V3 soak, mount_options_v4_0 V4_0 soak, mount_options_v4_1 V4_1 soak, mount_options_v4_2 V4_2 default }

/// Mount options: what /proc/mounts must then say, and that files work.
fn mount_options(test: &str, version: Version) {
    let Some(bed) = bed(test, version, &Config::default()) else {
        return;
    };
    let seen = format!("vers={version}");
    let table = [
        ("", seen.as_str()),
        ("sec=sys", "sec=sys"),
        ("proto=tcp6", "proto=tcp6"),
        ("rsize=4096,wsize=4096", "rsize=4096,wsize=4096"),
        ("rsize=1048576,wsize=1048576", seen.as_str()),
        ("rsize=65536,wsize=8192,sync", "sync"),
        (NCONNECT, NCONNECT),
        ("noac", "noac"),
        ("nordirplus", "nordirplus"),
        ("actimeo=1,lookupcache=none", "lookupcache=none"),
    ];
    let checks = match soak() {
        true => {
            "write_then_read random_reads append rename_table list_while_removing several_threads"
        }
        false => "write_then_read append several_threads",
    };
    for (options, seen) in table {
        if options == "proto=tcp6" && bed.server.target.host6.is_none() {
            eprintln!("{options}: this peer is not set up for IPv6");
            continue;
        }
        bed.mount(options);
        let script = format!(
            "grep ' /mnt/nfs nfs4\\? ' /proc/mounts | grep -F -- '{seen}'
             for c in {checks}; do
                 $RIG/guest checks /mnt/nfs {version} $c
             done"
        );
        bed.guest.ok(120, &script);
        if options == NCONNECT {
            each_connection_is_used(&bed);
        }
        bed.guest.ok(60, "umount /mnt/nfs");
    }
}

const NCONNECT: &str = "nconnect=4";

/// Every one of the mount's connections has carried requests and their replies; from 4.1 on, of one session.
fn each_connection_is_used(bed: &Bed) {
    // xprt: tcp PORT BINDS CONNECTS CONNECT-TIME IDLE-TIME SENDS RECEIVES ...
    let script = "awk '$1 == \"xprt:\" { print $8, $9 }' /proc/self/mountstats";
    let seen = bed.guest.ok(10, script);
    let used = |line: &&str| {
        line.split(' ')
            .all(|n| n.parse::<u64>().is_ok_and(|n| n > 0))
    };
    assert_eq!(seen.lines().filter(used).count(), 4, "{seen}");
    if Kind::from_env() != Kind::Ringnfs {
        return;
    }
    let stat = |name| bed.server.stat(name);
    assert!(stat("connections") >= 4, "{seen}");
    if bed.version >= Version::V4_1 {
        assert_eq!((stat("nfs4.clients"), stat("nfs4.sessions")), (1, 1));
    }
}

by_version! { read_only_mount: read_only_mount_v3 V3 default, read_only_mount_v4_0 V4_0 default, read_only_mount_v4_1 V4_1 soak, read_only_mount_v4_2 V4_2 soak }

/// A client-side read-only mount.
fn read_only_mount(test: &str, version: Version) {
    let Some(bed) = bed(test, version, &Config::default()) else {
        return;
    };
    bed.mount("");
    bed.guest
        .ok(60, "echo text >/mnt/nfs/file; umount /mnt/nfs");
    bed.mount("ro");
    let script = "grep -q text /mnt/nfs/file
        ! touch /mnt/nfs/new 2>/tmp/err; grep -q 'Read-only file system' /tmp/err; umount /mnt/nfs";
    bed.guest.ok(60, script);
}

by_version! { read_only_export: read_only_export_v3 V3 default, read_only_export_v4_0 V4_0 soak, read_only_export_v4_1 V4_1 default, read_only_export_v4_2 V4_2 soak }

/// An export that is read-only on the server's side: the client is told EROFS for every change.
fn read_only_export(test: &str, version: Version) {
    let config = Config {
        options: "ro,no_root_squash,insecure".into(),
        ..Config::default()
    };
    if config.kind == Kind::Ganesha {
        return; // set up read-write, without squashing
    }
    let Some(bed) = bed(test, version, &config) else {
        return;
    };
    bed.server.on_export("echo text >file; mkdir dir");
    bed.mount("");
    let mut script = String::from("cd /mnt/nfs; grep -q text file; ls -l dir\n");
    let erofs = "Read-only file system";
    // On version 3 the client asks ACCESS before it opens, and takes a missing MODIFY for EACCES (with knfsd too);
    // later ones open at the server.
    let open = if version.is_v4() {
        erofs
    } else {
        "Permission denied"
    };
    let table = [
        ("touch new", erofs),
        ("mkdir new", erofs),
        ("ln -s x new", erofs),
        ("ln file new", erofs),
        ("mv file new", erofs),
        ("rm file", erofs),
        ("rmdir dir", erofs),
        ("chmod 600 file", erofs),
        ("chown 1 file", erofs),
        ("mkfifo new", erofs),
        ("touch -c -h -d 2001-02-03 file", erofs),
        ("truncate -s 1 file", open),
        ("dd if=/dev/zero of=file", open),
    ];
    for (change, error) in table {
        script += &format!(
            "! {change} 2>/tmp/err; grep -q '{error}' /tmp/err || {{ echo {change}: $(cat /tmp/err); exit 1; }}\n"
        );
    }
    bed.guest.ok(60, &script);
}

by_version! { root_squash: root_squash_v3 V3 default, root_squash_v4_0 V4_0 default, root_squash_v4_1 V4_1 soak, root_squash_v4_2 V4_2 soak }

/// With root squashed, uid 0 of a client is nobody.
fn root_squash(test: &str, version: Version) {
    let config = Config {
        options: "rw,root_squash,insecure".into(),
        ..Config::default()
    };
    if config.kind == Kind::Ganesha {
        return; // set up read-write, without squashing
    }
    let Some(bed) = bed(test, version, &config) else {
        return;
    };
    bed.server.on_export("echo x >secret; chmod 600 secret");
    bed.mount("");
    let script = "cd /mnt/nfs; touch mine; stat -c %u:%g mine | grep -qx 65534:65534
        ! cat secret; ! chown 0 mine; ! rm -f secret; ! sh -c 'echo y >secret'";
    bed.guest.ok(60, script);
}

by_version! { large_directory: large_directory_v3 V3 soak, large_directory_v4_0 V4_0 soak, large_directory_v4_1 V4_1 soak, large_directory_v4_2 V4_2 default }

/// 100,000 names: a listing gives each once, and removing while listing leaves none.
fn large_directory(test: &str, version: Version) {
    let Some(bed) = bed(test, version, &Config::default()) else {
        return;
    };
    // 20,000 are many replies too.
    let many = soak() || !version.is_v4();
    let names = number("RINGNFS_NAMES", if many { 100_000 } else { 20_000 });
    // Behind the server's back, for speed; the long variant through the client.
    let make = format!("seq -f a-name-of-usual-length-%.0f {names} | xargs touch");
    if soak() {
        bed.mount("");
        bed.guest.ok(
            1800,
            &format!("mkdir /mnt/nfs/big; cd /mnt/nfs/big; {make}; cd /; umount /mnt/nfs"),
        );
    } else {
        bed.server.on_export(&format!("mkdir big; cd big; {make}"));
    }
    bed.mount("");
    let listed = bed.guest.ok(300, "$RIG/guest list /mnt/nfs/big");
    assert_eq!(listed.trim(), format!("{names} {names}"));
    let removed = number("RINGNFS_REMOVED", if soak() { names } else { 5_000 });
    let script = format!(
        "mkdir -m 777 /mnt/nfs/some; cd /mnt/nfs/some; seq -f name-%.0f {removed} | xargs touch
         $RIG/guest sweep /mnt/nfs/some; rmdir /mnt/nfs/some"
    );
    assert_eq!(bed.guest.ok(1800, &script).trim(), removed.to_string());
}

by_version! { two_clients: two_clients_v3 V3 soak, two_clients_v4_0 V4_0 soak, two_clients_v4_1 V4_1 soak, two_clients_v4_2 V4_2 default }

/// Two clients: what one closes the other sees when it opens, and exclusive creation excludes.
fn two_clients(test: &str, version: Version) {
    let Some(bed) = bed(test, version, &Config::default()) else {
        return;
    };
    bed.mount("");
    let other = bed.another(3);
    let (a, b) = (&*bed.guest, &other);
    // (who, what it does and expects to see), one after the other.
    let table = [
        (a, "cd /mnt/nfs; mkdir -m 777 d; printf 0123456789 >d/f"),
        (
            b,
            "cd /mnt/nfs; [ \"$(cat d/f)\" = 0123456789 ]; printf abc >>d/f",
        ),
        (
            a,
            "cd /mnt/nfs; [ \"$(cat d/f)\" = 0123456789abc ]; [ $(stat -c %s d/f) = 13 ]; printf x >d/f",
        ),
        (
            b,
            "cd /mnt/nfs; [ \"$(cat d/f)\" = x ]; [ $(stat -c %s d/f) = 1 ]; head -c 3000000 /dev/zero >>d/f",
        ),
        (
            a,
            "cd /mnt/nfs; [ $(tail -c +2 d/f | tr -d '\\0' | wc -c) = 0 ]; [ $(wc -c <d/f) = 3000001 ]; truncate -s 5 d/f",
        ),
        (
            b,
            "cd /mnt/nfs; [ $(wc -c <d/f) = 5 ]; mv d/f d/g; echo new >d/f",
        ),
        (
            a,
            "cd /mnt/nfs; sleep 4; ls d | tr '\\n' ' ' | grep -qx 'f g '; [ \"$(cat d/f)\" = new ]; rm d/g",
        ),
        (
            b,
            "cd /mnt/nfs; (! cat d/g 2>/tmp/e); grep -q 'No such file' /tmp/e; chmod 640 d/f; chown 5:6 d/f",
        ),
        (
            a,
            "cd /mnt/nfs; cat d/f >/dev/null; [ $(stat -c %a:%u:%g d/f) = 640:5:6 ]; rm d/f; rmdir d; mkdir d",
        ),
        (
            b,
            "cd /mnt/nfs; sleep 4; echo again >d/f; ls -A d | grep -qx f",
        ),
        (
            a,
            "cd /mnt/nfs; exec 5<d/f; sleep 1; echo ready; cat <&5 | grep -qx again",
        ),
        (b, "cd /mnt/nfs; rm d/f; echo other >d/f"),
        (a, "cd /mnt/nfs; [ \"$(cat d/f)\" = other ]; rm -r d"),
    ];
    for (guest, script) in table {
        guest.ok(60, script);
    }
    let times = number("RINGNFS_COUNT", if soak() { 5_000 } else { 150 });
    a.ok(10, "echo 0 >/mnt/nfs/counter; chmod 666 /mnt/nfs/counter");
    let script = format!("$RIG/guest count /mnt/nfs lock {times}");
    let (one, two) = (a.start(&script), b.start(&script));
    one.ok(600);
    two.ok(600);
    assert_eq!(
        a.ok(10, "cat /mnt/nfs/counter").trim(),
        (2 * times).to_string()
    );
    // The open file of one client that the other removes: the reader gets its data or ESTALE, never another file's.
    a.ok(10, "echo first >/mnt/nfs/file");
    let reader = a.start(
        "exec 5</mnt/nfs/file; : >$RIG/opened; await $RIG/removed
        echo 3 >/proc/sys/vm/drop_caches; cat <&5 2>&1 || true",
    );
    b.ok(
        30,
        "await $RIG/opened; rm /mnt/nfs/file; echo second >/mnt/nfs/file; : >$RIG/removed",
    );
    let read = reader.ok(60);
    assert!(
        read.trim() == "first" || read.contains("Stale file handle"),
        "{read}"
    );
}
