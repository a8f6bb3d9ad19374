//! POSIX ACLs as NFSv4 ACLs and back (draft-ietf-nfsv4-acl-mapping-05, and what the Linux NFS server shows).
//!
//! **To NFSv4** each entry becomes an entry that allows what it grants under the mask, after one that denies what later
//! entries would add; groups are first all allowed, then all denied, since a caller may be in several. The default ACL
//! of a directory follows as entries that are only inherited. Right by right the list decides as the POSIX ACL does.
//! Two turns of Linux a list cannot show: rights wanted together must come from one group entry there, and an empty
//! mask hides the ACL.
//!
//! **From NFSv4** any list of allow and deny entries becomes a POSIX ACL that grants nobody a right the list does not;
//! where POSIX is too coarse, it denies more. What has no place in a POSIX ACL at all is an error ([`Unsupported`]), and
//! so are denials that no ACL can express.
//!
//! **There and back** an ACL is the same if its group class grants nothing its mask hides and the mask is no wider than
//! the class, as chmod(1) and setfacl(1) leave it. Of others the effective rights come back: the mask cannot be sent.
//! [`replace`] keeps even those where a client sends what it has got.

use std::collections::{HashMap, HashSet};

use crate::nfs4::{Ace, Flags, MAX_ACES, Mask, Type, Who};
use crate::posix::{Acl, Entry, Invalid, Perm, Tag};

/// How default ACLs are shown.
const INHERITED: Flags = Flags::FILE_INHERIT
    .with(Flags::DIRECTORY_INHERIT)
    .with(Flags::INHERIT_ONLY);
/// The flags that have a meaning here.
const KNOWN: Flags = INHERITED.with(Flags::IDENTIFIER_GROUP);

/// Right to write a file.
const WRITE: Mask = Mask::WRITE_DATA.with(Mask::APPEND_DATA);
/// What nobody is ever denied.
const ANYBODYS: Mask = Mask::READ_ATTRIBUTES
    .with(Mask::READ_ACL)
    .with(Mask::SYNCHRONIZE);
/// What the owner is never denied.
const OWNERS: Mask = Mask::WRITE_ATTRIBUTES.with(Mask::WRITE_ACL);

/// Why a list cannot be stored as POSIX ACLs; positions count from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// More entries than [`MAX_ACES`], or more users and groups than a POSIX ACL has room for.
    #[error("too many entries")]
    TooMany,
    /// An AUDIT or ALARM entry.
    #[error("entry {0} neither allows nor denies")]
    Type(usize),
    /// Inheritance that a default ACL does not have, or flags of AUDIT and ALARM.
    #[error("the flags of entry {0} are not supported")]
    Flags(usize),
    /// Something is to be inherited from what is no directory.
    #[error("entry {0} is to be inherited from what is no directory")]
    NoDirectory(usize),
    /// Bits that the RFC does not define.
    #[error("entry {0} has bits without a meaning")]
    Undefined(usize),
    /// Reading attributes or the ACL, or the owner's changing them, is denied.
    #[error("what cannot be denied is")]
    Deny,
    /// An id no user or group can have.
    #[error("an entry names no id")]
    UndefinedId,
}

impl Unsupported {
    /// True if the list makes no sense at all (`NFS4ERR_INVAL`); otherwise only this server cannot store it
    /// (`NFS4ERR_ATTRNOTSUPP`).
    pub fn is_invalid(self) -> bool {
        matches!(self, Unsupported::Undefined(_) | Unsupported::UndefinedId)
    }
}

impl From<Invalid> for Unsupported {
    fn from(why: Invalid) -> Unsupported {
        match why {
            Invalid::UndefinedId(_) => Unsupported::UndefinedId,
            _ => Unsupported::TooMany,
        }
    }
}

fn rights(perm: Perm, directory: bool) -> Mask {
    let bit = |right, mask| {
        if perm.contains(right) {
            mask
        } else {
            Mask::NONE
        }
    };
    let write = if directory {
        WRITE | Mask::DELETE_CHILD
    } else {
        WRITE
    };
    bit(Perm::READ, Mask::READ_DATA) | bit(Perm::WRITE, write) | bit(Perm::EXECUTE, Mask::EXECUTE)
}

