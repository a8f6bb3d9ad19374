//! Data and holes: SEEK, segments for READ_PLUS, ALLOCATE, DEALLOCATE, advice.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

use crate::scratch::{n, trees};
use vfs::{Advice, CreateHow, Cred, Errno, Permit, SEGMENTS_MAX, Segment, SetAttr, Sought, What};

const MIB: u64 = 1 << 20;

fn user() -> Cred {
    Cred::new(1000, 100, &[])
}

fn segment(what: What, offset: u64, len: u64) -> Segment {
    Segment { what, offset, len }
}

#[test]
fn seek_finds_data_and_holes() {
    trees(|t| async move {
        let root = Cred::root();
        // Hole, data, hole, data, hole.
        let plain = fs::File::create(t.path.join("f")).expect("create");
        plain.write_all_at(&[1; 4096], MIB).expect("write");
        plain.write_all_at(&[1; 4096], 4 * MIB).expect("write");
        plain.set_len(9 * MIB).expect("size");
        let (file, _) = t.find("f").await.expect("file");
        let at = |offset, what| t.vfs.seek(Permit::Judge, &root, &file, offset, what);
        let found = |offset| Ok(Sought { eof: false, offset });
        let end = Ok(Sought {
            eof: true,
            offset: 9 * MIB,
        });
        assert_eq!(at(0, What::Hole).await, found(0));
        assert_eq!(at(0, What::Data).await, found(MIB));
        assert_eq!(at(MIB + 5, What::Data).await, found(MIB + 5));
        assert_eq!(at(MIB + 5, What::Hole).await, found(MIB + 4096));
        assert_eq!(at(2 * MIB, What::Data).await, found(4 * MIB));
        assert_eq!(at(5 * MIB, What::Data).await, end, "no more data");
        assert_eq!(at(5 * MIB, What::Hole).await, found(5 * MIB));
        for beyond in [9 * MIB, 9 * MIB + 1, u64::MAX] {
            for what in [What::Data, What::Hole] {
                assert_eq!(at(beyond, what).await, Err(Errno::ENXIO), "{beyond}");
            }
        }
        plain.set_len(4 * MIB + 4096).expect("size");
        let end = Ok(Sought {
            eof: true,
            offset: 4 * MIB + 4096,
        });
        assert_eq!(at(4 * MIB, What::Hole).await, end, "only the end");
        plain.set_len(0).expect("size");
        assert_eq!(at(0, What::Hole).await, Err(Errno::ENXIO), "empty");
        let dir = t.vfs.seek(Permit::Judge, &root, &t.root, 0, What::Data);
        assert_eq!(dir.await, Err(Errno::EISDIR));
        fs::set_permissions(t.path.join("f"), PermissionsExt::from_mode(0o600)).expect("chmod");
        let other = user();
        let judged = t.vfs.seek(Permit::Judge, &other, &file, 0, What::Data);
        assert_eq!(judged.await, Err(Errno::EACCES));
        let opened = t.vfs.seek(Permit::Opened, &other, &file, 0, What::Data);
        assert_eq!(opened.await, Err(Errno::ENXIO), "decided at open");
    });
}

#[test]
fn segments_cover_the_range_and_are_bounded() {
    trees(|t| async move {
        let plain = fs::File::create(t.path.join("f")).expect("create");
        plain.write_all_at(&[1; 4096], MIB).expect("write");
        plain.set_len(3 * MIB).expect("size");
        let (file, _) = t.find("f").await.expect("file");
        let all = t.vfs.extents(&file, 0, u64::MAX).await.expect("extents");
        let expected = [
            segment(What::Hole, 0, MIB),
            segment(What::Data, MIB, 4096),
            segment(What::Hole, MIB + 4096, 2 * MIB - 4096),
        ];
        assert_eq!(all, expected);
        let part = t.vfs.extents(&file, MIB - 10, 20).await.expect("extents");
        let expected = [
            segment(What::Hole, MIB - 10, 10),
            segment(What::Data, MIB, 10),
        ];
        assert_eq!(part, expected);
        for beyond in [3 * MIB, u64::MAX] {
            let none = t.vfs.extents(&file, beyond, 10).await;
            assert_eq!(none, Ok(vec![]), "{beyond}");
        }
        for i in 0..2 * SEGMENTS_MAX as u64 {
            plain.write_all_at(&[1; 4096], i * MIB).expect("write");
        }
        let many = t.vfs.extents(&file, 0, u64::MAX).await.expect("extents");
        assert_eq!(many.len(), SEGMENTS_MAX);
        let gapless = many
            .windows(2)
            .all(|w| w[0].offset + w[0].len == w[1].offset);
        assert!(gapless, "{many:?}");
    });
}

