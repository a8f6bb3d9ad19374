//! Processes of the host that open a delegated file: they are held in open(2) until the delegation is back
//! (fanotify(7), `FAN_OPEN_PERM`). When this server ends, however that is, the kernel lets them go on.

use std::collections::HashMap;
use std::fs;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use foldhash::fast::FixedState;
use nix::errno::Errno;
use nix::sys::fanotify::{
    EventFFlags, Fanotify, FanotifyEvent, FanotifyResponse, InitFlags, MarkFlags, MaskFlags,
    Response,
};
use rustix::fs::{CWD, fstat};
use vfs::exec;
use vfs::locks::{Conflict, FileLocks};
use vfs::{File, Pin};

use crate::conflict;
use crate::server::Shared;

/// How long a recall is waited for at a time.
const LOOK: Duration = Duration::from_secs(1);

/// Device and inode number.
type Inode = (u64, u64);

struct Watched {
    locks: Arc<FileLocks>,
    /// Delegations of it.
    watches: u32,
}

/// The files whose opens are asked about.
pub struct Opens {
    group: Fanotify,
    files: Mutex<HashMap<Inode, Watched, FixedState>>,
    /// See [`shown`].
    shown: bool,
}

/// Opens of a file by processes of the host are held until no delegation is in their way.
pub struct Watch {
    opens: Arc<Opens>,
    inode: Inode,
    pin: Pin,
}

/// An open that is held: it goes on when this is dropped.
struct Opening {
    opens: Arc<Opens>,
    event: FanotifyEvent,
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(fd) = self.event.fd() {
            let go_on = FanotifyResponse::new(fd, Response::FAN_ALLOW);
            if let Err(error) = self.opens.group.write_response(go_on) {
                tracing::debug!(%error, "an open of a process of the host");
            }
        }
    }
}

impl Opens {
    /// Begins to ask; the thread that does ends with the process.
    ///
    /// # Errors
    /// `fanotify_init(2)`: `EPERM` without `CAP_SYS_ADMIN`, `ENOSYS`, `EINVAL` where the kernel has no
    /// permission events.
    pub fn start(server: &Arc<Shared>) -> std::io::Result<Arc<Opens>> {
        let how = InitFlags::FAN_CLASS_CONTENT
            | InitFlags::FAN_CLOEXEC
            | InitFlags::FAN_UNLIMITED_MARKS
            | InitFlags::FAN_UNLIMITED_QUEUE;
        let event = EventFFlags::O_RDONLY | EventFFlags::O_LARGEFILE | EventFFlags::O_CLOEXEC;
        let opens = Arc::new(Opens {
            group: Fanotify::init(how, event)?,
            files: Mutex::default(),
            shown: shown(),
        });
        let (asking, server) = (opens.clone(), Arc::downgrade(server));
        let thread = std::thread::Builder::new().name("host-opens".to_owned());
        // Our own opens of these files are held as well until they are let go here, so this thread must
        // not wait for a worker.
        thread.spawn(move || asking.answer(&server))?;
        Ok(opens)
    }

    fn files(&self) -> MutexGuard<'_, HashMap<Inode, Watched, FixedState>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mark(&self, file: &File, how: MarkFlags) -> Result<(), Errno> {
        let (path, opens) = (file.held_path(), MaskFlags::FAN_OPEN_PERM);
        self.group.mark(how, opens, CWD, Some(path.as_c_str()))
    }

    /// Begins to hold opens of a file.
    ///
    /// # Errors
    /// `fanotify_mark(2)`; `ESTALE` for a removed file.
    pub fn watch(self: &Arc<Self>, file: &Arc<File>) -> Result<Watch, vfs::Errno> {
        let pin = file.pin()?;
        let inode = inode(&**file.path()).ok_or(vfs::Errno::ESTALE)?;
        let mut files = self.files();
        let watched = files.entry(inode).or_insert_with(|| Watched {
            locks: file.locks().clone(),
            watches: 0,
        });
        watched.watches += 1;
        if watched.watches == 1
            && let Err(error) = self.mark(file, MarkFlags::FAN_MARK_ADD)
        {
            files.remove(&inode);
            return Err(vfs::Errno(error as i32));
        }
        drop(files);
        let opens = self.clone();
        Ok(Watch { opens, inode, pin })
    }

    /// Files watched.
    pub fn len(&self) -> usize {
        self.files().len()
    }

    /// None is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn answer(self: Arc<Self>, server: &Weak<Shared>) {
        loop {
            let events = match self.group.read_events() {
                Ok(events) => events,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    tracing::error!(%error, "opens by processes of the host are not asked about any more");
                    return;
                }
            };
            for event in events {
                let opens = self.clone();
                let opening = Opening { opens, event };
                if let Some(server) = server.upgrade() {
                    self.judge(&server, opening);
                }
            }
        }
    }

    /// Lets an open go on, or holds it until no delegation is in its way.
    fn judge(&self, server: &Arc<Shared>, opening: Opening) {
        let process = opening.event.pid();
        if u32::try_from(process) == Ok(std::process::id()) {
            return;
        }
        let inode = opening.event.fd().and_then(inode);
        let locks = inode.and_then(|inode| self.files().get(&inode).map(|w| w.locks.clone()));
        let Some(locks) = locks else { return };
        let writes = !self.shown || writes(process);
        if delegated(&locks, writes).is_none() {
            return;
        }
        tracing::debug!(
            process,
            writes,
            "a process of the host opens a delegated file"
        );
        let Some(worker) = server.remotes.first().cloned() else {
            return;
        };
        let server = server.clone();
        worker.post(move || exec::spawn(hold(server, locks, opening, writes)));
    }
}

