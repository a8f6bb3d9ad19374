//! One request: RPC header, credential, duplicate request cache, procedure, reply.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use vfs::exec;
use vfs::uring::Buf;

use crate::conn::Conn;
use crate::cx::{Cx, Reply};
use crate::nfs3::{self, NFS_PROGRAM};
use crate::rpc;
use crate::rpc::drc::{Guard, Lookup};
use crate::rpc::msg::{self, Call, Ignored, Parsed, Refusal};
use crate::xdr::Enc;

/// Room most replies fit in.
const REPLY_ROOM: usize = 256;

fn refused(xid: u32, refusal: Refusal) -> Option<Reply> {
    let mut reply = Reply::default();
    let encoded = msg::encode_refusal(&mut reply.enc(), xid, refusal);
    encoded.ok().map(|()| reply)
}

/// Bytes of the reply a record asks for, where it can ask for many: they count against what a
/// connection may hold before they are there.
pub fn reply_bytes(record: &[u8]) -> u32 {
    let word = |at: usize| {
        record
            .get(at..)?
            .first_chunk()
            .map(|w| u32::from_be_bytes(*w))
    };
    // Looked at before anything is decoded: most requests ask for little.
    let [prog, proc] = [word(12), word(20)];
    if prog != Some(NFS_PROGRAM) || !proc.is_some_and(nfs3::asks_for_bytes) {
        return 0;
    }
    match msg::parse(record) {
        Parsed::Call(call) => nfs3::reply_bytes(call.proc, call.args),
        Parsed::Refuse { .. } | Parsed::Ignore(_) => 0,
    }
}

/// Runs the request in `record[start..]`. `None`: nothing is to be sent.
pub async fn run(conn: &Rc<Conn>, record: Buf, start: usize) -> Option<Reply> {
    let record = Rc::new(record);
    let call = match msg::parse(record.get(start..).unwrap_or_default()) {
        Parsed::Call(_) | Parsed::Refuse { .. } if conn.is_outgoing() => {
            tracing::info!(client = %conn.client.addr, "a call instead of a reply: connection closed");
            conn.close();
            return None;
        }
        Parsed::Call(call) => call,
        Parsed::Refuse { xid, refusal } => return refused(xid, refusal),
        Parsed::Ignore(Ignored::NotCall) => {
            conn.answered(record.get(start..).unwrap_or_default());
            return None;
        }
        Parsed::Ignore(Ignored::TooShort) => {
            tracing::info!(client = %conn.client.addr, "not an RPC call: connection closed");
            conn.close();
            return None;
        }
    };
    let identity = match rpc::identify(&call) {
        Ok(identity) => identity,
        Err(stat) => return refused(call.xid, Refusal::Auth(stat)),
    };
    let cx = Cx {
        server: conn.server.clone(),
        client: conn.client.clone(),
        identity,
        record: record.clone(),
        asked: Cell::default(),
    };
    let guard = match remembered(&cx, &call, record.get(start..).unwrap_or_default()) {
        Remembered::New(guard) => guard,
        Remembered::Running => return None,
        Remembered::Answered(reply) => return Some(reply),
    };
    let reply = answer(&cx, &call).await;
    if let (Some(guard), Some(reply)) = (guard, &reply)
        && !reply.unkept
    {
        guard.complete(&reply.bytes, uptime(&cx));
    }
    reply
}

enum Remembered {
    New(Option<Guard>),
    Running,
    Answered(Reply),
}

fn uptime(cx: &Cx) -> Duration {
    exec::now().saturating_duration_since(cx.server.started)
}

/// Has this very call been seen? Only for procedures whose repetition would do harm.
fn remembered(cx: &Cx, call: &Call<'_>, record: &[u8]) -> Remembered {
    if !rpc::cached(call) {
        return Remembered::New(None);
    }
    let program = [call.prog, call.vers, call.proc];
    // The checksum covers the credential too: another user's call is another call.
    let key = cx
        .server
        .drc
        .key(cx.client.addr.ip(), call.xid, program, record);
    match cx.server.drc.begin(key, uptime(cx)) {
        Lookup::New(guard) => Remembered::New(Some(guard)),
        Lookup::Drop => Remembered::Running,
        Lookup::Replay(bytes) => Remembered::Answered(Reply {
            bytes: bytes.to_vec(),
            ..Reply::default()
        }),
    }
}

async fn answer(cx: &Cx, call: &Call<'_>) -> Option<Reply> {
    let mut reply = Reply {
        bytes: Vec::with_capacity(REPLY_ROOM),
        ..Reply::default()
    };
    reply
        .bytes
        .extend_from_slice(&msg::success_header(call.xid));
    match rpc::call(cx, call, &mut reply).await {
        Ok(()) => Some(reply),
        Err(refusal) => {
            reply.bytes.clear();
            reply.payload = None;
            let mut enc = Enc::new(&mut reply.bytes, REPLY_ROOM);
            msg::encode_refusal(&mut enc, call.xid, refusal)
                .ok()
                .map(|()| reply)
        }
    }
}
