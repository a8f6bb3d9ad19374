//! READDIR: a page of a directory with attributes (RFC 8881 18.23, RFC 7530 16.24).

use vfs::{Attr, DirEntry, KernelHandle, exec};

use crate::cx::{Opened, Reply};
use crate::nfs4::attr::{self, Values, bit};
use crate::nfs4::cb::getattr::PATIENCE;
use crate::nfs4::compound::{Compound, Place};
use crate::nfs4::reply::directory;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Bitmap4, Verifier4};
use crate::xdr::{Enc, xdr_struct};

xdr_struct! {
    /// `READDIR4args`.
    pub struct ReaddirArgs {
        /// Go on after this entry; 0 to begin.
        pub cookie: u64,
        /// What came with the cookie.
        pub cookieverf: Verifier4,
        /// About how many bytes of names and cookies; advice.
        pub dircount: u32,
        /// Most bytes of the results.
        pub maxcount: u32,
        /// Attributes of the entries.
        pub attr_request: Bitmap4,
    }
}

/// Bytes of the results beside the entries: verifier, end of the list, eof.
const FRAME: usize = 8 + 4 + 4;
/// Room in a page for `.` and `..`, which are left out: something must remain, or the client would never get on.
const DOTS: usize = 1024;

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: ReaddirArgs,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    attr::askable(&args.attr_request, c.minor)?;
    // For entries a version 4 directory does not have (RFC 8881 18.23.3).
    if matches!(args.cookie, 1 | 2) {
        return Err(Nfsstat4::BadCookie);
    }
    let limit = (args.maxcount as usize).min(c.room(out));
    if limit < FRAME {
        return Err(Nfsstat4::Toosmall);
    }
    match c.place()? {
        Place::Pseudo(node) => c.list_pseudo(*node, &args, limit, out).await,
        Place::File(dir) => list(c, dir, &args, limit, out).await,
    }
}

async fn list(
    c: &Compound<'_>,
    dir: &Opened,
    args: &ReaddirArgs,
    limit: usize,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    directory(dir)?;
    let vfs = &c.cx.server.vfs;
    let bytes = limit.min(c.cx.server.page_max() as usize) + DOTS;
    let plus = !args.attr_request.and(&attr::readable(c.minor)).is_empty();
    let listed = vfs.readdir(
        &dir.cred,
        &dir.file,
        args.cookie,
        args.cookieverf,
        bytes,
        plus,
    );
    let page = listed.await.result?;
    let asked = args.attr_request;
    let mut values = attr::shared(c, dir, &asked).await?;
    let mut entries = Entries::begin(out, page.verifier, limit)?;
    let mut eof = page.eof;
    let end = exec::now() + PATIENCE;
    for entry in &page.entries {
        if matches!(&*entry.name, b"." | b"..") {
            continue;
        }
        // Who is asked about one file after the other may not hold up the listing for longer.
        if entries.any && vfs.table.locks.any_writer() && exec::now() >= end {
            eof = false;
            break;
        }
        let put = put_entry(c, dir, entry, &asked, &mut values, &mut entries).await?;
        if !put {
            eof = false;
            break;
        }
    }
    entries.end(eof)
}

/// One entry; false if it does not fit any more.
async fn put_entry(
    c: &Compound<'_>,
    dir: &Opened,
    entry: &DirEntry,
    asked: &Bitmap4,
    values: &mut Values,
    entries: &mut Entries<'_>,
) -> Result<bool, Nfsstat4> {
    // ACLs are read of files that are looked up.
    if let Some((handle, attr)) = &entry.node
        && asked.and(&attr::ACLS).is_empty()
        && (attr.kind != vfs::FileKind::Directory
            || c.plain(dir.export, dir.file.mount.fsid, handle))
    {
        let mut attr = *attr;
        if c.cx.server.vfs.table.locks.any_writer() {
            match Box::pin(attr::newest_entry(c, dir, (handle, &attr), asked)).await {
                Ok(newest) => attr = newest,
                Err(Nfsstat4::Noent | Nfsstat4::Stale) => return Ok(true),
                Err(status) => return failed(entry, status, asked, entries),
            }
        }
        known(c, dir, handle, &attr, asked, values).await?;
        return Ok(entries.put(entry.cookie, &entry.name, |enc| {
            attr::encode(asked, values, enc)
        }));
    }
    if asked.and(&attr::readable(c.minor)).is_empty() {
        return Ok(entries.put(entry.cookie, &entry.name, |enc| {
            attr::encode(asked, values, enc)
        }));
    }
    // A mount point, another export's root, or something to be looked at as the caller.
    let name = vfs::Name::new(&entry.name)?;
    match Box::pin(elsewhere(c, dir, &name, asked)).await {
        Ok(other) => {
            let put = |enc: &mut Enc<'_>| attr::encode(asked, &other, enc);
            Ok(entries.put(entry.cookie, &entry.name, put))
        }
        // Gone meanwhile.
        Err(Nfsstat4::Noent | Nfsstat4::Stale) => Ok(true),
        Err(status) => failed(entry, status, asked, entries),
    }
}

