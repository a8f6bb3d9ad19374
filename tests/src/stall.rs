//! What is to be seen when a guest's script does not end: is it the guest that waits, the server, or neither?

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nfsd::control::{self, SOCKET_NAME};
use rustix::process::{Pid, Signal, kill_process};

use crate::need;
use crate::netns::Rig;
use crate::uml::Guest;

/// In the guest: blocked tasks, processes, requests sent and answered, TCP connections.
const GUEST: &str = r"
set +e
read -r up _ </proc/uptime
echo up $up s
echo w >/proc/sysrq-trigger
dmesg | sed -n '/Show Blocked/,$p'
ps -eo pid,ppid,stat,wchan:30,args | grep -v '\['
grep -A2 'RPC iostats' /proc/self/mountstats
ss -tion
";

/// On the server's side: TCP connections, and each thread with the system call it is in.
const HOST: &str = r"
ss -tion
for task in /proc/[0-9]*/task/*; do
    read -r name <$task/comm
    [ $name = linux.uml ] || echo $task $name $(cat $task/wchan $task/syscall)
done 2>/dev/null
";

/// How long a guest's `beat` may stay as it is. On a busy machine a guest has been seen without the processor for
/// seconds.
const BEAT: Duration = Duration::from_secs(20);

/// Looks after the interrupts of a guest: very rarely, on a busy machine, no timer of a guest fires any more, and nothing
/// in it that sleeps wakes. Its interrupts are signals; those of its timer and of its devices are sent again, which does
/// no harm when there is nothing due.
pub(crate) struct Watch {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Watches the file that the guest whose kernel is process `pid` writes once a second, until dropped.
    pub(crate) fn new(pid: i32, beat: PathBuf) -> Watch {
        let (stop, stopped) = channel();
        Watch {
            stop: Some(stop),
            thread: Some(thread::spawn(move || watch(pid, &beat, &stopped))),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Joined, so that no signal goes to a process number in its next life.
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn watch(pid: i32, beat: &PathBuf, stopped: &Receiver<()>) {
    let (mut last, mut since) = (String::new(), Instant::now());
    while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(Duration::from_secs(1)) {
        let now = fs::read_to_string(beat).unwrap_or_default();
        if now != last {
            (last, since) = (now, Instant::now());
        } else if since.elapsed() > BEAT {
            since = Instant::now();
            eprintln!(
                "guest: {}: {} s without a beat, its interrupts sent again ({})",
                beat.display(),
                BEAT.as_secs(),
                ring(pid)
            );
        }
    }
}

/// Sends a guest the signals of its timer and its devices; true if it could be done.
fn ring(pid: i32) -> bool {
    let send = |signal| Pid::from_raw(pid).is_some_and(|p| kill_process(p, signal).is_ok());
    send(Signal::ALARM) && send(Signal::IO)
}

/// What the guest waits for if it still takes scripts, if not what this machine knows of the process that is its kernel;
/// and what the server is at.
pub(crate) fn seen(guest: &Guest) -> String {
    let host = host(guest.rig());
    if let Some(seen) = guest.answers(GUEST) {
        return format!("(the guest takes scripts)\n{seen}{host}");
    }
    let Some(pid) = guest.kernel() else {
        return format!("(the guest is gone)\n{host}");
    };
    let first = process(pid);
    thread::sleep(Duration::from_secs(1));
    let second = process(pid);
    let sent = ring(pid);
    let after = guest.answers(GUEST);
    if host.contains("\nrequests.in_flight 0\n") {
        need::stood_still();
    }
    format!(
        "(the guest takes no scripts)\n{first}a second later\n{second}after SIGALRM and SIGIO ({sent}): {}\n{host}",
        after.as_deref().unwrap_or("still none")
    )
}

/// State, signals, timers and current system call of a process, from proc(5).
fn process(pid: i32) -> String {
    let mut text = String::new();
    for name in ["stat", "wchan", "syscall", "timers", "status"] {
        let read = fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let wanted = |l: &&str| name != "status" || l.starts_with("Sig") || l.starts_with("Shd");
        text.extend(
            read.lines()
                .filter(wanted)
                .map(|l| format!("{name}: {l}\n")),
        );
    }
    text
}

fn host(rig: &Rig) -> String {
    let mut text = format!("--- beside the server\n{}", rig.sh(HOST));
    let socket = rig.dir().join("runtime").join(SOCKET_NAME);
    if socket.exists() {
        text += &control::request(&socket, "stats").unwrap_or_else(|e| format!("stats: {e}\n"));
    }
    text
}
