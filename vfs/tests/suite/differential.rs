//! Our answers held to the kernel's: random ACLs with named users, groups and masks, inherited from default ACLs or set;
//! random owners, users and supplementary groups; ACCESS, READ, WRITE, OPEN, listing and look-up against access(2) and
//! open(2) under the same credentials, on ext4 and XFS, while local processes go on changing what decides.
//!
//! 20,000 cases, 200,000 with `RINGNFS_SOAK=1`. A case is one user at one file with every question there is.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::access::Dice;
use crate::scratch::{Image, POLICIES, Tree, alone, n, on_worker};
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, XattrFlags};
use vfs::uring::blocking;
use vfs::uring::counters::Call;
use vfs::{AclChange, CreateHow, Cred, Errno, File, Rights, SetAttr, exec};

/// Files and directories asked about at a time.
const SUBJECTS: usize = 100;

#[derive(Default)]
struct Tally {
    cases: AtomicU64,
    questions: AtomicU64,
    granted: AtomicU64,
    /// Questions while ACLs were remembered.
    remembered: AtomicU64,
}

impl Tally {
    #[track_caller]
    fn same(&self, ours: bool, kernel: bool, what: &str, case: &dyn std::fmt::Debug) {
        assert_eq!(ours, kernel, "{what}: ours and the kernel's; {case:?}");
        self.questions.fetch_add(1, Ordering::Relaxed);
        self.granted.fetch_add(u64::from(ours), Ordering::Relaxed);
    }
}

struct Subject {
    path: PathBuf,
    file: Arc<File>,
    directory: bool,
}

/// What the kernel lets somebody do.
#[derive(Clone, Copy, Debug)]
struct Kernel {
    rights: Rights,
    open_read: bool,
    open_write: bool,
    open_both: bool,
    search: bool,
}

