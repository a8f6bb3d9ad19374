//! The MOUNT and port mapper side of the client.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nfsd::mount::types::{
    Dirpath, Exports, MOUNT_PROGRAM, MOUNT_V1, MOUNT_V3, MountProc, Mountlist, Mountres3,
    Mountstat3,
};
use nfsd::rpc::portmap::{Mapping, PMAP_PROG, PmapProc};
use nfsd::xdr::Encode;

use super::{Answer, Client, Fh};

/// A procedure of MOUNT version 3.
pub fn mount3(proc: MountProc) -> [u32; 3] {
    [MOUNT_PROGRAM, MOUNT_V3, proc.wire()]
}

/// A procedure of MOUNT version 1.
pub fn mount1(proc: MountProc) -> [u32; 3] {
    [MOUNT_PROGRAM, MOUNT_V1, proc.wire()]
}

/// A procedure of port mapper version 2.
pub fn pmap(proc: PmapProc) -> [u32; 3] {
    [PMAP_PROG, 2, proc.wire()]
}

/// One entry of EXPORT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The directory.
    pub dir: String,
    /// Who may mount it.
    pub groups: Vec<String>,
}

impl Client {
    /// MNT: the handle and the flavors.
    ///
    /// # Errors
    /// The status.
    #[track_caller]
    pub fn mnt(&mut self, path: &[u8]) -> Result<(Fh, Vec<u32>), Mountstat3> {
        let answer = self.call(mount3(MountProc::Mnt), &Dirpath(path));
        let res: Mountres3<'_> = answer.results();
        let ok = res.ok()?;
        assert!(!ok.fhandle.0.is_empty() && ok.fhandle.0.len() <= 64);
        Ok((ok.fhandle.0.to_vec(), ok.auth_flavors.to_vec()))
    }

    /// MNT of an export that can be mounted.
    ///
    /// # Panics
    /// If it cannot.
    #[track_caller]
    pub fn mount(&mut self, path: &Path) -> Fh {
        match self.mnt(path.as_os_str().as_bytes()) {
            Ok((root, _)) => root,
            Err(status) => panic!("mounting {}: {status}", path.display()),
        }
    }

    /// EXPORT.
    #[track_caller]
    pub fn exports(&mut self) -> Vec<Exported> {
        let answer = self.call(mount3(MountProc::Export), &());
        let list: Exports<'_> = answer.results();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let all = list.iter().map(|node| Exported {
            dir: text(node.dir.0),
            groups: node.groups.iter().map(|name| text(name.0)).collect(),
        });
        all.collect()
    }

    /// DUMP: host and directory of every mount.
    #[track_caller]
    pub fn dump(&mut self) -> Vec<(String, String)> {
        let answer = self.call(mount3(MountProc::Dump), &());
        let list: Mountlist<'_> = answer.results();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let all = list
            .iter()
            .map(|body| (text(body.hostname.0), text(body.directory.0)));
        all.collect()
    }

    /// A call of the port mapper.
    #[track_caller]
    pub fn pmap(&mut self, proc: PmapProc, args: &impl Encode) -> Answer {
        self.call(pmap(proc), args)
    }

    /// GETPORT.
    #[track_caller]
    pub fn getport(&mut self, prog: u32, vers: u32, prot: u32) -> u32 {
        let mapping = Mapping {
            prog,
            vers,
            prot,
            port: 0,
        };
        self.pmap(PmapProc::Getport, &mapping).results()
    }
}
