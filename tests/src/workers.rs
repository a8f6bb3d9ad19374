//! A server's workers in this process, for what no procedure does by itself.

use std::future::Future;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::daemon::fresh_dir;
use nfsd::config::{Config, ExportSource, Listener};
use nfsd::conn::{self, BackConn, OutConn};
use nfsd::export::names::{Names, SystemResolver};
use nfsd::fh::HandleKey;
use nfsd::finding::Findings;
use nfsd::listener::{self, Listening};
use nfsd::nfs4::recovery::RecoveryStore;
use nfsd::rpc::auth::Credential;
use nfsd::rpc::calls::{CallError, Procedure};
use nfsd::server::{Parts, Shared};
use nfsd::worker;
use vfs::Errno;
use vfs::exec::Remote;
use vfs::uring::RingConfig;

/// Long enough for anything that happens at all, on a machine with other work and a slow disk.
pub const LONG: Duration = Duration::from_secs(60);

/// The procedure called.
pub const CB: Procedure = Procedure {
    prog: 0x4000_0000,
    vers: 1,
    proc: 1,
};

/// What a call comes to.
pub type Answer = Result<Vec<u8>, CallError>;

/// A server of two workers.
pub struct Workers {
    /// What they share.
    pub server: Arc<Shared>,
    addr: SocketAddr,
    threads: Vec<std::thread::JoinHandle<()>>,
    tasks: u64,
    /// The state directory, as long as the server lives.
    dir: tempfile::TempDir,
}

fn shared(config: Config, listening: &[Listening]) -> Arc<Shared> {
    let remotes = (0..2).map(|n| Remote::new(n).expect("a mailbox")).collect();
    let recovery = RecoveryStore::open(&config.recovery_db(), config.lease_time);
    let (recovery, previous) = recovery.expect("a recovery database");
    let parts = Parts {
        key: HandleKey::new([7; 16]),
        names: Names::start(Arc::new(SystemResolver)).expect("threads"),
        remotes,
        port: listening[0].addr.port(),
        recovery,
        previous,
    };
    Arc::new(Shared::new(config, parts))
}

impl Workers {
    /// With the default configuration.
    pub fn start() -> Workers {
        Workers::with(|_| {})
    }

    /// With an adjusted configuration.
    pub fn with(adjust: impl FnOnce(&mut Config)) -> Workers {
        let dir = fresh_dir();
        let mut config = Config::for_memory(1 << 30);
        config.state_dir = dir.path().to_owned();
        adjust(&mut config);
        let any = Listener {
            addr: "127.0.0.1:0".parse().expect("an address"),
            optional: false,
        };
        let listening = listener::bind(&[any]).expect("listening");
        let addr = listening[0].addr;
        let server = shared(config, &listening);
        let (ready, started) = mpsc::channel();
        let start = |index: usize| {
            let ring = RingConfig {
                pool_bytes: 16 << 20,
                policy: server.config.io_policy.into(),
                ..RingConfig::default()
            };
            let listening = [listening.clone(), Vec::new()][index].clone();
            worker::start(server.clone(), index, ring, listening, ready.clone())
        };
        let threads = (0..2).map(start).collect();
        for _ in 0..2 {
            started
                .recv_timeout(LONG)
                .expect("a worker")
                .expect("io_uring");
        }
        let mut workers = Workers {
            server,
            addr,
            threads,
            tasks: 0,
            dir,
        };
        workers.tasks = workers.gauge("tasks");
        workers
    }

    /// Exports a directory of its own, root not squashed.
    pub fn export(&self) -> PathBuf {
        let path = self.dir.path().join("export");
        let source = ExportSource::Dirs {
            dirs: vec![path.clone()],
            options: "rw,no_root_squash,insecure".to_owned(),
        };
        let mut found = Findings::new();
        let table = source.load(&SystemResolver, &mut found);
        self.server.replace_exports(table).expect("an export");
        path
    }

    /// Runs a future on a worker; its output comes through the channel.
    pub fn spawn<T: Send + 'static, F: Future<Output = T> + 'static>(
        &self,
        worker: usize,
        make: impl FnOnce() -> F + Send + 'static,
    ) -> mpsc::Receiver<T> {
        let (sender, receiver) = mpsc::channel();
        self.server.remotes[worker].post(move || {
            let future = make();
            vfs::exec::spawn(async move {
                let _ = sender.send(future.await);
            });
        });
        receiver
    }

    /// Runs a future on a worker to its end.
    pub fn run<T: Send + 'static, F: Future<Output = T> + 'static>(
        &self,
        worker: usize,
        make: impl FnOnce() -> F + Send + 'static,
    ) -> T {
        self.spawn(worker, make).recv_timeout(LONG).expect("an end")
    }

    /// A gauge of both.
    pub fn gauge(&self, name: &'static str) -> u64 {
        let of = |worker| {
            let all = self.run(worker, || async { worker::gauges() });
            let found = all.iter().find(|(known, _)| *known == name);
            found.expect("the gauge").1
        };
        of(0) + of(1)
    }

    /// A connection to the server, and which worker serves it.
    pub fn client(&self) -> (Client, BackConn, usize) {
        let stream = TcpStream::connect(self.addr).expect("connecting");
        let mine = stream.local_addr().expect("an address");
        let end = Instant::now() + LONG;
        while Instant::now() < end {
            for worker in 0..2 {
                let found = self.run(worker, move || async move {
                    let all = conn::of_this_worker();
                    let conn = all.iter().find(|conn| conn.client.addr == mine);
                    conn.map(|conn| conn.back().clone())
                });
                if let Some(back) = found {
                    return (Client::over(stream), back, worker);
                }
            }
        }
        panic!("the server never took the connection");
    }

    /// Starts a call of the client from a worker.
    pub fn call(
        &self,
        worker: usize,
        back: &BackConn,
        args: &[u8],
        patience: Duration,
    ) -> mpsc::Receiver<Answer> {
        let (back, args) = (back.clone(), args.to_vec());
        self.spawn(worker, move || async move {
            back.call(CB, &Credential::none(), &args, patience).await
        })
    }

    /// Opens a connection, from the first worker.
    pub fn connect(&self, to: SocketAddr, patience: Duration) -> Result<OutConn, Errno> {
        let server = self.server.clone();
        self.run(0, move || async move {
            conn::connect(&server, None, to, patience).await
        })
    }

    /// Waits until nothing is left of any connection and call.
    #[track_caller]
    pub fn wait_idle(&self) {
        let end = Instant::now() + LONG;
        loop {
            let now = (
                self.server.connections.total(),
                self.gauge("tasks"),
                self.gauge("calls.waiting"),
                self.gauge("requests.in_flight"),
            );
            if now == (0, self.tasks, 0, 0) {
                return;
            }
            assert!(
                Instant::now() < end,
                "left over: {now:?}, {} tasks at start",
                self.tasks
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Drains and ends the workers. What they shared stays, and the directory it is about.
    pub fn stop(self) -> (Arc<Shared>, tempfile::TempDir) {
        self.server
            .stopping
            .store(true, std::sync::atomic::Ordering::Release);
        for remote in &self.server.remotes {
            remote.post(worker::begin_drain);
        }
        for thread in self.threads {
            thread.join().expect("a worker's end");
        }
        self.server.vfs.remove_unfinished();
        (self.server, self.dir)
    }
}
