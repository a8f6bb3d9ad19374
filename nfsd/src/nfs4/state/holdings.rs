//! What a client holds of files: opens, locks, delegations.

/// Opens, locks and delegations of one client.
#[derive(Default)]
pub struct Holdings {}

impl Holdings {
    /// The client holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        true
    }
}
