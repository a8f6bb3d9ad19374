//! Supplementary groups looked up on the server (`manage_gids`, as `rpc.mountd --manage-gids`):
//! AUTH_SYS carries at most 16, the server's databases know them all.
//!
//! The groups the client sends are never believed, also where the databases do not know its user or do not answer. The
//! primary group is still the client's (newgrp(1) works), as with `rpc.mountd`.

use std::collections::HashMap;
use std::ffi::CString;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::{Uid, User, getgrouplist};
use vfs::uring::blocking;
use vfs::uring::counters::Call;
use vfs::{Cred, Errno, exec};

/// How long an answer is believed.
const KEEP: Duration = Duration::from_secs(300);
/// How long a database that failed is left alone.
const FAILED_KEEP: Duration = Duration::from_secs(5);
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
    /// The groups of `uid`. An unknown user has none, and so has one the databases fail for; what was known before they
    /// failed stays.
    pub async fn of(&self, uid: u32) -> Arc<[u32]> {
        let known = self.known(uid, exec::now());
        if let Some(groups) = known {
            return groups;
        }
        let root = Cred::root();
        let looked_up = blocking::run(&root, Call::Getgrouplist, move || look_up(uid));
        let looked_up = looked_up.await;
        self.remember(uid, looked_up, exec::now())
    }

    fn known(&self, uid: u32, now: Instant) -> Option<Arc<[u32]>> {
        let cache = self.lock();
        let fresh = cache.get(&uid).filter(|answer| answer.until > now);
        fresh.map(|answer| answer.groups.clone())
    }

    fn remember(&self, uid: u32, looked_up: vfs::Result<Vec<u32>>, now: Instant) -> Arc<[u32]> {
        let mut cache = self.lock();
        let (groups, keep) = match looked_up {
            Ok(groups) => (groups.into(), KEEP),
            Err(error) => {
                tracing::warn!(uid, %error, "the groups of a user cannot be looked up");
                let before = cache.get(&uid).map(|answer| answer.groups.clone());
                (before.unwrap_or_default(), FAILED_KEEP)
            }
        };
        if cache.len() >= USERS_MAX {
            cache.clear();
        }
        let answer = Answer {
            groups: Arc::clone(&groups),
            until: now + keep,
        };
        cache.insert(uid, answer);
        groups
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Answer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the databases say (`getpwuid(3)`, `getgrouplist(3)`), the user's own primary group included; nothing for a user
/// they do not know. May wait for the network.
///
/// # Errors
/// The user database could not be asked. Of the group database the C library does not tell.
fn look_up(uid: u32) -> vfs::Result<Vec<u32>> {
    let failed = |error: nix::errno::Errno| Errno(error as i32);
    // getpwuid(3) has four ways to say "no such user" besides saying so.
    let user = match User::from_uid(Uid::from_raw(uid)).map_err(failed) {
        Ok(Some(user)) => user,
        Ok(None) | Err(Errno(libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM)) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let name = CString::new(user.name).map_err(|_| Errno::EINVAL)?;
    let groups = getgrouplist(&name, user.gid).map_err(failed)?;
    Ok(groups.into_iter().map(|group| group.as_raw()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_superuser_has_its_group() {
        assert!(look_up(0).expect("the databases").contains(&0));
        assert_eq!(look_up(4_000_000_001), Ok(Vec::new()), "nobody's number");
    }

    #[test]
    fn what_fails_is_asked_again_soon_and_forgets_nothing() {
        let (groups, start) = (Groups::default(), exec::now());
        let failed = groups.remember(7, Err(Errno::EIO), start);
        assert!(failed.is_empty());
        assert!(groups.known(7, start).is_some(), "left alone for a while");
        let later = start + FAILED_KEEP;
        assert_eq!(groups.known(7, later), None);
        assert_eq!(groups.remember(7, Ok(vec![1, 2]), later)[..], [1, 2]);
        let old = later + KEEP;
        assert!(groups.known(7, old - FAILED_KEEP).is_some());
        assert_eq!(groups.known(7, old), None);
        assert_eq!(groups.remember(7, Err(Errno::EIO), old)[..], [1, 2]);
        assert_eq!(groups.known(7, old + FAILED_KEEP), None);
        assert!(groups.remember(7, Ok(Vec::new()), old).is_empty());
    }
}
