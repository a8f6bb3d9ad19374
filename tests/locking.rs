//! NFSv4 state through the real client: locks between two clients, over crashes of either side, delegations, appends.
//! Steps of `guest locks` are in `tests/src/bin/guest/locks.rs`.

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use tests::need::{Need, have, not_chosen, number, soak};
use tests::server::{Config, Kind};
use tests::uml::{Boot, Guest};
use tests::version::Version;

use crate::kernel::{Bed, bed};

/// What a guest needs to lock over version 3.
pub const NLM_CLIENT: &[Need] = &[
    Need::Program("rpcbind", "rpcbind"),
    Need::Program("rpc.statd", "nfs-common"),
    Need::Program("sm-notify", "nfs-common"),
];

/// A bed with the export mounted on two guests. With version 3 their own rpcbind and rpc.statd run, and the server is
/// its own port mapper.
pub fn two(test: &str, version: Version) -> Option<(Bed, Guest)> {
    mixed(test, version, version)
}

/// As [`two`], the second guest with a version of its own; the first has the lower one.
fn mixed(test: &str, version: Version, others: Version) -> Option<(Bed, Guest)> {
    two_with(test, [version, others], "", Config::default())
}

/// As [`mixed`], with mount options, or none, and a server.
pub fn two_with(
    test: &str,
    versions: [Version; 2],
    options: &str,
    config: Config,
) -> Option<(Bed, Guest)> {
    let bed = one_with(test, versions[0], options, config)?;
    let boot = Boot {
        addr: 3,
        ..Boot::default()
    };
    let other = Guest::boot(&bed.rig, &boot);
    mount(&bed, &other, versions[1], options);
    Some((bed, other))
}

/// A bed with the export mounted on one guest.
fn one(test: &str, version: Version) -> Option<Bed> {
    one_with(test, version, "", Config::default())
}

fn one_with(test: &str, version: Version, options: &str, config: Config) -> Option<Bed> {
    let bed = unmounted(test, version, config)?;
    mount(&bed, &bed.guest, version, options);
    Some(bed)
}

/// A bed for a guest that will [`mount`] the export.
pub fn unmounted(test: &str, version: Version, mut config: Config) -> Option<Bed> {
    if version == Version::V3 {
        if !have(test, &[NLM_CLIENT]) {
            return None;
        }
        if config.kind == Kind::Ringnfs {
            config.args.push("--portmapper".to_owned());
        }
    }
    bed(test, version, &config)
}

/// Mounts the export at /mnt/nfs with locking.
pub fn mount(bed: &Bed, guest: &Guest, version: Version, options: &str) {
    let mut options = options.to_owned();
    if version == Version::V3 {
        guest.ok(60, NLM_START);
        options = format!("lock,{options}");
    }
    let options = options.trim_end_matches(',');
    let target = &bed.server.target;
    guest.ok(120, &target.mount(version, "/mnt/nfs", options));
}

/// What rpc.statd remembers outlives the guest.
pub const NLM_START: &str = "sm=$RIG/statd-$ADDR; mkdir -p $sm/sm $sm/sm.bak; chown -R statd $sm
    rpcbind -w; rpc.statd --no-notify -P $sm";

