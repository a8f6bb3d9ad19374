//! `nfsload`: every chosen row against every chosen server, one server after the other, then the table.
//! `tests/bench/run` builds everything, makes the sandbox and the file system, and calls it.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bench::acls;
use bench::engine;
use bench::load::{self, Plan};
use bench::report::Report;
use bench::rows::{self, ROWS, Row};
use bench::rpc;
use bench::servers::{self, Places, SERVERS, Server};
use clap::Parser;

/// Benchmark of NFSv3, NFSv4.1 and NFSv4.2 servers over raw TCP.
#[derive(Debug, Parser)]
struct Args {
    /// Rows to run, by name or by the start of names (default: all).
    #[arg(long, value_delimiter = ',')]
    rows: Vec<String>,
    /// Servers to run (default: all that are installed).
    #[arg(long, value_delimiter = ',')]
    servers: Vec<String>,
    /// Seconds measured for each row.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds of the same load before measuring.
    #[arg(long, default_value_t = 0.5)]
    warmup: f64,
    /// Runs of everything, servers taking turns; the median run is shown (default: 1, with --acls 5).
    #[arg(long)]
    repeat: Option<usize>,
    /// What ACLs cost, in place of the table.
    #[arg(long, conflicts_with_all = ["rows", "servers"])]
    acls: bool,
    /// Client threads.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Writes the results to this file as JSON too (`-`: standard output, in place of the table).
    #[arg(long)]
    json: Option<PathBuf>,
    /// Leaves server and client on any core also while one call is in flight (the default puts both on one then).
    #[arg(long)]
    spread: bool,
    /// Prints the names of rows and servers and stops.
    #[arg(long)]
    list: bool,
    /// Directory to export; its file system is what is measured.
    #[arg(long, default_value = "/mnt/bench")]
    export: PathBuf,
    /// Directory for configurations and logs.
    #[arg(long, default_value = "/tmp/bench")]
    work: PathBuf,
    /// Directory of the peers' binaries.
    #[arg(long, default_value = "target/peers/bin")]
    peers: PathBuf,
    /// The ringnfs binary.
    #[arg(long, default_value = "../../target/release/ringnfs")]
    ringnfs: PathBuf,
}

impl Args {
    fn repeat(&self) -> usize {
        let default = if self.acls { acls::REPEAT } else { 1 };
        self.repeat.unwrap_or(default).max(1)
    }
}

fn list() {
    for row in ROWS {
        println!(
            "row     {:<14} {} {}x{}",
            row.id, row.title, row.conns, row.depth
        );
    }
    println!(
        "row     {:<14} {}: {}",
        engine::ROW.id,
        engine::ROW.title,
        engine::RUNTIMES.join(", ")
    );
    for server in SERVERS {
        println!("server  {:<14} {}", server.id, server.about);
    }
}

fn choose(wanted: &[String]) -> Result<Vec<Server>, String> {
    if let Some(unknown) = wanted.iter().find(|w| !SERVERS.iter().any(|s| s.id == *w)) {
        let known: Vec<_> = SERVERS.iter().map(|s| s.id).collect();
        return Err(format!(
            "no server '{unknown}'; servers: {}",
            known.join(" ")
        ));
    }
    Ok(SERVERS
        .iter()
        .filter(|s| (wanted.is_empty() && s.files.is_none()) || wanted.iter().any(|w| w == s.id))
        .copied()
        .collect())
}

/// A time on the command line; from 0.05 s to an hour.
fn seconds(value: f64) -> Result<Duration, String> {
    if (0.05..=3600.0).contains(&value) {
        return Ok(Duration::from_secs_f64(value));
    }
    Err(format!("a time of {value} s; give 0.05 to 3600"))
}

struct Run {
    places: Places,
    rows: Vec<Row>,
    time: Duration,
    warmup: Duration,
    threads: usize,
    one_core: bool,
    report: Report,
}

