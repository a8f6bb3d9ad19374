//! NLM_SHARE and NLM_UNSHARE: opens with deny modes (XNFS 10.4.13, 10.4.14). An owner has one share
//! of a file: another one takes its place.

use std::time::Duration;

use vfs::exec;
use vfs::locks::{Access, Conflict, Deny};

use super::{lock, target};
use crate::cx::Cx;
use crate::nlm::types::{FshAccess, NlmStat, ShareArgs};

/// How long it waits for delegations to come back.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it tries again after somebody got out of its way.
const TRIES: usize = 16;

pub async fn share(cx: &Cx, args: &ShareArgs<'_>) -> NlmStat {
    match try_share(cx, args).await {
        Ok(()) => NlmStat::Granted,
        Err(stat) => stat,
    }
}

async fn try_share(cx: &Cx, args: &ShareArgs<'_>) -> Result<(), NlmStat> {
    let share = &args.share;
    let opened = target::file(cx, share.fh.0).await?;
    let writes = matches!(share.access, FshAccess::Write | FshAccess::Both);
    target::permitted(cx, &opened, writes).await?;
    let (ip, name, now) = (cx.client.addr.ip(), share.caller_name.0, exec::now());
    let _reclaim = lock::may_lock(cx, args.reclaim, name, now)?;
    let host = cx.server.nlm.host(ip, name, now);
    let host = host.map_err(|_| NlmStat::DeniedNolocks)?;
    lock::monitor(cx, &host).await?;
    let access = Access::from_bits_truncate(share.access.wire() as u8);
    let deny = Deny::from_bits_truncate(share.mode.wire() as u8);
    let file = opened.file.locks();
    let end = now + PATIENCE;
    for _ in 0..TRIES {
        match host.share(file, share.oh.0, (access, deny), exec::now()) {
            Ok(()) => return Ok(()),
            Err(Conflict::Share(holder) | Conflict::Lock(holder, _)) => {
                if !target::gone(cx, holder.client).await? {
                    return Err(NlmStat::Denied);
                }
            }
            Err(Conflict::Deleg(held)) => {
                if !target::returned(cx, file, &held, end).await {
                    return Err(NlmStat::Denied);
                }
            }
            Err(Conflict::Full | Conflict::Host(..)) => return Err(NlmStat::DeniedNolocks),
        }
    }
    Err(NlmStat::Denied)
}

pub async fn unshare(cx: &Cx, args: &ShareArgs<'_>) -> NlmStat {
    let share = &args.share;
    let opened = match target::file(cx, share.fh.0).await {
        Ok(opened) => opened,
        Err(stat) => return stat,
    };
    if cx.server.grace.in_grace() {
        return NlmStat::DeniedGracePeriod;
    }
    let (ip, name) = (cx.client.addr.ip(), share.caller_name.0);
    if let Some(host) = cx.server.nlm.known(ip, name) {
        host.unshare(opened.file.locks(), share.oh.0);
    }
    NlmStat::Granted
}
