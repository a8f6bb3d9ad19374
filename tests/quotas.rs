//! Disk quotas, kept by ext4 in a guest (Linux 6.1 has them as a module; not every machine's kernel does): the server
//! in one guest, the real client in another, the raw client beside them.

use std::fs::File;
use std::net::SocketAddr;
use std::time::Duration;

use nfsd::nfs3::status::Nfsstat3;
use nfsd::nfs3::types::{Createhow3, StableHow};
use nfsd::nfs4::Op4;
use nfsd::nfs4::attr::bit;
use nfsd::nfs4::op::write::{StableHow4, WriteArgs};
use nfsd::nfs4::status::Nfsstat4;
use nfsd::nfs4::types::{Data4, Stateid4};
use tests::client::nfs3::{Outcome as _, mode};
use tests::client::nfs4::{Attrs, Ops, Results};
use tests::client::session::Session;
use tests::client::{Client, Fh, Login};
use tests::need::{self, GUEST, Need, not_chosen, soak};
use tests::netns::Rig;
use tests::server::{self, Kind, Target};
use tests::uml::{Boot, Guest};
use tests::version::Version;

const TOOLS: &[Need] = &[
    Need::Program("setquota", "quota"),
    Need::Program("setpriv", "util-linux"),
    Need::Program("fallocate", "util-linux"),
];

/// Last byte of the server's address.
const SERVER: u8 = 3;
const DISK: &str = "/mnt/disk";
/// Who has limits: KiB (soft, hard), inodes (hard).
const USER: u32 = 2001;
const SOFT: u64 = 512;
const HARD: u64 = 1024;
const INODES: u64 = 20;

/// In the guest of the server: a file system with limits, and the server on it.
fn serve(guest: &Guest, policy: &str) {
    let script = format!(
        "modprobe -a quota_tree quota_v2
        mkfs.ext4 -q -F -O quota -E quotatype=usrquota /dev/ubda; mkdir -p {DISK} /tmp/state
        mount -o noatime,usrquota /dev/ubda {DISK}; chmod 1777 {DISK}
        setquota -u {USER} {SOFT} {HARD} 0 {INODES} {DISK}
        $RIG/ringnfs serve {DISK} --listen 0.0.0.0:2049 --options rw,no_root_squash,insecure --grace-time 15s \\
            --lease-time 15s --io-policy {policy} --state-dir /tmp/state --runtime-dir /tmp/state >/tmp/log 2>&1 &
        for i in $(seq 100); do grep -q serving /tmp/log && exit 0; sleep 0.1; done; cat /tmp/log; exit 1"
    );
    guest.ok(60, &script);
}

/// Linux 6.1 closes what a server had registered a second after it was told to: `room FILE RECORDS` waits for space.
const ROOM: &str = r#"
room() {
    for i in $(seq 100); do
        if dd if=/tmp/source of=$1 bs=64k count=$2 conv=fsync 2>/dev/null; then return 0; fi
        sleep 0.1
    done
    echo "no room for $2 records after 10 s"; return 1
}
"#;

/// As the user, in the export. Every record dd counts was acknowledged as stable; the last line says how many.
const BEYOND: &str = r#"
# Written synchronously, until there is no more.
(! dd if=/tmp/source of=stable bs=64k oflag=sync 2>/tmp/said); grep -q 'Disk quota exceeded' /tmp/said
full=$(sed -n 's/+. records out//p' /tmp/said)
(! dd if=/tmp/source of=stable oflag=append,sync conv=notrunc bs=64k count=1 2>/tmp/said)
grep -q 'Disk quota exceeded' /tmp/said
# A new file has a name (inodes are left) but no room; what the application learns by fsync counts, too.
(! dd if=/tmp/source of=late bs=64k count=4 conv=fsync 2>/tmp/said); grep -q 'Disk quota exceeded' /tmp/said
rm late
# Room made is room used.
dd if=/tmp/source of=stable bs=64k count=4 conv=fsync status=none
dd if=/tmp/source of=again bs=64k count=8 conv=fsync status=none
cmp -n 262144 /tmp/source stable; cmp -n 524288 /tmp/source again
rm stable again
# Names run out, as well.
made=0
for i in $(seq 120); do
    if touch name$made 2>/tmp/said; then made=$((made + 1)); elif [ $made = 20 ]; then break; else sleep 0.1; fi
done
grep -q 'Disk quota exceeded' /tmp/said
echo "made $made"
rm name*
room kept 15
(! dd if=/tmp/source of=kept bs=64k oflag=sync 2>/tmp/said); grep -q 'Disk quota exceeded' /tmp/said
echo "full $full $(sed -n 's/+. records out//p' /tmp/said)"
"#;

