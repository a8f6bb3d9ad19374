//! LOCKU: unlocks a range (RFC 8881 18.12, RFC 7530 16.12).

use vfs::locks::Range;

use super::lock::LockType4;
use crate::cx::Reply;
use crate::nfs4::Op4;
use crate::nfs4::compound::Compound;
use crate::nfs4::state::open::Refusal;
use crate::nfs4::state::stateid::Kind;
use crate::nfs4::stateful::{self, Start, Target, file_key};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Length4, Offset4, Seqid4, Stateid4};
use crate::xdr::xdr_block;

xdr_block! {
    /// `LOCKU4args`.
    pub struct LockuArgs {
        /// How it was locked: not looked at, the range is.
        pub locktype: LockType4,
        /// Of the lock-owner (4.0).
        pub seqid: Seqid4,
        /// The locks.
        pub lock_stateid: Stateid4,
        /// First byte.
        pub offset: Offset4,
        /// Bytes, all ones for up to the end.
        pub length: Length4,
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: LockuArgs,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    c.regular()?;
    let range = Range::new(args.offset, args.length).ok_or(Nfsstat4::Inval)?;
    let target = stateful::target(c, &args.lock_stateid)?;
    let running = match stateful::begin(c, &target, (Op4::Locku, args.seqid), out).await? {
        Start::Run(running) => running,
        Start::Answered(answer) => return answer,
    };
    let done = unlock(c, &target, range, out);
    if let Ok(opened) = c.regular() {
        opened.file.locks().settled().await;
    }
    stateful::finish(c, running, done, None, out)
}

fn unlock(
    c: &mut Compound<'_>,
    target: &Target,
    range: Range,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let home = c.home(&target.client);
    let file = file_key(&c.regular()?.file);
    let unlocked = {
        let mut inner = target.client.lock();
        let held = &mut inner.holdings;
        held.check(home, target.name, target.seqid, &[Kind::Lock], Some(file))?;
        held.unlock(home, target.name.key, range)
    };
    let stateid = unlocked.map_err(|refusal| match refusal {
        Refusal::Status(status) => status,
        Refusal::Conflict(_) => home.exhausted(),
    })?;
    if c.minor > 0 {
        c.stateid = Some(stateid);
    }
    out.put(&stateid)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdr::{Dec, Enc};

    #[test]
    fn locku_arguments() {
        let args = LockuArgs {
            locktype: LockType4::Write,
            seqid: 4,
            lock_stateid: Stateid4::BYPASS,
            offset: 9,
            length: u64::MAX,
        };
        let mut wire = Vec::new();
        Enc::new(&mut wire, 100).put(&args).expect("fits");
        assert_eq!(wire.len(), 40);
        assert_eq!(Dec::new(&wire).get(), Ok(args));
        wire[3] = 5;
        assert!(Dec::new(&wire).get::<LockuArgs>().is_err(), "no such type");
    }
}