/// One client holds what the first column says; then the second column must be true on the other.
const CONFLICTS: &[(&str, &str)] = &[
    (
        "w:10:10",
        "!w:10:10 !r:19:1 !w:0:0 w:0:10 w:20:0 r:0:10 u:0:0 g:w:12:1=w:10:10 g:r:0:0=w:10:10 g:w:20:5=free",
    ),
    (
        "r:10:10",
        "r:10:10 !w:10:1 !w:0:0 g:w:0:0=r:10:10 g:r:0:0=free r:0:0 !w:19:1 w:20:1",
    ),
    ("w:0:0", "!r:0:1 !w:9000000000:1"),
    ("w:0:30 u:10:10", "w:10:10 !w:9:1 !w:20:1 g:w:0:0=w:0:10"),
    (
        "w:0:10 w:20:10 w:10:10 u:5:1",
        "w:5:1 !w:4:1 !w:6:1 !w:29:1 w:30:1",
    ),
    ("w:0:30 r:10:10", "r:10:10 !r:9:1 !r:20:1 !w:10:1"),
    ("r:0:30 w:10:10", "r:0:10 r:20:10 !r:10:1"),
    ("r:0:10 r:5:10 w:0:15 r:0:15 u:0:15", "w:0:0"),
    (
        "w:4294967296:4294967296",
        "!r:4294967296:1 !r:8589934591:1 w:8589934592:1 w:0:4294967296",
    ),
    (
        "w:9223372036854775807:1",
        "!w:9223372036854775807:1 !w:0:0 w:0:9223372036854775807",
    ),
    ("w:0:10 close", "w:0:0"),
    ("w:0:10 append:x", "!w:0:10"),
    ("w:0:10 peek", "w:0:10"),
    ("x", "!x !s"),
    ("s", "s !x"),
    ("x n", "x"),
    ("x close", "x"),
];

by_version! { conflicts: conflicts_v3 V3 default, conflicts_v4_0 V4_0 default, conflicts_v4_1 V4_1 soak, conflicts_v4_2 V4_2 soak }

/// Lock conflicts between two clients, and that each lock is gone with its process.
fn conflicts(test: &str, version: Version) {
    let Some((bed, other)) = two(test, version) else {
        return;
    };
    each_conflict(&bed.guest, &other);
}

/// The same between a client of version 3 and one of 4.2, either way round, delegations in between included.
#[test]
fn conflicts_between_versions() {
    let test = "locking::conflicts_between_versions";
    if !Version::V3.wanted(test, true) {
        return;
    }
    let Some((bed, other)) = mixed(test, Version::V3, Version::V4_2) else {
        return;
    };
    each_conflict(&bed.guest, &other);
    bed.guest.ok(60, "rm -f /mnt/nfs/* $RIG/held-* $RIG/done-*");
    each_conflict(&other, &bed.guest);
}

fn each_conflict(one: &Guest, other: &Guest) {
    for (n, (held, seen)) in CONFLICTS.iter().enumerate() {
        let file = format!("/mnt/nfs/f{n}");
        let (marked, done) = (format!("$RIG/held-{n}"), format!("$RIG/done-{n}"));
        let holder = one.start(&format!(
            "$RIG/guest locks {file} {held} mark:{marked} until:{done}"
        ));
        let script = format!(
            "await {marked}
             $RIG/guest locks {file} {seen}; : >{done}"
        );
        let out = other.run(60, &script);
        assert!(out.status == 0, "{held} against {seen}: {}", out.output);
        holder.ok(60);
        other.ok(60, &format!("$RIG/guest locks {file} w:0:0 u:0:0 x"));
    }
}

by_version! { waiting: waiting_v3 V3 soak, waiting_v4_0 V4_0 soak, waiting_v4_1 V4_1 default, waiting_v4_2 V4_2 soak }

/// A waiter gets the lock when it is given up by unlock, close, exit or SIGKILL, and then sees what was written under it.
fn waiting(test: &str, version: Version) {
    let Some((bed, other)) = two(test, version) else {
        return;
    };
    let ways = [
        "append:one u:0:0 until:$RIG/never",
        "append:one close until:$RIG/never",
        "append:one",
        "append:one until:$RIG/never",
    ];
    for (n, way) in ways.iter().enumerate() {
        for (kind, lock) in [("posix", "w:0:10 W:0:10"), ("flock", "x X")] {
            // What `u` gives up is only the POSIX lock.
            if kind == "flock" && n == 0 {
                continue;
            }
            let (now, wait) = lock.split_once(' ').expect("two words");
            let (file, held) = (
                format!("/mnt/nfs/{kind}{n}"),
                format!("$RIG/{kind}-held-{n}"),
            );
            let holder = bed.guest.start(&format!(
                "$RIG/guest locks {file} {now} mark:{held} until:{held}.go {way} & pid=$!
                 await {held}.go
                 sleep 1; [ {n} != 3 ] || kill -9 $pid
                 await {held}.over
                 kill -9 $pid 2>/dev/null || true"
            ));
            let out = other.run(
                100,
                &format!(
                    "await {held}
                     $RIG/guest locks {file} '!{now}' mark:{held}.go {wait} append:two
                     : >{held}.over; cat {file}"
                ),
            );
            assert!(
                out.status == 0 && out.output.ends_with("one\ntwo\n"),
                "{kind} {way}: {out:?}"
            );
            holder.ok(60);
        }
    }
}

