//! NLM_FREE_ALL: a host has restarted and gives up all it had (XNFS 10.4.16).

use crate::cx::Cx;
use crate::nlm::types::Notify;

/// Believed of the address it comes from.
pub fn run(cx: &Cx, args: &Notify<'_>) {
    let ip = cx.client.addr.ip();
    for host in cx.server.nlm.called(ip, args.name.0) {
        tracing::info!(%ip, name = %host.key.name.escape_ascii(), "locks freed: NLM_FREE_ALL");
        host.free(None);
    }
}
