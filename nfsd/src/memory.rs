//! The memory of the machine: how much there is, whether it is short of it, and when clients are asked for delegations because of that
//! (RFC 8881 20.6.3: CB_RECALL_ANY is for when resources get scarce).

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

/// Clients have this long to give back what they were asked for before they are asked again.
pub const PAUSE: Duration = Duration::from_secs(10);
/// The lines wanted are the first ones of /proc/meminfo.
const BEGIN: usize = 512;

/// Memory of the machine, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// What could be had without swapping, as the kernel estimates it.
    pub available: u64,
}

impl Memory {
    /// From the text of /proc/meminfo (proc_meminfo(5)); `None` if it does not say.
    #[must_use]
    pub fn parse(text: &str) -> Option<Memory> {
        let line = |name| text.lines().find_map(|line| line.strip_prefix(name));
        let bytes = |name| {
            let kib = line(name)?.trim().strip_suffix("kB")?.trim();
            kib.parse::<u64>().ok()?.checked_mul(1024)
        };
        Some(Memory {
            total: bytes("MemTotal:")?,
            available: bytes("MemAvailable:")?,
        })
    }

    /// Less than so many percent of it are available.
    #[must_use]
    pub fn scarce(&self, percent: u32) -> bool {
        u128::from(self.available) * 100 < u128::from(self.total) * u128::from(percent)
    }
}

/// Decides when clients are asked.
#[derive(Default)]
pub struct Pressure {
    not_before: Option<Instant>,
}

impl Pressure {
    /// Whether they are to be asked `now`. Memory of which nothing is known is not scarce.
    #[must_use]
    pub fn due(&self, memory: Option<Memory>, percent: u32, now: Instant) -> bool {
        let scarce = memory.is_some_and(|memory| memory.scarce(percent));
        scarce && self.not_before.is_none_or(|at| now >= at)
    }

    /// Somebody was asked.
    pub fn asked(&mut self, now: Instant) {
        self.not_before = now.checked_add(PAUSE);
    }
}

/// /proc/meminfo, kept open. Reading it waits for nothing: the kernel adds some counters up.
pub struct Meminfo(Option<File>);

impl Meminfo {
    /// Opens it. Without it memory is never scarce.
    #[must_use]
    pub fn open() -> Meminfo {
        let opened = File::open("/proc/meminfo");
        if let Err(error) = &opened {
            tracing::warn!(%error, "/proc/meminfo: not known when memory is scarce");
        }
        Meminfo(opened.ok())
    }

    /// How it stands.
    #[must_use]
    pub fn read(&self) -> Option<Memory> {
        let mut text = [0; BEGIN];
        let len = self.0.as_ref()?.read_at(&mut text, 0).ok()?;
        Memory::parse(std::str::from_utf8(text.get(..len)?).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "MemTotal:        1000000 kB\nMemFree:  7 kB\nMemAvailable:     50000 kB\nBuffers: 9 kB\nCach";

    #[test]
    fn what_the_kernel_says() {
        let memory = Memory::parse(TEXT).expect("both lines");
        assert_eq!(
            (memory.total, memory.available),
            (1_024_000_000, 51_200_000)
        );
        for (from, to) in [
            ("MemAvailable", "MemAvail"),
            ("50000 kB", "50000 MB"),
            ("50000", "99999999999999999999"),
            ("50000", "18446744073709551615"),
            ("MemTotal", "memtotal"),
        ] {
            assert_eq!(Memory::parse(&TEXT.replace(from, to)), None, "{to}");
        }
        let here = Meminfo::open().read().expect("Linux");
        assert!(here.available > 0 && here.available < here.total);
        assert_eq!(Meminfo(None).read(), None);
    }

    #[test]
    fn scarce_is_less_than_the_share() {
        let memory = Memory::parse(TEXT).expect("both lines");
        assert!(!memory.scarce(5), "just enough");
        assert!(memory.scarce(6));
        assert!(!memory.scarce(0));
        let most = Memory {
            total: u64::MAX,
            available: u64::MAX - 1,
        };
        assert!(most.scarce(100) && !most.scarce(99));
    }

    #[test]
    fn asked_again_after_a_pause() {
        let memory = Memory::parse(TEXT);
        let start = Instant::now();
        let mut pressure = Pressure::default();
        assert!(!pressure.due(None, 100, start), "nothing known");
        assert!(!pressure.due(memory, 5, start), "enough");
        assert!(pressure.due(memory, 10, start));
        assert!(pressure.due(memory, 10, start), "nobody had anything");
        pressure.asked(start);
        let second = Duration::from_secs(1);
        assert!(!pressure.due(memory, 10, start + second));
        assert!(!pressure.due(memory, 10, start + PAUSE - second));
        assert!(pressure.due(memory, 10, start + PAUSE));
        assert!(!pressure.due(memory, 5, start + PAUSE), "enough again");
    }
}
