//! One request: who asks, from where, over which record; and the way from a wire handle to an open
//! file under a squashed identity.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::net::{SocketAddr, SocketAddrV6};
use std::rc::Rc;
use std::sync::Arc;

use vfs::locks::ClientId;
use vfs::uring::{Buf, Slice};
use vfs::{Cred, File, KernelHandle, Mount, exec};

use crate::config::{TRANSFER_HEAD, TRANSFER_MOST};
use crate::conn::BackConn;
use crate::export::client::Peer;
use crate::export::options::{Options, Sec};
use crate::export::squash::{Caller, squash};
use crate::export::{Access, ExportTable};
use crate::exported::Exported;
use crate::fh::FileHandle;
use crate::nfs3::status::{Nfsstat3, from_errno};
use crate::rpc::auth::{Identity, Unix};
use crate::server::Shared;
use crate::xdr::{Enc, Encode, XdrError, pad_len};

/// Longest encoded reply beside a READ payload: data of another READ in the same COMPOUND, or a page of a
/// directory, and headers.
pub const REPLY_MAX: usize = (TRANSFER_MOST + TRANSFER_HEAD) as usize;

/// A reply being built: encoded bytes, and for READ the payload that follows them uncopied.
#[derive(Default)]
pub struct Reply {
    /// RPC header and results.
    pub bytes: Vec<u8>,
    /// Sent after `bytes`, padded to four.
    pub payload: Option<Slice>,
    /// Not for the duplicate request cache: the call may as well run again.
    pub unkept: bool,
}

impl Reply {
    /// An encoder that appends.
    pub fn enc(&mut self) -> Enc<'_> {
        Enc::new(&mut self.bytes, REPLY_MAX)
    }

    /// Takes back what was appended behind `bytes[..len]`.
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
        self.payload = None;
    }

    /// Overwrites the word at `at`, which was appended before.
    pub fn patch(&mut self, at: usize, word: u32) {
        if let Some(place) = self.bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&word.to_be_bytes());
        }
    }

    /// Copies the payload into the bytes: something is to follow it.
    pub fn settle_payload(&mut self) {
        if let Some(payload) = self.payload.take() {
            self.bytes.extend_from_slice(&payload);
            let padded = self.bytes.len() + pad_len(payload.len());
            self.bytes.resize(padded, 0);
        }
    }

    /// Appends one value.
    ///
    /// # Errors
    /// The reply would be too long.
    pub fn put(&mut self, value: &impl Encode) -> Result<(), XdrError> {
        self.enc().put(value)
    }
}

struct Grant {
    generation: u64,
    export: u32,
    options: Arc<Options>,
}

struct Mapped {
    identity: Identity,
    /// As this server knows them, with `manage_gids`.
    groups: Option<Arc<[u32]>>,
    options: Arc<Options>,
    cred: Cred,
}

/// A connection's peer, with what was last decided about it.
pub struct Client {
    /// Its address, IPv4-mapped ones as IPv4.
    pub addr: SocketAddr,
    /// The server's address it uses, if the socket still knows: calls to a host of NLM come from there, as it takes
    /// none from elsewhere.
    pub here: Option<SocketAddr>,
    /// The connection itself.
    pub back: BackConn,
    /// The NFSv4.0 client that last named itself, or state of its, over this connection: its other
    /// requests do not say whose they are.
    pub speaker: Cell<Option<ClientId>>,
    /// Bytes that requests being worked on hold or will: their records, and replies they asked for.
    pub held: Cell<usize>,
    grant: RefCell<Option<Grant>>,
    mapped: RefCell<Option<Mapped>>,
    /// The exports it may use, of one generation of them.
    usable: RefCell<Option<(u64, Rc<HashSet<u32>>)>>,
}

impl Client {
    /// A peer nothing is known of yet.
    pub fn new(addr: SocketAddr, here: Option<SocketAddr>, back: BackConn) -> Rc<Self> {
        let ip = addr.ip().to_canonical();
        let addr = match addr {
            // The scope is part of a link-local address.
            SocketAddr::V6(v6) if ip.is_ipv6() => {
                SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into()
            }
            _ => SocketAddr::new(ip, addr.port()),
        };
        Rc::new(Client {
            addr,
            here,
            back,
            speaker: Cell::default(),
            held: Cell::default(),
            grant: RefCell::default(),
            mapped: RefCell::default(),
            usable: RefCell::default(),
        })
    }
}

/// One request.
pub struct Cx {
    /// What all workers share.
    pub server: Arc<Shared>,
    /// The connection's peer.
    pub client: Rc<Client>,
    /// Who the credential says is calling.
    pub identity: Identity,
    /// The whole record: arguments borrow from it.
    pub record: Rc<Buf>,
    /// Bytes of [`Client::held`] that are due to what its operations asked for; see [`Cx::hold`].
    pub asked: Cell<usize>,
}

