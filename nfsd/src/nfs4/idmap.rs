//! Owners and groups of files as NFSv4 writes them (RFC 8881 5.9): `1000`, or `name@domain`.
//!
//! Numbers are understood whatever is configured, as the Linux server does for AUTH_SYS, whose credentials are numbers
//! too; names as well, so that clients set up for either can work. Which of the two is sent is the setting `idmap`.
//! Names come from the databases of this machine (nsswitch.conf(5)), asked by pool threads, and are remembered.

use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::{Gid, Group, Uid, User};
use vfs::uring::blocking;
use vfs::uring::counters::Call;
use vfs::{Cred, exec};

use crate::config::Idmapping;

/// Longest domain.
pub const DOMAIN_MAX: usize = 253;
/// Longest owner string understood: a name of 256 bytes (`LOGIN_NAME_MAX`), `@` and a domain.
pub const OWNER_MAX: usize = NAME_MAX + 1 + DOMAIN_MAX;
const NAME_MAX: usize = 256;

/// How long an answer is believed.
const FOUND_KEPT: Duration = Duration::from_secs(600);
/// How long "there is none" is believed.
const ABSENT_KEPT: Duration = Duration::from_secs(60);
/// How long a database that failed is left alone.
const FAILED_KEPT: Duration = Duration::from_secs(5);
/// Answers remembered, of each kind.
const ANSWERS_MAX: usize = 10_000;

/// The anonymous user and group.
const NOBODY: u32 = 65_534;

/// What an id is of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Who {
    /// `owner`.
    User,
    /// `owner_group`.
    Group,
}

/// The databases of users and groups. All of it may wait.
pub trait Accounts: Send + Sync {
    /// The id of a name.
    ///
    /// # Errors
    /// The database could not be asked.
    fn id(&self, who: Who, name: &str) -> io::Result<Option<u32>>;
    /// The name of an id.
    ///
    /// # Errors
    /// The database could not be asked.
    fn name(&self, who: Who, id: u32) -> io::Result<Option<String>>;
    /// The DNS domain of this machine.
    fn domain(&self) -> Option<String>;
}

/// The databases of the system: getpwnam(3), getgrnam(3) and the reverse.
#[derive(Clone, Copy, Default, Debug)]
pub struct SystemAccounts;

/// getpwnam(3) has four ways to say "no such name" besides saying so.
fn none_if_absent<T>(answer: nix::Result<Option<T>>) -> io::Result<Option<T>> {
    match answer {
        Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => Ok(None),
        answer => Ok(answer?),
    }
}

impl Accounts for SystemAccounts {
    fn id(&self, who: Who, name: &str) -> io::Result<Option<u32>> {
        Ok(match who {
            Who::User => none_if_absent(User::from_name(name))?.map(|user| user.uid.as_raw()),
            Who::Group => none_if_absent(Group::from_name(name))?.map(|group| group.gid.as_raw()),
        })
    }

    fn name(&self, who: Who, id: u32) -> io::Result<Option<String>> {
        Ok(match who {
            Who::User => none_if_absent(User::from_uid(Uid::from_raw(id)))?.map(|user| user.name),
            Who::Group => {
                none_if_absent(Group::from_gid(Gid::from_raw(id)))?.map(|group| group.name)
            }
        })
    }

    fn domain(&self) -> Option<String> {
        let host = rustix::system::uname();
        let host = host.nodename().to_str().ok()?;
        let after_dot = |name: &str| Some(name.split_once('.')?.1.to_owned());
        after_dot(host).or_else(|| {
            let hints = dns_lookup::AddrInfoHints {
                flags: libc::AI_CANONNAME,
                ..dns_lookup::AddrInfoHints::default()
            };
            let mut found = dns_lookup::getaddrinfo(Some(host), None, Some(hints)).ok()?;
            after_dot(&found.next()?.ok()?.canonname?)
        })
    }
}

/// An owner as it is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Owner {
    /// As a decimal number.
    Number(u32),
    /// As `name@domain`.
    Name(Arc<str>),
}

