//! The results of a run: medians, ratios, the table, the goals, JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::load::Measure;
use crate::rows::{Against, Goal, Metric, Row};

/// Servers that goals are for.
const OURS: [&str; 3] = ["ring", "adaptive", "async"];

/// One row on one server, over all repeats.
#[derive(Clone, Debug)]
pub struct Cell {
    /// The row.
    pub row: Row,
    /// The server's id.
    pub server: &'static str,
    /// What was measured, once for each repeat.
    pub runs: Vec<Measure>,
}

impl Cell {
    /// The run with the median rate; errors are those of all runs.
    pub fn median(&self) -> Option<Measure> {
        let mut runs: Vec<&Measure> = self.runs.iter().collect();
        runs.sort_by(|a, b| a.ops.total_cmp(&b.ops));
        let mut median = (*runs.get(runs.len() / 2)?).clone();
        median.errors = runs.iter().map(|run| run.errors).sum();
        if let Some(told) = runs.iter().find(|run| !run.samples.is_empty()) {
            median.samples.clone_from(&told.samples);
        }
        Some(median)
    }
}

/// Everything measured.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Cells, in the order of measuring.
    pub cells: Vec<Cell>,
    /// Rows that a server refused, and why.
    pub refused: Vec<(Row, &'static str, String)>,
    /// Servers that did not run, and why.
    pub not_run: Vec<(&'static str, String)>,
}

fn value(measure: &Measure, metric: Metric) -> f64 {
    match metric {
        Metric::Ops => measure.ops,
        Metric::P50 => measure.p50,
        Metric::Cpu => measure.server_cpu,
    }
}

/// `12.3x`, or nothing where there is nothing to compare.
fn ratio(of: f64, to: Option<f64>) -> String {
    match to {
        Some(to) if to > 0.0 => format!("{:.2}x", of / to),
        _ => "-".to_string(),
    }
}

impl Report {
    /// Adds one run.
    pub fn add(&mut self, row: Row, server: &'static str, measure: Measure) {
        match self
            .cells
            .iter_mut()
            .find(|cell| cell.row.id == row.id && cell.server == server)
        {
            Some(cell) => cell.runs.push(measure),
            None => self.cells.push(Cell {
                row,
                server,
                runs: vec![measure],
            }),
        }
    }

    /// Notes that `server` refused what `row` asks; it is in the table, without a number.
    pub fn refuse(&mut self, row: Row, server: &'static str, why: String) {
        if !self
            .refused
            .iter()
            .any(|(r, s, _)| r.id == row.id && *s == server)
        {
            self.refused.push((row, server, why));
        }
    }

    fn get(&self, row: &str, server: &str) -> Option<Measure> {
        self.cells
            .iter()
            .find(|cell| cell.row.id == row && cell.server == server)?
            .median()
    }

    /// CPU microseconds of a call: the median over the runs.
    pub fn cpu(&self, row: &str, server: &str) -> Option<f64> {
        let mut cells = self.cells.iter();
        let cell = cells.find(|cell| cell.row.id == row && cell.server == server)?;
        let mut all: Vec<f64> = cell.runs.iter().map(|run| run.server_cpu).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied()
    }

    /// Replies that were wrong, over everything.
    pub fn errors(&self) -> u64 {
        self.cells
            .iter()
            .flat_map(|cell| &cell.runs)
            .map(|run| run.errors)
            .sum()
    }

    /// The table.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<27} {:>7} {:<11} {:>9} {:>6} {:>9} {:>9} {:>8} {:>8} {:>6} {:>9} {:>8} {:>8}\n",
            "work",
            "load",
            "server",
            "ops/s",
            "MB/s",
            "p50 us",
            "p99 us",
            "srv us",
            "cli us",
            "other",
            "/ganesha",
            "cpu /g",
            "/floor"
        );
        let mut rows: Vec<Row> = Vec::new();
        let refused = self.refused.iter().map(|(row, ..)| row);
        for row in self.cells.iter().map(|cell| &cell.row).chain(refused) {
            if !rows.iter().any(|known| known.id == row.id) {
                rows.push(*row);
            }
        }
        for row in rows {
            self.table_row(&mut text, row);
        }
        text.push_str(
            "ops/s: replies a second. srv us, cli us: CPU microseconds an operation, server and client. other: cores busy with \
             neither (kernel threads, other work on this machine).\n/ganesha, cpu /g: ops and server CPU against ganesha. \
             /floor: ops against the echo floor. Load 1x1: server and client on one core.\n",
        );
        for (server, why) in &self.not_run {
            let _ = writeln!(text, "NOT MEASURED: {server}: {why}");
        }
        text
    }

    fn table_row(&self, text: &mut String, row: Row) {
        let (ganesha, floor) = (self.get(row.id, "ganesha"), self.get(row.id, "echo"));
        let mut title = row.title.to_string();
        let mut load = format!("{}x{}", row.conns, row.depth);
        for cell in self.cells.iter().filter(|cell| cell.row.id == row.id) {
            let Some(m) = cell.median() else { continue };
            let data = if m.mb > 0.0 {
                format!("{:.0}", m.mb)
            } else {
                "-".to_string()
            };
            let _ = writeln!(
                text,
                "{title:<27} {load:>7} {:<11} {:>9.0} {data:>6} {:>9.1} {:>9.1} {:>8.2} {:>8.2} {:>6.2} {:>9} {:>8} {:>8}",
                cell.server,
                m.ops,
                m.p50,
                m.p99,
                m.server_cpu,
                m.client_cpu,
                m.other_cores,
                ratio(m.ops, ganesha.as_ref().map(|g| g.ops)),
                ratio(m.server_cpu, ganesha.as_ref().map(|g| g.server_cpu)),
                ratio(m.ops, floor.as_ref().map(|f| f.ops)),
            );
            if m.errors > 0 {
                let _ = writeln!(text, "    ^ {} ERRORS: {}", m.errors, m.samples.join("; "));
            }
            title.clear();
            load.clear();
        }
        for (_, server, why) in self.refused.iter().filter(|(r, ..)| r.id == row.id) {
            let _ = writeln!(text, "{title:<27} {load:>7} {server:<11} {:>9} {why}", "-");
            title.clear();
            load.clear();
        }
    }

    fn reached(&self, row: &Row, server: &str, goal: &Goal) -> Option<(f64, bool)> {
        let &(metric, against, bound) = goal;
        let ours = value(&self.get(row.id, server)?, metric);
        let theirs = match against {
            Against::Server(peer) => self.get(row.id, peer)?,
            Against::Row(other) => self.get(other, server)?,
        };
        let theirs = value(&theirs, metric);
        if theirs <= 0.0 || ours <= 0.0 {
            return None;
        }
        let got = ours / theirs;
        Some((
            got,
            if metric == Metric::Ops {
                got >= bound
            } else {
                got <= bound
            },
        ))
    }

    fn each_goal(&self, mut f: impl FnMut(&Row, &str, &Goal, f64, bool)) {
        for cell in self.cells.iter().filter(|cell| OURS.contains(&cell.server)) {
            for goal in cell.row.goals {
                if let Some((got, reached)) = self.reached(&cell.row, cell.server, goal) {
                    f(&cell.row, cell.server, goal, got, reached);
                }
            }
        }
    }

    /// What ringnfs is to reach, and whether it did; empty when it did not run.
    pub fn goals(&self) -> String {
        let mut text = String::new();
        self.each_goal(|row, server, (metric, against, bound), got, reached| {
            let what = match metric {
                Metric::Ops => "ops/s",
                Metric::P50 => "p50",
                Metric::Cpu => "CPU/op",
            };
            let (sign, than) = (
                if *metric == Metric::Ops { ">=" } else { "<=" },
                name(against),
            );
            let (row, said) = (row.id, if reached { "reached" } else { "MISSED" });
            let _ = writeln!(
                text,
                "{said:<8} {row:<14} {server:<9} {what:<6} {got:.2}x {than}, to be {sign} {bound}x"
            );
        });
        text
    }

    /// Everything as JSON.
    pub fn json(&self) -> Value {
        let one = |m: &Measure| {
            json!({
                "ops_per_s": m.ops, "mb_per_s": m.mb, "p50_us": m.p50, "p99_us": m.p99, "server_cpu_us_per_op": m.server_cpu,
                "client_cpu_us_per_op": m.client_cpu, "other_cores": m.other_cores, "errors": m.errors, "error_samples": m.samples,
            })
        };
        let cells: Vec<Value> = self
            .cells
            .iter()
            .map(|cell| {
                let row = cell.row;
                json!({
                    "row": row.id, "title": row.title, "conns": row.conns, "depth": row.depth, "size": row.size, "server": cell.server,
                    "median": cell.median().as_ref().map(one), "runs": cell.runs.iter().map(one).collect::<Vec<_>>(),
                })
            })
            .collect();
        let mut goals = Vec::new();
        self.each_goal(|row, server, (metric, against, bound), got, reached| {
            goals.push(json!({
                "row": row.id, "server": server, "metric": format!("{metric:?}"), "against": name(against), "ratio": got,
                "goal": bound, "reached": reached,
            }));
        });
        let not_run: Vec<Value> = self
            .not_run
            .iter()
            .map(|(server, why)| json!({ "server": server, "why": why }))
            .collect();
        let refused: Vec<Value> = self
            .refused
            .iter()
            .map(|(row, server, why)| json!({ "row": row.id, "server": server, "why": why }))
            .collect();
        json!({ "results": cells, "refused": refused, "goals": goals, "not_measured": not_run })
    }
}

