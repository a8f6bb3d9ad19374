//! What is to be seen when a guest's script does not end: is it the guest that waits, the server, or neither?

use std::fs;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::netns::Rig;
use crate::server::ringnfs;
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
    // The signal of its timer: a guest whose clock stands still goes on.
    let sent = Pid::from_raw(pid).is_some_and(|p| kill_process(p, Signal::ALARM).is_ok());
    let after = guest.answers(GUEST);
    format!(
        "(the guest takes no scripts)\n{first}a second later\n{second}after SIGALRM ({sent}): {}\n{host}",
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
    let runtime = rig.dir().join("runtime");
    let mut text = format!("--- beside the server\n{}", rig.sh(HOST));
    if runtime.join("control.sock").exists() {
        let mut stats = rig.command("timeout");
        stats
            .arg("10")
            .arg(ringnfs())
            .args(["stats", "--runtime-dir"])
            .arg(&runtime);
        match stats.output() {
            Ok(out) => text += &String::from_utf8_lossy(&[out.stdout, out.stderr].concat()),
            Err(e) => text += &format!("ringnfs stats: {e}\n"),
        }
    }
    text
}
