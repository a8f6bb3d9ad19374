//! The caller's disk quota (RFC 8881 5.8.2.27 to 5.8.2.29).

use std::sync::Arc;

use crate::cred::Cred;
use crate::file::File;
use crate::sys::{self, DiskQuota};
use crate::uring::blocking;
use crate::uring::counters::Call;
use crate::vfs::Vfs;

/// What a user may still use, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quota {
    /// Until allocations are refused (`quota_avail_hard`).
    pub avail_hard: u64,
    /// Until the user is warned (`quota_avail_soft`).
    pub avail_soft: u64,
    /// In use now (`quota_used`).
    pub used: u64,
}

impl Quota {
    /// `None` for a user without limits. A limit that is not there is where the other one is.
    fn of(quota: &DiskQuota) -> Option<Self> {
        let limit = |first: u64, second: u64| if first > 0 { first } else { second };
        if quota.hard == 0 && quota.soft == 0 {
            return None;
        }
        let hard = limit(quota.hard, quota.soft);
        Some(Quota {
            avail_hard: hard.saturating_sub(quota.used),
            avail_soft: limit(quota.soft, quota.hard).saturating_sub(quota.used),
            used: quota.used,
        })
    }
}

impl Vfs {
    /// The quota of `cred`'s user on the file system of `file`; `None` where the kernel has none, or no
    /// limit for this user.
    pub async fn quota(&self, cred: &Cred, file: &Arc<File>) -> Option<Quota> {
        let (mount, uid) = (file.mount.clone(), cred.uid());
        let ask = move || sys::user_quota(mount.fd(), uid);
        let quota = blocking::run(&Cred::root(), Call::Quotactl, ask).await;
        Quota::of(&quota.ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_limit_is_the_other_one() {
        let quota = |hard, soft, used| Quota::of(&DiskQuota { hard, soft, used });
        let some = |avail_hard, avail_soft, used| {
            Some(Quota {
                avail_hard,
                avail_soft,
                used,
            })
        };
        assert_eq!(quota(0, 0, 5), None);
        assert_eq!(quota(100, 50, 5), some(95, 45, 5));
        assert_eq!(quota(100, 50, 70), some(30, 0, 70));
        assert_eq!(quota(100, 0, 170), some(0, 0, 170));
        assert_eq!(quota(0, 50, 20), some(30, 30, 20));
    }
}