by_version! { in_order: in_order_v3 V3 soak, in_order_v4_0 V4_0 soak, in_order_v4_1 V4_1 soak, in_order_v4_2 V4_2 soak }

/// Who waits for a lock gets it in the order in which the requests came.
fn in_order(test: &str, version: Version) {
    queue(test, [version; 2]);
}

/// The same of requests of version 3 and 4.2 in turn.
#[test]
fn in_order_between_versions() {
    let test = "locking::in_order_between_versions";
    if Version::V3.wanted(test, true) {
        queue(test, [Version::V3, Version::V4_2]);
    }
}

/// Processes of two clients queue in turn for what a third client has locked; who has got it writes its number.
fn queue(test: &str, versions: [Version; 2]) {
    if Kind::from_env() != Kind::Ringnfs {
        return not_chosen(test, "a server that tells how many wait");
    }
    let Some((bed, other)) = mixed(test, versions[0], versions[1]) else {
        return;
    };
    // A lock of their own client would keep them from asking the server.
    let boot = Boot {
        addr: 4,
        ..Boot::default()
    };
    let third = Guest::boot(&bed.rig, &boot);
    mount(&bed, &third, versions[1], "");
    let holder = third.start(
        "$RIG/guest locks /mnt/nfs/f w:0:10 mark:$RIG/held until:$RIG/go u:0:10 until:$RIG/end",
    );
    bed.guest.ok(60, "await $RIG/held");
    // In 4.0 the server calls nobody and keeps no line (RFC 7530 9.4): Linux asks again after pauses of its own, so what
    // is certain is only that each gets the lock, alone.
    let line = versions[0] != Version::V4_0;
    let mut waiters = Vec::new();
    for n in 0..4 {
        let guest = [&*bed.guest, &other][n % 2];
        let script = format!(
            "$RIG/guest locks /mnt/nfs/f '!w:0:10' mark:$RIG/asked-{n} W:0:10 append:{n} u:0:10"
        );
        let job = guest.start(&script);
        guest.ok(60, &format!("await $RIG/asked-{n}"));
        let end = Instant::now() + Duration::from_secs(60);
        while line && bed.server.stat("locks.waiters") <= n as u64 {
            let waits = Instant::now() < end;
            assert!(waits, "{n} does not wait: {}", job.output());
            thread::sleep(Duration::from_millis(20));
        }
        waiters.push(job);
    }
    for (n, job) in waiters.iter().enumerate() {
        assert_eq!(job.status(), None, "{n}: {}", job.output());
    }
    File::create(bed.rig.dir().join("go")).expect("go");
    for job in waiters {
        job.ok(240);
    }
    File::create(bed.rig.dir().join("end")).expect("end");
    holder.ok(60);
    let text = third.ok(30, "cat /mnt/nfs/f");
    let mut came: Vec<&str> = text.lines().collect();
    eprintln!("{test}: {came:?}");
    if !line {
        came.sort_unstable();
    }
    assert_eq!(came, ["0", "1", "2", "3"]);
}

by_version! { torture: torture_v3 V3 soak, torture_v4_0 V4_0 soak, torture_v4_1 V4_1 soak, torture_v4_2 V4_2 soak }

