//! The byte ranges of the hammer: LOCK, LOCKU and LOCKT, some of those who wait, against one byte for each byte.

use std::collections::HashMap;
use std::sync::Mutex;

use nfsd::nfs4::Op4;
use nfsd::nfs4::status::Nfsstat4 as S;
use nfsd::nfs4::types::*;
use tests::client::encode;
use tests::client::nfs4::{Ops, Raw};
use tests::client::session::Session;

use super::Dice;

/// Bytes of a file that are locked.
const BYTES: usize = 16;
const OWNER: OwnerName4<'_> = OwnerName4(b"locker");

/// How each byte is locked: not, shared, exclusive.
type Bytes = [u8; BYTES];

/// What each client has locked for sure, and how often that has changed.
#[derive(Default)]
pub(super) struct LockModel(Mutex<HashMap<usize, (Bytes, u64)>>);

fn clash(one: &Bytes, other: &Bytes) -> bool {
    let mut both = one.iter().zip(other);
    both.any(|(a, b)| *a > 0 && *b > 0 && a + b > 2)
}

impl LockModel {
    /// A client says what it has; nobody else may have what that excludes.
    fn claim(&self, client: usize, bytes: Bytes) {
        let mut model = self.0.lock().expect("no panic before");
        for (other, (has, _)) in model.iter().filter(|(other, _)| **other != client) {
            assert!(
                !clash(&bytes, has),
                "{client} has {bytes:?} and {other} has {has:?}"
            );
        }
        let entry = model.entry(client).or_default();
        *entry = (bytes, entry.1 + 1);
    }

    /// Whose locks exclude these now.
    fn against(&self, client: usize, bytes: &Bytes) -> Vec<(usize, u64)> {
        let model = self.0.lock().expect("no panic before");
        let others = model
            .iter()
            .filter(|(other, (has, _))| **other != client && clash(bytes, has));
        others.map(|(other, (_, count))| (*other, *count)).collect()
    }
}

/// What one client's lock-owner has locked under an open.
#[derive(Default)]
pub(super) struct Locked {
    stateid: Option<Stateid4>,
    bytes: Bytes,
}

/// A client, where it locks, and the open it does so under.
pub(super) struct At<'a> {
    pub client: usize,
    pub session: &'a mut Session,
    pub fh: &'a [u8],
    pub model: &'a LockModel,
    pub open: Stateid4,
    pub access: u32,
}

/// A random range, and the locks that are those of `kind` there and `bytes` elsewhere.
fn piece(dice: &mut Dice, bytes: &Bytes, kind: u8) -> ((u64, u64), Bytes) {
    let from = dice.below(BYTES as u64) as usize;
    let len = 1 + dice.below((BYTES - from) as u64) as usize;
    let mut then = *bytes;
    then[from..from + len].fill(kind);
    ((from as u64, len as u64), then)
}

impl Locked {
    /// One request; whether LOCK was granted.
    pub fn step(&mut self, at: &mut At<'_>, dice: &mut Dice) -> Option<bool> {
        match dice.below(8) {
            0..=3 => Some(self.lock(at, dice)),
            4..=6 => {
                self.unlock(at, dice);
                None
            }
            _ => {
                self.test(at, dice);
                None
            }
        }
    }

    fn lock(&mut self, at: &mut At<'_>, dice: &mut Dice) -> bool {
        let (kind, waits) = (1 + dice.below(2) as u8, dice.below(4) == 0);
        let (range, then) = piece(dice, &self.bytes, kind);
        // What it has before and afterwards.
        let mut both = self.bytes;
        both.iter_mut().zip(then).for_each(|(b, t)| *b = t.min(*b));
        at.model.claim(at.client, both);
        let args = self.lock_args(at, u32::from(kind) + if waits { 2 } else { 0 }, range);
        let ops = Ops::new().op(Op4::Lock, &Raw(&args));
        let mut done = at.session.at(at.fh, &ops);
        match done.status {
            S::Ok => {
                let next: Stateid4 = done.body(Op4::Lock);
                if let Some(had) = self.stateid {
                    assert_eq!((next.seqid, next.other), (had.seqid + 1, had.other));
                } else {
                    assert_eq!(next.seqid, 1);
                }
                (self.stateid, self.bytes) = (Some(next), then);
            }
            S::Openmode => assert_eq!(at.access & u32::from(kind), 0),
            S::Deadlock => assert!(waits),
            status => assert_eq!(status, S::Denied),
        }
        let granted = done.status == S::Ok;
        assert!(!granted || at.access & u32::from(kind) != 0);
        at.model.claim(at.client, self.bytes);
        granted
    }

    fn lock_args(&self, at: &At<'_>, locktype: u32, range: (u64, u64)) -> Vec<u8> {
        let mut args = encode(&locktype);
        args.extend(encode(&false));
        args.extend(encode(&range.0));
        args.extend(encode(&range.1));
        args.extend(encode(&self.stateid.is_none()));
        match &self.stateid {
            Some(stateid) => {
                args.extend(encode(stateid));
                args.extend(encode(&0_u32));
            }
            None => {
                args.extend(encode(&0_u32));
                args.extend(encode(&at.open));
                args.extend(encode(&0_u32));
                args.extend(encode(&whose()));
            }
        }
        args
    }

    fn unlock(&mut self, at: &mut At<'_>, dice: &mut Dice) {
        let Some(stateid) = self.stateid else { return };
        let (range, then) = piece(dice, &self.bytes, 0);
        at.model.claim(at.client, then);
        let mut args = encode(&2_u32);
        args.extend(encode(&0_u32));
        args.extend(encode(&stateid));
        args.extend(encode(&range.0));
        args.extend(encode(&range.1));
        let ops = Ops::new().op(Op4::Locku, &Raw(&args));
        let next: Stateid4 = at.session.at(at.fh, &ops).body(Op4::Locku);
        assert_eq!((next.seqid, next.other), (stateid.seqid + 1, stateid.other));
        (self.stateid, self.bytes) = (Some(next), then);
    }

    /// LOCKT may not overlook what was locked all the time.
    fn test(&self, at: &mut At<'_>, dice: &mut Dice) {
        let kind = 1 + dice.below(2) as u8;
        let (range, wanted) = piece(dice, &[0; BYTES], kind);
        let before = at.model.against(at.client, &wanted);
        let mut args = encode(&u32::from(kind));
        args.extend(encode(&range.0));
        args.extend(encode(&range.1));
        args.extend(encode(&whose()));
        let ops = Ops::new().op(Op4::Lockt, &Raw(&args));
        let status = at.session.at(at.fh, &ops).status;
        let after = at.model.against(at.client, &wanted);
        assert!([S::Ok, S::Denied].contains(&status), "{status}");
        let stayed = before.iter().any(|holder| after.contains(holder));
        assert!(status == S::Denied || !stayed, "{before:?} {after:?}");
    }

    /// The open is about to be closed, which unlocks all.
    pub fn let_go(&mut self, client: usize, model: &LockModel) {
        model.claim(client, [0; BYTES]);
        *self = Locked::default();
    }
}

fn whose() -> StateOwner4<'static> {
    StateOwner4 {
        clientid: 0,
        owner: OWNER,
    }
}
