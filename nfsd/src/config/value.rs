//! Sizes and times as people write them.

use std::time::Duration;

const SIZES: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];
const TIMES: [(&str, u64); 4] = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];

/// Reads `4096`, `64KiB`, `1MiB`, `2GiB`. No fractions, no powers of ten.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = if unit.is_empty() {
        1
    } else {
        SIZES.iter().find(|(name, _)| *name == unit)?.1
    };
    number.checked_mul(factor)
}

/// The size in the largest unit that is exact.
pub fn show_size(bytes: u64) -> String {
    let (unit, factor) = SIZES
        .iter()
        .find(|(_, factor)| bytes != 0 && bytes.is_multiple_of(*factor))
        .unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / factor)
}

/// Reads `500ms`, `30s`, `2m`, `1h`. The unit is required.
pub fn parse_time(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let (_, factor) = TIMES.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor).map(Duration::from_millis)
}

/// The time in the largest unit that is exact; below a millisecond is cut off.
pub fn show_time(time: Duration) -> String {
    let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (unit, factor) = ["h", "m", "s"]
        .iter()
        .filter_map(|unit| TIMES.iter().find(|(name, _)| name == unit))
        .find(|(_, factor)| millis != 0 && millis.is_multiple_of(*factor))
        .unwrap_or(&("ms", 1));
    format!("{}{unit}", millis / factor)
}

/// Digits, and what comes after them.
fn split(text: &str) -> Option<(u64, &str)> {
    let end = text
        .bytes()
        .position(|b| !b.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end)?;
    Some((digits.parse().ok()?, unit.trim_start_matches(' ')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        let cases = [
            ("0", 0),
            ("4096", 4096),
            ("1B", 1),
            ("64KiB", 65536),
            ("1 MiB", 1 << 20),
            ("2TiB", 2 << 40),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_size(text), Some(bytes), "{text}");
        }
        for bad in [
            "",
            "MiB",
            "1MB",
            "1.5MiB",
            "-1",
            "1 MiB ",
            "1mib",
            "99999999999TiB",
            "18446744073709551616",
        ] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
        assert_eq!(show_size(1088 << 10), "1088KiB");
        assert_eq!(show_size(0), "0B");
    }

    #[test]
    fn times() {
        let cases = [
            ("500ms", 500),
            ("30s", 30_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0s", 0),
        ];
        for (text, millis) in cases {
            assert_eq!(
                parse_time(text),
                Some(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for bad in ["", "30", "s", "1.5s", "1d", "-1s", "99999999999999999h"] {
            assert_eq!(parse_time(bad), None, "{bad}");
        }
        assert_eq!(show_time(Duration::from_secs(90)), "90s");
        assert_eq!(show_time(Duration::from_secs(120)), "2m");
        assert_eq!(show_time(Duration::ZERO), "0ms");
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(bytes in any::<u64>(), millis in any::<u32>()) {
            prop_assert_eq!(parse_size(&show_size(bytes)), Some(bytes));
            let time = Duration::from_millis(millis.into());
            prop_assert_eq!(parse_time(&show_time(time)), Some(time));
        }

        #[test]
        fn any_text_is_read_without_panic(text in ".{0,12}") {
            let _ = (parse_size(&text), parse_time(&text));
        }
    }
}
