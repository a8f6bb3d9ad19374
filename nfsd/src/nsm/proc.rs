//! The procedures of the Network Status Monitor (XNFS 11.5).

use std::net::IpAddr;

use super::types::{Mon, MonId, MyId, SmName, SmProc, SmRes, SmStat, SmStatRes, StatChge};
use crate::cx::{Cx, Reply};
use crate::rpc::msg::Refusal;
use crate::server::Shared;
use crate::xdr::Dec;

/// Runs a procedure; the results are appended to `reply`.
///
/// # Errors
/// `ProcUnavail`; `GarbageArgs` for arguments that do not decode; `SystemErr` for results that do
/// not fit.
pub async fn dispatch(
    cx: &Cx,
    _vers: u32,
    proc: u32,
    args: Dec<'_>,
    reply: &mut Reply,
) -> Result<(), Refusal> {
    run(&cx.server, cx.client.addr.ip(), proc, args, reply)
}

/// Nobody is monitored for others: they hear that with the state of this server.
pub(super) fn run(
    server: &Shared,
    ip: IpAddr,
    proc: u32,
    mut args: Dec<'_>,
    reply: &mut Reply,
) -> Result<(), Refusal> {
    let state = server.nsm.state;
    let refused = SmStatRes {
        res: SmRes::Fail,
        state,
    };
    let done = match SmProc::from_wire(proc).ok_or(Refusal::ProcUnavail)? {
        // Whoever wants it to restart may ask its administrator.
        SmProc::Null | SmProc::SimuCrash => Ok(()),
        SmProc::Stat => {
            args.get::<SmName<'_>>()?;
            reply.put(&refused)
        }
        SmProc::Mon => {
            args.get::<Mon<'_>>()?;
            reply.put(&refused)
        }
        SmProc::Unmon => {
            args.get::<MonId<'_>>()?;
            reply.put(&SmStat { state })
        }
        SmProc::UnmonAll => {
            args.get::<MyId<'_>>()?;
            reply.put(&SmStat { state })
        }
        SmProc::Notify => {
            restarted(server, ip, &args.get()?);
            Ok(())
        }
    };
    done.map_err(|_| Refusal::SystemErr)
}

/// A host at `ip` says it restarted: what it held before is free. It can only speak for itself, and
/// says so several times: what it has had since the first stays.
fn restarted(server: &Shared, ip: IpAddr, change: &StatChge<'_>) {
    for host in server.nlm.called(ip, change.mon_name.0) {
        let (name, state) = (host.key.name.escape_ascii(), change.state);
        tracing::info!(%ip, %name, state, "host restarted: its locks are freed");
        host.free(Some(change.state));
    }
}
