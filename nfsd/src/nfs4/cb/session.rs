//! Callbacks in a session: CB_SEQUENCE and one operation, over any connection of the backchannel
//! (RFC 8881 2.10.3.1, 20.9).

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;
use vfs::exec;

use super::CbError;
use super::channel::{CONNS_TRIED, encoded, patience};
use super::queue::Place;
use super::slots::{Outcome, Taken};
use super::wire::{CB_COMPOUND, CB_VERSION, CbArgs, CbCompound, CbDone, CbReply, CbSequence4args};
use crate::conn::BackConn;
use crate::nfs4::state::client::{Client, SeqStatus};
use crate::nfs4::state::session::{Back, CbSec, Session};
use crate::nfs4::status::Nfsstat4;
use crate::rpc::auth::Credential;
use crate::rpc::auth::sys::AuthSys;
use crate::rpc::calls::{CallError, Procedure};
use crate::server::Shared;

/// Most slots, sessions and delays one call goes through.
const TRIES: usize = 12;
/// After CB_SEQUENCE answered DELAY.
const DELAYED: Duration = Duration::from_millis(100);

impl Back for BackConn {
    fn id(&self) -> u64 {
        BackConn::id(self)
    }

    fn is_open(&self) -> bool {
        BackConn::is_open(self)
    }
}

/// A slot of the backchannel while a call is in it.
struct Slot<'s> {
    session: &'s Session,
    taken: Taken,
    /// What becomes of the slot if nothing more is heard.
    outcome: Outcome,
}

impl Slot<'_> {
    fn end(mut self, outcome: Outcome) {
        self.outcome = outcome;
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.session.back_slots().end(&self.taken, self.outcome);
    }
}

/// What an attempt came to.
enum Went {
    Done(Result<CbDone, CbError>),
    /// Try again, at once.
    Again,
    /// Try again, a little later.
    Later,
}

fn fault(client: &Client, error: CbError) -> Went {
    client.raise(SeqStatus::BACKCHANNEL_FAULT);
    Went::Done(Err(error))
}

/// A callback over whatever session has a connection.
pub(super) async fn call(
    server: &Arc<Shared>,
    client: &Arc<Client>,
    place: &Place<'_>,
    args: &CbArgs<'_>,
) -> Result<CbDone, CbError> {
    for _ in 0..TRIES {
        let (session, conn) = client.back_conn().ok_or(CbError::Down)?;
        place.goes_over(session.id);
        let (taken, dead) = {
            let mut slots = session.back_slots();
            (slots.take(), slots.all_dead())
        };
        let Some(taken) = taken else {
            if dead {
                client.raise(SeqStatus::BACKCHANNEL_FAULT);
                return Err(CbError::Down);
            }
            exec::timeout(patience(server), place.next_end()?).await;
            continue;
        };
        let slot = Slot {
            session: &session,
            taken,
            outcome: Outcome::Unsent,
        };
        match attempt(server, client, conn, slot, args).await {
            Went::Done(done) => return done,
            Went::Again => {}
            Went::Later => exec::sleep(DELAYED).await,
        }
    }
    Err(CbError::Busy)
}

/// One request in its slot, sent again over the next connection when one fails.
async fn attempt(
    server: &Arc<Shared>,
    client: &Client,
    mut conn: Arc<dyn Back>,
    mut slot: Slot<'_>,
    args: &CbArgs<'_>,
) -> Went {
    let session = slot.session;
    let op = (!slot.taken.uncertain).then_some(args);
    let (what, cred) = target(session);
    let bytes = match request(client, session, &slot.taken, op) {
        Ok(bytes) => bytes,
        Err(error) => return Went::Done(Err(error)),
    };
    for _ in 0..CONNS_TRIED {
        let id = conn.id();
        let Ok(back) = (conn as Arc<dyn Any + Send + Sync>).downcast::<BackConn>() else {
            return Went::Done(Err(CbError::Down));
        };
        let before = std::mem::replace(&mut slot.outcome, Outcome::Lost);
        match back.call(what, &cred, &bytes, patience(server)).await {
            Ok(answer) => return answered(client, slot, id, &answer, op.is_none()),
            Err(CallError::Busy | CallError::TooLong) => {
                slot.outcome = before;
                return Went::Done(Err(CbError::Busy));
            }
            Err(CallError::Refused(_)) => {
                slot.outcome = before;
                session.callback_failed(id);
                return fault(client, CbError::Refused);
            }
            Err(CallError::Closed | CallError::TimedOut | CallError::Garbage) => {
                session.callback_failed(id);
            }
        }
        match session.back_conn() {
            Some(next) => conn = next,
            None => break,
        }
    }
    Went::Done(Err(CbError::Lost))
}

