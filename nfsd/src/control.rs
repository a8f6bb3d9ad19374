//! The control socket: `ringnfs reload` and `ringnfs stats` talk to a running server over it.
//!
//! A request is one line, the verb. The reply is a line `ok` or `error`, then text to the end of the stream. One thread
//! serves one request at a time; only the owner of the server can connect (mode 0600).

use rustix::fs::{FlockOperation, Mode, fchmod, flock};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use std::fs::{self, DirBuilder, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Name of the socket in the runtime directory.
pub const SOCKET_NAME: &str = "control.sock";
/// Longest request line.
const LONGEST_VERB: u64 = 256;
/// Longest reply a client takes.
const LONGEST_REPLY: u64 = 16 << 20;
/// How long the server waits for a client that has connected.
const CLIENT_PATIENCE: Duration = Duration::from_secs(5);
/// How long a client waits for the reply: a reload may wait for name servers.
const SERVER_PATIENCE: Duration = Duration::from_secs(120);

/// Why the control socket cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Another server answers there.
    #[error("a server is already running: it answers on {0}")]
    AlreadyRunning(PathBuf),
    /// Something else has the name.
    #[error("{0} exists and is not a socket; remove it")]
    NotASocket(PathBuf),
    /// Nobody answers.
    #[error("no server answers on {0}: {1}; is it running, with this runtime_dir?")]
    NobodyAnswers(PathBuf, io::Error),
    /// The server refused.
    #[error("{0}")]
    Refused(String),
    /// The reply is cut off or not a reply.
    #[error("the server on {0} sent no proper reply")]
    BadReply(PathBuf),
    /// Anything else.
    #[error("{0}: {1}")]
    Io(PathBuf, io::Error),
}

/// The control socket of a running server. Gone when dropped.
pub struct Control {
    path: PathBuf,
    identity: (u64, u64),
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Creates `runtime_dir` if need be, binds the socket and starts the thread that serves it.
    ///
    /// `handler` gets the verb and returns the text of the reply, or of the refusal. A socket left over is replaced if
    /// nobody answers there.
    pub fn start<H>(runtime_dir: &Path, handler: H) -> Result<Control, ControlError>
    where
        H: FnMut(&str) -> Result<String, String> + Send + 'static,
    {
        let at_dir = |error: io::Error| ControlError::Io(runtime_dir.to_owned(), error);
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(runtime_dir)
            .map_err(at_dir)?;
        let dir = File::open(runtime_dir).map_err(at_dir)?;
        // Two servers starting at once must not both find the other's socket unanswered.
        flock(&dir, FlockOperation::LockExclusive).map_err(|error| at_dir(error.into()))?;
        let path = runtime_dir.join(SOCKET_NAME);
        remove_stale(&path)?;
        let at_path = |error: io::Error| ControlError::Io(path.clone(), error);
        let listener = bind_private(&path).map_err(at_path)?;
        let made = fs::symlink_metadata(&path).map_err(at_path)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let serve = move || serve(&listener, &stopped, handler);
        let thread = thread::Builder::new()
            .name("control".to_owned())
            .spawn(serve)
            .map_err(at_path)?;
        Ok(Control {
            identity: (made.dev(), made.ino()),
            path,
            stop,
            thread: Some(thread),
        })
    }

    /// Path of the socket.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Ends the thread after the request it is in, and removes the socket unless another server has replaced it.
impl Drop for Control {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let woken = UnixStream::connect(&self.path).is_ok();
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|made| (made.dev(), made.ino()) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the control socket");
        }
        // Not woken: the name is gone or another server's, and the thread sleeps until the process ends.
        if let (true, true, Some(thread)) = (ours, woken, self.thread.take()) {
            let _ = thread.join();
        }
    }
}

/// Removes a socket nobody answers on.
fn remove_stale(path: &Path) -> Result<(), ControlError> {
    let made = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| ControlError::Io(path.to_owned(), error))?,
    };
    if !made.file_type().is_socket() {
        return Err(ControlError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| ControlError::Io(path.to_owned(), error))
        }
        Err(error) => Err(ControlError::Io(path.to_owned(), error)),
        Ok(_) => Err(ControlError::AlreadyRunning(path.to_owned())),
    }
}

/// Binds with mode 0600 from the first moment: bind(2) gives the name the mode of the socket.
fn bind_private(path: &Path) -> io::Result<UnixListener> {
    let address = SocketAddrUnix::new(path)?;
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, &address)?;
    listen(&socket, 16)?;
    Ok(UnixListener::from(socket))
}

fn serve<H>(listener: &UnixListener, stop: &AtomicBool, mut handler: H)
where
    H: FnMut(&str) -> Result<String, String>,
{
    loop {
        let accepted = listener.accept();
        if stop.load(Ordering::Acquire) {
            return;
        }
        match accepted {
            Ok((stream, _)) => {
                if let Err(error) = answer(&stream, &mut handler) {
                    tracing::debug!(%error, "control request not answered");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "control socket");
                // EMFILE and the like stay for a while; do not spin on them.
                thread::sleep(Duration::from_millis(100));
            }
        }
    }
}

