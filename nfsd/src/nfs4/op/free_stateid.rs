//! FREE_STATEID: the client has seen that this state is no more, or needs it no more (RFC 8881 18.38).

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::state::holdings::Holdings;
use crate::nfs4::state::stateid::{Home, Kind};
use crate::nfs4::stateful::{self, Target};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Stateid4;

pub(super) async fn run(
    c: &mut Compound<'_>,
    stateid: Stateid4,
    _out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let target = stateful::target(c, &stateid)?;
    let home = c.home(&target.client);
    let freed = free(&mut target.client.lock().holdings, home, &target)?;
    drop(freed);
    Ok(())
}

/// Takes the state out: what is returned is dropped when the client is no longer held.
fn free(
    held: &mut Holdings,
    home: Home,
    target: &Target,
) -> Result<Box<dyn std::any::Any>, Nfsstat4> {
    let Target { name, seqid, .. } = target;
    match held.check(
        home,
        *name,
        *seqid,
        &[Kind::Open, Kind::Lock, Kind::Deleg],
        None,
    ) {
        // The very thing it is for.
        Ok(()) | Err(Nfsstat4::DelegRevoked) => {}
        Err(status) => return Err(status),
    }
    match name.kind {
        Kind::Lock => Ok(Box::new(held.free_locks(name.key)?)),
        Kind::Deleg => Ok(Box::new(held.free_deleg(name.key)?)),
        Kind::Open | Kind::Copy => Err(Nfsstat4::LocksHeld),
    }
}