impl Drop for Cx {
    fn drop(&mut self) {
        let held = &self.client.held;
        held.set(held.get().saturating_sub(self.asked.get()));
    }
}

/// A wire handle, opened for a caller.
#[derive(Clone)]
pub struct Opened {
    /// The file.
    pub file: Arc<File>,
    /// Whom the operation acts as.
    pub cred: Cred,
    /// The export's options for this client, as matched by this request.
    pub options: Arc<Options>,
    /// The export, for handles in the reply.
    pub export: u32,
}

impl Cx {
    /// Counts `bytes` of reply that an operation is about to fetch against what the connection may hold, until the
    /// request ends.
    pub fn hold(&self, bytes: usize) {
        self.asked.set(self.asked.get() + bytes);
        self.client.held.set(self.client.held.get() + bytes);
    }

    /// The connection the request came on, to call its client and to name it in sessions.
    pub fn back(&self) -> BackConn {
        self.client.back.clone()
    }

    /// On `sync` exports (exports(5)) changes of these files are on stable storage before the reply.
    ///
    /// # Errors
    /// `fsync(2)`.
    pub async fn settle(&self, opened: &Opened, files: &[&Arc<File>]) -> vfs::Result<()> {
        match opened.options.is_async() {
            true => Ok(()),
            false => self.server.vfs.settle(files).await,
        }
    }

    /// Opens a file handle for this caller.
    ///
    /// # Errors
    /// `BADHANDLE` for bytes this server never made, `STALE` for a file, export or file system that
    /// is gone, `ACCES` for a client or flavor the export does not admit, `JUKEBOX` while its name is
    /// looked up.
    pub async fn open(&self, wire: &[u8]) -> Result<Opened, Nfsstat3> {
        let parts = self
            .server
            .key
            .open(wire)
            .map_err(|_| Nfsstat3::Badhandle)?;
        self.open_parts(parts.export, parts.fsid, parts.handle)
            .await
    }

    /// As [`Cx::open`], from the parts of a handle.
    ///
    /// # Errors
    /// As [`Cx::open`], but for `BADHANDLE`.
    pub async fn open_parts(
        &self,
        export: u32,
        fsid: u64,
        handle: KernelHandle,
    ) -> Result<Opened, Nfsstat3> {
        let options = self.options(export).await?;
        self.admit(&options)?;
        let mount = self
            .server
            .mount_of(export, fsid, options.crossmnt())
            .ok_or(Nfsstat3::Stale)?;
        let file = self.server.vfs.file(&mount, handle).await;
        let file = file.map_err(|e| from_errno(e.0))?;
        let cred = self.cred(&options).await;
        Ok(Opened {
            file,
            cred,
            options,
            export,
        })
    }

    /// The flavor of the request, as exports name it (`sec=`).
    pub fn flavor(&self) -> Sec {
        match self.identity {
            Identity::None => Sec::NONE,
            Identity::Unix(_) => Sec::SYS,
        }
    }

    /// Port and flavor (exports(5) `secure`, `sec=`).
    ///
    /// # Errors
    /// `ACCES`.
    pub fn admit(&self, options: &Options) -> Result<(), Nfsstat3> {
        // AUTH_NONE is admitted as the anonymous user only where the export says so.
        let ok =
            options.sec.contains(self.flavor()) && options.port_allowed(self.client.addr.port());
        if ok { Ok(()) } else { Err(Nfsstat3::Acces) }
    }