#[test]
fn allocate_extends_and_deallocate_does_not() {
    trees(|t| async move {
        let root = Cred::root();
        let file = t.make(&root, "f").await;
        let path = t.path.join("f");
        let size = || fs::metadata(&path).expect("stat").len();
        let used = || fs::metadata(&path).expect("stat").blocks() * 512;
        let done = t.vfs.allocate(Permit::Judge, &root, &file, 4096, MIB).await;
        assert_eq!(done.result, Ok(()));
        assert_eq!((size(), used() >= MIB), (MIB + 4096, true));
        let (before, after) = (done.wcc.before, done.wcc.after);
        let (before, after) = (before.expect("before"), after.expect("after"));
        assert!(before.size == 0 && after.size == MIB + 4096 && after.change > before.change);
        t.put(&root, &file, 0, &[7; 8192])
            .await
            .result
            .expect("put");
        let inside = t.vfs.allocate(Permit::Judge, &root, &file, 0, 8192).await;
        assert_eq!(inside.result, Ok(()));
        let kept = t.get(&root, &file, 0, 8192).await.expect("read").0;
        assert!(kept.iter().all(|&b| b == 7) && size() == MIB + 4096);

        let free = |at, len| t.vfs.deallocate(Permit::Judge, &root, &file, at, len);
        assert_eq!(free(100, 8092).await.result, Ok(()));
        let read = t.get(&root, &file, 0, 8192).await.expect("read").0;
        let zeros = read.iter().skip(100).all(|&b| b == 0);
        assert!(zeros && read.iter().take(100).all(|&b| b == 7));
        for (at, len) in [(0, 1 << 40), (4096, u64::MAX), (1 << 40, 4096)] {
            assert_eq!(free(at, len).await.result, Ok(()), "{at} {len}");
            assert_eq!(size(), MIB + 4096, "the size stays");
        }
        assert!(used() < 64 << 10, "{}", used());

        for (at, len, error) in [
            (0, 0, Errno::EINVAL),
            (u64::MAX, 1, Errno::EFBIG),
            (i64::MAX as u64, 1, Errno::EFBIG),
            (1, u64::MAX, Errno::EFBIG),
        ] {
            let bad = t.vfs.allocate(Permit::Judge, &root, &file, at, len).await;
            assert_eq!(bad.result, Err(error), "{at} {len}");
        }
        assert_eq!(free(0, 0).await.result, Err(Errno::EINVAL));
        let dir = t.vfs.allocate(Permit::Judge, &root, &t.root, 0, 1).await;
        assert_eq!(dir.result, Err(Errno::EISDIR));
    });
}

#[test]
fn space_is_the_callers_who_may_write() {
    trees(|t| async move {
        let owner = user();
        let set = SetAttr {
            mode: Some(0o4755),
            ..SetAttr::default()
        };
        let how = CreateHow::Guarded(set);
        let made = t.vfs.create(&owner, &t.root, &n("f"), how).await;
        let (file, _) = made.result.expect("create");
        let stranger = Cred::new(1001, 101, &[]);
        for permit in [Permit::Judge, Permit::Opened] {
            let done = t.vfs.allocate(permit, &stranger, &file, 0, 4096).await;
            let expected = match permit {
                Permit::Judge => Err(Errno::EACCES),
                Permit::Opened => Ok(()),
            };
            assert_eq!(done.result, expected, "{permit:?}");
        }
        let mode = fs::metadata(t.path.join("f")).expect("stat").mode();
        assert_eq!(mode & 0o7777, 0o755, "setuid goes with the first change");
        let done = t
            .vfs
            .deallocate(Permit::Judge, &stranger, &file, 0, 9)
            .await;
        assert_eq!(done.result, Err(Errno::EACCES));
    });
}

#[test]
fn advice_is_taken_for_any_range() {
    trees(|t| async move {
        let root = Cred::root();
        let file = t.make(&root, "f").await;
        t.put(&root, &file, 0, &[7; 8192])
            .await
            .result
            .expect("put");
        for advice in [Advice::WillNeed, Advice::DontNeed] {
            for (at, len) in [(0, 0), (4096, 4096), (0, 1 << 40), (u64::MAX, u64::MAX)] {
                let done = t.vfs.advise(&file, at, len, advice).await;
                assert_eq!(done, Ok(()), "{advice:?} {at} {len}");
            }
        }
        let dir = t.vfs.advise(&t.root, 0, 0, Advice::WillNeed).await;
        assert_eq!(dir, Err(Errno::EISDIR));
        let kept = t.get(&root, &file, 0, 8192).await.expect("read").0;
        assert_eq!(kept, [7; 8192]);
    });
}