/// The rights that are there completely.
fn perm(mask: Mask, directory: bool) -> Perm {
    [Perm::READ, Perm::WRITE, Perm::EXECUTE]
        .into_iter()
        .filter(|right| mask.contains(rights(*right, directory)))
        .fold(Perm::NONE, |all, right| all | right)
}

/// The rights not in `perm`.
fn lacking(perm: Perm) -> Perm {
    Perm::from_low_bits(!perm.bits())
}

/// The NFSv4 ACL that shows a file's access ACL (for a file without one, [`crate::mode::to_acl`] of its mode) and, of a
/// directory, its default ACL: at most twice as many entries.
pub fn to_nfs4(access: &Acl, default: Option<&Acl>, directory: bool) -> Vec<Ace> {
    let mut aces = Vec::new();
    show(access, Flags::NONE, directory, &mut aces);
    if let Some(default) = default.filter(|_| directory) {
        show(default, INHERITED, directory, &mut aces);
    }
    aces
}

/// What some entries of an ACL grant together, under its mask.
fn granted(acl: &Acl, some: impl Fn(Tag) -> bool) -> Perm {
    let mask = acl.mask().unwrap_or(Perm::ALL);
    acl.entries()
        .iter()
        .filter(|entry| some(entry.tag))
        .map(|entry| match entry.tag {
            Tag::UserObj | Tag::Other => entry.perm,
            _ => entry.perm & mask,
        })
        .fold(Perm::NONE, |all, perm| all | perm)
}

fn show(acl: &Acl, flags: Flags, directory: bool, aces: &mut Vec<Ace>) {
    let mask = acl.mask().unwrap_or(Perm::ALL);
    let other = granted(acl, |tag| tag == Tag::Other);
    let groups = granted(acl, |tag| matches!(tag, Tag::GroupObj | Tag::Group(_)));
    let users = granted(acl, |tag| matches!(tag, Tag::User(_)));
    let mut push = |kind, who, mask: Mask| {
        let group = match who {
            Who::NamedGroup(_) => Flags::IDENTIFIER_GROUP,
            _ => Flags::NONE,
        };
        let flags = flags | group;
        // Denying nothing says nothing.
        if kind == Type::Allow || mask != Mask::NONE {
            aces.push(Ace {
                kind,
                flags,
                mask,
                who,
            });
        }
    };
    let allow = |perm| rights(perm, directory) | ANYBODYS;
    let deny = |perm, later| rights(lacking(perm) & later, directory);
    let mut seen = HashSet::new();
    for entry in acl.entries() {
        match entry.tag {
            Tag::UserObj => {
                let denied = deny(entry.perm, users | groups | other);
                push(Type::Deny, Who::Owner, denied);
                push(Type::Allow, Who::Owner, allow(entry.perm) | OWNERS);
            }
            // Of two entries for a user the first decides.
            Tag::User(uid) if seen.insert(uid) => {
                let perm = entry.perm & mask;
                push(Type::Deny, Who::User(uid), deny(perm, groups | other));
                push(Type::Allow, Who::User(uid), allow(perm));
            }
            Tag::GroupObj => push(Type::Allow, Who::Group, allow(entry.perm & mask)),
            Tag::Group(gid) => {
                push(Type::Allow, Who::NamedGroup(gid), allow(entry.perm & mask));
            }
            Tag::User(_) | Tag::Mask | Tag::Other => {}
        }
    }
    for entry in acl.entries() {
        let who = match entry.tag {
            Tag::GroupObj => Who::Group,
            Tag::Group(gid) => Who::NamedGroup(gid),
            _ => continue,
        };
        push(Type::Deny, who, deny(entry.perm & mask, other));
    }
    push(Type::Allow, Who::Everyone, allow(other));
}

