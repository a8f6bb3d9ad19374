//! Configuration of the daemon: a TOML file, the command line, and defaults from the size of memory.

mod settings;
mod transfers;
mod value;

pub use settings::{SETTINGS, Setting};
pub use transfers::{TRANSFER_HEAD, TRANSFER_MOST};

use crate::export::client::Client;
use crate::export::names::Resolver;
use crate::export::options::{Options, parse_options};
use crate::export::parse::Grant;
use crate::export::{ExportTable, load};
use crate::finding::{Findings, Place, nearest};
use crate::memory::Memory;
use settings::Input;
use std::fs;
use std::io::Read as _;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml::de::{DeTable, DeValue};

/// Port of NFS (RFC 1813 2.1).
pub const NFS_PORT: u16 = 2049;
/// Options of `serve DIR` without `--options`. Differs from exports(5) in `rw`, as a directory served by hand is meant to
/// be worked in, and `insecure`, as clients behind address translation have no low ports.
pub const SERVE_OPTIONS: &str = "rw,sync,root_squash,insecure";
/// Longest configuration or exports file.
const LONGEST_FILE: u64 = 4 << 20;

/// How file operations reach the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoPolicy {
    /// Everything by io_uring.
    Ring,
    /// What cannot wait may be a plain system call.
    Adaptive,
}

impl IoPolicy {
    /// As written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            IoPolicy::Ring => "ring",
            IoPolicy::Adaptive => "adaptive",
        }
    }
}

impl From<IoPolicy> for vfs::uring::IoPolicy {
    fn from(policy: IoPolicy) -> Self {
        match policy {
            IoPolicy::Ring => vfs::uring::IoPolicy::Ring,
            IoPolicy::Adaptive => vfs::uring::IoPolicy::Adaptive,
        }
    }
}

/// How NFSv4 writes the owners of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idmapping {
    /// As numbers.
    Numeric,
    /// As `name@domain`.
    Names,
}

impl Idmapping {
    /// As written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Idmapping::Numeric => "numeric",
            Idmapping::Names => "names",
        }
    }
}

/// Form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// As written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        }
    }
}

/// `exports = '''...'''`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineExports {
    /// exports(5) text.
    pub text: String,
    /// Line of the file at which the text starts.
    pub line: u32,
}

/// Bounds on what clients can make the server hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of all clients.
    pub connections: u32,
    /// Connections of one address.
    pub connections_per_client: u32,
    /// Requests worked on at once, per connection.
    pub records_in_flight: u32,
    /// Bytes of replies waiting to be sent, per connection.
    pub reply_bytes: u64,
    /// Most bytes of one READ or WRITE, up to [`TRANSFER_MOST`].
    pub transfer_bytes: u64,
    /// Bytes of the longest request.
    pub record_bytes: u64,
    /// Bytes of all buffers.
    pub buffers_bytes: u64,
    /// Files kept open.
    pub open_files: u32,
    /// Delegations of all clients.
    pub delegations: u32,
    /// Percent of the machine's memory; while less is available, clients give delegations back.
    pub available_memory: u32,
}

impl Limits {
    /// The limits for a machine with this many bytes of memory: an eighth of it for buffers, 256 KiB of it for each
    /// connection, 64 KiB for each open file, 16 KiB for each delegation; READs and WRITEs as long as
    /// the buffers have room for.
    pub fn for_memory(memory: u64) -> Limits {
        let count =
            |n: u64, least: u32, most: u32| u32::try_from(n).unwrap_or(most).clamp(least, most);
        let connections = count(memory / (256 << 10), 256, 65_536);
        let buffers_bytes = ((memory / 8) >> 20 << 20).clamp(32 << 20, 16 << 30);
        let transfer_bytes = transfers::for_buffers(buffers_bytes);
        Limits {
            connections,
            connections_per_client: connections - connections / 4,
            records_in_flight: 256,
            reply_bytes: 16 << 20,
            transfer_bytes,
            record_bytes: transfer_bytes + TRANSFER_HEAD,
            buffers_bytes,
            open_files: count(memory / (64 << 10), 1024, 1_000_000),
            delegations: count(memory / (16 << 10), 4096, 256 << 10),
            available_memory: 5,
        }
    }
}

