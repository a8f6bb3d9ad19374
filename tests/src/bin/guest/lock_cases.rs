//! The cases of lock_suite.rs. Each says what it holds by its name; where POSIX leaves a choice nothing is asked.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, fcntl};

use crate::lock_suite::{Ground, open};
use crate::locks::{Range, request};

/// A case: its name, and what it does.
pub type Case = (&'static str, fn(&Ground<'_>));

/// The names as they are.
macro_rules! cases {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), $name)),*] };
}

/// All of them.
pub const CASES: &[Case] = cases![
    a_file_without_locks_is_free,
    the_whole_file,
    the_first_byte,
    the_second_byte,
    the_first_two_bytes,
    the_last_byte_there_can_be,
    edges_of_31_and_32_bits,
    what_off_t_cannot_hold_is_refused,
    a_negative_length_is_what_lies_before,
    from_the_current_offset_and_from_the_end,
    beyond_the_end_of_the_file,
    read_locks_are_shared,
    neighbours_do_not_conflict,
    own_locks_are_not_in_the_way,
    a_lock_is_converted,
    a_refused_conversion_keeps_the_old_lock,
    a_refused_lock_changes_nothing,
    unlocking_the_middle_splits,
    converting_the_middle_splits,
    overlapping_and_touching_locks_are_one,
    unlocking_what_is_not_locked,
    many_ranges,
    any_close_drops_all,
    closing_a_duplicate_drops_all,
    another_open_works_on_after_the_close,
    a_process_that_ends_drops_all,
    a_child_inherits_no_lock,
    a_lock_needs_the_access,
    locks_only_advise,
    files_do_not_share_locks,
    names_of_one_file_do,
    a_waiter_gets_what_is_unlocked,
    a_waiter_needs_all_of_its_range,
    a_reader_gets_what_is_converted,
    waiters_take_turns,
    a_killed_waiter_gets_nothing,
    what_was_written_under_a_lock_is_seen,
    a_file_grown_under_a_lock_is_seen,
    two_processes_count_right,
    much_data_under_a_lock,
];

const MAX: i64 = i64::MAX;

fn a_file_without_locks_is_free(ground: &Ground<'_>) {
    let _me = ground.me();
    let mut other = ground.other();
    for (start, len) in [
        (0, 1),
        (0, 0),
        (0, MAX),
        (1, 1),
        (1, 0),
        (1, MAX),
        (MAX, 1),
        (MAX, 0),
    ] {
        other.does(&format!("g:r:{start}:{len}=free g:w:{start}:{len}=free"));
        other.does(&format!("w:{start}:{len} u:{start}:{len}"));
    }
}

fn the_whole_file(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("w:0:0");
    for (start, len) in [
        (0, 1),
        (0, 0),
        (0, MAX),
        (1, 1),
        (1, 0),
        (1 << 40, 1),
        (MAX, 1),
        (MAX, 0),
    ] {
        other.does(&format!(
            "!r:{start}:{len} !w:{start}:{len} g:r:{start}:{len}=w:0:0"
        ));
    }
    me.does("u:0:0");
    other.does("w:0:0");
    me.does("!r:0:1");
}

fn the_first_byte(ground: &Ground<'_>) {
    ground.me().does("put:0:ab").does("close");
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("w:0:1");
    other.does("!w:0:1 !w:0:0 !r:0:2 g:w:0:0=w:0:1 w:1:1 u:1:1 w:1:0 u:0:0 g:w:1:0=free");
}

fn the_second_byte(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("w:1:1");
    other.does("w:0:1 u:0:1 !w:0:2 !w:0:0 !w:1:1 !w:1:0 g:r:0:0=w:1:1 w:2:1 u:2:1 w:2:0");
}

fn the_first_two_bytes(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("w:0:2");
    other.does("!w:0:1 !w:0:2 !w:1:1 !w:1:0 !w:0:0 g:w:1:1=w:0:2 w:2:1 u:2:1 w:2:0");
}

