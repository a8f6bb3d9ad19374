//! Every setting of the daemon in one table, from which reading, checking, command line and reference come.

use super::transfers::{BLOCK, TRANSFER_HEAD, TRANSFER_MOST};
use super::value::{parse_size, parse_time, show_size, show_time};
use super::{Config, Idmapping, InlineExports, IoPolicy, LogFormat};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

/// Where a setting lives in [`Config`], and what it may be.
#[derive(Clone, Copy)]
pub(super) enum Field {
    Bool(fn(&mut Config) -> &mut bool),
    Count(u32, u32, fn(&mut Config) -> &mut u32),
    Size(u64, u64, fn(&mut Config) -> &mut u64),
    /// A size in whole blocks of 4 KiB.
    Blocks(u64, u64, fn(&mut Config) -> &mut u64),
    Time(u64, u64, fn(&mut Config) -> &mut Duration),
    /// Whole seconds, from 1 s to 1 h.
    Seconds(fn(&mut Config) -> &mut Duration),
    Dir(fn(&mut Config) -> &mut PathBuf),
    RecoveryDb,
    Policy,
    Idmap,
    Domain,
    Filter,
    Format,
    Listen,
    Exports,
    ExportsFile,
}

/// One row of the table.
pub struct Setting {
    /// As written in the file, table and name joined by a dot.
    pub key: &'static str,
    /// For the reference; lines of at most 100 columns.
    pub meaning: &'static str,
    pub(super) field: Field,
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

const fn setting(key: &'static str, field: Field, meaning: &'static str) -> Setting {
    Setting {
        key,
        meaning,
        field,
    }
}

use Field::{Blocks, Bool, Count, Dir, Seconds, Size, Time};

/// Every setting, in the order of the reference.
#[rustfmt::skip] // a table
pub const SETTINGS: &[Setting] = &[
    setting("listen", Field::Listen, "Addresses and ports to listen on (NFS and MOUNT share the port)."),
    setting("threads", Count(0, 1024, |c| &mut c.threads), "Worker threads; 0 is one for each core."),
    setting("io_policy", Field::Policy,
        "\"ring\": every file operation goes through io_uring.\n\"adaptive\": operations that cannot wait may be plain system calls."),
    setting("exports", Field::Exports,
        "Exports in the syntax of exports(5); use ''' so that backslashes stay as they are.\nNot together with exports_file."),
    setting("exports_file", Field::ExportsFile, "File with exports in the syntax of exports(5), such as /etc/exports."),
    setting("state_dir", Dir(|c| &mut c.state_dir), "Directory for what must survive a restart (key of file handles)."),
    setting("recovery_db", Field::RecoveryDb,
        "Database of what NFSv4 clients may reclaim after a restart; without it, recovery.redb in state_dir."),
    setting("runtime_dir", Dir(|c| &mut c.runtime_dir), "Directory of the control socket."),
    setting("lease_time", Seconds(|c| &mut c.lease_time), "An NFSv4 client not heard of for this long can lose its opens and locks to others."),
    setting("grace_time", Seconds(|c| &mut c.grace_time),
        "After a restart NFSv4 clients have this long to reclaim opens and locks; new ones wait until they have.\nAt least lease_time, or clients can notice the restart too late."),
    setting("log", Field::Filter, "What is logged: LEVEL or TARGET=LEVEL, comma separated.\nLevels: off, error, warn, info, debug, trace."),
    setting("log_format", Field::Format, "\"text\" or \"json\", one line an event."),
    setting("manage_gids", Bool(|c| &mut c.manage_gids), "Look up the groups of a user here instead of believing the client (which can send 16)."),
    setting("idmap", Field::Idmap,
        "Owners of files as NFSv4 sends them: \"numeric\", or \"names\" (USER@DOMAIN, from this machine's databases).\nBoth are understood."),
    setting("idmap_domain", Field::Domain, "DOMAIN of those names; without it the domain of this machine's name."),
    setting("rpcbind", Bool(|c| &mut c.rpcbind), "Register with the rpcbind running on this machine."),
    setting("portmapper", Bool(|c| &mut c.portmapper), "Answer portmapper calls on the port of NFS, for clients that ask there."),
    setting("limits.connections", Count(1, 1_000_000, |c| &mut c.limits.connections), "Open connections; further ones are closed at once."),
    setting("limits.connections_per_client", Count(1, 1_000_000, |c| &mut c.limits.connections_per_client), "Open connections of one address."),
    setting("limits.records_in_flight", Count(1, 65_536, |c| &mut c.limits.records_in_flight), "Requests of one connection worked on at once; then its socket is not read."),
    setting("limits.reply_bytes", Size(MIB, GIB, |c| &mut c.limits.reply_bytes), "Replies of one connection waiting to be sent; then its socket is not read."),
    setting("limits.transfer_bytes", Blocks(64 * KIB, TRANSFER_MOST, |c| &mut c.limits.transfer_bytes),
        "Longest READ or WRITE. Follows buffers_bytes: 1MiB, with 896MiB of buffers 2MiB, with 1792MiB 4MiB."),
    setting("limits.record_bytes", Size(64 * KIB, TRANSFER_MOST + TRANSFER_HEAD, |c| &mut c.limits.record_bytes),
        "Longest request; a connection that sends a longer one is closed. Follows transfer_bytes: 4KiB more."),
    setting("limits.buffers_bytes", Size(16 * MIB, TIB, |c| &mut c.limits.buffers_bytes), "Memory for requests, replies and file data in flight."),
    setting("limits.open_files", Count(64, 100_000_000, |c| &mut c.limits.open_files), "Files kept open between requests."),
    setting("limits.delegations", Count(1, 100_000_000, |c| &mut c.limits.delegations),
        "Delegations of NFSv4 clients; with more, clients are asked to return some, and those of 4.0 the oldest ones."),
    setting("limits.available_memory", Count(0, 100, |c| &mut c.limits.available_memory),
        "Percent of the machine's memory (MemAvailable of /proc/meminfo).\nWhile less is available, NFSv4 clients are asked every ten seconds to return half of their delegations; 0: never."),
    setting("timeouts.half_record", Time(1_000, 3_600_000, |c| &mut c.timeouts.half_record), "A connection that stops in the middle of a request is closed after this."),
    setting("timeouts.send_stalled", Time(1_000, 3_600_000, |c| &mut c.timeouts.send_stalled), "A connection that takes no replies is closed after this."),
    setting("timeouts.drain", Time(0, 3_600_000, |c| &mut c.timeouts.drain), "Requests in flight have this long to end when the server is told to stop."),
];

/// A value in a file or on the command line.
pub(super) enum Input<'a> {
    /// From TOML; `line` is where the text of a string starts.
    Toml { value: &'a DeValue<'a>, line: u32 },
    /// From the command line.
    Text(&'a str),
}

/// What is wrong with a value (message, fix).
pub(super) type Problem = (String, String);

fn problem<T>(message: impl Into<String>, fix: impl Into<String>) -> Result<T, Problem> {
    Err((message.into(), fix.into()))
}

impl Input<'_> {
    fn text(&self, example: &str) -> Result<&str, Problem> {
        match self {
            Input::Text(text) => Ok(text),
            Input::Toml { value, .. } => match value.as_str() {
                Some(text) => Ok(text),
                None => problem(
                    format!("not a string but {}", kind(value)),
                    format!("write {example}"),
                ),
            },
        }
    }

