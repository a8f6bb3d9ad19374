//! RELEASE_LOCKOWNER: the client will not lock as this owner any more (RFC 7530 16.37; 4.0 only).

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::stateful;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::StateOwner4;

pub(super) async fn run(
    c: &mut Compound<'_>,
    owner: StateOwner4<'_>,
    _out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let client = c.client_named(owner.clientid)?;
    let released = client.lock().holdings.release_lock_owner(owner.owner.0)?;
    drop(released);
    stateful::renew(c, &client);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdr::Dec;

    #[test]
    fn release_lockowner_arguments() {
        let wire = [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, b'a', b'b', b'c', 0];
        let owner: StateOwner4<'_> = Dec::new(&wire).get().expect("whole");
        assert_eq!(
            (owner.clientid, owner.owner.0),
            (0x1_0000_0002, &b"abc"[..])
        );
        assert!(Dec::new(&wire[..15]).get::<StateOwner4<'_>>().is_err());
    }
}
