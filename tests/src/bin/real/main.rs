//! `real`: what the real Linux client needs for everyday work, by wall time, against each server.
//!
//!     tests/bench/run --real [--versions 3,4.1,4.2] [--works untar,rsync] [--servers ringnfs,knfsd] [--files 5000]
//!                            [--repeat 3] [--barriers] [--ops] [--list]
//!
//! Each server has a client of its own, a user-mode Linux guest, and an ext4 file system in an image file; all are up at
//! once and take turns, work by work. Before a work the client mounts anew, so it knows nothing. `--ops` also shows what
//! the client asked: calls, milliseconds until the reply, errors.
//!
//! The disk of a guest (ubd) answers a flush without one, so knfsd's journal commits would cost nothing of what the
//! others' do. That all have the same, the file systems are mounted `barrier=0`: a commit is written, not flushed, as with
//! a disk whose cache survives power loss. `--barriers` leaves the flushes of those that can have them; knfsd is then no
//! comparison.

use std::process::ExitCode;
use std::sync::Arc;

use tests::crates::Project;
use tests::need::{self, GUEST};
use tests::netns::Rig;
use tests::server::{Config, Kind, Server};
use tests::uml::{Boot, Guest};
use tests::version::Version;

mod report;
mod stats;
mod works;

use report::{Report, Sample};
use works::{WORKS, Work};

/// A server under test.
#[derive(Clone, Copy)]
struct Contender {
    name: &'static str,
    about: &'static str,
    kind: Kind,
    options: &'static str,
}

/// All of them; the first is what the others are compared with.
const CONTENDERS: [Contender; 4] = [
    Contender {
        name: "ringnfs",
        about: "this server, export sync: names are on stable storage before the reply",
        kind: Kind::Ringnfs,
        options: "rw,no_root_squash,insecure,sync",
    },
    Contender {
        name: "async",
        about: "this server, export async: the fair comparison with ganesha",
        kind: Kind::Ringnfs,
        options: "rw,no_root_squash,insecure,async",
    },
    Contender {
        name: "ganesha",
        about: "nfs-ganesha, FSAL VFS: it never waits for names to be on stable storage",
        kind: Kind::Ganesha,
        options: "",
    },
    Contender {
        name: "knfsd",
        about: "the kernel's server, export sync, in a user-mode Linux guest, which makes it slower than on a machine",
        kind: Kind::Knfsd,
        options: "rw,no_root_squash,insecure",
    },
];

/// The command line.
struct Args {
    versions: Vec<Version>,
    works: Vec<&'static Work>,
    contenders: Vec<Contender>,
    files: u64,
    repeat: u64,
    ops: bool,
    barriers: bool,
}

/// Seconds a script may take.
const LIMIT: u64 = 1800;

fn pick<T: Copy>(flag: &str, list: &str, of: &[(&str, T)]) -> Result<Vec<T>, String> {
    let one = |name: &str| {
        let found = of.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| *value).ok_or_else(|| {
            let known: Vec<_> = of.iter().map(|(known, _)| *known).collect();
            format!("{flag} {list}: {name} is not one of {}", known.join(", "))
        })
    };
    list.split(',').map(one).collect()
}

fn number(flag: &str, text: &str, range: std::ops::RangeInclusive<u64>) -> Result<u64, String> {
    let value = text.parse().ok().filter(|n| range.contains(n));
    value.ok_or_else(|| {
        format!(
            "{flag} {text}: a number from {} to {}",
            range.start(),
            range.end()
        )
    })
}

fn arguments() -> Result<Option<Args>, String> {
    let versions = Version::ALL.map(|v| (v.name(), v));
    let works: Vec<_> = WORKS.iter().map(|w| (w.name, w)).collect();
    let contenders = CONTENDERS.map(|c| (c.name, c));
    let mut args = Args {
        versions: vec![Version::V3, Version::V4_1, Version::V4_2],
        works: WORKS.iter().collect(),
        contenders: CONTENDERS.to_vec(),
        files: 5000,
        repeat: 3,
        ops: false,
        barriers: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let (flag, value) = match word.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
            None => (word, None),
        };
        if flag == "--list" {
            return Ok(None);
        }
        if flag == "--ops" {
            args.ops = true;
            continue;
        }
        if flag == "--barriers" {
            args.barriers = true;
            continue;
        }
        let value = value.or_else(|| words.next());
        let value = value.ok_or_else(|| format!("{flag} wants a value"))?;
        match flag.as_str() {
            "--versions" => args.versions = pick(&flag, &value, &versions)?,
            "--works" => args.works = pick(&flag, &value, &works)?,
            "--servers" => args.contenders = pick(&flag, &value, &contenders)?,
            "--files" => args.files = number(&flag, &value, 50..=100_000)?,
            "--repeat" => args.repeat = number(&flag, &value, 1..=99)?,
            _ => {
                return Err(format!(
                    "{flag}: options are --versions, --works, --servers, --files, --repeat, --barriers, --ops, --list"
                ));
            }
        }
    }
    Ok(Some(args))
}

