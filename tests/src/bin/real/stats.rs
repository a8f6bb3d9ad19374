//! What the client counted: the operations of `/proc/self/mountstats`.

use std::collections::BTreeMap;

/// One operation's counters, summed over its calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Calls.
    pub calls: u64,
    /// Milliseconds from being sent to the reply.
    pub rtt: u64,
    /// Milliseconds from being made to being done, waiting for a slot or for a repetition included.
    pub execute: u64,
    /// Replies with an error.
    pub errors: u64,
}

/// Counters by the operation's name.
pub type Counts = BTreeMap<String, Count>;

/// The counters of the mount at `dir`; empty if there is none.
pub fn parse(mountstats: &str, dir: &str) -> Counts {
    let head = format!(" mounted on {dir} ");
    let mut counts = Counts::new();
    let mount = mountstats.split("\ndevice ").find(|m| m.contains(&head));
    let Some((_, operations)) = mount.and_then(|m| m.split_once("per-op statistics")) else {
        return counts;
    };
    for line in operations.lines() {
        let Some((name, numbers)) = line.trim().split_once(": ") else {
            continue;
        };
        let numbers: Vec<u64> = numbers
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect();
        // calls, transmissions, timeouts, bytes out, bytes in, queue, rtt, execute, errors (since 5.3)
        if let [calls, _, _, _, _, _, rtt, execute, ref rest @ ..] = numbers[..] {
            let errors = rest.first().copied().unwrap_or(0);
            let count = Count {
                calls,
                rtt,
                execute,
                errors,
            };
            counts.insert(name.to_owned(), count);
        }
    }
    counts
}

/// What was counted between two readings.
pub fn between(before: &Counts, after: &Counts) -> Counts {
    let mut counts = Counts::new();
    for (name, count) in after {
        let old = before.get(name).copied().unwrap_or_default();
        let less = |new: u64, old: u64| new.saturating_sub(old);
        let difference = Count {
            calls: less(count.calls, old.calls),
            rtt: less(count.rtt, old.rtt),
            execute: less(count.execute, old.execute),
            errors: less(count.errors, old.errors),
        };
        if difference.calls > 0 {
            counts.insert(name.clone(), difference);
        }
    }
    counts
}

/// All calls.
pub fn calls(counts: &Counts) -> u64 {
    counts.values().map(|c| c.calls).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "device a mounted on / with fstype rootfs\n\
        device h:/e mounted on /mnt/nfs with fstype nfs4 statvers=1.1\n\tage:\t1\n\tper-op statistics\n\
        \t        NULL: 1 1 0 44 24 0 1 2 0\n\t        OPEN: 10 10 0 44 24 0 70 90 3\n\n\
        device none mounted on /tmp with fstype tmpfs\n";

    #[test]
    fn counters_are_of_one_mount_and_subtract() {
        let all = parse(TEXT, "/mnt/nfs");
        assert_eq!(all.len(), 2);
        let open = Count {
            calls: 10,
            rtt: 70,
            execute: 90,
            errors: 3,
        };
        assert_eq!(all["OPEN"], open);
        assert!(parse(TEXT, "/mnt").is_empty());
        assert!(between(&all, &all).is_empty());
        let mut before = all.clone();
        before.remove("OPEN");
        assert_eq!(between(&before, &all)["OPEN"], open);
        assert_eq!(calls(&all), 11);
    }
}
