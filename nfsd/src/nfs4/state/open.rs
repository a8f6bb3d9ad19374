//! Opens (RFC 8881 9.1, 18.16; RFC 7530 9.1, 16.16): one for each open-owner and file. Finding or
//! making owner and open, and getting the share reservation, is one step under the client's mutex;
//! what fails on the way leaves nothing behind.

use std::sync::Arc;

use vfs::Pin;
use vfs::locks::{Access, Conflict, Deny, FileLocks, ShareGuard};

use super::holdings::{FileKey, Holdings};
use super::lock::LockSet;
use super::owner::{OpenOwner, Sequence, Step};
use super::stateid::{self, Home, Kind};
use crate::nfs4::Op4;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Stateid4;

/// An open-owner's open of a file.
pub struct Open {
    /// Key of the open-owner.
    pub owner: u32,
    /// Of its stateid.
    pub seqid: u32,
    /// What it may do and denies.
    pub share: ShareGuard,
    /// The user it was judged for; `None` when there were several.
    pub user: Option<u32>,
    /// Keeps the file, also without a name. Only tests have none.
    pub pin: Option<Pin>,
    /// Keys of the sets of locks under it.
    pub(super) sets: Vec<u32>,
}

impl Open {
    /// Which file it is of.
    #[must_use]
    pub fn file_key(&self) -> FileKey {
        FileKey::of(self.share.file())
    }
}

/// Who opens.
#[derive(Clone, Copy, Debug)]
pub enum By<'a> {
    /// The owner of this name, new or not (4.1).
    Name(&'a [u8]),
    /// An owner found before (4.0).
    Owner(u32),
}

/// What to open.
pub struct OpenRequest<'a> {
    /// Who.
    pub by: By<'a>,
    /// Which file.
    pub locks: &'a Arc<FileLocks>,
    /// To do what; not nothing.
    pub access: Access,
    /// What others must not do.
    pub deny: Deny,
    /// The user that was judged.
    pub user: u32,
    /// Keeps the file.
    pub pin: Option<Pin>,
    /// Most states of one client.
    pub limit: usize,
}

/// What OPEN gave.
#[derive(Clone, Copy, Debug)]
pub struct Granted {
    /// Key of the open.
    pub key: u32,
    /// Its stateid.
    pub stateid: Stateid4,
    /// What the owner's open was before, and its seqid; `None` if there was none.
    pub before: Option<(Access, Deny, u32)>,
    /// Version 4.0: the client must confirm the owner.
    pub unconfirmed: bool,
}

/// Why something is not granted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Others are in the way.
    Conflict(Conflict),
    /// It is wrong, or too much.
    Status(Nfsstat4),
}

impl From<Nfsstat4> for Refusal {
    fn from(status: Nfsstat4) -> Self {
        Refusal::Status(status)
    }
}

impl From<Conflict> for Refusal {
    fn from(conflict: Conflict) -> Self {
        Refusal::Conflict(conflict)
    }
}

/// What was taken out of a client's holdings: dropping it lets go of files, so do it without holding
/// the client.
#[derive(Default)]
#[must_use = "drop it when the client is no longer held"]
pub struct Removed {
    pub(super) opens: Vec<Open>,
    pub(super) sets: Vec<LockSet>,
}

impl Removed {
    /// Takes note of more.
    pub fn and(&mut self, other: Removed) {
        self.opens.extend(other.opens);
        self.sets.extend(other.sets);
    }

    /// Nothing was.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.opens.is_empty() && self.sets.is_empty()
    }
}

impl Holdings {
    /// The open-owner of this name, found or made (4.0): its key. [`Holdings::rest`] it afterwards.
    pub fn open_owner(&mut self, name: &[u8], confirmed: bool) -> u32 {
        if let Some(key) = self.open_owner_names.get(name) {
            return *key;
        }
        let key = self.fresh_key();
        let name: Arc<[u8]> = name.into();
        let owner = OpenOwner::new(name.clone(), confirmed);
        self.open_owners.insert(key, owner);
        self.open_owner_names.insert(name, key);
        key
    }

    /// An open-owner, by its key.
    #[must_use]
    pub fn open_owner_at(&self, key: u32) -> Option<&OpenOwner> {
        self.open_owners.get(&key)
    }