/// An entry whose attributes cannot be had: the list has that in their place, if it may.
fn failed(
    entry: &DirEntry,
    status: Nfsstat4,
    asked: &Bitmap4,
    entries: &mut Entries<'_>,
) -> Result<bool, Nfsstat4> {
    if !asked.has(bit::RDATTR_ERROR) {
        return Err(status);
    }
    let put = |enc: &mut Enc<'_>| attr::encode_error(status, enc);
    Ok(entries.put(entry.cookie, &entry.name, put))
}

async fn elsewhere(
    c: &Compound<'_>,
    dir: &Opened,
    name: &vfs::Name,
    asked: &Bitmap4,
) -> Result<Values, Nfsstat4> {
    let place = c.walk(&Place::File(dir.clone()), name).await?;
    attr::collect(c, &place, asked).await
}

/// Values of an entry whose attributes came with the page.
async fn known(
    c: &Compound<'_>,
    dir: &Opened,
    handle: &KernelHandle,
    attr: &Attr,
    asked: &Bitmap4,
    values: &mut Values,
) -> Result<(), Nfsstat4> {
    values.attr = *attr;
    values.owners = attr::owners(c, attr, asked).await;
    values.mounted_on = attr.fileid;
    values.fsid = (dir.file.mount.fsid_of(attr), 0);
    if asked.has(bit::FILEHANDLE) {
        values.fh = c.cx.fh_of(dir.export, &dir.file.mount, handle)?;
    }
    Ok(())
}

/// The list being written.
pub(in crate::nfs4) struct Entries<'a> {
    enc: Enc<'a>,
    limit: usize,
    any: bool,
    full: bool,
}

impl<'a> Entries<'a> {
    /// Begins the results.
    pub fn begin(out: &'a mut Reply, verifier: Verifier4, limit: usize) -> Result<Self, Nfsstat4> {
        let mut enc = out.enc();
        enc.fixed(&verifier)?;
        Ok(Entries {
            enc,
            limit,
            any: false,
            full: false,
        })
    }

    /// Appends an entry whose attributes `put` writes; false, and nothing is appended, if it does not
    /// fit.
    pub fn put(
        &mut self,
        cookie: u64,
        name: &[u8],
        put: impl FnOnce(&mut Enc<'_>) -> crate::xdr::Result<()>,
    ) -> bool {
        let start = self.enc.pos();
        let written = self.write(cookie, name, put);
        let fits = written.is_ok() && self.enc.written() + 8 <= self.limit;
        if fits {
            self.any = true;
        } else {
            self.enc.rollback(start);
            self.full = true;
        }
        fits
    }

    fn write(
        &mut self,
        cookie: u64,
        name: &[u8],
        put: impl FnOnce(&mut Enc<'_>) -> crate::xdr::Result<()>,
    ) -> crate::xdr::Result<()> {
        self.enc.u32(1)?;
        self.enc.u64(cookie)?;
        self.enc.opaque(name)?;
        put(&mut self.enc)
    }

    /// Ends the list.
    ///
    /// # Errors
    /// `TOOSMALL` when there are entries and not one fits.
    pub fn end(mut self, eof: bool) -> Result<(), Nfsstat4> {
        if self.full && !self.any {
            return Err(Nfsstat4::Toosmall);
        }
        self.enc.u32(0)?;
        self.enc.bool(eof)?;
        Ok(())
    }
}
