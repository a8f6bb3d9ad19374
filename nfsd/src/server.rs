//! Runs the server. Placeholder until the workers exist.

use crate::config::ServeSettings;

/// Why the server ended or could not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// This build has no server in it.
    #[error("this build cannot serve yet")]
    NotBuilt,
}

/// Serves until told to stop.
pub fn run(_settings: ServeSettings) -> Result<(), ServeError> {
    Err(ServeError::NotBuilt)
}
