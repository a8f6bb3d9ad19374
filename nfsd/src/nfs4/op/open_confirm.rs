//! OPEN_CONFIRM: the client means this open-owner (RFC 7530 16.18; 4.0 only).

use crate::cx::Reply;
use crate::nfs4::Op4;
use crate::nfs4::compound::Compound;
use crate::nfs4::state::stateid::Kind;
use crate::nfs4::stateful::{self, Start, Target, file_key};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Seqid4, Stateid4};
use crate::xdr::xdr_block;

xdr_block! {
    /// `OPEN_CONFIRM4args`.
    pub struct OpenConfirmArgs {
        /// The open.
        pub open_stateid: Stateid4,
        /// Of the open-owner.
        pub seqid: Seqid4,
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: OpenConfirmArgs,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    c.regular()?;
    let target = stateful::target(c, &args.open_stateid)?;
    let running = match stateful::begin(c, &target, (Op4::OpenConfirm, args.seqid), out).await? {
        Start::Run(running) => running,
        Start::Answered(answer) => return answer,
    };
    let done = confirm(c, &target, out);
    stateful::finish(c, running, done, None, out)
}

fn confirm(c: &Compound<'_>, target: &Target, out: &mut Reply) -> Result<(), Nfsstat4> {
    let home = c.home(&target.client);
    let file = file_key(&c.regular()?.file);
    let stateid = {
        let mut inner = target.client.lock();
        let held = &mut inner.holdings;
        held.check(home, target.name, target.seqid, &[Kind::Open], Some(file))?;
        held.confirm(home, target.name.key)?
    };
    out.put(&stateid)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdr::Dec;

    #[test]
    fn open_confirm_arguments() {
        let mut wire = vec![0, 0, 0, 9];
        wire.extend([2; 12]);
        wire.extend([0, 0, 0, 5]);
        let args: OpenConfirmArgs = Dec::new(&wire).get().expect("whole");
        assert_eq!((args.open_stateid.seqid, args.seqid), (9, 5));
        assert!(Dec::new(&wire[1..]).get::<OpenConfirmArgs>().is_err());
    }
}
