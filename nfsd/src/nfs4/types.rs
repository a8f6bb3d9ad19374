//! Basic data types of NFS version 4 (RFC 8881 section 3, RFC 7530 section 2).

use std::fmt;

use crate::xdr::{Dec, Decode, Enc, Encode, Result, xdr_block, xdr_enum, xdr_opaque, xdr_struct};
#[cfg(any(test, feature = "samples"))]
use crate::xdr::{Sample, Tape};

/// Most bytes of a filehandle (NFS4_FHSIZE).
pub const NFS4_FHSIZE: usize = 128;
/// Most bytes of an owner string or a client's name (NFS4_OPAQUE_LIMIT).
pub const OPAQUE_LIMIT: usize = 1024;
/// `verifier4`.
pub type Verifier4 = [u8; 8];
/// `clientid4`.
pub type Clientid4 = u64;
/// `sessionid4`.
pub type Sessionid4 = [u8; 16];
/// `seqid4`, of open-owners and lock-owners.
pub type Seqid4 = u32;
/// `sequenceid4`, of session slots.
pub type Sequenceid4 = u32;
/// `slotid4`.
pub type Slotid4 = u32;
/// `offset4`: bytes from the start of a file.
pub type Offset4 = u64;
/// `length4`: bytes; all ones means to the end of the file.
pub type Length4 = u64;
/// `count4`: bytes.
pub type Count4 = u32;
/// `changeid4`.
pub type Changeid4 = u64;

xdr_opaque! {
    /// `nfs_fh4`: filehandle.
    pub struct NfsFh4(max NFS4_FHSIZE);
    /// `component4`: one name. The file system has the limit and answers NAMETOOLONG; only names far
    /// beyond every file system's are refused while decoding.
    pub struct Component4(max 4096);
    /// `linktext4`: contents of a symbolic link.
    pub struct Linktext4(max 8192);
    /// `utf8str_cs` of COMPOUND: says what a request is for, echoed.
    pub struct Tag4(max 1024);
    /// Name of an owner or a client.
    pub struct OwnerName4(max OPAQUE_LIMIT);
    /// Data of READ and WRITE; the record limit is reached long before.
    pub struct Data4(max 0x0100_0000);
}

xdr_block! {
    /// `stateid4`: names state a client holds.
    pub struct Stateid4 {
        /// Grows with every change of the state; 0 means the latest (4.1).
        pub seqid: u32,
        /// Which state, see `state/stateid.rs`.
        pub other: Other,
    }
}

/// The part of a stateid that stays the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Other(pub [u8; 12]);

impl fmt::Debug for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl crate::xdr::Block for Other {
    const SIZE: usize = 12;
    fn put(&self, out: &mut [u8]) {
        out.copy_from_slice(&self.0);
    }
    fn get(raw: &[u8]) -> Result<Self> {
        raw.try_into()
            .map(Other)
            .map_err(|_| crate::xdr::XdrError::Short)
    }
}

#[cfg(any(test, feature = "samples"))]
impl Sample<'_> for Other {
    fn sample(tape: &mut Tape<'_>) -> Self {
        Other(Sample::sample(tape))
    }
}

impl Stateid4 {
    /// No open needed: reads and writes as anonymous (RFC 8881 8.2.3).
    pub const ANONYMOUS: Stateid4 = Stateid4 {
        seqid: 0,
        other: Other([0; 12]),
    };
    /// As anonymous, and reads pass share reservations (RFC 8881 8.2.3).
    pub const BYPASS: Stateid4 = Stateid4 {
        seqid: u32::MAX,
        other: Other([0xff; 12]),
    };
    /// The stateid an operation before in the same COMPOUND gave (RFC 8881 8.2.3; 4.1).
    pub const CURRENT: Stateid4 = Stateid4 {
        seqid: 1,
        other: Other([0; 12]),
    };
    /// Never valid (RFC 8881 8.2.3).
    pub const INVALID: Stateid4 = Stateid4 {
        seqid: u32::MAX,
        other: Other([0; 12]),
    };
}

