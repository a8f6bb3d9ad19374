//! Metadata operations, by path or descriptor: through the ring under the caller's personality, or on
//! the blocking pool under its identity.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use io_uring::{opcode, squeue, types};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags, ResolveFlags};

use super::blocking::Job;
use super::counters::Call;
use super::file_ops::{adaptive, apart, count_inline};
use super::fixed::OpenFd;
use super::op::{Entry, Op, run};
use super::personality::{Personality, personality};
use crate::cred::Cred;
use crate::errno::{Errno, Result};
use crate::exec;

/// A metadata operation that has both an opcode and a plain system call.
trait Meta: Send + 'static {
    type Out: Send + 'static;
    const CODE: u8;
    const CALL: Call;
    fn sqe(&mut self) -> squeue::Entry;
    fn call(self) -> Result<Self::Out>;
    fn done(res: i32) -> Result<Self::Out>;
    /// Not by the ring this time: always by system call.
    fn no_opcode(&self) -> bool {
        false
    }
}

struct MetaOp<M: Meta> {
    meta: Option<M>,
    cred: Cred,
    personality: Option<Personality>,
}

impl<M: Meta> Op for MetaOp<M> {
    type Output = Result<M::Out>;
    const CODE: u8 = M::CODE;

    fn entry(&mut self) -> Entry<Self::Output> {
        if adaptive() || self.meta.as_ref().is_some_and(Meta::no_opcode) {
            return match self.meta.take() {
                Some(meta) => Entry::Blocking(Job::new(&self.cred, M::CALL, move || meta.call())),
                None => Entry::Inline(Err(Errno::EINVAL)),
            };
        }
        match personality(&self.cred) {
            Ok(p) => {
                self.personality = Some(p);
                Entry::Sqe
            }
            Err(e) => Entry::Inline(Err(e)),
        }
    }

    fn sqe(&mut self) -> squeue::Entry {
        let entry = self
            .meta
            .as_mut()
            .map_or_else(|| opcode::Nop::new().build(), Meta::sqe);
        entry.personality(self.personality.as_ref().map_or(0, Personality::id))
    }

    fn complete(self, res: i32, _: u32) -> Self::Output {
        M::done(res)
    }

    fn discard(&mut self, res: i32, _: u32) {
        drop(M::done(res));
    }
}

async fn meta<M: Meta>(cred: &Cred, meta: M) -> Result<M::Out> {
    run(MetaOp {
        meta: Some(meta),
        cred: cred.clone(),
        personality: None,
    })
    .await
}

fn raw(dir: &Arc<OpenFd>) -> types::Fd {
    types::Fd(dir.as_raw_fd())
}

/// Result of an operation that returns nothing.
fn unit(res: i32) -> Result<()> {
    Errno::check(res).map(drop)
}

struct OpenMeta {
    dir: Arc<OpenFd>,
    name: CString,
    flags: OFlags,
    mode: u32,
    how: types::OpenHow,
}

/// Names are resolved below the directory they were given in and never through a symbolic link.
const RESOLVE: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_MAGICLINKS);

impl Meta for OpenMeta {
    type Out = OwnedFd;
    const CODE: u8 = opcode::OpenAt2::CODE;
    const CALL: Call = Call::Openat;

    fn sqe(&mut self) -> squeue::Entry {
        opcode::OpenAt2::new(raw(&self.dir), self.name.as_ptr(), &raw const self.how).build()
    }

    fn call(self) -> Result<OwnedFd> {
        let mode = Mode::from_raw_mode(self.mode);
        Ok(rustix::fs::openat2(
            &*self.dir,
            self.name.as_c_str(),
            self.flags,
            mode,
            RESOLVE,
        )?)
    }

