//! Runs the engine row: `engine`, a program of its own so that its CPU is its own, once for each runtime.

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::load::Measure;
use crate::rows::{Kind, Row};
use crate::work::STAMP;

/// Runtimes that `engine` knows, in the order of the table.
pub const RUNTIMES: &[&str] = &["tokio-uring", "ours, ring", "ours, adaptive"];

/// The row; it has no connections, its depth is the number of reads in flight.
pub const ROW: Row = Row {
    id: "engine",
    title: "engine alone, read 4 KiB",
    kind: Kind::Read,
    conns: 0,
    depth: 32,
    size: STAMP as u32,
    goals: &[],
};

/// Measures one runtime on the files of `dir`.
pub fn run(runtime: &str, dir: &Path, time: Duration) -> io::Result<Measure> {
    let program = std::env::current_exe()?.with_file_name("engine");
    let output = Command::new(&program)
        .arg(runtime)
        .arg(dir)
        .arg(time.as_secs_f64().to_string())
        .output();
    let output =
        output.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", program.display())))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = said
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let [done, wall, cpu, errors] = numbers[..] else {
        return Err(io::Error::other(format!(
            "engine {runtime}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )));
    };
    let ops = done * 1e9 / wall;
    Ok(Measure {
        ops,
        mb: ops * STAMP as f64 / 1e6,
        p50: 0.0,
        p99: 0.0,
        server_cpu: cpu / 1e3 / done.max(1.0),
        client_cpu: 0.0,
        other_cores: 0.0,
        errors: errors as u64,
        samples: if errors > 0.0 {
            vec!["short or wrong reads".to_string()]
        } else {
            Vec::new()
        },
    })
}
