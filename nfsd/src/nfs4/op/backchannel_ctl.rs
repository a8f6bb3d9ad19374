//! BACKCHANNEL_CTL: another program or credential for a session's callbacks (RFC 8881 18.33).

use arrayvec::ArrayVec;

use super::create_session::{CallbackSecParms4, SEC_PARMS_MAX, usable};
use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::state::session::CbTarget;
use crate::nfs4::status::Nfsstat4;
use crate::xdr::xdr_struct;

xdr_struct! {
    /// `BACKCHANNEL_CTL4args`.
    pub struct BackchannelCtlArgs<'a> {
        /// RPC program of callbacks.
        pub cb_program: u32,
        /// Credentials to choose from.
        pub sec_parms: ArrayVec<CallbackSecParms4<'a>, SEC_PARMS_MAX>,
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: BackchannelCtlArgs<'_>,
    _out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let session = c.session().ok_or(Nfsstat4::OpNotInSession)?;
    session.set_callback(CbTarget {
        program: args.cb_program,
        sec: usable(&args.sec_parms)?,
    });
    Ok(())
}