/// Space reserved ahead and copied by the server is space, too (version 4.2).
const RESERVED: &str = r#"
rm kept
room kept 10
(! fallocate -l 4M reserved 2>/tmp/said); grep -q 'Disk quota exceeded' /tmp/said
(! cp kept copied 2>/tmp/said); grep -q 'Disk quota exceeded' /tmp/said
rm reserved copied
room kept 15
(! dd if=/tmp/source of=kept bs=64k oflag=sync 2>/tmp/said)
echo "full $(sed -n 's/+. records out//p' /tmp/said) $(sed -n 's/+. records out//p' /tmp/said)"
"#;

/// The numbers after the last `full` in what a script said: records of 64 KiB acknowledged.
fn full_records(said: &str) -> Vec<u64> {
    let line = said.lines().rfind(|line| line.starts_with("full "));
    let words = line.unwrap_or_default().split(' ').skip(1);
    words.filter_map(|word| word.parse().ok()).collect()
}

/// The command that mounts the export in the client's guest.
fn mount(version: Version) -> String {
    let target = Target {
        host: format!("10.99.0.{SERVER}"),
        host6: None,
        export: DISK.to_owned(),
        export4: DISK.to_owned(),
        port: 2049,
        mountport: 2049,
    };
    target.mount(version, "/mnt/nfs", "")
}

fn as_user(script: &str) -> String {
    format!(
        "export LC_ALL=C; cat >/tmp/script <<'END'\nset -e; cd /mnt/nfs\n{ROOM}\n{script}\nEND
        setpriv --reuid {USER} --regid {USER} --clear-groups bash /tmp/script"
    )
}

/// KiB in use and inodes, as the kernel of the server's guest counts them for the user.
fn used(guest: &Guest) -> (u64, u64) {
    let script = format!(
        "sync; LC_ALL=C repquota -unp -O csv {DISK} | awk -F, '$1 == \"#{USER}\" {{ print $4, $8 }}'"
    );
    let said = guest.ok(30, &script);
    let mut words = said.split_whitespace().map(|word| word.parse().ok());
    let mut word = || words.next().flatten();
    let (Some(kib), Some(inodes)) = (word(), word()) else {
        panic!("repquota: {said}")
    };
    (kib, inodes)
}

/// Another file: what is refused to the user is refused by name, what others do is not refused.
fn raw_v3(mut client: Client) {
    let root = client.mount(DISK.as_ref());
    let user = Login::user(USER, USER);
    let chunk = vec![5; 256 << 10];
    client.set_login(user.clone());
    let file = client.new_file(&root, b"raw3", 0o666);
    for stable in [StableHow::FileSync, StableHow::Unstable] {
        let mut status = client.write(&file, 0, &chunk, stable).status();
        if status == Nfsstat3::Ok {
            status = client.commit(&file, 0, 0).status();
        }
        assert_eq!(status, Nfsstat3::Dquot, "{stable:?}");
    }
    let made = client.mkdir(&root, b"dir3", mode(0o755)).status();
    assert_eq!(made, Nfsstat3::Dquot);
    client.set_login(Login::user(USER + 1, USER + 1));
    let other = Createhow3::Guarded(mode(0o644));
    let made = client.create(&root, b"other3", other);
    let other = made.expect("another user").fh;
    for n in 0..8 {
        let wrote = client.write(&other, n << 18, &chunk, StableHow::FileSync);
        assert_eq!(wrote.status(), Nfsstat3::Ok, "of another user");
    }
    client.set_login(user);
    client.remove(&root, b"raw3").expect("REMOVE");
}

const QUOTA: [u32; 3] = [
    bit::QUOTA_AVAIL_HARD,
    bit::QUOTA_AVAIL_SOFT,
    bit::QUOTA_USED,
];

/// A client of version 4, with a session from 4.1 on.
enum Caller {
    Plain(Client),
    Session(Box<Session>),
}

impl Caller {
    fn new(client: Client, minor: u32) -> Caller {
        match minor {
            0 => Caller::Plain(client),
            _ => Caller::Session(Box::new(Session::new(client, minor))),
        }
    }

    fn set_login(&mut self, login: Login) {
        match self {
            Caller::Plain(client) => client.set_login(login),
            Caller::Session(session) => session.client.set_login(login),
        }
    }

    fn call(&mut self, ops: &Ops) -> Results {
        match self {
            Caller::Plain(client) => client.compound(0, ops),
            Caller::Session(session) => session.call(ops),
        }
    }

    fn walk(&mut self, path: &str) -> Fh {
        let mut done = self.call(&Ops::new().putrootfh().walk(path).getfh());
        done.ok(Op4::Putrootfh);
        while done.left > 1 {
            done.ok(Op4::Lookup);
        }
        done.fh()
    }

    fn quota_of(&mut self, root: &[u8]) -> Attrs {
        let mut done = self.call(&Ops::new().putfh(root).getattr(&QUOTA));
        done.ok(Op4::Putfh);
        done.attrs()
    }
}