fn the_last_byte_there_can_be(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    let before = MAX - 1;
    me.does(&format!("w:{MAX}:1"));
    other.does(&format!(
        "!w:{MAX}:1 !w:{MAX}:0 !w:0:0 !r:{before}:2 !r:{before}:0"
    ));
    other.does(&format!("w:{before}:1 u:{before}:1 w:0:{MAX}"));
    me.does(&format!("!w:{before}:1 u:0:0"));
    other.does(&format!("w:{MAX}:0"));
}

fn edges_of_31_and_32_bits(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    for edge in [
        i64::from(i32::MAX),
        1 << 31,
        i64::from(u32::MAX),
        1 << 32,
        1 << 62,
    ] {
        let (before, after) = (edge - 1, edge + 1);
        me.does(&format!("w:{edge}:1"));
        other.does(&format!(
            "!w:{edge}:1 !w:0:{after} !w:{before}:0 g:w:0:0=w:{edge}:1"
        ));
        other.does(&format!(
            "w:{before}:1 w:{after}:1 w:0:{edge} w:{after}:0 u:0:0"
        ));
        me.does("u:0:0");
        me.does(&format!("w:{before}:3"));
        other.does(&format!(
            "!r:{before}:1 !r:{edge}:1 !r:{after}:1 r:{}:1 u:0:0",
            edge + 2
        ));
        me.does("u:0:0");
    }
}

fn what_off_t_cannot_hold_is_refused(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    for kind in ["r", "w", "u", "g"] {
        me.does(&format!(
            "E:{kind}:{MAX}:2=EOVERFLOW E:{kind}:{MAX}:{MAX}=EOVERFLOW"
        ));
        me.does(&format!(
            "E:{kind}:2:{MAX}=EOVERFLOW E:{kind}:-1:1=EINVAL E:{kind}:5:-6=EINVAL"
        ));
    }
    other.does("g:w:0:0=free w:0:0");
}

fn a_negative_length_is_what_lies_before(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("w:20:-10");
    other.does("g:w:0:0=w:10:10 w:9:1 !w:10:1 !w:19:1 w:20:1 u:0:0");
    other.does("w:10:-10");
    me.does("u:15:-5");
    other.does("w:10:5 !w:15:1");
}

fn from_the_current_offset_and_from_the_end(ground: &Ground<'_>) {
    let (me, mut other) = (ground.me(), ground.other());
    let ask = |whence: i32, start, len| {
        let mut lock = request(libc::F_WRLCK, Range { start, len });
        lock.l_whence = whence as i16;
        fcntl(me.file(), FcntlArg::F_SETLK(&lock)).expect("F_SETLK");
    };
    let mut file = me.file();
    file.write_all(&[b'x'; 50]).expect("write");
    file.seek(SeekFrom::Start(30)).expect("lseek");
    ask(libc::SEEK_CUR, 0, 5);
    other.does("g:w:0:0=w:30:5");
    ask(libc::SEEK_CUR, -10, 5);
    other.does("g:w:0:0=w:20:5 w:25:5 u:0:0");
    // As lockf(): a negative size ends before the offset, none reaches to the end.
    ask(libc::SEEK_CUR, 0, -30);
    other.does("g:w:0:0=w:0:35");
    ask(libc::SEEK_END, -2, 1);
    other.does("!w:48:1 w:47:1 w:49:1 u:0:0");
    ask(libc::SEEK_END, 0, 0);
    other.does("g:w:49:0=w:50:0 !w:5000:1");
}

fn beyond_the_end_of_the_file(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("put:0:short w:100:10");
    other.does("!w:109:1 w:110:0 w:0:100 g:w:0:0=w:100:10");
    me.does("size:5");
}

fn read_locks_are_shared(ground: &Ground<'_>) {
    let (mut me, mut other, mut third) = (ground.me(), ground.other(), ground.other());
    me.does("r:0:10");
    other.does("r:5:10 g:r:0:0=free g:w:0:5=r:0:10");
    third.does("r:0:0 !w:0:1 !w:14:1");
    me.does("!w:7:1 u:0:0 !w:0:1");
    third.does("u:0:0");
    me.does("w:0:5 !w:5:1 w:15:1");
}

