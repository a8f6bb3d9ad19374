//! Which Linux capabilities (capabilities(7)) the server needs and does not have, and the commands that give them.

use std::fmt;
use std::path::Path;

/// One capability: bit in `/proc/PID/status`, name, why the server needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capability {
    bit: u8,
    /// As setcap(8) spells it.
    pub name: &'static str,
    /// What it is needed for.
    pub why: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Needed,
    LowPort,
    Useful,
}

const fn need(bit: u8, name: &'static str, why: &'static str) -> Capability {
    Capability {
        bit,
        name,
        why,
        kind: Kind::Needed,
    }
}

/// Numbers from `linux/capability.h`.
const CAPABILITIES: &[Capability] = &[
    need(0, "cap_chown", "give new files to their owners"),
    need(
        1,
        "cap_dac_override",
        "prepare the export for users who may not",
    ),
    need(2, "cap_dac_read_search", "open files by handle"),
    need(3, "cap_fowner", "change attributes of files of others"),
    need(4, "cap_fsetid", "keep set-id bits where NFS requires it"),
    need(6, "cap_setgid", "act with the groups of the caller"),
    need(7, "cap_setuid", "act as the caller"),
    need(27, "cap_mknod", "create device nodes"),
    Capability {
        bit: 10,
        name: "cap_net_bind_service",
        why: "listen on a port below 1024",
        kind: Kind::LowPort,
    },
    Capability {
        bit: 24,
        name: "cap_sys_resource",
        why: "raise the number of open files",
        kind: Kind::Useful,
    },
];

/// The capabilities that are not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Needed ones; the server cannot run without.
    pub needed: Vec<Capability>,
    /// Useful ones.
    pub useful: Vec<Capability>,
}

impl Missing {
    /// Reads the text of `/proc/self/status`. `low_port` tells whether a port is listened on that needs a capability.
    ///
    /// Without a readable `CapEff` line everything counts as missing.
    pub fn from_status(status: &str, low_port: bool) -> Missing {
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let held = line
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or(0);
        let of = |wanted: fn(Kind, bool) -> bool| {
            let missing = |c: &&Capability| held & (1 << c.bit) == 0 && wanted(c.kind, low_port);
            CAPABILITIES.iter().filter(missing).copied().collect()
        };
        Missing {
            needed: of(|kind, low_port| {
                kind == Kind::Needed || (kind == Kind::LowPort && low_port)
            }),
            useful: of(|kind, _| kind == Kind::Useful),
        }
    }

    /// What this process lacks to listen on `ports`.
    pub fn of_this_process(ports: &[u16]) -> Missing {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        // Port 0 lets the system choose, which it does above.
        let first_free = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
        let first_free = first_free
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(1024u16);
        Missing::from_status(
            &status,
            ports.iter().any(|port| *port != 0 && *port < first_free),
        )
    }

    /// What to tell the administrator: what is missing, and two commands that help. `program` is this executable,
    /// `arguments` what it was started with.
    pub fn advice(&self, program: &Path, arguments: &[String]) -> String {
        let program = shell_quoted(&program.to_string_lossy());
        let all: Vec<&str> = self
            .needed
            .iter()
            .chain(&self.useful)
            .map(|c| c.name)
            .collect();
        let command = arguments.iter().fold(program.clone(), |line, word| {
            format!("{line} {}", shell_quoted(word))
        });
        format!(
            "{self}\nrun it as root:\n    sudo {command}\nor give the program what it needs, and run it again:\n    \
             sudo setcap {}+ep {program}\n",
            all.join(",")
        )
    }
}

/// One line a capability.
impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("capabilities are missing:")?;
        self.needed
            .iter()
            .try_for_each(|c| write!(f, "\n    {:<22} {}", c.name, c.why))?;
        self.useful
            .iter()
            .try_for_each(|c| write!(f, "\n    {:<22} {} (optional)", c.name, c.why))
    }
}

/// A word as a shell reads it back.
pub fn shell_quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[Capability]) -> Vec<&str> {
        list.iter().map(|c| c.name).collect()
    }

    #[test]
    fn root_lacks_nothing() {
        let missing = Missing::from_status("Name:\tx\nCapEff:\t000001ffffffffff\n", true);
        assert_eq!(
            missing,
            Missing {
                needed: vec![],
                useful: vec![]
            }
        );
    }

    #[test]
    fn a_user_lacks_all_and_low_ports_only_when_asked_for() {
        let status = "CapPrm:\t000001ffffffffff\nCapEff:\t0000000000000000\n";
        assert_eq!(names(&Missing::from_status(status, false).needed).len(), 8);
        assert!(
            names(&Missing::from_status(status, true).needed).contains(&"cap_net_bind_service")
        );
        assert_eq!(
            names(&Missing::from_status(status, false).useful),
            ["cap_sys_resource"]
        );
        assert_eq!(
            Missing::from_status("", false),
            Missing::from_status(status, false)
        );
    }

    #[test]
    fn single_bits_are_the_right_ones() {
        // cap_dac_read_search (2) and cap_mknod (27) taken out of a full set.
        let status = format!("CapEff:\t{:016x}\n", !(1u64 << 2) & !(1u64 << 27));
        assert_eq!(
            names(&Missing::from_status(&status, true).needed),
            ["cap_dac_read_search", "cap_mknod"]
        );
    }

    #[test]
    fn advice_has_lines_to_paste() {
        let status = format!("CapEff:\t{:016x}\n", !(1u64 << 7) & !(1u64 << 24));
        let missing = Missing::from_status(&status, false);
        let arguments = ["serve".to_owned(), "/a b".to_owned()];
        assert_eq!(
            missing.advice(Path::new("/opt/ringnfs"), &arguments),
            "capabilities are missing:\n    cap_setuid             act as the caller\n    \
             cap_sys_resource       raise the number of open files (optional)\n\
             run it as root:\n    sudo /opt/ringnfs serve '/a b'\n\
             or give the program what it needs, and run it again:\n    \
             sudo setcap cap_setuid,cap_sys_resource+ep /opt/ringnfs\n"
        );
    }

    #[test]
    fn quoting() {
        assert_eq!(shell_quoted("it's"), "'it'\\''s'");
        assert_eq!(shell_quoted(""), "''");
        assert_eq!(shell_quoted("[::]:2049"), "'[::]:2049'");
    }
}
