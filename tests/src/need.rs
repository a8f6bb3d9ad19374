//! What a test needs from the machine, and a loud word when it is not there.
//!
//! A test that cannot run prints `NOT RUN: ...` past the test harness's capture and adds the line to
//! `target/tmp/not-run`, which `tests/run` shows at its end. With `RINGNFS_REQUIRE_TOOLS=1` it fails instead.

use std::path::{Path, PathBuf};

use crate::netns::target_dir;
use crate::not_run::{append, note};

pub use crate::not_run::not_run;

/// One thing a test needs.
#[derive(Clone, Copy, Debug)]
pub enum Need {
    /// Effective user 0.
    Root,
    /// A program in PATH (or /usr/sbin, /sbin) and the Debian package that has it.
    Program(&'static str, &'static str),
    /// A path that exists, and what provides it.
    Path(&'static str, &'static str),
    /// `target/tools/bin/NAME` or NAME in PATH, installed by `cargo install NAME`.
    CargoTool(&'static str),
}

/// What every test with a user-mode Linux guest needs.
pub const GUEST: &[Need] = &[
    Need::Root,
    Need::Path("/dev/net/tun", "the kernel's tun module"),
    Need::Path("/dev/loop-control", "the kernel's loop module"),
    Need::Program("linux.uml", "user-mode-linux"),
    Need::Program("modprobe", "kmod"),
    Need::Program("ip", "iproute2"),
    Need::Program("mount.nfs", "nfs-common"),
    Need::Program("unshare", "util-linux"),
    Need::Program("nsenter", "util-linux"),
    Need::Program("mkfs.ext4", "e2fsprogs"),
];

/// The needs of the nfs-ganesha peer.
pub const GANESHA: &[Need] = &[
    Need::Program("ganesha.nfsd", "nfs-ganesha nfs-ganesha-vfs"),
    Need::Program("rpcbind", "rpcbind"),
];
/// The needs of the kernel server peer.
pub const KNFSD: &[Need] = &[
    Need::Program("rpc.mountd", "nfs-kernel-server"),
    Need::Program("rpcbind", "rpcbind"),
];

/// True if everything is there. Otherwise says what is missing and for which test, and returns false.
///
/// # Panics
/// If something is missing and `RINGNFS_REQUIRE_TOOLS` is `1`.
pub fn have(test: &str, needs: &[&[Need]]) -> bool {
    let missing: Vec<String> = needs
        .iter()
        .copied()
        .flatten()
        .filter_map(|n| lacking(*n))
        .collect();
    if missing.is_empty() {
        return true;
    }
    not_run(test, &missing.join(", "));
    false
}

/// Says loudly that `test` was left out of this run on purpose; never a failure.
pub fn not_chosen(test: &str, why: &str) {
    let _ = note(&format!("NOT RUN: {test}: {why}\n"));
}

/// Says that this thread's test failed because its guest stood still, while the server had answered everything:
/// `tests/run` has it run once more.
pub fn stood_still() {
    let thread = std::thread::current();
    let _ = append(
        "stalled",
        &format!("{}\n", thread.name().unwrap_or_default()),
    );
}

/// Where a cargo-installed tool is: `target/tools/bin` first, then PATH.
pub fn cargo_tool(name: &str) -> Option<PathBuf> {
    let own = target_dir().join("tools/bin").join(name);
    if own.exists() {
        Some(own)
    } else {
        program(name)
    }
}

/// Where a program is, in PATH and the system's sbin directories.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = ["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(sbin)
        .map(|d| d.join(name))
        .find(|p| p.is_file())
}

/// A number from the environment, or its default.
///
/// # Panics
/// If the variable is set to something that is not a number.
pub fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text
            .parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
        Err(_) => default,
    }
}

/// True if the long variants were asked for (`RINGNFS_SOAK=1`).
pub fn soak() -> bool {
    std::env::var("RINGNFS_SOAK").as_deref() == Ok("1")
}

fn lacking(need: Need) -> Option<String> {
    match need {
        Need::Root => (!rustix::process::geteuid().is_root()).then(|| "root".to_owned()),
        Need::Program(name, package) => program(name)
            .is_none()
            .then(|| format!("{name} (apt-get install {package})")),
        Need::Path(path, what) => (!Path::new(path).exists()).then(|| format!("{path} ({what})")),
        Need::CargoTool(name) => cargo_tool(name)
            .is_none()
            .then(|| format!("{name} (tests/run installs it)")),
    }
}
