//! The side of the client that is called back: sessions whose connection takes callbacks between the replies (4.1), and
//! a listener of its own (4.0). Every callback must keep what RFC 8881 20.9 asks of slots and numbers.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use nfsd::nfs4::cb::wire::{
    CB_COMPOUND, CB_NULL, CB_VERSION, CbOp4, CbSequence4args, CbSequence4resok,
};
use nfsd::nfs4::status::Nfsstat4;
use nfsd::nfs4::types::Tag4;
use nfsd::rpc::msg::{Parsed, parse, success_header};
use nfsd::xdr::{Dec, Decode, Encode};

use super::session::Session;
use super::{Client, PATIENCE, encode};

/// Program the callbacks of these clients are called by.
pub const PROGRAM: u32 = 0x4000_0001;

/// A callback that has come.
#[derive(Clone, Debug)]
pub struct Callback {
    xid: u32,
    /// Minor version, and `callback_ident`.
    pub minor: u32,
    /// `callback_ident` of 4.0.
    pub ident: u32,
    /// CB_SEQUENCE, in a session.
    pub sequence: Option<CbSequence4args>,
    /// The operation; `None` when there is only CB_SEQUENCE, or for CB_NULL.
    pub op: Option<CbOp4>,
    args: Vec<u8>,
    /// CB_NULL.
    pub null: bool,
}

impl Callback {
    /// Out of a call.
    ///
    /// # Panics
    /// On what is no callback.
    #[track_caller]
    fn of(record: &[u8]) -> Callback {
        let Parsed::Call(call) = parse(record) else {
            panic!("not a call: {record:?}")
        };
        assert_eq!((call.prog, call.vers), (PROGRAM, CB_VERSION));
        let mut callback = Callback {
            xid: call.xid,
            minor: 0,
            ident: 0,
            sequence: None,
            op: None,
            args: Vec::new(),
            null: call.proc == CB_NULL,
        };
        if callback.null {
            return callback;
        }
        assert_eq!(call.proc, CB_COMPOUND);
        let mut dec = call.args;
        let _: Tag4<'_> = dec.get().expect("a tag");
        callback.minor = dec.u32().expect("a minor version");
        callback.ident = dec.u32().expect("an ident");
        for _ in 0..dec.u32().expect("a number") {
            match dec.get().expect("an operation") {
                CbOp4::Sequence => callback.sequence = Some(dec.get().expect("CB_SEQUENCE")),
                op => {
                    assert!(callback.op.is_none(), "one operation at a time");
                    callback.op = Some(op);
                    callback.args = dec.rest().to_vec();
                }
            }
        }
        assert_eq!(callback.sequence.is_some(), callback.minor > 0);
        callback
    }

    /// The arguments of its operation.
    ///
    /// # Panics
    /// If it is another operation, or they do not decode to their end.
    #[track_caller]
    pub fn args<'a, T: Decode<'a>>(&'a self, op: CbOp4) -> T {
        assert_eq!(self.op, Some(op));
        let mut dec = Dec::new(&self.args);
        let args = dec.get().expect("arguments");
        dec.finish().expect("nothing after them");
        args
    }

    /// The reply: CB_SEQUENCE ran, the operation came to `status` with `body`.
    fn reply(&self, status: Nfsstat4, body: &[u8]) -> Vec<u8> {
        let mut out = success_header(self.xid).to_vec();
        if self.null {
            return out;
        }
        out.extend(encode(&status));
        out.extend(encode(&Tag4(b"")));
        let results = u32::from(self.sequence.is_some()) + u32::from(self.op.is_some());
        out.extend(encode(&results));
        if let Some(sequence) = &self.sequence {
            out.extend(encode(&CbOp4::Sequence));
            out.extend(encode(&Nfsstat4::Ok));
            out.extend(encode(&CbSequence4resok {
                sessionid: sequence.sessionid,
                sequenceid: sequence.sequenceid,
                slotid: sequence.slotid,
                highest_slotid: 15,
                target_highest_slotid: 15,
            }));
        }
        if let Some(op) = self.op {
            out.extend(encode(&op));
            out.extend(encode(&status));
            out.extend_from_slice(body);
        }
        out
    }
}

/// The callbacks of one session.
#[derive(Default)]
pub struct Callbacks {
    /// Numbers of the last callback in each slot.
    slots: HashMap<u32, u32>,
}

impl Session {
    /// The next callback.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn callback(&mut self) -> Callback {
        self.callback_within(PATIENCE).expect("a callback")
    }

    /// The next callback, if one comes in time.
    ///
    /// # Panics
    /// If it is not the next of its slot, or of another session.
    #[track_caller]
    pub fn callback_within(&mut self, patience: Duration) -> Option<Callback> {
        let callback = Callback::of(&self.client.next_call(patience)?);
        let sequence = callback.sequence.as_ref().expect("CB_SEQUENCE");
        assert_eq!(sequence.sessionid, self.created.id);
        let last = self.callbacks.slots.entry(sequence.slotid).or_default();
        assert_eq!(sequence.sequenceid, *last + 1, "slot {}", sequence.slotid);
        *last += 1;
        Some(callback)
    }

    /// Answers a callback.
    #[track_caller]
    pub fn answer(&mut self, callback: &Callback, status: Nfsstat4, body: &impl Encode) {
        let body = encode(body);
        self.client.send_record(&callback.reply(status, &body));
    }
}

/// Where a client of version 4.0 takes callbacks.
pub struct Listener(TcpListener);

impl Default for Listener {
    fn default() -> Self {
        Listener::new()
    }
}

impl Listener {
    /// On some port of the loopback interface.
    ///
    /// # Panics
    /// If there is none.
    pub fn new() -> Listener {
        Listener::at("127.0.0.1:0")
    }

    /// At an address.
    ///
    /// # Panics
    /// If it cannot be.
    pub fn at(addr: &str) -> Listener {
        Listener(TcpListener::bind(addr).expect("a port"))
    }

    /// Where.
    ///
    /// # Panics
    /// If the socket has no address.
    pub fn addr(&self) -> SocketAddr {
        self.0.local_addr().expect("an address")
    }

    /// The next connection of the server.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn accept(&self) -> Called {
        let (stream, _) = self.0.accept().expect("a connection");
        Called(Client::over(stream))
    }
}

/// A connection of the server to a client of version 4.0.
pub struct Called(pub Client);

impl Called {
    /// The next callback.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn callback(&mut self) -> Callback {
        let record = self.0.try_record(PATIENCE).expect("a record");
        Callback::of(&record.expect("no end"))
    }

    /// Answers a callback.
    #[track_caller]
    pub fn answer(&mut self, callback: &Callback, status: Nfsstat4, body: &impl Encode) {
        let body = encode(body);
        self.0.send_record(&callback.reply(status, &body));
    }

    /// Answers the CB_NULL that comes.
    #[track_caller]
    pub fn prove(&mut self) {
        let null = self.callback();
        assert!(null.null, "CB_NULL");
        self.answer(&null, Nfsstat4::Ok, &());
    }
}
