//! Several workers on one tree: every operation against every other, with hardly any room.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use vfs::exec::{self, Remote};
use vfs::uring::IoPolicy;
use vfs::{
    CreateHow, Cred, Errno, File, Mount, NodeKind, SetAttr, SetTime, Stable, Vfs, VfsConfig,
};

use crate::scratch::{self, POLICIES, alone, config, n, slice, soon};

const WORKERS: usize = 3;
const TASKS: u64 = 8;
const STEPS: u32 = 400;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % sides
    }
}

/// A directory of the tree: the root or one of a few below it, which come and go.
async fn some_dir(vfs: &Vfs, root: &Arc<File>, dice: &mut Dice) -> Arc<File> {
    let name = n(format!("d{}", dice.roll(4)));
    if dice.roll(3) == 0 {
        return root.clone();
    }
    let found = vfs.lookup(&Cred::root(), root, &name).await.result;
    found.map_or(root.clone(), |(file, _)| file)
}

/// A pinned file answers and is found by its handle, whoever removes it.
async fn keep(vfs: &Vfs, file: &Arc<File>, dir: &Arc<File>, name: &vfs::Name) -> Result<(), Errno> {
    let pin = file.pin()?;
    let removed = vfs.remove(&Cred::root(), dir, name).await.result;
    for _ in 0..4 {
        vfs.getattr(file).await.expect("pinned");
        let found = vfs.file(&file.mount, file.handle.clone()).await;
        assert!(Arc::ptr_eq(&found.expect("pinned"), pin.file()));
    }
    removed
}

async fn one(vfs: &Vfs, root: &Arc<File>, dice: &mut Dice) -> Result<(), Errno> {
    let cred = Cred::new([0, 1000, 1001][dice.roll(3) as usize], 100, &[]);
    let (dir, to) = (
        some_dir(vfs, root, dice).await,
        some_dir(vfs, root, dice).await,
    );
    let (name, new) = (
        n(format!("f{}", dice.roll(12))),
        n(format!("f{}", dice.roll(12))),
    );
    let sub = n(format!("d{}", dice.roll(4)));
    let any = SetAttr {
        mode: Some(0o777),
        ..SetAttr::default()
    };
    let choice = dice.roll(18);
    match choice {
        0 => drop(
            vfs.create(&cred, &dir, &name, CreateHow::Unchecked(any))
                .await
                .result?,
        ),
        1 => drop(
            vfs.create(&cred, &dir, &name, CreateHow::Exclusive([3; 8]))
                .await
                .result?,
        ),
        2 => drop(vfs.mkdir(&cred, root, &sub, &any).await.result?),
        3 => vfs.rmdir(&cred, root, &sub).await.result?,
        4 | 5 => vfs.rename(&cred, &dir, &name, &to, &new).await.result?,
        6 => {
            vfs.rename(&cred, root, &sub, root, &n(format!("d{}", dice.roll(4))))
                .await
                .result?
        }
        7 | 8 => vfs.remove(&cred, &dir, &name).await.result?,
        9 => drop(vfs.symlink(&cred, &dir, &name, b"f0", &any).await.result?),
        10 => drop(
            vfs.mknod(&cred, &dir, &name, NodeKind::Fifo, &any)
                .await
                .result?,
        ),
        11 => {
            let page = vfs
                .readdir(&cred, &dir, 0, [0; 8], 2000, true)
                .await
                .result?;
            for entry in page.entries.into_iter().filter_map(|e| e.node) {
                match vfs.file(&dir.mount, (*entry.0).clone()).await {
                    Ok(file) => drop(vfs.getattr(&file).await),
                    Err(e) => assert_eq!(e, Errno::ESTALE),
                }
            }
        }
        _ => {
            let (file, _) = vfs.lookup(&cred, &dir, &name).await.result?;
            let at = dice.roll(1 << 16);
            match choice {
                12 => {
                    let stable = [Stable::Unstable, Stable::FileSync][dice.roll(2) as usize];
                    vfs.write(&cred, &file, at, slice(&[7; 5000]), stable)
                        .await
                        .result?;
                    vfs.commit(&cred, &file, 0, 0).await.result?;
                }
                13 => drop(vfs.read(&cred, &file, at, 9000).await.result?),
                14 => vfs.link(&cred, &file, &to, &new).await.result?,
                15 | 16 => keep(vfs, &file, &dir, &name).await?,
                _ => {
                    let set = SetAttr {
                        mode: Some(0o666),
                        size: Some(at),
                        mtime: SetTime::Now,
                        ..SetAttr::default()
                    };
                    vfs.setattr(&cred, &file, &set, None).await.result?;
                }
            }
        }
    }
    Ok(())
}

