//! The in-flight slab: every operation the kernel holds, with a generation per slot.

use std::any::Any;
use std::collections::VecDeque;
use std::task::Waker;

use io_uring::{cqueue, squeue};

/// A slot and the generation it had when it was filled.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// As `user_data`; the generation stays below 2^31, so it never meets the loop's own tags.
    pub(crate) fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    pub(crate) fn unpack(user_data: u64) -> Self {
        Key {
            index: user_data as u32,
            generation: (user_data >> 32) as u32,
        }
    }
}

/// An operation as the slab sees it.
pub(crate) trait AnyOp: 'static {
    fn code(&self) -> u8;
    fn sqe(&mut self) -> squeue::Entry;
    /// Frees what a completion nobody waits for carries (a descriptor, a buffer).
    fn discard(&mut self, res: i32, flags: u32);
    /// Test builds: ask for half of it.
    #[cfg(feature = "fault-injection")]
    fn shorten(&mut self);
    fn as_any_mut(&mut self) -> &mut dyn Any;
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

struct Slot {
    generation: u32,
    op: Option<Box<dyn AnyOp>>,
    waker: Option<Waker>,
    first: Option<(i32, u32)>,
    rest: VecDeque<(i32, u32)>,
    /// The kernel will post more completions.
    live: bool,
    orphan: bool,
    injected: Option<i32>,
}

/// Whether operations of this opcode wait for clients by their nature.
pub(super) fn is_network(code: u8) -> bool {
    use io_uring::opcode::{Accept, Connect, PollAdd, Recv, RecvMsg, SendMsg, SendMsgZc};
    const NETWORK: [u8; 7] = [
        Accept::CODE,
        Connect::CODE,
        PollAdd::CODE,
        Recv::CODE,
        RecvMsg::CODE,
        SendMsg::CODE,
        SendMsgZc::CODE,
    ];
    NETWORK.contains(&code)
}

/// What to do once the slab is no longer borrowed.
#[derive(Default)]
pub(crate) struct After {
    waker: Option<Waker>,
    orphan: Option<(Box<dyn AnyOp>, i32, u32)>,
}

impl After {
    pub(crate) fn finish(self) {
        if let Some(waker) = self.waker {
            waker.wake();
        }
        if let Some((mut op, res, flags)) = self.orphan {
            op.discard(res, flags);
        }
    }
}

/// How a single-shot operation stands.
pub(crate) enum Outcome {
    Pending,
    Done(Box<dyn AnyOp>, i32, u32),
}

#[derive(Default)]
pub(crate) struct Inflight {
    slots: Vec<Slot>,
    free: Vec<u32>,
    used: usize,
}

impl Inflight {
    pub(crate) fn len(&self) -> usize {
        self.used
    }

