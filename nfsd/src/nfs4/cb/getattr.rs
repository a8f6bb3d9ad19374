//! CB_GETATTR: what the holder of a delegation for writing knows better than the server (RFC 8881
//! 10.4.3, 20.1): whether the file changed, and how long it is.

use std::sync::Arc;
use std::time::Duration;

use vfs::exec;

use super::wire::{CHANGE, CbArgs, CbAttrs, CbDone, CbGetattr4args, SIZE};
use crate::nfs4::state::deleg::DelegRef;
use crate::nfs4::types::{Bitmap4, NfsFh4};
use crate::server::Shared;

/// How long the request of another client waits for the holder's answer. Without one, the holder is
/// asked for the delegation itself.
pub const PATIENCE: Duration = Duration::from_secs(1);

/// What the holder of `deleg` says of the file. `None` when it does not answer in time, or has
/// nothing to say; also when the delegation is no longer there.
pub async fn ask(server: &Arc<Shared>, deleg: DelegRef) -> Option<CbAttrs> {
    let client = server.state.client(deleg.client)?;
    let fh = client.lock().holdings.deleg_at(deleg.key)?.fh.clone();
    let args = CbArgs::Getattr(CbGetattr4args {
        fh: NfsFh4(&fh),
        asked: Bitmap4::of(&[CHANGE, SIZE]),
    });
    let call = client.channel.call(server, &client, &args);
    let answer = exec::timeout(PATIENCE, call).await;
    tracing::debug!(client = client.number, ?answer, "CB_GETATTR");
    match answer {
        Some(Ok(CbDone::Attrs(attrs))) => Some(attrs),
        _ => None,
    }
}
