//! NLM_GRANTED and NLM_GRANTED_RES (XNFS 10.4.6, 10.4.11).

use crate::cx::Cx;
use crate::nlm::types::{NlmStat, Res};

/// This server waits for nobody's locks.
pub fn run() -> NlmStat {
    NlmStat::Denied
}

/// The answer to a GRANTED, of a host that gives it by a call: its cookie is the number of what
/// waited.
pub fn result(cx: &Cx, res: &Res<'_>) {
    let Ok(serial) = res.cookie.0.try_into().map(u64::from_be_bytes) else {
        return;
    };
    if res.stat == NlmStat::DeniedGracePeriod {
        return;
    }
    let mut hosts = cx.server.nlm.all();
    // Another host at the same address may have one of that number: then it is told again.
    hosts.retain(|host| host.key.ip == cx.client.addr.ip() && host.is_untold(serial));
    if let [host] = &hosts[..] {
        host.told(serial, res.stat == NlmStat::Granted);
    }
}