xdr_struct! {
    /// `change_info4`: a directory's change attribute around an operation.
    pub struct ChangeInfo4 {
        /// Nothing else changed it in between.
        pub atomic: bool,
        /// Before.
        pub before: Changeid4,
        /// After.
        pub after: Changeid4,
    }

    /// `open_owner4`, `lock_owner4`: who opens or locks, within a client.
    pub struct StateOwner4<'a> {
        /// The client; not looked at in a session (RFC 8881 18.16.3).
        pub clientid: Clientid4,
        /// The owner's name.
        pub owner: OwnerName4<'a>,
    }
}

xdr_enum! {
    /// `nfs_ftype4`: file type.
    pub enum NfsFtype4 {
        /// Regular file.
        Reg = 1 "NF4REG",
        /// Directory.
        Dir = 2 "NF4DIR",
        /// Block special device.
        Blk = 3 "NF4BLK",
        /// Character special device.
        Chr = 4 "NF4CHR",
        /// Symbolic link.
        Lnk = 5 "NF4LNK",
        /// Socket.
        Sock = 6 "NF4SOCK",
        /// Named pipe.
        Fifo = 7 "NF4FIFO",
        /// Named attribute directory.
        Attrdir = 8 "NF4ATTRDIR",
        /// Named attribute.
        Namedattr = 9 "NF4NAMEDATTR",
    }
}

impl From<vfs::FileKind> for NfsFtype4 {
    fn from(kind: vfs::FileKind) -> Self {
        use vfs::FileKind as K;
        match kind {
            K::Regular => Self::Reg,
            K::Directory => Self::Dir,
            K::Symlink => Self::Lnk,
            K::Block => Self::Blk,
            K::Char => Self::Chr,
            K::Fifo => Self::Fifo,
            K::Socket => Self::Sock,
        }
    }
}

/// Words of a bitmap that name attributes this server knows of.
const WORDS: usize = 3;
/// Most words accepted from the wire.
const WORDS_MAX: usize = 64;

/// `bitmap4`: a set of attributes by number.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Bitmap4 {
    /// Attributes 0 to 95.
    pub words: [u32; WORDS],
    /// An attribute above those is in the set.
    pub beyond: bool,
}

impl Bitmap4 {
    /// The empty set.
    pub const EMPTY: Bitmap4 = Bitmap4 {
        words: [0; WORDS],
        beyond: false,
    };

    /// The set of these numbers, each below 96.
    #[must_use]
    pub const fn of(bits: &[u32]) -> Bitmap4 {
        let mut set = Bitmap4::EMPTY;
        let mut i = 0;
        while i < bits.len() {
            set.words[(bits[i] / 32) as usize] |= 1 << (bits[i] % 32);
            i += 1;
        }
        set
    }

    /// Whether `bit` (below 96) is in the set.
    #[inline]
    #[must_use]
    pub const fn has(&self, bit: u32) -> bool {
        self.words[(bit / 32) as usize] >> (bit % 32) & 1 == 1
    }

    /// Adds `bit` (below 96).
    #[inline]
    pub const fn insert(&mut self, bit: u32) {
        self.words[(bit / 32) as usize] |= 1 << (bit % 32);
    }

    /// Takes out `bit` (below 96).
    #[inline]
    pub const fn remove(&mut self, bit: u32) {
        self.words[(bit / 32) as usize] &= !(1 << (bit % 32));
    }

    /// What is in both sets.
    #[must_use]
    pub fn and(&self, other: &Bitmap4) -> Bitmap4 {
        let words = std::array::from_fn(|i| self.words[i] & other.words[i]);
        Bitmap4 {
            words,
            beyond: self.beyond && other.beyond,
        }
    }

    /// What is in this set alone.
    #[must_use]
    pub fn without(&self, other: &Bitmap4) -> Bitmap4 {
        Bitmap4 {
            words: std::array::from_fn(|i| self.words[i] & !other.words[i]),
            beyond: self.beyond && !other.beyond,
        }
    }