fn answer<H>(mut stream: &UnixStream, handler: &mut H) -> io::Result<()>
where
    H: FnMut(&str) -> Result<String, String>,
{
    stream.set_read_timeout(Some(CLIENT_PATIENCE))?;
    stream.set_write_timeout(Some(CLIENT_PATIENCE))?;
    let mut line = Vec::new();
    BufReader::new(stream.take(LONGEST_VERB)).read_until(b'\n', &mut line)?;
    let verb = line
        .strip_suffix(b"\n")
        .and_then(|verb| str::from_utf8(verb).ok());
    let (word, text) = match verb.map(handler) {
        Some(Ok(text)) => ("ok", text),
        Some(Err(text)) => ("error", text),
        None => (
            "error",
            "not a request: one line of at most 255 bytes is".to_owned(),
        ),
    };
    stream.write_all(format!("{word}\n{text}").as_bytes())
}

/// Sends `verb` to the server with this control socket and returns the text of its reply.
pub fn request(socket: &Path, verb: &str) -> Result<String, ControlError> {
    let at = |error: io::Error| ControlError::Io(socket.to_owned(), error);
    let mut stream = UnixStream::connect(socket)
        .map_err(|error| ControlError::NobodyAnswers(socket.to_owned(), error))?;
    stream.set_read_timeout(Some(SERVER_PATIENCE)).map_err(at)?;
    stream
        .set_write_timeout(Some(CLIENT_PATIENCE))
        .map_err(at)?;
    stream
        .write_all(format!("{verb}\n").as_bytes())
        .map_err(at)?;
    let mut reply = Vec::new();
    stream
        .take(LONGEST_REPLY)
        .read_to_end(&mut reply)
        .map_err(at)?;
    let reply = String::from_utf8_lossy(&reply);
    match reply.split_once('\n') {
        Some(("ok", text)) => Ok(text.to_owned()),
        Some(("error", text)) => Err(ControlError::Refused(text.to_owned())),
        _ => Err(ControlError::BadReply(socket.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn start(dir: &Path) -> Result<Control, ControlError> {
        let mut count = 0;
        Control::start(dir, move |verb| match verb {
            "count" => {
                count += 1;
                Ok(format!("{count}\nsecond line\n"))
            }
            other => Err(format!("unknown verb {other}")),
        })
    }

    #[test]
    fn requests_are_answered() {
        let dir = tempfile::tempdir().expect("a directory");
        let control = start(dir.path()).expect("started");
        assert_eq!(
            request(control.path(), "count").expect("an answer"),
            "1\nsecond line\n"
        );
        assert_eq!(
            request(control.path(), "count").expect("an answer"),
            "2\nsecond line\n"
        );
        let refused = request(control.path(), "dance").expect_err("a refusal");
        assert_eq!(refused.to_string(), "unknown verb dance");
    }

    #[test]
    fn bad_requests_do_not_stop_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let control = start(dir.path()).expect("started");
        for bytes in [&b""[..], b"no line end", &[b'x'; 1000], b"\xff\n"] {
            let mut stream = UnixStream::connect(control.path()).expect("connected");
            let _ = stream.write_all(bytes);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let mut reply = String::new();
            // With bytes left unread the server's close may reset the stream; the reply is not promised then.
            let read = stream.read_to_string(&mut reply);
            assert!(
                read.is_err() || reply.starts_with("error\nnot a request"),
                "{reply}"
            );
        }
        assert!(request(control.path(), "count").is_ok());
    }

    #[test]
    fn only_the_owner_may_connect() {
        let dir = tempfile::tempdir().expect("a directory");
        let control = start(&dir.path().join("made/here")).expect("started");
        let mode = fs::symlink_metadata(control.path())
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o600);
    }

    #[test]
    fn a_running_server_is_not_replaced() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = start(dir.path()).expect("started");
        assert!(matches!(
            start(dir.path()),
            Err(ControlError::AlreadyRunning(_))
        ));
        assert!(request(first.path(), "count").is_ok());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_file_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join(SOCKET_NAME);
        drop(UnixListener::bind(&path).expect("bound"));
        assert!(matches!(
            request(&path, "count"),
            Err(ControlError::NobodyAnswers(..))
        ));
        let control = start(dir.path()).expect("started");
        assert!(request(&path, "count").is_ok());
        drop(control);
        assert!(!path.exists());
        fs::write(&path, "x").expect("written");
        assert!(matches!(
            start(dir.path()),
            Err(ControlError::NotASocket(_))
        ));
        assert_eq!(fs::read(&path).expect("kept"), b"x");
    }

    #[test]
    fn the_socket_of_another_server_is_left_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let old = start(dir.path()).expect("started");
        fs::remove_file(old.path()).expect("removed");
        let new = start(dir.path()).expect("started");
        drop(old);
        assert!(request(new.path(), "count").is_ok());
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(matches!(
            start(&dir.path().join("x".repeat(120))),
            Err(ControlError::Io(..))
        ));
    }
}
