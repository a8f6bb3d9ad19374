//! OPEN_DOWNGRADE: less access, or less denied, for an open (RFC 8881 18.18, RFC 7530 16.19).

use vfs::locks::{Access, Deny};

use crate::cx::Reply;
use crate::nfs4::Op4;
use crate::nfs4::compound::Compound;
use crate::nfs4::state::stateid::Kind;
use crate::nfs4::stateful::{self, Start, Target, file_key};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Seqid4, Stateid4};
use crate::xdr::xdr_block;

/// Bits of `share_access` that want a delegation (RFC 8881 18.16.1): nothing to downgrade.
const WANTS: u32 = 0x3_ff00;

xdr_block! {
    /// `OPEN_DOWNGRADE4args`.
    pub struct OpenDowngradeArgs {
        /// The open.
        pub open_stateid: Stateid4,
        /// Of the open-owner (4.0).
        pub seqid: Seqid4,
        /// What it may do from now on.
        pub share_access: u32,
        /// What it denies from now on.
        pub share_deny: u32,
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: OpenDowngradeArgs,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    c.file()?;
    let target = stateful::target(c, &args.open_stateid)?;
    let running = match stateful::begin(c, &target, (Op4::OpenDowngrade, args.seqid), out).await? {
        Start::Run(running) => running,
        Start::Answered(answer) => return answer,
    };
    let done = downgrade(c, &target, &args, out);
    stateful::finish(c, running, done, None, out)
}

fn downgrade(
    c: &mut Compound<'_>,
    target: &Target,
    args: &OpenDowngradeArgs,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let (access, deny) = shares(args, c.minor)?;
    let home = c.home(&target.client);
    let file = file_key(&c.file()?.file);
    let stateid = {
        let mut inner = target.client.lock();
        let held = &mut inner.holdings;
        held.check(home, target.name, target.seqid, &[Kind::Open], Some(file))?;
        held.downgrade(home, target.name.key, access, deny)?
    };
    if c.minor > 0 {
        c.stateid = Some(stateid);
    }
    out.put(&stateid)?;
    Ok(())
}

fn shares(args: &OpenDowngradeArgs, minor: u32) -> Result<(Access, Deny), Nfsstat4> {
    let ignored = if minor > 0 { WANTS } else { 0 };
    let access = u8::try_from(args.share_access & !ignored).ok();
    let deny = u8::try_from(args.share_deny).ok();
    let access = access.and_then(Access::from_bits).filter(|a| !a.is_empty());
    let shares = access.zip(deny.and_then(Deny::from_bits));
    shares.ok_or(Nfsstat4::Inval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_downgrade_to_nothing_or_nonsense_is_refused() {
        let args = |share_access, share_deny| OpenDowngradeArgs {
            open_stateid: Stateid4::ANONYMOUS,
            seqid: 0,
            share_access,
            share_deny,
        };
        assert_eq!(shares(&args(1, 2), 0), Ok((Access::READ, Deny::WRITE)));
        assert_eq!(shares(&args(3, 0), 1), Ok((Access::BOTH, Deny::NONE)));
        for (access, deny, minor) in [(0, 0, 1), (4, 0, 1), (1, 4, 0), (0x101, 0, 0)] {
            let got = shares(&args(access, deny), minor);
            assert_eq!(got, Err(Nfsstat4::Inval), "{access} {deny}");
        }
        assert_eq!(shares(&args(0x401, 0), 1), Ok((Access::READ, Deny::NONE)));
    }
}
