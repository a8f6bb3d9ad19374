//! Reads one option list: form, contradictions, effects.

use super::Effect::{AnonGid, AnonUid, Mountpoint as Mount, Off, On, Refused};
use super::{Effect, Flags, Fsid, Mountpoint, OPTIONS, OptionRow, Options, Sec, Value};
use crate::export::parse::unescape;
use crate::finding::{Findings, Place, nearest};
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// Options with their own place in ringnfs, found in files written for other servers.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "manage_gids",
        "set manage_gids = true in the daemon configuration",
    ),
    (
        "manage-gids",
        "set manage_gids = true in the daemon configuration",
    ),
    (
        "map_identity",
        "remove it; ids are never mapped with sec=sys",
    ),
    ("squash_uids", "remove it; use all_squash with anonuid="),
    ("squash_gids", "remove it; use all_squash with anongid="),
];

fn find_row(name: &str) -> Option<&'static OptionRow> {
    OPTIONS.iter().find(|row| row.name == name)
}

/// Reads one comma separated option list on top of `base` (the defaults, or a `-` section).
///
/// Faults go to `found`; what could be understood is returned all the same.
pub fn parse_options(list: &str, base: &Options, at: Place<'_>, found: &mut Findings) -> Options {
    let options = base.clone();
    let mut reader = Reader {
        options,
        switches: Vec::new(),
        values: Vec::new(),
        anon: None,
        at,
        found,
    };
    if !list.is_empty() {
        list.split(',').for_each(|word| reader.word(word, list));
    }
    reader.without_effect();
    reader.options
}