/// Processes of two clients fight for ranges, and for whole files by flock(2); the files' content is the ledger.
fn torture(test: &str, version: Version) {
    fight_of_two(test, [version; 2]);
}

/// The same between a client of version 3 and one of 4.2.
#[test]
fn torture_between_versions() {
    let test = "locking::torture_between_versions";
    if Version::V3.wanted(test, true) {
        fight_of_two(test, [Version::V3, Version::V4_2]);
    }
}

fn fight_of_two(test: &str, versions: [Version; 2]) {
    let Some((bed, other)) = mixed(test, versions[0], versions[1]) else {
        return;
    };
    for how in ["torture", "torture-flock"] {
        fight(test, &bed, how, |sizes, limit| {
            let two = other.start(&format!("$RIG/guest {how} /mnt/nfs 2 {sizes}"));
            two.ok(limit)
        });
    }
}

/// The fight between processes of the first client and those that `others` runs to their end, given sizes and most
/// seconds, and tells what they said. `how` is the guest's verb for it.
fn fight(test: &str, bed: &Bed, how: &str, others: impl Fn(&str, u64) -> String) {
    let rounds = torture_rounds();
    let sizes = match how {
        "torture" => vec![(6, 1, rounds), (4, 3, rounds)],
        _ => vec![(4, 3, rounds / 3)],
    };
    for (ranges, files, rounds) in sizes {
        let sizes = format!("4 {ranges} {files} {rounds}");
        bed.guest
            .ok(60, &format!("$RIG/guest torture-prepare /mnt/nfs {sizes}"));
        let start = Instant::now();
        let one = bed
            .guest
            .start(&format!("$RIG/guest {how} /mnt/nfs 1 {sizes}"));
        let limit = 120 + rounds;
        let others = others(&sizes, limit);
        let done = rounds_of(&one.ok(limit)) + rounds_of(&others);
        let sum = bed
            .guest
            .ok(60, &format!("$RIG/guest torture-sum /mnt/nfs {sizes}"));
        assert_eq!(sum.trim(), done.to_string(), "rounds are lost");
        let seconds = start.elapsed().as_secs_f64();
        eprintln!(
            "{test}, {how}: {done} rounds on {ranges} ranges of {files} files, {seconds:.1} s"
        );
    }
}

fn torture_rounds() -> u64 {
    number("RINGNFS_ROUNDS", if soak() { 5_000 } else { 120 })
}

/// How many rounds a torturer says it has done.
fn rounds_of(text: &str) -> u64 {
    let first = text.lines().last().and_then(|l| l.split_once(' '));
    first
        .and_then(|(n, _)| n.parse().ok())
        .unwrap_or_else(|| panic!("{text}"))
}

by_version! { host_conflicts: host_conflicts_v3 V3 soak, host_conflicts_v4_0 V4_0 soak, host_conflicts_v4_1 V4_1 soak, host_conflicts_v4_2 V4_2 default }

/// As [`conflicts`], between a client and a process of the server's host, either way round; flock(2) locks of a host
/// are its own.
fn host_conflicts(test: &str, version: Version) {
    if Kind::from_env() != Kind::Ringnfs {
        return not_chosen(test, "a server's own way to run something beside it");
    }
    if let Some(bed) = one(test, version) {
        each_conflict_with_the_host(&bed, ".");
    }
}