fn neighbours_do_not_conflict(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("w:0:10 w:20:10 w:40:0");
    other.does("w:10:10 w:30:10 !w:9:2 !w:19:2 !w:39:2 g:w:12:100=w:20:10");
    me.does("!w:10:1 !w:30:1 g:r:0:0=w:10:10");
}

fn own_locks_are_not_in_the_way(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("w:0:10 g:w:0:10=free g:r:5:1=free w:0:10 r:0:10 w:5:10");
    other.does("!r:5:1 r:0:5");
}

fn a_lock_is_converted(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("r:0:10");
    other.does("r:0:10 u:0:10");
    me.does("w:0:10");
    other.does("!r:0:10");
    me.does("r:0:10");
    other.does("r:0:10 !w:0:10");
}

fn a_refused_conversion_keeps_the_old_lock(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("r:0:10");
    other.does("r:5:10");
    me.does("!w:0:10");
    other.does("!w:0:1 g:w:0:10=r:0:10");
    other.does("u:0:0 !w:0:1");
}

fn a_refused_lock_changes_nothing(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("w:20:10");
    other.does("r:0:5 !w:0:30 !r:10:15");
    me.does("g:w:0:10=r:0:5 w:5:15");
}

fn unlocking_the_middle_splits(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("w:0:30 u:10:10");
    other.does("g:w:0:15=w:0:10 g:w:15:0=w:20:10 w:10:10 !w:9:1 !w:20:1");
    me.does("!w:10:1 u:0:0");
    other.does("w:0:30 u:0:0");
    me.does("w:0:0 u:100:1 u:0:1");
    other.does("w:100:1 w:0:1 !w:99:1 !w:101:1");
    me.does(&format!("u:{MAX}:1"));
    other.does(&format!("w:{MAX}:1 !w:{}:1", MAX - 1));
}

fn converting_the_middle_splits(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("w:0:30 r:10:10");
    other.does("r:10:10 !r:9:1 !r:20:1 !w:10:1 u:0:0");
    me.does("r:0:30 w:10:10");
    other.does("r:0:10 r:20:10 !r:10:1");
}

fn overlapping_and_touching_locks_are_one(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("w:0:10 w:20:10 w:10:10");
    other.does("g:w:15:1=w:0:30 !w:0:1 !w:29:1 w:30:1 u:0:0");
    me.does("w:25:20");
    other.does("g:w:0:0=w:0:45");
    me.does("u:0:45");
    other.does("g:w:0:0=free");
    me.does("r:0:10 r:5:10 w:0:15 r:0:15 u:0:15");
    other.does("w:0:0");
}

fn unlocking_what_is_not_locked(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("u:0:0 u:10:10");
    other.does("w:10:10");
    me.does("u:10:10 !w:10:1 w:0:10 u:5:100 !w:10:1");
    other.does("!w:4:1 w:5:5 u:0:0");
    me.does("w:10:10");
}

fn many_ranges(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    for n in 0..60 {
        me.does(&format!(
            "{}:{}:10",
            if n % 3 == 0 { "r" } else { "w" },
            n * 20
        ));
    }
    for n in (0..60).step_by(7) {
        let own = if n % 3 == 0 { "r" } else { "w" };
        other.does(&format!(
            "!w:{}:1 w:{}:10 g:w:{}:5={own}:{}:10",
            n * 20 + 9,
            n * 20 + 10,
            n * 20,
            n * 20
        ));
    }
    other.does("u:0:0");
    me.does("u:5:1200");
    other.does("g:w:1:0=r:0:5 w:5:0");
}

fn any_close_drops_all(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("w:0:10 r:20:10");
    other.does("!w:0:10");
    // Another descriptor of the file, that never locked.
    me.does("peek");
    other.does("g:w:0:0=free w:0:0 u:0:0");
    me.does("w:0:10 close");
    other.does("w:0:0");
}

