//! WANT_DELEGATION: a delegation without an OPEN (RFC 8881 18.49).
//!
//! It is given when it can be had now. Nothing is registered to be offered later, which the answer says
//! in `ond_server_will_push_deleg` and `ond_server_will_signal_avail`, as 18.49.3 demands of such a
//! server; so nothing was ever wanted before (`DELEG_ALREADY_WANTED`), and there is nothing to cancel.

use std::sync::Arc;

use vfs::locks::DelegKind;
use vfs::{Errno, FileKind};

use super::open::args::{Delegation4, DelegationType4, Want, WhyNone, want};
use super::open::deleg;
use crate::cx::{Opened, Reply};
use crate::nfs4::compound::{Compound, Place};
use crate::nfs4::durable;
use crate::nfs4::state::client::Client;
use crate::nfs4::stateful::{self, callback_ok};
use crate::nfs4::status::Nfsstat4;
use crate::xdr::{Dec, Decode, Result as XdrResult, XdrError};

/// `deleg_claim4`: by what right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DelegClaim4 {
    /// The client had it before the server restarted.
    Previous(DelegationType4),
    /// None.
    Fh,
    /// The client had it before it restarted itself.
    DelegPrevFh,
}

impl<'a> Decode<'a> for DelegClaim4 {
    fn decode(dec: &mut Dec<'a>) -> XdrResult<Self> {
        match dec.u32()? {
            1 => dec.get().map(Self::Previous),
            4 => Ok(Self::Fh),
            6 => Ok(Self::DelegPrevFh),
            _ => Err(XdrError::BadEnum),
        }
    }
}

/// `WANT_DELEGATION4args`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantDelegationArgs {
    /// `OPEN4_SHARE_ACCESS_WANT_*`.
    pub want: u32,
    /// By what right.
    pub claim: DelegClaim4,
}

impl<'a> Decode<'a> for WantDelegationArgs {
    fn decode(dec: &mut Dec<'a>) -> XdrResult<Self> {
        Ok(WantDelegationArgs {
            want: dec.get()?,
            claim: dec.get()?,
        })
    }
}

/// The access bits and `WANT_NO_DELEG` MUST be ignored; with nothing left there is nothing wanted.
fn wanted(bits: u32) -> Result<Want, Nfsstat4> {
    const ACCESS: u32 = 3;
    const CANCEL: u32 = 0x500;
    const NO_DELEG: u32 = 0x400;
    let bits = bits & !ACCESS;
    let bits = match bits & 0xff00 {
        CANCEL => bits,
        _ => bits & !NO_DELEG,
    };
    match want(bits) {
        None | Some(Want::Unsaid) => Err(Nfsstat4::Inval),
        Some(want) => Ok(want),
    }
}