/// How long the server waits for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the rest of a request.
    pub half_record: Duration,
    /// For a client to take replies.
    pub send_stalled: Duration,
    /// For requests in flight when stopping.
    pub drain: Duration,
}

/// The daemon's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to listen.
    pub listen: Vec<SocketAddr>,
    /// Worker threads, 0 for one a core.
    pub threads: u32,
    /// How file operations reach the kernel.
    pub io_policy: IoPolicy,
    /// Exports in the file itself.
    pub exports: Option<InlineExports>,
    /// File with exports; never together with `exports`.
    pub exports_file: Option<PathBuf>,
    /// What must survive a restart.
    pub state_dir: PathBuf,
    /// Recovery database, if not in `state_dir`; see [`Config::recovery_db`].
    pub recovery_db: Option<PathBuf>,
    /// Control socket.
    pub runtime_dir: PathBuf,
    /// Lease of NFSv4 clients, whole seconds.
    pub lease_time: Duration,
    /// Grace period after a restart, whole seconds.
    pub grace_time: Duration,
    /// Filter of the log.
    pub log: String,
    /// Form of the log.
    pub log_format: LogFormat,
    /// Look up groups on the server.
    pub manage_gids: bool,
    /// How NFSv4 writes the owners of files.
    pub idmap: Idmapping,
    /// Domain of the owners' names; that of this machine's name where there is none.
    pub idmap_domain: Option<String>,
    /// Register with rpcbind.
    pub rpcbind: bool,
    /// Answer portmapper calls.
    pub portmapper: bool,
    /// Bounds.
    pub limits: Limits,
    /// Patience.
    pub timeouts: Timeouts,
}

impl Config {
    /// The defaults on a machine with this many bytes of memory.
    pub fn for_memory(memory: u64) -> Config {
        Config {
            listen: vec![
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, NFS_PORT)),
                SocketAddr::from((Ipv6Addr::UNSPECIFIED, NFS_PORT)),
            ],
            threads: 0,
            io_policy: IoPolicy::Adaptive,
            exports: None,
            exports_file: None,
            state_dir: PathBuf::from("/var/lib/ringnfs"),
            recovery_db: None,
            runtime_dir: PathBuf::from("/run/ringnfs"),
            lease_time: Duration::from_secs(90),
            grace_time: Duration::from_secs(90),
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            manage_gids: false,
            idmap: Idmapping::Numeric,
            idmap_domain: None,
            rpcbind: false,
            portmapper: false,
            limits: Limits::for_memory(memory),
            timeouts: Timeouts {
                half_record: Duration::from_secs(60),
                send_stalled: Duration::from_secs(60),
                drain: Duration::from_secs(10),
            },
        }
    }

    /// Where the recovery database is: `recovery_db`, or `recovery.redb` in `state_dir`.
    pub fn recovery_db(&self) -> PathBuf {
        match &self.recovery_db {
            Some(path) => path.clone(),
            None => self.state_dir.join("recovery.redb"),
        }
    }

    /// Reads the text of a configuration file on top of the defaults for `memory` bytes of memory.
    ///
    /// Every fault is reported; the result must not be used when `found.has_errors()`.
    pub fn parse(file: &str, text: &str, memory: u64, found: &mut Findings) -> Config {
        let mut config = Config::for_memory(memory);
        let mut reader = Reader {
            file,
            text,
            lines: Vec::new(),
            found,
        };
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let value = text
                .get(span.clone())
                .unwrap_or_default()
                .lines()
                .next()
                .unwrap_or_default();
            let at = Place {
                file,
                line: reader.line(span.start),
            };
            reader.found.error(
                at,
                format!("not TOML: {}", error.message()),
                value,
                "correct the syntax",
            );
        }
        if !reader.found.has_errors() {
            reader.table("", table.get_ref(), &mut config);
            reader.together(&mut config);
        }
        config
    }

    /// Sets one setting from the command line; `option` is its name there.
    pub fn set(&mut self, option: &str, key: &str, text: &str, found: &mut Findings) {
        let at = Place {
            file: option,
            line: 0,
        };
        let Some(setting) = SETTINGS.iter().find(|setting| setting.key == key) else {
            return found.error(at, "no such setting", key, "");
        };
        if let Err((message, fix)) = setting.set(self, &Input::Text(text)) {
            found.error(at, message, text, fix);
        }
    }

    /// All settings with their defaults for `memory` bytes of memory, as a commented configuration file.
    pub fn reference(memory: u64) -> String {
        let config = Config::for_memory(memory);
        let mut out =
            String::from("# Configuration of ringnfs. Every setting is shown with its default.\n");
        let mut table = "";
        for setting in SETTINGS {
            let (of, name) = setting.key.split_once('.').unwrap_or(("", setting.key));
            if of != table {
                table = of;
                out.push_str(&format!("\n[{table}]\n"));
            }
            out.push('\n');
            setting
                .meaning
                .lines()
                .for_each(|line| out.push_str(&format!("# {line}\n")));
            match setting.show(&config) {
                Some(value) => out.push_str(&format!("{name} = {value}\n")),
                None => out.push_str(&format!("#{name} =\n")),
            }
        }
        out
    }
}

