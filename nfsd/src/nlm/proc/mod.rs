//! The procedures of the Network Lock Manager: their table.

mod cancel;
mod free_all;
mod granted;
mod lock;
mod share;
mod target;
mod test;
mod unlock;

use vfs::exec;

use super::peer;
use super::types::*;
use crate::cx::{Cx, Reply};
use crate::rpc::calls::Procedure;
use crate::rpc::msg::Refusal;
use crate::xdr::{Dec, XdrError};

/// Runs a procedure of version `vers`; the results are appended to `reply`.
///
/// # Errors
/// `ProcUnavail`; `GarbageArgs` for arguments that do not decode; `SystemErr` for results that do
/// not fit. `reply` may hold a part of the results then.
pub async fn dispatch(
    cx: &Cx,
    vers: u32,
    proc: u32,
    args: Dec<'_>,
    reply: &mut Reply,
) -> Result<(), Refusal> {
    // Seldom: its future is not to make everybody's larger.
    Box::pin(run(cx, vers, proc, args, reply)).await
}

async fn run(
    cx: &Cx,
    vers: u32,
    proc: u32,
    mut args: Dec<'_>,
    reply: &mut Reply,
) -> Result<(), Refusal> {
    let proc = NlmProc::from_wire(proc).ok_or(Refusal::ProcUnavail)?;
    if vers < NLM_V3 && proc >= NlmProc::Share {
        return Err(Refusal::ProcUnavail);
    }
    if let Some((plain, res)) = proc.message() {
        let mut answer = Reply::default();
        answered(cx, vers, (plain, true), &mut args, &mut answer).await?;
        answer_by_call(cx, vers, res, answer.bytes);
        return Ok(());
    }
    answered(cx, vers, (proc, false), &mut args, reply).await
}

/// The table: procedure, its argument type in both widths, and what answers. `message`: it came in
/// the form that is answered by a call.
async fn answered(
    cx: &Cx,
    vers: u32,
    (proc, message): (NlmProc, bool),
    args: &mut Dec<'_>,
    reply: &mut Reply,
) -> Result<(), Refusal> {
    let (cookie, stat) = match proc {
        NlmProc::Test => {
            let args = read::<TestArgs<'_>, narrow::TestArgs<'_>>(args, vers)?;
            return fits(test::run(cx, vers, &args, reply).await);
        }
        NlmProc::Lock | NlmProc::NmLock => {
            let args = read::<LockArgs<'_>, narrow::LockArgs<'_>>(args, vers)?;
            let monitored = proc == NlmProc::Lock;
            let form = lock::Form { vers, message };
            (args.cookie, lock::run(cx, form, &args, monitored).await)
        }
        NlmProc::Cancel => {
            let args = read::<CancelArgs<'_>, narrow::CancelArgs<'_>>(args, vers)?;
            (args.cookie, cancel::run(cx, &args).await)
        }
        NlmProc::Unlock => {
            let args = read::<UnlockArgs<'_>, narrow::UnlockArgs<'_>>(args, vers)?;
            (args.cookie, unlock::run(cx, &args).await)
        }
        NlmProc::Granted => {
            let args = read::<TestArgs<'_>, narrow::TestArgs<'_>>(args, vers)?;
            (args.cookie, granted::run())
        }
        NlmProc::Share | NlmProc::Unshare => {
            let args = args.get::<ShareArgs<'_>>()?;
            let stat = match proc {
                NlmProc::Share => share::share(cx, &args).await,
                _ => share::unshare(cx, &args).await,
            };
            return fits(reply.put(&ShareRes {
                cookie: args.cookie,
                stat: stat.of_version(vers),
                sequence: 0,
            }));
        }
        NlmProc::FreeAll => {
            free_all::run(cx, &args.get()?);
            return Ok(());
        }
        NlmProc::GrantedRes => {
            granted::result(cx, &args.get()?);
            return Ok(());
        }
        // This server asks for none of these; NULL has nothing.
        _ => return Ok(()),
    };
    let stat = stat.of_version(vers);
    fits(reply.put(&Res { cookie, stat }))
}

fn fits(done: Result<(), XdrError>) -> Result<(), Refusal> {
    done.map_err(|_| Refusal::SystemErr)
}

/// Calls the host back with what its message came to. It asks again when that does not arrive.
fn answer_by_call(cx: &Cx, vers: u32, res: NlmProc, bytes: Vec<u8>) {
    let (server, ip) = (cx.server.clone(), cx.client.addr.ip());
    let here = cx.client.here;
    let what = Procedure {
        prog: NLM_PROGRAM,
        vers,
        proc: res.wire(),
    };
    exec::spawn(async move {
        if let Err(error) = peer::call(&server, here, ip, what, &bytes).await {
            tracing::debug!(%ip, %res, %error, "the answer did not arrive");
        }
    });
}