    /// The digits of a whole number, if it is one.
    fn integer(&self) -> Option<u64> {
        match self {
            Input::Text(text) => text.parse().ok(),
            Input::Toml { value, .. } => {
                let integer = value.as_integer()?;
                u64::from_str_radix(integer.as_str(), integer.radix()).ok()
            }
        }
    }
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

impl Setting {
    /// The name without its table.
    fn name(&self) -> &'static str {
        self.key.rsplit('.').next().unwrap_or(self.key)
    }

    /// Puts a value into `config`.
    pub(super) fn set(&self, config: &mut Config, input: &Input<'_>) -> Result<(), Problem> {
        let name = self.name();
        match self.field {
            Bool(at) => *at(config) = read_bool(input, name)?,
            Count(least, most, at) => match input.integer().and_then(|n| u32::try_from(n).ok()) {
                Some(n) if (least..=most).contains(&n) => *at(config) = n,
                _ => {
                    return problem(
                        "not a usable number",
                        format!("write a number from {least} to {most}"),
                    );
                }
            },
            Size(least, most, at) => *at(config) = read_size(input, least..=most, 1, *at(config))?,
            Blocks(least, most, at) => {
                *at(config) = read_size(input, least..=most, BLOCK, *at(config))?
            }
            Time(least, most, at) => {
                let range = Duration::from_millis(least)..=Duration::from_millis(most);
                *at(config) = read_time(input, range, *at(config))?;
            }
            Seconds(at) => {
                let range = Duration::from_secs(1)..=Duration::from_secs(3600);
                let time = read_time(input, range, *at(config))?;
                if time.subsec_nanos() != 0 {
                    return problem(
                        "not a whole number of seconds",
                        format!("write \"{}s\"", time.as_secs() + 1),
                    );
                }
                *at(config) = time;
            }
            Dir(at) => *at(config) = read_path(input, name)?,
            Field::RecoveryDb => config.recovery_db = Some(read_path(input, name)?),
            Field::Policy => {
                config.io_policy = read_word(
                    input,
                    &[("ring", IoPolicy::Ring), ("adaptive", IoPolicy::Adaptive)],
                )?
            }
            Field::Idmap => {
                config.idmap = read_word(
                    input,
                    &[("numeric", Idmapping::Numeric), ("names", Idmapping::Names)],
                )?
            }
            Field::Domain => config.idmap_domain = Some(read_domain(input)?),
            Field::Format => {
                config.log_format = read_word(
                    input,
                    &[("text", LogFormat::Text), ("json", LogFormat::Json)],
                )?
            }
            Field::Filter => {
                let filter = input.text("log = \"info\"")?;
                crate::log::check_filter(filter)?;
                config.log = filter.to_owned();
            }
            Field::Listen => config.listen = read_listen(input)?,
            Field::ExportsFile => config.exports_file = Some(read_path(input, name)?),
            Field::Exports => {
                let text = input.text("exports = '''...'''")?.to_owned();
                let line = if let Input::Toml { line, .. } = input {
                    *line
                } else {
                    1
                };
                config.exports = Some(InlineExports { text, line });
            }
        }
        Ok(())
    }

