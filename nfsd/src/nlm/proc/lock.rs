//! NLM_LOCK and NLM_NM_LOCK: lock a range, at once or once it can be had (XNFS 10.4.3, 10.4.15).

use std::sync::Arc;
use std::time::{Duration, Instant};

use vfs::exec;
use vfs::locks::{Conflict, Hosted};

use super::target;
use crate::cx::{Cx, Opened};
use crate::deadlock;
use crate::host as processes;
use crate::nfs4::state::grace::Reclaim;
use crate::nlm::grant;
use crate::nlm::state::{Asked, Host, Request};
use crate::nlm::types::{LockArgs, NlmStat};

/// How long a request that does not wait for locks waits for delegations to come back.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it tries again after somebody got out of its way.
const TRIES: usize = 64;

/// How it came.
#[derive(Clone, Copy)]
pub struct Form {
    /// Version of the protocol.
    pub vers: u32,
    /// By NLM_LOCK_MSG.
    pub message: bool,
}

pub async fn run(cx: &Cx, form: Form, args: &LockArgs<'_>, monitored: bool) -> NlmStat {
    match lock(cx, form, args, monitored).await {
        Ok(stat) | Err(stat) => stat,
    }
}

async fn lock(
    cx: &Cx,
    form: Form,
    args: &LockArgs<'_>,
    monitored: bool,
) -> Result<NlmStat, NlmStat> {
    let opened = target::file(cx, args.alock.fh.0).await?;
    let wanted = target::wanted(&args.alock, args.exclusive)?;
    target::permitted(cx, &opened, args.exclusive).await?;
    let now = exec::now();
    let (ip, name) = (cx.client.addr.ip(), args.alock.caller_name.0);
    let _reclaim = may_lock(cx, args.reclaim, name, now)?;
    let host = cx.server.nlm.host(ip, name, now);
    let host = host.map_err(|_| NlmStat::DeniedNolocks)?;
    if monitored {
        monitor(cx, &host).await?;
    }
    let request = Request {
        owner: target::owner(&args.alock),
        wanted,
        state: args.state,
        asked: Asked {
            vers: form.vers,
            message: form.message,
            here: cx.client.here,
            fh: args.alock.fh.0.into(),
            offset: args.alock.offset,
            len: args.alock.len,
        },
    };
    contend(cx, &opened, &host, &request, (args.block, args.reclaim)).await
}

/// In grace only what was held before, and only then (XNFS 9.3.2); `Some` is to be kept until it is
/// locked.
///
/// # Errors
/// `DENIED_GRACE_PERIOD`.
pub(super) fn may_lock(
    cx: &Cx,
    reclaim: bool,
    name: &[u8],
    now: Instant,
) -> Result<Option<Reclaim>, NlmStat> {
    let (grace, ip) = (&cx.server.grace, cx.client.addr.ip());
    if !reclaim {
        return match grace.in_grace() {
            true => Err(NlmStat::DeniedGracePeriod),
            false => Ok(None),
        };
    }
    let known = cx.server.nsm.was_monitored(ip, name);
    let allowed = known.then(|| grace.may_reclaim_host(now).ok()).flatten();
    allowed.map(Some).ok_or(NlmStat::DeniedGracePeriod)
}

/// Makes sure that the host is told after a restart, before it has anything to lose.
pub(super) async fn monitor(cx: &Cx, host: &Host) -> Result<(), NlmStat> {
    if host.is_durable() {
        return Ok(());
    }
    let put = cx.server.recovery.put_host(host.key.clone()).await;
    put.map_err(|error| {
        tracing::debug!(%error, "a host is not monitored yet");
        NlmStat::DeniedNolocks
    })?;
    host.set_durable();
    Ok(())
}

async fn contend(
    cx: &Cx,
    opened: &Opened,
    host: &Arc<Host>,
    request: &Request,
    (block, reclaim): (bool, bool),
) -> Result<NlmStat, NlmStat> {
    let file = opened.file.locks();
    let hosted = target::on_host(opened, request.wanted.kind).await?;
    let (since, end) = (exec::now(), exec::now() + PATIENCE);
    let mut claim = None;
    for _ in 0..TRIES {
        let locked = host.lock(file, request, exec::now());
        drop(claim.take());
        let Err(conflict) = locked else {
            file.settled().await;
            return Ok(NlmStat::Granted);
        };
        let conflict = match file.claim(conflict).await {
            Ok(claimed) => {
                claim = Some(claimed);
                continue;
            }
            Err(conflict) => conflict,
        };
        match conflict {
            Conflict::Lock(holder, _) if reclaim && processes::lingers(holder, since) => {
                exec::sleep(processes::PAUSE).await;
            }
            Conflict::Lock(holder, _) | Conflict::Share(holder) => {
                if target::gone(cx, holder.client).await? {
                    continue;
                }
                return if block {
                    wait(cx, opened, host, (request, hosted), false)
                } else {
                    Err(NlmStat::Denied)
                };
            }
            Conflict::Deleg(_) if block => return wait(cx, opened, host, (request, hosted), true),
            Conflict::Deleg(held) => {
                if !target::returned(cx, file, &held, end).await {
                    return Err(NlmStat::Denied);
                }
            }
            Conflict::Full | Conflict::Host(..) => return Err(NlmStat::DeniedNolocks),
        }
    }
    Err(NlmStat::Denied)
}

/// Joins those that wait. `recalled`: for a delegation, not for a lock.
fn wait(
    cx: &Cx,
    opened: &Opened,
    host: &Arc<Host>,
    (request, hosted): (&Request, Option<Hosted>),
    recalled: bool,
) -> Result<NlmStat, NlmStat> {
    let (server, file) = (&cx.server, opened.file.locks());
    let notify = |serial| grant::notify(server, host, serial);
    let joined = host.wait(file, (request, hosted), exec::now(), recalled, notify);
    processes::watch(server);
    let joined = joined.map_err(|_| NlmStat::DeniedNolocks)?;
    if let Some(waiting) = host.waiting(file, request)
        && deadlock::of_host(server, host, &request.owner, waiting)
    {
        host.cancel(file, &request.owner, request.wanted);
        return Err(NlmStat::Deadlck);
    }
    if let Some(serial) = joined.filter(|_| recalled) {
        let (server, host) = (server.clone(), host.clone());
        exec::spawn(async move { grant::run(&server, &host, serial).await });
    }
    Ok(NlmStat::Blocked)
}
