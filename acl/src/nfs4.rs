//! The NFSv4 ACL (RFC 8881 6.2.1, RFC 7530 6.2.1): a list of entries (ACEs), each of which allows or denies.
//!
//! Names of users and groups are the caller's business: here they are ids already. What of a list a POSIX ACL can say
//! is decided in [`crate::map`].

use std::fmt;
use std::ops::{BitAnd, BitOr, Not};

use crate::posix::MAX_ENTRIES;

/// Most entries taken: what two POSIX ACLs of [`MAX_ENTRIES`] become, a pair of entries each.
pub const MAX_ACES: usize = 4 * MAX_ENTRIES;

/// The `aclsupport` attribute (RFC 8881 6.2.1.2): entries that allow and entries that deny can be stored.
pub const ACLSUPPORT: u32 = 0x1 | 0x2;

/// `acetype4` (RFC 8881 6.2.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Type {
    /// Allows what its mask names.
    Allow,
    /// Denies it.
    Deny,
    /// Logs it. POSIX ACLs have nothing like it.
    Audit,
    /// Raises an alarm. POSIX ACLs have nothing like it.
    Alarm,
}

impl Type {
    /// The type with this number on the wire.
    pub fn from_wire(word: u32) -> Option<Type> {
        [Type::Allow, Type::Deny, Type::Audit, Type::Alarm]
            .get(usize::try_from(word).ok()?)
            .copied()
    }

    /// Its number on the wire.
    pub fn wire(self) -> u32 {
        self as u32
    }
}

