//! One integration binary.

mod codec; // every wire type against rpcgen C, libtirpc, nfs3_types and xdr-codec
