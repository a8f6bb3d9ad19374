//! GET_DIR_DELEGATION: delegations of directories, which are not given (RFC 8881 18.39).

use crate::cx::Reply;
use crate::nfs4::compound::{Compound, Place};
use crate::nfs4::reply::directory;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Bitmap4;
use crate::xdr::{xdr_struct, xdr_union};

xdr_struct! {
    /// `attr_notice4`, `nfstime4`: how late a notification may be.
    pub struct AttrNotice4 {
        /// Seconds.
        pub seconds: i64,
        /// And nanoseconds.
        pub nseconds: u32,
    }

    /// `GET_DIR_DELEGATION4args`.
    pub struct GetDirDelegationArgs {
        /// Wants to know when there is one.
        pub signal_deleg_avail: bool,
        /// Which notifications.
        pub notification_types: Bitmap4,
        /// Of changes of children.
        pub child_attr_delay: AttrNotice4,
        /// Of changes of the directory.
        pub dir_attr_delay: AttrNotice4,
        /// Which attributes of children.
        pub child_attributes: Bitmap4,
        /// Which attributes of the directory.
        pub dir_attributes: Bitmap4,
    }
}

xdr_union! {
    /// `GET_DIR_DELEGATION4res_non_fatal`, as far as this server has it.
    pub enum GetDirDelegationRes {
        /// `GDD4_UNAVAIL`: none is given; whether the client will hear when one can be.
        1 => Unavail(bool),
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    _args: GetDirDelegationArgs,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    if let Place::File(opened) = c.place()? {
        directory(opened).map_err(|_| Nfsstat4::Notdir)?;
    }
    out.put(&GetDirDelegationRes::Unavail(false))?;
    Ok(())
}