/// The status of a WRITE, and the attributes of who has limits and who has none.
fn raw_v4(client: Client, minor: u32, guest: &Guest) {
    let mut caller = Caller::new(client, minor);
    let root = caller.walk(DISK);
    let file = caller.walk(&format!("{DISK}/kept"));
    caller.set_login(Login::user(USER, USER));
    let args = WriteArgs {
        stateid: Stateid4::ANONYMOUS,
        offset: 4 << 20,
        stable: StableHow4::FileSync,
        data: Data4(&[6; 64 << 10]),
    };
    let mut done = caller.call(&Ops::new().putfh(&file).op(Op4::Write, &args));
    done.ok(Op4::Putfh);
    assert_eq!(done.status_of(Op4::Write), Nfsstat4::Dquot);
    let attrs = caller.quota_of(&root);
    let (kib, _) = used(guest);
    let values = QUOTA.map(|number| attrs.get::<u64>(number));
    let left = |limit: u64| limit.saturating_sub(kib) << 10;
    assert_eq!(
        values,
        [left(HARD), left(SOFT), kib << 10],
        "{kib} KiB used"
    );
    for free in [Login::root(), Login::user(USER + 1, USER + 1)] {
        caller.set_login(free.clone());
        assert!(caller.quota_of(&root).0.is_empty(), "{free:?}");
    }
}

by_version! { quotas: quotas_v3 V3 default, quotas_v4_0 V4_0 soak, quotas_v4_1 V4_1 soak, quotas_v4_2 V4_2 default }

/// A user's limits end what that user writes, and nobody else's; what was acknowledged before is there.
fn quotas(test: &str, version: Version) {
    if Kind::from_env() != Kind::Ringnfs {
        return not_chosen(test, "peers are not set up with quotas");
    }
    if !need::have(test, &[GUEST, TOOLS]) {
        return;
    }
    // Both on each version in a soak, one on each otherwise.
    let policies = match version {
        _ if soak() => &["ring", "adaptive"][..],
        Version::V3 => &["ring"],
        _ => &["adaptive"],
    };
    for policy in policies {
        on(version, policy);
    }
}

fn on(version: Version, policy: &str) {
    let rig = Rig::new();
    rig.place(server::ringnfs());
    let disk = rig.dir().join("disk");
    let image = File::create(&disk).and_then(|file| file.set_len(64 << 20));
    image.expect("a disk");
    let boot = |addr, disks| {
        let boot = Boot {
            addr,
            disks,
            ..Boot::default()
        };
        Guest::boot(&rig, &boot)
    };
    let (keeper, guest) = (boot(SERVER, vec![disk]), boot(2, Vec::new()));
    serve(&keeper, policy);
    guest.ok(
        120,
        &format!("{}; head -c 4M /dev/urandom >/tmp/source", mount(version)),
    );
    let mut said = guest.ok(240, &as_user(BEYOND));
    assert!(said.contains(&format!("made {INODES}\n")), "{said}");
    if version == Version::V4_2 {
        said += &guest.ok(240, &as_user(RESERVED));
    }
    // Without what clusters and the file's own extents take, all of the limit was given.
    let records = full_records(&said);
    let least = HARD / 64 - 1;
    let as_limited = |n: &u64| (least..=HARD / 64).contains(n);
    assert!(
        records.len() == 2 && records.iter().all(as_limited),
        "{said}"
    );
    // All that was acknowledged, on the server's disk and for a client that knows nothing.
    let kept = records.last().copied().unwrap_or(0) << 16;
    let copied = "cp /tmp/source $RIG/source; umount /mnt/nfs";
    guest.ok(
        60,
        &format!(
            "{copied}; {}; cmp -n {kept} /tmp/source /mnt/nfs/kept",
            mount(version)
        ),
    );
    keeper.ok(30, &format!("cmp -n {kept} $RIG/source {DISK}/kept"));
    let (kib, inodes) = used(&keeper);
    assert!(
        kib <= HARD && kib >= kept >> 10 && inodes == 1,
        "{kib} KiB, {inodes} files"
    );
    let raw = || {
        let addr = SocketAddr::from(([10, 99, 0, SERVER], 2049));
        Client::over(
            rig.connect(addr, Duration::from_secs(10))
                .expect("the server"),
        )
    };
    match version {
        Version::V3 => raw_v3(raw()),
        Version::V4_0 => raw_v4(raw(), 0, &keeper),
        Version::V4_1 => raw_v4(raw(), 1, &keeper),
        Version::V4_2 => raw_v4(raw(), 2, &keeper),
    }
    // Root is not limited, neither in its own files nor in those of the user.
    guest.ok(
        60,
        "cd /mnt/nfs; dd if=/tmp/source of=of-root bs=64k conv=fsync status=none; cmp /tmp/source of-root
         dd if=/tmp/source of=kept bs=64k oflag=sync status=none; cmp /tmp/source kept; cd /; umount /mnt/nfs",
    );
    assert!(
        used(&keeper).0 >= 4096,
        "the user's file is charged to the user"
    );
}