fn request(
    client: &Client,
    session: &Session,
    taken: &Taken,
    op: Option<&CbArgs<'_>>,
) -> Result<Vec<u8>, CbError> {
    let bytes = encoded(&CbCompound {
        minor: client.minor,
        ident: 0,
        sequence: Some(CbSequence4args {
            sessionid: session.id,
            sequenceid: taken.sequence,
            slotid: taken.slot,
            highest_slotid: taken.highest,
            cachethis: false,
            referring: ArrayVec::new(),
        }),
        op,
    })?;
    // Its RPC header counts, too (RFC 8881 18.36.3).
    const HEADER: usize = 128;
    match bytes.len() + HEADER > session.back.max_request as usize {
        true => Err(CbError::Refused),
        false => Ok(bytes),
    }
}

/// What to call, and as whom (RFC 8881 18.36.3, `csa_cb_program`, `csa_sec_parms`).
fn target(session: &Session) -> (Procedure, Credential) {
    let target = session.callback();
    let what = Procedure {
        prog: target.program,
        vers: CB_VERSION,
        proc: CB_COMPOUND,
    };
    let cred = match &target.sec {
        CbSec::None => Ok(Credential::none()),
        CbSec::Sys {
            stamp,
            machine,
            uid,
            gid,
            gids,
        } => Credential::sys(&AuthSys {
            stamp: *stamp,
            machinename: machine,
            uid: *uid,
            gid: *gid,
            gids: gids.clone(),
        }),
    };
    (what, cred.unwrap_or_else(|_| Credential::none()))
}

fn answered(client: &Client, slot: Slot<'_>, conn: u64, answer: &[u8], asking: bool) -> Went {
    let (session, taken) = (slot.session, slot.taken);
    let Ok(reply) = CbReply::decode(answer, true) else {
        return fault(client, CbError::Garbage);
    };
    match reply.sequence {
        Some(Ok(turn))
            if (turn.sessionid, turn.slotid, turn.sequenceid)
                == (session.id, taken.slot, taken.sequence) =>
        {
            let target = turn.target_highest_slotid;
            slot.end(Outcome::Ran { target });
            match (asking, reply.op) {
                (true, _) => Went::Again,
                (false, Some(done)) => Went::Done(Ok(done)),
                (false, None) => fault(client, CbError::Garbage),
            }
        }
        Some(Err(status)) => {
            slot.end(Outcome::Refused(status));
            refused(client, session, conn, status, asking)
        }
        Some(Ok(_)) | None => fault(client, CbError::Garbage),
    }
}

fn refused(client: &Client, session: &Session, conn: u64, status: Nfsstat4, asking: bool) -> Went {
    match status {
        Nfsstat4::Delay => Went::Later,
        Nfsstat4::SeqMisordered | Nfsstat4::Badslot => Went::Again,
        Nfsstat4::RetryUncachedRep | Nfsstat4::SeqFalseRetry if asking => Went::Again,
        // Sent twice, and the first was it.
        Nfsstat4::RetryUncachedRep | Nfsstat4::SeqFalseRetry => {
            Went::Done(Ok(CbDone::Failed(Nfsstat4::RetryUncachedRep)))
        }
        Nfsstat4::Badsession | Nfsstat4::Deadsession => {
            session.callback_failed(conn);
            Went::Again
        }
        _ => fault(client, CbError::Refused),
    }
}