    /// What is in either.
    #[must_use]
    pub fn or(&self, other: &Bitmap4) -> Bitmap4 {
        let words = std::array::from_fn(|i| self.words[i] | other.words[i]);
        Bitmap4 {
            words,
            beyond: self.beyond || other.beyond,
        }
    }

    /// Everything in this set is in `other`.
    #[must_use]
    pub fn within(&self, other: &Bitmap4) -> bool {
        self.and(other) == *self
    }

    /// Nothing is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Bitmap4::EMPTY
    }

    /// The numbers in the set, ascending, without those beyond.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<> {
        let [low, middle, high] = self.words.map(u128::from);
        let mut rest = high << 64 | middle << 32 | low;
        std::iter::from_fn(move || {
            let bit = rest.trailing_zeros();
            rest &= rest.wrapping_sub(1);
            (bit < 128).then_some(bit)
        })
    }
}

impl fmt::Debug for Bitmap4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()?;
        if self.beyond {
            f.write_str("+")?;
        }
        Ok(())
    }
}

impl Decode<'_> for Bitmap4 {
    fn decode(dec: &mut Dec<'_>) -> Result<Self> {
        let len = dec.array_len(WORDS_MAX, 4)?;
        let mut set = Bitmap4::EMPTY;
        for i in 0..len {
            let word = dec.u32()?;
            match set.words.get_mut(i) {
                Some(slot) => *slot = word,
                None => set.beyond |= word != 0,
            }
        }
        Ok(set)
    }
}

impl Encode for Bitmap4 {
    fn encode(&self, enc: &mut Enc<'_>) -> Result<()> {
        let len = WORDS - self.words.iter().rev().take_while(|w| **w == 0).count();
        enc.u32(len as u32)?;
        self.words[..len].iter().try_for_each(|w| enc.u32(*w))
    }
}

#[cfg(any(test, feature = "samples"))]
impl Sample<'_> for Bitmap4 {
    fn sample(tape: &mut Tape<'_>) -> Self {
        Bitmap4 {
            words: [
                Sample::sample(tape),
                Sample::sample(tape),
                Sample::sample(tape),
            ],
            beyond: false,
        }
    }
}

xdr_opaque! {
    /// `attrlist4`: values of attributes, in ascending order of their numbers.
    pub struct Attrlist4(max 0x0010_0000);
}

xdr_struct! {
    /// `fattr4` as it came: values not looked at yet.
    pub struct Fattr4<'a> {
        /// Which attributes.
        pub mask: Bitmap4,
        /// Their values.
        pub values: Attrlist4<'a>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bitmaps_come_back(words: [u32; 3], more in proptest::collection::vec(any::<u32>(), 0..4)) {
            let set = Bitmap4 { words, beyond: more.iter().any(|w| *w != 0) };
            let mut wire = Vec::new();
            let mut enc = Enc::new(&mut wire, 1024);
            enc.u32(3 + more.len() as u32)?;
            words.iter().chain(&more).try_for_each(|w| enc.u32(*w))?;
            prop_assert_eq!(Dec::new(&wire).get::<Bitmap4>(), Ok(set));
            wire.clear();
            Enc::new(&mut wire, 1024).put(&set)?;
            prop_assert_eq!(Dec::new(&wire).get::<Bitmap4>(), Ok(Bitmap4 { beyond: false, ..set }));
            let listed: Vec<u32> = set.iter().collect();
            prop_assert_eq!(Bitmap4::of(&listed).words, words);
            prop_assert!(listed.iter().all(|bit| set.has(*bit)) && listed.is_sorted());
        }
    }

    #[test]
    fn a_bitmap_longer_than_any_is_refused() {
        let mut wire = 65_u32.to_be_bytes().to_vec();
        wire.extend([0; 260]);
        assert!(Dec::new(&wire).get::<Bitmap4>().is_err());
    }
}
