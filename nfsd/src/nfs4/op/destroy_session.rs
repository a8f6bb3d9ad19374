//! DESTROY_SESSION: ends a session, not its client (RFC 8881 18.37).

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Sessionid4;

/// `DESTROY_SESSION4args`.
pub type DestroySessionArgs = Sessionid4;

pub(super) async fn run(
    c: &mut Compound<'_>,
    sessionid: DestroySessionArgs,
    _out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let own = c.session().is_some_and(|session| session.id == sessionid);
    if own && !c.is_last() {
        return Err(Nfsstat4::NotOnlyOp);
    }
    c.cx.server.state.destroy_session(&sessionid)
}
