//! READDIR and READDIRPLUS: exact limits, cookies that stay good, directories of any size.

use std::collections::{BTreeSet, HashSet};

use nfsd::nfs3::status::Nfsstat3;
use nfsd::xdr::opaque_len;
use tests::client::nfs3::{Entry, Outcome as _, Page};
use tests::client::{Client, Fh, Login};
use tests::daemon::{Setup, TestServer, policies};

/// Files of assorted names made behind the server's back.
fn fill(server: &TestServer, dir: &str, count: usize) -> BTreeSet<Vec<u8>> {
    let dir = server.export().join(dir);
    std::fs::create_dir_all(&dir).expect("mkdir");
    let mut names = BTreeSet::from([b".".to_vec(), b"..".to_vec()]);
    for n in 0..count {
        let name = format!("{n}{}", "x".repeat(n * 7 % 60));
        std::fs::write(dir.join(&name), "").expect("a file");
        names.insert(name.into_bytes());
    }
    names
}

fn names(entries: &[Entry]) -> BTreeSet<Vec<u8>> {
    let set: BTreeSet<Vec<u8>> = entries.iter().map(|e| e.name.clone()).collect();
    assert_eq!(set.len(), entries.len(), "an entry twice");
    set
}

/// Bytes of one entry with the flag before it, as they count against maxcount.
fn entry_bytes(entry: &Entry, plus: bool) -> usize {
    let attributes = if entry.attr.is_some() { 88 } else { 4 };
    let handle = entry.fh.as_ref().map_or(4, |fh| 4 + opaque_len(fh.len()));
    dir_bytes(entry) + 4 + if plus { attributes + handle } else { 0 }
}

/// Bytes of one entry as they count against dircount.
fn dir_bytes(entry: &Entry) -> usize {
    8 + opaque_len(entry.name.len()) + 8
}

/// Lists page by page with `read`, which is given the cookie and the verifier. Each page must be as long as it may be.
fn pages(
    whole: &[Entry],
    plus: bool,
    limits: (usize, usize),
    mut read: impl FnMut(u64, [u8; 8]) -> Page,
) {
    let (dircount, maxcount) = limits;
    let (mut cookie, mut verf, mut at) = (0, [0; 8], 0);
    loop {
        let page = read(cookie, verf);
        verf = page.verf;
        assert!(
            page.resok_bytes <= maxcount,
            "{} > {maxcount}",
            page.resok_bytes
        );
        let got: Vec<_> = page.entries.iter().map(|e| (&e.name, e.fileid)).collect();
        let next: Vec<_> = whole[at..]
            .iter()
            .take(got.len())
            .map(|e| (&e.name, e.fileid))
            .collect();
        assert_eq!(got, next);
        at += got.len();
        let dir_total: usize = page.entries.iter().map(dir_bytes).sum();
        assert!(
            page.entries.len() == 1 || dir_total <= dircount,
            "{dir_total} > {dircount}"
        );
        assert_eq!(
            page.eof,
            at == whole.len(),
            "eof at {at} of {}",
            whole.len()
        );
        if page.eof {
            return;
        }
        assert!(!got.is_empty(), "an empty page in the middle");
        let fits = page.resok_bytes + entry_bytes(&whole[at], plus) <= maxcount
            && dir_total + dir_bytes(&whole[at]) <= dircount;
        assert!(
            !fits,
            "one more entry fits {limits:?}: {} bytes",
            page.resok_bytes
        );
        cookie = page.entries[got.len() - 1].cookie;
    }
}

/// The least maxcount that holds the resok with every entry of the directory alone.
fn least(whole: &[Entry], plus: bool) -> usize {
    let largest = whole.iter().map(|e| entry_bytes(e, plus)).max();
    88 + 8 + largest.unwrap_or(0) + 8
}

#[test]
fn every_count_of_readdir() {
    let server = TestServer::start();
    let expected = fill(&server, "dir", 40);
    let (mut client, root) = server.mounted();
    let dir = client.fh_of(&root, b"dir");
    let whole = client.list(&dir, 1 << 20);
    assert_eq!(names(&whole), expected);
    let least = least(&whole, false);
    for count in 100..5000_usize {
        if count < least {
            // Somewhere in the directory an entry does not fit; where is not the test's business.
            too_small(&mut client, &dir, count, false);
            continue;
        }
        pages(&whole, false, (usize::MAX, count), |cookie, verf| {
            client
                .readdir(&dir, cookie, verf, count as u32)
                .expect("READDIR")
        });
    }
    for count in [0, 1, 50, 95, 103] {
        let fail = client.readdir(&dir, 0, [0; 8], count).expect_err("no room");
        assert_eq!(fail.status, Nfsstat3::Toosmall, "{count}");
        assert!(fail.with.is_some());
    }
}