/// Between the guest and the host, where the files are in `dir` of the file system.
pub fn each_conflict_with_the_host(bed: &Bed, dir: &str) {
    let on_host = |script: &str| {
        let rig = bed.rig.dir().display();
        bed.server
            .on_export(&format!("export RIG={rig}; cd {dir}; {script}"))
    };
    let flocks = |words: &str| words.split(' ').any(|word| matches!(word, "x" | "s"));
    for (n, (held, seen)) in CONFLICTS.iter().enumerate() {
        if flocks(held) {
            continue;
        }
        let (file, marked, done) = (format!("f{n}"), "$RIG/held", "$RIG/done");
        bed.guest.ok(60, "rm -f $RIG/held $RIG/done");
        let holder = bed.guest.start(&format!(
            "$RIG/guest locks /mnt/nfs/{file} {held} mark:{marked} until:{done}"
        ));
        on_host(&format!(
            "while [ ! -e $RIG/held ]; do sleep 0.05; done
             $RIG/guest locks {file} {seen}; : >$RIG/done"
        ));
        holder.ok(60);
        bed.guest.ok(60, "rm -f $RIG/held $RIG/done");
        let other = format!("{file}-back");
        on_host(&format!(
            "$RIG/guest locks {other} {held} mark:{marked} until:{done} >/dev/null 2>&1 &"
        ));
        let out = bed.guest.run(
            60,
            &format!("await {marked}; $RIG/guest locks /mnt/nfs/{other} {seen}; : >$RIG/done"),
        );
        assert!(
            out.status == 0,
            "{held} on the host against {seen}: {}",
            out.output
        );
        bed.guest.ok(
            60,
            &format!("$RIG/guest locks /mnt/nfs/{other} W:0:0 u:0:0"),
        );
    }
}

by_version! { host_torture: host_torture_v3 V3 soak, host_torture_v4_0 V4_0 soak, host_torture_v4_1 V4_1 soak, host_torture_v4_2 V4_2 default }

/// As [`torture`], between a client and processes of the server's host.
fn host_torture(test: &str, version: Version) {
    if Kind::from_env() != Kind::Ringnfs {
        return not_chosen(test, "a server's own way to run something beside it");
    }
    let Some(bed) = one(test, version) else {
        return;
    };
    let guest = bed.rig.dir().join("guest");
    fight(test, &bed, "torture", |sizes, _| {
        let script = format!("{} torture . 2 {sizes}", guest.display());
        bed.server.on_export(&script)
    });
}

by_version! { appends: appends_v3 V3 soak, appends_v4_0 V4_0 soak, appends_v4_1 V4_1 default, appends_v4_2 V4_2 soak }

/// O_APPEND from two clients under a lock: every line is there, none is torn.
fn appends(test: &str, version: Version) {
    let Some((bed, other)) = two(test, version) else {
        return;
    };
    let lines = number("RINGNFS_LINES", if soak() { 500 } else { 20 });
    let job = |who: &str| {
        format!(
            "steps=; for i in $(seq {lines}); do steps=\"$steps W:0:0 append:{who}-$i-{} u:0:0\"; done
             $RIG/guest locks /mnt/nfs/log $steps",
            "z".repeat(50)
        )
    };
    let (one, two) = (bed.guest.start(&job("a")), other.start(&job("b")));
    one.ok(300);
    two.ok(300);
    let text = bed.guest.ok(30, "cat /mnt/nfs/log");
    for who in ["a", "b"] {
        let own: Vec<&str> = text.lines().filter(|l| l.starts_with(who)).collect();
        let want: Vec<String> = (1..=lines)
            .map(|i| format!("{who}-{i}-{}", "z".repeat(50)))
            .collect();
        assert_eq!(own, want);
    }
    assert_eq!(text.lines().count() as u64, 2 * lines);
}

by_version! { delegation_sanity:
    delegation_sanity_v4_0 V4_0 soak, delegation_sanity_v4_1 V4_1 soak, delegation_sanity_v4_2 V4_2 default,
}

