//! The NFS version 4 side of the client: COMPOUNDs put together operation by operation, results taken apart the same
//! way, sessions that count their slots.

use std::collections::BTreeMap;

use nfsd::nfs3::NFS_PROGRAM;
use nfsd::nfs4::attr::bit;
use nfsd::nfs4::status::Nfsstat4;
use nfsd::nfs4::types::*;
use nfsd::nfs4::{NFS_V4, Op4, PROC_COMPOUND};
use nfsd::xdr::{Dec, Decode, Encode};

use super::{Answer, Client, Fh, encode};

/// COMPOUND of version 4.
pub const COMPOUND: [u32; 3] = [NFS_PROGRAM, NFS_V4, PROC_COMPOUND];

/// A COMPOUND being put together.
#[derive(Clone, Default, Debug)]
pub struct Ops {
    bytes: Vec<u8>,
    count: u32,
}

impl Ops {
    /// None yet.
    pub fn new() -> Ops {
        Ops::default()
    }

    /// One more operation.
    #[must_use]
    pub fn op(self, op: Op4, args: &impl Encode) -> Ops {
        self.raw(op.wire(), &encode(args))
    }

    /// One more operation without arguments.
    #[must_use]
    pub fn bare(self, op: Op4) -> Ops {
        self.raw(op.wire(), &[])
    }

    /// One more operation of any number, with these bytes as its arguments.
    #[must_use]
    pub fn raw(mut self, number: u32, args: &[u8]) -> Ops {
        self.bytes.extend(number.to_be_bytes());
        self.bytes.extend_from_slice(args);
        self.count += 1;
        self
    }

    /// PUTFH.
    #[must_use]
    pub fn putfh(self, fh: &[u8]) -> Ops {
        self.op(Op4::Putfh, &NfsFh4(fh))
    }

    /// PUTROOTFH.
    #[must_use]
    pub fn putrootfh(self) -> Ops {
        self.bare(Op4::Putrootfh)
    }

    /// LOOKUP.
    #[must_use]
    pub fn lookup(self, name: &[u8]) -> Ops {
        self.op(Op4::Lookup, &Component4(name))
    }

    /// LOOKUP of every component of a path.
    #[must_use]
    pub fn walk(self, path: &str) -> Ops {
        path.split('/')
            .filter(|part| !part.is_empty())
            .fold(self, |ops, part| ops.lookup(part.as_bytes()))
    }

    /// GETFH.
    #[must_use]
    pub fn getfh(self) -> Ops {
        self.bare(Op4::Getfh)
    }

    /// GETATTR of these attributes.
    #[must_use]
    pub fn getattr(self, bits: &[u32]) -> Ops {
        self.op(Op4::Getattr, &Bitmap4::of(bits))
    }

    /// All operations of `more` behind these.
    #[must_use]
    pub fn then(mut self, more: &Ops) -> Ops {
        self.bytes.extend_from_slice(&more.bytes);
        self.count += more.count;
        self
    }

    /// `COMPOUND4args`.
    pub fn args(&self, minor: u32, tag: &[u8]) -> Vec<u8> {
        let mut out = encode(&Tag4(tag));
        out.extend(minor.to_be_bytes());
        out.extend(self.count.to_be_bytes());
        out.extend_from_slice(&self.bytes);
        out
    }
}

/// Bytes that are XDR already.
pub struct Raw<'a>(pub &'a [u8]);

impl Encode for Raw<'_> {
    fn encode(&self, enc: &mut nfsd::xdr::Enc<'_>) -> nfsd::xdr::Result<()> {
        enc.raw(self.0)
    }
}

/// The results of a COMPOUND, taken from the front.
#[derive(Clone, Debug)]
pub struct Results {
    /// Status of the whole.
    pub status: Nfsstat4,
    /// The tag, echoed.
    pub tag: Vec<u8>,
    /// Results left.
    pub left: u32,
    bytes: Vec<u8>,
    at: usize,
}

impl Results {
    /// The results in an answer.
    ///
    /// # Panics
    /// On a refusal and on what is no COMPOUND4res.
    #[track_caller]
    pub fn of(answer: &Answer) -> Results {
        let bytes = answer.bytes().to_vec();
        let mut dec = Dec::new(&bytes);
        let status = dec.get().expect("a status");
        let tag: Tag4<'_> = dec.get().expect("a tag");
        let tag = tag.0.to_vec();
        let left = dec.u32().expect("a number of results");
        let at = bytes.len() - dec.remaining();
        Results {
            status,
            tag,
            left,
            at,
            bytes,
        }
    }

    /// The next result: its operation and status, which must be the next there is.
    ///
    /// # Panics
    /// If there is none, or one of another operation.
    #[track_caller]
    pub fn status_of(&mut self, op: Op4) -> Nfsstat4 {
        assert!(self.left > 0, "no result for {op}: {}", self.status);
        let mut dec = Dec::new(&self.bytes[self.at..]);
        let number = dec.u32().expect("an operation");
        assert_eq!(Op4::from_wire(number), Some(op), "another operation");
        let status: Nfsstat4 = dec.get().expect("a status");
        self.at += 8;
        self.left -= 1;
        if self.left == 0 {
            assert_eq!(status, self.status, "the last status is that of the whole");
        } else {
            assert_eq!(status, Nfsstat4::Ok, "results after a failure");
        }
        status
    }

    /// The next result, which must be a success without a body.
    #[track_caller]
    pub fn ok(&mut self, op: Op4) {
        assert_eq!(self.status_of(op), Nfsstat4::Ok, "{op}");
    }

