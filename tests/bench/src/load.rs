//! Runs one row against one server: threads, connections, the measured time, and what it cost.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::conn::{Clock, Conn, Tally};
use crate::cpu::{ServerCpu, client_ns, machine_ns};
use crate::rows::{FILE_SIZE, Kind, Row};
use crate::session::PATIENCE;
use crate::v4::Job4;
use crate::work::{Job, Targets, WRITTEN};

/// How to run a row.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Where the server listens.
    pub addr: SocketAddr,
    /// Its process.
    pub pid: u32,
    /// Client threads; connections are dealt out among them.
    pub threads: usize,
    /// Time before measuring.
    pub warmup: Duration,
    /// Measured time.
    pub time: Duration,
    /// Whether server and client share one core while one call is in flight.
    pub one_core: bool,
}

/// What came of a row.
#[derive(Clone, Debug)]
pub struct Measure {
    /// Replies a second.
    pub ops: f64,
    /// Data megabytes (10^6 bytes) a second; 0 where a row carries none.
    pub mb: f64,
    /// Median latency in microseconds.
    pub p50: f64,
    /// 99th percentile in microseconds.
    pub p99: f64,
    /// Server CPU in microseconds an operation.
    pub server_cpu: f64,
    /// Client CPU in microseconds an operation.
    pub client_cpu: f64,
    /// Cores used by neither server nor client: kernel threads and whatever else ran.
    pub other_cores: f64,
    /// Wrong replies and broken connections.
    pub errors: u64,
    /// What the first of them said.
    pub samples: Vec<String>,
}

/// Runs `row`.
///
/// # Errors
/// `Unsupported` if the server refuses what the row needs, before anything is measured.
pub fn run(row: Row, targets: &Targets, plan: &Plan) -> io::Result<Measure> {
    let block = vec![WRITTEN; FILE_SIZE as usize];
    let threads = plan.threads.clamp(1, row.conns);
    let mut groups: Vec<Vec<Conn>> = (0..threads).map(|_| Vec::new()).collect();
    for i in 0..row.conns {
        groups[i % threads].push(connect(row, targets, plan.addr, i)?);
    }
    let alone = plan.one_core && row.conns * row.depth == 1;
    let one_core = if alone {
        OneCore::new(plan.pid)?
    } else {
        OneCore::default()
    };
    let from = plan.warmup.as_nanos() as u64;
    let clock = Clock {
        origin: Instant::now(),
        from,
        to: from + plan.time.as_nanos() as u64,
    };
    let start = Barrier::new(threads);
    std::thread::scope(|scope| {
        let workers: Vec<_> = groups
            .into_iter()
            .map(|conns| {
                let (block, start, one_core) = (&block, &start, &one_core);
                scope.spawn(move || {
                    one_core.join();
                    start.wait();
                    drive(conns, &clock, block)
                })
            })
            .collect();
        let before = sample_at(&clock, clock.from, plan.pid);
        let after = sample_at(&clock, clock.to, plan.pid);
        let mut tally = Tally::default();
        for worker in workers {
            tally.merge(
                worker
                    .join()
                    .map_err(|_| io::Error::other("a client thread panicked"))?,
            );
        }
        Ok(measure(row, plan, tally, &before, &after))
    })
}

/// Connection number `i`, ready for its first call.
fn connect(row: Row, targets: &Targets, addr: SocketAddr, i: usize) -> io::Result<Conn> {
    if let Kind::V4(minor, op) = row.kind {
        let (stream, job) = Job4::connect(row, minor, op, targets, addr, i)?;
        return Ok(Conn::over(stream, row.depth, Box::new(job)));
    }
    Conn::open(addr, row.depth, Box::new(Job::new(row, targets, i)))
}

struct Sample {
    at: u64,
    server: ServerCpu,
    client: u64,
    machine: u64,
}

/// Puts server and client on one core, for rows with one call in flight, and the server's threads back where they
/// were when dropped. On two cores such a row measures how long a virtual machine takes to wake a halted core (14, 30
/// or 75 us for the same echo, by what else happens to run); on one it measures the work, and repeats within a few percent.
#[derive(Debug, Default)]
struct OneCore {
    core: Option<CpuSet>,
    moved: Vec<(Pid, CpuSet)>,
}

