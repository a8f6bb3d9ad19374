//! How long a READ or WRITE may be: decided by the buffers there are, and what has to fit it.

use vfs::uring::buf::HEAD_BYTES;

use super::Limits;
use super::value::show_size;

/// Most bytes of one READ or WRITE that can be set, as many as the Linux client knows.
pub const TRANSFER_MOST: u64 = 4 << 20;
/// What a request may have beside the data of a WRITE, and a reply beside that of a READ: headers.
pub const TRANSFER_HEAD: u64 = HEAD_BYTES as u64;
/// Transfers are set in whole blocks of so many bytes.
pub(super) const BLOCK: u64 = 4 << 10;
/// Transfers the buffers must hold, or transfers have to be shorter.
const TRANSFERS_LEAST: u64 = 16;

/// Most bytes of one READ or WRITE where the buffers have so many: 1 MiB; 2 MiB with 896 MiB of buffers, as a
/// machine of 8 GiB has them by default, and 4 MiB with twice as many. So at least 448 of the longest fit.
pub(super) fn for_buffers(buffers_bytes: u64) -> u64 {
    // An eighth less than the round number: of 8 GiB some are the kernel's.
    match buffers_bytes >> 20 {
        0..896 => 1 << 20,
        896..1792 => 2 << 20,
        _ => TRANSFER_MOST,
    }
}

impl Limits {
    /// Shortens transfers where each of so many threads, with its part of the buffers, does not have sixteen of them;
    /// down to 1 MiB, for which there is always room. Whether that was so.
    pub fn shorten_transfers(&mut self, threads: usize) -> bool {
        let each = self.buffers_bytes / threads.max(1) as u64;
        let most = (each / TRANSFERS_LEAST).clamp(1 << 20, TRANSFER_MOST);
        if self.transfer_bytes <= most {
            return false;
        }
        self.transfer_bytes = 1 << most.ilog2();
        self.record_bytes = self.record_bytes.min(self.transfer_bytes + TRANSFER_HEAD);
        true
    }
}

/// Sets what a file leaves open of transfers, buffers and records, so that they fit what it says. What does not fit:
/// line, message, value and fix.
pub(super) fn fit(
    limits: &mut Limits,
    line_of: impl Fn(&str) -> Option<u32>,
) -> Option<(u32, &'static str, String, String)> {
    let record = line_of("limits.record_bytes");
    let Some(line) = line_of("limits.transfer_bytes") else {
        limits.transfer_bytes = for_buffers(limits.buffers_bytes);
        match record {
            None => limits.record_bytes = limits.transfer_bytes + TRANSFER_HEAD,
            Some(_) => {
                let fit = limits.record_bytes.saturating_sub(TRANSFER_HEAD);
                limits.transfer_bytes = limits.transfer_bytes.min(fit / BLOCK * BLOCK);
            }
        }
        return None;
    };
    let value = show_size(limits.transfer_bytes);
    let most = limits.buffers_bytes / TRANSFERS_LEAST;
    if limits.transfer_bytes > most {
        let fix = format!(
            "write at most \"{}\", or limits.buffers_bytes = \"{}\"",
            show_size(most / BLOCK * BLOCK),
            show_size(limits.transfer_bytes * TRANSFERS_LEAST)
        );
        let message = "limits.transfer_bytes: the buffers do not hold sixteen so long";
        return Some((line, message, value, fix));
    }
    let needed = limits.transfer_bytes + TRANSFER_HEAD;
    if record.is_none() {
        limits.record_bytes = needed;
    } else if limits.record_bytes < needed {
        let fit = limits.record_bytes.saturating_sub(TRANSFER_HEAD);
        let fix = format!(
            "write at most \"{}\", or limits.record_bytes = \"{}\"",
            show_size(fit / BLOCK * BLOCK),
            show_size(needed)
        );
        let message = "limits.transfer_bytes: longer than a request may be, with its headers";
        return Some((line, message, value, fix));
    }
    None
}
