//! The public suites.
