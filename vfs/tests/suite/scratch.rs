//! Places and checks the tests of this crate share: temporary directories, file system images,
//! and workers that must leave nothing behind.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vfs::exec;
use vfs::uring::{IoPolicy, RingConfig, Slice};
use vfs::{
    Attr, Changed, CreateHow, Cred, File, Mount, Name, SetAttr, Stable, Vfs, VfsConfig, Written,
};

pub const POLICIES: [IoPolicy; 2] = [IoPolicy::Ring, IoPolicy::Adaptive];

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Tests that count descriptors, change limits or inject faults have the process to themselves.
pub fn alone() -> MutexGuard<'static, ()> {
    let guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    rustix::process::umask(rustix::fs::Mode::empty());
    guard
}

/// A new directory on the file system the build lies on.
pub fn dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("temporary directory");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(dir.path(), open).expect("chmod");
    dir
}

/// A small worker.
pub fn config(policy: IoPolicy) -> RingConfig {
    RingConfig {
        entries: 64,
        fixed_files: 64,
        pool_bytes: 16 << 20,
        recv_buffers: 8,
        personalities: 16,
        policy,
        threads: vfs::uring::blocking::Threads::new(4, 256),
        ..RingConfig::default()
    }
}

/// Runs `main` on a worker of its own and checks that it leaves nothing: no operation, buffer or
/// descriptor.
pub fn run<T: 'static>(config: &RingConfig, main: impl Future<Output = T> + 'static) -> T {
    let before = descriptors();
    let checked = async {
        // Not a measure of speed: a wake-up that never comes must fail, not hang.
        let value = exec::timeout(5 * LONG, main).await;
        let value = value.expect("the test hangs");
        quiet().await;
        value
    };
    let value = exec::block_on(config, checked).expect("worker");
    // The kernel takes a ring apart in its own time.
    let after = eventually(|| {
        let now = descriptors();
        (now.len() <= before.len()).then_some(now)
    });
    assert!(
        after.is_some(),
        "descriptors left: {:?}, were {before:?}",
        descriptors()
    );
    value
}

/// Waits until the kernel holds no operation, then checks that every buffer is back.
pub async fn quiet() {
    let left = || exec::with_ring(|r| (r.in_flight(), r.pool.outstanding(), r.recv.outstanding()));
    soon(|| left() == (0, 0, 0)).await;
    assert_eq!(left(), (0, 0, 0), "operations, pool buffers, recv buffers");
}

/// Long enough for anything that happens at all, on a machine with other work and a slow disk.
pub const LONG: Duration = Duration::from_secs(120);

