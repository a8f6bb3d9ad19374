//! The tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use crate::stats::{Counts, calls};

/// One measurement.
pub struct Sample {
    /// Wall time of the work in the guest.
    pub seconds: f64,
    /// CPU time of the server's process; `None` when it is not a process of this machine.
    pub cpu: Option<f64>,
    /// What the client asked.
    pub counts: Counts,
}

/// All measurements.
pub struct Report {
    servers: Vec<&'static str>,
    /// Rows in order of their first sample.
    rows: Vec<(String, BTreeMap<&'static str, Vec<Sample>>)>,
}

impl Report {
    /// An empty one with these columns; ratios are to the first.
    pub fn new(servers: Vec<&'static str>) -> Report {
        Report {
            servers,
            rows: Vec::new(),
        }
    }

    /// Adds a measurement.
    pub fn add(&mut self, row: &str, server: &'static str, sample: Sample) {
        let at = self.rows.iter().position(|(name, _)| name == row);
        let at = at.unwrap_or_else(|| {
            self.rows.push((row.to_owned(), BTreeMap::new()));
            self.rows.len() - 1
        });
        self.rows[at].1.entry(server).or_default().push(sample);
    }

    /// Wall times: the median, the range, calls and the server's CPU of the median run, and how long it takes against the
    /// first server.
    pub fn table(&self) -> String {
        let mut out = String::from("| work |");
        for server in &self.servers {
            let _ = write!(out, " {server} |");
        }
        out += " fastest |\n|---|";
        out += &"---|".repeat(self.servers.len() + 1);
        out += "\n";
        for (name, cells) in &self.rows {
            let _ = write!(out, "| {name} |");
            let first = self.servers.first().and_then(|s| median(cells.get(s)?));
            let mut best: Option<(&str, f64)> = None;
            for server in &self.servers {
                let Some((samples, sample)) = cells.get(server).and_then(|s| Some((s, median(s)?)))
                else {
                    out += " - |";
                    continue;
                };
                if best.is_none_or(|(_, seconds)| sample.seconds < seconds) {
                    best = Some((server, sample.seconds));
                }
                let _ = write!(out, " {}", cell(samples, sample));
                match first {
                    Some(first) if !std::ptr::eq(first, sample) => {
                        let _ = write!(out, ", {:.2} x |", sample.seconds / first.seconds);
                    }
                    _ => out += " |",
                }
            }
            let _ = writeln!(out, " {} |", best.map_or("-", |(name, _)| name));
        }
        out
    }

    /// What the client asked in the median run: calls, mean milliseconds to the reply and until done, errors.
    pub fn operations(&self) -> String {
        let mut out = String::new();
        for (name, cells) in &self.rows {
            let medians: Vec<_> = self
                .servers
                .iter()
                .map(|s| cells.get(s).and_then(|c| median(c)))
                .collect();
            let mut names: Vec<_> = medians
                .iter()
                .flatten()
                .flat_map(|s| s.counts.keys())
                .collect();
            names.sort();
            names.dedup();
            let _ = writeln!(out, "{name}: calls, ms to reply, ms in all, errors");
            for op in names {
                let _ = write!(out, "  {op:<16}");
                for (server, sample) in self.servers.iter().zip(&medians) {
                    let count = sample.and_then(|s| s.counts.get(op).copied());
                    let count = count.unwrap_or_default();
                    let mean = |ms: u64| ms as f64 / count.calls.max(1) as f64;
                    let text = format!(
                        "{} {:.2} {:.2} {}",
                        count.calls,
                        mean(count.rtt),
                        mean(count.execute),
                        count.errors
                    );
                    let _ = write!(out, " {server} {text:<24}");
                }
                out += "\n";
            }
        }
        out
    }
}

fn cell(samples: &[Sample], median: &Sample) -> String {
    let seconds = || samples.iter().map(|s| s.seconds);
    let (low, high) = (
        seconds().fold(f64::MAX, f64::min),
        seconds().fold(0.0, f64::max),
    );
    let mut text = format!("{:.2} s", median.seconds);
    if samples.len() > 1 {
        let _ = write!(text, " ({low:.2}-{high:.2})");
    }
    let _ = write!(text, ", {} calls", calls(&median.counts));
    if let Some(cpu) = median.cpu {
        let _ = write!(text, ", CPU {cpu:.2} s");
    }
    text
}

/// The sample of median time; of an even number the faster of the middle two.
fn median(samples: &[Sample]) -> Option<&Sample> {
    let mut order: Vec<_> = samples.iter().collect();
    order.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    order.get(order.len().saturating_sub(1) / 2).copied()
}

/// User and system time of a process, threads included, in seconds; 0 when it is gone.
pub fn cpu_seconds(pid: i32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // After the name in brackets, which may hold anything: state is field 3, utime 14, stime 15 (proc_pid_stat(5)).
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let mut fields = fields.split_whitespace().skip(11);
    let mut ticks = || -> f64 { fields.next().and_then(|t| t.parse().ok()).unwrap_or(0.0) };
    // USER_HZ is 100 on every architecture Linux has a libc for.
    (ticks() + ticks()) / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: f64) -> Sample {
        Sample {
            seconds,
            cpu: None,
            counts: Counts::new(),
        }
    }

    #[test]
    fn a_row_has_medians_ratios_and_the_fastest() {
        let mut report = Report::new(vec!["a", "b"]);
        for seconds in [3.0, 1.0, 2.0] {
            report.add("w", "a", sample(seconds));
            report.add("w", "b", sample(seconds * 2.0));
        }
        let table = report.table();
        let row = "| w | 2.00 s (1.00-3.00), 0 calls | 4.00 s (2.00-6.00), 0 calls, 2.00 x | a |";
        assert!(table.contains(row), "{table}");
    }

    #[test]
    fn cpu_time_of_this_process_moves() {
        let before = cpu_seconds(std::process::id() as i32);
        let end = std::time::Instant::now() + std::time::Duration::from_millis(60);
        while std::time::Instant::now() < end {}
        assert!(cpu_seconds(std::process::id() as i32) > before);
    }
}
