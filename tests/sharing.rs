//! Programs of two clients that share files under fcntl(2) locks over NFSv3, with a real rpc.statd on either side.

use tests::need::{Need, have, number, soak};
use tests::uml::Guest;
use tests::version::Version;

use crate::locking::two;

const SQLITE: &[Need] = &[Need::Program("sqlite3", "sqlite3")];

/// Makes the tables: two accounts between which money moves, a counter, and what each client did.
const TABLES: &str = "CREATE TABLE account(id INTEGER PRIMARY KEY, money INTEGER);
    INSERT INTO account VALUES(1, 0), (2, 0); CREATE TABLE total(n INTEGER); INSERT INTO total VALUES(0);
    CREATE TABLE done(who TEXT, n INTEGER, UNIQUE(who, n));";

/// A script that does `first` to `last` of the transactions of `who`, and looks whether money is lost in between.
fn work(who: &str, [first, last]: [u64; 2], mode: &str) -> String {
    format!(
        "{{ echo '.timeout 100000'; echo 'PRAGMA journal_mode={mode}; PRAGMA synchronous=FULL; PRAGMA mmap_size=1000000;'
         for i in $(seq {first} {last}); do
             echo \"BEGIN IMMEDIATE; UPDATE account SET money = money - $i WHERE id = 1;\"
             echo \"UPDATE account SET money = money + $i WHERE id = 2; UPDATE total SET n = n + 1;\"
             echo \"INSERT INTO done VALUES('{who}', $i); COMMIT;\"
             echo \"SELECT CASE sum(money) WHEN 0 THEN 'right' ELSE 'torn' END FROM account;\"
         done; }} >/tmp/work.sql
         sqlite3 -bail /mnt/nfs/db </tmp/work.sql >/tmp/said
         head -2 /tmp/said | grep -qx {mode}; (! grep torn /tmp/said); [ $(grep -c right /tmp/said) = $(({last} - {first} + 1)) ]"
    )
}

/// The sums, exactly: `each` transactions of both.
#[track_caller]
fn check(guest: &Guest, each: u64) {
    let money = each * (each + 1);
    let sql =
        "PRAGMA integrity_check; SELECT group_concat(money) FROM account; SELECT n FROM total;
        SELECT group_concat(c) FROM (SELECT count(*) AS c FROM done GROUP BY who)";
    let said = guest.ok(60, &format!("sqlite3 -bail /mnt/nfs/db \"{sql}\""));
    assert_eq!(
        said,
        format!("ok\n-{money},{money}\n{}\n{each},{each}\n", 2 * each)
    );
}

/// With a rollback journal, both clients at once.
#[test]
fn sqlite_rollback_v3() {
    let test = "sharing::sqlite_rollback_v3";
    if !Version::V3.wanted(test, true) || !have(test, &[SQLITE]) {
        return;
    }
    let Some((bed, other)) = two(test, Version::V3) else {
        return;
    };
    let each = number("RINGNFS_TRANSACTIONS", if soak() { 500 } else { 40 });
    bed.guest
        .ok(60, &format!("sqlite3 -bail /mnt/nfs/db '{TABLES}'"));
    let a = bed.guest.start(&work("a", [1, each], "delete"));
    let b = other.start(&work("b", [1, each], "delete"));
    a.ok(120 + 5 * each);
    b.ok(120 + 5 * each);
    for guest in [&*bed.guest, &other] {
        check(guest, each);
        guest.ok(10, "[ ! -e /mnt/nfs/db-journal ]");
    }
}

/// With a write-ahead log, one client after the other: its index is memory that its users share, so that sqlite does not
/// support users on two machines at once (sqlite.org/wal.html). Each must find what the other has left.
#[test]
fn sqlite_wal_in_turns_v3() {
    let test = "sharing::sqlite_wal_in_turns_v3";
    if !Version::V3.wanted(test, true) || !have(test, &[SQLITE]) {
        return;
    }
    let Some((bed, other)) = two(test, Version::V3) else {
        return;
    };
    let each = number("RINGNFS_TRANSACTIONS", if soak() { 200 } else { 10 });
    bed.guest
        .ok(60, &format!("sqlite3 -bail /mnt/nfs/db '{TABLES}'"));
    for turn in 0..3 {
        let which = [turn * each + 1, (turn + 1) * each];
        for (who, guest) in [("a", &*bed.guest), ("b", &other)] {
            guest.ok(120 + 5 * each, &work(who, which, "wal"));
            guest.ok(10, "[ ! -e /mnt/nfs/db-wal ]");
        }
        check(&bed.guest, which[1]);
        check(&other, which[1]);
    }
}

/// A mailbox: every message whole, none lost, seen from either side.
#[test]
fn mailbox_v3() {
    let test = "sharing::mailbox_v3";
    if !Version::V3.wanted(test, true) {
        return;
    }
    let Some((bed, other)) = two(test, Version::V3) else {
        return;
    };
    let each = number("RINGNFS_MESSAGES", if soak() { 1000 } else { 60 });
    let mail = |who: &str| format!("exec $RIG/guest mail /mnt/nfs/box {who} {each}");
    let jobs = [
        bed.guest.start(&mail("a")),
        bed.guest.start(&mail("b")),
        other.start(&mail("c")),
        other.start(&mail("d")),
    ];
    for job in jobs {
        job.ok(120 + 4 * each);
    }
    for guest in [&*bed.guest, &other] {
        let said = guest.ok(
            60,
            &format!("$RIG/guest mail-check /mnt/nfs/box {each} a b c d"),
        );
        assert_eq!(said, format!("{} messages\n", 4 * each));
    }
}