    /// The value in `config` as TOML; `None` when it is not set.
    pub(super) fn show(&self, config: &Config) -> Option<String> {
        let mut config = config.clone();
        let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
        Some(match self.field {
            Bool(at) => at(&mut config).to_string(),
            Count(_, _, at) => at(&mut config).to_string(),
            Size(_, _, at) | Blocks(_, _, at) => quoted(&show_size(*at(&mut config))),
            Time(_, _, at) | Seconds(at) => quoted(&show_time(*at(&mut config))),
            Dir(at) => quoted(&at(&mut config).to_string_lossy()),
            Field::RecoveryDb => quoted(&config.recovery_db?.to_string_lossy()),
            Field::Policy => quoted(config.io_policy.name()),
            Field::Idmap => quoted(config.idmap.name()),
            Field::Domain => quoted(&config.idmap_domain?),
            Field::Format => quoted(config.log_format.name()),
            Field::Filter => quoted(&config.log),
            Field::Listen => {
                let all: Vec<String> = config
                    .listen
                    .iter()
                    .map(|addr| quoted(&addr.to_string()))
                    .collect();
                format!("[{}]", all.join(", "))
            }
            Field::Exports => quoted(&config.exports?.text),
            Field::ExportsFile => quoted(&config.exports_file?.to_string_lossy()),
        })
    }
}

fn read_size(
    input: &Input<'_>,
    range: RangeInclusive<u64>,
    block: u64,
    now: u64,
) -> Result<u64, Problem> {
    let size = input
        .integer()
        .or_else(|| input.text("").ok().and_then(parse_size));
    let fits = |size: &u64| range.contains(size) && size.is_multiple_of(block);
    size.filter(fits).map_or_else(
        || {
            let (least, most) = (show_size(*range.start()), show_size(*range.end()));
            let blocks = match block {
                1 => String::new(),
                block => format!(" in whole blocks of {}", show_size(block)),
            };
            let now = show_size(now);
            problem(
                "not a usable size",
                format!("write a size from {least} to {most}{blocks}, such as \"{now}\""),
            )
        },
        Ok,
    )
}