/// What `f` gives, asked again for a long time; `None` if it never gives anything.
pub fn eventually<T>(mut f: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + LONG;
    loop {
        if let Some(value) = f() {
            return Some(value);
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// As [`eventually`], on a worker.
pub async fn soon(mut f: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + LONG;
    while !f() {
        if Instant::now() > end {
            return false;
        }
        exec::sleep(Duration::from_millis(2)).await;
    }
    true
}

/// Descriptors this process has open, with what they lead to.
pub fn descriptors() -> Vec<String> {
    let links = std::fs::read_dir("/proc/self/fd").expect("/proc");
    let mut all: Vec<_> = links
        .filter_map(|e| {
            let path = e.ok()?.path();
            let to = std::fs::read_link(&path).ok()?;
            Some(format!("{} {}", path.display(), to.display()))
        })
        .filter(|text| !text.ends_with("/fd"))
        .collect();
    all.sort();
    all
}

/// Says loudly that this test did not run, or not all of it, and what it needs.
///
/// # Panics
/// If `RINGNFS_REQUIRE_TOOLS` is `1`.
pub fn not_run(why: &str) {
    // Named by the test runner after the test.
    let thread = std::thread::current();
    super::not_run::not_run(thread.name().unwrap_or("vfs"), why);
}

/// A file system in a file, mounted while this lives.
pub struct Image {
    at: PathBuf,
    _dir: tempfile::TempDir,
}

impl Image {
    /// Makes and mounts a file system of `kind` and `megabytes`. Without the right to, says so
    /// loudly and gives `None`.
    pub fn new(kind: &str, megabytes: u64, options: &str) -> Option<Self> {
        Self::with(kind, &[], megabytes, options)
    }

    /// As [`Image::new`], with options for mkfs.
    pub fn with(kind: &str, make: &[&str], megabytes: u64, options: &str) -> Option<Self> {
        let dir = dir();
        let file = dir.path().join("image");
        let at = dir.path().join("mnt");
        std::fs::create_dir(&at).expect("mkdir");
        let image = std::fs::File::create(&file).expect("image");
        image.set_len(megabytes << 20).expect("image size");
        let quiet: &[&str] = if kind == "ext4" {
            &["-q", "-F"]
        } else {
            &["-q"]
        };
        let made = sh(Command::new(format!("mkfs.{kind}"))
            .args(quiet)
            .args(make)
            .arg(&file));
        let mounted = made
            && sh(Command::new("mount")
                .args(["-o", options])
                .arg(&file)
                .arg(&at));
        if !mounted {
            not_run(&format!("to make and mount a file system of {kind}"));
            return None;
        }
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(&at, open).expect("chmod");
        Some(Image { at, _dir: dir })
    }

    pub fn path(&self) -> &Path {
        &self.at
    }

    /// `mount -o remount,OPTIONS`.
    pub fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(sh(Command::new("mount")
            .args(["-o", &options])
            .arg(&self.at)));
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        sh(Command::new("umount").arg("-l").arg(&self.at));
    }
}

/// Runs a command; false if it fails or is not there.
pub fn sh(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Waits until the kernel holds at most `left` operations.
pub async fn quiet_but(left: usize) {
    let came_back = soon(|| exec::with_ring(|r| r.in_flight()) <= left).await;
    assert!(came_back, "operations never came back");
}

/// A VFS on one directory.
pub struct Tree {
    pub vfs: Arc<Vfs>,
    pub root: Arc<File>,
    pub path: PathBuf,
}

impl Tree {
    /// Opens `path` for export; on a worker.
    pub async fn open(path: &Path) -> Self {
        Self::with(path, false, 4096).await
    }

    /// As [`Tree::open`], with `crossmnt` or not, and a limit of open files.
    pub async fn with(path: &Path, cross: bool, open_files: usize) -> Self {
        static STARTS: AtomicU64 = AtomicU64::new(1);
        let vfs = Vfs::new(&VfsConfig {
            open_files,
            verifier_seed: STARTS.fetch_add(1, Ordering::Relaxed),
        });
        let mount = vfs.add_mount(Mount::open(path, cross, None).expect("mount"));
        let root = vfs.root(&mount).await.expect("root");
        let path = path.to_owned();
        Tree { vfs, root, path }
    }

    /// What `name` in the root is, for the superuser.
    pub async fn find(&self, name: &str) -> vfs::Result<(Arc<File>, Attr)> {
        let (root, name) = (Cred::root(), n(name));
        self.vfs.lookup(&root, &self.root, &name).await.result
    }

    /// A new file in the root, mode 0666.
    pub async fn make(&self, cred: &Cred, name: &str) -> Arc<File> {
        let set = SetAttr {
            mode: Some(0o666),
            ..SetAttr::default()
        };
        let how = CreateHow::Guarded(set);
        let made = self.vfs.create(cred, &self.root, &n(name), how).await;
        made.result.expect("create").0
    }

    /// Writes text at an offset, unstable.
    pub async fn put(
        &self,
        cred: &Cred,
        file: &Arc<File>,
        at: u64,
        text: &[u8],
    ) -> Changed<Written> {
        let write = self
            .vfs
            .write(cred, file, at, slice(text), Stable::Unstable);
        write.await
    }

    /// Reads up to `count` bytes.
    pub async fn get(
        &self,
        cred: &Cred,
        file: &Arc<File>,
        at: u64,
        count: u32,
    ) -> vfs::Result<(Vec<u8>, bool)> {
        let done = self.vfs.read(cred, file, at, count).await.result?;
        Ok((done.buf.to_vec(), done.eof))
    }
}

/// A component.
pub fn n(name: impl AsRef<[u8]>) -> Name {
    Name::new(name.as_ref()).expect("a good name")
}

/// Bytes in a pool buffer.
pub fn slice(text: &[u8]) -> Slice {
    let mut buf = exec::with_ring(|r| r.pool.try_get(text.len())).expect("a buffer");
    buf.copy_from_slice(text);
    Slice::new(Rc::new(buf), 0..text.len())
}

/// Runs `test` on a fresh directory, under either policy, and checks that nothing is left.
pub fn trees<F: Future<Output = ()>>(test: impl Fn(Tree) -> F + Copy + 'static) {
    let _alone = alone();
    for policy in POLICIES {
        let dir = dir();
        on_worker(policy, dir.path(), test);
    }
}

/// Runs `test` on a directory that is there; nothing must be left.
pub fn on_worker<F: Future<Output = ()>>(
    policy: IoPolicy,
    path: &Path,
    test: impl Fn(Tree) -> F + 'static,
) {
    let path = path.to_owned();
    run(&config(policy), async move {
        test(Tree::open(&path).await).await;
    });
}
