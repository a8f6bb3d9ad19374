//! NLM_UNLOCK: unlocks a range, whatever of it is locked (XNFS 10.4.5).

use super::target;
use crate::cx::Cx;
use crate::nlm::types::{NlmStat, UnlockArgs};

/// Needs no permission: a host gives back what is its own.
pub async fn run(cx: &Cx, args: &UnlockArgs<'_>) -> NlmStat {
    let (ip, name) = (cx.client.addr.ip(), args.alock.caller_name.0);
    let (host, owner) = (cx.server.nlm.known(ip, name), target::owner(&args.alock));
    let opened = match target::file(cx, args.alock.fh.0).await {
        Ok(opened) => opened,
        Err(stat) => {
            if let Some(host) = host.filter(|_| stat == NlmStat::StaleFh) {
                host.unlock_stale(args.alock.fh.0, &owner);
            }
            return stat;
        }
    };
    let wanted = match target::wanted(&args.alock, false) {
        Ok(wanted) => wanted,
        Err(stat) => return stat,
    };
    // What is not reclaimed yet cannot be unlocked either.
    if cx.server.grace.in_grace() {
        return NlmStat::DeniedGracePeriod;
    }
    let Some(host) = host else {
        return NlmStat::Granted;
    };
    let file = opened.file.locks();
    let unlocked = host.unlock(file, &owner, wanted.range);
    file.settled().await;
    match unlocked {
        Ok(()) => NlmStat::Granted,
        Err(_) => NlmStat::DeniedNolocks,
    }
}
