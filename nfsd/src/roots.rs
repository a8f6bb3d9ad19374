//! Opens the root directory of every export, and refuses at start what could not be served later.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use vfs::mount::mounts_below;
use vfs::{Errno, Mount, Vfs};

use crate::export::options::Mountpoint;
use crate::export::{Export, ExportTable};
use crate::fh::HandleKey;
use crate::finding::{Findings, Place};
use crate::server::Root;

/// Opens every export's root. Exports that cannot be served are findings.
pub fn open(
    vfs: &Arc<Vfs>,
    table: &ExportTable,
    key: &HandleKey,
    found: &mut Findings,
) -> HashMap<u32, Root> {
    let mut roots = HashMap::new();
    for export in table.exports() {
        let value = export.path.display().to_string();
        match open_one(vfs, export) {
            Ok(root) => {
                if root.mount.volatile {
                    let fix = "add fsid=NUMBER to its options to keep handles over a remount";
                    found.warning(
                        at(&value),
                        "the file system has no lasting identity",
                        &value,
                        fix,
                    );
                }
                if key.seal(export.id, root.mount.fsid, &root.handle).is_none() {
                    found.error(
                        at(&value),
                        "the file system's handles do not fit NFSv3",
                        &value,
                        "export a directory on ext4, xfs or btrfs",
                    );
                }
                let wanted = export.clients.iter().any(|(_, o)| o.host_locks());
                if wanted && !root.mount.locks_at_once() {
                    tracing::info!(
                        path = value,
                        "locks on this file system may wait for another host; processes that open a file do not recall its delegations"
                    );
                }
                roots.insert(export.id, root);
            }
            Err((why, fix)) => found.error(at(&value), why, &value, fix),
        }
    }
    roots
}

fn at(value: &str) -> Place<'_> {
    Place {
        file: value,
        line: 0,
    }
}

fn open_one(vfs: &Arc<Vfs>, export: &Export) -> Result<Root, (String, &'static str)> {
    let mut cross = false;
    for (_, options) in &export.clients {
        cross |= options.crossmnt();
        check_mountpoint(export, options.mountpoint.as_ref())?;
    }
    let fsid = export.fsid.and_then(|f| f.identity());
    let mount = Mount::open(&export.path, cross, fsid).map_err(|e| match e {
        Errno::EOPNOTSUPP => (
            "the file system makes no file handles (overlayfs, FUSE)".to_owned(),
            "export a directory on ext4, xfs or btrfs",
        ),
        Errno::ENOENT => (
            "no such directory".to_owned(),
            "create it, or remove the export",
        ),
        Errno::ENOTDIR => ("not a directory".to_owned(), "export a directory"),
        e => (
            format!("cannot open it: {e}"),
            "check the path and the server's capabilities",
        ),
    })?;
    let handle = mount.root.clone();
    let mount = vfs.add_mount(mount);
    if cross {
        add_submounts(vfs, &export.path);
    }
    Ok(Root { mount, handle })
}

/// Handles of file systems below a `crossmnt` export stay valid over a restart: their mounts are
/// known from the start.
fn add_submounts(vfs: &Vfs, path: &Path) {
    for point in mounts_below(path).unwrap_or_default() {
        match Mount::open(&point, true, None) {
            Ok(mount) => drop(vfs.add_mount(mount)),
            Err(e) => {
                tracing::warn!(path = %point.display(), error = %e, "cannot be reached through crossmnt")
            }
        }
    }
}

fn check_mountpoint(
    export: &Export,
    option: Option<&Mountpoint>,
) -> Result<(), (String, &'static str)> {
    let path = match option {
        None => return Ok(()),
        Some(Mountpoint::Here) => &export.path,
        Some(Mountpoint::At(path)) => path,
    };
    let mounted = rustix::fs::statx(
        rustix::fs::CWD,
        path,
        rustix::fs::AtFlags::NO_AUTOMOUNT,
        rustix::fs::StatxFlags::BASIC_STATS,
    )
    .is_ok_and(|s| {
        s.stx_attributes
            .contains(rustix::fs::StatxAttributes::MOUNT_ROOT)
    });
    if mounted {
        return Ok(());
    }
    Err((
        format!("mountpoint: nothing is mounted at {}", path.display()),
        "mount the file system first",
    ))
}
