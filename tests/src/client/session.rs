//! A client of NFS version 4.1 and above: it introduces itself, has a session, and counts its slots. Arguments and
//! results of these few operations are put together by hand, so that a mistake of the server's codec is seen.

use std::sync::atomic::{AtomicU64, Ordering};

use nfsd::nfs4::Op4;
use nfsd::nfs4::op::setclientid::{
    CbClient4, NetName4, Netaddr4, NfsClientId4, SetclientidArgs, SetclientidRes,
};
use nfsd::nfs4::op::setclientid_confirm::SetclientidConfirmArgs;
use nfsd::nfs4::status::Nfsstat4;
use nfsd::nfs4::types::{OwnerName4, Sessionid4, Verifier4};

use super::Client;
use super::callbacks::{Callbacks, PROGRAM};
use super::nfs4::{COMPOUND, Ops, Raw, Results};

/// What a client introduces itself with, and what it asks for.
#[derive(Clone, Debug)]
pub struct Terms {
    /// Minor version.
    pub minor: u32,
    /// Its name (`co_ownerid`).
    pub owner: Vec<u8>,
    /// Tells its boots apart (`co_verifier`).
    pub verifier: Verifier4,
    /// `csa_flags`: 1 persistent, 2 this connection is for callbacks as well.
    pub flags: u32,
    /// Most bytes of a request and of a reply.
    pub message: u32,
    /// Most bytes of a reply that is kept.
    pub cached: u32,
    /// Operations of a request.
    pub ops: u32,
    /// Slots.
    pub slots: u32,
    /// RPC program of callbacks.
    pub program: u32,
    /// Send RECLAIM_COMPLETE.
    pub reclaim_complete: bool,
}

impl Terms {
    /// A client nobody else is, of a minor version.
    pub fn new(minor: u32) -> Terms {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Terms {
            minor,
            owner: format!("client {} {number}", std::process::id()).into_bytes(),
            verifier: number.to_be_bytes(),
            flags: 0,
            message: (1 << 20) + 8192,
            cached: 4096,
            ops: 64,
            slots: 16,
            program: PROGRAM,
            reclaim_complete: true,
        }
    }

    /// The same client boot whoever makes it, of this name.
    #[must_use]
    pub fn named(mut self, owner: &[u8]) -> Terms {
        self.owner = owner.to_vec();
        self.verifier = [1; 8];
        self
    }

    /// Its connection takes callbacks.
    #[must_use]
    pub fn called_back(mut self) -> Terms {
        self.flags |= 2;
        self
    }

    /// `EXCHANGE_ID4args` with these flags, state not protected.
    pub fn exchange_id(&self, flags: u32) -> Vec<u8> {
        let mut args = self.verifier.to_vec();
        args.extend(opaque(&self.owner));
        args.extend(words(&[flags, 0, 0]));
        args
    }

