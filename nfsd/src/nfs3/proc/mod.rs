//! The procedures of NFS version 3: their table, and what they share.

mod access;
mod commit;
mod create;
mod fsinfo;
mod fsstat;
mod getattr;
mod link;
mod listing;
mod lookup;
mod made;
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

use std::sync::Arc;

use bitflags::bitflags;
use vfs::{File, Name};

use super::Proc3;
use super::args::*;
use super::attr::post_op;
use super::status::{Nfsstat3, restrict};
use super::types::{Filename3, PostOpAttr, WccData};
use crate::cx::{Cx, Opened, Reply};
use crate::rpc::msg::Refusal;
use crate::xdr::{Dec, Encode, Res, XdrError};

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

/// The table: procedure, its argument type and module, its flags.
macro_rules! procs {
    ($($procedure:ident $args:ident $module:ident $($flag:ident)*;)*) => {
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
                    $module::run(cx, args, reply).await
                })*
            };
            done.map_err(|_| Refusal::SystemErr)
        }
    };
}

procs! {
    Getattr Getattr3Args getattr;
    Setattr Setattr3Args setattr MODIFIES CACHED;
    Lookup Lookup3Args lookup;
    Access Access3Args access;
    Readlink Readlink3Args readlink;
    Read Read3Args read;
    Write Write3Args write MODIFIES CACHED;
    Create Create3Args create MODIFIES CACHED;
    Mkdir Mkdir3Args mkdir MODIFIES CACHED;
    Symlink Symlink3Args symlink MODIFIES CACHED;
    Mknod Mknod3Args mknod MODIFIES CACHED;
    Remove Remove3Args remove MODIFIES CACHED;
    Rmdir Rmdir3Args rmdir MODIFIES CACHED;
    Rename Rename3Args rename MODIFIES CACHED;
    Link Link3Args link MODIFIES CACHED;
    Readdir Readdir3Args readdir;
    Readdirplus Readdirplus3Args readdirplus;
    Fsstat Fsstat3Args fsstat;
    Fsinfo Fsinfo3Args fsinfo;
    Pathconf Pathconf3Args pathconf;
    Commit Commit3Args commit;
}

/// The row of a procedure; none for NULL and for what is not a procedure.
pub fn row(proc: u32) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.procedure.wire() == proc)
}

/// A failed procedure's results.
fn failed<T, F>(procedure: Proc3, status: Nfsstat3, fail: F) -> Res<Nfsstat3, T, F> {
    Res::Fail(restrict(procedure, status), fail)
}

/// Appends a failed procedure's results.
fn put_failed(
    procedure: Proc3,
    status: Nfsstat3,
    fail: impl Encode,
    reply: &mut Reply,
) -> Result<(), XdrError> {
    reply.put(&failed::<(), _>(procedure, status, fail))
}

/// A name out of the arguments.
fn name(name: Filename3<'_>) -> Result<Name, Nfsstat3> {
    Ok(Name::new(name.0)?)
}

/// Attributes for the reply of a procedure that did not get to them.
async fn attributes(cx: &Cx, opened: &Opened) -> PostOpAttr {
    let attr = cx.server.vfs.getattr(&opened.file).await.ok();
    post_op(&opened.file, attr.as_ref())
}

/// The same of a procedure that did not get to change anything.
async fn unchanged(cx: &Cx, opened: &Opened) -> WccData {
    WccData {
        before: None,
        after: attributes(cx, opened).await,
    }
}

/// On `sync` exports (exports(5)) changes of these files are on stable storage before the reply.
async fn settle(cx: &Cx, opened: &Opened, files: &[&Arc<File>]) -> Result<(), Nfsstat3> {
    if !opened.options.is_async() {
        cx.server.vfs.settle(files).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_complete_and_in_order() {
        let listed: Vec<u32> = ROWS.iter().map(|row| row.procedure.wire()).collect();
        assert_eq!(listed, (1..=21).collect::<Vec<u32>>());
        assert!(row(0).is_none() && row(22).is_none());
        assert!(Proc3::from_wire(22).is_none());
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