/// A client that has read a file often, and holds a delegation, sees what another one wrote, at its next open; the
/// same for attributes, for removal and for a file it has open for writing.
fn delegation_sanity(test: &str, version: Version) {
    let Some((bed, other)) = two(test, version) else {
        return;
    };
    let (a, b) = (&*bed.guest, &other);
    a.ok(
        60,
        "cd /mnt/nfs; mkdir -m 777 d; for i in $(seq 20); do echo old-$i >d/f$i; done",
    );
    let held = delegated(
        &bed,
        "cd /mnt/nfs/d; cat f* >/dev/null; stat f* >/dev/null",
        20,
    );
    let before = delegations_returned(a);
    b.ok(60, "cd /mnt/nfs/d; for i in $(seq 20); do grep -qx old-$i f$i; echo new-$i >f$i; done; chmod 600 f1; mv f2 g2; rm f3");
    // Each file has been written, so each delegation had to come back first.
    let returned = delegations_returned(a) - before;
    eprintln!("{test}: {held} delegations, {returned} returned");
    assert!(returned >= held, "{returned} of {held} came back");
    a.ok(
        60,
        "cd /mnt/nfs/d; for i in 1 $(seq 4 20); do grep -qx new-$i f$i; done
         echo 2 >/proc/sys/vm/drop_caches # names may be remembered for acdirmin, 30 s
         [ $(stat -c %a f1) = 600 ]; grep -qx new-2 g2; (! cat f3 2>/dev/null); (! cat f2 2>/dev/null)",
    );
    for round in 0..3 {
        // A has it open, with a delegation, and keeps it open; B's write must not wait for A's close.
        let file = format!("/mnt/nfs/d/open-{round}");
        a.ok(10, &format!("echo old >{file}"));
        let reader = a.start(&format!(
            "exec 5<{file}; cat {file} >/dev/null; cat {file} >/dev/null; : >$RIG/open-{round}
             await $RIG/written-{round}; cat {file}; exec 5<&-"
        ));
        b.ok(60, &format!("await $RIG/open-{round}"));
        let before = delegations_returned(a);
        b.ok(60, &format!("echo round-{round} >{file}"));
        assert!(
            delegations_returned(a) > before || !ours(),
            "{file} was not recalled"
        );
        b.ok(10, &format!(": >$RIG/written-{round}"));
        assert_eq!(reader.ok(60).trim(), format!("round-{round}"));
    }
    // A writes without a close (it may hold a write delegation and keep the data); B must see all of it after A's close,
    // and B's own open in between must come back.
    let writer = a.start(
        "cd /mnt/nfs/d; exec 5>f6; for n in $(seq 100); do echo line-$n >&5; done; : >$RIG/writing
         await $RIG/looked; echo last >&5; exec 5>&-; : >$RIG/closed",
    );
    b.ok(
        60,
        "await $RIG/writing; cat /mnt/nfs/d/f6 >/dev/null; : >$RIG/looked
         await $RIG/closed
         [ $(wc -l </mnt/nfs/d/f6) = 101 ]; tail -1 /mnt/nfs/d/f6 | grep -qx last",
    );
    writer.ok(60);
}

/// True if it is this project's server that runs: it grants delegations, and tells what is held.
fn ours() -> bool {
    Kind::from_env() == Kind::Ringnfs
}

/// Lets the first client read until it holds `wanted` delegations: the way back is tried when the first file is opened,
/// and until it has answered there are none. Returns how many there are.
#[track_caller]
fn delegated(bed: &Bed, read: &str, wanted: u64) -> u64 {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        bed.guest.ok(60, read);
        let held = match ours() {
            true => bed.server.stat("nfs4.delegations"),
            false => return 0,
        };
        if held >= wanted {
            return held;
        }
        assert!(Instant::now() < end, "{held} delegations of {wanted}");
    }
}

/// How many delegations a client has given back to the server of its one NFSv4 mount.
pub fn delegations_returned(guest: &Guest) -> u64 {
    let script = "awk '$1 == \"DELEGRETURN:\" { print $2 }' /proc/self/mountstats";
    let text = guest.ok(10, script);
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("mountstats: {text}"))
}

by_version! { dead_client: dead_client_v4_0 V4_0 default, dead_client_v4_1 V4_1 soak, dead_client_v4_2 V4_2 soak }

