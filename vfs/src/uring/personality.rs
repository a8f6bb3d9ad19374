//! Registered credentials: one io_uring personality per caller, least recently used goes first,
//! pinned while an operation names it. The kernel itself then checks modes, ACLs and quotas.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use hashbrown::HashMap;

use crate::cred::Cred;
use crate::errno::{Errno, Result};
use crate::{exec, sys};

struct Entry {
    id: u16,
    used: u64,
    pins: Rc<Cell<u32>>,
}

/// One ring's personalities.
pub struct Personalities {
    map: RefCell<HashMap<Cred, Entry, foldhash::fast::FixedState>>,
    limit: usize,
    clock: Cell<u64>,
}

/// A personality an operation runs under, registered at least as long as this lives.
pub struct Personality {
    id: u16,
    pins: Option<Rc<Cell<u32>>>,
}

impl Personality {
    /// The server's own identity.
    pub fn server() -> Self {
        Personality { id: 0, pins: None }
    }

    /// For `squeue::Entry::personality`; 0 is the ring's creator.
    pub(crate) fn id(&self) -> u16 {
        self.id
    }
}

impl Drop for Personality {
    fn drop(&mut self) {
        if let Some(pins) = &self.pins {
            pins.set(pins.get() - 1);
        }
    }
}

impl Personalities {
    pub(super) fn new(limit: usize) -> Self {
        Personalities {
            map: RefCell::default(),
            limit: limit.max(1),
            clock: Cell::new(0),
        }
    }

    /// Personalities registered.
    pub fn len(&self) -> usize {
        self.map.borrow().len()
    }

    /// None is registered.
    pub fn is_empty(&self) -> bool {
        self.map.borrow().is_empty()
    }

    fn pin(&self, cred: &Cred) -> Option<Personality> {
        let mut map = self.map.borrow_mut();
        let entry = map.get_mut(cred)?;
        self.clock.set(self.clock.get() + 1);
        entry.used = self.clock.get();
        entry.pins.set(entry.pins.get() + 1);
        Some(Personality {
            id: entry.id,
            pins: Some(entry.pins.clone()),
        })
    }

    /// The least recently used entry that nothing pins.
    fn victim(&self) -> Option<Cred> {
        let map = self.map.borrow();
        let idle = map.iter().filter(|(_, e)| e.pins.get() == 0);
        idle.min_by_key(|(_, e)| e.used)
            .map(|(cred, _)| cred.clone())
    }
}

/// The personality of `cred` on this worker's ring. The superuser acts as the server itself.
///
/// # Errors
/// `ENOMEM`, `EPERM` from registering; `EAGAIN` when every personality is pinned.
pub fn personality(cred: &Cred) -> Result<Personality> {
    exec::with_ring(|ring| {
        let set = &ring.personalities;
        if cred.is_root() && cred.gid() == 0 {
            return Ok(Personality::server());
        }
        if let Some(pinned) = set.pin(cred) {
            return Ok(pinned);
        }
        ring.with_submitter(|submitter| {
            if set.len() >= set.limit {
                let victim = set.victim().ok_or(Errno::EAGAIN)?;
                if let Some(entry) = set.map.borrow_mut().remove(&victim) {
                    submitter.unregister_personality(entry.id)?;
                }
            }
            let identity = sys::Identity::assume(cred)?;
            let id = submitter.register_personality();
            drop(identity);
            let entry = Entry {
                id: id?,
                used: 0,
                pins: Rc::new(Cell::new(0)),
            };
            set.map.borrow_mut().insert(cred.clone(), entry);
            Ok::<(), Errno>(())
        })?;
        set.pin(cred).ok_or(Errno::ENOMEM)
    })
}
