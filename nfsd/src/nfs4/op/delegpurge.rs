//! DELEGPURGE: the client will reclaim no more delegations from before its own restart (RFC 8881 18.5,
//! RFC 7530 16.5).

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Clientid4;

/// Delegations do not outlive their client's instance here: CLAIM_DELEGATE_PREV is not supported, and
/// then neither is this (RFC 8881 18.5.3).
pub(super) async fn run(
    c: &mut Compound<'_>,
    clientid: Clientid4,
    _out: &mut Reply,
) -> Result<(), Nfsstat4> {
    c.client_named(clientid)?;
    Err(Nfsstat4::Notsupp)
}

#[cfg(test)]
mod tests {
    use crate::nfs4::Op4;

    #[test]
    fn delegpurge_is_in_every_minor_version() {
        assert_eq!(Op4::Delegpurge.minors(), (0, 2));
    }
}
