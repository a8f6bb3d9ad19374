//! Whole COMPOUNDs against a server without files: what the loop and the operations on clients and
//! sessions make of them.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;
use vfs::exec::{self, Remote};
use vfs::uring::RingConfig;

use super::Op4;
use super::compound;
use super::op::backchannel_ctl::BackchannelCtlArgs;
use super::op::bind_conn_to_session::{
    BindConnToSessionArgs, BindConnToSessionRes, ChannelDirFromClient4, ChannelDirFromServer4,
};
use super::op::create_session::{ChannelAttrs4, CreateSessionArgs, CreateSessionRes};
use super::op::exchange_id::{self, ClientOwner4, ExchangeIdArgs, ExchangeIdRes, StateProtect4A};
use super::op::sequence::{SequenceArgs, SequenceRes};
use super::op::set_ssv::{SetSsvArgs, Ssv4};
use super::op::setclientid::{
    CbClient4, NetName4, Netaddr4, NfsClientId4, SetclientidArgs, SetclientidRes,
};
use super::op::setclientid_confirm::SetclientidConfirmArgs;
use super::recovery::RecoveryStore;
use super::state::{Config as Limits, Counts, State};
use super::status::Nfsstat4 as S;
use super::types::{Component4, OwnerName4, Sessionid4, StateOwner4, Tag4};
use crate::config::Config;
use crate::conn::BackConn;
use crate::cx::{Client, Cx, Reply};
use crate::export::names::{Names, SystemResolver};
use crate::fh::HandleKey;
use crate::rpc::auth::{Identity, Unix};
use crate::server::{Parts, Shared};
use crate::xdr::{Dec, Decode, Enc, Encode};

/// Bytes of an RPC reply header.
const HEAD: usize = 24;

fn server() -> Arc<Shared> {
    let limits = Limits {
        server_owner: b"owner"[..].into(),
        ..Limits::default()
    };
    let dir = tempfile::tempdir().expect("a directory");
    let store = RecoveryStore::open(&dir.path().join("db"), limits.lease);
    let (recovery, previous) = store.expect("a store");
    let parts = Parts {
        key: HandleKey::new([1; 16]),
        names: Names::start(Arc::new(SystemResolver)).expect("threads"),
        remotes: vec![Remote::new(0).expect("a mailbox")],
        port: 2049,
        recovery,
        previous,
    };
    let mut shared = Shared::new(Config::for_memory(4 << 30), parts);
    shared.state = State::new(77, limits);
    Arc::new(shared)
}

/// Operations of a request.
#[derive(Clone, Default)]
struct Ops(Vec<u8>, u32);

impl Ops {
    fn bare(mut self, op: Op4) -> Self {
        let mut enc = Enc::new(&mut self.0, 1 << 20);
        enc.put(&op).expect("fits");
        self.1 += 1;
        self
    }

    fn op(mut self, op: Op4, args: &impl Encode) -> Self {
        let mut enc = Enc::new(&mut self.0, 1 << 20);
        enc.put(&op).expect("fits");
        enc.put(args).expect("fits");
        self.1 += 1;
        self
    }
}

/// A reply: its status and results.
struct Answer {
    status: S,
    results: u32,
    bytes: Vec<u8>,
    unkept: bool,
    at: usize,
}

impl Answer {
    fn word(&mut self) -> u32 {
        let word = Dec::new(&self.bytes[self.at..]).u32().expect("a word");
        self.at += 4;
        word
    }

    /// The next result must be that of `op`; its status.
    fn status(&mut self, op: Op4) -> S {
        assert_eq!(self.word(), op.wire());
        S::from_wire(self.word()).expect("a status")
    }

    /// The next result must be success of `op`.
    fn ok<'a, T: Decode<'a>>(&'a mut self, op: Op4) -> T {
        assert_eq!(self.status(op), S::Ok, "{op}");
        let mut dec = Dec::new(&self.bytes[self.at..]);
        let before = dec.remaining();
        let value = dec.get().expect("decodes");
        self.at += before - dec.remaining();
        value
    }
}

/// A client on a connection.
struct Peer {
    server: Arc<Shared>,
    client: Rc<Client>,
    uid: u32,
    /// Session and next number of its slot 0.
    session: Sessionid4,
    number: u32,
}