/// What `want` means for a file of this kind. Who wants either gets the one that keeps nobody from
/// reading.
fn kind(want: Want, file: FileKind) -> Result<DelegKind, WhyNone> {
    match (want, file) {
        (Want::Unsaid | Want::No | Want::Cancel, _) => Err(WhyNone::Cancelled),
        (_, FileKind::Directory) => Err(WhyNone::IsDir),
        (Want::Write, FileKind::Regular) => Ok(DelegKind::Write),
        (Want::Read | Want::Any, FileKind::Regular) => Ok(DelegKind::Read),
        (Want::Write, _) => Err(WhyNone::WriteNotSuppFtype),
        (Want::Read | Want::Any, _) => Err(WhyNone::NotSuppFtype),
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: WantDelegationArgs,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let place = c.place()?;
    let client = c.client()?.clone();
    let want = wanted(args.want)?;
    let granted = match (args.claim, place) {
        (DelegClaim4::DelegPrevFh, _) => return Err(Nfsstat4::Notsupp),
        (DelegClaim4::Previous(held), Place::File(opened)) => {
            Ok(reclaim(c, &client, opened, held).await?)
        }
        (DelegClaim4::Previous(_), Place::Pseudo(_)) => return Err(Nfsstat4::WrongType),
        (DelegClaim4::Fh, _) => {
            c.may_begin(&client)?;
            match place {
                Place::Pseudo(_) => kind(want, FileKind::Directory).map(|_| Delegation4::None),
                Place::File(opened) => match kind(want, opened.file.kind()) {
                    Ok(kind) => fresh(c, &client, opened, kind).await?,
                    Err(why) => Err(why),
                },
            }
        }
    };
    let answer = granted.unwrap_or_else(Delegation4::NoneExt);
    out.put(&answer)?;
    if let Delegation4::Read(stateid, _) | Delegation4::Write(stateid, _) = answer {
        c.stateid = Some(stateid);
    }
    Ok(())
}

/// A new delegation, for who could open the file like that.
async fn fresh(
    c: &Compound<'_>,
    client: &Arc<Client>,
    opened: &Opened,
    kind: DelegKind,
) -> Result<Result<Delegation4, WhyNone>, Nfsstat4> {
    let write = kind == DelegKind::Write;
    if write && opened.writable().is_err() || !callback_ok(c, client) {
        return Ok(Err(WhyNone::Resource));
    }
    let vfs = &c.cx.server.vfs;
    let checked = vfs.open_check(&opened.cred, &opened.file, !write, write);
    let change = match checked.await {
        Ok(attr) => attr.change,
        Err(Errno::EACCES | Errno::EPERM | Errno::EROFS | Errno::ETXTBSY) => {
            return Ok(Err(WhyNone::Resource));
        }
        Err(error) => return Err(error.into()),
    };
    durable::begins(&c.cx.server, client).await?;
    durable::settled(&c.cx.server).await?;
    stateful::renew(c, client);
    Ok(deleg::grant(c, client, opened, (Ok(kind), false), change).await)
}

/// One from before the server restarted.
async fn reclaim(
    c: &Compound<'_>,
    client: &Arc<Client>,
    opened: &Opened,
    held: DelegationType4,
) -> Result<Delegation4, Nfsstat4> {
    let _reclaim = c.may_reclaim(client)?;
    let kind = held.kind().ok_or(Nfsstat4::Inval)?;
    if opened.file.kind() != FileKind::Regular {
        return Err(Nfsstat4::WrongType);
    }
    let change = c.cx.server.vfs.getattr(&opened.file).await?.change;
    durable::settled(&c.cx.server).await?;
    stateful::renew(c, client);
    let granted = deleg::grant(c, client, opened, (Ok(kind), true), change).await;
    granted.map_err(|why| match why {
        WhyNone::Contention => Nfsstat4::ReclaimConflict,
        _ => Nfsstat4::ReclaimBad,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdr::Enc;

    #[test]
    fn what_is_wanted() {
        for (bits, expected) in [
            (0x100, Ok(Want::Read)),
            (0x200, Ok(Want::Write)),
            (0x300, Ok(Want::Any)),
            // To be ignored.
            (0x103, Ok(Want::Read)),
            (0x600, Ok(Want::Write)),
            (0x500, Ok(Want::Cancel)),
            // When one can be had, and RFC 9754's.
            (0x33_0100, Ok(Want::Read)),
            (0, Err(Nfsstat4::Inval)),
            (3, Err(Nfsstat4::Inval)),
            (0x400, Err(Nfsstat4::Inval)),
            (0x900, Err(Nfsstat4::Inval)),
            (0x104, Err(Nfsstat4::Inval)),
            (0x8000_0100, Err(Nfsstat4::Inval)),
        ] {
            assert_eq!(wanted(bits), expected, "{bits:x}");
        }
    }

    #[test]
    fn what_can_be_delegated() {
        use FileKind::{Directory, Regular, Symlink};
        for (want, file, expected) in [
            (Want::Read, Regular, Ok(DelegKind::Read)),
            (Want::Any, Regular, Ok(DelegKind::Read)),
            (Want::Write, Regular, Ok(DelegKind::Write)),
            (Want::Read, Directory, Err(WhyNone::IsDir)),
            (Want::Write, Symlink, Err(WhyNone::WriteNotSuppFtype)),
            (Want::Any, Symlink, Err(WhyNone::NotSuppFtype)),
            (Want::Cancel, Regular, Err(WhyNone::Cancelled)),
        ] {
            assert_eq!(kind(want, file), expected, "{want:?} {file:?}");
        }
    }

    #[test]
    fn arguments_decode_or_not_at_all() {
        for (claim, expected) in [
            (
                &[1_u32, 2][..],
                Some(DelegClaim4::Previous(DelegationType4::Write)),
            ),
            (&[4], Some(DelegClaim4::Fh)),
            (&[6], Some(DelegClaim4::DelegPrevFh)),
            (&[0], None),
            (&[5, 0, 0, 0, 0], None),
            (&[1, 9], None),
        ] {
            let mut wire = Vec::new();
            let mut enc = Enc::new(&mut wire, 64);
            enc.u32(0x100).expect("fits");
            claim.iter().for_each(|word| enc.u32(*word).expect("fits"));
            let args = Dec::new(&wire).get::<WantDelegationArgs>();
            assert_eq!(args.ok().map(|args| args.claim), expected);
            assert!(Dec::new(&wire[..7]).get::<WantDelegationArgs>().is_err());
        }
    }

    #[test]
    fn the_longest_answer_fits_its_row() {
        use crate::nfs4::types::Stateid4;
        let mut wire = Vec::new();
        let answer = Delegation4::Write(Stateid4::BYPASS, true);
        Enc::new(&mut wire, 1024).put(&answer).expect("fits");
        let row = crate::nfs4::op::row(crate::nfs4::Op4::WantDelegation).expect("served");
        assert!(wire.len() <= row.reply, "{}", wire.len());
    }
}
