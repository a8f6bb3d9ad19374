//! Plain sends of READ replies against zero-copy ones, no NFS: `tests/bench/run --sends`.
//!
//! Usage: `sends table SECONDS REPEAT NAME=ADDR...` measures every way and size against the sink at each address, all in
//! turns, each in a process of its own, and prints the medians. `sends sink ADDR` takes connections and reads them to
//! their ends. `sends send ADDR WAY KIB SECONDS` is one measurement; the table reads its line.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use bench::cpu::client_ns;
use vfs::uring::send_bench::{Way, send_for};

const WAYS: &[(&str, Way)] = &[
    ("sendmsg", Way::Sendmsg),
    ("sendmsg_zc", Way::SendmsgZc),
    ("send_zc, registered", Way::SendZcFixed),
];
/// Payloads of READ replies.
const KIB: [usize; 3] = [64, 256, 1024];

/// One measurement: GB/s, microseconds of CPU a MiB of the sender and of the receiver, share of sends that were copied.
#[derive(Clone, Copy, Default)]
struct Measure {
    gb: f64,
    sender: f64,
    receiver: f64,
    copied: f64,
}

/// Answers each connection, at its end, with the bytes it had and the nanoseconds of CPU it cost here.
fn sink(addr: &str) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    let listener = TcpListener::bind(addr)?;
    println!("ready");
    loop {
        let (mut stream, _) = listener.accept()?;
        let (before, mut bytes) = (client_ns(), 0);
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => bytes += n as u64,
                Err(e) => {
                    eprintln!("sends: {e}");
                    break;
                }
            }
        }
        let cpu = client_ns() - before;
        // A sender that is gone does not want it.
        let _ = stream.write_all(&[bytes.to_be_bytes(), cpu.to_be_bytes()].concat());
    }
}

fn send(addr: &str, way: Way, kib: usize, time: Duration) -> io::Result<()> {
    let mut stream = TcpStream::connect(addr)?;
    stream.set_nodelay(true)?;
    let (start, before) = (Instant::now(), client_ns());
    let sent = send_for(&stream, way, kib << 10, || start.elapsed() < time)?;
    stream.shutdown(Shutdown::Write)?;
    let mut words = [0; 16];
    stream.read_exact(&mut words)?;
    let (wall, cpu) = (start.elapsed().as_nanos(), client_ns() - before);
    let word = |at: usize| {
        words[at..]
            .first_chunk()
            .map_or(0, |w| u64::from_be_bytes(*w))
    };
    if word(0) != sent.bytes {
        let lost = format!("{} bytes sent, {} received", sent.bytes, word(0));
        return Err(io::Error::other(lost));
    }
    println!(
        "{} {wall} {cpu} {} {} {}",
        sent.bytes,
        word(8),
        sent.notified,
        sent.copied
    );
    Ok(())
}

fn measure(addr: &str, way: &str, kib: usize, seconds: &str) -> io::Result<Measure> {
    let output = Command::new(std::env::current_exe()?)
        .args(["send", addr, way, &kib.to_string(), seconds])
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = said
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect();
    let [bytes, wall, cpu, receiver, notified, copied] = numbers[..] else {
        let why = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{way}: {}", why.trim())));
    };
    let mib = bytes / f64::from(1 << 20);
    Ok(Measure {
        gb: bytes / wall,
        sender: cpu / 1e3 / mib,
        receiver: receiver / 1e3 / mib,
        copied: copied / notified.max(1.0),
    })
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// Prints one line for each network, size and way; ratios are medians of those of each turn.
fn table(seconds: &str, repeat: usize, networks: &[(&str, &str)]) -> io::Result<()> {
    println!(
        "| network | payload | send | GB/s | sender us/MiB | against sendmsg | receiver us/MiB | against sendmsg | copied all the same |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    for (network, addr) in networks {
        for kib in KIB {
            let turn = |_| {
                let one = |way: &(&str, Way)| measure(addr, way.0, kib, seconds);
                WAYS.iter().map(one).collect::<io::Result<Vec<_>>>()
            };
            let turns = (0..repeat).map(turn).collect::<io::Result<Vec<_>>>()?;
            for (index, (way, _)) in WAYS.iter().enumerate() {
                let of =
                    |value: fn(&Measure) -> f64| median(turns.iter().map(|t| value(&t[index])));
                let ratio = |value: fn(&Measure) -> f64| {
                    median(turns.iter().map(|t| value(&t[index]) / value(&t[0])))
                };
                println!(
                    "| {network} | {kib} KiB | {way} | {:.2} | {:.0} | {:.2} x | {:.0} | {:.2} x | {:.0}% |",
                    of(|m| m.gb),
                    of(|m| m.sender),
                    ratio(|m| m.sender),
                    of(|m| m.receiver),
                    ratio(|m| m.receiver),
                    of(|m| m.copied) * 100.0,
                );
            }
        }
    }
    Ok(())
}

fn seconds(text: &str) -> Option<Duration> {
    let seconds = text.parse().ok()?;
    (0.05..=3600.0)
        .contains(&seconds)
        .then(|| Duration::from_secs_f64(seconds))
}

fn run(args: &[&str]) -> Option<io::Result<()>> {
    match args {
        ["sink", addr] => Some(sink(addr)),
        ["send", addr, way, kib, time] => {
            let (_, way) = WAYS.iter().find(|known| known.0 == *way)?;
            let kib = kib
                .parse()
                .ok()
                .filter(|kib| (1..=16 << 10).contains(kib))?;
            Some(send(addr, *way, kib, seconds(time)?))
        }
        ["table", time, repeat, networks @ ..] => {
            seconds(time)?;
            let repeat = repeat.parse().ok().filter(|n| (1..=1000).contains(n))?;
            let networks: Option<Vec<_>> = networks.iter().map(|n| n.split_once('=')).collect();
            Some(table(time, repeat, &networks?))
        }
        _ => None,
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args) {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(e)) => {
            eprintln!("sends: {e}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!(
                "usage: sends table SECONDS REPEAT NAME=ADDR... | sink ADDR | send ADDR WAY KIB SECONDS"
            );
            ExitCode::from(2)
        }
    }
}
