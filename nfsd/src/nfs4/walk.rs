//! From filehandles and names to places: exports, what lies below other exports, and the pseudo file
//! system above all of them (RFC 8881 section 7).

use vfs::{FileKind, KernelHandle, Name};

use super::attr::{self, Values};
use super::compound::{Compound, Place};
use super::op::readdir::{Entries, ReaddirArgs};
use super::pseudo::Target;
use super::reply::{beside, directory};
use super::status::Nfsstat4;
use crate::cx::{Opened, Reply};
use crate::exported::{Above, Crossing};
use crate::fh::{FileHandle, Handle};
use crate::nfs3::status::Nfsstat3;
use crate::xdr::Enc;

impl Compound<'_> {
    /// What a filehandle names.
    ///
    /// # Errors
    /// `BADHANDLE` for bytes this server never made, `STALE` for what is gone, `ACCESS` and `WRONGSEC`
    /// of the export, `DELAY` while the client's name is looked up.
    pub async fn open(&self, wire: &[u8]) -> Result<Place, Nfsstat4> {
        match self.cx.server.key.open_any(wire) {
            Ok(Handle::File(parts)) => {
                let opened = self
                    .open_parts(parts.export, parts.fsid, parts.handle)
                    .await?;
                Ok(Place::File(opened))
            }
            Ok(Handle::Pseudo(node)) => self.open_pseudo(node).await,
            Err(_) => Err(Nfsstat4::Badhandle),
        }
    }

    async fn open_parts(
        &self,
        export: u32,
        fsid: u64,
        handle: KernelHandle,
    ) -> Result<Opened, Nfsstat4> {
        match self.cx.open_parts(export, fsid, handle).await {
            Ok(opened) => Ok(opened),
            Err(Nfsstat3::Acces) if self.wrong_flavor(export).await => {
                self.wrong_flavor.set(Some(export));
                Err(Nfsstat4::Wrongsec)
            }
            Err(status) => Err(status.into()),
        }
    }

    async fn wrong_flavor(&self, export: u32) -> bool {
        let options = self.cx.options(export).await;
        options.is_ok_and(|options| !options.sec.contains(self.cx.flavor()))
    }

    async fn open_pseudo(&self, node: u64) -> Result<Place, Nfsstat4> {
        let exported = self.cx.server.exported.load_full();
        let usable = self.cx.usable(&exported).await?;
        if exported
            .pseudo
            .visible(node, &|export| usable.contains(&export))
        {
            Ok(Place::Pseudo(node))
        } else {
            Err(Nfsstat4::Stale)
        }
    }

    /// The filehandle of a place.
    ///
    /// # Errors
    /// `SERVERFAULT` for a kernel handle that does not fit, which start-up excludes.
    pub fn fh(&self, place: &Place) -> Result<FileHandle, Nfsstat4> {
        match place {
            Place::File(opened) => Ok(self.cx.fh(opened, &opened.file)?),
            Place::Pseudo(node) => Ok(self.cx.server.key.seal_pseudo(*node)),
        }
    }

    /// The root of all (RFC 8881 18.21).
    ///
    /// # Errors
    /// Those of an export, where the root is one.
    pub async fn root(&self) -> Result<Place, Nfsstat4> {
        let exported = self.cx.server.exported.load_full();
        let usable = self.cx.usable(&exported).await?;
        let root = exported.pseudo.root(&|export| usable.contains(&export));
        self.enter(root).await
    }

    async fn enter(&self, target: Target) -> Result<Place, Nfsstat4> {
        match target {
            Target::Node(node) => Ok(Place::Pseudo(node)),
            Target::Export(export) => self.export_root(export).await.map(Place::File),
        }
    }

    async fn export_root(&self, export: u32) -> Result<Opened, Nfsstat4> {
        let root = self.cx.server.root_of(export).ok_or(Nfsstat4::Stale)?;
        self.open_parts(export, root.mount.fsid, root.handle).await
    }

    /// What `name` in the directory `place` leads to.
    ///
    /// # Errors
    /// `NOENT`, `NOTDIR`, `SYMLINK`, those of `openat(2)` and of an export that begins there.
    pub async fn walk(&self, place: &Place, name: &Name) -> Result<Place, Nfsstat4> {
        match place {
            Place::Pseudo(node) => Box::pin(self.walk_pseudo(*node, name)).await,
            Place::File(dir) => self.walk_file(dir, name).await,
        }
    }

    async fn walk_pseudo(&self, node: u64, name: &Name) -> Result<Place, Nfsstat4> {
        let exported = self.cx.server.exported.load_full();
        let usable = self.cx.usable(&exported).await?;
        let allowed = |export| usable.contains(&export);
        if !exported.pseudo.visible(node, &allowed) {
            return Err(Nfsstat4::Stale);
        }
        let target = exported.pseudo.lookup(node, name.as_bytes(), &allowed);
        self.enter(target.ok_or(Nfsstat4::Noent)?).await
    }

    async fn walk_file(&self, dir: &Opened, name: &Name) -> Result<Place, Nfsstat4> {
        directory(dir)?;
        let found = self.cx.server.vfs.lookup(&dir.cred, &dir.file, name).await;
        let (file, attr) = found.result?;
        if attr.kind == FileKind::Directory {
            let crossing = self
                .crossing(dir.export, file.mount.fsid, &file.handle)
                .await?;
            match crossing {
                Crossing::Stay => {}
                Crossing::Into(target) => return Box::pin(self.enter(target)).await,
                Crossing::Refused => return Err(Nfsstat4::Access),
            }
        }
        Ok(beside(dir, file))
    }

    async fn crossing(
        &self,
        outer: u32,
        fsid: u64,
        handle: &KernelHandle,
    ) -> Result<Crossing, Nfsstat4> {
        if self.plain(outer, fsid, handle) {
            return Ok(Crossing::Stay);
        }
        let exported = self.cx.server.exported.load_full();
        let usable = self.cx.usable(&exported).await?;
        Ok(exported.crossing(outer, fsid, handle, &|export| usable.contains(&export)))
    }

    /// Whether no export begins at this directory of the export `outer`.
    pub(super) fn plain(&self, outer: u32, fsid: u64, handle: &KernelHandle) -> bool {
        let exported = self.cx.server.exported.load();
        exported.junctions.at(outer, fsid, handle).is_none()
    }

    /// The directory above `place`.
    ///
    /// # Errors
    /// `NOENT` above the root, `NOTDIR`, `SYMLINK`, `STALE`.
    pub async fn parent(&self, place: &Place) -> Result<Place, Nfsstat4> {
        match place {
            Place::Pseudo(node) => {
                let exported = self.cx.server.exported.load_full();
                let usable = self.cx.usable(&exported).await?;
                let above = exported
                    .pseudo
                    .parent(*node, &|export| usable.contains(&export));
                self.enter(above.ok_or(Nfsstat4::Noent)?).await
            }
            Place::File(dir) => self.parent_of(dir.clone()).await,
        }
    }

    async fn parent_of(&self, mut dir: Opened) -> Result<Place, Nfsstat4> {
        directory(&dir)?;
        // As often as the root of one export is the root of another, which ends.
        while self.cx.is_root(&dir) {
            let exported = self.cx.server.exported.load_full();
            let usable = self.cx.usable(&exported).await?;
            match exported.above(dir.export, &|export| usable.contains(&export)) {
                Above::Nothing => return Err(Nfsstat4::Noent),
                Above::Pseudo(node) => return Ok(Place::Pseudo(node)),
                Above::Covered(covered) => {
                    let handle = covered.handle.clone();
                    dir = self.open_parts(covered.outer, covered.fsid, handle).await?;
                }
            }
        }
        let dotdot = Name::new(b"..")?;
        let above = self
            .cx
            .server
            .vfs
            .lookup(&dir.cred, &dir.file, &dotdot)
            .await;
        let (file, _) = above.result?;
        Ok(beside(&dir, file))
    }

    /// The `fileid` of what the root of an export is mounted on (RFC 8881 5.8.2.23); `None` for all
    /// other files.
    pub(super) async fn mounted_on(&self, opened: &Opened) -> Result<Option<u64>, Nfsstat4> {
        if opened.file.kind() != FileKind::Directory || !self.cx.is_root(opened) {
            return Ok(None);
        }
        let exported = self.cx.server.exported.load_full();
        let usable = self.cx.usable(&exported).await?;
        Ok(exported.mounted_on(opened.export, &|export| usable.contains(&export)))
    }

    /// A page of a directory of the pseudo file system.
    pub(super) async fn list_pseudo(
        &self,
        node: u64,
        args: &ReaddirArgs,
        limit: usize,
        out: &mut Reply,
    ) -> Result<(), Nfsstat4> {
        let exported = self.cx.server.exported.load_full();
        let usable = self.cx.usable(&exported).await?;
        let allowed = |export| usable.contains(&export);
        let asked = args.attr_request;
        let mut page = Entries::begin(out, *b"ringnfs4", limit)?;
        for entry in exported.pseudo.entries(node, args.cookie, &allowed) {
            let values = self.pseudo_entry(entry.target, &asked).await;
            let put = |enc: &mut Enc<'_>| match &values {
                Ok(values) => attr::encode(&asked, values, enc),
                Err(status) => attr::encode_error(*status, enc),
            };
            if values.is_err() && !asked.has(attr::bit::RDATTR_ERROR) {
                // The name can be seen; what is wrong shows when it is looked at.
                continue;
            }
            if !page.put(entry.cookie, entry.name, put) {
                return page.end(false);
            }
        }
        page.end(true)
    }

    async fn pseudo_entry(
        &self,
        target: Target,
        asked: &super::types::Bitmap4,
    ) -> Result<Values, Nfsstat4> {
        let place = self.enter(target).await?;
        attr::collect(self, &place, asked).await
    }
}