/// What the entries so far have allowed and denied somebody: the first to speak of a bit decides.
#[derive(Clone, Copy, Default)]
struct Verdict {
    allow: Mask,
    deny: Mask,
}

impl Verdict {
    fn add(&mut self, kind: Type, mask: Mask) {
        let open = mask & !(self.allow | self.deny);
        match kind {
            Type::Allow => self.allow = self.allow | open,
            _ => self.deny = self.deny | open,
        }
    }

    /// Adds what `all` has decided since this was last done: what it had decided then is decided here.
    fn catch_up(&mut self, all: Verdict) {
        self.add(Type::Allow, all.allow);
        self.add(Type::Deny, all.deny);
    }

    /// # Errors
    /// `Deny`.
    fn perm(self, never: Mask, directory: bool) -> Result<Perm, Unsupported> {
        if self.deny.meets(never) {
            return Err(Unsupported::Deny);
        }
        Ok(perm(self.allow, directory))
    }
}

/// Users or groups by id, in order of appearance.
#[derive(Default)]
struct Named {
    index: HashMap<u32, usize>,
    verdicts: Vec<(u32, Verdict)>,
}

impl Named {
    /// The verdict on `id` so far, with what `all` says of everybody.
    fn get(&mut self, id: u32, all: Verdict) -> &mut Verdict {
        let next = self.verdicts.len();
        let at = *self.index.entry(id).or_insert(next);
        if at == next {
            self.verdicts.push((id, Verdict::default()));
        }
        let verdict = &mut self.verdicts[at].1;
        verdict.catch_up(all);
        verdict
    }
}

/// What a list says of each class of callers, the entries being taken one by one.
#[derive(Default)]
struct Reading {
    owner: Verdict,
    group: Verdict,
    other: Verdict,
    /// What holds for every named user and group: what EVERYONE@ is told, and what some group is denied, for its
    /// members may be among them.
    all: Verdict,
    users: Named,
    groups: Named,
    /// No entry yet.
    empty: bool,
}

impl Reading {
    fn new() -> Reading {
        Reading {
            empty: true,
            ..Reading::default()
        }
    }

    fn take(&mut self, ace: &Ace) {
        self.empty = false;
        let (kind, mask) = (ace.kind, ace.mask);
        match ace.who {
            Who::Owner => self.owner.add(kind, mask),
            Who::User(uid) => {
                let user = self.users.get(uid, self.all);
                user.add(kind, mask);
                // The owner may be that user, now or after a chown(2).
                if kind == Type::Deny {
                    let denied = user.deny;
                    self.owner.add(kind, denied);
                }
            }
            Who::Group => {
                self.group.add(kind, mask);
                if kind == Type::Deny {
                    let denied = self.group.deny;
                    self.owner.add(kind, denied);
                    self.all.add(kind, denied);
                }
            }
            Who::NamedGroup(gid) => {
                let group = self.groups.get(gid, self.all);
                group.add(kind, mask);
                if kind == Type::Deny {
                    let denied = group.deny;
                    self.owner.add(kind, denied);
                    self.group.add(kind, denied);
                    self.all.add(kind, denied);
                }
            }
            Who::Everyone => {
                for verdict in [
                    &mut self.owner,
                    &mut self.group,
                    &mut self.other,
                    &mut self.all,
                ] {
                    verdict.add(kind, mask);
                }
            }
        }
    }