    /// `CREATE_SESSION4args`; callbacks come with AUTH_NONE.
    pub fn create_session(&self, clientid: u64, sequence: u32) -> Vec<u8> {
        let mut args = clientid.to_be_bytes().to_vec();
        args.extend(words(&[sequence, self.flags]));
        for slots in [self.slots, 4] {
            args.extend(words(&[0, self.message, self.message, self.cached]));
            args.extend(words(&[self.ops, slots, 0]));
        }
        args.extend(words(&[self.program, 1, 0]));
        args
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

fn opaque(bytes: &[u8]) -> Vec<u8> {
    let mut out = words(&[bytes.len() as u32]);
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// `EXCHANGE_ID4resok`, the part a client goes on with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduced {
    /// The client ID.
    pub clientid: u64,
    /// Number for the first CREATE_SESSION.
    pub sequence: u32,
    /// `eir_flags`.
    pub flags: u32,
}

impl Client {
    /// EXCHANGE_ID.
    ///
    /// # Errors
    /// Its status.
    ///
    /// # Panics
    /// On malformed results.
    #[track_caller]
    pub fn exchange_id(&mut self, terms: &Terms, flags: u32) -> Result<Introduced, Nfsstat4> {
        let ops = Ops::new().raw(Op4::ExchangeId.wire(), &terms.exchange_id(flags));
        let mut done = self.compound(terms.minor, &ops);
        match done.status_of(Op4::ExchangeId) {
            Nfsstat4::Ok => Ok(Introduced {
                clientid: done.more(),
                sequence: done.more(),
                flags: done.more(),
            }),
            status => Err(status),
        }
    }

    /// SETCLIENTID and its confirmation, of a client nobody can call back. Its client ID.
    ///
    /// # Panics
    /// If either fails.
    #[track_caller]
    pub fn setclientid(&mut self, name: &str, verifier: Verifier4) -> u64 {
        let args = SetclientidArgs {
            client: NfsClientId4 {
                verifier,
                id: OwnerName4(name.as_bytes()),
            },
            callback: CbClient4 {
                program: 1,
                location: Netaddr4 {
                    netid: NetName4(b"tcp"),
                    addr: NetName4(b"0.0.0.0.0.0"),
                },
            },
            callback_ident: 1,
        };
        let mut done = self.compound(0, &Ops::new().op(Op4::Setclientid, &args));
        let made: SetclientidRes = done.body(Op4::Setclientid);
        let confirm = SetclientidConfirmArgs {
            clientid: made.clientid,
            confirm: made.confirm,
        };
        let mut done = self.compound(0, &Ops::new().op(Op4::SetclientidConfirm, &confirm));
        done.ok(Op4::SetclientidConfirm);
        made.clientid
    }

    /// CREATE_SESSION, alone.
    ///
    /// # Errors
    /// Its status.
    ///
    /// # Panics
    /// On malformed results.
    #[track_caller]
    pub fn create_session(
        &mut self,
        terms: &Terms,
        clientid: u64,
        sequence: u32,
    ) -> Result<Created, Nfsstat4> {
        let args = terms.create_session(clientid, sequence);
        let ops = Ops::new().raw(Op4::CreateSession.wire(), &args);
        let mut done = self.compound(terms.minor, &ops);
        match done.status_of(Op4::CreateSession) {
            Nfsstat4::Ok => {}
            status => return Err(status),
        }
        let id = done.more();
        assert_eq!(done.more::<u32>(), sequence, "another CREATE_SESSION");
        let flags = done.more();
        let mut channels = [[0; 7]; 2];
        for word in channels.as_flattened_mut() {
            *word = done.more();
        }
        done.end();
        let [_, _, message, cached, ops, slots, rdma] = channels[0];
        assert_eq!(rdma, 0, "no RDMA here");
        Ok(Created {
            id,
            flags,
            message,
            cached,
            ops,
            slots,
        })
    }
}

/// `CREATE_SESSION4resok`: what was granted, of the channel for requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    /// The session.
    pub id: Sessionid4,
    /// Of the flags.
    pub flags: u32,
    /// Most bytes of a reply.
    pub message: u32,
    /// Most bytes of a reply that is kept.
    pub cached: u32,
    /// Operations of a request.
    pub ops: u32,
    /// Slots.
    pub slots: u32,
}

/// A session over one connection.
pub struct Session {
    /// The connection.
    pub client: Client,
    /// Minor version.
    pub minor: u32,
    /// The client ID.
    pub clientid: u64,
    /// What was granted.
    pub created: Created,
    /// `sr_status_flags` of the last reply.
    pub status: u32,
    /// Ask for replies to be kept.
    pub keep: bool,
    pub(super) callbacks: Callbacks,
    /// Number of the last request of each slot.
    slots: Vec<u32>,
}

impl Session {
    /// A session of a client nobody else is, ready to be used.
    ///
    /// # Panics
    /// If the server does not grant it.
    #[track_caller]
    pub fn new(client: Client, minor: u32) -> Session {
        Session::on(client, &Terms::new(minor))
    }

    /// A session on these terms.
    ///
    /// # Panics
    /// As [`Session::new`].
    #[track_caller]
    pub fn on(mut client: Client, terms: &Terms) -> Session {
        let introduced = client.exchange_id(terms, 0);
        let introduced = introduced.unwrap_or_else(|e| panic!("EXCHANGE_ID: {e}"));
        let clientid = introduced.clientid;
        let created = client.create_session(terms, clientid, introduced.sequence);
        let created = created.unwrap_or_else(|e| panic!("CREATE_SESSION: {e}"));
        let mut session = Session::of(client, terms.minor, clientid, created);
        if terms.reclaim_complete {
            let all = Ops::new().op(Op4::ReclaimComplete, &false);
            session.call(&all).ok(Op4::ReclaimComplete);
        }
        session
    }

