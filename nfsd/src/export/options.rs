//! exports(5) options: one table, from which parsing, `ringnfs check`, printing and documentation come.

mod read;

pub use read::parse_options;

use super::fsid::Fsid;
use bitflags::bitflags;
use std::fmt::{self, Write as _};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// uid and gid of squashed callers unless `anonuid=`/`anongid=` say otherwise (exports(5)).
pub const NOBODY: u32 = 65534;

bitflags! {
    /// Options that are either on or off.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Flags: u32 {
        /// `rw`
        const WRITE = 1 << 0;
        /// `async`
        const ASYNC = 1 << 1;
        /// `no_wdelay`
        const NO_WDELAY = 1 << 2;
        /// `insecure`
        const INSECURE = 1 << 3;
        /// `no_root_squash`
        const NO_ROOT_SQUASH = 1 << 4;
        /// `all_squash`
        const ALL_SQUASH = 1 << 5;
        /// `subtree_check`, which has no effect
        const SUBTREE_CHECK = 1 << 6;
        /// `crossmnt`
        const CROSSMNT = 1 << 7;
        /// `nohide`
        const NOHIDE = 1 << 8;
        /// `insecure_locks`
        const INSECURE_LOCKS = 1 << 9;
        /// `no_acl`
        const NO_ACL = 1 << 10;
        /// `nordirplus`
        const NO_READDIRPLUS = 1 << 11;
        /// `security_label`, which has no effect
        const SECURITY_LABEL = 1 << 12;
        /// `pnfs`, which has no effect
        const PNFS = 1 << 13;
        /// `no_delegations`
        const NO_DELEGATIONS = 1 << 14;
        /// `no_host_locks`
        const NO_HOST_LOCKS = 1 << 15;
    }
}

bitflags! {
    /// RPC security flavors a client may use (`sec=`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Sec: u8 {
        /// AUTH_SYS (RFC 5531 appendix A)
        const SYS = 1 << 0;
        /// AUTH_NONE (RFC 5531 10.1)
        const NONE = 1 << 1;
    }
}

/// What one client may do with one export. Consulted on every request: flags and numbers only on that path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// On/off options that differ from the defaults of exports(5).
    pub flags: Flags,
    /// uid of squashed callers.
    pub anon_uid: u32,
    /// gid of squashed callers.
    pub anon_gid: u32,
    /// Accepted security flavors, never empty.
    pub sec: Sec,
    /// `fsid=`, the identity of the export in file handles.
    pub fsid: Option<Fsid>,
    /// `mountpoint[=PATH]`: export only while this is a mount point.
    pub mountpoint: Option<Mountpoint>,
}

/// Value of `mountpoint[=PATH]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mountpoint {
    /// The exported directory itself must be a mount point.
    Here,
    /// This path must be one.
    At(PathBuf),
}

/// The defaults of exports(5): read-only, sync, secure ports, root squashed to 65534.
impl Default for Options {
    fn default() -> Self {
        Options {
            flags: Flags::empty(),
            anon_uid: NOBODY,
            anon_gid: NOBODY,
            sec: Sec::SYS,
            fsid: None,
            mountpoint: None,
        }
    }
}

impl Options {
    /// `ro`: everything that would change the file system answers NFS3ERR_ROFS.
    pub fn read_only(&self) -> bool {
        !self.flags.contains(Flags::WRITE)
    }
    /// `async`: replies may come before data is stable.
    pub fn is_async(&self) -> bool {
        self.flags.contains(Flags::ASYNC)
    }
    /// `secure`: requests must come from a port below 1024.
    pub fn secure_ports(&self) -> bool {
        !self.flags.contains(Flags::INSECURE)
    }
    /// `root_squash`: uid and gid 0 become the anonymous ones.
    pub fn root_squash(&self) -> bool {
        !self.flags.contains(Flags::NO_ROOT_SQUASH)
    }
    /// `all_squash`: everybody becomes anonymous.
    pub fn all_squash(&self) -> bool {
        self.flags.contains(Flags::ALL_SQUASH)
    }
    /// `delegations`: NFSv4 clients may get delegations.
    pub fn delegations(&self) -> bool {
        !self.flags.contains(Flags::NO_DELEGATIONS)
    }