    /// The options this client has on an export.
    ///
    /// # Errors
    /// `STALE` for an export that is gone, `ACCES` for a client it does not name.
    pub async fn options(&self, export: u32) -> Result<Arc<Options>, Nfsstat3> {
        let exported = self.server.exported.load();
        let generation = exported.generation;
        if let Some(grant) = &*self.client.grant.borrow()
            && grant.generation == generation
            && grant.export == export
        {
            return Ok(grant.options.clone());
        }
        let table = exported.table.clone();
        drop(exported);
        if table.get(export).is_none() {
            return Err(Nfsstat3::Stale);
        }
        let granted = |peer: &Peer<'_>| match table.lookup(export, peer) {
            Access::Granted(options) => Some(Ok(options.clone())),
            Access::Denied => Some(Err(Nfsstat3::Acces)),
            Access::NeedsName => None,
        };
        let options = self.with_peer(granted).await.ok_or(Nfsstat3::Jukebox)??;
        let grant = Grant {
            generation,
            export,
            options: options.clone(),
        };
        *self.client.grant.borrow_mut() = Some(grant);
        Ok(options)
    }

    /// Asks `decide` about this peer, with its host name once `decide` needs it (`None`). `None` when
    /// the name cannot be had now.
    pub async fn with_peer<T>(&self, decide: impl Fn(&Peer<'_>) -> Option<T>) -> Option<T> {
        let ip = self.client.addr.ip();
        let known = self.server.names.get(ip, exec::now());
        if let Some(answer) = decide(&Peer::new(ip, known.name())) {
            return Some(answer);
        }
        let (sender, receiver) = exec::oneshot::channel();
        if !self
            .server
            .names
            .ask(ip, exec::now(), Box::new(move |name| sender.send(name)))
        {
            return None;
        }
        let name = receiver.await?;
        decide(&Peer::new(ip, name.name()))
    }

    /// The exports in force.
    pub fn exports(&self) -> Arc<ExportTable> {
        self.server.exported.load().table.clone()
    }

    /// The exports this client may use, for what NFSv4 shows of the pseudo file system and at junctions
    /// ([`crate::nfs4::pseudo::Allowed`]). Belongs to `exported`, which the caller goes on with.
    ///
    /// # Errors
    /// `JUKEBOX` while the client's name is looked up.
    pub async fn usable(&self, exported: &Exported) -> Result<Rc<HashSet<u32>>, Nfsstat3> {
        if let Some((generation, usable)) = &*self.client.usable.borrow()
            && *generation == exported.generation
        {
            return Ok(usable.clone());
        }
        let ids = |peer: &Peer<'_>| {
            let exports = exported.table.visible_to(peer)?;
            Some(
                exports
                    .iter()
                    .map(|export| export.id)
                    .collect::<HashSet<u32>>(),
            )
        };
        let usable = Rc::new(self.with_peer(ids).await.ok_or(Nfsstat3::Jukebox)?);
        *self.client.usable.borrow_mut() = Some((exported.generation, Rc::clone(&usable)));
        Ok(usable)
    }

    async fn cred(&self, options: &Arc<Options>) -> Cred {
        // Each time: they may change while a connection lasts.
        let groups = match (&self.server.groups, &self.identity) {
            (Some(groups), Identity::Unix(unix)) => Some(groups.of(unix.uid).await),
            _ => None,
        };
        if let Some(mapped) = &*self.client.mapped.borrow()
            && Arc::ptr_eq(&mapped.options, options)
            && mapped.groups == groups
            && mapped.identity == self.identity
        {
            return mapped.cred.clone();
        }
        let cred = self.squashed(options, groups.as_deref());
        let mapped = Mapped {
            identity: self.identity.clone(),
            groups,
            options: options.clone(),
            cred: cred.clone(),
        };
        *self.client.mapped.borrow_mut() = Some(mapped);
        cred
    }

    /// `groups` are those in place of the credential's.
    fn squashed(&self, options: &Options, groups: Option<&[u32]>) -> Cred {
        let caller = match &self.identity {
            Identity::None => Caller::Nobody,
            Identity::Unix(Unix { uid, gid, gids }) => Caller::Sys {
                uid: *uid,
                gid: *gid,
                groups: groups.unwrap_or(gids.as_slice()),
            },
        };
        let squashed = squash(options, caller);
        let groups: Vec<u32> = squashed.groups().collect();
        Cred::new(squashed.uid, squashed.gid, &groups)
    }

    /// The handle of a file reached through `opened`'s export.
    ///
    /// # Errors
    /// `SERVERFAULT` for a kernel handle that does not fit, which start-up excludes.
    pub fn fh(&self, opened: &Opened, file: &File) -> Result<FileHandle, Nfsstat3> {
        self.fh_of(opened.export, &file.mount, &file.handle)
    }

    /// Whether a directory is the root of its export: what is above it is not exported.
    pub fn is_root(&self, dir: &Opened) -> bool {
        let root = self.server.root_of(dir.export);
        root.is_some_and(|r| r.handle == dir.file.handle && r.mount.fsid == dir.file.mount.fsid)
    }

    /// As [`Cx::fh`], from the parts.
    ///
    /// # Errors
    /// As [`Cx::fh`].
    pub fn fh_of(
        &self,
        export: u32,
        mount: &Mount,
        handle: &KernelHandle,
    ) -> Result<FileHandle, Nfsstat3> {
        self.server
            .key
            .seal(export, mount.fsid, handle)
            .ok_or(Nfsstat3::Serverfault)
    }

    /// The slice of the record a borrowed argument is: WRITE data goes to the file from there.
    pub fn slice_of(&self, data: &[u8]) -> Slice {
        Slice::of(&self.record, data).unwrap_or_else(|| Slice::new(self.record.clone(), 0..0))
    }
}

impl Opened {
    /// Refuses changes on a read-only export.
    ///
    /// # Errors
    /// `ROFS`.
    pub fn writable(&self) -> Result<(), Nfsstat3> {
        if self.options.read_only() {
            Err(Nfsstat3::Rofs)
        } else {
            Ok(())
        }
    }
}
