//! The side of the client that is called back: sessions whose connection takes callbacks between the replies (4.1), and
//! a listener of its own (4.0). Every callback must keep what RFC 8881 20.9 asks of slots and numbers.

use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use nfsd::nfs4::Op4;
use nfsd::nfs4::cb::wire::{
    CB_COMPOUND, CB_NULL, CB_VERSION, CbOp4, CbSequence4args, CbSequence4resok,
};
use nfsd::nfs4::op::create_session::{
    CallbackSecParms4, ChannelAttrs4, CreateSessionArgs, CreateSessionRes,
};
use nfsd::nfs4::op::exchange_id::{ClientOwner4, ExchangeIdArgs, ExchangeIdRes, StateProtect4A};
use nfsd::nfs4::op::sequence::{SequenceArgs, SequenceRes};
use nfsd::nfs4::status::Nfsstat4;
use nfsd::nfs4::types::{OwnerName4, Sessionid4, Tag4};
use nfsd::rpc::msg::{Parsed, parse, success_header};
use nfsd::xdr::{Dec, Decode, Encode};

use super::nfs4::{COMPOUND, Ops, Raw, Results};
use super::{Answer, Client, PATIENCE, encode};

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
    null: bool,
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

/// A client of version 4.1 or 4.2: one session, one slot, one connection.
pub struct Session {
    /// The connection.
    pub client: Client,
    /// Minor version.
    pub minor: u32,
    /// Client ID.
    pub clientid: u64,
    /// Session ID.
    pub id: Sessionid4,
    /// `sr_status_flags` of the last request.
    pub flags: u32,
    sequence: u32,
    came: VecDeque<Callback>,
    /// Numbers of the last callback in each slot.
    slots: HashMap<u32, u32>,
}

fn channel(slots: u32) -> ChannelAttrs4 {
    ChannelAttrs4 {
        headerpadsize: 0,
        maxrequestsize: 1 << 20,
        maxresponsesize: 1 << 20,
        maxresponsesize_cached: 4096,
        maxoperations: 16,
        maxrequests: slots,
        rdma_ird: Default::default(),
    }
}

impl Session {
    /// A new client of this name; `back`: its connection takes callbacks.
    ///
    /// # Panics
    /// If the server does not take it.
    #[track_caller]
    pub fn new(client: Client, minor: u32, name: &[u8], back: bool) -> Session {
        let mut session = Session {
            client,
            minor,
            clientid: 0,
            id: [0; 16],
            flags: 0,
            sequence: 0,
            came: VecDeque::new(),
            slots: HashMap::new(),
        };
        let introduce = ExchangeIdArgs {
            clientowner: ClientOwner4 {
                verifier: [1; 8],
                ownerid: OwnerName4(name),
            },
            flags: 0,
            state_protect: StateProtect4A::None,
            client_impl_id: Default::default(),
        };
        let mut done = session.outside(&Ops::new().op(Op4::ExchangeId, &introduce));
        let introduced: ExchangeIdRes<'_> = done.body(Op4::ExchangeId);
        (session.clientid, session.sequence) = (introduced.clientid, introduced.sequenceid);
        session.create(back);
        let all = Ops::new().op(Op4::ReclaimComplete, &false);
        session.compound(&all).ok(Op4::ReclaimComplete);
        session
    }

    #[track_caller]
    fn create(&mut self, back: bool) {
        let args = CreateSessionArgs {
            clientid: self.clientid,
            sequence: self.sequence,
            flags: if back { 2 } else { 0 },
            fore_chan_attrs: channel(4),
            back_chan_attrs: channel(4),
            cb_program: PROGRAM,
            sec_parms: [CallbackSecParms4::None].into_iter().collect(),
        };
        let mut done = self.outside(&Ops::new().op(Op4::CreateSession, &args));
        let created: CreateSessionRes = done.body(Op4::CreateSession);
        assert_eq!(created.flags, args.flags);
        (self.id, self.sequence) = (created.sessionid, 0);
    }

    /// A COMPOUND outside of the session.
    #[track_caller]
    pub fn outside(&mut self, ops: &Ops) -> Results {
        let xid = self
            .client
            .start(COMPOUND, &Raw(&ops.args(self.minor, b"")));
        self.results(xid)
    }

    /// Sends a COMPOUND in the session.
    #[track_caller]
    pub fn start(&mut self, ops: &Ops) -> u32 {
        self.sequence += 1;
        let sequence = SequenceArgs {
            sessionid: self.id,
            sequenceid: self.sequence,
            slotid: 0,
            highest_slotid: 0,
            cachethis: false,
        };
        let ops = Ops::new().op(Op4::Sequence, &sequence).then(ops);
        self.client
            .start(COMPOUND, &Raw(&ops.args(self.minor, b"")))
    }

    /// The results of a COMPOUND in the session, behind SEQUENCE. Callbacks that come before are kept.
    #[track_caller]
    pub fn finish(&mut self, xid: u32) -> Results {
        let mut done = self.results(xid);
        self.flags = done.body::<SequenceRes>(Op4::Sequence).status_flags;
        done
    }

    /// Sends a COMPOUND in the session and waits for its results.
    #[track_caller]
    pub fn compound(&mut self, ops: &Ops) -> Results {
        let xid = self.start(ops);
        self.finish(xid)
    }

    #[track_caller]
    fn results(&mut self, xid: u32) -> Results {
        loop {
            let record = self
                .client
                .try_record(PATIENCE)
                .expect("a record")
                .expect("no end");
            let mut words = Dec::new(&record);
            let (of, call) = (words.u32().expect("an xid"), words.u32() == Ok(0));
            if call {
                self.take(&record);
            } else {
                assert_eq!(of, xid, "another reply");
                return Results::of(&Answer { record });
            }
        }
    }

    #[track_caller]
    fn take(&mut self, record: &[u8]) {
        let callback = Callback::of(record);
        let sequence = callback.sequence.as_ref().expect("CB_SEQUENCE");
        assert_eq!(sequence.sessionid, self.id);
        let last = self.slots.entry(sequence.slotid).or_default();
        assert_eq!(sequence.sequenceid, *last + 1, "slot {}", sequence.slotid);
        *last += 1;
        self.came.push_back(callback);
    }

    /// The next callback.
    ///
    /// # Panics
    /// If none comes.
    #[track_caller]
    pub fn callback(&mut self) -> Callback {
        self.callback_within(PATIENCE).expect("a callback")
    }

    /// The next callback, if one comes in time.
    #[track_caller]
    pub fn callback_within(&mut self, patience: Duration) -> Option<Callback> {
        if self.came.is_empty()
            && let Ok(Some(record)) = self.client.try_record(patience)
        {
            self.take(&record);
        }
        self.came.pop_front()
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
        Listener(TcpListener::bind("127.0.0.1:0").expect("a port"))
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
