//! A loud word about a test that cannot run. It needs the standard library alone: the tests of the crates below this one
//! include this file by its path.
//!
//! The line `NOT RUN: TEST needs WHAT` goes past the test harness's capture to standard error, where `tests/run` counts it, and
//! to `target/tmp/not-run`, which `tests/run` shows at its end. With `RINGNFS_REQUIRE_TOOLS=1` the test fails instead.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Says loudly that `test`, one word, did not run and what it needs.
///
/// # Panics
/// If `RINGNFS_REQUIRE_TOOLS` is `1`.
pub fn not_run(test: &str, why: &str) {
    let line = format!("NOT RUN: {test} needs {why}\n");
    let _ = note(&line);
    assert!(
        std::env::var("RINGNFS_REQUIRE_TOOLS").as_deref() != Ok("1"),
        "{line}"
    );
}

/// A line for whoever looks on, and for the end of the run.
pub fn note(line: &str) -> std::io::Result<()> {
    // print! and eprintln! are captured by the test harness for tests that pass; the file descriptor is not.
    std::io::stderr().write_all(line.as_bytes())?;
    append("not-run", line)
}

/// Adds a line to a file of the run in `target/tmp`.
pub fn append(name: &str, line: &str) -> std::io::Result<()> {
    let tmp = target_dir().join("tmp");
    std::fs::create_dir_all(&tmp)?;
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(tmp.join(name))?;
    file.write_all(line.as_bytes())
}

/// Cargo's target directory.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .expect("the workspace")
            .join("target"),
    }
}
