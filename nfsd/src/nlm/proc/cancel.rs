//! NLM_CANCEL: waits for a lock no more (XNFS 10.4.4).

use super::target;
use crate::cx::Cx;
use crate::nlm::types::{CancelArgs, NlmStat};

/// `DENIED` when nothing waits.
pub async fn run(cx: &Cx, args: &CancelArgs<'_>) -> NlmStat {
    let opened = match target::file(cx, args.alock.fh.0).await {
        Ok(opened) => opened,
        Err(stat) => return stat,
    };
    let wanted = match target::wanted(&args.alock, args.exclusive) {
        Ok(wanted) => wanted,
        Err(stat) => return stat,
    };
    if cx.server.grace.in_grace() {
        return NlmStat::DeniedGracePeriod;
    }
    let (ip, name) = (cx.client.addr.ip(), args.alock.caller_name.0);
    let host = cx.server.nlm.known(ip, name);
    let owner = target::owner(&args.alock);
    match host.is_some_and(|host| host.cancel(opened.file.locks(), &owner, wanted)) {
        true => NlmStat::Granted,
        false => NlmStat::Denied,
    }
}
