//! The procedures of MOUNT (RFC 1813 appendix I section 5.2).
//!
//! A refused path is ACCES, whether it is exported to others, to nobody or not there at all: clients
//! without access learn nothing. Versions 1 and 2 have handles of 32 bytes, into which ours do not
//! fit: their MNT is refused, everything else in them works.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::Arc;

use arrayvec::ArrayVec;
use vfs::{Cred, File, FileKind, Name};

use super::list::MOUNTED;
use super::types::{
    self as mount, Dirpath, Fhstatus, MAX_FLAVORS, MOUNT_V3, MountProc, Mountbody, Mountres3,
    Mountres3Ok, Mountstat3, Stat1, encode_export,
};
use crate::cx::{Cx, Reply};
use crate::export::options::{Options, Sec};
use crate::export::{ExportTable, Found};
use crate::fh::FileHandle;
use crate::nfs3::types::NfsFh3;
use crate::rpc::auth::Flavor;
use crate::rpc::msg::Refusal;
use crate::xdr::{Dec, XdrError, encode_chain};

/// Runs a procedure of version `vers`; the results are appended to `reply`.
///
/// # Errors
/// `ProcUnavail`; `GarbageArgs` for arguments that do not decode; `SystemErr` for results that do
/// not fit. `reply` may hold a part of the results then.
pub async fn dispatch(
    cx: &Cx,
    vers: u32,
    proc: u32,
    mut args: Dec<'_>,
    reply: &mut Reply,
) -> Result<(), Refusal> {
    let host = cx.client.addr.ip();
    let done = match MountProc::from_wire(proc).ok_or(Refusal::ProcUnavail)? {
        MountProc::Null => Ok(()),
        MountProc::Mnt => {
            let path = args.get::<Dirpath<'_>>()?;
            if vers == MOUNT_V3 {
                mnt(cx, path, reply).await
            } else {
                let acces = Mountstat3::Acces.wire();
                reply.put(&Fhstatus::Fail(Stat1(acces), ()))
            }
        }
        MountProc::Dump => dump(reply),
        MountProc::Umnt => {
            let path = args.get::<Dirpath<'_>>()?;
            MOUNTED.remove(host, path.0);
            Ok(())
        }
        MountProc::Umntall => {
            MOUNTED.remove_all(host);
            Ok(())
        }
        MountProc::Export => export(cx, reply).await,
    };
    done.map_err(|_| Refusal::SystemErr)
}

async fn mnt(cx: &Cx, path: Dirpath<'_>, reply: &mut Reply) -> Result<(), XdrError> {
    let peer = cx.client.addr;
    match find(cx, path).await {
        Ok((handle, options)) => {
            MOUNTED.add(peer.ip(), path.0);
            tracing::info!(%peer, path = %path.0.escape_ascii(), "mount");
            reply.put(&Mountres3::Ok(Mountres3Ok {
                fhandle: NfsFh3(&handle),
                auth_flavors: flavors(options.sec),
            }))
        }
        Err(status) => {
            tracing::info!(%peer, path = %path.0.escape_ascii(), %status, "mount refused");
            reply.put(&Mountres3::Fail(status, ()))
        }
    }
}

/// The flavors an export takes, best first.
fn flavors(sec: Sec) -> ArrayVec<u32, MAX_FLAVORS> {
    [(Sec::SYS, Flavor::Sys), (Sec::NONE, Flavor::None)]
        .into_iter()
        .filter(|(bit, _)| sec.contains(*bit))
        .map(|(_, flavor)| flavor.wire())
        .collect()
}

async fn find(cx: &Cx, path: Dirpath<'_>) -> Result<(FileHandle, Arc<Options>), Mountstat3> {
    let table: Arc<ExportTable> = cx.exports();
    let path = Path::new(OsStr::from_bytes(path.0));
    let found = cx.with_peer(|peer| match table.find_by_path(path, peer) {
        Found::NeedsName => None,
        found => Some(found),
    });
    let (export, options, below) = match found.await {
        Some(Found::Granted {
            export,
            options,
            below,
        }) => (export, options, below),
        Some(_) | None => return Err(Mountstat3::Acces),
    };
    if !options.port_allowed(cx.client.addr.port()) {
        return Err(Mountstat3::Acces);
    }
    let root = cx.server.root_of(export.id).ok_or(Mountstat3::Noent)?;
    let root = cx
        .server
        .vfs
        .file(&root.mount, root.handle)
        .await
        .map_err(status)?;
    let fsid = root.mount.fsid;
    let dir = walk(cx, root, &below).await?;
    if dir.mount.fsid != fsid && !options.crossmnt() {
        return Err(Mountstat3::Acces);
    }
    let handle = cx.fh_of(export.id, &dir.mount, &dir.handle);
    let handle = handle.map_err(|_| Mountstat3::Serverfault)?;
    Ok((handle, options.clone()))
}

fn status(e: vfs::Errno) -> Mountstat3 {
    Mountstat3::from_errno(e.0)
}

/// The directory `below` an export's root, never through a symbolic link.
async fn walk(cx: &Cx, root: Arc<File>, below: &Path) -> Result<Arc<File>, Mountstat3> {
    let cred = Cred::root();
    let mut dir = root;
    for component in below.components() {
        let Component::Normal(name) = component else {
            return Err(Mountstat3::Acces);
        };
        let name = Name::new(name.as_bytes()).map_err(status)?;
        let found = cx.server.vfs.lookup(&cred, &dir, &name).await;
        (dir, _) = found.result.map_err(status)?;
        if dir.kind() != FileKind::Directory {
            return Err(Mountstat3::Notdir);
        }
    }
    Ok(dir)
}

fn dump(reply: &mut Reply) -> Result<(), XdrError> {
    let entries: Vec<(String, Box<[u8]>)> = MOUNTED
        .entries()
        .into_iter()
        .map(|(host, directory)| (host.to_string(), directory))
        .collect();
    let bodies = entries.iter().map(|(host, directory)| Mountbody {
        hostname: mount::Name(host.as_bytes()),
        directory: Dirpath(directory),
    });
    encode_chain(&mut reply.enc(), bodies)
}

/// What the peer may use and nothing else. An export whose path MOUNT cannot carry cannot be mounted
/// by it either.
async fn export(cx: &Cx, reply: &mut Reply) -> Result<(), XdrError> {
    let table = cx.exports();
    let visible = cx.with_peer(|peer| table.visible_to(peer)).await;
    let mut enc = reply.enc();
    for export in visible.unwrap_or_default() {
        let path = export.path.as_os_str().as_bytes();
        if path.len() > Dirpath::MAX {
            continue;
        }
        let clients = export.clients.iter();
        let groups: Vec<String> = clients
            .map(|(matcher, _)| matcher.client().to_string())
            .filter(|group| group.len() <= mount::Name::MAX)
            .collect();
        let groups = groups.iter().map(|group| mount::Name(group.as_bytes()));
        encode_export(&mut enc, Dirpath(path), groups)?;
    }
    enc.bool(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flavors_of_an_export() {
        assert_eq!(flavors(Sec::SYS).as_slice(), [1]);
        assert_eq!(flavors(Sec::NONE).as_slice(), [0]);
        assert_eq!(flavors(Sec::SYS | Sec::NONE).as_slice(), [1, 0]);
    }
}
