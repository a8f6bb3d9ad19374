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
#[inline]
pub fn accept(cred: &[u8], verf: &OpaqueAuth<'_>) -> Result<Identity, AuthStat> {
    let user = user(cred).map_err(|_| AuthStat::Badcred)?;
    require_null_verifier(verf)?;
    Ok(Identity::Unix(user))
}

/// The user of an [`AuthSys`]. Every call comes through here, so the groups are read from one slice.
#[inline]
fn user(cred: &[u8]) -> Result<Unix> {
    let mut dec = Dec::new(cred);
    dec.skip(4)?;
    dec.string(MAX_MACHINENAME)?;
    let (uid, gid) = (dec.u32()?, dec.u32()?);
    let len = dec.array_len(MAX_GIDS, 4)?;
    let (words, rest) = dec.rest().as_chunks::<4>();
    if words.len() != len || !rest.is_empty() {
        return Err(XdrError::Trailing);
    }
    let gids = words
        .iter()
        .take(MAX_GIDS)
        .map(|word| u32::from_be_bytes(*word))
        .collect();
    Ok(Unix { uid, gid, gids })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdr::{Sample, Tape};
    use proptest::prelude::*;

    proptest! {
        /// The short way to the user takes what the full declaration takes, and gives the same.
        #[test]
        fn agrees_with_the_declaration(
            tape in proptest::collection::vec(any::<u8>(), 0..200),
            at in 0_usize..100,
            byte in any::<Option<u8>>(),
            cut in 0_usize..40,
        ) {
            let tape: &'static [u8] = tape.leak();
            let mut raw = Vec::new();
            let sampled = AuthSys::sample(&mut Tape::new(tape));
            prop_assert_eq!(Enc::new(&mut raw, 1000).put(&sampled), Ok(()));
            if let (Some(byte), Some(slot)) = (byte, raw.get_mut(at)) {
                *slot = byte;
            }
            raw.truncate(raw.len().max(cut + 20) - cut);
            let mut dec = Dec::new(&raw);
            let declared: Result<AuthSys<'_>> = dec.get().and_then(|sys| dec.finish().map(|()| sys));
            let declared = declared.ok().map(|s| Unix { uid: s.uid, gid: s.gid, gids: s.gids });
            prop_assert_eq!(user(&raw).ok(), declared);
        }
    }
}
