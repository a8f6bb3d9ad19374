//! Directory listings: entry types, and an encoder that fills a reply entry by entry
//! (RFC 1813 3.3.16 and 3.3.17).

use super::status::Nfsstat3;
use super::types::{Cookie3, Cookieverf3, Count3, Fileid3, Filename3, PostOpAttr, PostOpFh3};
use crate::xdr::{Chain, Enc, Encode, XdrError, opaque_len, xdr_struct};

xdr_struct! {
    /// `entry3` without its link to the next.
    #[derive(Copy)]
    pub struct Entry3<'a> {
        /// Inode number.
        pub fileid: Fileid3,
        /// Name.
        pub name: Filename3<'a>,
        /// Position after this entry.
        pub cookie: Cookie3,
    }

    /// `entryplus3` without its link to the next.
    #[derive(Copy)]
    pub struct Entryplus3<'a> {
        /// Inode number.
        pub fileid: Fileid3,
        /// Name.
        pub name: Filename3<'a>,
        /// Position after this entry.
        pub cookie: Cookie3,
        /// Attributes of the object.
        pub name_attributes: PostOpAttr,
        /// Its handle.
        pub name_handle: PostOpFh3<'a>,
    }

    /// `dirlist3`.
    #[derive(Copy)]
    pub struct Dirlist3<'a> {
        /// The entries.
        pub entries: Chain<'a, Entry3<'a>>,
        /// There are no more.
        pub eof: bool,
    }

    /// `dirlistplus3`.
    #[derive(Copy)]
    pub struct Dirlistplus3<'a> {
        /// The entries.
        pub entries: Chain<'a, Entryplus3<'a>>,
        /// There are no more.
        pub eof: bool,
    }
}

/// Bytes of the flag that ends the list and of `eof`.
const TAIL: usize = 8;

/// A directory entry of either listing.
pub trait DirEntry: Encode {
    /// Bytes that count against `dircount`: fileid, name and cookie as XDR.
    fn dir_bytes(&self) -> usize;
}

impl DirEntry for Entry3<'_> {
    #[inline]
    fn dir_bytes(&self) -> usize {
        opaque_len(self.name.0.len()).saturating_add(16)
    }
}

impl DirEntry for Entryplus3<'_> {
    #[inline]
    fn dir_bytes(&self) -> usize {
        opaque_len(self.name.0.len()).saturating_add(16)
    }
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Push {
    /// It is in the reply.
    Added,
    /// It does not fit, and nothing of it is in the reply. Stop here and finish without eof.
    Full,
}

/// Builds a successful READDIR3res or READDIRPLUS3res.
///
/// The resok structure (everything after the status) never exceeds `maxcount` bytes, nor the room of
/// the encoder; `dircount` limits fileids, names and cookies. Room for the end of the list is always
/// kept, so [`DirlistEnc::finish`] fits.
#[derive(Debug)]
pub struct DirlistEnc<'e, 'b> {
    enc: &'e mut Enc<'b>,
    /// Position of the status word: where a failed reply is rolled back to.
    start: usize,
    /// Bytes the resok may still grow by, end of list included.
    room: usize,
    /// Bytes of fileids, names and cookies that may still be added.
    dir_room: usize,
    entries: usize,
}

impl<'e, 'b> DirlistEnc<'e, 'b> {
    /// Writes status, directory attributes and verifier. `maxcount` is READDIR's `count` or
    /// READDIRPLUS's `maxcount`; `dircount` is `None` for READDIR.
    ///
    /// Fails with `Full` and an unchanged buffer when not even an empty list fits: the answer is
    /// NFS3ERR_TOOSMALL.
    pub fn begin(
        enc: &'e mut Enc<'b>,
        dir_attributes: &PostOpAttr,
        cookieverf: &Cookieverf3,
        maxcount: Count3,
        dircount: Option<Count3>,
    ) -> Result<Self, XdrError> {
        let start = enc.pos();
        match Self::head(enc, dir_attributes, cookieverf, maxcount as usize) {
            Ok(room) => Ok(Self {
                enc,
                start,
                room,
                dir_room: dircount.map_or(usize::MAX, |n| n as usize),
                entries: 0,
            }),
            Err(e) => {
                enc.rollback(start);
                Err(e)
            }
        }
    }

    /// Returns the bytes the resok may still grow by.
    fn head(
        enc: &mut Enc<'_>,
        dir_attributes: &PostOpAttr,
        cookieverf: &Cookieverf3,
        maxcount: usize,
    ) -> Result<usize, XdrError> {
        enc.put(&Nfsstat3::Ok)?;
        let resok = enc.pos();
        enc.put(dir_attributes)?;
        enc.put(cookieverf)?;
        let used = enc.pos().saturating_sub(resok);
        let room = maxcount.saturating_sub(used).min(enc.room());
        if used > maxcount || room < TAIL {
            return Err(XdrError::Full);
        }
        Ok(room)
    }

    /// Bytes of entries (with their flags) that still fit.
    #[must_use]
    pub const fn room(&self) -> usize {
        self.room.saturating_sub(TAIL)
    }

    /// Entries added so far.
    #[must_use]
    pub const fn entries(&self) -> usize {
        self.entries
    }

    /// Adds an entry if it fits.
    ///
    /// The first entry is held only to `maxcount`: a `dircount` smaller than one name would otherwise
    /// keep a client from ever getting past it.
    pub fn push(&mut self, entry: &impl DirEntry) -> Push {
        let dir_bytes = entry.dir_bytes();
        if dir_bytes > self.dir_room && self.entries > 0 {
            return Push::Full;
        }
        let start = self.enc.pos();
        let written = self.enc.bool(true).and_then(|()| self.enc.put(entry));
        let len = self.enc.pos().saturating_sub(start);
        if written.is_err() || len > self.room() {
            self.enc.rollback(start);
            return Push::Full;
        }
        self.room = self.room.saturating_sub(len);
        self.dir_room = self.dir_room.saturating_sub(dir_bytes);
        self.entries += 1;
        Push::Added
    }

    /// Ends the list. `eof` says that the directory has no more entries.
    ///
    /// Without entries and without eof nothing fitted: `Full`, the buffer is as before
    /// [`DirlistEnc::begin`], and the answer is NFS3ERR_TOOSMALL.
    pub fn finish(self, eof: bool) -> Result<(), XdrError> {
        let result = if self.entries == 0 && !eof {
            Err(XdrError::Full)
        } else {
            self.enc.bool(false).and_then(|()| self.enc.bool(eof))
        };
        if result.is_err() {
            self.enc.rollback(self.start);
        }
        result
    }

    /// Gives up the reply: the buffer is as before [`DirlistEnc::begin`].
    pub fn abandon(self) {
        self.enc.rollback(self.start);
    }
}
