//! `fsid=` of exports(5): what names an export in file handles besides its path.

use std::fmt;

/// A file system identity given by the administrator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fsid {
    /// A number; 0 is the root of the NFSv4 tree.
    Number(u32),
    /// A UUID, most significant byte first.
    Uuid([u8; 16]),
}

impl Fsid {
    /// The root of the NFSv4 tree (`fsid=0`, `fsid=root`).
    pub const ROOT: Fsid = Fsid::Number(0);

    /// Reads a decimal or `0x` number, `root`, or a UUID: 32 hex digits with any `-` or `:` between them.
    ///
    /// Numbers with a leading zero are refused, as exports(5) readers disagree whether they are octal.
    pub fn parse(text: &str) -> Option<Fsid> {
        if text == "root" {
            return Some(Fsid::ROOT);
        }
        parse_number(text)
            .map(Fsid::Number)
            .or_else(|| parse_uuid(text).map(Fsid::Uuid))
    }

    /// The file system identity clients see. `None` for `fsid=0`, which only marks the NFSv4 root.
    pub fn identity(self) -> Option<u64> {
        match self {
            Fsid::Number(0) => None,
            Fsid::Number(n) => Some(u64::from(n)),
            Fsid::Uuid(id) => Some(vfs::mount::fold(id)),
        }
    }
}

fn parse_number(text: &str) -> Option<u32> {
    if let Some(hex) = text.strip_prefix("0x") {
        let digits = !hex.is_empty() && hex.bytes().all(|b| b.is_ascii_hexdigit());
        return digits.then(|| u32::from_str_radix(hex, 16).ok()).flatten();
    }
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    let mut value: u128 = 0;
    let mut digits = 0;
    for c in text.chars() {
        if c == '-' || c == ':' {
            continue;
        }
        digits += 1;
        if digits > 32 {
            return None;
        }
        value = (value << 4) | u128::from(c.to_digit(16)?);
    }
    (digits == 32).then(|| value.to_be_bytes())
}

impl fmt::Display for Fsid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fsid::Number(number) => write!(f, "{number}"),
            Fsid::Uuid(bytes) => {
                for (i, byte) in bytes.iter().enumerate() {
                    let dash = if matches!(i, 4 | 6 | 8 | 10) { "-" } else { "" };
                    write!(f, "{dash}{byte:02x}")?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_root() {
        assert_eq!(Fsid::parse("0"), Some(Fsid::ROOT));
        assert_eq!(Fsid::parse("root"), Some(Fsid::ROOT));
        assert_eq!(Fsid::parse("4294967295"), Some(Fsid::Number(u32::MAX)));
        assert_eq!(Fsid::parse("0x1f"), Some(Fsid::Number(31)));
        for bad in [
            "",
            "010",
            "-1",
            "+1",
            "4294967296",
            "0x",
            "0x+1",
            "0x1ffffffff",
            "roots",
            "1 ",
        ] {
            assert_eq!(Fsid::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn uuids() {
        let text = "f47ac10b-58cc-4372-a567-0e02b2c3d479";
        let fsid = Fsid::parse(text).expect("a uuid");
        assert_eq!(fsid.to_string(), text);
        assert_eq!(
            Fsid::parse("f47ac10b:58cc4372:a5670e02:b2c3d479"),
            Some(fsid)
        );
        assert_eq!(Fsid::parse("f47ac10b-58cc-4372-a567-0e02b2c3d47"), None);
        assert_eq!(Fsid::parse("f47ac10b-58cc-4372-a567-0e02b2c3d4790"), None);
        assert_eq!(Fsid::parse("g47ac10b-58cc-4372-a567-0e02b2c3d479"), None);
    }

    #[test]
    fn a_uuid_of_digits_only_is_not_a_number() {
        assert!(matches!(
            Fsid::parse("12345678123456781234567812345678"),
            Some(Fsid::Uuid(_))
        ));
    }
}
