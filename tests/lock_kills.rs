//! The server is killed again and again while two clients hold opens, locks and delegations and fight for more locks:
//! everything is reclaimed, nobody gets what is another's, no program sees an error (RFC 8881 8.4.2, RFC 7530 9.6.2; in
//! version 3 by NSM, with rpc.statd on the clients).
//!
//! `RINGNFS_KILLS=50` says how often, `RINGNFS_SOAK=1` is 50 times for each version.

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tests::need::{not_chosen, number, soak};
use tests::server::{Kind, Server};
use tests::uml::{Guest, Job};
use tests::version::Version;

use crate::locking::two;

/// Processes, ranges and files of the fight, rounds without an end.
const SIZES: &str = "3 5 2 1000000000";

by_version! { locks: locks_v3 V3 soak, locks_v4_0 V4_0 soak, locks_v4_1 V4_1 default, locks_v4_2 V4_2 soak }

fn locks(test: &str, version: Version) {
    if Kind::from_env() == Kind::Knfsd {
        return not_chosen(test, "knfsd's guest forgets its clients with its power");
    }
    let Some((mut bed, two)) = two(test, version) else {
        return;
    };
    let one = bed.guest.clone();
    let guests: [&Guest; 2] = [&one, &two];
    let (marks, stop) = (bed.rig.dir().join("marks"), bed.rig.dir().join("stop"));
    fs::create_dir(&marks).expect("marks");
    one.ok(60, &format!("$RIG/guest torture-prepare /mnt/nfs {SIZES}"));
    let start = Instant::now();
    let [keep_one, keep_two] = [0, 1].map(|n| {
        let (me, other) = (n as u64 + 1, 2 - n as u64);
        let script = format!("exec $RIG/guest keeper /mnt/nfs {me} {other} $RIG/marks $RIG/stop");
        guests[n].start(&script)
    });
    let [fight_one, fight_two] = [0, 1].map(|n| {
        let script = format!(
            "exec $RIG/guest torture /mnt/nfs {} {SIZES} $RIG/stop",
            n + 1
        );
        guests[n].start(&script)
    });
    // It waits for what the first keeper holds from before the first kill until that one's end.
    let waiter = two.start(
        "await $RIG/marks/ready-1.0; exec $RIG/guest locks /mnt/nfs/keeper-held-1 W:0:0 say:mine",
    );
    let jobs = [&keep_one, &keep_two, &fight_one, &fight_two, &waiter];
    await_news(&jobs, &marks, [0, 0]);
    let kills = number("RINGNFS_KILLS", if soak() { 50 } else { 3 });
    for n in 0..kills {
        thread::sleep(Duration::from_millis(150 + n * 137 % 900));
        if version == Version::V3 && Kind::from_env() == Kind::Ringnfs {
            await_line(&bed.server);
        }
        bed.server.kill9();
        let seen = news(&marks);
        thread::sleep(Duration::from_millis(n * 89 % 400));
        bed.server.start_again();
        if n % 4 == 1 && n + 1 < kills {
            // Once more while the clients reclaim, or before.
            thread::sleep(Duration::from_millis(n * 433 % 5000));
        } else {
            await_news(&jobs, &marks, seen);
        }
        eprintln!(
            "{test}: {} kills, {:.0} s, news {:?}",
            n + 1,
            start.elapsed().as_secs_f64(),
            news(&marks)
        );
    }
    File::create(&stop).expect("stop file");
    let (mut rounds, mut refused) = (0, 0);
    for (n, keep) in [keep_one, keep_two].into_iter().enumerate() {
        let told = numbers(&keep.ok(180));
        // What one client wrote is there for the other.
        let check = format!("$RIG/guest keeper-check /mnt/nfs {} {}", n + 1, told[0]);
        guests[1 - n].ok(60, &check);
        (rounds, refused) = (rounds + told[0], refused + told[1]);
        let returned = guests[n].ok(
            10,
            "grep -E 'DELEGRETURN:|OPEN_NOATTR:' /proc/self/mountstats || true",
        );
        eprintln!("{test}: client {}: {}", n + 1, returned.replace('\n', ";"));
    }
    assert_eq!(waiter.ok(180), "mine\n");
    let fought: u64 = [fight_one, fight_two]
        .map(|job| numbers(&job.ok(180))[0])
        .iter()
        .sum();
    let sum = one.ok(60, &format!("$RIG/guest torture-sum /mnt/nfs {SIZES}"));
    assert_eq!(
        sum.trim(),
        fought.to_string(),
        "rounds of the fight are lost"
    );
    eprintln!(
        "{test}: {kills} kills in {:.0} s, {fought} rounds of the fight, {rounds} of the keepers, {refused} refusals, \
         0 violations, 0 errors",
        start.elapsed().as_secs_f64()
    );
}

/// The numbers of a job's last line.
#[track_caller]
fn numbers(text: &str) -> Vec<u64> {
    let line = text.lines().last().unwrap_or_default();
    let numbers = line.split_whitespace().map(|word| word.parse().ok());
    let numbers: Option<Vec<u64>> = numbers.collect();
    numbers
        .filter(|numbers| numbers.len() >= 2)
        .unwrap_or_else(|| panic!("{text}"))
}

/// Waits until the server knows of the waiter, whose request is the only one for all of a file. Version 3 clients ask
/// again at once when a server is back, those of 4.1 some time within 30 s, and 4.0 has no line.
#[track_caller]
fn await_line(server: &Server) {
    let end = Instant::now() + Duration::from_secs(180);
    loop {
        let locks = server.control("locks");
        if locks.contains("wait write 0 to the end, nlm") {
            return;
        }
        assert!(Instant::now() < end, "nobody waits:\n{locks}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// The newest mark of each client.
fn news(marks: &Path) -> [u64; 2] {
    let mut newest = [0, 0];
    for entry in fs::read_dir(marks).expect("marks") {
        let name = entry.expect("marks").file_name();
        let name = name.to_string_lossy();
        for (who, newest) in newest.iter_mut().enumerate() {
            let number = name.strip_prefix(&format!("news-{}.", who + 1));
            let number = number.and_then(|n| n.parse().ok());
            *newest = number.unwrap_or(0).max(*newest);
        }
    }
    newest
}

/// Waits until both clients have gone on, beyond what was under way already.
#[track_caller]
fn await_news(jobs: &[&Job<'_>], marks: &Path, seen: [u64; 2]) {
    let end = Instant::now() + Duration::from_secs(180);
    loop {
        let now = news(marks);
        if now.iter().zip(seen).all(|(now, seen)| *now > seen + 1) {
            return;
        }
        for job in jobs {
            assert!(job.status().is_none(), "a program ended: {}", job.output());
        }
        assert!(
            Instant::now() < end,
            "no recovery within 180 s: {now:?}, before {seen:?}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}