impl Peer {
    async fn send(&self, minor: u32, ops: &Ops) -> Answer {
        let mut args = Vec::new();
        let mut enc = Enc::new(&mut args, 1 << 20);
        enc.put(&Tag4(b"tag")).expect("fits");
        enc.u32(minor).expect("fits");
        enc.u32(ops.1).expect("fits");
        enc.raw(&ops.0).expect("fits");
        let pool = exec::with_ring(|ring| ring.pool.clone());
        let buf = pool.get(args.len() + 100);
        let cx = Cx {
            server: self.server.clone(),
            client: self.client.clone(),
            identity: Identity::Unix(Unix {
                uid: self.uid,
                gid: 0,
                gids: ArrayVec::new(),
            }),
            record: Rc::new(buf.await.expect("a buffer")),
            asked: Cell::default(),
        };
        let mut reply = Reply {
            bytes: vec![0; HEAD],
            ..Reply::default()
        };
        let done = compound::run(&cx, Dec::new(&args), &mut reply).await;
        done.expect("answered");
        let bytes = reply.bytes.split_off(HEAD);
        let mut dec = Dec::new(&bytes);
        let status = dec.get().expect("a status");
        assert_eq!(dec.get(), Ok(Tag4(b"tag")));
        let results = dec.u32().expect("a number");
        Answer {
            status,
            results,
            at: bytes.len() - dec.remaining(),
            bytes,
            unkept: reply.unkept,
        }
    }

    /// A request of one operation.
    async fn one(&self, minor: u32, op: Op4, args: &impl Encode) -> Answer {
        self.send(minor, &Ops::default().op(op, args)).await
    }

    fn sequence(&self) -> SequenceArgs {
        SequenceArgs {
            sessionid: self.session,
            sequenceid: self.number,
            slotid: 0,
            highest_slotid: 0,
            cachethis: true,
        }
    }

    fn sequenced(&self) -> Ops {
        Ops::default().op(Op4::Sequence, &self.sequence())
    }

    /// The next request in slot 0: SEQUENCE and one operation. The status of that.
    async fn next(&mut self, op: Op4, args: &impl Encode) -> S {
        let mut answer = self.send(1, &self.sequenced().op(op, args)).await;
        self.number += 1;
        answer.ok::<SequenceRes>(Op4::Sequence);
        answer.status(op)
    }

    /// EXCHANGE_ID and CREATE_SESSION.
    async fn open(&mut self) -> u64 {
        let mut answer = self.one(1, Op4::ExchangeId, &introduction(b"me")).await;
        let clientid = answer.ok::<ExchangeIdRes<'_>>(Op4::ExchangeId).clientid;
        let mut answer = self
            .one(1, Op4::CreateSession, &creation(clientid, 1))
            .await;
        let created: CreateSessionRes = answer.ok(Op4::CreateSession);
        (self.session, self.number) = (created.sessionid, 1);
        clientid
    }
}

fn introduction(name: &[u8]) -> ExchangeIdArgs<'_> {
    ExchangeIdArgs {
        clientowner: ClientOwner4 {
            verifier: [1; 8],
            ownerid: OwnerName4(name),
        },
        flags: 0,
        state_protect: StateProtect4A::None,
        client_impl_id: ArrayVec::new(),
    }
}

fn introduction_40() -> SetclientidArgs<'static> {
    SetclientidArgs {
        client: NfsClientId4 {
            verifier: [1; 8],
            id: OwnerName4(b"me"),
        },
        callback: CbClient4 {
            program: 1,
            location: Netaddr4 {
                netid: NetName4(b"tcp"),
                addr: NetName4(b"127.0.0.1.3.4"),
            },
        },
        callback_ident: 5,
    }
}

fn creation(clientid: u64, sequence: u32) -> CreateSessionArgs<'static> {
    let channel = ChannelAttrs4 {
        headerpadsize: 64,
        maxrequestsize: 2048,
        maxresponsesize: 1024,
        maxresponsesize_cached: 512,
        maxoperations: 8,
        maxrequests: 4,
        rdma_ird: ArrayVec::new(),
    };
    CreateSessionArgs {
        clientid,
        sequence,
        flags: 0,
        fore_chan_attrs: channel.clone(),
        back_chan_attrs: channel,
        cb_program: 1,
        sec_parms: ArrayVec::new(),
    }
}