/// A server and its client. Fields drop in this order.
struct Bed {
    contender: Contender,
    guest: Guest,
    server: Server,
    project: Option<Project>,
    _rig: Arc<Rig>,
}

impl Bed {
    fn new(contender: Contender, files: u64, barriers: bool) -> Bed {
        let rig = Rig::new();
        let guest = std::env::current_exe()
            .expect("this program")
            .with_file_name("guest");
        rig.place(&guest);
        let project = Project::new(&rig);
        let config = Config {
            kind: contender.kind,
            options: contender.options.to_owned(),
            ..Config::default()
        };
        let server = Server::start(&rig, &config);
        if !barriers {
            server.on_export("mount -o remount,barrier=0 .");
        }
        // A compiler needs more memory than the usual guest has.
        let boot = Boot {
            mem: 1536,
            ..Boot::default()
        };
        let guest = Guest::boot(&rig, &boot);
        guest.ok(LIMIT, &works::prepare(files));
        Bed {
            contender,
            guest,
            server,
            project,
            _rig: rig,
        }
    }

    fn mount(&self, version: Version) {
        // A server in its grace period lets a first mount wait.
        self.guest
            .ok(120, &self.server.target.mount(version, "/mnt/nfs", ""));
    }

    fn measure(&self, version: Version, work: &Work, files: u64) -> Sample {
        self.mount(version);
        self.guest.ok(LIMIT, &work.before(files));
        self.server.on_export("sync -f .");
        self.mount(version);
        let cpu = || self.server.pid().map(report::cpu_seconds);
        let before = cpu();
        let said = self
            .guest
            .ok(LIMIT, &work.timed(files, self.project.as_ref()));
        let cpu = before.zip(cpu()).map(|(before, after)| after - before);
        let last = said.lines().last().unwrap_or_default();
        let seconds = last
            .parse()
            .unwrap_or_else(|_| panic!("real: no time in {said}"));
        let counts = |name: &str| {
            let text = std::fs::read_to_string(self.guest.dir().join(name)).expect("mountstats");
            stats::parse(&text, "/mnt/nfs")
        };
        let counts = stats::between(&counts("before"), &counts("after"));
        self.guest.ok(LIMIT, &Work::after(files));
        Sample {
            seconds,
            cpu,
            counts,
        }
    }
}

fn run(args: &Args) -> bool {
    let mut complete = true;
    let mut beds = Vec::new();
    for contender in &args.contenders {
        let name = format!("real: {}", contender.name);
        if need::have(&name, &[GUEST, contender.kind.needs()]) {
            beds.push(Bed::new(*contender, args.files, args.barriers));
        } else {
            complete = false;
        }
    }
    let mut report = Report::new(beds.iter().map(|b| b.contender.name).collect());
    for &version in &args.versions {
        for work in &args.works {
            eprint!("v{version} {}:", work.name);
            for _ in 0..args.repeat {
                for bed in &beds {
                    if work.builds() && bed.project.is_none() {
                        need::not_run("real: build", "the sources of its crates in cargo's cache");
                        complete = false;
                        continue;
                    }
                    let sample = bed.measure(version, work, args.files);
                    eprint!(" {} {:.2}", bed.contender.name, sample.seconds);
                    report.add(
                        &format!("v{version} {}", work.name),
                        bed.contender.name,
                        sample,
                    );
                }
            }
            eprintln!();
        }
    }
    print!("\n{}", report.table());
    if args.ops {
        print!("\n{}", report.operations());
    }
    for work in WORKS {
        println!("{}: {}", work.name, work.about);
    }
    for contender in &args.contenders {
        println!("{}: {}", contender.name, contender.about);
    }
    println!(
        "FILES = {}; the client, too, is a guest of one CPU whose system calls and faults cost microseconds.",
        args.files
    );
    complete
}

fn main() -> ExitCode {
    match arguments() {
        Ok(Some(args)) => match run(&args) {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        },
        Ok(None) => {
            for work in WORKS {
                println!("work    {:<8} {}", work.name, work.about);
            }
            for contender in CONTENDERS {
                println!("server  {:<8} {}", contender.name, contender.about);
            }
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("real: {e}");
            ExitCode::from(2)
        }
    }
}
