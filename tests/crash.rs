//! The server is killed, or its machine loses power, in the middle of work. The client's hard mount must recover by
//! itself, handles and open descriptors must stay valid, and no record acknowledged as stable may be lost.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tests::crates::Project;
use tests::image::Fs;
use tests::need::{self, Need, number, soak};
use tests::server::{Config, Kind};
use tests::uml::{Guest, Job};
use tests::version::Version;

use crate::kernel::{Bed, bed};
use crate::pjdfstest::fsx_script;
use crate::real_work::{WORKS, builder};

/// Writers of `tests/src/bin/guest/ledger.rs`.
const WRITERS: usize = 6;

by_version! { killed_under_load: killed_under_load_v3 V3 default, killed_under_load_v4_0 V4_0 soak, killed_under_load_v4_1 V4_1 soak, killed_under_load_v4_2 V4_2 default }

/// SIGKILL only: the page cache of the server's machine survives.
fn killed_under_load(test: &str, version: Version) {
    let Some(mut bed) = bed(test, version, &Config::default()) else {
        return;
    };
    ledger(
        &mut bed,
        number("RINGNFS_KILLS", if soak() { 60 } else { 4 }),
        |bed| bed.server.kill9(),
    );
}

by_version! { power_lost_under_load: power_lost_under_load_v3 V3 default, power_lost_under_load_v4_0 V4_0 soak, power_lost_under_load_v4_1 V4_1 soak, power_lost_under_load_v4_2 V4_2 soak }

/// Power loss: what was acknowledged must have reached the disk, data and names alike.
fn power_lost_under_load(test: &str, version: Version) {
    let tools = [Need::Program("xfs_io", "xfsprogs")];
    if !need::have(test, &[&tools]) {
        return;
    }
    for fs in [Fs::Ext4, Fs::Xfs] {
        let config = Config {
            fs,
            ..Config::default()
        };
        if config.kind == Kind::Knfsd && fs == Fs::Xfs {
            continue; // its guest boots slowly, once is enough
        }
        let Some(mut bed) = bed(test, version, &config) else {
            return;
        };
        ledger(
            &mut bed,
            number("RINGNFS_CUTS", if soak() { 30 } else { 2 }),
            |bed| bed.server.cut_power(),
        );
    }
}

by_version! { killed_during_real_work: killed_during_real_work_v3 V3 soak, killed_during_real_work_v4_0 V4_0 soak, killed_during_real_work_v4_1 V4_1 soak, killed_during_real_work_v4_2 V4_2 soak }

/// Every workload of `real_work.rs` while the server is killed again and again; in a soak fsx and the build of a crate
/// too.
fn killed_during_real_work(test: &str, version: Version) {
    let Some(mut bed) = bed(test, version, &Config::default()) else {
        return;
    };
    bed.mount("");
    let guest = bed.guest.clone();
    for work in WORKS.iter().filter(|w| soak() || w.quick) {
        if work.ready() {
            let script = |place: &str| work.script(place);
            under_kills(&mut bed, &guest, work.name, work.seconds, &script);
        }
    }
    if !soak() {
        return;
    }
    if need::have(test, &[&[Need::CargoTool("fsx")]]) {
        let ops = number("RINGNFS_FSX_OPS", 20_000);
        let run = fsx_script(&bed, ops);
        let script = |place: &str| run(&format!("/mnt/nfs/{place}"), "1");
        under_kills(&mut bed, &guest, "fsx", 120 + ops / 20, &script);
    }
    let Some(Project { unpack, build }) = Project::new(&bed.rig) else {
        return need::not_run(test, "the sources of its crates in cargo's cache");
    };
    let compiler = builder(&bed);
    let script =
        |place: &str| format!("mkdir /mnt/nfs/{place}; cd /mnt/nfs/{place}\n{unpack}{build}");
    under_kills(&mut bed, &compiler, "build", 400, &script);
}