fn name(against: &Against) -> &'static str {
    match against {
        Against::Server(id) | Against::Row(id) => id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::ROWS;

    fn ran(ops: f64, errors: u64) -> Measure {
        Measure {
            ops,
            mb: 0.0,
            p50: 1e6 / ops,
            p99: 2e6 / ops,
            server_cpu: 1e5 / ops,
            client_cpu: 1.0,
            other_cores: 0.0,
            errors,
            samples: (errors > 0)
                .then(|| "NFS status 5".to_string())
                .into_iter()
                .collect(),
        }
    }

    #[test]
    fn medians_ratios_goals_and_errors_are_reported() {
        let row = *ROWS.iter().find(|row| row.id == "getattr").unwrap();
        let mut report = Report::default();
        report.add(row, "ganesha", ran(1_000.0, 0));
        for (ops, errors) in [(90_000.0, 0), (11_000.0, 3), (2_000.0, 0)] {
            report.add(row, "ring", ran(ops, errors));
        }
        report.add(row, "adaptive", ran(9_000.0, 0));
        let table = report.table();
        assert!(
            table.contains("11.00x") && table.contains("3 ERRORS: NFS status 5"),
            "{table}"
        );
        let goals = report.goals();
        assert_eq!(goals.matches("reached").count(), 2, "{goals}");
        assert_eq!(goals.matches("MISSED").count(), 2, "{goals}");
        assert_eq!(report.errors(), 3);
        assert_eq!(report.json()["goals"].as_array().map(Vec::len), Some(4));
    }
}