/// Reads one file; remembers where settings were given.
struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    lines: Vec<(&'static str, u32)>,
    found: &'a mut Findings,
}

impl Reader<'_> {
    fn line(&self, offset: usize) -> u32 {
        let before = self.text.as_bytes().get(..offset).unwrap_or_default();
        1 + u32::try_from(before.iter().filter(|b| **b == b'\n').count()).unwrap_or(u32::MAX - 1)
    }

    /// Line of the first character of a string value.
    fn text_line(&self, offset: usize) -> u32 {
        let raw = self.text.get(offset..).unwrap_or_default();
        let after = raw
            .strip_prefix("'''")
            .or_else(|| raw.strip_prefix("\"\"\""))
            .unwrap_or_default();
        self.line(offset) + u32::from(after.starts_with('\n') || after.starts_with("\r\n"))
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>, config: &mut Config) {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let name: &str = key.get_ref();
            let full = format!("{prefix}{name}");
            let span = value.span();
            if let Some(setting) = SETTINGS.iter().find(|setting| setting.key == full) {
                let at = Place {
                    file: self.file,
                    line: self.line(key.span().start),
                };
                self.lines.push((setting.key, at.line));
                let input = Input::Toml {
                    value: value.get_ref(),
                    line: self.text_line(span.start),
                };
                if let Err((message, fix)) = setting.set(config, &input) {
                    let raw = self
                        .text
                        .get(span)
                        .unwrap_or_default()
                        .lines()
                        .next()
                        .unwrap_or_default();
                    self.found.error(at, format!("{full}: {message}"), raw, fix);
                }
                continue;
            }
            let known_table = SETTINGS
                .iter()
                .any(|setting| setting.key.starts_with(&format!("{full}.")));
            match value.get_ref() {
                DeValue::Table(inner) if known_table => {
                    self.table(&format!("{full}."), inner, config)
                }
                _ => self.unknown(prefix, &full, key.span().start),
            }
        }
    }

    fn unknown(&mut self, prefix: &str, full: &str, offset: usize) {
        let at = Place {
            file: self.file,
            line: self.line(offset),
        };
        let name = full.get(prefix.len()..).unwrap_or(full);
        let in_table = SETTINGS
            .iter()
            .filter_map(|setting| setting.key.strip_prefix(prefix));
        let names = in_table.map(|rest| rest.split('.').next().unwrap_or(rest));
        let elsewhere = SETTINGS
            .iter()
            .find(|s| s.key.rsplit('.').next() == Some(name))
            .map(|s| s.key);
        let fix = match (nearest(name, names), elsewhere) {
            (Some(near), _) => format!("did you mean \"{prefix}{near}\"?"),
            (None, Some(key)) => format!("did you mean \"{key}\"?"),
            (None, None) => "remove it; `ringnfs reference` lists the known ones".to_owned(),
        };
        self.found.error(at, "unknown setting", full, fix);
    }

    /// Settings that have to fit each other.
    fn together(&mut self, config: &mut Config) {
        let line_of = |key: &str| {
            self.lines
                .iter()
                .find(|(seen, _)| *seen == key)
                .map(|(_, line)| *line)
        };
        let place = |line: u32| Place {
            file: self.file,
            line,
        };
        if let (Some(one), Some(other)) = (line_of("exports"), line_of("exports_file")) {
            let message = "exports and exports_file contradict each other";
            self.found.error(
                place(one.max(other)),
                message,
                "exports_file",
                "keep one of the two",
            );
        }
        let limits = &mut config.limits;
        if limits.connections_per_client > limits.connections {
            match line_of("limits.connections_per_client") {
                None => limits.connections_per_client = limits.connections,
                Some(line) => {
                    let value = limits.connections_per_client.to_string();
                    let fix = format!(
                        "write at most {}, or raise limits.connections",
                        limits.connections
                    );
                    self.found.error(
                        place(line),
                        "limits.connections_per_client is above limits.connections",
                        &value,
                        fix,
                    );
                }
            }
        }
        if let Some((line, message, value, fix)) = transfers::fit(limits, line_of) {
            self.found.error(place(line), message, &value, fix);
        }
        if limits.buffers_bytes / 4 < limits.record_bytes {
            let line = line_of("limits.record_bytes")
                .or_else(|| line_of("limits.buffers_bytes"))
                .unwrap_or(0);
            let value = format!(
                "{} of {}",
                value::show_size(limits.record_bytes),
                value::show_size(limits.buffers_bytes)
            );
            let fix = "make limits.buffers_bytes at least four times limits.record_bytes";
            self.found.error(
                place(line),
                "the buffers do not hold four of the longest requests",
                &value,
                fix,
            );
        }
        if config.grace_time < config.lease_time {
            let line = line_of("grace_time").or_else(|| line_of("lease_time"));
            let message = "grace_time is below lease_time: clients can notice a restart too late to reclaim their locks";
            let value = value::show_time(config.grace_time);
            let fix = format!("write at least \"{}\"", value::show_time(config.lease_time));
            self.found
                .warning(place(line.unwrap_or(0)), message, &value, fix);
        }
        if config.exports.is_none() && config.exports_file.is_none() {
            let fix = "add exports = '''...''' or exports_file = \"/etc/exports\"";
            self.found.note(
                place(0),
                format!("nothing is exported by this file; {fix}"),
                "",
            );
        }
    }
}

