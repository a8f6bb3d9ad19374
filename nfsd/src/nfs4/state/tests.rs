//! The state against time that passes only when told to.

mod clients;
mod clients40;
mod leases;
mod sessions;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::client::{Callback4, Client, Principal, SeqStatus, Who};
use super::create::{CreateFlags, CreateSession, Created};
use super::exchange::Exchanged;
use super::session::{Back, CbSec, CbTarget, Channel, Direction, Sequence, Turn};
use super::setclientid::Refused;
use super::slot::{Print, SlotGuard};
use super::{Config, Counts, State};
use crate::nfs4::status::Nfsstat4 as S;
use crate::nfs4::types::{Clientid4, Sessionid4, Verifier4};

const ROOT: Principal = Principal::Sys(0);
const OTHER: Principal = Principal::Sys(7);

/// A state and its time.
struct World {
    state: State,
    now: Instant,
}

fn world() -> World {
    world_with(Config::default())
}

fn world_with(config: Config) -> World {
    World {
        state: State::new(0x1234_5678, config),
        now: vfs::exec::now(),
    }
}

fn who(owner: &[u8], boot: u8, principal: Principal) -> Who<'_> {
    Who {
        minor: 1,
        owner,
        verifier: [boot; 8],
        principal,
        address: IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

const CHANNEL: Channel = Channel {
    max_request: 4096,
    max_response: 4096,
    max_cached: 1024,
    max_ops: 16,
    slots: 4,
};

fn creation(clientid: Clientid4, sequence: u32) -> CreateSession {
    CreateSession {
        clientid,
        sequence,
        flags: 0,
        fore: CHANNEL,
        back: CHANNEL,
        target: CbTarget {
            program: 0x4000_0000,
            sec: CbSec::None,
        },
        principal: ROOT,
        conn: None,
    }
}

fn callback(ident: u32) -> Callback4 {
    Callback4 {
        program: 0x4000_0000,
        netid: b"tcp"[..].into(),
        addr: b"127.0.0.1.3.4"[..].into(),
        ident,
    }
}

fn sequence(session: Sessionid4, slot: u32, number: u32) -> Sequence {
    Sequence {
        session,
        sequence: number,
        slot,
        keep: true,
        print: Print {
            principal: ROOT,
            ops: 2,
            sum: 99,
        },
        request_bytes: 200,
        reply_bytes: 100,
    }
}

impl World {
    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn exchange(&self, who: &Who<'_>) -> Result<Exchanged, S> {
        self.state.exchange_id(who, false, self.now)
    }

    fn create(&self, ask: CreateSession) -> Result<Created, S> {
        let created = self.state.create_session(ask, self.now);
        created.map(|(_, created)| created)
    }

    /// A confirmed 4.1 client with a session.
    fn client(&self, owner: &[u8], boot: u8) -> (Arc<Client>, Sessionid4) {
        let found = self.exchange(&who(owner, boot, ROOT)).expect("new");
        let created = self.create(creation(found.client.clientid, found.sequence));
        (found.client, created.expect("created").session)
    }

    /// A confirmed 4.0 client.
    fn client40(&self, owner: &[u8], boot: u8) -> Arc<Client> {
        let who = who(owner, boot, ROOT);
        let (clientid, confirm) = self.set(&who, 1).expect("set");
        let done = self.confirm(clientid, confirm);
        done.expect("confirmed")
    }

    fn set(&self, who: &Who<'_>, ident: u32) -> Result<(Clientid4, Verifier4), Refused> {
        let who = Who { minor: 0, ..*who };
        self.state.setclientid(&who, callback(ident), self.now)
    }

    fn confirm(&self, clientid: Clientid4, confirm: Verifier4) -> Result<Arc<Client>, S> {
        self.state
            .setclientid_confirm(clientid, confirm, ROOT, self.now)
    }

    fn begin(&self, ask: &Sequence) -> Result<SlotGuard, S> {
        match self.state.sequence(ask, self.now)? {
            Turn::New(slot) => Ok(slot),
            Turn::Replay(_) | Turn::Unkept(_) => panic!("not new"),
        }
    }

    /// Every table is empty.
    #[track_caller]
    fn assert_empty(&self) {
        assert_eq!(self.state.counts(), Counts::default());
    }
}

/// A connection that can be closed.
struct Wire(u64, AtomicBool);

impl Back for Wire {
    fn id(&self) -> u64 {
        self.0
    }
    fn is_open(&self) -> bool {
        self.1.load(Ordering::Relaxed)
    }
}

fn wire(id: u64) -> Arc<Wire> {
    Arc::new(Wire(id, AtomicBool::new(true)))
}

impl Wire {
    fn close(&self) {
        self.1.store(false, Ordering::Relaxed);
    }
}