    /// # Errors
    /// `Deny`, `TooMany`, `UndefinedId`.
    fn into_acl(self, directory: bool) -> Result<Acl, Unsupported> {
        let never = Mask::READ_ATTRIBUTES | Mask::READ_ACL;
        let owner = self.owner.perm(never | OWNERS, directory)?;
        let group = self.group.perm(never, directory)?;
        let other = self.other.perm(never, directory)?;
        let users = self.users.verdicts.into_iter();
        let users = users.map(|(uid, verdict)| (Tag::User(uid), verdict));
        let groups = self.groups.verdicts.into_iter();
        let groups = groups.map(|(gid, verdict)| (Tag::Group(gid), verdict));
        let entry = |tag, perm| Entry { tag, perm };
        let mut entries = Vec::new();
        let mut class = group;
        for (tag, mut verdict) in users.chain(groups) {
            verdict.catch_up(self.all);
            let perm = verdict.perm(never, directory)?;
            class = class | perm;
            entries.push(entry(tag, perm));
        }
        if !entries.is_empty() {
            entries.push(entry(Tag::Mask, mask(class, other)));
        }
        entries.extend([
            entry(Tag::UserObj, owner),
            entry(Tag::GroupObj, group),
            entry(Tag::Other, other),
        ]);
        Ok(Acl::sorted(entries)?)
    }
}

/// The mask of an ACL with named entries: no wider than its group class. An empty one would hide the ACL, and whom it
/// denies everything would get what others get; one right that nobody has then keeps it in force.
fn mask(class: Perm, other: Perm) -> Perm {
    if class == Perm::NONE && other != Perm::NONE {
        Perm::READ
    } else {
        class
    }
}

/// The access ACL a list sets, and, of a directory, the default ACL, none where nothing is to be inherited. A list
/// without an entry for the file itself denies everything.
///
/// An entry that only files or only directories are to inherit is inherited by both, as RFC 8881 6.4.3 allows.
///
/// # Errors
/// What POSIX ACLs cannot say.
pub fn from_nfs4(aces: &[Ace], directory: bool) -> Result<(Acl, Option<Acl>), Unsupported> {
    if aces.len() > MAX_ACES {
        return Err(Unsupported::TooMany);
    }
    let (mut access, mut default) = (Reading::new(), Reading::new());
    for (index, ace) in aces.iter().enumerate() {
        check(index, ace, directory)?;
        if ace.inheritable() {
            default.take(ace);
        }
        if ace.effective() {
            access.take(ace);
        }
    }
    let default = (!default.empty)
        .then(|| default.into_acl(directory))
        .transpose()?;
    Ok((access.into_acl(directory)?, default))
}

fn check(index: usize, ace: &Ace, directory: bool) -> Result<(), Unsupported> {
    if ace.flags.meets(!Flags::DEFINED) || ace.mask.meets(!Mask::DEFINED) {
        return Err(Unsupported::Undefined(index));
    }
    if !matches!(ace.kind, Type::Allow | Type::Deny) {
        return Err(Unsupported::Type(index));
    }
    if ace.flags.meets(!KNOWN) {
        return Err(Unsupported::Flags(index));
    }
    if ace.inheritable() && !directory {
        return Err(Unsupported::NoDirectory(index));
    }
    Ok(())
}

/// What a file with these ACLs has once a list is set on it: as [`from_nfs4`], but a list that only repeats what the
/// file shows changes nothing, not even what cannot be shown.
///
/// # Errors
/// As [`from_nfs4`].
pub fn replace(
    aces: &[Ace],
    directory: bool,
    access: &Acl,
    default: Option<&Acl>,
) -> Result<(Acl, Option<Acl>), Unsupported> {
    let (new_access, new_default) = from_nfs4(aces, directory)?;
    let shown = to_nfs4(access, default, directory);
    let (inherited, own): (Vec<Ace>, Vec<Ace>) = shown.iter().partition(|ace| ace.inheritable());
    let repeats = |part: &[Ace], inheritable| {
        let sent = aces.iter().filter(|ace| ace.inheritable() == inheritable);
        part.iter().eq(sent)
    };
    let access = match repeats(&own, false) && only_inherited(aces) {
        true => access.clone(),
        false => new_access,
    };
    let default = match repeats(&inherited, true) {
        true => default.filter(|_| directory).cloned(),
        false => new_default,
    };
    Ok((access, default))
}

/// Whether what is to be inherited says nothing about the file itself.
fn only_inherited(aces: &[Ace]) -> bool {
    aces.iter()
        .filter(|ace| ace.inheritable())
        .all(|ace| !ace.effective())
}

#[cfg(test)]
mod tests;
