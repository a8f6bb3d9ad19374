//! Which OPEN gets a delegation (RFC 8881 10.4, 18.16.3; RFC 7530 10.4): of a client that can be
//! called back, when nobody else is in the way and none was recalled a short time ago.

use vfs::exec;
use vfs::locks::{Access, DelegKind, Refused};

use super::args::{Delegation4, Want, WhyNone};
use crate::cx::Opened;
use crate::host;
use crate::nfs4::compound::Compound;
use crate::nfs4::state::client::Client;
use crate::nfs4::state::deleg::DelegRequest;
use crate::nfs4::stateful::{callback_ok, live};

/// What kind an open of version 4.`minor` gets, or why none.
pub(super) fn kind(
    minor: u32,
    access: Access,
    want: Want,
    confirmed: bool,
) -> Result<DelegKind, WhyNone> {
    match want {
        Want::No => return Err(WhyNone::NotWanted),
        Want::Cancel => return Err(WhyNone::Cancelled),
        Want::Read => return Ok(DelegKind::Read),
        Want::Unsaid | Want::Write | Want::Any => {}
    }
    if !confirmed {
        return Err(WhyNone::Resource);
    }
    // One for reading does not help who writes. One for everything keeps all others out, and in 4.0 the holder is
    // among those: its GETATTR and SETATTR name no client, would look like a stranger's and recall the delegation.
    if access.contains(Access::WRITE) || want == Want::Write {
        if minor == 0 {
            return Err(WhyNone::NotWanted);
        }
        Ok(DelegKind::Write)
    } else {
        Ok(DelegKind::Read)
    }
}

/// Delegates the file just opened, if that may be. One that is reclaimed is given back in any case: its
/// holder may have data nobody else has seen. Where it could not be given anew, it is to be returned at
/// once (RFC 8881 10.2.1, `recall` of `open_read_delegation4`).
pub(in crate::nfs4::op) async fn grant(
    c: &Compound<'_>,
    client: &Client,
    opened: &Opened,
    (kind, reclaims): (Result<DelegKind, WhyNone>, bool),
    change: u64,
) -> Result<Delegation4, WhyNone> {
    let kind = kind?;
    let recall = !opened.options.delegations() || !callback_ok(c, client);
    if recall && !reclaims {
        return Err(WhyNone::Resource);
    }
    let home = c.home(client);
    let locks = opened.file.locks();
    let free = locks.delegable(home.client_id(), kind, exec::now());
    free.map_err(|why| refused(why, kind))?;
    // Its future is not to make every operation's larger.
    let local = Box::pin(host::delegates(&c.cx.server, opened, kind)).await;
    let (watch, free) = local.map_err(|_| WhyNone::Resource)?;
    if !free && !reclaims {
        return Err(WhyNone::Contention);
    }
    let recall = recall || !free;
    let fh = c.cx.fh(opened, &opened.file);
    let fh = fh.map_err(|_| WhyNone::Resource)?;
    let pin = opened.file.pin().map_err(|_| WhyNone::Contention)?;
    let request = DelegRequest {
        locks,
        kind,
        fh: &fh,
        pin: Some(pin),
        watch,
        limit: c.state().config.states_per_client,
        change,
    };
    let granted = {
        let mut inner = live(client).map_err(|_| WhyNone::Resource)?;
        inner.holdings.delegate(home, request, exec::now())
    };
    match (granted, kind) {
        (Ok(stateid), DelegKind::Read) => Ok(Delegation4::Read(stateid, recall)),
        (Ok(stateid), DelegKind::Write) => Ok(Delegation4::Write(stateid, recall)),
        (Err(why), _) => Err(refused(why, kind)),
    }
}

/// One delegation does not become another (RFC 8881 18.16.3).
fn refused(why: Refused, kind: DelegKind) -> WhyNone {
    match (why, kind) {
        (Refused::Contention | Refused::Recent, _) => WhyNone::Contention,
        (Refused::Held(DelegKind::Read), DelegKind::Write) => WhyNone::NotSuppUpgrade,
        (Refused::Held(DelegKind::Write), DelegKind::Read) => WhyNone::NotSuppDowngrade,
        (Refused::Held(_), _) => WhyNone::Resource,
    }
}

/// What the answer says: reasons only to who asked (RFC 8881 18.16.3).
pub(super) fn answer(granted: Result<Delegation4, WhyNone>, want: Want) -> Delegation4 {
    match granted {
        Ok(delegation) => delegation,
        Err(_) if want == Want::Unsaid => Delegation4::None,
        Err(why) => Delegation4::NoneExt(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_open_gets_which_delegation() {
        let (read, write) = (Ok(DelegKind::Read), Ok(DelegKind::Write));
        for (access, want, confirmed, expected) in [
            (Access::READ, Want::Unsaid, true, read),
            (Access::WRITE, Want::Unsaid, true, write),
            (Access::BOTH, Want::Any, true, write),
            (Access::READ, Want::Write, true, write),
            (Access::READ, Want::Any, true, read),
            (Access::READ, Want::No, true, Err(WhyNone::NotWanted)),
            (Access::READ, Want::Cancel, true, Err(WhyNone::Cancelled)),
            (Access::READ, Want::Unsaid, false, Err(WhyNone::Resource)),
        ] {
            assert_eq!(
                kind(1, access, want, confirmed),
                expected,
                "{access:?} {want:?}"
            );
        }
        // The holder's GETATTR in the compound of its OPEN would be taken for another's.
        assert_eq!(kind(0, Access::READ, Want::Unsaid, true), read);
        for access in [Access::WRITE, Access::BOTH] {
            assert!(kind(0, access, Want::Unsaid, true).is_err());
        }
        let why = Err(WhyNone::Contention);
        assert_eq!(answer(why, Want::Unsaid), Delegation4::None);
        let said = Delegation4::NoneExt(WhyNone::Contention);
        assert_eq!(answer(why, Want::Any), said);
    }
}