fn client() -> Rc<Client> {
    let addr = SocketAddr::from(([127, 0, 0, 1], 1000));
    let remote = Remote::new(0).expect("a mailbox");
    Client::new(addr, None, BackConn::new(remote, addr))
}

fn on_worker(test: impl AsyncFnOnce(Peer) + 'static) {
    let ring = RingConfig {
        entries: 16,
        fixed_files: 16,
        ..RingConfig::default()
    };
    let peer = Peer {
        server: server(),
        client: client(),
        uid: 0,
        session: [0; 16],
        number: 0,
    };
    exec::block_on(&ring, async move { test(peer).await }).expect("a worker");
}

#[test]
fn exchange_id_and_create_session_make_a_session() {
    on_worker(async |mut peer: Peer| {
        let mut answer = peer.one(1, Op4::ExchangeId, &introduction(b"me")).await;
        let res: ExchangeIdRes<'_> = answer.ok(Op4::ExchangeId);
        assert_eq!(res.flags, exchange_id::USE_NON_PNFS);
        assert_eq!(
            (res.server_owner.major_id.0, res.server_scope.0),
            (&b"owner"[..], &b"owner"[..])
        );
        let clientid = res.clientid;
        let mut answer = peer
            .one(2, Op4::CreateSession, &creation(clientid, 1))
            .await;
        let res: CreateSessionRes = answer.ok(Op4::CreateSession);
        let mut channel = creation(clientid, 1).fore_chan_attrs;
        channel.headerpadsize = 0;
        assert_eq!((res.sequence, res.fore_chan_attrs), (1, channel));
        peer.session = res.sessionid;
        peer.number = 1;
        let mut answer = peer.one(1, Op4::ExchangeId, &introduction(b"me")).await;
        let flags = answer.ok::<ExchangeIdRes<'_>>(Op4::ExchangeId).flags;
        assert_eq!(flags, exchange_id::USE_NON_PNFS | exchange_id::CONFIRMED_R);
        assert_eq!(peer.next(Op4::Savefh, &()).await, S::Nofilehandle);
    });
}

#[test]
fn sequence_comes_first_and_replays() {
    on_worker(async |mut peer: Peer| {
        peer.open().await;
        let ops = peer
            .sequenced()
            .op(Op4::Putrootfh, &())
            .op(Op4::Savefh, &());
        let mut first = peer.send(1, &ops).await;
        assert_eq!((first.status, first.results), (S::Ok, 3));
        let res: SequenceRes = first.ok(Op4::Sequence);
        assert_eq!(
            (
                res.highest_slotid,
                res.target_highest_slotid,
                res.status_flags
            ),
            (3, 3, 0)
        );
        let again = peer.send(1, &ops).await;
        assert_eq!(again.bytes, first.bytes);
        // Another request under the same number.
        let other = peer
            .sequenced()
            .op(Op4::Putrootfh, &())
            .op(Op4::Restorefh, &());
        let refused = peer.send(1, &other).await;
        assert_eq!((refused.status, refused.results), (S::SeqFalseRetry, 1));
        peer.number = 2;
        assert_eq!(
            peer.next(Op4::Sequence, &peer.sequence()).await,
            S::SequencePos
        );
        let bare = Ops::default().op(Op4::Putrootfh, &());
        assert_eq!(peer.send(1, &bare).await.status, S::OpNotInSession);
    });
}

#[test]
fn sequence_bounds_requests_and_replies() {
    on_worker(async |mut peer: Peer| {
        peer.open().await;
        let many = (0..8).fold(peer.sequenced(), |ops, _| ops.op(Op4::Putrootfh, &()));
        assert_eq!(peer.send(1, &many).await.status, S::TooManyOps);
        let long = OwnerName4(&[b'x'; 1024]);
        let big = peer.sequenced().op(Op4::Getfh, &long).op(Op4::Getfh, &long);
        assert_eq!(peer.send(1, &big).await.status, S::ReqTooBig);
        // EXCHANGE_ID is sure of its reply only with more room than this session has.
        for (cachethis, status) in [(true, S::RepTooBigToCache), (false, S::RepTooBig)] {
            let sequence = SequenceArgs {
                cachethis,
                ..peer.sequence()
            };
            let ops = Ops::default().op(Op4::Sequence, &sequence);
            let ops = ops.op(Op4::ExchangeId, &introduction(b"other"));
            assert_eq!(peer.send(1, &ops).await.status, status);
            peer.number += 1;
        }
        assert_eq!(peer.server.state.counts().clients, 1);
    });
}

