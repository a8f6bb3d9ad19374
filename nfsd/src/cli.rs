//! The command line of ringnfs.

use crate::capabilities::Missing;
use crate::config::{
    self, Config, ExportSource, Listener, SERVE_OPTIONS, ServeSettings, load_config, load_exports,
    load_exports_file, memory_size,
};
use crate::control::{self, SOCKET_NAME};
use crate::export::ExportTable;
use crate::export::names::{Resolver, SystemResolver};
use crate::export::options;
use crate::finding::{Findings, Place};
use crate::{log, server};
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// An NFS server for Linux on io_uring.
#[derive(Parser, Debug)]
#[command(name = "ringnfs", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Serve directories, or what a configuration file exports
    Serve(Box<Serve>),
    /// Check a configuration file (*.toml) or an exports file; exit status 1 if the server would refuse it
    Check {
        /// The file
        file: PathBuf,
    },
    /// Have a running server read its exports again
    Reload(Running),
    /// Print the counters of a running server
    Stats {
        #[command(flatten)]
        running: Running,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print what clients of a running server have locked, and what they wait for
    Locks {
        #[command(flatten)]
        running: Running,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the options of exports
    Options,
    /// Print all settings with their defaults, as a configuration file
    Reference,
}

#[derive(Args, Debug)]
struct Serve {
    /// Directories to export, to everyone who can reach the listener
    #[arg(value_name = "DIR", required_unless_present = "config")]
    dirs: Vec<PathBuf>,
    /// Address and port to listen on, may be repeated; without it and without --config: 127.0.0.1:2049 and [::1]:2049
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Vec<String>,
    /// exports(5) options of DIR, on top of the defaults of exports(5); without it: rw,sync,root_squash,insecure
    #[arg(
        long,
        value_name = "OPTIONS",
        requires = "dirs",
        allow_hyphen_values = true
    )]
    options: Option<String>,
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Register with the rpcbind running on this machine
    #[arg(long)]
    rpcbind: bool,
    /// Answer portmapper calls on the port of NFS
    #[arg(long)]
    portmapper: bool,
    /// Worker threads, 0 for one a core
    #[arg(long, value_name = "N")]
    threads: Option<String>,
    /// How file operations reach the kernel: ring or adaptive
    #[arg(long, value_name = "POLICY")]
    io_policy: Option<String>,
    /// How long NFSv4 state lives without a word from its client
    #[arg(long, value_name = "TIME")]
    lease_time: Option<String>,
    /// How long clients may reclaim what they held after a restart
    #[arg(long, value_name = "TIME")]
    grace_time: Option<String>,
    /// Directory for what must survive a restart
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Directory of the control socket
    #[arg(long, value_name = "DIR")]
    runtime_dir: Option<PathBuf>,
    /// What to log: LEVEL or TARGET=LEVEL, comma separated
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// text or json
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

/// How to find a running server.
#[derive(Args, Debug)]
struct Running {
    /// Its runtime directory
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    runtime_dir: Option<PathBuf>,
    /// Its configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(arguments) => serve(&arguments),
        Command::Check { file } => check_and_print(&file),
        Command::Reload(running) => ask(&running, "reload"),
        Command::Stats { running, json } => {
            ask(&running, if json { "stats json" } else { "stats" })
        }
        Command::Locks { running, json } => {
            ask(&running, if json { "locks json" } else { "locks" })
        }
        Command::Options => print(&options::reference()),
        Command::Reference => print(&Config::reference(memory_size())),
    }
}

/// Prints to standard output; a reader that has gone (`| head`) is no failure.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => fail(&error.to_string()),
        _ => ExitCode::SUCCESS,
    }
}

fn fail(message: &str) -> ExitCode {
    eprintln!("ringnfs: {message}");
    ExitCode::FAILURE
}

fn serve(arguments: &Serve) -> ExitCode {
    let mut found = Findings::new();
    let settings = settings(arguments, &SystemResolver, &mut found);
    let Some(settings) = settings.filter(|_| !found.has_errors()) else {
        eprintln!("{found}");
        return ExitCode::FAILURE;
    };
    if let Err(error) = log::start(&settings.config.log, settings.config.log_format) {
        return fail(&error);
    }
    for finding in found.iter() {
        match finding.severity {
            crate::finding::Severity::Note => tracing::debug!("{finding}"),
            _ => tracing::warn!("{finding}"),
        }
    }
    let ports: Vec<u16> = settings
        .listen
        .iter()
        .map(|listener| listener.addr.port())
        .collect();
    let missing = Missing::of_this_process(&ports);
    if !missing.needed.is_empty() {
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("ringnfs"));
        let words: Vec<String> = std::env::args_os()
            .skip(1)
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        eprint!("ringnfs: {}", missing.advice(&program, &words));
        return ExitCode::FAILURE;
    }
    match server::run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error.to_string()),
    }
}

