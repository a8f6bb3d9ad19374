//! Port mapper version 2 and rpcbind versions 3 and 4 (RFC 1833): the types, to answer and to register.

use crate::xdr::{Chain, xdr_enum, xdr_opaque, xdr_struct};

/// Program number of the port mapper and of rpcbind.
pub const PMAP_PROG: u32 = 100_000;
/// The version of the port mapper.
pub const PMAP_V2: u32 = 2;
/// The last version of rpcbind; the first is 3.
pub const RPCB_V4: u32 = 4;
/// The TCP and UDP port it listens on.
pub const PMAP_PORT: u16 = 111;
/// `prot` of a [`Mapping`] for TCP.
pub const IPPROTO_TCP: u32 = 6;
/// `prot` of a [`Mapping`] for UDP.
pub const IPPROTO_UDP: u32 = 17;

xdr_enum! {
    /// Procedures of version 2 (RFC 1833 section 3.2).
    pub enum PmapProc {
        /// Does nothing.
        Null = 0 "PMAPPROC_NULL",
        /// Registers a [`Mapping`]; answers bool.
        Set = 1 "PMAPPROC_SET",
        /// Removes a [`Mapping`]; answers bool.
        Unset = 2 "PMAPPROC_UNSET",
        /// Port of a [`Mapping`] (its `port` is ignored); answers u32, 0 when not registered.
        Getport = 3 "PMAPPROC_GETPORT",
        /// Answers [`PmapList`].
        Dump = 4 "PMAPPROC_DUMP",
        /// Indirect call; not offered here (it hides who calls).
        Callit = 5 "PMAPPROC_CALLIT",
    }
}

xdr_enum! {
    /// Procedures of versions 3 and 4 (RFC 1833 section 2.1).
    pub enum RpcbProc {
        /// Does nothing.
        Null = 0 "RPCBPROC_NULL",
        /// Registers an [`Rpcb`]; answers bool.
        Set = 1 "RPCBPROC_SET",
        /// Removes an [`Rpcb`]; answers bool.
        Unset = 2 "RPCBPROC_UNSET",
        /// Address of an [`Rpcb`]'s program and version; answers [`RpcbString`], empty when not registered.
        Getaddr = 3 "RPCBPROC_GETADDR",
        /// Answers [`RpcbList`].
        Dump = 4 "RPCBPROC_DUMP",
        /// Indirect call (version 4: RPCBPROC_BCAST); not offered here.
        Callit = 5 "RPCBPROC_CALLIT",
        /// Seconds since 1970 as u32.
        Gettime = 6 "RPCBPROC_GETTIME",
        /// Universal address to transport-specific address.
        Uaddr2taddr = 7 "RPCBPROC_UADDR2TADDR",
        /// Transport-specific address to universal address.
        Taddr2uaddr = 8 "RPCBPROC_TADDR2UADDR",
        /// Like Getaddr, only for the exact version (version 4).
        Getversaddr = 9 "RPCBPROC_GETVERSADDR",
        /// Indirect call with error reply (version 4); not offered here.
        Indirect = 10 "RPCBPROC_INDIRECT",
        /// All addresses of a program and version (version 4).
        Getaddrlist = 11 "RPCBPROC_GETADDRLIST",
        /// Statistics (version 4).
        Getstat = 12 "RPCBPROC_GETSTAT",
    }
}

crate::xdr::xdr_block! {
    /// `mapping` (RFC 1833 section 3.1).
    pub struct Mapping {
        /// Program number.
        pub prog: u32,
        /// Version number.
        pub vers: u32,
        /// [`IPPROTO_TCP`] or [`IPPROTO_UDP`].
        pub prot: u32,
        /// Port number, 0 to 65535 when valid.
        pub port: u32,
    }
}

/// Result of PMAPPROC_DUMP.
pub type PmapList<'a> = Chain<'a, Mapping>;

xdr_opaque! {
    /// A string of rpcbind: network id, universal address or owner. The RFC sets no maximum; nothing
    /// valid is longer than this.
    pub struct RpcbString(max 256);
}

xdr_struct! {
    /// `rpcb` (RFC 1833 section 2.1).
    #[derive(Copy)]
    pub struct Rpcb<'a> {
        /// Program number.
        pub r_prog: u32,
        /// Version number.
        pub r_vers: u32,
        /// Network id: `tcp`, `tcp6`, `udp`, `udp6`, `local`.
        pub r_netid: RpcbString<'a>,
        /// Universal address, see [`super::uaddr`].
        pub r_addr: RpcbString<'a>,
        /// Owner of the service.
        pub r_owner: RpcbString<'a>,
    }
}

/// Result of RPCBPROC_DUMP.
pub type RpcbList<'a> = Chain<'a, Rpcb<'a>>;