/// One option list being read, and what it gave so far, to find contradictions.
struct Reader<'a> {
    options: Options,
    switches: Vec<(Flags, &'static str, bool)>,
    values: Vec<(&'static str, String)>,
    anon: Option<&'static str>,
    at: Place<'a>,
    found: &'a mut Findings,
}

impl Reader<'_> {
    fn error(&mut self, message: impl Into<String>, value: &str, fix: impl Into<String>) {
        self.found.error(self.at, message, value, fix);
    }

    fn word(&mut self, word: &str, list: &str) {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        if word.is_empty() {
            return self.error("empty option in the list", list, "remove the extra comma");
        }
        match find_row(name) {
            Some(row) => self.option(row, word, value),
            None => self.unknown(word, name),
        }
    }

    fn unknown(&mut self, word: &str, name: &str) {
        if let Some((_, fix)) = ELSEWHERE.iter().find(|(other, _)| *other == name) {
            return self.error("not an option of an export", word, *fix);
        }
        let fix = match nearest(name, OPTIONS.iter().map(|row| row.name)) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "remove it; `ringnfs options` lists the known ones".to_owned(),
        };
        self.error("unknown option", word, fix);
    }

    /// Checks form and contradictions of one option, then lets it act.
    fn option(&mut self, row: &'static OptionRow, word: &str, value: Option<&str>) {
        let name = row.name;
        match (row.value, value) {
            (Value::None, Some(_)) => {
                let fix = format!(
                    "write \"{name}\"; clients are named before the parenthesis: CLIENT({name})"
                );
                return self.error(format!("option \"{name}\" takes no value"), word, fix);
            }
            (Value::Required(what), None | Some("")) => {
                return self.error(
                    format!("option \"{name}\" needs a value"),
                    word,
                    format!("write {name}={what}"),
                );
            }
            _ => {}
        }
        if row.warn {
            self.found
                .warning(self.at, row.remark, word, format!("remove \"{name}\""));
        } else if !row.remark.is_empty() {
            self.found.note(self.at, row.remark, word);
        }
        match row.effect {
            On(flag) => self.switch(name, flag, true),
            Off(flag) => self.switch(name, flag, false),
            Refused(why) => self.error(why, word, "remove the option"),
            _ => {
                let value = value.unwrap_or_default();
                if self.first_time(row, word, value) {
                    self.valued(row, word, value);
                }
            }
        }
    }

    fn switch(&mut self, name: &'static str, flag: Flags, on: bool) {
        if let Some((_, other, _)) = self
            .switches
            .iter()
            .find(|(seen, _, was)| *seen == flag && *was != on)
        {
            let message = format!("options \"{other}\" and \"{name}\" contradict each other");
            let value = format!("{other},{name}");
            return self.error(message, &value, "keep one of the two");
        }
        self.switches.push((flag, name, on));
        self.options.flags.set(flag, on);
    }

    /// Whether a valued option is new in its list; says so when it was there with another value.
    fn first_time(&mut self, row: &'static OptionRow, word: &str, value: &str) -> bool {
        let key = if row.name == "mp" {
            "mountpoint"
        } else {
            row.name
        };
        let Some((_, before)) = self.values.iter().find(|(name, _)| *name == key) else {
            self.values.push((key, value.to_owned()));
            return true;
        };
        if before != value {
            let fix = match key {
                "sec" => {
                    "join the flavors with colons, as in sec=sys:none; options per flavor are not supported"
                }
                _ => "keep one of the two",
            };
            let both = format!("{key}={before},{word}");
            self.error(
                format!("option \"{key}\" is given twice with different values"),
                &both,
                fix,
            );
        }
        false
    }

    fn valued(&mut self, row: &'static OptionRow, word: &str, value: &str) {
        match row.effect {
            AnonUid | AnonGid => match parse_id(value) {
                Some(id) => {
                    self.anon = Some(row.name);
                    let user = row.name == "anonuid";
                    let slot = if user {
                        &mut self.options.anon_uid
                    } else {
                        &mut self.options.anon_gid
                    };
                    *slot = id;
                }
                None => self.error(
                    "not a user or group number",
                    word,
                    "write a number from 0 to 4294967294",
                ),
            },
            Effect::Fsid => match Fsid::parse(value) {
                Some(fsid) => self.options.fsid = Some(fsid),
                None => {
                    let fix =
                        "write a number from 0 to 4294967295, a UUID of 32 hex digits, or root";
                    self.error("not a file system identity", word, fix);
                }
            },
            Effect::Sec => self.sec(word, value),
            Effect::TransportSec => self.transport_sec(word, value),
            Mount => match (value, unescape_path(value)) {
                ("", _) => self.options.mountpoint = Some(Mountpoint::Here),
                (_, Some(path)) => self.options.mountpoint = Some(Mountpoint::At(path)),
                (_, None) => self.error("not an absolute path", word, "write mountpoint=/PATH"),
            },
            On(_) | Off(_) | Refused(_) => {}
        }
    }

    fn sec(&mut self, word: &str, value: &str) {
        let mut sec = Sec::empty();
        for flavor in value.split(':') {
            match flavor {
                "sys" | "unix" => sec |= Sec::SYS,
                "none" | "null" => sec |= Sec::NONE,
                "krb5" | "krb5i" | "krb5p" => {
                    let message = format!("security flavor \"{flavor}\" is not supported yet");
                    return self.error(message, word, "write sec=sys");
                }
                _ => {
                    let fix = match nearest(flavor, ["sys", "none", "krb5", "krb5i", "krb5p"]) {
                        Some(near) => format!("did you mean \"{near}\"?"),
                        None => "write sec=sys, sec=none or sec=sys:none".to_owned(),
                    };
                    return self.error(format!("unknown security flavor \"{flavor}\""), word, fix);
                }
            }
        }
        self.options.sec = sec;
    }

    fn transport_sec(&mut self, word: &str, value: &str) {
        if value
            .split(':')
            .any(|mode| !["none", "tls", "mtls"].contains(&mode))
        {
            self.error("unknown transport security", word, "write xprtsec=none");
        } else if value != "none" {
            self.error(
                "RPC with TLS is not supported yet",
                word,
                "write xprtsec=none",
            );
        }
    }

    /// Options that are in the list and do nothing next to the others.
    fn without_effect(&mut self) {
        let options = &self.options;
        let nobody_squashed =
            !options.root_squash() && !options.all_squash() && options.sec == Sec::SYS;
        if let (Some(name), true) = (self.anon, nobody_squashed) {
            let message = format!("{name} has no effect: nobody is squashed with no_root_squash");
            let fix = format!("remove {name}, or use root_squash or all_squash");
            self.found.warning(self.at, message, name, fix);
        }
        let kept_root = self
            .switches
            .iter()
            .any(|(flag, _, on)| *flag == Flags::NO_ROOT_SQUASH && *on);
        if kept_root && options.all_squash() {
            let fix = "remove no_root_squash or all_squash";
            self.found.warning(
                self.at,
                "no_root_squash has no effect with all_squash",
                "no_root_squash",
                fix,
            );
        }
    }
}

/// A user or group number; exports files also write nobody as -2, which is the same 32 bits.
/// 4294967295 is refused: chown(2) and setfsuid(2) read it as "no change".
fn parse_id(value: &str) -> Option<u32> {
    match value {
        "-2" => Some(u32::MAX - 1),
        _ if !value.bytes().all(|b| b.is_ascii_digit()) => None,
        _ => value.parse().ok().filter(|id| *id != u32::MAX),
    }
}

fn unescape_path(text: &str) -> Option<PathBuf> {
    let bytes = unescape(text.as_bytes());
    let usable = bytes.starts_with(b"/") && !bytes.contains(&0);
    usable.then(|| PathBuf::from(OsString::from_vec(bytes)))
}
