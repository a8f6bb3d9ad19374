//! Locks that were waited for. Once one may be had it is taken for its owner, and the host is called
//! until it says that it knows; one it does not want any more is unlocked. Who asked by NLM_LOCK is
//! called by NLM_GRANTED, who asked by NLM_LOCK_MSG by NLM_GRANTED_MSG, which a call of
//! NLM_GRANTED_RES answers.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use vfs::exec;
use vfs::locks::{LockKind, Notify};

use super::peer;
use super::state::{Attempt, Grant, Host};
use super::types::{
    CallerName, Lock, NLM_PROGRAM, NLM_V4, Netobj, NlmProc, NlmStat, Res, TestArgs, narrow,
};
use crate::conflict;
use crate::host as processes;
use crate::rpc::calls::{CallError, Procedure};
use crate::server::Shared;
use crate::xdr::Dec;

/// After the first call that came to nothing; doubled each time.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest pause between two calls.
const AGAIN_MAX: Duration = Duration::from_secs(10);

/// What is called when a request that waits may be tried.
pub fn notify(server: &Arc<Shared>, host: &Arc<Host>, serial: u64) -> Notify {
    let (server, host) = (Arc::downgrade(server), Arc::downgrade(host));
    Arc::new(move || post(&server, &host, serial))
}

/// Tries a request that waits, on some worker, later: whoever calls may hold a lock.
fn post(server: &Weak<Shared>, host: &Weak<Host>, serial: u64) {
    let (Some(server), Some(host)) = (server.upgrade(), host.upgrade()) else {
        return;
    };
    // One host's grants leave from one worker.
    let worker = host.id.0 as usize % server.remotes.len().max(1);
    if let Some(remote) = server.remotes.get(worker).cloned() {
        remote.post(move || exec::spawn(async move { run(&server, &host, serial).await }));
    }
}

/// Tries a request that waits, and tells the host. Only on a worker.
pub async fn run(server: &Arc<Shared>, host: &Arc<Host>, serial: u64) {
    let mut claim = None;
    loop {
        let tried = host.attempt(serial, exec::now(), notify(server, host, serial));
        drop(claim.take());
        match tried {
            Attempt::Over | Attempt::Waiting => return,
            Attempt::Delegated(file, held) => {
                let back = conflict::returned(server, &file, &held, AGAIN_MAX);
                Box::pin(back).await;
            }
            Attempt::Unasked(file, refused) => match file.claim(refused).await {
                Ok(claimed) => claim = Some(claimed),
                Err(_) => {
                    host.held_up(serial, notify(server, host, serial));
                    return processes::watch(server);
                }
            },
            Attempt::Granted(grant) => return tell(server, host, serial, &grant).await,
        }
        if server.stopping.load(Ordering::Acquire) {
            return;
        }
    }
}

async fn tell(server: &Arc<Shared>, host: &Host, serial: u64, grant: &Grant) {
    let mut pause = AGAIN;
    while !server.stopping.load(Ordering::Acquire) && host.call(serial) {
        match granted(server, host, serial, grant).await {
            // The answer comes by a call.
            Ok(None) => {}
            Ok(Some(NlmStat::DeniedGracePeriod)) => host.uncall(serial),
            Ok(Some(stat)) => return host.told(serial, stat == NlmStat::Granted),
            Err(error) => {
                if let CallError::Refused(_) | CallError::Busy | CallError::TooLong = error {
                    host.uncall(serial);
                }
                let host = &host.key.ip;
                tracing::debug!(%host, %error, "NLM_GRANTED");
            }
        }
        exec::sleep(pause).await;
        pause = (pause * 2).min(AGAIN_MAX);
    }
}

/// One call; its answer, unless that is to come by another.
async fn granted(
    server: &Arc<Shared>,
    host: &Host,
    serial: u64,
    grant: &Grant,
) -> Result<Option<NlmStat>, CallError> {
    let cookie = serial.to_be_bytes();
    let args = TestArgs {
        cookie: Netobj(&cookie),
        exclusive: grant.kind == LockKind::Write,
        alock: Lock {
            caller_name: CallerName(&host.key.name),
            fh: Netobj(&grant.asked.fh),
            oh: Netobj(&grant.owner.oh),
            svid: grant.owner.svid,
            offset: grant.asked.offset,
            len: grant.asked.len,
        },
    };
    let vers = grant.asked.vers;
    let bytes = if vers >= NLM_V4 {
        peer::encoded(&args)?
    } else {
        peer::encoded(&narrow::TestArgs {
            cookie: args.cookie,
            exclusive: args.exclusive,
            alock: args.alock.narrow(),
        })?
    };
    let proc = match grant.asked.message {
        true => NlmProc::GrantedMsg,
        false => NlmProc::Granted,
    };
    let what = Procedure {
        prog: NLM_PROGRAM,
        vers,
        proc: proc.wire(),
    };
    let answer = peer::call(server, grant.asked.here, host.key.ip, what, &bytes).await?;
    if grant.asked.message {
        return Ok(None);
    }
    let res: Res<'_> = Dec::new(&answer).get().map_err(|_| CallError::Garbage)?;
    Ok(Some(res.stat))
}
