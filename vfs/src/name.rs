//! One component of a path, as it came over the wire: bytes, not text.

use std::ffi::{CStr, CString};

use crate::errno::{Errno, Result};

/// Longest component (`NAME_MAX` of every Linux file system).
pub const NAME_MAX: usize = 255;

/// A component that is safe to hand to the kernel: not empty, no NUL, no slash, not too long.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Name(CString);

impl Name {
    /// Checks a component.
    ///
    /// # Errors
    /// `EACCES` when empty or with a slash (as Linux servers answer), `EINVAL` with a NUL byte,
    /// `ENAMETOOLONG` above [`NAME_MAX`] bytes.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        if bytes.is_empty() || bytes.contains(&b'/') {
            return Err(Errno::EACCES);
        }
        CString::new(bytes).map(Name).map_err(|_| Errno::EINVAL)
    }

    /// `.`
    pub fn dot() -> Self {
        Name(c".".to_owned())
    }

    /// The directory itself.
    pub fn is_dot(&self) -> bool {
        self.as_bytes() == b"."
    }

    /// The parent directory.
    pub fn is_dotdot(&self) -> bool {
        self.as_bytes() == b".."
    }

    /// `.` or `..`.
    pub fn is_special(&self) -> bool {
        self.is_dot() || self.is_dotdot()
    }

    /// The bytes, without a NUL.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// For system calls.
    pub fn as_c_str(&self) -> &CStr {
        &self.0
    }

    /// For operations that own their arguments.
    pub fn to_c_string(&self) -> CString {
        self.0.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_safe_components_pass() {
        assert!(Name::new(b"a").is_ok());
        assert!(Name::new(&[0xff; 255]).is_ok());
        assert_eq!(Name::new(&[b'a'; 256]), Err(Errno::ENAMETOOLONG));
        assert_eq!(Name::new(b""), Err(Errno::EACCES));
        assert_eq!(Name::new(b"a/b"), Err(Errno::EACCES));
        assert_eq!(Name::new(b"a\0b"), Err(Errno::EINVAL));
    }
}