/// A piece of work, the script of which is given a name for its directory, under kills. `seconds` is its time limit
/// without them.
fn under_kills(
    bed: &mut Bed,
    guest: &Guest,
    name: &str,
    seconds: u64,
    script: &dyn Fn(&str) -> String,
) {
    let kills = number("RINGNFS_WORK_KILLS", if soak() { 12 } else { 2 });
    // A request that was executed before a kill and repeated after it may fail (EEXIST, ENOENT): v3 has no memory
    // of it across restarts. A program that stops at this starts over; what it makes must be right in the end.
    let mut done = 0;
    for attempt in 1.. {
        let job = guest.start(&script(&format!("killed-{name}-{attempt}")));
        while job.status().is_none() && done < kills {
            pause(700 + done * 411 % 1300);
            if job.status().is_some() {
                break;
            }
            bed.server.kill9();
            pause(done * 97 % 300);
            bed.server.start_again();
            done += 1;
        }
        let out = job.wait(seconds * 3 + kills * 20);
        if out.status == 0 {
            eprintln!("{name}: right after {done} kills");
            break;
        }
        assert!(
            attempt < 4 && out.status != 124,
            "{name}: status {}\n{}",
            out.status,
            out.output
        );
        eprintln!(
            "{name}: starts over after {done} kills: {}",
            out.output.lines().last().unwrap_or("")
        );
    }
}

/// Runs the ledger writers in the guest, does `harm` to the server `times` times, and audits after each and at the end.
fn ledger(bed: &mut Bed, times: u64, harm: fn(&mut Bed)) {
    bed.mount("");
    let log = bed.rig.dir().join("ledger.log");
    let stop = bed.rig.dir().join("stop");
    bed.guest.ok(10, "mkdir -p -m 777 /mnt/nfs/ledger");
    let guest = bed.guest.clone();
    let job = guest.start("exec $RIG/guest ledger /mnt/nfs/ledger $RIG/ledger.log $RIG/stop");
    wait_for_news(&job, &log, 0);
    for n in 0..times {
        pause(150 + n * 137 % 900);
        harm(bed);
        let seen = fs::metadata(&log).expect("the ledger's log").len();
        // Before the server can repair anything.
        audit_outside(bed, &log);
        pause(n * 89 % 400);
        bed.server.start_again();
        wait_for_news(&job, &log, seen);
    }
    File::create(&stop).expect("stop file");
    job.ok(180);
    audit_outside(bed, &log);
    bed.guest.ok(180, "umount /mnt/nfs");
    bed.mount("");
    let audit = bed
        .guest
        .ok(300, "$RIG/guest audit /mnt/nfs/ledger $RIG/ledger.log");
    eprintln!("{times} times: {}", audit.replace('\n', ", "));
    bed.guest.ok(180, "umount /mnt/nfs");
}

/// The audit by way of the exported directory itself, without any server; knfsd's is not visible here.
#[track_caller]
fn audit_outside(bed: &Bed, log: &Path) {
    if bed.server.export_outside().is_none() {
        return;
    }
    let export = bed.rig.dir().join("export/ledger");
    let out = bed
        .rig
        .command(bed.rig.dir().join("guest"))
        .arg("audit")
        .arg(export)
        .arg(log)
        .output();
    let out = out.expect("nsenter");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success(),
        "after {} starts:\n{text}{}",
        bed.server.starts(),
        String::from_utf8_lossy(&out.stderr)
    );
}

/// Waits until every writer has logged a record after the first `seen` bytes of the log.
#[track_caller]
fn wait_for_news(job: &Job<'_>, log: &Path, seen: u64) {
    let end = Instant::now() + Duration::from_secs(120);
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        let news = text.get(seen as usize..).unwrap_or_default();
        let writers: BTreeSet<&str> = news
            .lines()
            .filter_map(|l| l.split_once(' '))
            .map(|(name, _)| name)
            .collect();
        if writers.len() == WRITERS {
            return;
        }
        assert!(job.status().is_none(), "the ledger ended: {}", job.output());
        assert!(
            Instant::now() < end,
            "no recovery within 120 s; writers that went on: {writers:?}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

fn pause(millis: u64) {
    thread::sleep(Duration::from_millis(millis));
}