/// A word of bits with names.
macro_rules! bits {
    ($(#[$m:meta])* pub struct $name:ident { $($(#[$bm:meta])* $bit:ident = $value:literal,)* }) => {
        $(#[$m])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $name(u32);

        impl $name {
            $($(#[$bm])* pub const $bit: $name = $name($value);)*
            /// No bit.
            pub const NONE: $name = $name(0);
            /// Every bit the RFC defines.
            pub const DEFINED: $name = $name(0 $(| $value)*);

            /// The bits of a word on the wire, those without a meaning included.
            pub const fn from_wire(word: u32) -> $name {
                $name(word)
            }

            /// The word on the wire.
            pub const fn wire(self) -> u32 {
                self.0
            }

            /// Both together.
            pub const fn with(self, other: $name) -> $name {
                $name(self.0 | other.0)
            }

            /// Whether every bit of `other` is here.
            pub const fn contains(self, other: $name) -> bool {
                self.0 & other.0 == other.0
            }

            /// Whether some bit of `other` is here.
            pub const fn meets(self, other: $name) -> bool {
                self.0 & other.0 != 0
            }
        }

        impl BitOr for $name {
            type Output = $name;
            fn bitor(self, other: $name) -> $name {
                self.with(other)
            }
        }

        impl BitAnd for $name {
            type Output = $name;
            fn bitand(self, other: $name) -> $name {
                $name(self.0 & other.0)
            }
        }

        impl Not for $name {
            type Output = $name;
            fn not(self) -> $name {
                $name(!self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

bits! {
    /// `aceflag4` (RFC 8881 6.2.1.4).
    pub struct Flags {
        /// New files get the entry.
        FILE_INHERIT = 0x1,
        /// New directories get the entry.
        DIRECTORY_INHERIT = 0x2,
        /// New directories do not hand it on.
        NO_PROPAGATE_INHERIT = 0x4,
        /// The entry says nothing about the directory itself.
        INHERIT_ONLY = 0x8,
        /// AUDIT and ALARM: of successes.
        SUCCESSFUL_ACCESS = 0x10,
        /// AUDIT and ALARM: of failures.
        FAILED_ACCESS = 0x20,
        /// The name is a group's.
        IDENTIFIER_GROUP = 0x40,
        /// The entry was inherited (RFC 8881 only).
        INHERITED = 0x80,
    }
}

bits! {
    /// `acemask4` (RFC 8881 6.2.1.3).
    pub struct Mask {
        /// Read the file; list the directory (LIST_DIRECTORY).
        READ_DATA = 0x1,
        /// Write the file; add a file to the directory (ADD_FILE).
        WRITE_DATA = 0x2,
        /// Append to the file; add a directory to the directory (ADD_SUBDIRECTORY).
        APPEND_DATA = 0x4,
        /// Read named attributes.
        READ_NAMED_ATTRS = 0x8,
        /// Write named attributes.
        WRITE_NAMED_ATTRS = 0x10,
        /// Execute the file; search the directory.
        EXECUTE = 0x20,
        /// Remove something from the directory.
        DELETE_CHILD = 0x40,
        /// Read the basic attributes.
        READ_ATTRIBUTES = 0x80,
        /// Change times.
        WRITE_ATTRIBUTES = 0x100,
        /// Change how long the file is retained (RFC 8881 only).
        WRITE_RETENTION = 0x200,
        /// Change the hold on the file (RFC 8881 only).
        WRITE_RETENTION_HOLD = 0x400,
        /// Remove the file.
        DELETE = 0x1_0000,
        /// Read the ACL.
        READ_ACL = 0x2_0000,
        /// Write ACL and mode.
        WRITE_ACL = 0x4_0000,
        /// Change owner and group.
        WRITE_OWNER = 0x8_0000,
        /// Use locally and synchronously.
        SYNCHRONIZE = 0x10_0000,
    }
}

/// Whom an entry is about (RFC 8881 6.2.1.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// `OWNER@`: the owner of the file.
    Owner,
    /// `GROUP@`: the owning group.
    Group,
    /// `EVERYONE@`: all, owner and group included.
    Everyone,
    /// The user with this uid.
    User(u32),
    /// The group with this gid.
    NamedGroup(u32),
}

impl Who {
    /// The special name on the wire, if it is one with a meaning here; other names are users and groups, or, where they
    /// end in `@`, special ones (`INTERACTIVE@`) that no POSIX ACL knows.
    pub fn special(name: &[u8]) -> Option<Who> {
        match name {
            b"OWNER@" => Some(Who::Owner),
            b"GROUP@" => Some(Who::Group),
            b"EVERYONE@" => Some(Who::Everyone),
            _ => None,
        }
    }

    /// The special name on the wire; none for users and groups.
    pub fn special_name(self) -> Option<&'static str> {
        match self {
            Who::Owner => Some("OWNER@"),
            Who::Group => Some("GROUP@"),
            Who::Everyone => Some("EVERYONE@"),
            Who::User(_) | Who::NamedGroup(_) => None,
        }
    }
}

/// `nfsace4`: one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ace {
    /// What it does.
    pub kind: Type,
    /// How it is inherited; [`Flags::IDENTIFIER_GROUP`] goes with [`Who::NamedGroup`].
    pub flags: Flags,
    /// What it is about.
    pub mask: Mask,
    /// Whom it is about.
    pub who: Who,
}

impl Ace {
    /// Whether it says something about the file itself.
    pub fn effective(&self) -> bool {
        !self.flags.contains(Flags::INHERIT_ONLY)
    }

    /// Whether new files or new directories get it.
    pub fn inheritable(&self) -> bool {
        self.flags
            .meets(Flags::FILE_INHERIT | Flags::DIRECTORY_INHERIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_rfc() {
        for (number, kind) in [Type::Allow, Type::Deny, Type::Audit, Type::Alarm]
            .into_iter()
            .enumerate()
        {
            assert_eq!(kind.wire(), number as u32);
            assert_eq!(Type::from_wire(number as u32), Some(kind));
        }
        assert_eq!(Type::from_wire(4), None);
        assert_eq!(Type::from_wire(u32::MAX), None);
        assert_eq!(Mask::DEFINED.wire(), 0x1f_07ff);
        assert_eq!(Flags::DEFINED.wire(), 0xff);
    }

    #[test]
    fn special_names_both_ways() {
        for who in [Who::Owner, Who::Group, Who::Everyone] {
            let name = who.special_name().unwrap();
            assert_eq!(Who::special(name.as_bytes()), Some(who));
        }
        assert_eq!(Who::special(b"INTERACTIVE@"), None);
        assert_eq!(Who::special(b"owner@"), None);
        assert_eq!(Who::User(1).special_name(), None);
    }
}
