//! CB_OFFLOAD: an asynchronous copy has ended (RFC 7862 16.1).

use std::sync::Arc;
use std::time::Duration;

use vfs::exec;

use super::CbError;
use super::wire::{CbArgs, CbDone, CbOffload4args, OffloadInfo4};
use crate::nfs4::state::client::Client;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{NfsFh4, Stateid4};
use crate::server::Shared;

/// Between attempts: the client may not know the copy yet, or not be reachable.
const PAUSES: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
];

/// Tells the client that started the copy, several times if it must. The state of the copy is to be
/// kept until this returns: a client that was not reached asks by OFFLOAD_STATUS.
///
/// # Errors
/// See [`CbError`]; `Refused` when the client does not know the copy.
pub async fn send(
    server: &Arc<Shared>,
    client: &Arc<Client>,
    fh: &[u8],
    stateid: Stateid4,
    info: OffloadInfo4,
) -> Result<(), CbError> {
    let args = CbArgs::Offload(CbOffload4args {
        fh: NfsFh4(fh),
        stateid,
        info,
    });
    let mut last = CbError::Down;
    for pause in PAUSES {
        exec::sleep(pause).await;
        last = match client.channel.call(server, client, &args).await {
            Ok(CbDone::Failed(Nfsstat4::Delay | Nfsstat4::BadStateid | Nfsstat4::Badhandle)) => {
                CbError::Refused
            }
            Ok(_) => return Ok(()),
            Err(CbError::Closed) => return Err(CbError::Closed),
            Err(error) => error,
        };
    }
    Err(last)
}
