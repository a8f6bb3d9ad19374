//! After a start: every host that locked here before is told (SM_NOTIFY), so that it reclaims.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::{cell::RefCell, collections::VecDeque};

use vfs::exec;

use super::types::{SM_PROG, SM_VERS, SmName, SmProc, StatChge};
use crate::nlm::peer;
use crate::nlm::state::HostKey;
use crate::rpc::calls::{CallError, Procedure};
use crate::server::Shared;

/// Hosts told at a time.
const AT_ONCE: usize = 64;
/// After the first time it did not work; doubled each time.
const AGAIN: Duration = Duration::from_secs(1);
/// Longest pause.
const AGAIN_MAX: Duration = Duration::from_secs(60);
/// How long a host that does not answer is tried.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

struct Telling {
    host: HostKey,
    pause: Duration,
}

impl Telling {
    /// After a call that came to nothing: how long until the next, and that one.
    fn again(self) -> (Duration, Self) {
        let pause = (self.pause * 2).min(AGAIN_MAX);
        (self.pause, Telling { pause, ..self })
    }
}

/// Begins to tell them. Only on a worker.
pub fn start(server: &Arc<Shared>) {
    let all = server.nsm.before.iter().map(|host| Telling {
        host: host.clone(),
        pause: AGAIN,
    });
    let queue: Rc<RefCell<VecDeque<Telling>>> = Rc::new(RefCell::new(all.collect()));
    let tasks = queue.borrow().len().min(AT_ONCE);
    for _ in 0..tasks {
        exec::spawn(tell(server.clone(), queue.clone()));
    }
}

/// One host after the other; who cannot be reached comes again after all others.
async fn tell(server: Arc<Shared>, queue: Rc<RefCell<VecDeque<Telling>>>) {
    let end = exec::now() + PATIENCE;
    let next = || queue.borrow_mut().pop_front();
    while let Some(telling) = next() {
        if server.stopping.load(Ordering::Acquire) || exec::now() >= end {
            return;
        }
        let Err(error) = notify(&server, &telling.host).await else {
            continue;
        };
        tracing::debug!(host = %telling.host.ip, %error, "SM_NOTIFY");
        let (pause, telling) = telling.again();
        exec::sleep(pause).await;
        queue.borrow_mut().push_back(telling);
    }
}

async fn notify(server: &Arc<Shared>, host: &HostKey) -> Result<(), CallError> {
    let name = rustix::system::uname();
    let args = peer::encoded(&StatChge {
        mon_name: SmName(name.nodename().to_bytes()),
        state: server.nsm.state,
    })?;
    let what = Procedure {
        prog: SM_PROG,
        vers: SM_VERS,
        proc: SmProc::Notify.wire(),
    };
    peer::call(server, None, host.ip, what, &args)
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses() {
        let mut telling = Telling {
            host: HostKey {
                ip: [10, 0, 0, 1].into(),
                name: Box::default(),
            },
            pause: AGAIN,
        };
        let mut all = Vec::new();
        let mut passed = Duration::ZERO;
        while passed < PATIENCE {
            let (pause, next) = telling.again();
            all.push(pause.as_secs());
            (passed, telling) = (passed + pause, next);
        }
        assert_eq!(all[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(all.len() < 30, "{all:?}");
    }
}
