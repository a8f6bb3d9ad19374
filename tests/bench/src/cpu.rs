//! CPU time of a server, of this client and of the whole machine, from /proc.

use std::collections::HashMap;
use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// CPU time used by one process up to a moment, all its threads included. io_uring's io-wq and SQPOLL threads
/// are threads of the process; kernel threads (a loop device's, writeback) are nobody's and not counted.
#[derive(Clone, Debug, Default)]
pub struct ServerCpu {
    threads: HashMap<u32, u64>,
    ticks_ns: u64,
}

/// Nanoseconds of one clock tick in /proc (USER_HZ is 100 on every Linux).
const TICK_NS: u64 = 10_000_000;

impl ServerCpu {
    /// Reads the counters of `pid`; a process that is gone reads as zero.
    pub fn read(pid: u32) -> ServerCpu {
        let mut cpu = ServerCpu::default();
        for task in fs::read_dir(format!("/proc/{pid}/task"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let ran = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
            let ns = ran.split_whitespace().next().and_then(|w| w.parse().ok());
            if let (Some(ns), Some(tid)) =
                (ns, task.file_name().to_str().and_then(|t| t.parse().ok()))
            {
                cpu.threads.insert(tid, ns);
            }
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // Fields 14 and 15 (utime, stime); counting starts behind the command's closing parenthesis.
        if let Some((_, fields)) = stat.rsplit_once(')') {
            let ticks = fields
                .split_whitespace()
                .skip(11)
                .take(2)
                .filter_map(|w| w.parse::<u64>().ok());
            cpu.ticks_ns = ticks.sum::<u64>() * TICK_NS;
        }
        cpu
    }

    /// Nanoseconds used since `earlier`. Exact from schedstat for threads that live; threads that ended in
    /// between are only in the process total, which counts in ticks, so the larger of the two is taken.
    pub fn since(&self, earlier: &ServerCpu) -> u64 {
        let exact = self
            .threads
            .iter()
            .map(|(tid, ns)| ns.saturating_sub(*earlier.threads.get(tid).unwrap_or(&0)))
            .sum();
        let coarse = self.ticks_ns.saturating_sub(earlier.ticks_ns);
        if coarse > exact + 2 * TICK_NS {
            coarse
        } else {
            exact
        }
    }
}

/// Nanoseconds of CPU used by this process.
pub fn client_ns() -> u64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// Nanoseconds of CPU used by the whole machine, all cores (line `cpu` of /proc/stat less idle, iowait and steal).
pub fn machine_ns() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let line = stat.lines().next().unwrap_or_default();
    let fields = line
        .split_whitespace()
        .skip(1)
        .take(7)
        .filter_map(|w| w.parse::<u64>().ok());
    fields
        .enumerate()
        .filter(|(i, _)| !matches!(i, 3 | 4))
        .map(|(_, ticks)| ticks)
        .sum::<u64>()
        * TICK_NS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_work_shows_in_every_counter() {
        let pid = std::process::id();
        let (server, client, machine) = (ServerCpu::read(pid), client_ns(), machine_ns());
        let mut x = 1u64;
        while client_ns() - client < 100_000_000 {
            x = x.wrapping_mul(3).rotate_left(7);
        }
        std::hint::black_box(x);
        assert!(ServerCpu::read(pid).since(&server) >= 50_000_000);
        assert!(machine_ns() - machine >= 30_000_000);
    }
}