    /// The place of an OPEN in the order of its owner's (4.0). What an owner nobody confirmed has open
    /// goes: another OPEN of it begins anew (RFC 7530 16.18.5), unless it is the same `request`.
    ///
    /// # Errors
    /// As [`Holdings::step`].
    pub fn step_open(
        &mut self,
        key: u32,
        seqid: u32,
        request: u64,
    ) -> Result<(Step, Removed), Nfsstat4> {
        let owner = self.open_owners.get_mut(&key);
        let owner = owner.ok_or(Nfsstat4::BadStateid)?;
        let mut removed = Removed::default();
        if !owner.confirmed {
            if let Some(answer) = owner.sequence.answered(seqid, request) {
                return Ok((Step::Again(answer.clone()), removed));
            }
            owner.sequence = Sequence::default();
            // Mostly the owner is new: no need to look at all the client has open.
            let any = owner.opens > 0;
            let of_owner = self.open_of.iter().filter(|((of, _), _)| *of == key);
            let opens: Vec<u32> = match any {
                true => of_owner.map(|(_, open)| *open).collect(),
                false => Vec::new(),
            };
            for open in opens {
                removed.and(self.remove_open(open));
            }
        }
        let step = self.step(super::holdings::OwnerKey::Open(key), Op4::Open, seqid)?;
        Ok((step, removed))
    }

    /// Opens a file: one more open of the owner, or more access for the one there is.
    ///
    /// # Errors
    /// The conflicts of [`FileLocks::open`]; `RESOURCE` or `DELAY` when there is no room. Nothing has
    /// changed then.
    pub fn open(&mut self, home: Home, request: OpenRequest<'_>) -> Result<Granted, Refusal> {
        let found = match request.by {
            By::Owner(key) => Some(key),
            By::Name(name) => self.open_owner_names.get(name).copied(),
        };
        let file = FileKey::of(request.locks);
        if let Some(owner) = found {
            let unconfirmed = home.minor == 0 && !self.confirmed(owner)?;
            if let Some(key) = self.open_of.get(&(owner, file)).copied()
                && let Some(open) = self.opens.get_mut(&key)
            {
                let before = (open.share.access(), open.share.deny(), open.seqid);
                open.share.upgrade(request.access, request.deny)?;
                open.user = open.user.filter(|user| *user == request.user);
                open.seqid = stateid::next_seqid(open.seqid);
                return Ok(Granted {
                    key,
                    stateid: home.stateid(Kind::Open, key, open.seqid),
                    before: Some(before),
                    unconfirmed,
                });
            }
        }
        if self.states() >= request.limit {
            return Err(home.exhausted().into());
        }
        // A new owner gets its entry after its share: until then the key is only reserved.
        let owner = found.unwrap_or_else(|| self.fresh_key());
        let OpenRequest { access, deny, .. } = request;
        let share = request
            .locks
            .open(home.client_id(), home.owner_id(owner), access, deny)?;
        if let (None, By::Name(name)) = (found, request.by) {
            let name: Arc<[u8]> = name.into();
            let new = OpenOwner::new(name.clone(), true);
            self.open_owners.insert(owner, new);
            self.open_owner_names.insert(name, owner);
        }
        let key = self.fresh_key();
        let open = Open {
            owner,
            seqid: 1,
            share,
            user: Some(request.user),
            pin: request.pin,
            sets: Vec::new(),
        };
        self.opens.insert(key, open);
        self.open_of.insert((owner, file), key);
        if let Some(owner) = self.open_owners.get_mut(&owner) {
            owner.opens += 1;
        }
        Ok(Granted {
            key,
            stateid: home.stateid(Kind::Open, key, 1),
            before: None,
            unconfirmed: home.minor == 0 && !self.confirmed(owner)?,
        })
    }

    fn confirmed(&self, owner: u32) -> Result<bool, Nfsstat4> {
        let owner = self.open_owners.get(&owner);
        owner.map(|o| o.confirmed).ok_or(Nfsstat4::BadStateid)
    }

    /// An open, by its key.
    #[must_use]
    pub fn open_at(&self, key: u32) -> Option<&Open> {
        self.opens.get(&key)
    }

    /// The owner of this open needs no confirmation, or has it.
    ///
    /// # Errors
    /// `BAD_STATEID` (RFC 7530 16.18.5: such an open is good for OPEN_CONFIRM alone).
    pub fn usable(&self, key: u32) -> Result<&Open, Nfsstat4> {
        let open = self.opens.get(&key).ok_or(Nfsstat4::BadStateid)?;
        if self.confirmed(open.owner)? {
            Ok(open)
        } else {
            Err(Nfsstat4::BadStateid)
        }
    }

