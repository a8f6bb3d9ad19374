//! AUTH_SYS (RFC 5531 appendix A): the client states uid, gid and groups.

use super::{AuthStat, Identity, OpaqueAuth, require_null_verifier};
use crate::xdr::{Dec, Decode, Enc, Encode, Result, XdrError};
use arrayvec::ArrayVec;

/// Most bytes of the machine name.
pub const MAX_MACHINENAME: usize = 255;

/// Most supplementary groups a credential can carry.
pub const MAX_GIDS: usize = 16;

/// A Unix user with the groups of one credential.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unix {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Supplementary groups.
    pub gids: ArrayVec<u32, MAX_GIDS>,
}

/// `authsys_parms` (RFC 5531 appendix A).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSys<'a> {
    /// Arbitrary number of the client.
    pub stamp: u32,
    /// Name of the client, not trusted and not used.
    pub machinename: &'a [u8],
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Supplementary groups.
    pub gids: ArrayVec<u32, MAX_GIDS>,
}

impl<'a> Decode<'a> for AuthSys<'a> {
    #[inline]
    fn decode(dec: &mut Dec<'a>) -> Result<Self> {
        Ok(Self {
            stamp: dec.u32()?,
            machinename: dec.string(MAX_MACHINENAME)?,
            uid: dec.u32()?,
            gid: dec.u32()?,
            gids: dec.get()?,
        })
    }
}

impl Encode for AuthSys<'_> {
    fn encode(&self, enc: &mut Enc<'_>) -> Result<()> {
        if self.machinename.len() > MAX_MACHINENAME {
            return Err(XdrError::TooLong);
        }
        enc.u32(self.stamp)?;
        enc.string(self.machinename)?;
        enc.u32(self.uid)?;
        enc.u32(self.gid)?;
        enc.put(&self.gids)
    }
}

#[cfg(any(test, feature = "samples"))]
impl<'a> crate::xdr::Sample<'a> for AuthSys<'a> {
    fn sample(tape: &mut crate::xdr::Tape<'a>) -> Self {
        use crate::xdr::Sample;
        Self {
            stamp: Sample::sample(tape),
            machinename: tape.opaque(MAX_MACHINENAME),
            uid: Sample::sample(tape),
            gid: Sample::sample(tape),
            gids: Sample::sample(tape),
        }
    }
}

/// Accepts a well-formed credential that fills its body exactly, with an empty verifier.
pub fn accept(cred: &[u8], verf: &OpaqueAuth<'_>) -> Result<Identity, AuthStat> {
    let mut dec = Dec::new(cred);
    let sys: AuthSys<'_> = dec.get().map_err(|_| AuthStat::Badcred)?;
    dec.finish().map_err(|_| AuthStat::Badcred)?;
    require_null_verifier(verf)?;
    Ok(Identity::Unix(Unix {
        uid: sys.uid,
        gid: sys.gid,
        gids: sys.gids,
    }))
}