    fn done(res: i32) -> Result<OwnedFd> {
        // SAFETY: a successful openat2 returns a descriptor that is ours alone.
        Errno::check(res).map(|fd| unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
    }
}

fn open_meta(dir: &Arc<OpenFd>, name: CString, flags: OFlags, mode: u32) -> OpenMeta {
    let flags = flags | OFlags::CLOEXEC;
    let how = types::OpenHow::new()
        .flags(u64::from(flags.bits()))
        .mode(u64::from(mode))
        .resolve(RESOLVE.bits());
    OpenMeta {
        dir: dir.clone(),
        name,
        flags,
        mode,
        how,
    }
}

/// Opens `name` in `dir` by a plain system call, as whoever the thread acts as.
///
/// # Errors
/// `openat2(2)`.
pub(crate) fn openat_now(
    dir: &Arc<OpenFd>,
    name: CString,
    flags: OFlags,
    mode: u32,
) -> Result<OwnedFd> {
    open_meta(dir, name, flags, mode).call()
}

/// Opens `name` in `dir` as `cred`. A name that exists and needs no creation is opened through the
/// ring under either policy: cached opens complete in place.
///
/// # Errors
/// `openat2(2)`.
pub async fn openat(
    cred: &Cred,
    dir: &Arc<OpenFd>,
    name: CString,
    flags: OFlags,
    mode: u32,
) -> Result<OwnedFd> {
    let op = open_meta(dir, name, flags, mode);
    if flags.contains(OFlags::CREATE) || !adaptive() {
        return meta(cred, op).await;
    }
    run(OpenExisting {
        open: op,
        personality: personality(cred)?,
    })
    .await
}

struct OpenExisting {
    open: OpenMeta,
    personality: Personality,
}

impl Op for OpenExisting {
    type Output = Result<OwnedFd>;
    const CODE: u8 = opcode::OpenAt2::CODE;

    fn sqe(&mut self) -> squeue::Entry {
        self.open.sqe().personality(self.personality.id())
    }

    fn complete(self, res: i32, _: u32) -> Self::Output {
        OpenMeta::done(res)
    }