/// One of the answers of the kernel; anything but leave or refusal is an error of the test.
fn leave<T>(answer: Result<T, rustix::io::Errno>) -> Result<bool, Errno> {
    match answer {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::ACCESS) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

fn ask_kernel(path: &Path, directory: bool) -> Result<Kernel, Errno> {
    let may = |how| leave(rustix::fs::accessat(CWD, path, how, AtFlags::EACCESS));
    let open = |flags| -> Result<bool, Errno> {
        let fd: Result<OwnedFd, _> = rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
        leave(fd)
    };
    let writes = |flags| if directory { Ok(false) } else { open(flags) };
    Ok(Kernel {
        rights: Rights {
            read: may(Access::READ_OK)?,
            write: may(Access::WRITE_OK)?,
            execute: may(Access::EXEC_OK)?,
        },
        open_read: open(OFlags::RDONLY)?,
        open_write: writes(OFlags::WRONLY)?,
        open_both: writes(OFlags::RDWR)?,
        search: directory && leave(rustix::fs::stat(path.join("in")))?,
    })
}

/// Files and directories, every second one with what it inherits.
async fn subjects(t: &Tree, dice: &mut Dice) -> Vec<Subject> {
    let root = Cred::root();
    let mut all = Vec::new();
    for i in 0..SUBJECTS {
        let parent = t.path.join(format!("p{i}"));
        fs::create_dir(&parent).expect("mkdir");
        fs::set_permissions(&parent, fs::Permissions::from_mode(0o777)).expect("chmod");
        let (dir, _) = t.find(&format!("p{i}")).await.expect("find");
        if i % 2 == 0 {
            let set = AclChange::Set(dice.acl());
            let done = t.vfs.set_acl(&root, &dir, AclChange::NotSent, set);
            done.await.result.expect("a default ACL");
        }
        let (maker, directory) = (dice.cred(), i % 4 == 3);
        let mode = SetAttr {
            mode: Some(dice.roll(0o1000) as u32),
            ..SetAttr::default()
        };
        let file = if directory {
            let made = t.vfs.mkdir(&maker, &dir, &n("it"), &mode).await;
            let made = made.result.expect("mkdir").0;
            fs::write(parent.join("it/in"), b"x").expect("write");
            made
        } else {
            let how = CreateHow::Guarded(mode);
            let made = t.vfs.create(&maker, &dir, &n("it"), how).await;
            made.result.expect("create").0
        };
        all.push(Subject {
            path: parent.join("it"),
            file,
            directory,
        });
    }
    all
}

/// A local process changes what decides.
fn disturb(path: &Path, dice: &mut Dice) {
    const NAME: &str = acl::xattr::ACCESS;
    match dice.roll(4) {
        0 => {
            let (uid, gid) = (dice.id(), dice.id());
            chown(path, Some(uid), Some(gid)).expect("chown");
        }
        1 => {
            let mode = fs::Permissions::from_mode(dice.roll(0o1000) as u32);
            fs::set_permissions(path, mode).expect("chmod");
        }
        2 => {
            let _ = rustix::fs::removexattr(path, NAME);
        }
        _ => {
            let value = acl::xattr::encode(&dice.acl());
            rustix::fs::setxattr(path, NAME, &value, XattrFlags::empty()).expect("setxattr");
        }
    }
}

/// Everything but WRITE.
async fn compare(t: &Tree, cred: &Cred, it: &Subject, kernel: &Kernel, tally: &Tally) {
    let (rights, attr) = t.vfs.access(cred, &it.file).await.expect("access");
    let case = (cred, kernel, attr);
    tally.same(rights.read, kernel.rights.read, "ACCESS, read", &case);
    tally.same(rights.write, kernel.rights.write, "ACCESS, write", &case);
    tally.same(
        rights.execute,
        kernel.rights.execute,
        "ACCESS, execute",
        &case,
    );
    if it.directory {
        let list = t.vfs.readdir(cred, &it.file, 0, [0; 8], 4096, false).await;
        tally.same(list.result.is_ok(), kernel.open_read, "READDIR", &case);
        let found = t.vfs.lookup(cred, &it.file, &n("in")).await.result;
        tally.same(found.is_ok(), kernel.search, "LOOKUP", &case);
        return;
    }
    // Who may execute may read, or programs would not load; the owner always may.
    let (loads, mine) = (kernel.rights.execute, cred.uid() == attr.uid);
    for (read, write, expected) in [
        (true, false, kernel.open_read || loads),
        (false, true, kernel.open_write),
        (true, true, kernel.open_both),
    ] {
        let open = t.vfs.open_check(cred, &it.file, read, write).await;
        let what = format!("OPEN, read {read}, write {write}");
        tally.same(open.is_ok(), expected, &what, &case);
        assert!(matches!(open, Ok(_) | Err(Errno::EACCES)), "{open:?}");
    }
    let read = t.get(cred, &it.file, 0, 4).await;
    let expected = kernel.open_read || loads || mine;
    tally.same(read.is_ok(), expected, "READ", &case);
}

async fn on(t: Tree, cases: usize, seed: u64, tally: &Tally) {
    let mut dice = Dice(seed);
    let all = subjects(&t, &mut dice).await;
    for round in 0..cases / SUBJECTS {
        for it in &all {
            if dice.roll(3) == 0 {
                disturb(&it.path, &mut dice);
            }
        }
        if round % 4 == 0 {
            // Long enough for ACLs to be remembered.
            exec::sleep(Duration::from_millis(25)).await;
        }
        let cred = dice.cred();
        let paths: Vec<_> = all.iter().map(|s| (s.path.clone(), s.directory)).collect();
        let ask = move || {
            let each = paths.iter();
            each.map(|(path, directory)| ask_kernel(path, *directory))
                .collect::<Result<Vec<_>, _>>()
        };
        let kernel = blocking::run(&cred, Call::Statfs, ask).await;
        let kernel = kernel.expect("the kernel's answers");
        // Twice: the second time with what the first has left in the cache.
        for _ in 0..2 {
            for (it, kernel) in all.iter().zip(&kernel) {
                compare(&t, &cred, it, kernel, tally).await;
            }
            let held = t.vfs.table.acls_cached() as u64;
            tally.remembered.fetch_add(held, Ordering::Relaxed);
        }
        for (it, kernel) in all.iter().zip(&kernel).filter(|(it, _)| !it.directory) {
            let attr = t.vfs.getattr(&it.file).await.expect("getattr");
            let wrote = t.put(&cred, &it.file, 0, b"text").await.result;
            let expected = kernel.open_write || cred.uid() == attr.uid;
            tally.same(wrote.is_ok(), expected, "WRITE", &(&cred, kernel, attr));
            assert!(matches!(wrote, Ok(_) | Err(Errno::EACCES)), "{wrote:?}");
        }
        let done = all.len() as u64;
        tally.cases.fetch_add(done, Ordering::Relaxed);
    }
}

#[test]
fn every_decision_is_the_kernels() {
    let soak = std::env::var("RINGNFS_SOAK").is_ok_and(|v| v == "1");
    let cases: usize = if soak { 200_000 } else { 20_000 };
    let _alone = alone();
    let (start, tally) = (std::time::Instant::now(), Arc::new(Tally::default()));
    for (seed, kind) in [(1, "ext4"), (2, "xfs")] {
        let Some(image) = Image::new(kind, 300, "") else {
            return;
        };
        for (salt, policy) in [10, 20].into_iter().zip(POLICIES) {
            let tally = tally.clone();
            on_worker(policy, image.path(), move |t| {
                let tally = tally.clone();
                async move {
                    on(t, cases / 4, seed + salt, &tally).await;
                }
            });
            for entry in fs::read_dir(image.path()).expect("image").flatten() {
                if entry.file_name().as_encoded_bytes().starts_with(b"p") {
                    fs::remove_dir_all(entry.path()).expect("clean up");
                }
            }
        }
    }
    let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let (asked, granted) = (get(&tally.questions), get(&tally.granted));
    eprintln!(
        "{} cases, {asked} questions, {granted} granted, ACLs remembered {} times, no difference, {:.1} s",
        get(&tally.cases),
        get(&tally.remembered),
        start.elapsed().as_secs_f64()
    );
    assert_eq!(get(&tally.cases), cases as u64);
    assert!(granted > asked / 5 && granted < asked - asked / 5);
    assert!(get(&tally.remembered) > asked / 100);
}
