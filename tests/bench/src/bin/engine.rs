//! The engine row: 4 KiB cached random reads through an io_uring runtime alone, no network, no NFS.
//!
//! Usage: `engine RUNTIME DIR SECONDS`; one thread, [`DEPTH`] reads in flight over the files of DIR, every reply's
//! stamp checked. Prints operations, nanoseconds of wall time and of CPU, errors; `nfsload` reads that line.
//! A runtime is one function of [`RUNTIMES`]; every one does the same work through the same `Deck`.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bench::cpu::client_ns;
use bench::rows::{FILE_SIZE, FILES};
use bench::work::{STAMP, file_name};
use vfs::exec;
use vfs::uring::fixed::OpenFd;
use vfs::uring::{IoPolicy, RingConfig, file_ops};

/// Reads in flight.
const DEPTH: usize = 32;

type Runtime = fn(Vec<std::fs::File>, Rc<RefCell<Deck>>) -> io::Result<()>;

/// The runtimes that are compared, by name.
const RUNTIMES: &[(&str, Runtime)] = &[
    ("tokio-uring", tokio_uring_reads),
    ("ours, ring", |files, deck| {
        our_reads(IoPolicy::Ring, files, deck)
    }),
    ("ours, adaptive", |files, deck| {
        our_reads(IoPolicy::Adaptive, files, deck)
    }),
];

/// What to read next, for how long, and what was counted: all that runtimes share.
struct Deck {
    random: u64,
    end: Instant,
    over: bool,
    done: u64,
    errors: u64,
}

impl Deck {
    /// The next read: file and offset; `None` when time is up.
    fn next(&mut self) -> Option<(usize, u64)> {
        // A look at the clock in 64 reads is enough and keeps it out of the cost.
        self.over |= self.done.is_multiple_of(64) && Instant::now() >= self.end;
        if self.over {
            return None;
        }
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let blocks = FILE_SIZE / STAMP;
        Some((
            (self.random >> 40) as usize % FILES,
            (self.random >> 11) % blocks * STAMP,
        ))
    }

    /// Counts one read.
    fn finish(&mut self, file: usize, offset: u64, read: io::Result<usize>, data: &[u8]) {
        let word = |at: usize| {
            data.get(at..at + 8)
                .and_then(|b| b.try_into().ok())
                .map(u64::from_be_bytes)
        };
        let right = read.is_ok_and(|n| n as u64 == STAMP)
            && word(0) == Some(file as u64)
            && word(8) == Some(offset);
        self.done += 1;
        self.errors += u64::from(!right);
    }
}

fn tokio_uring_reads(files: Vec<std::fs::File>, deck: Rc<RefCell<Deck>>) -> io::Result<()> {
    tokio_uring::builder()
        .entries(2 * DEPTH as u32)
        .start(async move {
            let files: Rc<Vec<_>> = Rc::new(
                files
                    .into_iter()
                    .map(tokio_uring::fs::File::from_std)
                    .collect(),
            );
            let readers: Vec<_> = (0..DEPTH)
                .map(|_| {
                    let (files, deck) = (files.clone(), deck.clone());
                    tokio_uring::spawn(async move {
                        let mut buf = vec![0; STAMP as usize];
                        loop {
                            let Some((file, offset)) = deck.borrow_mut().next() else {
                                return;
                            };
                            let (read, data) = files[file].read_at(buf, offset).await;
                            deck.borrow_mut().finish(file, offset, read, &data);
                            buf = data;
                        }
                    })
                })
                .collect();
            for reader in readers {
                reader.await.map_err(io::Error::other)?;
            }
            Ok(())
        })
}

/// The engine of ringnfs: registered files and buffers through the ring, or inline where that cannot sleep.
fn our_reads(
    policy: IoPolicy,
    files: Vec<std::fs::File>,
    deck: Rc<RefCell<Deck>>,
) -> io::Result<()> {
    let config = RingConfig {
        policy,
        ..RingConfig::default()
    };
    let done = exec::block_on(&config, async move {
        let open = |file: std::fs::File| Arc::new(OpenFd::new(file.into()));
        let files: Rc<Vec<_>> = Rc::new(files.into_iter().map(open).collect());
        let readers = Rc::new(Cell::new(DEPTH));
        let (last, ended) = exec::oneshot::channel();
        let last = Rc::new(Cell::new(Some(last)));
        for _ in 0..DEPTH {
            let (files, deck) = (files.clone(), deck.clone());
            let (readers, last) = (readers.clone(), last.clone());
            exec::spawn(async move {
                let pool = exec::with_ring(|ring| ring.pool.clone());
                let mut buf = pool.get(STAMP as usize).await.expect("a buffer");
                loop {
                    let Some((file, offset)) = deck.borrow_mut().next() else {
                        break;
                    };
                    let (read, data) =
                        file_ops::read(&files[file], buf, 0..STAMP as usize, offset).await;
                    let read = read.map_err(|e| io::Error::from_raw_os_error(e.0));
                    deck.borrow_mut().finish(file, offset, read, &data);
                    buf = data;
                }
                readers.set(readers.get() - 1);
                if readers.get() == 0 {
                    drop(last.take());
                }
            });
        }
        ended.await.unwrap_or(())
    });
    done.map_err(|e| io::Error::from_raw_os_error(e.0))
}

fn run(runtime: Runtime, dir: &Path, time: Duration) -> io::Result<()> {
    let open = || {
        (0..FILES)
            .map(|i| std::fs::File::open(dir.join(file_name(i))))
            .collect::<io::Result<Vec<_>>>()
    };
    let deck = |time| {
        Rc::new(RefCell::new(Deck {
            random: 0x9e37_79b9_7f4a_7c15,
            end: Instant::now() + time,
            over: false,
            done: 0,
            errors: 0,
        }))
    };
    runtime(open()?, deck(Duration::from_millis(200)))?;
    let (files, counted) = (open()?, deck(time));
    let (start, cpu) = (Instant::now(), client_ns());
    runtime(files, counted.clone())?;
    let (wall, cpu) = (start.elapsed().as_nanos(), client_ns() - cpu);
    let counted = counted.borrow();
    println!("{} {wall} {cpu} {}", counted.done, counted.errors);
    Ok(())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let runtime = args
        .get(1)
        .and_then(|name| RUNTIMES.iter().find(|r| r.0 == name));
    let seconds = args
        .get(3)
        .and_then(|s| s.parse().ok())
        .filter(|s| (0.05..=3600.0).contains(s));
    let (Some((_, runtime)), Some(dir), Some(seconds)) =
        (runtime, args.get(2).map(PathBuf::from), seconds)
    else {
        let names: Vec<_> = RUNTIMES.iter().map(|r| r.0).collect();
        eprintln!("usage: engine {} DIR SECONDS", names.join("|"));
        return ExitCode::from(2);
    };
    match run(*runtime, &dir, Duration::from_secs_f64(seconds)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("engine: {e}");
            ExitCode::FAILURE
        }
    }
}
