//! What all workers of a running server share, and the server's life from start to drain.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use vfs::{Mount, Vfs};

use crate::config::ServeSettings;
use crate::export::ExportTable;
use crate::export::names::Names;
use crate::fh::HandleKey;
use crate::groups::Groups;
use crate::rpc::drc::Drc;

/// Shared by all workers.
pub struct Shared {
    /// Files, mounts, the write verifier.
    pub vfs: Arc<Vfs>,
    /// Exports in force; requests keep what they matched.
    pub exports: ArcSwap<ExportTable>,
    /// Grows with every change of `exports`.
    pub generation: AtomicU64,
    /// Seals file handles.
    pub key: HandleKey,
    /// Host names of peers.
    pub names: Names,
    /// Server-side groups (`manage_gids`).
    pub groups: Option<Groups>,
    /// Duplicate request cache.
    pub drc: Arc<Drc>,
    /// Most bytes of one READ or WRITE.
    pub io_max: u32,
    /// Port this server listens on first, for portmapper answers.
    pub port: u16,
}

impl Shared {
    /// The mount an export's handle may lead to.
    pub fn mount_of(&self, _export: u32, fsid: u64) -> Option<Arc<Mount>> {
        self.vfs.mount(fsid)
    }
}

/// Why the server ended or could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// This build has no server in it.
    #[error("this build cannot serve yet")]
    NotBuilt,
}

/// Serves until told to stop.
///
/// # Errors
/// See [`ServeError`].
pub fn run(_settings: ServeSettings) -> Result<(), ServeError> {
    Err(ServeError::NotBuilt)
}