    /// `host_locks`: local processes see the locks of clients, and clients theirs.
    pub fn host_locks(&self) -> bool {
        !self.flags.contains(Flags::NO_HOST_LOCKS)
    }
    /// `crossmnt`: file systems mounted below are reachable through this export.
    pub fn crossmnt(&self) -> bool {
        self.flags.contains(Flags::CROSSMNT)
    }
    /// `nohide`: this export is visible inside the export above it.
    pub fn nohide(&self) -> bool {
        self.flags.contains(Flags::NOHIDE)
    }
    /// `insecure_locks`: lock requests need no permission on the file.
    pub fn insecure_locks(&self) -> bool {
        self.flags.contains(Flags::INSECURE_LOCKS)
    }
    /// `no_acl`: NFSACL is not offered.
    pub fn no_acl(&self) -> bool {
        self.flags.contains(Flags::NO_ACL)
    }
    /// `nordirplus`: READDIRPLUS answers NFS3ERR_NOTSUPP.
    pub fn no_readdirplus(&self) -> bool {
        self.flags.contains(Flags::NO_READDIRPLUS)
    }
    /// Whether a request with this source port may use the export.
    pub fn port_allowed(&self, port: u16) -> bool {
        !self.secure_ports() || port < 1024
    }
}

/// Whether an option is written with `=VALUE`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Never.
    None,
    /// Always; what the value is.
    Required(&'static str),
    /// Either way; what the value is.
    Optional(&'static str),
}

/// What an option does to [`Options`].
#[derive(Clone, Copy, Debug)]
enum Effect {
    On(Flags),
    Off(Flags),
    AnonUid,
    AnonGid,
    Fsid,
    Sec,
    TransportSec,
    Mountpoint,
    Refused(&'static str),
}

/// One row of the option table.
#[derive(Clone, Copy, Debug)]
pub struct OptionRow {
    /// As written in an exports file.
    pub name: &'static str,
    /// Whether it takes a value.
    pub value: Value,
    /// Whether it is what exports(5) assumes when nothing is written, or the value it assumes.
    pub default: &'static str,
    /// One sentence for the reference.
    pub meaning: &'static str,
    /// Said as a warning or note when the option is used; empty for none.
    pub remark: &'static str,
    /// Whether the remark is a warning.
    pub warn: bool,
    effect: Effect,
}

const fn row(
    name: &'static str,
    effect: Effect,
    default: &'static str,
    meaning: &'static str,
) -> OptionRow {
    OptionRow {
        name,
        value: Value::None,
        default,
        meaning,
        remark: "",
        warn: false,
        effect,
    }
}

impl OptionRow {
    const fn takes(self, what: &'static str) -> Self {
        OptionRow {
            value: Value::Required(what),
            ..self
        }
    }
    const fn may_take(self, what: &'static str) -> Self {
        OptionRow {
            value: Value::Optional(what),
            ..self
        }
    }
    const fn note(self, remark: &'static str) -> Self {
        OptionRow { remark, ..self }
    }
    const fn warning(self, remark: &'static str) -> Self {
        OptionRow {
            remark,
            warn: true,
            ..self
        }
    }
}

use Effect::{AnonGid, AnonUid, Mountpoint as Mount, Off, On, Refused};

const NO_DELAY: &str =
    "concurrent stable writes always share one flush; there is no delay to switch";
const NO_SUBTREE: &str =
    "file handles are signed and bound to their export; subtree_check is ignored";
const ACLS_HOLD: &str = "hides the NFSACL program only; the kernel goes on enforcing ACLs";
const NO_LABELS: &str = "labeled NFS is not supported; security_label is ignored";
const NO_PNFS: &str = "pNFS is not supported; pnfs is ignored";

/// Every option ringnfs knows. Order is the order of the reference and of printed exports.
#[rustfmt::skip] // a table: one option a line
pub const OPTIONS: &[OptionRow] = &[
    row("ro", Off(Flags::WRITE), "yes", "clients may only read"),
    row("rw", On(Flags::WRITE), "", "clients may read and write"),
    row("sync", Off(Flags::ASYNC), "yes", "reply to a stable write or COMMIT only when the data is on stable storage"),
    row("async", On(Flags::ASYNC), "", "reply before data is stable; a crash of the server can lose acknowledged data"),
    row("wdelay", Off(Flags::NO_WDELAY), "yes", "let writes wait for their neighbours").note(NO_DELAY),
    row("no_wdelay", On(Flags::NO_WDELAY), "", "never delay a write").note(NO_DELAY),
    row("secure", Off(Flags::INSECURE), "yes", "requests must come from a port below 1024"),
    row("insecure", On(Flags::INSECURE), "", "requests may come from any port"),
    row("root_squash", Off(Flags::NO_ROOT_SQUASH), "yes", "uid and gid 0 become the anonymous ones"),
    row("no_root_squash", On(Flags::NO_ROOT_SQUASH), "", "root of a client is root here"),
    row("no_all_squash", Off(Flags::ALL_SQUASH), "yes", "users keep their ids"),
    row("all_squash", On(Flags::ALL_SQUASH), "", "every user becomes the anonymous one"),
    row("anonuid", AnonUid, "65534", "uid of squashed users").takes("UID"),
    row("anongid", AnonGid, "65534", "gid of squashed users").takes("GID"),
    row("no_subtree_check", Off(Flags::SUBTREE_CHECK), "yes", "handles are checked by signature, not by walking up"),
    row("subtree_check", On(Flags::SUBTREE_CHECK), "", "no effect").warning(NO_SUBTREE),
    row("fsid", Effect::Fsid, "", "identity in file handles; root or 0: root of the NFSv4 tree").takes("NUMBER|UUID|root"),
    row("crossmnt", On(Flags::CROSSMNT), "", "file systems mounted below are reachable through this export"),
    row("hide", Off(Flags::NOHIDE), "yes", "this export is not visible inside the one above it"),
    row("nohide", On(Flags::NOHIDE), "", "this export is visible inside the one above it"),
    row("sec", Effect::Sec, "sys", "security flavors a client may use, colon separated: sys, none").takes("FLAVORS"),
    row("xprtsec", Effect::TransportSec, "none", "transport security a client may use: none").takes("none"),
    row("secure_locks", Off(Flags::INSECURE_LOCKS), "yes", "lock requests need permission on the file"),
    row("insecure_locks", On(Flags::INSECURE_LOCKS), "", "lock requests are granted without permission checks"),
    row("auth_nlm", Off(Flags::INSECURE_LOCKS), "yes", "same as secure_locks"),
    row("no_auth_nlm", On(Flags::INSECURE_LOCKS), "", "same as insecure_locks"),
    row("acl", Off(Flags::NO_ACL), "yes", "offer POSIX ACLs (NFSACL) where the file system has them"),
    row("no_acl", On(Flags::NO_ACL), "", "do not offer POSIX ACLs").note(ACLS_HOLD),
    row("mountpoint", Mount, "", "export only while the directory, or PATH, is a mount point").may_take("PATH"),
    row("mp", Mount, "", "same as mountpoint").may_take("PATH"),
    row("rdirplus", Off(Flags::NO_READDIRPLUS), "yes", "serve READDIRPLUS"),
    row("nordirplus", On(Flags::NO_READDIRPLUS), "", "answer READDIRPLUS with NFS3ERR_NOTSUPP"),
    row("delegations", Off(Flags::NO_DELEGATIONS), "yes", "NFSv4 clients may get delegations"),
    row("no_delegations", On(Flags::NO_DELEGATIONS), "", "NFSv4 clients get no delegations"),
    row("host_locks", Off(Flags::NO_HOST_LOCKS), "yes", "locks are shared with processes of the server's host"),
    row("no_host_locks", On(Flags::NO_HOST_LOCKS), "", "only NFS clients see the locks of NFS clients"),
    row("security_label", On(Flags::SECURITY_LABEL), "", "no effect").warning(NO_LABELS),
    row("no_pnfs", Off(Flags::PNFS), "yes", "no parallel NFS layouts"),
    row("pnfs", On(Flags::PNFS), "", "no effect").warning(NO_PNFS),
    row("refer", Refused("referrals are not supported"), "", "not supported").takes("PATH@HOST"),
    row("replicas", Refused("replicas are not supported"), "", "not supported").takes("PATH@HOST"),
    row("reexport", Refused("re-exporting NFS is not supported"), "", "not supported").takes("STRATEGY"),
];

/// Canonical list without parentheses: both states of ro/rw, sync/async and the squashes, the rest if not default.
impl fmt::Display for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let default = Options::default();
        let mut out = String::new();
        let mut shown = Flags::empty();
        for row in OPTIONS {
            match row.effect {
                On(flag) if self.flags.contains(flag) && !shown.contains(flag) => {
                    shown |= flag;
                    write!(out, ",{}", row.name)?;
                }
                Off(flag) if ALWAYS_SHOWN.contains(flag) && !self.flags.contains(flag) => {
                    write!(out, ",{}", row.name)?
                }
                AnonUid if self.anon_uid != default.anon_uid => {
                    write!(out, ",anonuid={}", self.anon_uid)?
                }
                AnonGid if self.anon_gid != default.anon_gid => {
                    write!(out, ",anongid={}", self.anon_gid)?
                }
                Effect::Fsid => self
                    .fsid
                    .iter()
                    .try_for_each(|fsid| write!(out, ",fsid={fsid}"))?,
                Effect::Sec if self.sec != default.sec => {
                    write!(out, ",sec={}", sec_names(self.sec))?
                }
                Mount if row.name == "mountpoint" => match &self.mountpoint {
                    None => {}
                    Some(Mountpoint::Here) => out.push_str(",mountpoint"),
                    Some(Mountpoint::At(path)) => write!(out, ",mountpoint={}", escape_path(path))?,
                },
                _ => {}
            }
        }
        f.write_str(out.trim_start_matches(','))
    }
}

