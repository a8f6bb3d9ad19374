//! Supplementary groups looked up on the server (`manage_gids`, as `rpc.mountd --manage-gids`):
//! AUTH_SYS carries at most 16, the server's databases know them all.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use vfs::uring::blocking;
use vfs::uring::counters::Call;
use vfs::{Cred, exec};

/// How long an answer is believed.
const KEEP: Duration = Duration::from_secs(300);
/// Users remembered; over it the cache starts anew.
const USERS_MAX: usize = 10_000;

struct Answer {
    groups: Arc<[u32]>,
    until: Instant,
}

/// The cache, shared by all workers.
#[derive(Default)]
pub struct Groups(Mutex<HashMap<u32, Answer>>);

impl Groups {
    /// The groups of `uid`, whose primary group on the wire is `gid`. An unknown user has none.
    pub async fn of(&self, uid: u32, gid: u32) -> Arc<[u32]> {
        let now = exec::now();
        let known = self
            .lock()
            .get(&uid)
            .filter(|a| a.until > now)
            .map(|a| a.groups.clone());
        if let Some(groups) = known {
            return groups;
        }
        let root = Cred::root();
        let looked_up = blocking::run(&root, Call::Getgrouplist, move || {
            Ok(vfs::sys::groups_of(uid, gid))
        });
        let groups: Arc<[u32]> = looked_up.await.unwrap_or_default().into();
        let mut cache = self.lock();
        if cache.len() >= USERS_MAX {
            cache.clear();
        }
        cache.insert(
            uid,
            Answer {
                groups: groups.clone(),
                until: now + KEEP,
            },
        );
        groups
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
