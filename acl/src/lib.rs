//! POSIX ACLs: data and rules, no I/O.
