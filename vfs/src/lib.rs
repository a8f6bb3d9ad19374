//! The virtual file system of ringnfs on io_uring.