fn closing_a_duplicate_drops_all(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("w:0:10");
    other.does("!w:0:10");
    me.does("dup");
    other.does("w:0:0");
}

fn another_open_works_on_after_the_close(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("w:0:0 put:0:abcdefghij");
    let second = open(&ground.path(""), "rw");
    me.does("close");
    other.does("w:0:0 see:0:abcdefghij u:0:0");
    let ask = |kind| {
        let lock = request(kind, Range { start: 0, len: 0 });
        fcntl(&second, FcntlArg::F_SETLK(&lock)).expect("F_SETLK");
    };
    ask(libc::F_WRLCK);
    other.does("!w:0:1");
    second.write_all_at(b"0123456789", 5).expect("pwrite");
    let mut all = [0; 15];
    second.read_exact_at(&mut all, 0).expect("pread");
    assert_eq!(&all, b"abcde0123456789");
    ask(libc::F_UNLCK);
    other.does("w:0:0 see:0:abcde0123456789");
}

fn a_process_that_ends_drops_all(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    other.does("w:0:10 r:20:0");
    me.does("!w:0:1 !w:30:1");
    drop(other);
    me.does("W:0:0");
}

fn a_child_inherits_no_lock(ground: &Ground<'_>) {
    let (mut me, mut third) = (ground.me(), ground.other());
    let inherited = me.file().try_clone().expect("dup");
    let child = Command::new(std::env::current_exe().expect("exe"))
        .args(["locks", &ground.path(".go").display().to_string()])
        .args(["say:there", "eof"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(inherited))
        .spawn();
    let child = child.expect("spawn");
    // Only now: the parent's close of the duplicate would have dropped it.
    me.does("w:0:10");
    third.does("!w:0:10 g:w:0:0=w:0:10");
    // The child ends, and closes what it inherited; the lock is its parent's.
    let out = child.wait_with_output().expect("wait");
    assert!(out.status.success(), "the child: {}", out.status);
    third.does("!w:0:10");
    me.does("u:0:10");
    third.does("w:0:10");
    let _ = fs::remove_file(ground.path(".go"));
}

fn a_lock_needs_the_access(ground: &Ground<'_>) {
    let mut me = ground.me();
    me.does("only:r E:w:0:1=EBADF r:0:1 g:w:0:1=free");
    me.does("only:w E:r:0:1=EBADF w:0:1 g:w:0:1=free");
}

fn locks_only_advise(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("put:0:0123456789 w:0:0");
    other.does("open see:0:0123456789 put:3:xyz see:0:012xyz6789 put:10:more size:14");
    open(&ground.path(""), "w").set_len(20).expect("ftruncate");
}

fn files_do_not_share_locks(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other_at(".2"));
    me.does("w:0:0");
    other.does("g:w:0:0=free w:0:0");
    drop(other);
    let _ = fs::remove_file(ground.path(".2"));
}

fn names_of_one_file_do(ground: &Ground<'_>) {
    let mut me = ground.me();
    fs::hard_link(ground.path(""), ground.path(".2")).expect("link");
    let mut other = ground.other_at(".2");
    me.does("w:0:10");
    other.does("!w:0:10 w:10:1");
    fs::rename(ground.path(".2"), ground.path(".3")).expect("rename");
    other.does("!w:0:10");
    ground.other_at(".3").does("!w:0:10 !w:10:1 w:11:1");
    fs::remove_file(ground.path(".3")).expect("unlink");
    other.does("!w:0:10 w:20:1");
}

fn a_waiter_gets_what_is_unlocked(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    for (held, wanted, given) in [
        ("w:0:10", "W:0:10", "u:0:10"),
        ("w:0:10", "R:9:0", "u:0:0"),
        ("r:0:0", "W:100:1", "u:100:1"),
        ("w:0:0", "W:0:0", "close"),
    ] {
        me.does("open").does(held);
        other.waits(wanted);
        me.does(given);
        other.done(wanted);
        other.does("u:0:0");
    }
}