    pub(crate) fn keys(&self) -> Vec<Key> {
        let live = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, s)| s.op.is_some() && s.live);
        live.map(|(i, s)| Key {
            index: i as u32,
            generation: s.generation,
        })
        .collect()
    }

    /// What is in flight, with its opcode, besides network operations, which wait for clients by their nature.
    pub(crate) fn file_keys(&self) -> impl Iterator<Item = (Key, u8)> {
        let live = self.slots.iter().enumerate().filter(|(_, s)| s.live);
        live.filter_map(|(i, s)| {
            let code = s.op.as_deref().map(AnyOp::code)?;
            let key = Key {
                index: i as u32,
                generation: s.generation,
            };
            (!is_network(code)).then_some((key, code))
        })
    }

    pub(crate) fn insert(&mut self, op: Box<dyn AnyOp>, injected: Option<i32>) -> Key {
        self.used += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                op: None,
                waker: None,
                first: None,
                rest: VecDeque::new(),
                live: false,
                orphan: false,
                injected: None,
            });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        slot.op = Some(op);
        slot.live = true;
        slot.orphan = false;
        slot.injected = injected;
        Key {
            index,
            generation: slot.generation,
        }
    }

    fn get(&mut self, key: Key) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(key.index as usize)?;
        (slot.generation == key.generation && slot.op.is_some()).then_some(slot)
    }

    fn release(&mut self, key: Key) -> Option<Box<dyn AnyOp>> {
        let slot = self.get(key)?;
        let op = slot.op.take();
        slot.generation = (slot.generation + 1) & 0x7fff_ffff;
        slot.waker = None;
        slot.first = None;
        slot.rest.clear();
        self.free.push(key.index);
        self.used -= 1;
        op
    }

    /// Records one completion.
    pub(crate) fn complete(&mut self, key: Key, res: i32, flags: u32) -> After {
        let Some(slot) = self.get(key) else {
            return After::default();
        };
        let res = slot.injected.unwrap_or(res);
        let more = cqueue::more(flags);
        slot.live = more;
        if slot.orphan {
            if more {
                if let Some(op) = slot.op.as_mut() {
                    op.discard(res, flags);
                }
                return After::default();
            }
            let op = self.release(key);
            return After {
                waker: None,
                orphan: op.map(|op| (op, res, flags)),
            };
        }
        let waker = slot.waker.take();
        if slot.first.is_none() {
            slot.first = Some((res, flags));
        } else {
            slot.rest.push_back((res, flags));
        }
        After {
            waker,
            orphan: None,
        }
    }

    /// A single-shot operation's end: only when the kernel has let go of it altogether.
    pub(crate) fn take(&mut self, key: Key, waker: &Waker) -> Outcome {
        let Some(slot) = self.get(key) else {
            return Outcome::Pending;
        };
        match slot.first {
            Some((res, flags)) if !slot.live => match self.release(key) {
                Some(op) => Outcome::Done(op, res, flags),
                None => Outcome::Pending,
            },
            _ => {
                if !slot.waker.as_ref().is_some_and(|w| w.will_wake(waker)) {
                    slot.waker = Some(waker.clone());
                }
                Outcome::Pending
            }
        }
    }

    /// The next completion of a multishot operation with its op; `Err(true)` when it has ended.
    pub(crate) fn next<R>(
        &mut self,
        key: Key,
        waker: &Waker,
        item: impl FnOnce(&mut dyn AnyOp, i32, u32) -> R,
    ) -> std::result::Result<R, bool> {
        let Some(slot) = self.get(key) else {
            return Err(true);
        };
        let Some((res, flags)) = slot.first.take() else {
            if !slot.live {
                return Err(true);
            }
            slot.waker = Some(waker.clone());
            return Err(false);
        };
        slot.first = slot.rest.pop_front();
        match slot.op.as_mut() {
            Some(op) => Ok(item(&mut **op, res, flags)),
            None => Err(true),
        }
    }

    /// The future is gone. Returns the op with its unseen completions if the kernel is done with
    /// it; otherwise it stays as an orphan, to be cancelled.
    pub(crate) fn abandon(&mut self, key: Key) -> Option<Abandoned> {
        let slot = self.get(key)?;
        slot.waker = None;
        let unseen: Vec<_> = slot
            .first
            .take()
            .into_iter()
            .chain(slot.rest.drain(..))
            .collect();
        if slot.live {
            slot.orphan = true;
            if let Some(op) = slot.op.as_mut() {
                unseen
                    .into_iter()
                    .for_each(|(res, flags)| op.discard(res, flags));
            }
            return Some(Abandoned::Cancel);
        }
        self.release(key).map(|op| Abandoned::Finished(op, unseen))
    }

    /// Gives up on what is left: memory the kernel may still use is never freed.
    pub(crate) fn leak(&mut self) {
        for slot in &mut self.slots {
            if let Some(op) = slot.op.take() {
                std::mem::forget(op);
            }
        }
        self.used = 0;
    }
}

/// What [`Inflight::abandon`] leaves to do.
pub(crate) enum Abandoned {
    Cancel,
    Finished(Box<dyn AnyOp>, Vec<(i32, u32)>),
}

impl Abandoned {
    /// Disposes of unseen completions; true if the kernel still holds the op.
    pub(crate) fn finish(self) -> bool {
        match self {
            Abandoned::Cancel => true,
            Abandoned::Finished(mut op, unseen) => {
                unseen
                    .into_iter()
                    .for_each(|(res, flags)| op.discard(res, flags));
                false
            }
        }
    }
}