    /// A session there is already, over a connection, none of whose slots was used.
    pub fn of(client: Client, minor: u32, clientid: u64, created: Created) -> Session {
        Session {
            client,
            minor,
            clientid,
            created,
            status: 0,
            keep: false,
            callbacks: Callbacks::default(),
            slots: vec![0; created.slots as usize],
        }
    }

    /// SEQUENCE of the next request of a slot, and these operations.
    ///
    /// # Panics
    /// If there is no such slot.
    #[track_caller]
    pub fn sequenced(&mut self, slot: u32, ops: &Ops) -> Ops {
        let last = &mut self.slots[slot as usize];
        *last = last.wrapping_add(1);
        let mut args = self.created.id.to_vec();
        let highest = self.created.slots - 1;
        args.extend(words(&[*last, slot, highest, u32::from(self.keep)]));
        Ops::new().raw(Op4::Sequence.wire(), &args).then(ops)
    }

    /// Sends operations in a slot without waiting for their results.
    #[track_caller]
    pub fn start(&mut self, slot: u32, ops: &Ops) -> u32 {
        let ops = self.sequenced(slot, ops);
        let args = ops.args(self.minor, b"");
        self.client.start(COMPOUND, &Raw(&args))
    }

    /// The results of what was started, behind those of SEQUENCE.
    ///
    /// # Panics
    /// If SEQUENCE failed.
    #[track_caller]
    pub fn finish(&mut self, xid: u32) -> Results {
        let mut done = Results::of(&self.client.answer(xid));
        let id: Sessionid4 = done.body(Op4::Sequence);
        assert_eq!(id, self.created.id);
        for _ in 0..4 {
            done.more::<u32>();
        }
        self.status = done.more();
        done
    }

    /// Runs operations in slot 0.
    #[track_caller]
    pub fn call(&mut self, ops: &Ops) -> Results {
        let xid = self.start(0, ops);
        self.finish(xid)
    }

    /// Runs operations outside of the session.
    #[track_caller]
    pub fn outside(&mut self, ops: &Ops) -> Results {
        self.client.compound(self.minor, ops)
    }

    /// Runs operations on a file in slot 0; their results, PUTFH's taken.
    #[track_caller]
    pub fn at(&mut self, fh: &[u8], ops: &Ops) -> Results {
        let mut done = self.call(&Ops::new().putfh(fh).then(ops));
        done.ok(Op4::Putfh);
        done
    }

    /// The filehandle a walk from the root ends at.
    ///
    /// # Panics
    /// If it does not get there.
    #[track_caller]
    pub fn walk(&mut self, path: &str) -> super::Fh {
        let mut done = self.call(&Ops::new().putrootfh().walk(path).getfh());
        done.ok(Op4::Putrootfh);
        while done.left > 1 {
            done.ok(Op4::Lookup);
        }
        done.fh()
    }

    /// Ends the session and the client ID, and gives the connection back.
    ///
    /// # Panics
    /// If the server refuses.
    #[track_caller]
    pub fn end(mut self) -> Client {
        let ops = Ops::new().raw(Op4::DestroySession.wire(), &self.created.id);
        let mut done = self.client.compound(self.minor, &ops);
        done.ok(Op4::DestroySession);
        let ops = Ops::new().op(Op4::DestroyClientid, &self.clientid);
        let mut done = self.client.compound(self.minor, &ops);
        done.ok(Op4::DestroyClientid);
        self.client
    }
}

#[cfg(test)]
mod unit {
    use super::*;
    use crate::client::encode;

    #[test]
    fn clients_are_told_apart() {
        let (one, other) = (Terms::new(1), Terms::new(1));
        assert_ne!(one.owner, other.owner);
        assert_ne!(one.verifier, other.verifier);
        assert_eq!(opaque(b"abcde"), encode(&nfsd::nfs4::types::Tag4(b"abcde")));
    }
}
