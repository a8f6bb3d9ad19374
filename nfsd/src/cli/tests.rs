//! Tests of the command line.

use super::*;
use crate::config::IoPolicy;
use crate::export::client::Peer;
use clap::CommandFactory as _;
use std::io;
use std::net::IpAddr;

struct NoHosts;

impl Resolver for NoHosts {
    fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Err(io::ErrorKind::NotFound.into())
    }
    fn name(&self, _: IpAddr) -> Option<String> {
        None
    }
}

fn serve_settings(words: &[&str]) -> (Option<ServeSettings>, Findings) {
    let line = ["ringnfs", "serve"].iter().chain(words);
    let cli = Cli::try_parse_from(line).expect("a command line");
    let Command::Serve(arguments) = cli.command else {
        unreachable!("serve was given")
    };
    let mut found = Findings::new();
    (settings(&arguments, &NoHosts, &mut found), found)
}

fn clean(words: &[&str]) -> ServeSettings {
    let (settings, found) = serve_settings(words);
    assert!(!found.has_errors(), "{found}");
    settings.expect("settings")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn a_directory_alone_is_served_on_loopback() {
    let dir = tempfile::tempdir().expect("a directory");
    let link = dir.path().join("link");
    std::os::unix::fs::symlink(".", &link).expect("linked");
    let settings = clean(&[text(&link), text(dir.path())]);
    assert_eq!(settings.listen, config::loopback());
    let real = dir.path().canonicalize().expect("there");
    assert_eq!(
        settings.exports,
        ExportSource::Dirs {
            dirs: vec![real.clone()],
            options: SERVE_OPTIONS.to_owned()
        }
    );
    let export = settings.table.exports().first().expect("an export");
    assert_eq!(export.path, real);
    let options = export
        .access(&Peer::from(IpAddr::from([127, 0, 0, 1])))
        .granted()
        .expect("access");
    assert_eq!(options.to_string(), "rw,sync,insecure,root_squash");
}

#[test]
fn options_and_settings_of_the_command_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = clean(&[
        text(dir.path()),
        "--listen",
        "0.0.0.0:3049",
        "--listen",
        "[::]:3049",
        "--options",
        "no_root_squash",
        "--threads",
        "2",
        "--io-policy",
        "ring",
        "--rpcbind",
        "--state-dir",
        "state",
        "--log",
        "debug",
        "--log-format",
        "json",
    ]);
    let listen: Vec<String> = settings
        .listen
        .iter()
        .map(|l| format!("{} {}", l.addr, l.optional))
        .collect();
    assert_eq!(listen, ["0.0.0.0:3049 false", "[::]:3049 false"]);
    assert_eq!(
        (settings.config.threads, settings.config.io_policy),
        (2, IoPolicy::Ring)
    );
    assert!(settings.config.rpcbind && !settings.config.portmapper);
    assert!(
        settings.config.state_dir.is_absolute() && settings.config.state_dir.ends_with("state")
    );
    assert!(
        settings
            .table
            .to_string()
            .ends_with(" *(ro,sync,no_root_squash)\n"),
        "{}",
        settings.table
    );
}

#[test]
fn every_fault_of_the_command_line_is_told() {
    let (_, found) = serve_settings(&[
        "/no/such/dir",
        "--options",
        "ro,rw",
        "--threads",
        "x",
        "--listen",
        "2049",
        "--io-policy",
        "x",
        "--log",
        "x",
    ]);
    assert_eq!(found.errors(), 6, "{found}");
    assert!(
        found
            .to_string()
            .contains("serve: error: cannot export the directory: No such file"),
        "{found}"
    );
    assert!(
        found
            .to_string()
            .contains("--options: error: options \"ro\" and \"rw\" contradict"),
        "{found}"
    );
}

#[test]
fn directories_or_a_configuration_are_needed() {
    assert!(Cli::try_parse_from(["ringnfs", "serve"]).is_err());
    assert!(Cli::try_parse_from(["ringnfs", "serve", "--config", "x", "--options", "rw"]).is_err());
}

#[test]
fn a_configuration_file_is_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("r.toml");
    std::fs::write(
        &file,
        "listen = [\"192.0.2.1:2049\"]\nexports = '''\n/srv *(rw)\n'''\n",
    )
    .expect("written");
    let settings = clean(&["--config", text(&file), "--threads", "1"]);
    assert_eq!(settings.listen.len(), 1);
    assert_eq!(settings.exports, ExportSource::ConfigFile(file.clone()));
    assert_eq!(
        (settings.table.exports().len(), settings.config.threads),
        (1, 1)
    );
    let (_, found) = serve_settings(&["--config", text(&file), text(dir.path())]);
    assert!(
        found
            .to_string()
            .contains("the file has exports and directories are given too"),
        "{found}"
    );
}

#[test]
fn nothing_exported_is_a_warning() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("r.toml");
    std::fs::write(&file, "exports = ''").expect("written");
    let (_, found) = serve_settings(&["--config", text(&file)]);
    assert!(
        found.to_string().contains("warning: nothing is exported"),
        "{found}"
    );
}

#[test]
fn check_tells_all_of_both_kinds_of_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let exports = dir.path().join("exports");
    std::fs::write(&exports, "/no/such/dir *(rx)\n/b\n").expect("written");
    let mut found = Findings::new();
    check(&exports, &NoHosts, &mut found);
    let name = text(&exports);
    assert_eq!(
        found.to_string(),
        format!(
            "{name}:1: error: unknown option: \"rx\"; fix: did you mean \"ro\"?\n\
             {name}:2: error: no client is named: \"/b\"; fix: write /b CLIENT(ro), or /b *(ro) for everyone\n\
             {name}: warning: not a directory on this machine: \"/no/such/dir\"; \
             fix: create the directory, or remove the export"
        )
    );
    let toml = dir.path().join("r.toml");
    std::fs::write(&toml, "thread = 1\nexports = '''\n/b\n'''\n").expect("written");
    let mut found = Findings::new();
    check(&toml, &NoHosts, &mut found);
    let lines: Vec<u32> = found.iter().map(|finding| finding.line).collect();
    assert_eq!(lines, [1, 3], "{found}");
}
