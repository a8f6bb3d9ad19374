//! LOCKT: whether a range could be locked (RFC 8881 18.11, RFC 7530 16.11).

use vfs::locks::{Conflict, LockKind, Range};

use super::lock::{LockType4, put_denied};
use crate::cx::Reply;
use crate::host;
use crate::nfs4::compound::Compound;
use crate::nfs4::stateful::{TRIES, give_way};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Length4, Offset4, StateOwner4};
use crate::xdr::xdr_struct;

xdr_struct! {
    /// `LOCKT4args`.
    pub struct LocktArgs<'a> {
        /// How.
        pub locktype: LockType4,
        /// First byte.
        pub offset: Offset4,
        /// Bytes, all ones for up to the end.
        pub length: Length4,
        /// Whose locks do not count.
        pub owner: StateOwner4<'a>,
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: LocktArgs<'_>,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let client = c.client_named(args.owner.clientid)?;
    let opened = c.regular()?;
    let range = Range::new(args.offset, args.length).ok_or(Nfsstat4::Inval)?;
    if c.in_grace() {
        return Err(Nfsstat4::Grace);
    }
    let home = c.home(&client);
    let locks = opened.file.locks();
    let _hosted = host::locks(opened, LockKind::Read).await?;
    for _ in 0..TRIES {
        let owner = client.lock().holdings.locker_id(home, args.owner.owner.0);
        let tested = locks.test(home.client_id(), owner, range, args.locktype.kind());
        let conflict = match locks.tested(tested).await {
            Ok(()) => return Ok(()),
            Err(conflict) => conflict,
        };
        let held = match &conflict {
            Conflict::Lock(holder, held) => Some((*holder, *held)),
            _ => None,
        };
        let gone = give_way(c, locks, conflict, Nfsstat4::Denied).await;
        match (gone, held) {
            (Ok(()), _) => {}
            (Err(Nfsstat4::Denied), Some((holder, held))) => {
                put_denied(c, holder, held, out)?;
                return Err(Nfsstat4::Denied);
            }
            (Err(status), _) => return Err(status),
        }
    }
    Err(Nfsstat4::Delay)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nfs4::types::OwnerName4;
    use crate::xdr::{Dec, Enc};

    #[test]
    fn lockt_arguments() {
        let args = LocktArgs {
            locktype: LockType4::ReadW,
            offset: 1,
            length: 2,
            owner: StateOwner4 {
                clientid: 3,
                owner: OwnerName4(b"me"),
            },
        };
        let mut wire = Vec::new();
        Enc::new(&mut wire, 100).put(&args).expect("fits");
        assert_eq!(Dec::new(&wire).get(), Ok(args));
    }
}