fn a_waiter_needs_all_of_its_range(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("w:0:10");
    other.waits("W:5:20");
    me.does("u:0:5");
    other.still_waits();
    me.does("u:5:4");
    other.still_waits();
    me.does("u:9:1");
    other.done("W:5:20");
    me.does("!r:24:1 w:25:1 w:0:5");
}

fn a_reader_gets_what_is_converted(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("w:0:10");
    other.waits("R:0:10");
    me.does("r:0:10");
    other.done("R:0:10");
    me.does("!w:0:1");
    other.does("!w:0:1");
}

fn waiters_take_turns(ground: &Ground<'_>) {
    let (mut me, mut one, mut two) = (ground.me(), ground.other(), ground.other());
    me.does("w:0:0");
    one.waits("W:0:10");
    two.waits("W:0:10");
    me.does("u:0:0");
    // One of them, and not the other.
    let mut got = [false; 2];
    while got == [false; 2] {
        got = [one.is_done(), two.is_done()];
    }
    assert_ne!(got, [true; 2], "both have it");
    let (first, second) = if got[0] {
        (&mut one, &mut two)
    } else {
        (&mut two, &mut one)
    };
    me.does("!r:0:1");
    second.still_waits();
    first.does("u:0:0");
    second.done("W:0:10");
    first.does("!r:0:1");
}

fn a_killed_waiter_gets_nothing(ground: &Ground<'_>) {
    let (mut me, mut other, mut third) = (ground.me(), ground.other(), ground.other());
    me.does("w:0:10");
    other.waits("W:0:10");
    drop(other);
    third.waits("W:0:10");
    me.does("u:0:10");
    third.done("W:0:10");
    third.does("u:0:10");
    me.does("W:0:10 u:0:10");
    third.does("W:0:10");
}

fn what_was_written_under_a_lock_is_seen(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    me.does("put:0:------");
    for n in 0..10 {
        let (a, b) = (format!("a{n:05}"), format!("b{n:05}"));
        me.does(&format!("w:0:10 put:0:{a} u:0:10"));
        other.does(&format!("w:0:10 see:0:{a} put:0:{b} u:0:10"));
        me.does(&format!("r:0:10 see:0:{b} u:0:10"));
    }
}

fn a_file_grown_under_a_lock_is_seen(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    for n in 0..10 {
        let (start, middle, end) = (n * 20, n * 20 + 10, n * 20 + 20);
        me.does(&format!("w:0:0 size:{start} put:{start}:0123456789 u:0:0"));
        other.does(&format!(
            "w:0:0 size:{middle} see:{start}:0123456789 put:{middle}:abcdefghij u:0:0"
        ));
        me.does(&format!("r:0:0 size:{end} see:{middle}:abcdefghij u:0:0"));
    }
}

fn two_processes_count_right(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    // What is written outside a lock another machine need not see.
    me.does("w:0:0 put:0:00000000 u:0:0");
    other.begin("count:40");
    me.does("count:40");
    other.done("count:40");
    me.does("w:0:0 see:0:00000080 size:8");
}

fn much_data_under_a_lock(ground: &Ground<'_>) {
    let (mut me, mut other) = (ground.me(), ground.other());
    // Across pages and transfers; the last byte of each part is another page's than its lock's.
    let part = |n: usize| vec![b'a' + n as u8; 70_000];
    for n in 0..8 {
        me.does(&format!("w:{}:1", n * 70_000));
        me.file()
            .write_all_at(&part(n), n as u64 * 70_000)
            .expect("pwrite");
    }
    other.does("!w:0:1 !w:490000:1 w:1:69999 u:0:0");
    me.does("u:0:0");
    other.does("r:0:0 size:560000 see:69999:ab see:559999:h see:279999:de");
    let mut all = Vec::new();
    std::io::Read::read_to_end(&mut me.file(), &mut all).expect("read");
    assert!(all == (0..8).flat_map(part).collect::<Vec<_>>());
}
