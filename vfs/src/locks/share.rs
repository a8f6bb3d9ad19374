//! Share reservations: which access every open of a file has and which it denies to others
//! (RFC 7530 9.9, RFC 8881 9.7, NLM_SHARE). What all of them together deny is asked of the entries
//! each time.

use bitflags::bitflags;

use super::Holder;

bitflags! {
    /// What an open may do (RFC 8881 18.16.1 `OPEN4_SHARE_ACCESS_*`); none with NLM's `fsa_NONE`.
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct Access: u8 {
        /// Reads.
        const READ = 1;
        /// Writes.
        const WRITE = 2;
        /// Both.
        const BOTH = 3;
    }
}

bitflags! {
    /// What an open denies to all others (RFC 8881 18.16.1 `OPEN4_SHARE_DENY_*`).
    #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
    pub struct Deny: u8 {
        /// Nothing.
        const NONE = 0;
        /// Reads.
        const READ = 1;
        /// Writes.
        const WRITE = 2;
        /// Both.
        const BOTH = 3;
    }
}

/// The combinations of access and deny an open was made with: a downgrade may only go back to what
/// some of them amount to (RFC 7530 16.19). One bit for each of the sixteen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Opened(u16);

/// A combination as a number below 16. What denies something comes last.
fn class(access: Access, deny: Deny) -> u8 {
    deny.bits() << 2 | access.bits()
}

fn pair(class: u8) -> (Access, Deny) {
    (
        Access::from_bits_truncate(class & 3),
        Deny::from_bits_truncate(class >> 2),
    )
}

fn meets(access: Access, deny: Deny) -> bool {
    access.bits() & deny.bits() != 0
}

impl Opened {
    pub(super) fn new(access: Access, deny: Deny) -> Self {
        Opened(1 << class(access, deny))
    }

    /// These and one more.
    pub(super) fn and(self, access: Access, deny: Deny) -> Self {
        Opened(self.0 | Opened::new(access, deny).0)
    }

    fn class(self) -> u8 {
        (0..16)
            .filter(|c| self.0 >> c & 1 != 0)
            .fold(0, |a, c| a | c)
    }

    /// What they amount to.
    pub(super) fn union(self) -> (Access, Deny) {
        pair(self.class())
    }

    /// Those that lie within the combination given, if that is what they amount to.
    pub(super) fn down_to(self, access: Access, deny: Deny) -> Option<Self> {
        let target = class(access, deny);
        let within = (0..16u8)
            .filter(|c| c & !target == 0)
            .fold(0, |m, c| m | 1 << c);
        let left = Opened(self.0 & within);
        (left.0 != 0 && left.class() == target).then_some(left)
    }
}

struct Entry {
    class: u8,
    serial: u64,
    holder: Holder,
}

/// The shares of one file, sorted by what they amount to, so that a thousand opens of one sort are
/// looked at as one.
#[derive(Default)]
pub(super) struct Shares(Vec<Entry>);

impl Shares {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn position(&self, class: u8, serial: u64) -> Result<usize, usize> {
        self.0
            .binary_search_by_key(&(class, serial), |e| (e.class, e.serial))
    }

    pub(super) fn insert(&mut self, serial: u64, opened: Opened, holder: Holder) {
        let class = opened.class();
        if let Err(at) = self.position(class, serial) {
            if self.0.is_empty() {
                // Most files are open once.
                self.0.reserve_exact(1);
            }
            let entry = Entry {
                class,
                serial,
                holder,
            };
            self.0.insert(at, entry);
        }
    }

    pub(super) fn remove(&mut self, serial: u64, opened: Opened) {
        if let Ok(at) = self.position(opened.class(), serial) {
            self.0.remove(at);
        }
    }

    /// Entries of equal combinations, one sort after the other.
    fn sorts(&self) -> impl Iterator<Item = (Access, Deny, &[Entry])> {
        let mut rest = &self.0[..];
        std::iter::from_fn(move || {
            let class = rest.first()?.class;
            let (same, after) = rest.split_at(rest.partition_point(|e| e.class == class));
            rest = after;
            let (access, deny) = pair(class);
            Some((access, deny, same))
        })
    }

