//! CLOSE: ends an open, and with it what is locked under it (RFC 8881 18.2, RFC 7530 16.2).

use crate::cx::Reply;
use crate::nfs4::Op4;
use crate::nfs4::compound::Compound;
use crate::nfs4::state::stateid::Kind;
use crate::nfs4::stateful::{self, Start, Target, file_key};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Seqid4, Stateid4};
use crate::xdr::xdr_block;

xdr_block! {
    /// `CLOSE4args`.
    pub struct CloseArgs {
        /// Of the open-owner (4.0).
        pub seqid: Seqid4,
        /// The open.
        pub open_stateid: Stateid4,
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: CloseArgs,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    c.file()?;
    let target = stateful::target(c, &args.open_stateid)?;
    let running = match stateful::begin(c, &target, (Op4::Close, args.seqid), out).await? {
        Start::Run(running) => running,
        Start::Answered(answer) => return answer,
    };
    let done = close(c, &target, out);
    stateful::finish(c, running, done, None, out)
}

fn close(c: &mut Compound<'_>, target: &Target, out: &mut Reply) -> Result<(), Nfsstat4> {
    let home = c.home(&target.client);
    let file = file_key(&c.file()?.file);
    let (stateid, removed) = {
        let mut inner = target.client.lock();
        let held = &mut inner.holdings;
        held.check(home, target.name, target.seqid, &[Kind::Open], Some(file))?;
        held.close(home, target.name.key)?
    };
    drop(removed);
    if c.minor > 0 {
        c.stateid = Some(stateid);
    }
    out.put(&stateid)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdr::{Dec, XdrError};

    #[test]
    fn close_arguments() {
        let mut wire = 7_u32.to_be_bytes().to_vec();
        wire.extend([1; 16]);
        let args: CloseArgs = Dec::new(&wire).get().expect("whole");
        assert_eq!((args.seqid, args.open_stateid.seqid), (7, 0x0101_0101));
        wire.pop();
        let short = Dec::new(&wire).get::<CloseArgs>();
        assert_eq!(short, Err(XdrError::Short));
    }
}
