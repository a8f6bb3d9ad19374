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
    let mut hosts = cx.server.nlm.all();
    hosts.retain(|host| host.key.ip == cx.client.addr.ip() && host.is_untold(serial));
    for host in hosts {
        match res.stat {
            NlmStat::DeniedGracePeriod => host.uncall(serial),
            stat => host.told(serial, stat == NlmStat::Granted),
        }
    }
}