    /// What all of them together deny.
    pub(super) fn denied(&self) -> Deny {
        match self.0.last() {
            Some(last) if !pair(last.class).1.is_empty() => self
                .sorts()
                .fold(Deny::NONE, |all, (_, deny, _)| all | deny),
            _ => Deny::NONE,
        }
    }

    /// Who an open with `access` and `deny` conflicts with; `except` is one entry's serial number.
    pub(super) fn conflict(
        &self,
        access: Access,
        deny: Deny,
        except: Option<u64>,
    ) -> Option<Holder> {
        self.sorts()
            .filter(|(held, denied, _)| meets(access, *denied) || meets(*held, deny))
            .find_map(|(_, _, same)| same.iter().find(|e| Some(e.serial) != except))
            .map(|e| e.holder)
    }

    /// Somebody else than `client` has any of `access`, or denies any of `deny`.
    pub(super) fn other(&self, client: super::ClientId, access: Access, deny: Deny) -> bool {
        self.sorts()
            .filter(|(held, denied, _)| held.intersects(access) || denied.intersects(deny))
            .any(|(_, _, same)| same.iter().any(|e| e.holder.client != client))
    }

    /// Somebody else than `client` has it open at all.
    pub(super) fn any_other(&self, client: super::ClientId) -> bool {
        self.0.iter().any(|e| e.holder.client != client)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ClientId, OwnerId};
    use super::*;

    fn all() -> impl Iterator<Item = (Access, Deny)> {
        (0..16).map(pair)
    }

    fn holder(n: u64) -> Holder {
        Holder {
            client: ClientId(n),
            owner: OwnerId(n),
        }
    }

    /// RFC 7530 9.9: `(request.access & file_state.deny) || (request.deny & file_state.access)`.
    #[test]
    fn every_pair_of_opens() {
        for (access, deny) in all() {
            let mut shares = Shares::default();
            shares.insert(1, Opened::new(access, deny), holder(1));
            for (wanted, denies) in all() {
                let expected = wanted.bits() & deny.bits() | denies.bits() & access.bits() != 0;
                let found = shares.conflict(wanted, denies, None);
                assert_eq!(
                    found.is_some(),
                    expected,
                    "{access:?} {deny:?} {wanted:?} {denies:?}"
                );
                assert!(shares.conflict(wanted, denies, Some(1)).is_none());
            }
            assert_eq!(shares.denied(), deny);
        }
    }

    #[test]
    fn a_downgrade_goes_only_where_an_open_was() {
        let (r, w, rw) = (Access::READ, Access::WRITE, Access::BOTH);
        let none = Deny::NONE;
        let once = Opened::new(rw, none);
        assert!(once.down_to(r, none).is_none(), "only opened for both");
        assert_eq!(once.down_to(rw, none), Some(once));
        let twice = once.and(r, Deny::WRITE);
        assert_eq!(twice.union(), (rw, Deny::WRITE));
        assert!(twice.down_to(rw, none).is_some());
        assert!(twice.down_to(r, Deny::WRITE).is_some());
        assert!(twice.down_to(r, none).is_none());
        assert!(
            twice.down_to(rw, Deny::BOTH).is_none(),
            "that is no downgrade"
        );
        // The union of a subset will do (RFC 7530 16.19).
        let three = Opened::new(r, none).and(w, none).and(r, Deny::READ);
        assert!(three.down_to(rw, none).is_some());
        let left = three.down_to(r, none).expect("opened so");
        assert!(left.down_to(w, none).is_none(), "what was given up is gone");
    }

    #[test]
    fn entries_of_one_owner_are_counted() {
        let mut shares = Shares::default();
        let open = Opened::new(Access::READ, Deny::WRITE);
        shares.insert(1, open, holder(1));
        shares.insert(2, open, holder(1));
        shares.remove(1, open);
        assert_eq!((shares.len(), shares.denied()), (1, Deny::WRITE));
        shares.remove(1, open);
        assert_eq!(shares.len(), 1, "an entry goes once");
        shares.remove(2, open);
        assert!(shares.is_empty() && shares.denied().is_empty());
    }
}
