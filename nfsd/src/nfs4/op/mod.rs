//! The operations of NFS version 4: their table, and what is the same for all.

pub mod access;
pub mod allocate;
pub mod backchannel_ctl;
pub mod bind_conn_to_session;
pub mod clone;
pub mod close;
pub mod commit;
pub mod copy;
pub mod create;
pub mod create_session;
pub mod deallocate;
pub mod delegpurge;
pub mod delegreturn;
pub mod destroy_clientid;
pub mod destroy_session;
pub mod exchange_id;
pub mod free_stateid;
pub mod get_dir_delegation;
pub mod getattr;
pub mod getfh;
pub mod getxattr;
pub mod io_advise;
pub mod link;
pub mod listxattrs;
pub mod lock;
pub mod lockt;
pub mod locku;
pub mod lookup;
pub mod lookupp;
pub mod nverify;
pub mod offload_cancel;
pub mod offload_status;
pub mod open;
pub mod open_confirm;
pub mod open_downgrade;
pub mod putfh;
pub mod putpubfh;
pub mod putrootfh;
pub mod read;
pub mod read_plus;
pub mod readdir;
pub mod readlink;
pub mod reclaim_complete;
pub mod release_lockowner;
pub mod remove;
pub mod removexattr;
pub mod rename;
pub mod renew;
pub mod restorefh;
pub mod savefh;
pub mod secinfo;
pub mod secinfo_no_name;
pub mod seek;
pub mod sequence;
pub mod set_ssv;
pub mod setattr;
pub mod setclientid;
pub mod setclientid_confirm;
pub mod setxattr;
pub mod test_stateid;
pub mod verify;
pub mod want_delegation;
pub mod write;

use bitflags::bitflags;

use super::Op4;
use super::compound::Compound;
use super::status::{Nfsstat4, restrict};
use crate::cx::Reply;
use crate::xdr::{Dec, Decode, XdrError};

bitflags! {
    /// What is special about an operation.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u8 {
        /// Changes files or state: not begun unless its results are sure to fit.
        const MODIFIES = 1;
        /// Has results when it fails, too.
        const FAIL_BODY = 2;
        /// May be the only operation of a request without a session (RFC 8881 18.46.3).
        const ALONE = 4;
    }
}

/// An operation.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Which one.
    pub op: Op4,
    /// What is special about it.
    pub flags: Flags,
    /// Most bytes of its results behind the status; for [`Flags::MODIFIES`].
    pub reply: usize,
}

/// Awaits an operation as a part of the request's own future, or, if `large`, in one of its own: every
/// request takes the memory of the largest of its parts.
macro_rules! part {
    (small $run:expr) => {
        $run.await
    };
    (large $run:expr) => {
        Box::pin($run).await
    };
}

/// The table: size, operation, its module, most bytes of results, flags. The module's
/// `async fn run(c: &mut Compound<'_>, args: Args, out: &mut Reply) -> Result<(), Nfsstat4>` says
/// what the arguments are; it appends the results that follow the status.
macro_rules! ops {
    ($($size:ident $op:ident $module:ident $reply:literal $($flag:ident)*;)*) => {
        /// Every operation served, in order of their numbers.
        pub const ROWS: &[Row] = &[
            $(Row {
                op: Op4::$op,
                flags: Flags::empty()$(.union(Flags::$flag))*,
                reply: $reply,
            },)*
        ];

        /// The row of an operation.
        #[must_use]
        pub const fn row(op: Op4) -> Option<&'static Row> {
            let mut _at = 0;
            $(
                if op as u32 == Op4::$op as u32 {
                    return Some(&ROWS[_at]);
                }
                _at += 1;
            )*
            None
        }

        async fn dispatch(
            c: &mut Compound<'_>,
            op: Op4,
            args: &mut Dec<'_>,
            out: &mut Reply,
        ) -> Result<(), Nfsstat4> {
            match op {
                $(Op4::$op => {
                    let decoded = args.get()?;
                    c.next = next(args);
                    part!($size $module::run(c, decoded, out))
                })*
                _ => Err(Nfsstat4::Notsupp),
            }
        }

        /// Passes over the arguments of an operation; `false` if it is not served.
        ///
        /// # Errors
        /// Those of decoding them.
        pub fn skip_args(op: Op4, args: &mut Dec<'_>) -> Result<bool, XdrError> {
            match op {
                $(Op4::$op => skip($module::run, args)?,)*
                _ => return Ok(false),
            }
            Ok(true)
        }
    };
}

