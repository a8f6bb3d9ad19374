//! Arguments and results of OPEN (RFC 8881 18.16.1 and 18.16.2, RFC 7530 16.16).

use vfs::locks::{Access, DelegKind, Deny};

use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{
    Bitmap4, ChangeInfo4, Component4, Fattr4, Seqid4, StateOwner4, Stateid4, Verifier4,
};
use crate::xdr::{Dec, Decode, Enc, Encode, Result as XdrResult, XdrError, xdr_enum};

/// `OPEN4_RESULT_CONFIRM`: the owner must be confirmed (4.0).
pub const RESULT_CONFIRM: u32 = 2;
/// `OPEN4_RESULT_LOCKTYPE_POSIX`: locks split and merge.
pub const RESULT_LOCKTYPE_POSIX: u32 = 4;
/// `OPEN4_RESULT_MAY_NOTIFY_LOCK`: who waits for a lock may be called (4.1).
pub const RESULT_MAY_NOTIFY_LOCK: u32 = 0x20;

/// Bits of `share_access` that say what kind of delegation is wanted (4.1).
const WANT_MASK: u32 = 0xff00;
/// Bits that say when a delegation that cannot be given now is wanted (RFC 8881 18.16.1), and what
/// RFC 9754 asks of one; taken note of by nobody.
const WHEN_MASK: u32 = 0x33_0000;

/// `createhow4`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Createhow4<'a> {
    /// An existing file is fine.
    Unchecked(Fattr4<'a>),
    /// The name must be new.
    Guarded(Fattr4<'a>),
    /// The name must be new, unless this verifier made it.
    Exclusive(Verifier4),
    /// The same with attributes (4.1).
    Exclusive41(Verifier4, Fattr4<'a>),
}

impl<'a> Decode<'a> for Createhow4<'a> {
    fn decode(dec: &mut Dec<'a>) -> XdrResult<Self> {
        match dec.u32()? {
            0 => dec.get().map(Self::Unchecked),
            1 => dec.get().map(Self::Guarded),
            2 => dec.get().map(Self::Exclusive),
            3 => Ok(Self::Exclusive41(dec.get()?, dec.get()?)),
            _ => Err(XdrError::BadEnum),
        }
    }
}

xdr_enum! {
    /// `open_delegation_type4`, of a delegation held before a restart.
    pub enum DelegationType4 {
        /// None.
        None = 0 "OPEN_DELEGATE_NONE",
        /// For reading.
        Read = 1 "OPEN_DELEGATE_READ",
        /// For everything.
        Write = 2 "OPEN_DELEGATE_WRITE",
        /// None, and the client had been told why (4.1).
        NoneExt = 3 "OPEN_DELEGATE_NONE_EXT",
    }
}

impl DelegationType4 {
    /// The delegation it stands for, if it is one.
    #[must_use]
    pub const fn kind(self) -> Option<DelegKind> {
        match self {
            Self::Read => Some(DelegKind::Read),
            Self::Write => Some(DelegKind::Write),
            Self::None | Self::NoneExt => None,
        }
    }
}

/// `open_claim4`: what is opened, and by what right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim4<'a> {
    /// A name in the current directory.
    Null(Component4<'a>),
    /// The current file, open before the server restarted.
    Previous(DelegationType4),
    /// A name, open so far under this delegation only.
    DelegateCur(Stateid4, Component4<'a>),
    /// A name, under a delegation from before the client restarted.
    DelegatePrev(Component4<'a>),
    /// The current file (4.1).
    Fh,
    /// The current file, under a delegation from before the client restarted (4.1).
    DelegPrevFh,
    /// The current file, open so far under this delegation only (4.1).
    DelegCurFh(Stateid4),
}

impl<'a> Decode<'a> for Claim4<'a> {
    fn decode(dec: &mut Dec<'a>) -> XdrResult<Self> {
        match dec.u32()? {
            0 => dec.get().map(Self::Null),
            1 => dec.get().map(Self::Previous),
            2 => Ok(Self::DelegateCur(dec.get()?, dec.get()?)),
            3 => dec.get().map(Self::DelegatePrev),
            4 => Ok(Self::Fh),
            5 => dec.get().map(Self::DelegCurFh),
            6 => Ok(Self::DelegPrevFh),
            _ => Err(XdrError::BadEnum),
        }
    }
}

/// `OPEN4args`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenArgs<'a> {
    /// Of the open-owner (4.0).
    pub seqid: Seqid4,
    /// What it may do, and in 4.1 which delegation is wanted.
    pub share_access: u32,
    /// What it denies.
    pub share_deny: u32,
    /// Who opens.
    pub owner: StateOwner4<'a>,
    /// How to make the file; `None` if it must be there.
    pub openhow: Option<Createhow4<'a>>,
    /// What to open.
    pub claim: Claim4<'a>,
}

impl<'a> Decode<'a> for OpenArgs<'a> {
    fn decode(dec: &mut Dec<'a>) -> XdrResult<Self> {
        Ok(OpenArgs {
            seqid: dec.get()?,
            share_access: dec.get()?,
            share_deny: dec.get()?,
            owner: dec.get()?,
            openhow: match dec.u32()? {
                0 => None,
                1 => Some(dec.get()?),
                _ => return Err(XdrError::BadEnum),
            },
            claim: dec.get()?,
        })
    }
}