/// A client that loses power gives its locks up when its lease is over, to the one who waits for them.
fn dead_client(test: &str, version: Version) {
    let Some((bed, mut other)) = two(test, version) else {
        return;
    };
    bed.guest.ok(10, "echo text >/mnt/nfs/f");
    let holder = other.start("$RIG/guest locks /mnt/nfs/f w:0:10 mark:$RIG/held until:$RIG/never");
    bed.guest.ok(
        60,
        "await $RIG/held; $RIG/guest locks /mnt/nfs/f '!w:0:10' w:10:5",
    );
    assert_eq!(holder.status(), None);
    other.kill();
    // The longest lease of the servers here is 90 s.
    bed.guest.ok(
        240,
        "$RIG/guest locks /mnt/nfs/f W:0:10 append:mine u:0:0; grep -qx mine /mnt/nfs/f",
    );
}

/// A version 3 client that loses power has its locks until it is back and says so; then they are free at once.
#[test]
fn client_reboot_v3() {
    let test = "locking::client_reboot_v3";
    if !Version::V3.wanted(test, true) {
        return;
    }
    let Some((bed, mut other)) = two(test, Version::V3) else {
        return;
    };
    let holder = other.start("$RIG/guest locks /mnt/nfs/f w:0:10 mark:$RIG/held until:$RIG/never");
    let held = "await $RIG/held";
    bed.guest.ok(
        60,
        &format!("{held}; $RIG/guest locks /mnt/nfs/f '!w:0:10' w:20:5"),
    );
    assert_eq!(holder.status(), None);
    other.kill();
    let waiter = bed
        .guest
        .start("$RIG/guest locks /mnt/nfs/f W:0:10 append:mine; cat /mnt/nfs/f");
    bed.guest
        .ok(30, "sleep 2; $RIG/guest locks /mnt/nfs/g w:0:10");
    assert_eq!(waiter.status(), None, "its locks outlive it");
    let again = Guest::boot(
        &bed.rig,
        &Boot {
            addr: 3,
            ..Boot::default()
        },
    );
    again.ok(60, "rpcbind -w; sm-notify -d -f -P $RIG/statd-$ADDR");
    assert_eq!(waiter.ok(25), "mine\n");
}

by_version! { restart: restart_v3 V3 default, restart_v4_0 V4_0 soak, restart_v4_1 V4_1 soak, restart_v4_2 V4_2 default }

/// The server is killed and comes back: opens and locks are reclaimed, nobody else gets them meanwhile.
fn restart(test: &str, version: Version) {
    if Kind::from_env() == Kind::Knfsd {
        return not_chosen(test, "knfsd's guest forgets its clients with its power");
    }
    let Some((mut bed, other)) = two(test, version) else {
        return;
    };
    let guest = bed.guest.clone();
    let holder = guest.start(
        "$RIG/guest locks /mnt/nfs/f w:0:10 r:20:10 append:before mark:$RIG/held until:$RIG/back append:after \\
             mark:$RIG/wrote until:$RIG/seen u:0:0 mark:$RIG/gone until:$RIG/end",
    );
    // Shared state of the other client must survive too.
    let reader =
        other.start("$RIG/guest locks /mnt/nfs/f r:20:10 mark:$RIG/reads until:$RIG/end w:40:1");
    other.ok(
        60,
        "await $RIG/held $RIG/reads; $RIG/guest locks /mnt/nfs/f '!w:0:10'",
    );
    // Stable storage may remember a client a moment later than it answered.
    thread::sleep(Duration::from_millis(500));
    bed.server.kill9();
    bed.server.start_again();
    let out = other.ok(
        240,
        "$RIG/guest locks /mnt/nfs/f '!w:0:10' '!w:20:1' w:10:10 g:w:5:1=w:0:10; : >$RIG/back
         await $RIG/wrote
         $RIG/guest locks /mnt/nfs/f '!r:0:1'; : >$RIG/seen; await $RIG/gone
         $RIG/guest locks /mnt/nfs/f w:0:10 '!w:20:1'; cat /mnt/nfs/f; : >$RIG/end",
    );
    assert!(out.ends_with("before\nafter\n"), "{out}");
    holder.ok(60);
    reader.ok(60);
}