/// What a racing neighbour may cause; anything else is a fault of ours.
const EXPECTED: [Errno; 11] = [
    Errno::ENOENT,
    Errno::EEXIST,
    Errno::ESTALE,
    Errno::ENOTDIR,
    Errno::EISDIR,
    Errno::ENOTEMPTY,
    Errno::EINVAL,
    Errno::EACCES,
    Errno::EPERM,
    Errno::EXDEV,
    Errno::ELOOP,
];

async fn worker(vfs: Arc<Vfs>, mount: Arc<Mount>, seed: u64) -> BTreeMap<&'static str, u32> {
    let done = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    for task in 0..TASKS {
        let (vfs, mount, done) = (vfs.clone(), mount.clone(), done.clone());
        exec::spawn(async move {
            let root = vfs.root(&mount).await.expect("root");
            let mut dice = Dice(seed * 1000 + task);
            let mut outcomes = BTreeMap::new();
            for _ in 0..STEPS {
                let name = match one(&vfs, &root, &mut dice).await {
                    Ok(()) => "ok",
                    Err(e) if EXPECTED.contains(&e) => e.name(),
                    Err(e) => panic!("{e:?}"),
                };
                *outcomes.entry(name).or_insert(0) += 1;
                if dice.roll(20) == 0 {
                    exec::sleep(std::time::Duration::from_millis(dice.roll(30))).await;
                }
            }
            done.borrow_mut().push(outcomes);
        });
    }
    // No limit but the machine's: a deadlock would never end, a slow disk may take its time.
    while done.borrow().len() < TASKS as usize {
        exec::sleep(std::time::Duration::from_millis(20)).await;
    }
    scratch::quiet().await;
    let mut sum = BTreeMap::new();
    for (name, count) in done.take().into_iter().flatten() {
        *sum.entry(name).or_insert(0) += count;
    }
    sum
}

/// Afterwards the server and the file system agree on every name.
async fn agree(vfs: &Vfs, dir: &Arc<File>, path: &Path) {
    for entry in fs::read_dir(path).expect("dir").flatten() {
        let name = entry.file_name();
        let name = n(std::os::unix::ffi::OsStrExt::as_bytes(&*name));
        let (file, attr) = vfs
            .lookup(&Cred::root(), dir, &name)
            .await
            .result
            .expect("there");
        let local = entry.metadata().expect("stat");
        assert_eq!(attr.fileid, std::os::unix::fs::MetadataExt::ino(&local));
        assert_eq!(attr.size, local.len());
        if local.is_dir() {
            Box::pin(agree(vfs, &file, &entry.path())).await;
        }
    }
}

#[test]
fn workers_share_a_tree() {
    let _alone = alone();
    for policy in POLICIES {
        let before = scratch::descriptors();
        let dir = scratch::dir();
        let vfs = Vfs::new(&VfsConfig {
            open_files: 1,
            verifier_seed: 1,
        });
        let mount = vfs.add_mount(Mount::open(dir.path(), false, None).expect("mount"));
        let workers: Vec<_> = (0..WORKERS)
            .map(|index| {
                let (vfs, mount) = (vfs.clone(), mount.clone());
                thread::spawn(move || {
                    let mut small = config(policy);
                    (small.fixed_files, small.personalities) = (6, 4);
                    let remote = Remote::new(index).expect("worker");
                    exec::run(&remote, &small, worker(vfs, mount, index as u64 + 1))
                })
            })
            .collect();
        for worker in workers {
            let outcomes = worker.join().expect("no panic").expect("worker");
            println!("{outcomes:?}");
            assert!(outcomes["ok"] > 100);
        }
        let path = dir.path().to_owned();
        scratch::run(&config(IoPolicy::Ring), async move {
            let root = vfs.root(&mount).await.expect("root");
            agree(&vfs, &root, &path).await;
            assert!(vfs.table.files().iter().all(|f| !f.dirty()));
            drop(root);
            assert!(soon(|| vfs.table.files().iter().all(|f| Arc::strong_count(f) <= 2)).await);
            // What it keeps open goes with it.
            drop((vfs, mount));
        });
        let after =
            scratch::eventually(|| (scratch::descriptors().len() <= before.len()).then_some(()));
        assert!(after.is_some(), "{:?}", scratch::descriptors());
    }
}
