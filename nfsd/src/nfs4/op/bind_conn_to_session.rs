//! BIND_CONN_TO_SESSION (RFC 8881 18.34): uses the connection for a session's requests, callbacks or
//! both.

use vfs::exec;

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::state::session::Direction;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Sessionid4;
use crate::xdr::{xdr_enum, xdr_struct};

xdr_enum! {
    /// `channel_dir_from_client4`.
    pub enum ChannelDirFromClient4 {
        /// Requests.
        Fore = 1 "CDFC4_FORE",
        /// Callbacks.
        Back = 2 "CDFC4_BACK",
        /// Requests, and callbacks if the server likes.
        ForeOrBoth = 3 "CDFC4_FORE_OR_BOTH",
        /// Callbacks, and requests if the server likes.
        BackOrBoth = 7 "CDFC4_BACK_OR_BOTH",
    }
}

xdr_enum! {
    /// `channel_dir_from_server4`.
    pub enum ChannelDirFromServer4 {
        /// Requests.
        Fore = 1 "CDFS4_FORE",
        /// Callbacks.
        Back = 2 "CDFS4_BACK",
        /// Both.
        Both = 3 "CDFS4_BOTH",
    }
}

xdr_struct! {
    /// `BIND_CONN_TO_SESSION4args`.
    pub struct BindConnToSessionArgs {
        /// The session.
        pub sessid: Sessionid4,
        /// What for.
        pub dir: ChannelDirFromClient4,
        /// RDMA: never here.
        pub use_conn_in_rdma_mode: bool,
    }

    /// `BIND_CONN_TO_SESSION4resok`.
    pub struct BindConnToSessionRes {
        /// The session.
        pub sessid: Sessionid4,
        /// What for.
        pub dir: ChannelDirFromServer4,
        /// Never here.
        pub use_conn_in_rdma_mode: bool,
    }
}

/// The ways wanted, and whether it must be callbacks.
fn wanted(dir: ChannelDirFromClient4) -> (Direction, bool) {
    use ChannelDirFromClient4 as D;
    let (fore, back, must_back) = match dir {
        D::Fore => (true, false, false),
        D::Back => (false, true, true),
        D::ForeOrBoth => (true, true, false),
        D::BackOrBoth => (true, true, true),
    };
    (Direction { fore, back }, must_back)
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: BindConnToSessionArgs,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let (direction, must_back) = wanted(args.dir);
    let (state, conn) = (&c.cx.server.state, c.back());
    let bound = state.bind(&args.sessid, direction, must_back, conn, exec::now())?;
    let dir = match (bound.fore, bound.back) {
        (true, true) => ChannelDirFromServer4::Both,
        (false, true) => ChannelDirFromServer4::Back,
        (_, false) => ChannelDirFromServer4::Fore,
    };
    out.put(&BindConnToSessionRes {
        sessid: args.sessid,
        dir,
        use_conn_in_rdma_mode: false,
    })?;
    Ok(())
}