impl Owner {
    /// The bytes on the wire; `digits` is room for a number.
    pub fn bytes<'a>(&'a self, digits: &'a mut [u8; 10]) -> &'a [u8] {
        match self {
            Owner::Name(name) => name.as_bytes(),
            Owner::Number(id) => {
                // From the end: the largest u32 has ten digits.
                let (mut rest, mut at) = (*id, digits.len());
                while let Some(before) = at.checked_sub(1) {
                    at = before;
                    digits[at] = b'0' + (rest % 10) as u8;
                    rest /= 10;
                    if rest == 0 {
                        break;
                    }
                }
                &digits[at..]
            }
        }
    }
}

/// Why an owner string has no id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unmapped {
    /// There is no such owner (`NFS4ERR_BADOWNER`).
    BadOwner,
    /// The databases cannot be asked now (`NFS4ERR_DELAY`).
    Later,
}

/// Answers with an end, at most [`ANSWERS_MAX`].
struct Cache<K, V>(HashMap<K, (V, Instant)>);

impl<K: Hash + Eq, V: Clone> Cache<K, V> {
    fn get(&self, key: &K, now: Instant) -> Option<V> {
        let (value, until) = self.0.get(key)?;
        (now < *until).then(|| value.clone())
    }

    fn put(&mut self, key: K, value: V, now: Instant, kept: Duration) {
        if self.0.len() >= ANSWERS_MAX {
            self.0.retain(|_, (_, until)| now < *until);
            if self.0.len() > ANSWERS_MAX / 4 * 3 {
                self.0.clear();
            }
        }
        self.0.insert(key, (value, now + kept));
    }
}

type Answer<V> = Result<V, Unmapped>;

/// What was found and what was not, apart: names a client makes up do not push out those in use.
struct Answers<K, V> {
    found: Cache<K, V>,
    not: Cache<K, Unmapped>,
}

impl<K, V> Default for Answers<K, V> {
    fn default() -> Self {
        Answers {
            found: Cache(HashMap::new()),
            not: Cache(HashMap::new()),
        }
    }
}

impl<K: Hash + Eq, V: Clone> Answers<K, V> {
    fn get(&self, key: &K, now: Instant) -> Option<Answer<V>> {
        let found = self.found.get(key, now).map(Ok);
        found.or_else(|| self.not.get(key, now).map(Err))
    }

    fn put(&mut self, key: K, answer: &Answer<V>, now: Instant) {
        match answer {
            Ok(value) => self.found.put(key, value.clone(), now, FOUND_KEPT),
            Err(Unmapped::BadOwner) => self.not.put(key, Unmapped::BadOwner, now, ABSENT_KEPT),
            Err(Unmapped::Later) => self.not.put(key, Unmapped::Later, now, FAILED_KEPT),
        }
    }
}

#[derive(Default)]
struct Known {
    names: Answers<(Who, u32), Arc<str>>,
    ids: Answers<(Who, Box<[u8]>), u32>,
}

struct Shared {
    accounts: Arc<dyn Accounts>,
    domain: OnceLock<String>,
    known: Mutex<Known>,
}

/// The mapping, shared by all workers.
pub struct Idmap {
    send: Idmapping,
    shared: Arc<Shared>,
}

impl Idmap {
    /// A mapping that sends what `send` says. Without a `domain` that of this machine's name is found out with the first
    /// name.
    pub fn new(send: Idmapping, domain: Option<String>, accounts: Arc<dyn Accounts>) -> Self {
        Idmap {
            send,
            shared: Arc::new(Shared {
                accounts,
                domain: domain.map_or_else(OnceLock::new, OnceLock::from),
                known: Mutex::default(),
            }),
        }
    }

    /// [`Idmap::owner`], where no database has to be asked.
    pub fn owner_now(&self, who: Who, id: u32, now: Instant) -> Option<Owner> {
        if self.send == Idmapping::Numeric {
            return Some(Owner::Number(id));
        }
        let known = self.shared.known().names.get(&(who, id), now)?;
        Some(known.map_or(Owner::Number(id), Owner::Name))
    }

    /// The owner string of an id: a number where there is no name.
    pub async fn owner(&self, who: Who, id: u32) -> Owner {
        let now = exec::now();
        if let Some(owner) = self.owner_now(who, id, now) {
            return owner;
        }
        let (shared, root) = (self.shared.clone(), Cred::root());
        // Counted with the other questions to these databases.
        let asked = blocking::run(&root, Call::Getgrouplist, move || {
            Ok(shared.ask_name(who, id, now))
        });
        match asked.await {
            Ok(Ok(name)) => Owner::Name(name),
            Ok(Err(_)) | Err(_) => Owner::Number(id),
        }
    }