impl Run {
    fn server(&mut self, server: &Server) -> io::Result<()> {
        servers::lay_out(&self.places.export)?;
        if let Some(files) = server.files {
            acls::prepare(&self.places.export, files)?;
        }
        eprint!("{:<12}", server.id);
        let running = server.start(&self.places)?;
        let plan = Plan {
            addr: running.addr,
            pid: running.pid(),
            threads: self.threads,
            warmup: self.warmup,
            time: self.time,
            one_core: self.one_core,
        };
        let mut outcome = Ok(());
        for row in &self.rows {
            eprint!(" {}", row.id);
            let measured = match load::run(*row, &running.targets, &plan) {
                Err(e) if e.kind() == io::ErrorKind::Unsupported => {
                    self.report.refuse(*row, server.id, e.to_string());
                    continue;
                }
                other => other,
            };
            outcome = measured.and_then(|mut measure| {
                let real = running.targets.real;
                if let (true, Err(e)) = (real, servers::verify(&self.places.export, row.kind)) {
                    measure.errors += 1;
                    measure.samples.push(e.to_string());
                }
                self.report.add(*row, server.id, measure);
                servers::settle(&self.places.export)
            });
            if outcome.is_err() {
                break;
            }
        }
        running.stop();
        eprintln!();
        outcome
    }
}

/// The engine row, when it is wanted by name, or when nothing is chosen.
fn engines(args: &Args, run: &mut Run) -> Result<bool, String> {
    if !(args.rows.iter().any(|row| row == engine::ROW.id)
        || args.rows.is_empty() && args.servers.is_empty())
    {
        return Ok(true);
    }
    servers::lay_out(&run.places.export).map_err(|e| e.to_string())?;
    let mut all = true;
    for runtime in engine::RUNTIMES {
        for _ in 0..args.repeat() {
            match engine::run(runtime, &run.places.export.join("read"), run.time) {
                Ok(measure) => run.report.add(engine::ROW, runtime, measure),
                Err(e) => {
                    run.report.not_run.push((runtime, e.to_string()));
                    all = false;
                    break;
                }
            }
        }
    }
    Ok(all)
}

fn bench(args: &Args) -> Result<bool, String> {
    let absolute =
        |path: &PathBuf| std::path::absolute(path).map_err(|e| format!("{}: {e}", path.display()));
    let wanted: Vec<String> = args
        .rows
        .iter()
        .filter(|row| *row != engine::ROW.id)
        .cloned()
        .collect();
    let mut run = Run {
        places: Places {
            export: absolute(&args.export)?,
            work: absolute(&args.work)?,
            peers: absolute(&args.peers)?,
            ringnfs: absolute(&args.ringnfs)?,
        },
        rows: rows::select(&wanted)?,
        time: seconds(args.seconds)?,
        warmup: seconds(args.warmup)?,
        threads: args.threads,
        one_core: !args.spread,
        report: Report::default(),
    };
    let mut chosen = choose(&args.servers)?;
    if wanted.is_empty() && !args.rows.is_empty() {
        chosen.clear();
    }
    std::fs::create_dir_all(&run.places.work)
        .map_err(|e| format!("{}: {e}", run.places.work.display()))?;
    let mut failed = false;
    for _ in 0..args.repeat() {
        for server in &chosen {
            if run.report.not_run.iter().any(|(id, _)| *id == server.id) {
                continue;
            }
            if let Err(e) = run.server(server) {
                eprintln!("\nNOT MEASURED: {}: {e}", server.id);
                // A peer that is not installed may be missing from the table; anything else is a failure.
                failed |= !args.servers.is_empty() || e.kind() != io::ErrorKind::NotFound;
                run.report.not_run.push((server.id, e.to_string()));
            }
        }
    }
    failed |= !engines(args, &mut run)?;
    let json = || serde_json::to_string_pretty(&run.report.json()).unwrap_or_default();
    match &args.json {
        Some(path) if path.as_os_str() == "-" => println!("{}", json()),
        other => {
            if let Some(path) = other {
                std::fs::write(path, json()).map_err(|e| format!("{}: {e}", path.display()))?;
            }
            print!("\n{}\n{}", run.report.table(), run.report.goals());
            print!("{}", acls::costs(&run.report));
        }
    }
    Ok(!failed && run.report.errors() == 0)
}

fn main() -> ExitCode {
    let mut args = Args::parse();
    if args.list {
        list();
        return ExitCode::SUCCESS;
    }
    if args.acls {
        args.rows = acls::ROWS.map(str::to_owned).to_vec();
        args.servers = acls::SERVERS.map(str::to_owned).to_vec();
        rpc::call_as(acls::CALLER);
    }
    match bench(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("nfsload: {e}");
            ExitCode::from(2)
        }
    }
}
