//! One integration binary.

/// The real Linux NFS client, in user-mode Linux, against the server.
mod kernel;