    /// The next result, which must be a success with this body.
    #[track_caller]
    pub fn body<'a, T: Decode<'a>>(&'a mut self, op: Op4) -> T {
        self.ok(op);
        self.more()
    }

    /// Part of the body of a result.
    ///
    /// # Panics
    /// If it does not decode.
    #[track_caller]
    pub fn more<'a, T: Decode<'a>>(&'a mut self) -> T {
        let mut dec = Dec::new(&self.bytes[self.at..]);
        let value = dec.get().unwrap_or_else(|e| panic!("results: {e}"));
        self.at = self.bytes.len() - dec.remaining();
        value
    }

    /// GETFH.
    #[track_caller]
    pub fn fh(&mut self) -> Fh {
        self.body::<NfsFh4<'_>>(Op4::Getfh).0.to_vec()
    }

    /// GETATTR.
    #[track_caller]
    pub fn attrs(&mut self) -> Attrs {
        Attrs::of(&self.body::<Fattr4<'_>>(Op4::Getattr))
    }

    /// There is nothing left.
    ///
    /// # Panics
    /// If there is.
    #[track_caller]
    pub fn end(&self) {
        assert_eq!(self.left, 0, "results left");
        assert_eq!(self.at, self.bytes.len(), "bytes left");
    }
}

/// Values of attributes by number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attrs(pub BTreeMap<u32, Vec<u8>>);

impl Attrs {
    /// Out of a `fattr4`.
    ///
    /// # Panics
    /// On an attribute this client does not know, and on values that are not those of the mask.
    #[track_caller]
    pub fn of(fattr: &Fattr4<'_>) -> Attrs {
        let mut dec = Dec::new(fattr.values.0);
        let mut all = BTreeMap::new();
        for number in fattr.mask.iter() {
            let before = dec.rest();
            skip(number, &mut dec).unwrap_or_else(|e| panic!("attribute {number}: {e}"));
            let len = before.len() - dec.remaining();
            all.insert(number, before[..len].to_vec());
        }
        dec.finish().expect("no more values than attributes");
        Attrs(all)
    }

    /// An attribute's value.
    ///
    /// # Panics
    /// If it is not there.
    #[track_caller]
    pub fn get<'a, T: Decode<'a>>(&'a self, number: u32) -> T {
        let value = self.0.get(&number);
        let value = value.unwrap_or_else(|| panic!("attribute {number} is not there"));
        let mut dec = Dec::new(value);
        let decoded = dec.get().expect("a value");
        dec.finish().expect("a whole value");
        decoded
    }
}

/// Passes over the value of an attribute.
fn skip(number: u32, dec: &mut Dec<'_>) -> nfsd::xdr::Result<()> {
    match number {
        bit::SUPPORTED_ATTRS | bit::SUPPATTR_EXCLCREAT => dec.get::<Bitmap4>().map(|_| ()),
        bit::ACL | bit::DACL => {
            dec.skip(if number == bit::DACL { 4 } else { 0 })?;
            for _ in 0..dec.array_len(1 << 16, 16)? {
                dec.skip(12)?;
                dec.opaque(1024)?;
            }
            Ok(())
        }
        bit::FILEHANDLE | bit::OWNER | bit::OWNER_GROUP => dec.opaque(1024).map(|_| ()),
        bit::FSID => dec.skip(16),
        bit::RAWDEV => dec.skip(8),
        bit::TIME_ACCESS
        | bit::TIME_CREATE
        | bit::TIME_DELTA
        | bit::TIME_METADATA
        | bit::TIME_MODIFY => dec.skip(12),
        bit::TYPE
        | bit::ACLSUPPORT
        | bit::FH_EXPIRE_TYPE
        | bit::LINK_SUPPORT
        | bit::SYMLINK_SUPPORT
        | bit::NAMED_ATTR
        | bit::UNIQUE_HANDLES
        | bit::LEASE_TIME
        | bit::RDATTR_ERROR
        | bit::CANSETTIME
        | bit::CASE_INSENSITIVE
        | bit::CASE_PRESERVING
        | bit::CHOWN_RESTRICTED
        | bit::HOMOGENEOUS
        | bit::MAXLINK
        | bit::MAXNAME
        | bit::MODE
        | bit::NO_TRUNC
        | bit::NUMLINKS
        | bit::CLONE_BLKSIZE
        | bit::CHANGE_ATTR_TYPE
        | bit::XATTR_SUPPORT => dec.skip(4),
        _ => dec.skip(8),
    }
}

/// A `fattr4` with these values, given in ascending order of their numbers.
pub fn fattr(values: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let bits: Vec<u32> = values.iter().map(|(number, _)| *number).collect();
    let mut out = encode(&Bitmap4::of(&bits));
    let list: Vec<u8> = values.iter().flat_map(|(_, value)| value.clone()).collect();
    out.extend((list.len() as u32).to_be_bytes());
    out.extend(list);
    out
}

/// A `fattr4` with only a mode.
pub fn mode4(mode: u32) -> Vec<u8> {
    fattr(&[(bit::MODE, encode(&mode))])
}

impl Client {
    /// Sends a COMPOUND and waits for its results.
    #[track_caller]
    pub fn compound(&mut self, minor: u32, ops: &Ops) -> Results {
        let answer = self.call(COMPOUND, &Raw(&ops.args(minor, b"")));
        Results::of(&answer)
    }
}
