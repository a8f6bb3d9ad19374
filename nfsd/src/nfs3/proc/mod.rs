//! The procedures of NFS version 3: their table.

pub(crate) mod access;
mod commit;
mod create;
mod fsinfo;
mod fsstat;
mod getattr;
mod link;
mod lookup;
mod mkdir;
mod mknod;
mod pathconf;
mod read;
mod readdir;
mod readdirplus;
mod readlink;
mod remove;
mod rename;
mod rmdir;
mod setattr;
mod symlink;
mod write;

use bitflags::bitflags;

use super::Proc3;
use super::args::*;
use super::reply::{attributes, failed, name, put_failed, unchanged};
use crate::cx::{Cx, Reply};
use crate::rpc::msg::Refusal;
use crate::xdr::Dec;

bitflags! {
    /// What is special about a procedure.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flags: u8 {
        /// Changes the file system: refused with ROFS on a read-only export.
        const MODIFIES = 1;
        /// Repeating it gives another result: a retransmission is answered from the duplicate
        /// request cache.
        const CACHED = 2;
    }
}

/// A procedure.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Which one.
    pub procedure: Proc3,
    /// What is special about it.
    pub flags: Flags,
}

/// Awaits a procedure as a part of the request's own future, or, if `large`, in one of its own: every
/// request takes the memory of the largest of its parts.
macro_rules! part {
    (small $run:expr) => {
        $run.await
    };
    (large $run:expr) => {
        Box::pin($run).await
    };
}

/// The table: size, procedure, its argument type and module, its flags.
macro_rules! procs {
    ($($size:ident $procedure:ident $args:ident $module:ident $($flag:ident)*;)*) => {
        /// Every procedure but NULL, in order of their numbers.
        pub const ROWS: &[Row] = &[
            $(Row {
                procedure: Proc3::$procedure,
                flags: Flags::empty()$(.union(Flags::$flag))*,
            },)*
        ];

        /// Decodes the arguments of a procedure and runs it; the results are appended to `reply`.
        ///
        /// # Errors
        /// `ProcUnavail`; `GarbageArgs` for arguments that do not decode (bytes after them are
        /// ignored, as on Linux); `SystemErr` for results that do not fit. `reply` may hold a part of
        /// the results then.
        pub async fn dispatch(
            cx: &Cx,
            proc: u32,
            mut args: Dec<'_>,
            reply: &mut Reply,
        ) -> Result<(), Refusal> {
            let done = match Proc3::from_wire(proc) {
                None => return Err(Refusal::ProcUnavail),
                Some(Proc3::Null) => Ok(()),
                $(Some(Proc3::$procedure) => {
                    let args = args.get::<$args<'_>>()?;
                    part!($size $module::run(cx, args, reply))
                })*
            };
            done.map_err(|_| Refusal::SystemErr)
        }
    };
}

procs! {
    small Getattr Getattr3Args getattr;
    large Setattr Setattr3Args setattr MODIFIES CACHED;
    small Lookup Lookup3Args lookup;
    small Access Access3Args access;
    small Readlink Readlink3Args readlink;
    small Read Read3Args read;
    small Write Write3Args write MODIFIES CACHED;
    large Create Create3Args create MODIFIES CACHED;
    large Mkdir Mkdir3Args mkdir MODIFIES CACHED;
    large Symlink Symlink3Args symlink MODIFIES CACHED;
    large Mknod Mknod3Args mknod MODIFIES CACHED;
    large Remove Remove3Args remove MODIFIES CACHED;
    large Rmdir Rmdir3Args rmdir MODIFIES CACHED;
    large Rename Rename3Args rename MODIFIES CACHED;
    large Link Link3Args link MODIFIES CACHED;
    small Readdir Readdir3Args readdir;
    small Readdirplus Readdirplus3Args readdirplus;
    small Fsstat Fsstat3Args fsstat;
    small Fsinfo Fsinfo3Args fsinfo;
    small Pathconf Pathconf3Args pathconf;
    small Commit Commit3Args commit;
}

/// The row of a procedure; none for NULL and for what is not a procedure.
pub fn row(proc: u32) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.procedure.wire() == proc)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nfs3::status::{Nfsstat3, permitted, restrict};

    #[test]
    fn the_table_is_complete_and_in_order() {
        let listed: Vec<u32> = ROWS.iter().map(|row| row.procedure.wire()).collect();
        assert_eq!(listed, (1..=21).collect::<Vec<u32>>());
        assert!(row(0).is_none() && row(22).is_none());
        assert!(Proc3::from_wire(22).is_none());
    }

    /// Bytes of the future of `run`.
    fn future_bytes<'a, F: Future>(
        _run: impl Fn(&'a Cx, u32, Dec<'a>, &'a mut Reply) -> F,
    ) -> usize {
        size_of::<F>()
    }

    #[test]
    fn a_request_is_small() {
        assert!(future_bytes(dispatch) <= 2048, "{}", future_bytes(dispatch));
    }

    #[test]
    fn every_procedure_answers_only_what_it_may() {
        for procedure in ROWS.iter().map(|row| row.procedure) {
            for status in Nfsstat3::ALL.iter().copied() {
                let answered = restrict(procedure, status);
                assert!(permitted(procedure, answered), "{procedure} {status}");
                let kept = answered == status;
                assert_eq!(kept, permitted(procedure, status), "{procedure} {status}");
            }
        }
        for (procedure, status, answered) in [
            (Proc3::Getattr, Nfsstat3::Nospc, Nfsstat3::Io),
            (Proc3::Readlink, Nfsstat3::Perm, Nfsstat3::Acces),
            (Proc3::Access, Nfsstat3::Rofs, Nfsstat3::Acces),
            (Proc3::Write, Nfsstat3::NotSync, Nfsstat3::Inval),
            (Proc3::Mkdir, Nfsstat3::Fbig, Nfsstat3::Nospc),
            (Proc3::Read, Nfsstat3::Noent, Nfsstat3::Stale),
        ] {
            assert_eq!(
                restrict(procedure, status),
                answered,
                "{procedure} {status}"
            );
        }
    }

    #[test]
    fn errors_of_the_file_system_that_are_not_the_kernels() {
        assert_eq!(Nfsstat3::from(vfs::NOT_SYNC), Nfsstat3::NotSync);
        assert_eq!(Nfsstat3::from(vfs::BAD_COOKIE), Nfsstat3::BadCookie);
        assert_eq!(Nfsstat3::from(vfs::Errno::EROFS), Nfsstat3::Rofs);
    }

    #[test]
    fn what_modifies_can_say_rofs_and_is_cached() {
        for row in ROWS {
            let modifies = row.flags.contains(Flags::MODIFIES);
            let rofs = restrict(row.procedure, Nfsstat3::Rofs) == Nfsstat3::Rofs;
            assert_eq!(modifies, row.flags.contains(Flags::CACHED));
            assert!(rofs || !modifies, "{}", row.procedure);
        }
        let modifying = ROWS
            .iter()
            .filter(|row| row.flags.contains(Flags::MODIFIES));
        assert_eq!(modifying.count(), 10);
    }
}