/// The operation that follows, if any does.
fn next(args: &Dec<'_>) -> Option<Op4> {
    let number = args.rest().first_chunk()?;
    Op4::from_wire(u32::from_be_bytes(*number))
}

/// Decodes what `run` takes.
fn skip<'c, 'a, A: Decode<'a>, F>(
    _run: impl Fn(&'c mut Compound<'c>, A, &'c mut Reply) -> F,
    args: &mut Dec<'a>,
) -> Result<(), XdrError> {
    args.get::<A>().map(|_| ())
}

ops! {
    small Access access 8;
    small Close close 16 MODIFIES;
    large Commit commit 8 MODIFIES;
    large Create create 48 MODIFIES;
    small Delegpurge delegpurge 0;
    small Delegreturn delegreturn 0 MODIFIES;
    small Getattr getattr 0;
    small Getfh getfh 132;
    large Link link 20 MODIFIES;
    large Lock lock 1056 MODIFIES FAIL_BODY;
    large Lockt lockt 1056 FAIL_BODY;
    small Locku locku 16 MODIFIES;
    large Lookup lookup 0;
    large Lookupp lookupp 0;
    large Nverify nverify 0;
    large Open open 256 MODIFIES;
    large OpenConfirm open_confirm 16 MODIFIES;
    large OpenDowngrade open_downgrade 16 MODIFIES;
    small Putfh putfh 0;
    large Putpubfh putpubfh 0;
    large Putrootfh putrootfh 0;
    small Read read 8;
    large Readdir readdir 0;
    large Readlink readlink 0;
    large Remove remove 20 MODIFIES;
    large Rename rename 40 MODIFIES;
    small Renew renew 0;
    small Restorefh restorefh 0;
    small Savefh savefh 0;
    large Secinfo secinfo 0;
    large Setattr setattr 16 MODIFIES FAIL_BODY;
    large Setclientid setclientid 264 MODIFIES FAIL_BODY;
    large SetclientidConfirm setclientid_confirm 0 MODIFIES;
    large Verify verify 0;
    small Write write 16 MODIFIES;
    small ReleaseLockowner release_lockowner 0 MODIFIES;
    large BackchannelCtl backchannel_ctl 0 MODIFIES;
    large BindConnToSession bind_conn_to_session 24 MODIFIES ALONE;
    large ExchangeId exchange_id 4096 MODIFIES ALONE;
    large CreateSession create_session 88 MODIFIES ALONE;
    large DestroySession destroy_session 0 MODIFIES ALONE;
    small FreeStateid free_stateid 0 MODIFIES;
    large GetDirDelegation get_dir_delegation 0;
    large SecinfoNoName secinfo_no_name 0;
    small Sequence sequence 36;
    large SetSsv set_ssv 0;
    small TestStateid test_stateid 0;
    large WantDelegation want_delegation 72 MODIFIES;
    large DestroyClientid destroy_clientid 0 MODIFIES ALONE;
    large ReclaimComplete reclaim_complete 0 MODIFIES;
    large Allocate allocate 0 MODIFIES;
    large Copy copy 52 MODIFIES;
    large Deallocate deallocate 0 MODIFIES;
    large IoAdvise io_advise 16;
    large OffloadCancel offload_cancel 0 MODIFIES;
    large OffloadStatus offload_status 0;
    large ReadPlus read_plus 0;
    large Seek seek 0;
    large Clone clone 0 MODIFIES;
    large Getxattr getxattr 0;
    large Setxattr setxattr 20 MODIFIES;
    large Listxattrs listxattrs 0;
    large Removexattr removexattr 20 MODIFIES;
}