/// Puts configuration file and command line together, and loads the exports.
fn settings(
    arguments: &Serve,
    resolver: &dyn Resolver,
    found: &mut Findings,
) -> Option<ServeSettings> {
    let mut config = match &arguments.config {
        Some(file) => load_config(file, found)?,
        None => Config::for_memory(memory_size()),
    };
    set_from_command_line(arguments, &mut config, found);
    let named = !arguments.listen.is_empty() || arguments.config.is_some();
    let listen = match named {
        true => config
            .listen
            .iter()
            .map(|addr| Listener {
                addr: *addr,
                optional: false,
            })
            .collect(),
        false => config::loopback(),
    };
    let (exports, table) = match &arguments.config {
        Some(file) if arguments.dirs.is_empty() => {
            let table = load_exports(file, &config, resolver, found);
            (
                ExportSource::ConfigFile(
                    std::path::absolute(file).unwrap_or_else(|_| file.clone()),
                ),
                table,
            )
        }
        file => {
            if let (Some(file), true) = (
                file,
                config.exports.is_some() || config.exports_file.is_some(),
            ) {
                let name = file.display().to_string();
                let at = Place {
                    file: &name,
                    line: 0,
                };
                found.error(
                    at,
                    "the file has exports and directories are given too",
                    "",
                    "keep one of the two",
                );
            }
            let dirs = directories(&arguments.dirs, found);
            let options = arguments
                .options
                .clone()
                .unwrap_or_else(|| SERVE_OPTIONS.to_owned());
            let source = ExportSource::Dirs { dirs, options };
            let table = source.load(resolver, found);
            (source, table)
        }
    };
    nothing_exported(&table, found);
    Some(ServeSettings {
        config,
        listen,
        exports,
        table,
    })
}

fn nothing_exported(table: &ExportTable, found: &mut Findings) {
    if table.exports().is_empty() && !found.has_errors() {
        found.warning(
            Place {
                file: "ringnfs",
                line: 0,
            },
            "nothing is exported",
            "",
            "add exports and reload",
        );
    }
}

fn set_from_command_line(arguments: &Serve, config: &mut Config, found: &mut Findings) {
    let absolute = |path: &Option<PathBuf>| {
        let path = path
            .as_ref()
            .map(|path| std::path::absolute(path).unwrap_or_else(|_| path.clone()));
        path.map(|path| path.to_string_lossy().into_owned())
    };
    let switch = |on: bool| on.then(|| "true".to_owned());
    let given = [
        (
            "--listen",
            "listen",
            (!arguments.listen.is_empty()).then(|| arguments.listen.join(",")),
        ),
        ("--threads", "threads", arguments.threads.clone()),
        ("--io-policy", "io_policy", arguments.io_policy.clone()),
        ("--lease-time", "lease_time", arguments.lease_time.clone()),
        ("--grace-time", "grace_time", arguments.grace_time.clone()),
        ("--state-dir", "state_dir", absolute(&arguments.state_dir)),
        (
            "--runtime-dir",
            "runtime_dir",
            absolute(&arguments.runtime_dir),
        ),
        ("--log", "log", arguments.log.clone()),
        ("--log-format", "log_format", arguments.log_format.clone()),
        ("--rpcbind", "rpcbind", switch(arguments.rpcbind)),
        ("--portmapper", "portmapper", switch(arguments.portmapper)),
    ];
    for (option, key, text) in given {
        if let Some(text) = text {
            config.set(option, key, &text, found);
        }
    }
}

/// The directories to export, absolute and each once.
fn directories(dirs: &[PathBuf], found: &mut Findings) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = Vec::new();
    for dir in dirs {
        let at = Place {
            file: "serve",
            line: 0,
        };
        let shown = dir.to_string_lossy();
        match dir.canonicalize() {
            Err(error) => {
                let fix = "name a directory that exists";
                found.error(
                    at,
                    format!("cannot export the directory: {error}"),
                    &shown,
                    fix,
                );
            }
            Ok(path) if !path.is_dir() => {
                found.error(at, "not a directory", &shown, "name a directory")
            }
            Ok(path) if all.contains(&path) => {}
            Ok(path) => all.push(path),
        }
    }
    all
}

fn check_and_print(file: &Path) -> ExitCode {
    let mut found = Findings::new();
    let table = check(file, &SystemResolver, &mut found);
    let mut text = String::new();
    if !found.is_empty() {
        text.push_str(&format!("{found}\n"));
    }
    if !found.has_errors() {
        text.push_str(&format!(
            "{}: no errors, {} exported\n",
            file.display(),
            table.exports().len()
        ));
    }
    match (print(&text), found.has_errors()) {
        (_, true) => ExitCode::FAILURE,
        (code, false) => code,
    }
}

/// Everything there is to say about a configuration or exports file.
fn check(file: &Path, resolver: &dyn Resolver, found: &mut Findings) -> ExportTable {
    let table = if file.extension() == Some(&OsString::from("toml")) {
        match load_config(file, found) {
            Some(config) => load_exports(file, &config, resolver, found),
            None => ExportTable::default(),
        }
    } else {
        load_exports_file(file, resolver, found)
    };
    let name = file.display().to_string();
    for export in table.exports() {
        if !export.path.is_dir() {
            let fix = "create the directory, or remove the export";
            let value = export.path.to_string_lossy();
            found.warning(
                Place {
                    file: &name,
                    line: 0,
                },
                "not a directory on this machine",
                &value,
                fix,
            );
        }
    }
    table
}

fn ask(running: &Running, verb: &str) -> ExitCode {
    let runtime_dir = match (&running.runtime_dir, &running.config) {
        (Some(dir), _) => dir.clone(),
        (None, None) => Config::for_memory(0).runtime_dir,
        (None, Some(file)) => {
            let mut found = Findings::new();
            match load_config(file, &mut found).filter(|_| !found.has_errors()) {
                Some(config) => config.runtime_dir,
                None => {
                    eprintln!("{found}");
                    return ExitCode::FAILURE;
                }
            }
        }
    };
    match control::request(&runtime_dir.join(SOCKET_NAME), verb) {
        Ok(text) => print(&text),
        Err(error) => fail(&error.to_string()),
    }
}

#[cfg(test)]
mod tests;