impl OneCore {
    fn new(server: u32) -> io::Result<OneCore> {
        let allowed = sched_getaffinity(None)?;
        let mut core = CpuSet::new();
        if let Some(last) = (0..CpuSet::MAX_CPU).rev().find(|cpu| allowed.is_set(*cpu)) {
            core.set(last);
        }
        let mut one = OneCore {
            core: Some(core),
            moved: Vec::new(),
        };
        for task in fs::read_dir(format!("/proc/{server}/task"))? {
            let tid = task?
                .file_name()
                .to_str()
                .and_then(|tid| tid.parse().ok())
                .and_then(Pid::from_raw);
            // A thread that ends meanwhile needs no moving.
            if let Some((tid, was)) =
                tid.and_then(|tid| Some((tid, sched_getaffinity(Some(tid)).ok()?)))
            {
                one.moved.push((tid, was));
                let _ = sched_setaffinity(Some(tid), &core);
            }
        }
        Ok(one)
    }

    /// Moves the calling thread there too.
    fn join(&self) {
        if let Some(core) = &self.core {
            let _ = sched_setaffinity(None, core);
        }
    }
}

impl Drop for OneCore {
    fn drop(&mut self) {
        for (tid, was) in &self.moved {
            let _ = sched_setaffinity(Some(*tid), was);
        }
    }
}

fn sample_at(clock: &Clock, at: u64, pid: u32) -> Sample {
    std::thread::sleep(Duration::from_nanos(at.saturating_sub(clock.now())));
    Sample {
        at: clock.now(),
        server: ServerCpu::read(pid),
        client: client_ns(),
        machine: machine_ns(),
    }
}

fn measure(row: Row, plan: &Plan, tally: Tally, before: &Sample, after: &Sample) -> Measure {
    let ops = tally.latency.len() as f64 / plan.time.as_secs_f64();
    // The samples are taken a little late on a busy machine: compare rates, not sums.
    let span = (after.at - before.at).max(1) as f64;
    let cores = |ns: u64| ns as f64 / span;
    let server = cores(after.server.since(&before.server));
    let client = cores(after.client - before.client);
    let machine = cores(after.machine.saturating_sub(before.machine));
    let an_op = |cores: f64| if ops > 0.0 { cores * 1e6 / ops } else { 0.0 };
    let micros = |quantile| tally.latency.value_at_quantile(quantile) as f64 / 1e3;
    Measure {
        ops,
        mb: ops * f64::from(row.size) / 1e6,
        p50: micros(0.5),
        p99: micros(0.99),
        server_cpu: an_op(server),
        client_cpu: an_op(client),
        other_cores: (machine - server - client).max(0.0),
        errors: tally.errors,
        samples: tally.samples,
    }
}

/// Drives one thread's connections to the end; a connection that breaks is an error of the row.
fn drive(conns: Vec<Conn>, clock: &Clock, block: &[u8]) -> Tally {
    let mut tally = Tally::default();
    let done = match <[Conn; 1]>::try_from(conns) {
        Ok([conn]) => drive_one(conn, clock, block, &mut tally),
        Err(conns) => drive_many(conns, clock, block, &mut tally),
    };
    if let Err(e) = done {
        tally.fault(e.to_string());
    }
    tally
}

fn hung(in_flight: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("no reply in {PATIENCE:?}, {in_flight} calls in flight"),
    )
}

/// One connection: no event loop, a blocking receive is the shortest way to the next reply.
fn drive_one(mut conn: Conn, clock: &Clock, block: &[u8], tally: &mut Tally) -> io::Result<()> {
    conn.fill(clock.now());
    while conn.in_flight() > 0 {
        if !conn.flush(block)? {
            let both = PollFlags::IN | PollFlags::OUT;
            let limit = Timespec {
                tv_sec: PATIENCE.as_secs() as i64,
                tv_nsec: 0,
            };
            if poll(&mut [PollFd::new(conn.stream(), both)], Some(&limit))? == 0 {
                return Err(hung(conn.in_flight()));
            }
            conn.receive(false, clock, tally)?;
        } else if !conn.receive(true, clock, tally)? {
            return Err(hung(conn.in_flight()));
        }
    }
    Ok(())
}