    /// OPEN_CONFIRM (RFC 7530 16.18).
    ///
    /// # Errors
    /// `BAD_STATEID` when there is nothing to confirm.
    pub fn confirm(&mut self, home: Home, key: u32) -> Result<Stateid4, Nfsstat4> {
        let open = self.opens.get_mut(&key).ok_or(Nfsstat4::BadStateid)?;
        let owner = self.open_owners.get_mut(&open.owner);
        let owner = owner.filter(|o| !o.confirmed).ok_or(Nfsstat4::BadStateid)?;
        owner.confirmed = true;
        open.seqid = stateid::next_seqid(open.seqid);
        Ok(home.stateid(Kind::Open, key, open.seqid))
    }

    /// The owner needs no confirmation: it got its open back from before a restart.
    pub fn confirm_owner(&mut self, key: u32) {
        if let Some(owner) = self.open_owners.get_mut(&key) {
            owner.confirmed = true;
        }
    }

    /// OPEN_DOWNGRADE (RFC 8881 18.18, RFC 7530 16.19).
    ///
    /// # Errors
    /// `INVAL` for what the file was never opened for; `BAD_STATEID`.
    pub fn downgrade(
        &mut self,
        home: Home,
        key: u32,
        access: Access,
        deny: Deny,
    ) -> Result<Stateid4, Nfsstat4> {
        self.usable(key)?;
        let open = self.opens.get_mut(&key).ok_or(Nfsstat4::BadStateid)?;
        let done = open.share.downgrade(access, deny);
        done.map_err(|_| Nfsstat4::Inval)?;
        open.seqid = stateid::next_seqid(open.seqid);
        Ok(home.stateid(Kind::Open, key, open.seqid))
    }

    /// CLOSE (RFC 8881 18.2, RFC 7530 16.2): what is locked under the open goes with it. The stateid
    /// to answer.
    ///
    /// # Errors
    /// `BAD_STATEID`.
    pub fn close(&mut self, home: Home, key: u32) -> Result<(Stateid4, Removed), Nfsstat4> {
        let open = self.usable(key)?;
        let (owner, seqid) = (open.owner, stateid::next_seqid(open.seqid));
        let removed = self.remove_open(key);
        if home.minor > 0 {
            // Nothing a client could use by mistake (RFC 8881 18.2.4).
            self.forget_if_unused(home, owner);
            return Ok((Stateid4::INVALID, removed));
        }
        if let Some(of) = self.open_owners.get_mut(&owner) {
            of.closed = Some(key);
            self.closed.insert(key, owner);
        }
        Ok((home.stateid(Kind::Open, key, seqid), removed))
    }

    /// Takes an open out, with the locks under it; its owner stays.
    pub(super) fn remove_open(&mut self, key: u32) -> Removed {
        let mut removed = Removed::default();
        let Some(open) = self.opens.remove(&key) else {
            return removed;
        };
        self.open_of.remove(&(open.owner, open.file_key()));
        if let Some(owner) = self.open_owners.get_mut(&open.owner) {
            owner.opens = owner.opens.saturating_sub(1);
        }
        for set in &open.sets {
            removed.sets.extend(self.remove_set(*set));
        }
        removed.opens.push(open);
        removed
    }

    /// Undoes an OPEN, when what had to follow failed.
    pub fn undo_open(&mut self, home: Home, granted: &Granted) -> Removed {
        let Some(open) = self.opens.get_mut(&granted.key) else {
            return Removed::default();
        };
        if let Some((access, deny, seqid)) = granted.before {
            // Unless another OPEN came in between: then the client knows of both.
            if open.seqid == granted.stateid.seqid && open.share.downgrade(access, deny).is_ok() {
                open.seqid = seqid;
            }
            return Removed::default();
        }
        let owner = open.owner;
        let removed = self.remove_open(granted.key);
        self.forget_if_unused(home, owner);
        removed
    }

    /// With sessions there is nothing to remember of an owner that has nothing open.
    fn forget_if_unused(&mut self, home: Home, owner: u32) {
        let unused = |o: &OpenOwner| o.opens == 0;
        if home.minor > 0 && self.open_owners.get(&owner).is_some_and(unused) {
            self.forget_open_owner(owner);
        }
    }
}
