//! Tests of exports below exports, on real directories.