/// Which delegation a client wants (RFC 8881 18.16.1 `OPEN4_SHARE_ACCESS_WANT_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// It does not say.
    Unsaid,
    /// One for reading.
    Read,
    /// One for everything.
    Write,
    /// Either.
    Any,
    /// None.
    No,
    /// None, nor what it wanted before.
    Cancel,
}

/// What these `OPEN4_SHARE_ACCESS_WANT_*` say; `None` if that is nothing, or other bits are among them.
#[must_use]
pub const fn want(bits: u32) -> Option<Want> {
    match bits & !WHEN_MASK {
        0 => Some(Want::Unsaid),
        0x100 => Some(Want::Read),
        0x200 => Some(Want::Write),
        0x300 => Some(Want::Any),
        0x400 => Some(Want::No),
        0x500 => Some(Want::Cancel),
        _ => None,
    }
}

impl OpenArgs<'_> {
    /// What the open may do, what it denies, which delegation is wanted.
    ///
    /// # Errors
    /// `INVAL`, for bits of a later minor version, too.
    pub fn shares(&self, minor: u32) -> Result<(Access, Deny, Want), Nfsstat4> {
        let extra = if minor > 0 { WANT_MASK | WHEN_MASK } else { 0 };
        let access = u8::try_from(self.share_access & !extra).ok();
        let access = access.and_then(Access::from_bits).filter(|a| !a.is_empty());
        let deny = u8::try_from(self.share_deny).ok().and_then(Deny::from_bits);
        let want = want(self.share_access & extra);
        match (access, deny, want) {
            (Some(access), Some(deny), Some(want)) => Ok((access, deny, want)),
            _ => Err(Nfsstat4::Inval),
        }
    }

    /// Refuses what the minor version does not have, and combinations that mean nothing.
    ///
    /// # Errors
    /// `BADXDR`, `INVAL`.
    pub fn sane(&self, minor: u32) -> Result<(), Nfsstat4> {
        let later = matches!(
            self.claim,
            Claim4::Fh | Claim4::DelegPrevFh | Claim4::DelegCurFh(_)
        ) || matches!(self.openhow, Some(Createhow4::Exclusive41(..)));
        if minor == 0 && later {
            return Err(Nfsstat4::Badxdr);
        }
        if self.openhow.is_some() && !matches!(self.claim, Claim4::Null(_)) {
            return Err(Nfsstat4::Inval);
        }
        Ok(())
    }
}

/// Why there is no delegation (`why_no_delegation4`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyNone {
    /// It was not wanted.
    NotWanted = 0,
    /// Others use the file, or did a moment ago.
    Contention = 1,
    /// There is no room, or no way to call the client back.
    Resource = 2,
    /// Such a file is not delegated.
    NotSuppFtype = 3,
    /// Such a file is not delegated for writing.
    WriteNotSuppFtype = 4,
    /// The client has one for reading, which does not become one for everything.
    NotSuppUpgrade = 5,
    /// The client has one for everything, which does not become one for reading.
    NotSuppDowngrade = 6,
    /// What was wanted before is cancelled.
    Cancelled = 7,
    /// It is a directory.
    IsDir = 8,
}

/// `open_delegation4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delegation4 {
    /// None.
    None,
    /// None, and why (4.1).
    NoneExt(WhyNone),
    /// For reading; asked back at once, if set.
    Read(Stateid4, bool),
    /// For everything; asked back at once, if set.
    Write(Stateid4, bool),
}

/// `NFS_LIMIT_SIZE`: space is reserved up to a size.
const LIMIT_SIZE: u32 = 1;

/// An entry that allows nothing: the client asks with ACCESS who else may open the file.
fn put_nobody(enc: &mut Enc<'_>) -> XdrResult<()> {
    for word in [0, 0, 0] {
        enc.u32(word)?;
    }
    enc.opaque(b"")
}

impl Encode for Delegation4 {
    fn encode(&self, enc: &mut Enc<'_>) -> XdrResult<()> {
        match self {
            Self::None => enc.put(&DelegationType4::None),
            Self::NoneExt(why) => {
                enc.put(&DelegationType4::NoneExt)?;
                enc.u32(*why as u32)?;
                match why {
                    // Nor will it be offered later.
                    WhyNone::Contention | WhyNone::Resource => enc.bool(false),
                    _ => Ok(()),
                }
            }
            Self::Read(stateid, recall) => {
                enc.put(&DelegationType4::Read)?;
                enc.put(stateid)?;
                enc.bool(*recall)?;
                put_nobody(enc)
            }
            Self::Write(stateid, recall) => {
                enc.put(&DelegationType4::Write)?;
                enc.put(stateid)?;
                enc.bool(*recall)?;
                enc.u32(LIMIT_SIZE)?;
                enc.u64(u64::MAX)?;
                put_nobody(enc)
            }
        }
    }
}