fn read_time(
    input: &Input<'_>,
    range: RangeInclusive<Duration>,
    now: Duration,
) -> Result<Duration, Problem> {
    let time = input.text("").ok().and_then(parse_time);
    time.filter(|time| range.contains(time)).map_or_else(
        || {
            let (least, most) = (show_time(*range.start()), show_time(*range.end()));
            problem(
                "not a usable time",
                format!(
                    "write a time from {least} to {most}, such as \"{}\"",
                    show_time(now)
                ),
            )
        },
        Ok,
    )
}

fn read_bool(input: &Input<'_>, name: &str) -> Result<bool, Problem> {
    let value = match input {
        Input::Toml { value, .. } => value.as_bool(),
        Input::Text(text) => text.parse().ok(),
    };
    value.map_or_else(
        || {
            problem(
                "not true or false",
                format!("write {name} = true or {name} = false"),
            )
        },
        Ok,
    )
}

fn read_word<T: Copy>(input: &Input<'_>, words: &[(&str, T)]) -> Result<T, Problem> {
    let choices: Vec<String> = words
        .iter()
        .map(|(word, _)| format!("\"{word}\""))
        .collect();
    let fix = choices.join(" or ");
    let text = input.text(&fix)?;
    match words.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(*value),
        None => problem("not one of the known values", format!("write {fix}")),
    }
}

fn read_path(input: &Input<'_>, name: &str) -> Result<PathBuf, Problem> {
    let text = input.text(&format!("{name} = \"/PATH\""))?;
    if !text.starts_with('/') || text.contains('\0') {
        return problem("not an absolute path", format!("write {name} = \"/PATH\""));
    }
    Ok(PathBuf::from(text))
}

/// A DNS domain name, or what looks like one.
fn read_domain(input: &Input<'_>) -> Result<String, Problem> {
    let example = "idmap_domain = \"example.org\"";
    let text = input.text(example)?;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if text.is_empty() || text.len() > crate::nfs4::idmap::DOMAIN_MAX || !text.bytes().all(plain) {
        return problem("not a domain name", format!("write {example}"));
    }
    Ok(text.to_owned())
}

/// One `ADDRESS:PORT`. Port 0 lets the system choose.
pub(super) fn parse_listen(text: &str) -> Result<SocketAddr, Problem> {
    if let Ok(addr) = text.parse() {
        return Ok(addr);
    }
    let port_only = !text.is_empty() && text.parse::<u16>().is_ok();
    let bare = text
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<std::net::IpAddr>();
    match bare {
        Ok(addr) => problem(
            "the port is missing",
            format!("write \"{}\"", SocketAddr::new(addr, 2049)),
        ),
        Err(_) if port_only => problem(
            "the address is missing",
            format!("write \"0.0.0.0:{text}\" and \"[::]:{text}\""),
        ),
        Err(_) => problem(
            "not an address with a port",
            "write \"192.0.2.1:2049\" or \"[2001:db8::1]:2049\"",
        ),
    }
}

fn read_listen(input: &Input<'_>) -> Result<Vec<SocketAddr>, Problem> {
    let example = "listen = [\"0.0.0.0:2049\", \"[::]:2049\"]";
    let mut all: Vec<SocketAddr> = Vec::new();
    let mut add = |text: &str| {
        let addr = parse_listen(text)
            .map_err(|(message, fix)| (format!("{message} in \"{}\"", text.escape_debug()), fix))?;
        if all.contains(&addr) && addr.port() != 0 {
            return problem(
                format!("\"{addr}\" is there twice"),
                "name every address once",
            );
        }
        all.push(addr);
        Ok(())
    };
    match input {
        Input::Text(text) => text.split(',').try_for_each(&mut add)?,
        Input::Toml { value, .. } => match value.as_array() {
            None => add(value
                .as_str()
                .map_or_else(|| problem("not a list", format!("write {example}")), Ok)?)?,
            Some(list) => list
                .iter()
                .try_for_each(|item| match item.get_ref().as_str() {
                    Some(text) => add(text),
                    None => problem("not a list of strings", format!("write {example}")),
                })?,
        },
    }
    if all.is_empty() {
        return problem("no address to listen on", format!("write {example}"));
    }
    Ok(all)
}