/// Flags an administrator wants to see in either state.
const ALWAYS_SHOWN: Flags = Flags::WRITE
    .union(Flags::ASYNC)
    .union(Flags::NO_ROOT_SQUASH);

fn sec_names(sec: Sec) -> &'static str {
    match (sec.contains(Sec::SYS), sec.contains(Sec::NONE)) {
        (true, true) => "sys:none",
        (false, true) => "none",
        _ => "sys",
    }
}

/// A path inside an option list: the separators of the list and of the file are `\ooo`.
fn escape_path(path: &std::path::Path) -> String {
    let mut out = String::new();
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => {
                out.push(char::from(byte))
            }
            _ => out.push_str(&format!("\\{byte:03o}")),
        }
    }
    out
}

/// The option table as text, one option a line: `ringnfs options`.
pub fn reference() -> String {
    let mut out = String::from("Options of exports(5) that ringnfs knows; * is the default.\n\n");
    for row in OPTIONS {
        let written = match row.value {
            Value::None => row.name.to_owned(),
            Value::Required(what) => format!("{}={what}", row.name),
            Value::Optional(what) => format!("{}[={what}]", row.name),
        };
        let (star, default) = match row.default {
            "" => (' ', String::new()),
            "yes" => ('*', String::new()),
            value => ('*', format!(" (default {value})")),
        };
        let remark = if row.remark.is_empty() {
            String::new()
        } else {
            format!("; {}", row.remark)
        };
        out.push_str(&format!(
            "{star} {written:<24} {}{default}{remark}\n",
            row.meaning
        ));
    }
    out
}

#[cfg(test)]
mod tests;