/// The delegations an open must wait for.
fn delegated(
    locks: &FileLocks,
    writes: bool,
) -> Option<Vec<(vfs::locks::ClientId, vfs::locks::DelegId)>> {
    match locks.io(None, writes, true) {
        Err(Conflict::Deleg(held)) => Some(held),
        // Deny modes are among NFS clients.
        _ => None,
    }
}

async fn hold(server: Arc<Shared>, locks: Arc<FileLocks>, opening: Opening, writes: bool) {
    // A client that does not answer loses it after one lease.
    let end = exec::now() + server.state.config.lease * 2;
    while let Some(held) = delegated(&locks, writes)
        && exec::now() < end
        && !server.stopping.load(Ordering::Acquire)
    {
        Box::pin(conflict::returned(&server, &locks, &held, LOOK)).await;
    }
    drop(opening);
}

/// Processes under `/proc` have the numbers that events name.
fn shown() -> bool {
    let own = fs::read_link("/proc/self");
    own.is_ok_and(|own| own.to_str() == Some(&*std::process::id().to_string()))
}

fn inode(fd: impl AsFd) -> Option<Inode> {
    let stat = fstat(fd).ok()?;
    Some((stat.st_dev, stat.st_ino))
}

/// Most threads of a process that are looked at.
const THREADS_MAX: usize = 64;

/// Whether a process one thread of which is held in a system call opens for writing: what the kernel shows
/// of its threads' calls tells (`proc_pid_syscall(5)`). When in doubt, it does.
fn writes(process: i32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else {
        return true;
    };
    let (mut count, mut reads) = (0, false);
    for thread in threads.flatten() {
        let call = fs::read_to_string(thread.path().join("syscall"));
        count += 1;
        match call.ok().and_then(|call| opens_for(&call)) {
            _ if count > THREADS_MAX => return true,
            Some(Use::Writing) => return true,
            Some(Use::Reading) => reads = true,
            None => {}
        }
    }
    !reads
}

/// What a thread may be opening a file for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Reading,
    Writing,
}

/// What `NUMBER ARGUMENT...`, hexadecimal but for the number, opens a file for. `None`: nothing.
fn opens_for(call: &str) -> Option<Use> {
    let mut words = call.split_ascii_whitespace();
    let number = words.next()?.parse::<libc::c_long>().ok()?;
    let flags = match number {
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open => words.nth(1),
        #[cfg(target_arch = "x86_64")]
        libc::SYS_creat => return Some(Use::Writing),
        libc::SYS_openat | libc::SYS_open_by_handle_at => words.nth(2),
        libc::SYS_execve | libc::SYS_execveat => return Some(Use::Reading),
        // What for is behind a pointer, or it is no call at all but work for one.
        libc::SYS_openat2 | libc::SYS_io_uring_enter | -1 => return Some(Use::Writing),
        _ => return None,
    };
    let flags = flags.and_then(|word| word.strip_prefix("0x"));
    let flags = flags.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let changes = (libc::O_ACCMODE | libc::O_TRUNC) as u64;
    match flags {
        Some(flags) if flags & changes == libc::O_RDONLY as u64 => Some(Use::Reading),
        _ => Some(Use::Writing),
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut files = self.opens.files();
        let Some(watched) = files.get_mut(&self.inode) else {
            return;
        };
        watched.watches -= 1;
        if watched.watches > 0 {
            return;
        }
        files.remove(&self.inode);
        // With the inode the mark is gone, too.
        let removed = self.opens.mark(self.pin.file(), MarkFlags::FAN_MARK_REMOVE);
        if let Err(error) = removed {
            tracing::debug!(%error, "a mark stays with its inode");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_open_is_for() {
        let call = |number: libc::c_long, flags: i32| {
            format!(
                "{number} 0xffffff9c 0x7ffe4ce02945 {flags:#x} 0x0 0x0 0x0 0x7ffe4ce014b0 0x7feea80db011\n"
            )
        };
        for (number, flags, use_of) in [
            (
                libc::SYS_openat,
                libc::O_RDONLY | libc::O_CLOEXEC,
                Some(Use::Reading),
            ),
            (libc::SYS_openat, libc::O_WRONLY, Some(Use::Writing)),
            (libc::SYS_openat, libc::O_RDWR, Some(Use::Writing)),
            (libc::SYS_openat, libc::O_TRUNC, Some(Use::Writing)),
            (libc::SYS_execve, 0x1234_5673, Some(Use::Reading)),
            (libc::SYS_openat2, 0, Some(Use::Writing)),
            (libc::SYS_io_uring_enter, 0, Some(Use::Writing)),
            (libc::SYS_read, 0, None),
        ] {
            assert_eq!(opens_for(&call(number, flags)), use_of, "{number} {flags}");
        }
        assert_eq!(opens_for("running\n"), None);
        assert_eq!(opens_for(""), None);
        assert_eq!(opens_for("-1 0x0 0x0\n"), Some(Use::Writing));
        let cut = format!("{} 0x1\n", libc::SYS_openat);
        assert_eq!(opens_for(&cut), Some(Use::Writing));
        assert!(writes(i32::MAX), "there is none");
    }
}