fn drive_many(
    mut conns: Vec<Conn>,
    clock: &Clock,
    block: &[u8],
    tally: &mut Tally,
) -> io::Result<()> {
    let ep = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut blocked = vec![false; conns.len()];
    for (i, conn) in conns.iter_mut().enumerate() {
        epoll::add(
            &ep,
            conn.stream(),
            epoll::EventData::new_u64(i as u64),
            epoll::EventFlags::IN,
        )?;
        conn.fill(clock.now());
        blocked[i] = push(&ep, conn, i, false, block)?;
    }
    let mut events = Vec::with_capacity(conns.len());
    let limit = Timespec {
        tv_sec: PATIENCE.as_secs() as i64,
        tv_nsec: 0,
    };
    let in_flight = |conns: &[Conn]| conns.iter().map(Conn::in_flight).sum::<usize>();
    while clock.now() < clock.to || in_flight(&conns) > 0 {
        events.clear();
        match epoll::wait(
            &ep,
            rustix::buffer::spare_capacity(&mut events),
            Some(&limit),
        ) {
            Ok(0) => return Err(hung(in_flight(&conns))),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        for event in &events {
            let i = event.data.u64() as usize;
            conns[i].receive(false, clock, tally)?;
            blocked[i] = push(&ep, &mut conns[i], i, blocked[i], block)?;
        }
    }
    Ok(())
}

/// Sends what is queued; asks epoll for room only while some is left. Answers whether some is.
fn push(
    ep: impl AsFd,
    conn: &mut Conn,
    i: usize,
    was_blocked: bool,
    block: &[u8],
) -> io::Result<bool> {
    let blocked = !conn.flush(block)?;
    if blocked != was_blocked {
        let mut flags = epoll::EventFlags::IN;
        flags.set(epoll::EventFlags::OUT, blocked);
        epoll::modify(
            ep,
            conn.stream(),
            epoll::EventData::new_u64(i as u64),
            flags,
        )?;
    }
    Ok(blocked)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{FILES, ROWS};
    use std::io::{Read, Write};
    use std::net::TcpListener;

    /// A server of one connection that answers each call with `reply` of its number, count from 0.
    fn answers(reply: impl Fn(u32, u32) -> Option<Vec<u32>> + Send + 'static) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for count in 0.. {
                let mut mark = [0; 4];
                if stream.read_exact(&mut mark).is_err() {
                    return;
                }
                let mut call = vec![0; (u32::from_be_bytes(mark) & 0x7fff_ffff) as usize];
                stream.read_exact(&mut call).unwrap();
                let xid = u32::from_be_bytes(*call.first_chunk().unwrap());
                let Some(words) = reply(count, xid) else {
                    return;
                };
                let mut bytes = (0x8000_0000 | (words.len() * 4) as u32)
                    .to_be_bytes()
                    .to_vec();
                bytes.extend(words.iter().flat_map(|word| word.to_be_bytes()));
                let _ = stream.write_all(&bytes);
            }
        });
        addr
    }

    fn getattr(addr: SocketAddr) -> Measure {
        let row = *ROWS.iter().find(|row| row.id == "getattr-1x1").unwrap();
        let targets = Targets {
            read: vec![vec![1; 8]; FILES],
            real: true,
            ..Targets::default()
        };
        let (warmup, time) = (Duration::from_millis(50), Duration::from_millis(100));
        let plan = Plan {
            addr,
            pid: std::process::id(),
            threads: 1,
            warmup,
            time,
            one_core: false,
        };
        run(row, &targets, &plan).unwrap()
    }

    fn good(xid: u32) -> Vec<u32> {
        let mut words = vec![xid, 1, 0, 0, 0, 0, 0];
        words.extend([1, 0o644, 1, 0, 0, 0, FILE_SIZE as u32]);
        words.resize(7 + 21, 0);
        words
    }

    #[test]
    fn right_replies_are_counted_without_errors() {
        let measure = getattr(answers(|_, xid| Some(good(xid))));
        assert!(measure.ops > 0.0 && measure.p50 > 0.0);
        assert_eq!((measure.errors, measure.samples), (0, vec![]));
    }

    #[test]
    fn every_wrong_reply_is_an_error_that_says_what_was_wrong() {
        type Answer = fn(u32) -> Vec<u32>;
        let cases: [(&str, Answer); 5] = [
            ("NFS status 70", |xid| vec![xid, 1, 0, 0, 0, 0, 70]),
            ("accept_stat 4", |xid| vec![xid, 1, 0, 0, 0, 4]),
            ("cut short", |xid| good(xid)[..12].to_vec()),
            ("wrong contents", |xid| {
                good(xid)
                    .iter()
                    .map(|w| if *w == FILE_SIZE as u32 { 5 } else { *w })
                    .collect()
            }),
            ("not outstanding", |xid| good(xid ^ 1 << 20)),
        ];
        for (said, reply) in cases {
            let measure = getattr(answers(move |count, xid| {
                Some(if count == 3 { reply(xid) } else { good(xid) })
            }));
            assert_eq!(measure.errors, 1, "{said}: {:?}", measure.samples);
            assert!(
                measure.samples[0].contains(said),
                "{said}: {:?}",
                measure.samples
            );
        }
    }

    #[test]
    fn a_closed_connection_is_an_error() {
        let measure = getattr(answers(|count, xid| (count < 5).then(|| good(xid))));
        assert_eq!(measure.errors, 1);
        assert!(
            measure.samples[0].contains("closed"),
            "{:?}",
            measure.samples
        );
    }
}
