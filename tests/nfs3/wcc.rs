//! Weak cache consistency: what a client concludes from it must be true, with others at work, too.

use std::collections::HashMap;

use nfsd::nfs3::types::{Createhow3, Fattr3, StableHow, WccAttr, WccData};
use tests::client::nfs3::mode;
use tests::daemon::{Setup, policies};

/// Two connections write to one file. From "before equals what I knew" a client concludes that only its own write
/// happened: then the size can only be what it was or the end of its own write.
#[test]
fn two_writers() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let file = client.new_file(&root, b"file", 0o644);
        let mut exact = 0;
        let mut rounds = Vec::new();
        std::thread::scope(|scope| {
            let lanes: Vec<_> = (0..2_u64)
                .map(|lane| {
                    let (file, mut client) = (&file, server.client());
                    scope.spawn(move || {
                        let mut seen = Vec::new();
                        for n in 0..300 {
                            let offset = (2 * n + lane) * 10;
                            let stable = StableHow::ALL[(n % 3) as usize];
                            let wrote = client.write(file, offset, &[lane as u8; 10], stable);
                            seen.push((offset + 10, wrote.expect("WRITE").file_wcc));
                        }
                        seen
                    })
                })
                .collect();
            for lane in lanes {
                rounds.extend(lane.join().expect("a writer"));
            }
        });
        for (end, wcc) in &rounds {
            let after = wcc.after.expect("attributes after the write");
            assert!(after.size >= *end, "a size from before the write");
            if let Some(before) = wcc.before {
                exact += 1;
                assert_eq!(
                    after.size,
                    before.size.max(*end),
                    "somebody else's write is hidden"
                );
            }
        }
        println!(
            "{policy}: {exact} of {} with attributes from before",
            rounds.len()
        );
        assert_eq!(client.attr(&file).size, 6000);
    }
}

/// Sizes a client sees in the order it asks never go back while a file only grows.
#[test]
fn sizes_never_go_back() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let file = client.new_file(&root, b"file", 0o644);
        std::thread::scope(|scope| {
            let (file, mut writer) = (&file, server.client());
            let writing = scope.spawn(move || {
                for n in 0..400_u64 {
                    let wrote = writer.write(file, n * 100, &[1; 100], StableHow::Unstable);
                    let after = wrote.expect("WRITE").file_wcc.after;
                    assert_eq!(after.map(|a| a.size), Some(n * 100 + 100));
                    assert_eq!(writer.attr(file).size, n * 100 + 100);
                }
            });
            let mut last = 0;
            while !writing.is_finished() {
                let attr = client.attr(file);
                assert!(attr.size >= last, "{} after {last}", attr.size);
                last = attr.size;
                let read = client.read(file, last.saturating_sub(100), 100);
                let read = read.expect("READ");
                assert!(read.data.len() as u64 >= last.min(100));
            }
        });
    }
}

/// Four connections create and remove in one directory: the attributes before one operation are those after the one
/// before it, so that a client can chain its own and sees a gap where others were.
#[test]
fn directory_changes_form_a_chain() {
    for policy in policies() {
        let server = Setup::options("rw,async,no_root_squash,insecure")
            .policy(&policy)
            .start();
        let (mut client, root) = server.mounted();
        let dir = client.new_dir(&root, b"dir", 0o777);
        let first = client.attr(&dir);
        let mut all: Vec<WccData> = Vec::new();
        std::thread::scope(|scope| {
            let lanes: Vec<_> = (0..4)
                .map(|lane| {
                    let (dir, mut client) = (&dir, server.client());
                    scope.spawn(move || {
                        let mut seen = Vec::new();
                        for n in 0..100 {
                            let name = format!("{lane}-{n}").into_bytes();
                            let how = Createhow3::Guarded(mode(0o600));
                            let made = client.create(dir, &name, how).expect("CREATE");
                            seen.push(made.dir);
                            seen.push(client.remove(dir, &name).expect("REMOVE"));
                        }
                        seen
                    })
                })
                .collect();
            for lane in lanes {
                all.extend(lane.join().expect("a client"));
            }
        });
        // Times have the granularity of the clock, so several operations may share theirs: each "before" must be the
        // "after" of some operation, and as often as it is used.
        let mut after: HashMap<WccKey, i64> = HashMap::from([(key(&WccAttr::from(&first)), 1)]);
        for wcc in &all {
            let attr = wcc.after.expect("attributes after");
            *after.entry(key(&WccAttr::from(&attr))).or_default() += 1;
        }
        for wcc in &all {
            let before = wcc
                .before
                .expect("one change at a time: there are attributes before");
            let count = after.entry(key(&before)).or_default();
            *count -= 1;
            assert!(
                *count >= 0,
                "{before:?} was never the state after an operation"
            );
        }
        let last: Fattr3 = client.attr(&dir);
        assert_eq!(after.get(&key(&WccAttr::from(&last))), Some(&1));
    }
}

type WccKey = (u64, u32, u32, u32, u32);

fn key(attr: &WccAttr) -> WccKey {
    let (m, c) = (attr.mtime, attr.ctime);
    (attr.size, m.seconds, m.nseconds, c.seconds, c.nseconds)
}
