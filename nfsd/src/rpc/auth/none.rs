//! AUTH_NONE (RFC 5531 section 10.1).

use super::{AuthStat, Identity, OpaqueAuth, require_null_verifier};

/// Accepts an empty credential with an empty verifier.
pub fn accept(cred: &[u8], verf: &OpaqueAuth<'_>) -> Result<Identity, AuthStat> {
    if !cred.is_empty() {
        return Err(AuthStat::Badcred);
    }
    require_null_verifier(verf)?;
    Ok(Identity::None)
}