#[test]
fn what_was_not_kept_is_not_run_again() {
    on_worker(async |mut peer: Peer| {
        peer.open().await;
        // A request that ended without a reply.
        let session = peer.server.state.session(&peer.session).expect("there");
        let ops = peer.sequenced().op(Op4::Putrootfh, &());
        let sent = peer.send(1, &ops).await;
        assert_eq!(sent.status, S::Ok);
        session.forget_replies();
        let mut again = peer.send(1, &ops).await;
        assert_eq!((again.status, again.results), (S::RetryUncachedRep, 2));
        again.ok::<SequenceRes>(Op4::Sequence);
        assert_eq!(again.status(Op4::Putrootfh), S::RetryUncachedRep);
        // SEQUENCE alone can be answered at any time.
        peer.number = 2;
        let alone = peer.sequenced();
        assert_eq!(peer.send(1, &alone).await.status, S::Ok);
        session.forget_replies();
        assert_eq!(peer.send(1, &alone).await.status, S::Ok);
    });
}

#[test]
fn destroy_session_and_destroy_clientid_leave_nothing() {
    on_worker(async |mut peer: Peer| {
        let clientid = peer.open().await;
        let own = peer.session;
        let early = peer
            .sequenced()
            .op(Op4::DestroySession, &own)
            .op(Op4::Putrootfh, &());
        assert_eq!(peer.send(1, &early).await.status, S::NotOnlyOp);
        peer.number += 1;
        assert_eq!(
            peer.next(Op4::DestroyClientid, &clientid).await,
            S::ClientidBusy
        );
        assert_eq!(peer.next(Op4::DestroySession, &own).await, S::Ok);
        let gone = peer.one(1, Op4::DestroySession, &own).await;
        assert_eq!(gone.status, S::Badsession);
        let crowd = Ops::default().op(Op4::DestroyClientid, &clientid);
        let crowd = crowd.op(Op4::DestroyClientid, &clientid);
        assert_eq!(peer.send(1, &crowd).await.status, S::NotOnlyOp);
        let done = peer.one(1, Op4::DestroyClientid, &clientid).await;
        assert_eq!(done.status, S::Ok);
        assert_eq!(peer.server.state.counts(), Counts::default());
    });
}

#[test]
fn bind_conn_to_session_is_alone() {
    on_worker(async |mut peer: Peer| {
        peer.open().await;
        let args = |dir| BindConnToSessionArgs {
            sessid: peer.session,
            dir,
            use_conn_in_rdma_mode: false,
        };
        let fore = args(ChannelDirFromClient4::ForeOrBoth);
        let mut answer = peer.one(1, Op4::BindConnToSession, &fore).await;
        let res: BindConnToSessionRes = answer.ok(Op4::BindConnToSession);
        assert_eq!(res.dir, ChannelDirFromServer4::Both);
        let within = peer.next(Op4::BindConnToSession, &fore).await;
        assert_eq!(within, S::NotOnlyOp);
    });
}

#[test]
fn backchannel_ctl_is_for_the_session_of_the_request() {
    on_worker(async |mut peer: Peer| {
        peer.open().await;
        let args = BackchannelCtlArgs {
            cb_program: 99,
            sec_parms: ArrayVec::new(),
        };
        assert_eq!(peer.next(Op4::BackchannelCtl, &args).await, S::Ok);
        let session = peer.server.state.session(&peer.session).expect("there");
        assert_eq!(session.callback().program, 99);
        let bare = peer.one(1, Op4::BackchannelCtl, &args).await;
        assert_eq!(bare.status, S::OpNotInSession);
    });
}