/// Runs the operation of this number and appends number, status and results.
pub async fn run(
    c: &mut Compound<'_>,
    number: u32,
    args: &mut Dec<'_>,
    out: &mut Reply,
) -> Nfsstat4 {
    let known = Op4::from_wire(number).filter(|op| c.minor >= op.minors().0);
    let op = known.unwrap_or(Op4::Illegal);
    let start = out.bytes.len();
    put_word(out, op.wire());
    put_word(out, Nfsstat4::Ok.wire());
    let body = out.bytes.len();
    let done = match begin(c, op, out) {
        Ok(modifies) => {
            c.modified |= modifies;
            dispatch(c, op, args, out).await
        }
        Err(status) => Err(status),
    };
    let done = done.and_then(|()| fits(c, op, out));
    let status = match done {
        Ok(()) => return Nfsstat4::Ok,
        Err(Nfsstat4::RepTooBig) => restrict(op, c.minor, c.too_big),
        Err(status) => restrict(op, c.minor, status),
    };
    if !row(op).is_some_and(|row| row.flags.contains(Flags::FAIL_BODY)) {
        out.truncate(body);
    }
    out.patch(start + 4, status.wire());
    status
}

fn put_word(out: &mut Reply, word: u32) {
    out.bytes.extend_from_slice(&word.to_be_bytes());
}

/// Whether an operation may run here at all; and whether it modifies.
fn begin(c: &Compound<'_>, op: Op4, out: &Reply) -> Result<bool, Nfsstat4> {
    if let Some(status) = c.refuse {
        return Err(status);
    }
    if op == Op4::Illegal {
        return Err(Nfsstat4::OpIllegal);
    }
    if c.minor > op.minors().1 {
        return Err(Nfsstat4::Notsupp);
    }
    let row = row(op).ok_or(Nfsstat4::Notsupp)?;
    if c.minor > 0 {
        placed(c, row)?;
    }
    // What has been done must be reported.
    let modifies = row.flags.contains(Flags::MODIFIES);
    if modifies && c.room(out) < row.reply {
        return Err(Nfsstat4::RepTooBig);
    }
    Ok(modifies)
}

/// SEQUENCE comes first and once; what does without it is alone (RFC 8881 2.10.6.1, 18.46.3).
fn placed(c: &Compound<'_>, row: &Row) -> Result<(), Nfsstat4> {
    let alone = row.flags.contains(Flags::ALONE);
    match (c.at, row.op) {
        (0, Op4::Sequence) => Ok(()),
        (0, _) if !alone => Err(Nfsstat4::OpNotInSession),
        (0, _) if c.ops > 1 => Err(Nfsstat4::NotOnlyOp),
        (0, _) => Ok(()),
        (_, Op4::Sequence) => Err(Nfsstat4::SequencePos),
        (_, Op4::BindConnToSession) => Err(Nfsstat4::NotOnlyOp),
        _ => Ok(()),
    }
}

/// Results that turned out too long are taken back; what modifies was sure to fit.
fn fits(c: &Compound<'_>, op: Op4, out: &Reply) -> Result<(), Nfsstat4> {
    let modifies = row(op).is_some_and(|row| row.flags.contains(Flags::MODIFIES));
    if !modifies && c.over(out) {
        return Err(Nfsstat4::RepTooBig);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        let listed: Vec<u32> = ROWS.iter().map(|row| row.op.wire()).collect();
        assert!(listed.is_sorted_by(|a, b| a < b), "{listed:?}");
        for row in ROWS {
            assert_eq!(super::row(row.op).map(|r| r.op), Some(row.op));
        }
    }
}