/// `OPEN4resok`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRes {
    /// The open.
    pub stateid: Stateid4,
    /// The directory around it.
    pub cinfo: ChangeInfo4,
    /// `OPEN4_RESULT_*`.
    pub rflags: u32,
    /// Attributes that were set.
    pub attrset: Bitmap4,
    /// What came with it.
    pub delegation: Delegation4,
}

impl Encode for OpenRes {
    fn encode(&self, enc: &mut Enc<'_>) -> XdrResult<()> {
        enc.put(&self.stateid)?;
        enc.put(&self.cinfo)?;
        enc.u32(self.rflags)?;
        enc.put(&self.attrset)?;
        enc.put(&self.delegation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nfs4::types::{Attrlist4, OwnerName4};

    fn args<'a>(share_access: u32, share_deny: u32) -> OpenArgs<'a> {
        OpenArgs {
            seqid: 0,
            share_access,
            share_deny,
            owner: StateOwner4 {
                clientid: 0,
                owner: OwnerName4(b"me"),
            },
            openhow: None,
            claim: Claim4::Null(Component4(b"a")),
        }
    }

    #[test]
    fn shares_and_wants() {
        let ok = |a, d, w| Ok((a, d, w));
        let (r, none) = (Access::READ, Deny::NONE);
        for (access, deny, minor, expected) in [
            (1, 0, 0, ok(r, none, Want::Unsaid)),
            (3, 3, 0, ok(Access::BOTH, Deny::BOTH, Want::Unsaid)),
            (0x101, 0, 1, ok(r, none, Want::Read)),
            (0x3_0401, 0, 1, ok(r, none, Want::No)),
            (0, 0, 0, Err(Nfsstat4::Inval)),
            (0x100, 0, 1, Err(Nfsstat4::Inval)),
            (0x101, 0, 0, Err(Nfsstat4::Inval)),
            (0x601, 0, 1, Err(Nfsstat4::Inval)),
            (4, 0, 1, Err(Nfsstat4::Inval)),
            (1, 4, 1, Err(Nfsstat4::Inval)),
            (0x8000_0001, 0, 1, Err(Nfsstat4::Inval)),
        ] {
            assert_eq!(args(access, deny).shares(minor), expected, "{access:x}");
        }
    }

    #[test]
    fn what_4_0_does_not_have() {
        let of = |claim, openhow| OpenArgs {
            claim,
            openhow,
            ..args(1, 0)
        };
        let attrs = Fattr4 {
            mask: Bitmap4::EMPTY,
            values: Attrlist4(b""),
        };
        assert_eq!(of(Claim4::Fh, None).sane(0), Err(Nfsstat4::Badxdr));
        assert_eq!(of(Claim4::Fh, None).sane(1), Ok(()));
        let exclusive = Createhow4::Exclusive41([0; 8], attrs.clone());
        let made = of(Claim4::Null(Component4(b"a")), Some(exclusive));
        assert_eq!(made.sane(0), Err(Nfsstat4::Badxdr));
        assert_eq!(made.sane(2), Ok(()));
        let nonsense = of(Claim4::Fh, Some(Createhow4::Guarded(attrs)));
        assert_eq!(nonsense.sane(1), Err(Nfsstat4::Inval));
    }

    #[test]
    fn the_longest_answer_fits_its_row() {
        let res = OpenRes {
            stateid: Stateid4::BYPASS,
            cinfo: ChangeInfo4 {
                atomic: true,
                before: 1,
                after: 2,
            },
            rflags: 0,
            attrset: Bitmap4 {
                words: [u32::MAX; 3],
                beyond: false,
            },
            delegation: Delegation4::Write(Stateid4::BYPASS, true),
        };
        let mut wire = Vec::new();
        Enc::new(&mut wire, 1024).put(&res).expect("fits");
        let row = crate::nfs4::op::row(crate::nfs4::Op4::Open).expect("served");
        assert!(wire.len() <= row.reply, "{}", wire.len());
    }

    #[test]
    fn open_arguments_decode_or_not_at_all() {
        let mut wire = Vec::new();
        let mut enc = Enc::new(&mut wire, 400);
        for word in [5, 3, 0] {
            enc.u32(word).expect("fits");
        }
        let owner = StateOwner4 {
            clientid: 9,
            owner: OwnerName4(b"owner"),
        };
        enc.put(&owner).expect("fits");
        for word in [1, 2] {
            enc.u32(word).expect("fits");
        }
        enc.put(&[7_u8; 8]).expect("fits");
        enc.u32(0).expect("fits");
        enc.put(&Component4(b"name")).expect("fits");
        let args: OpenArgs<'_> = Dec::new(&wire).get().expect("whole");
        assert_eq!(args.openhow, Some(Createhow4::Exclusive([7; 8])));
        assert_eq!(args.claim, Claim4::Null(Component4(b"name")));
        for cut in 0..wire.len() {
            assert!(Dec::new(&wire[..cut]).get::<OpenArgs<'_>>().is_err());
        }
    }
}