#[test]
fn reclaim_complete_once_and_set_ssv_never() {
    on_worker(async |mut peer: Peer| {
        peer.open().await;
        assert_eq!(
            peer.next(Op4::ReclaimComplete, &true).await,
            S::Nofilehandle
        );
        assert_eq!(peer.next(Op4::ReclaimComplete, &false).await, S::Ok);
        let again = peer.next(Op4::ReclaimComplete, &false).await;
        assert_eq!(again, S::CompleteAlready);
        let secret = SetSsvArgs {
            ssv: Ssv4(b"s"),
            digest: Ssv4(b"d"),
        };
        assert_eq!(peer.next(Op4::SetSsv, &secret).await, S::Inval);
    });
}

#[test]
fn setclientid_setclientid_confirm_and_renew() {
    on_worker(async |mut peer: Peer| {
        let args = introduction_40();
        let mut answer = peer.one(0, Op4::Setclientid, &args).await;
        let res: SetclientidRes = answer.ok(Op4::Setclientid);
        assert!(!answer.unkept, "to be kept for a retransmission");
        let confirm = SetclientidConfirmArgs {
            clientid: res.clientid,
            confirm: res.confirm,
        };
        let early = peer.one(0, Op4::Renew, &res.clientid).await;
        assert_eq!(early.status, S::StaleClientid);
        let done = peer.one(0, Op4::SetclientidConfirm, &confirm).await;
        assert_eq!((done.status, done.unkept), (S::Ok, false));
        let renewed = peer.one(0, Op4::Renew, &res.clientid).await;
        assert_eq!((renewed.status, renewed.unkept), (S::Ok, true));
        // Somebody else of that name, while a session stands for something it has.
        let number = peer.server.state.number_of(res.clientid).expect("ours");
        let client = peer.server.state.client(number).expect("there");
        peer.open().await;
        let session = peer.server.state.session(&peer.session).expect("there");
        client.lock().sessions.push(session);
        peer.uid = 9;
        let mut answer = peer.one(0, Op4::Setclientid, &args).await;
        assert_eq!(answer.status(Op4::Setclientid), S::ClidInuse);
        let user = answer.bytes.split_off(answer.at);
        assert_eq!(Dec::new(&user).get(), Ok(args.callback.location.clone()));
        // The versions do not mix.
        let status = peer.one(1, Op4::Setclientid, &args).await.status;
        assert_eq!(status, S::Notsupp);
        let status = peer
            .one(0, Op4::ExchangeId, &introduction(b"me"))
            .await
            .status;
        assert_eq!(status, S::OpIllegal);
    });
}

/// RFC 7530 9.5: who waits for others to return a delegation asks again and again, and is there.
#[test]
fn open_renews_the_lease_whatever_becomes_of_it() {
    on_worker(async |peer: Peer| {
        let args = introduction_40();
        let mut answer = peer.one(0, Op4::Setclientid, &args).await;
        let SetclientidRes { clientid, confirm } = answer.ok(Op4::Setclientid);
        let confirm = SetclientidConfirmArgs { clientid, confirm };
        let done = peer.one(0, Op4::SetclientidConfirm, &confirm).await;
        assert_eq!(done.status, S::Ok);
        let state = &peer.server.state;
        let number = state.number_of(clientid).expect("ours");
        let client = state.client(number).expect("there");
        // As if it had been heard of in the future: whatever renews its lease brings it back.
        let later = exec::now() + Duration::from_secs(3600);
        state.renew(&client, later);
        assert_eq!(state.silence(&client, later), Duration::ZERO);
        let mut ops = Ops::default().bare(Op4::Putrootfh).bare(Op4::Open);
        let mut enc = Enc::new(&mut ops.0, 1 << 20);
        // Sequence number, to read, denying nothing; an owner; a name that must be there.
        for word in [0, 1, 0] {
            enc.u32(word).expect("fits");
        }
        let owner = OwnerName4(b"owner");
        enc.put(&StateOwner4 { clientid, owner }).expect("fits");
        enc.u64(0).expect("fits");
        enc.put(&Component4(b"none")).expect("fits");
        let answer = peer.send(0, &ops).await;
        let refused = [S::Noent, S::Grace];
        assert!(refused.contains(&answer.status), "{}", answer.status);
        assert!(state.silence(&client, later) > Duration::from_secs(1000));
    });
}