/// Pages within the limit until an entry does not fit: TOOSMALL then, never an empty page without end.
fn too_small(client: &mut Client, dir: &Fh, count: usize, plus: bool) {
    let (mut cookie, mut verf) = (0, [0; 8]);
    loop {
        let page = if plus {
            client.readdirplus(dir, cookie, verf, (count as u32, count as u32))
        } else {
            client.readdir(dir, cookie, verf, count as u32)
        };
        match page {
            Ok(page) => {
                assert!(page.resok_bytes <= count);
                assert!(!page.eof, "{count} was said to be too small");
                cookie = page.entries.last().expect("an entry").cookie;
                verf = page.verf;
            }
            Err(fail) => return assert_eq!(fail.status, Nfsstat3::Toosmall),
        }
    }
}

#[test]
fn every_count_of_readdirplus() {
    let server = TestServer::start();
    let expected = fill(&server, "dir", 30);
    let (mut client, root) = server.mounted();
    let dir = client.fh_of(&root, b"dir");
    let whole = client.list_plus(&dir, (1 << 20, 1 << 20));
    assert_eq!(names(&whole), expected);
    let least = least(&whole, true);
    for count in 100..5000_usize {
        if count < least {
            too_small(&mut client, &dir, count, true);
            continue;
        }
        // Every maxcount alone; with a dircount that ends pages earlier, some.
        let dircounts: &[usize] = if count % 50 == 0 {
            &[count, 1, 24, 100, 512]
        } else {
            &[count]
        };
        for &dircount in dircounts {
            pages(&whole, true, (dircount, count), |cookie, verf| {
                let counts = (dircount as u32, count as u32);
                client
                    .readdirplus(&dir, cookie, verf, counts)
                    .expect("READDIRPLUS")
            });
        }
    }
}

#[test]
fn entries_are_what_they_name() {
    for policy in policies() {
        let server = Setup::default().policy(&policy).start();
        let (mut client, root) = server.mounted();
        let dir = client.new_dir(&root, b"dir", 0o755);
        client.new_file(&dir, b"file", 0o640);
        client.new_dir(&dir, b"sub", 0o750);
        client.symlink(&dir, b"link", b"file").expect("SYMLINK");
        let entries = client.list_plus(&dir, (4096, 32_768));
        assert_eq!(entries.len(), 5);
        for entry in &entries {
            let found = client.lookup(&dir, &entry.name).expect("LOOKUP");
            let attr = found.attr.expect("attributes");
            assert_eq!(entry.fileid, attr.fileid);
            if entry.name != b".." {
                assert_eq!(entry.attr, Some(attr));
                assert_eq!(entry.fh.as_ref(), Some(&found.fh));
            }
        }
        let plain = client.list(&dir, 4096);
        let pairs = |all: &[Entry]| -> Vec<(Vec<u8>, u64, u64)> {
            let all = all.iter();
            all.map(|e| (e.name.clone(), e.fileid, e.cookie)).collect()
        };
        assert_eq!(pairs(&plain), pairs(&entries));
        let page = client.readdir(&dir, 0, [0; 8], 4096).expect("READDIR");
        let attr = client.attr(&dir);
        assert_eq!(
            page.attr.map(|a| (a.fileid, a.mtime)),
            Some((attr.fileid, attr.mtime))
        );
        // An empty directory has itself and its parent.
        let empty = client.new_dir(&root, b"empty", 0o755);
        let all = client.list(&empty, 4096);
        assert_eq!(names(&all), BTreeSet::from([b".".to_vec(), b"..".to_vec()]));
    }
}

#[test]
fn errors() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let file = client.new_file(&root, b"file", 0o644);
    let closed = client.new_dir(&root, b"closed", 0o700);
    client.new_file(&closed, b"x", 0o644);
    let verf = client
        .readdir(&root, 0, [0; 8], 4096)
        .expect("READDIR")
        .verf;
    let fail = client.readdir(&file, 0, [0; 8], 4096).expect_err("a file");
    assert_eq!(
        (fail.status, fail.with),
        (Nfsstat3::Notdir, Some(client.attr(&file)))
    );
    let fail = client.readdirplus(&file, 0, [0; 8], (4096, 4096));
    assert_eq!(fail.status(), Nfsstat3::Notdir);
    // A verifier that never came from here.
    let mut foreign = verf;
    foreign[3] ^= 0x40;
    let first = client
        .readdir(&root, 0, [0; 8], 4096)
        .expect("READDIR")
        .entries[0]
        .cookie;
    let fail = client.readdir(&root, first, foreign, 4096);
    assert_eq!(fail.status(), Nfsstat3::BadCookie);
    let fail = client.readdirplus(&root, first, foreign, (4096, 4096));
    assert_eq!(fail.status(), Nfsstat3::BadCookie);
    // A cookie no file system can have.
    for cookie in [u64::MAX, 1 << 63] {
        let fail = client.readdir(&root, cookie, verf, 4096);
        assert_eq!(fail.status(), Nfsstat3::BadCookie, "{cookie:x}");
    }
    client.set_login(Login::user(1000, 1000));
    assert_eq!(
        client.readdir(&closed, 0, [0; 8], 4096).status(),
        Nfsstat3::Acces
    );
    let fail = client.readdirplus(&closed, 0, [0; 8], (4096, 4096));
    assert_eq!(fail.status(), Nfsstat3::Acces);
}

