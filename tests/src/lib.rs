//! Test harness of ringnfs.