    /// [`Idmap::id`], where no database has to be asked.
    pub fn id_now(&self, who: Who, owner: &[u8], now: Instant) -> Option<Result<u32, Unmapped>> {
        if let Some(id) = number(owner) {
            return Some(Ok(id));
        }
        if !plausible(owner) {
            return Some(Err(Unmapped::BadOwner));
        }
        self.shared.known().ids.get(&(who, owner.into()), now)
    }

    /// The id of an owner string a client sent: any bytes.
    ///
    /// # Errors
    /// [`Unmapped`].
    pub async fn id(&self, who: Who, owner: &[u8]) -> Result<u32, Unmapped> {
        let now = exec::now();
        if let Some(answer) = self.id_now(who, owner, now) {
            return answer;
        }
        let (shared, owner, root) = (self.shared.clone(), Box::from(owner), Cred::root());
        let asked = blocking::run(&root, Call::Getgrouplist, move || {
            Ok(shared.ask_id(who, owner, now))
        });
        asked.await.unwrap_or(Err(Unmapped::Later))
    }
}

impl Shared {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn domain(&self) -> &str {
        self.domain.get_or_init(|| {
            let domain = self.accounts.domain();
            let usable = domain.filter(|d| !d.is_empty() && d.len() <= DOMAIN_MAX);
            usable.unwrap_or_else(|| {
                tracing::warn!("no DNS domain: idmap_domain is taken to be \"localdomain\"");
                "localdomain".to_owned()
            })
        })
    }

    /// Asks for a name and remembers the answer.
    fn ask_name(&self, who: Who, id: u32, now: Instant) -> Answer<Arc<str>> {
        let answer = match self.accounts.name(who, id) {
            Ok(Some(name)) => {
                let owner = format!("{name}@{}", self.domain());
                // A name that would not be understood when it comes back is better sent as a number.
                if plausible(owner.as_bytes()) && !name.is_empty() {
                    Ok(Arc::from(owner))
                } else {
                    Err(Unmapped::BadOwner)
                }
            }
            Ok(None) => Err(Unmapped::BadOwner),
            Err(e) => Err(failed(&e)),
        };
        self.known().names.put((who, id), &answer, now);
        answer
    }

    /// Asks for an id and remembers the answer.
    fn ask_id(&self, who: Who, owner: Box<[u8]>, now: Instant) -> Answer<u32> {
        let answer = self.find_id(who, &owner);
        self.known().ids.put((who, owner), &answer, now);
        answer
    }

    fn find_id(&self, who: Who, owner: &[u8]) -> Answer<u32> {
        let owner = std::str::from_utf8(owner).map_err(|_| Unmapped::BadOwner)?;
        let name = match owner.rsplit_once('@') {
            Some((name, domain)) if domain.eq_ignore_ascii_case(self.domain()) => name,
            // RFC 8881 5.9: the one name that needs no domain.
            None if owner == "nobody" => owner,
            _ => return Err(Unmapped::BadOwner),
        };
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(Unmapped::BadOwner);
        }
        match self.accounts.id(who, name) {
            Ok(Some(id)) if id != u32::MAX => Ok(id),
            Ok(_) if matches!(name, "nobody" | "nogroup") => Ok(NOBODY),
            Ok(_) => Err(Unmapped::BadOwner),
            Err(e) => Err(failed(&e)),
        }
    }
}

fn failed(error: &io::Error) -> Unmapped {
    tracing::warn!(%error, "the databases of users and groups cannot be asked");
    Unmapped::Later
}

/// A decimal number without leading zeros (RFC 8881 5.9). The largest is no id: chown(2) means "leave it" by it.
fn number(owner: &[u8]) -> Option<u32> {
    if owner.len() > 10 || !owner.iter().all(u8::is_ascii_digit) || owner.starts_with(b"0") {
        return (owner == b"0").then_some(0);
    }
    let id = std::str::from_utf8(owner).ok()?.parse().ok()?;
    (id != u32::MAX).then_some(id)
}

/// Whether it is worth asking for: text of a bounded length, not all digits.
fn plausible(owner: &[u8]) -> bool {
    let text = std::str::from_utf8(owner);
    owner.len() <= OWNER_MAX
        && text.is_ok_and(|text| !text.chars().any(char::is_control))
        && !owner.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests;