/// A directory that may be listed but not searched shows names, and nothing of what is behind them.
#[test]
fn listing_without_searching() {
    let server = TestServer::start();
    let (mut client, root) = server.mounted();
    let dir = client.new_dir(&root, b"dir", 0o744);
    client.new_file(&dir, b"file", 0o644);
    client.set_login(Login::user(1000, 1000));
    assert_eq!(names(&client.list(&dir, 4096)).len(), 3);
    assert_eq!(client.lookup(&dir, b"file").status(), Nfsstat3::Acces);
    let plus = client.readdirplus(&dir, 0, [0; 8], (4096, 32_768));
    if let Ok(page) = plus {
        let file = page.entries.iter().find(|e| e.name == b"file");
        let file = file.expect("the name");
        assert!(
            file.fh.is_none(),
            "READDIRPLUS gives a handle LOOKUP refuses: a way around the directory's mode"
        );
    }
}

/// Whoever lists while others create and remove sees every entry that was there all the time exactly once.
#[test]
fn cookies_under_change() {
    for policy in policies() {
        let server = Setup::options("rw,async,no_root_squash,insecure")
            .policy(&policy)
            .start();
        let kept = fill(&server, "dir", 600);
        let (mut client, root) = server.mounted();
        let dir = client.fh_of(&root, b"dir");
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let (dir, stop, mut other) = (&dir, &stop, server.client());
            scope.spawn(move || {
                let mut n = 0_u32;
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let name = format!("passing-{n}");
                    other.new_file(dir, name.as_bytes(), 0o600);
                    if n >= 20 {
                        let old = format!("passing-{}", n - 20);
                        other.remove(dir, old.as_bytes()).expect("REMOVE");
                    }
                    n += 1;
                }
            });
            for round in 0..12 {
                let entries = if round % 2 == 0 {
                    client.list(dir, 700)
                } else {
                    client.list_plus(dir, (512, 2000))
                };
                let mut seen = HashSet::new();
                for entry in entries.iter().filter(|e| kept.contains(&e.name)) {
                    assert!(seen.insert(&entry.name), "{:?} twice", entry.name);
                }
                assert_eq!(seen.len(), kept.len(), "round {round}");
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
    }
}

/// A cookie is good after the entry it stands for was removed, over other connections, and after a restart.
#[test]
fn cookies_outlive_entries_and_servers() {
    let mut server = TestServer::start();
    fill(&server, "dir", 100);
    let (mut client, root) = server.mounted();
    let dir = client.fh_of(&root, b"dir");
    let whole = client.list(&dir, 1 << 20);
    let page = client.readdir(&dir, 0, [0; 8], 1000).expect("READDIR");
    let read = page.entries.len();
    let last = &page.entries[read - 1];
    let rest: Vec<_> = whole[read..].iter().map(|e| e.name.clone()).collect();
    let follow = |client: &mut Client| -> Vec<Vec<u8>> {
        let page = client.readdir(&dir, last.cookie, page.verf, 1 << 20);
        let page = page.expect("READDIR");
        page.entries.into_iter().map(|e| e.name).collect()
    };
    assert_eq!(follow(&mut client), rest);
    for entry in page.entries.iter().filter(|e| !e.name.starts_with(b".")) {
        client.remove(&dir, &entry.name).expect("REMOVE");
    }
    assert_eq!(follow(&mut client), rest);
    assert_eq!(follow(&mut server.client()), rest);
    drop(client);
    server.kill9();
    server.start_again();
    assert_eq!(follow(&mut server.client()), rest);
}

/// A hundred thousand entries: each comes once, and the server reads each from the disk about once, however small the
/// pages are.
#[test]
fn a_hundred_thousand_entries() {
    const COUNT: usize = 100_000;
    let server = TestServer::start();
    let path = server.export().join("dir");
    std::fs::create_dir(&path).expect("mkdir");
    let first = path.join("0");
    std::fs::write(&first, "").expect("a file");
    // Links are made faster than files, and are entries as good.
    let mut origin = first.clone();
    for n in 1..COUNT {
        let link = path.join(n.to_string());
        if n % 60_000 == 0 {
            std::fs::write(&link, "").expect("a file");
            origin = link;
        } else {
            std::fs::hard_link(&origin, link).expect("a link");
        }
    }
    let (mut client, root) = server.mounted();
    let dir = client.fh_of(&root, b"dir");
    for (count, plus) in [(4096, false), (65_536, false), (32_768, true)] {
        let calls = "blocking.getdents64";
        let before = server.stat(calls);
        let entries = if plus {
            client.list_plus(&dir, (count, count))
        } else {
            client.list(&dir, count)
        };
        assert_eq!(names(&entries).len(), COUNT + 2);
        let bytes: usize = entries.iter().map(|e| entry_bytes(e, plus)).sum();
        let pages = (bytes / count as usize + 1) as u64;
        let made = server.stat(calls) - before;
        println!("{count} bytes a page, plus {plus}: {pages} pages, {made} jobs of getdents");
        assert!(
            made > 0 && made <= 2 * pages + 10,
            "{made} for {pages} pages"
        );
    }
}