    fn discard(&mut self, res: i32, _: u32) {
        drop(OpenMeta::done(res));
    }
}

/// Declares a metadata operation: its fields, its SQE and its system call.
macro_rules! meta_op {
    (
        $(#[$doc:meta])* $fn:ident($($field:ident: $ty:ty),*) as $name:ident,
        $opcode:ident, $call:ident, |$s:ident| $sqe:expr, |$c:ident| $sys:expr
    ) => {
        struct $name { $($field: $ty),* }

        impl Meta for $name {
            type Out = ();
            const CODE: u8 = opcode::$opcode::CODE;
            const CALL: Call = Call::$call;
            fn sqe(&mut self) -> squeue::Entry { let $s = self; $sqe.build() }
            fn call(self) -> Result<()> { let $c = self; Ok($sys?) }
            fn done(res: i32) -> Result<()> { unit(res) }
        }

        $(#[$doc])*
        pub async fn $fn(cred: &Cred, $($field: $ty),*) -> Result<()> {
            meta(cred, $name { $($field),* }).await
        }
    };
}

meta_op! {
    /// Makes a directory. Errors: `mkdirat(2)`.
    mkdirat(dir: Arc<OpenFd>, name: CString, mode: u32) as MkdirMeta, MkDirAt, Mkdirat,
    |s| opcode::MkDirAt::new(raw(&s.dir), s.name.as_ptr()).mode(s.mode),
    |c| rustix::fs::mkdirat(&*c.dir, c.name.as_c_str(), Mode::from_raw_mode(c.mode))
}

meta_op! {
    /// Removes a name: of a directory with `AT_REMOVEDIR` in `flags`. Errors: `unlinkat(2)`.
    unlinkat(dir: Arc<OpenFd>, name: CString, flags: AtFlags) as UnlinkMeta, UnlinkAt, Unlinkat,
    |s| opcode::UnlinkAt::new(raw(&s.dir), s.name.as_ptr()).flags(s.flags.bits() as i32),
    |c| rustix::fs::unlinkat(&*c.dir, c.name.as_c_str(), c.flags)
}

meta_op! {
    /// Renames, replacing an existing target. Errors: `renameat2(2)`.
    renameat(from: Arc<OpenFd>, old: CString, to: Arc<OpenFd>, new: CString) as RenameMeta,
    RenameAt, Renameat,
    |s| opcode::RenameAt::new(raw(&s.from), s.old.as_ptr(), raw(&s.to), s.new.as_ptr()),
    |c| rustix::fs::renameat_with(
        &*c.from, c.old.as_c_str(), &*c.to, c.new.as_c_str(), RenameFlags::empty())
}

meta_op! {
    /// Makes a symbolic link. Errors: `symlinkat(2)`.
    symlinkat(target: CString, dir: Arc<OpenFd>, name: CString) as SymlinkMeta, SymlinkAt, Symlinkat,
    |s| opcode::SymlinkAt::new(raw(&s.dir), s.target.as_ptr(), s.name.as_ptr()),
    |c| rustix::fs::symlinkat(c.target.as_c_str(), &*c.dir, c.name.as_c_str())
}

meta_op! {
    /// Links a held file (also one opened `O_PATH`) into `dir`. Errors: `linkat(2)`.
    linkat(file: HeldPath, dir: Arc<OpenFd>, name: CString) as LinkMeta, LinkAt, Linkat,
    |s| opcode::LinkAt::new(
            types::Fd(libc::AT_FDCWD), s.file.path.as_ptr(), raw(&s.dir), s.name.as_ptr())
        .flags(libc::AT_SYMLINK_FOLLOW),
    |c| rustix::fs::linkat(
        rustix::fs::CWD, c.file.path.as_c_str(), &*c.dir, c.name.as_c_str(), AtFlags::SYMLINK_FOLLOW)
}

struct TruncateMeta {
    file: Arc<OpenFd>,
    len: u64,
    opcode: bool,
}

impl Meta for TruncateMeta {
    type Out = ();
    const CODE: u8 = opcode::Ftruncate::CODE;
    const CALL: Call = Call::Ftruncate;

    fn sqe(&mut self) -> squeue::Entry {
        opcode::Ftruncate::new(types::Fd(self.file.as_raw_fd()), self.len).build()
    }

    fn call(self) -> Result<()> {
        Ok(rustix::fs::ftruncate(self.file.as_fd(), self.len)?)
    }

    fn done(res: i32) -> Result<()> {
        unit(res)
    }

    fn no_opcode(&self) -> bool {
        !self.opcode
    }
}

/// Sets the size of a file open for writing. Errors: `ftruncate(2)`.
pub async fn ftruncate(cred: &Cred, file: &Arc<OpenFd>, len: u64) -> Result<()> {
    let truncate = |opcode| TruncateMeta {
        file: file.clone(),
        len,
        opcode,
    };
    let opcode = exec::with_ring(|r| r.features.ftruncate) && !apart(file);
    match meta(cred, truncate(opcode)).await {
        Err(Errno::ECANCELED) if opcode => meta(cred, truncate(false)).await,
        done => done,
    }
}

/// A held descriptor by its `/proc/self/fd` path, for calls that take no `O_PATH` descriptor.
pub struct HeldPath {
    path: CString,
    _file: Arc<OpenFd>,
}

impl HeldPath {
    /// The path of `file`, which stays open as long as this lives.
    pub fn new(file: &Arc<OpenFd>) -> Self {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        HeldPath {
            path: CString::new(path).unwrap_or_default(),
            _file: file.clone(),
        }
    }

    /// The path.
    pub fn as_c_str(&self) -> &std::ffi::CStr {
        &self.path
    }
}

struct ReopenOp {
    file: HeldPath,
    flags: OFlags,
}

impl Op for ReopenOp {
    type Output = Result<OwnedFd>;
    const CODE: u8 = opcode::OpenAt::CODE;

    fn sqe(&mut self) -> squeue::Entry {
        let flags = (self.flags | OFlags::CLOEXEC).bits() as i32;
        opcode::OpenAt::new(types::Fd(libc::AT_FDCWD), self.file.path.as_ptr())
            .flags(flags)
            .build()
    }

    fn complete(self, res: i32, _: u32) -> Self::Output {
        OpenMeta::done(res)
    }

    fn discard(&mut self, res: i32, _: u32) {
        drop(OpenMeta::done(res));
    }
}

/// Opens a held inode (`O_PATH` or not) anew with other flags, as the server.
///
/// # Errors
/// `open(2)`: `EROFS`, `ETXTBSY`, `EPERM` for an immutable file, ...
pub async fn reopen(file: &Arc<OpenFd>, flags: OFlags) -> Result<OwnedFd> {
    run(ReopenOp {
        file: HeldPath::new(file),
        flags,
    })
    .await
}

struct GetXattrOp {
    path: HeldPath,
    name: CString,
    value: Vec<u8>,
}

impl Op for GetXattrOp {
    type Output = Result<Vec<u8>>;
    const CODE: u8 = opcode::GetXattr::CODE;

    fn sqe(&mut self) -> squeue::Entry {
        let len = self.value.len() as u32;
        let value = self.value.as_mut_ptr().cast();
        opcode::GetXattr::new(self.name.as_ptr(), value, self.path.path.as_ptr(), len).build()
    }

    fn complete(mut self, res: i32, _: u32) -> Self::Output {
        let len = Errno::check(res)?;
        self.value.truncate(len as usize);
        Ok(self.value)
    }
}

/// The extended attribute `name` of a held file, at most `limit` bytes, as the server.
///
/// # Errors
/// `getxattr(2)`: `ENODATA`, `ERANGE` over the limit, `EOPNOTSUPP`.
pub async fn getxattr(file: &Arc<OpenFd>, name: CString, limit: usize) -> Result<Vec<u8>> {
    let path = HeldPath::new(file);
    if adaptive() && !file.waits() {
        count_inline(Call::Getxattr);
        let mut value = vec![0; limit];
        let len = rustix::fs::getxattr(path.as_c_str(), name.as_c_str(), &mut value)?;
        value.truncate(len);
        return Ok(value);
    }
    run(GetXattrOp {
        path,
        name,
        value: vec![0; limit],
    })
    .await
}

struct SetXattrMeta {
    path: HeldPath,
    name: CString,
    value: Vec<u8>,
    flags: u32,
}

impl Meta for SetXattrMeta {
    type Out = ();
    const CODE: u8 = opcode::SetXattr::CODE;
    const CALL: Call = Call::Setxattr;

    fn sqe(&mut self) -> squeue::Entry {
        let (value, len) = (self.value.as_ptr().cast(), self.value.len() as u32);
        opcode::SetXattr::new(self.name.as_ptr(), value, self.path.path.as_ptr(), len)
            .flags(self.flags as i32)
            .build()
    }

    fn call(self) -> Result<()> {
        let flags = rustix::fs::XattrFlags::from_bits_truncate(self.flags);
        Ok(rustix::fs::setxattr(
            self.path.as_c_str(),
            self.name.as_c_str(),
            &self.value,
            flags,
        )?)
    }

    fn done(res: i32) -> Result<()> {
        unit(res)
    }
}

/// Sets an extended attribute of a held file. Errors: `setxattr(2)`.
pub async fn setxattr(
    cred: &Cred,
    file: &Arc<OpenFd>,
    name: CString,
    value: Vec<u8>,
    flags: u32,
) -> Result<()> {
    let path = HeldPath::new(file);
    meta(
        cred,
        SetXattrMeta {
            path,
            name,
            value,
            flags,
        },
    )
    .await
}