/// Bytes of memory this process may use: of the machine, or of its control group if that is less.
pub fn memory_size() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max")
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let total = Memory::parse(&meminfo).map_or(1 << 30, |memory| memory.total);
    group.map_or(total, |group: u64| total.min(group))
}

/// Reads a whole file of at most 4 MiB. The fault is reported.
pub fn read_file(path: &Path, found: &mut Findings) -> Option<Vec<u8>> {
    let name = path.display().to_string();
    let at = Place {
        file: &name,
        line: 0,
    };
    let mut text = Vec::new();
    let read =
        fs::File::open(path).and_then(|file| file.take(LONGEST_FILE + 1).read_to_end(&mut text));
    match read {
        Err(error) => found.error(at, format!("cannot read the file: {error}"), "", ""),
        Ok(length) if length as u64 > LONGEST_FILE => {
            found.error(at, "the file is longer than 4 MiB", "", "")
        }
        Ok(_) => return Some(text),
    }
    None
}

/// Reads a configuration file.
pub fn load_config(path: &Path, found: &mut Findings) -> Option<Config> {
    let text = read_file(path, found)?;
    let name = path.display().to_string();
    match String::from_utf8(text) {
        Ok(text) => Some(Config::parse(&name, &text, memory_size(), found)),
        Err(_) => {
            found.error(
                Place {
                    file: &name,
                    line: 0,
                },
                "not UTF-8 text",
                "",
                "",
            );
            None
        }
    }
}

/// Where exports come from, at the start and on every reload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExportSource {
    /// `serve DIR...`: these to everyone who can reach the listener.
    Dirs {
        /// Absolute, symbolic links resolved.
        dirs: Vec<PathBuf>,
        /// exports(5) option list.
        options: String,
    },
    /// The configuration file, which is read again: its `exports` or its `exports_file`.
    ConfigFile(PathBuf),
}

impl ExportSource {
    /// Reads the exports now. May wait for name servers. The table must not be used when `found.has_errors()`.
    pub fn load(&self, resolver: &dyn Resolver, found: &mut Findings) -> ExportTable {
        match self {
            ExportSource::Dirs { dirs, options } => {
                let at = Place {
                    file: "--options",
                    line: 0,
                };
                let options = parse_options(options, &Options::default(), at, found);
                let grant = |dir: &PathBuf| Grant {
                    path: dir.clone(),
                    client: Client::Everyone,
                    options: options.clone(),
                    line: 0,
                };
                ExportTable::build(
                    "--options",
                    dirs.iter().map(grant).collect(),
                    resolver,
                    found,
                )
            }
            ExportSource::ConfigFile(path) => match load_config(path, found) {
                Some(config) => load_exports(path, &config, resolver, found),
                None => ExportTable::default(),
            },
        }
    }
}

/// The exports a configuration names.
pub fn load_exports(
    config_file: &Path,
    config: &Config,
    resolver: &dyn Resolver,
    found: &mut Findings,
) -> ExportTable {
    if let Some(inline) = &config.exports {
        return load(
            &config_file.display().to_string(),
            inline.line,
            inline.text.as_bytes(),
            resolver,
            found,
        );
    }
    match &config.exports_file {
        Some(path) => load_exports_file(path, resolver, found),
        None => ExportTable::default(),
    }
}

/// An exports(5) file.
pub fn load_exports_file(
    path: &Path,
    resolver: &dyn Resolver,
    found: &mut Findings,
) -> ExportTable {
    match read_file(path, found) {
        Some(text) => load(&path.display().to_string(), 1, &text, resolver, found),
        None => ExportTable::default(),
    }
}

/// One address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Address and port.
    pub addr: SocketAddr,
    /// Whether the server goes on, with a warning, when it cannot listen there.
    pub optional: bool,
}

/// Everything `server::run` needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServeSettings {
    /// The daemon; `config.listen` is superseded by `listen`.
    pub config: Config,
    /// Where to listen.
    pub listen: Vec<Listener>,
    /// What to export, for reloads.
    pub exports: ExportSource,
    /// What to export first: `exports` as loaded and checked at the start.
    pub table: ExportTable,
}

/// The listeners of `serve DIR` without `--listen`: this machine only. IPv6 may be switched off.
pub fn loopback() -> Vec<Listener> {
    vec![
        Listener {
            addr: SocketAddr::from((Ipv4Addr::LOCALHOST, NFS_PORT)),
            optional: false,
        },
        Listener {
            addr: SocketAddr::from((Ipv6Addr::LOCALHOST, NFS_PORT)),
            optional: true,
        },
    ]
}

/// The commands that mount an export with NFSv4.2 and with NFSv3. `addr` is the address the server really listens on, `host` the name to
/// use in place of an unspecified address.
pub fn mount_commands(addr: SocketAddr, host: &str, path: &Path) -> [String; 2] {
    let (port, proto) = (addr.port(), if addr.is_ipv6() { "tcp6" } else { "tcp" });
    let host = match addr {
        _ if addr.ip().is_unspecified() => host.to_owned(),
        SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        SocketAddr::V4(v4) => v4.ip().to_string(),
    };
    let source = crate::capabilities::shell_quoted(&format!("{host}:{}", path.display()));
    [
        format!("sudo mount -t nfs -o vers=4.2,proto={proto},port={port} {source} /mnt"),
        format!(
            "sudo mount -t nfs -o vers=3,proto={proto},port={port},mountproto={proto},mountport={port},nolock {source} /mnt"
        ),
    ]
}

#[cfg(test)]
mod tests;
