//! The NFS version 3 side of the client: one method a procedure, results as owned values.
//!
//! Every answer is held to the statuses its procedure may give.

use nfsd::nfs3::args::*;
use nfsd::nfs3::res::*;
use nfsd::nfs3::status::{Nfsstat3, permitted};
use nfsd::nfs3::types::*;
use nfsd::nfs3::{NFS_PROGRAM, NFS_V3, Proc3};
use nfsd::xdr::{Encode, Res};

use super::{Answer, Client, Fh};

/// What a failed procedure gives: the status and what comes with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fail<F> {
    /// Why.
    pub status: Nfsstat3,
    /// Attributes.
    pub with: F,
}

/// The outcome of a procedure.
pub type Done<T, F = PostOpAttr> = Result<T, Fail<F>>;

/// The status of an outcome.
pub trait Outcome {
    /// `Ok` or why it failed.
    fn status(&self) -> Nfsstat3;
}

impl<T, F> Outcome for Done<T, F> {
    fn status(&self) -> Nfsstat3 {
        match self {
            Ok(_) => Nfsstat3::Ok,
            Err(fail) => fail.status,
        }
    }
}

/// What LOOKUP found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its handle.
    pub fh: Fh,
    /// Its attributes.
    pub attr: PostOpAttr,
    /// The directory's.
    pub dir: PostOpAttr,
}

/// What CREATE, MKDIR, SYMLINK and MKNOD made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Its handle.
    pub fh: Fh,
    /// Its attributes.
    pub attr: Fattr3,
    /// The directory around it.
    pub dir: WccData,
}

/// What READ gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadData {
    /// The file's attributes.
    pub attr: PostOpAttr,
    /// The end of the file was reached.
    pub eof: bool,
    /// The bytes.
    pub data: Vec<u8>,
}

/// One directory entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Inode number.
    pub fileid: u64,
    /// Name.
    pub name: Vec<u8>,
    /// Where to go on.
    pub cookie: u64,
    /// READDIRPLUS: attributes.
    pub attr: PostOpAttr,
    /// READDIRPLUS: handle.
    pub fh: Option<Fh>,
}

/// A page of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The directory's attributes.
    pub attr: PostOpAttr,
    /// Verifier for the cookies.
    pub verf: Cookieverf3,
    /// The entries.
    pub entries: Vec<Entry>,
    /// The last one is the directory's last.
    pub eof: bool,
    /// Bytes of the READDIR3resok or READDIRPLUS3resok on the wire.
    pub resok_bytes: usize,
}

/// A procedure of NFS version 3.
pub const fn nfs3(proc: Proc3) -> [u32; 3] {
    [NFS_PROGRAM, NFS_V3, proc.wire()]
}

/// A name in a directory.
pub const fn at<'a>(dir: &'a [u8], name: &'a [u8]) -> Diropargs3<'a> {
    Diropargs3 {
        dir: NfsFh3(dir),
        name: Filename3(name),
    }
}

/// Attributes with only a mode.
pub fn mode(mode: u32) -> Sattr3 {
    Sattr3 {
        mode: Some(mode),
        ..Sattr3::default()
    }
}

/// Attributes with only a size.
pub fn size(size: u64) -> Sattr3 {
    Sattr3 {
        size: Some(size),
        ..Sattr3::default()
    }
}

#[track_caller]
fn done<T, F>(procedure: Proc3, res: Res<Nfsstat3, T, F>) -> Done<T, F> {
    let status = res.status();
    assert!(
        permitted(procedure, status),
        "{procedure} must not answer {status}"
    );
    match res {
        Res::Ok(value) => Ok(value),
        Res::Fail(status, with) => Err(Fail { status, with }),
    }
}

#[track_caller]
fn made(procedure: Proc3, answer: &Answer) -> Done<Made, WccData> {
    let ok = done(procedure, answer.results::<Create3Res<'_>>())?;
    let fh = ok.obj.expect("a handle of what was made");
    Ok(Made {
        fh: fh.0.to_vec(),
        attr: ok.obj_attributes.expect("attributes of what was made"),
        dir: ok.dir_wcc,
    })
}

impl Client {
    /// Any procedure.
    #[track_caller]
    pub fn nfs(&mut self, procedure: Proc3, args: &impl Encode) -> Answer {
        self.call(nfs3(procedure), args)
    }

    /// NULL.
    #[track_caller]
    pub fn null(&mut self) {
        self.nfs(Proc3::Null, &()).results::<()>();
    }

    /// GETATTR.
    #[track_caller]
    pub fn getattr(&mut self, fh: &[u8]) -> Done<Fattr3, ()> {
        let args = Getattr3Args { object: NfsFh3(fh) };
        let answer = self.nfs(Proc3::Getattr, &args);
        let ok = done(Proc3::Getattr, answer.results::<Getattr3Res>())?;
        Ok(ok.obj_attributes)
    }

    /// Attributes of a file that is there.
    #[track_caller]
    pub fn attr(&mut self, fh: &[u8]) -> Fattr3 {
        self.getattr(fh).expect("GETATTR")
    }

    /// SETATTR.
    #[track_caller]
    pub fn setattr(
        &mut self,
        fh: &[u8],
        set: Sattr3,
        guard: Sattrguard3,
    ) -> Done<WccData, WccData> {
        let args = Setattr3Args {
            object: NfsFh3(fh),
            new_attributes: set,
            guard,
        };
        let answer = self.nfs(Proc3::Setattr, &args);
        done(Proc3::Setattr, answer.results::<Setattr3Res>())
    }

    /// LOOKUP.
    #[track_caller]
    pub fn lookup(&mut self, dir: &[u8], name: &[u8]) -> Done<Found> {
        let args = Lookup3Args {
            what: at(dir, name),
        };
        let answer = self.nfs(Proc3::Lookup, &args);
        let ok = done(Proc3::Lookup, answer.results::<Lookup3Res<'_>>())?;
        Ok(Found {
            fh: ok.object.0.to_vec(),
            attr: ok.obj_attributes,
            dir: ok.dir_attributes,
        })
    }

    /// The handle of a name that is there.
    #[track_caller]
    pub fn fh_of(&mut self, dir: &[u8], name: &[u8]) -> Fh {
        self.lookup(dir, name).expect("LOOKUP").fh
    }

    /// ACCESS: the bits granted of those asked for.
    #[track_caller]
    pub fn access(&mut self, fh: &[u8], access: u32) -> Done<Access3ResOk> {
        let args = Access3Args {
            object: NfsFh3(fh),
            access,
        };
        let answer = self.nfs(Proc3::Access, &args);
        done(Proc3::Access, answer.results::<Access3Res>())
    }

    /// READLINK: target and attributes.
    #[track_caller]
    pub fn readlink(&mut self, fh: &[u8]) -> Done<(Vec<u8>, PostOpAttr)> {
        let args = Readlink3Args {
            symlink: NfsFh3(fh),
        };
        let answer = self.nfs(Proc3::Readlink, &args);
        let ok = done(Proc3::Readlink, answer.results::<Readlink3Res<'_>>())?;
        Ok((ok.data.0.to_vec(), ok.symlink_attributes))
    }

    /// READ.
    #[track_caller]
    pub fn read(&mut self, fh: &[u8], offset: u64, count: u32) -> Done<ReadData> {
        let args = Read3Args {
            file: NfsFh3(fh),
            offset,
            count,
        };
        let answer = self.nfs(Proc3::Read, &args);
        let ok = done(Proc3::Read, answer.results::<Read3Res<'_>>())?;
        assert_eq!(
            ok.count as usize,
            ok.data.0.len(),
            "READ count and length of the data"
        );
        assert!(ok.count <= count, "READ gave more than asked for");
        Ok(ReadData {
            attr: ok.file_attributes,
            eof: ok.eof,
            data: ok.data.0.to_vec(),
        })
    }

    /// WRITE.
    #[track_caller]
    pub fn write(
        &mut self,
        fh: &[u8],
        offset: u64,
        data: &[u8],
        stable: StableHow,
    ) -> Done<Write3ResOk, WccData> {
        let xid = self.start_write(fh, offset, data, stable);
        self.finish_write(xid)
    }

    /// Sends a WRITE.
    #[track_caller]
    pub fn start_write(&mut self, fh: &[u8], offset: u64, data: &[u8], stable: StableHow) -> u32 {
        let args = Write3Args {
            file: NfsFh3(fh),
            offset,
            count: data.len() as u32,
            stable,
            data: Data3(data),
        };
        self.start(nfs3(Proc3::Write), &args)
    }

    /// The outcome of a WRITE.
    #[track_caller]
    pub fn finish_write(&mut self, xid: u32) -> Done<Write3ResOk, WccData> {
        let answer = self.answer(xid);
        done(Proc3::Write, answer.results::<Write3Res>())
    }

    /// CREATE.
    #[track_caller]
    pub fn create(&mut self, dir: &[u8], name: &[u8], how: Createhow3) -> Done<Made, WccData> {
        let args = Create3Args {
            where_: at(dir, name),
            how,
        };
        let answer = self.nfs(Proc3::Create, &args);
        made(Proc3::Create, &answer)
    }

    /// A new file with a mode.
    #[track_caller]
    pub fn new_file(&mut self, dir: &[u8], name: &[u8], bits: u32) -> Fh {
        let made = self.create(dir, name, Createhow3::Guarded(mode(bits)));
        made.expect("CREATE").fh
    }

    /// MKDIR.
    #[track_caller]
    pub fn mkdir(&mut self, dir: &[u8], name: &[u8], attributes: Sattr3) -> Done<Made, WccData> {
        let args = Mkdir3Args {
            where_: at(dir, name),
            attributes,
        };
        let answer = self.nfs(Proc3::Mkdir, &args);
        made(Proc3::Mkdir, &answer)
    }

    /// A new directory with a mode.
    #[track_caller]
    pub fn new_dir(&mut self, dir: &[u8], name: &[u8], bits: u32) -> Fh {
        self.mkdir(dir, name, mode(bits)).expect("MKDIR").fh
    }

    /// SYMLINK.
    #[track_caller]
    pub fn symlink(&mut self, dir: &[u8], name: &[u8], target: &[u8]) -> Done<Made, WccData> {
        let args = Symlink3Args {
            where_: at(dir, name),
            symlink: Symlinkdata3 {
                symlink_attributes: Sattr3::default(),
                symlink_data: Nfspath3(target),
            },
        };
        let answer = self.nfs(Proc3::Symlink, &args);
        made(Proc3::Symlink, &answer)
    }

    /// MKNOD.
    #[track_caller]
    pub fn mknod(&mut self, dir: &[u8], name: &[u8], what: Mknoddata3) -> Done<Made, WccData> {
        let args = Mknod3Args {
            where_: at(dir, name),
            what,
        };
        let answer = self.nfs(Proc3::Mknod, &args);
        made(Proc3::Mknod, &answer)
    }

    /// REMOVE.
    #[track_caller]
    pub fn remove(&mut self, dir: &[u8], name: &[u8]) -> Done<WccData, WccData> {
        let args = Remove3Args {
            object: at(dir, name),
        };
        let answer = self.nfs(Proc3::Remove, &args);
        done(Proc3::Remove, answer.results::<Remove3Res>())
    }

    /// RMDIR.
    #[track_caller]
    pub fn rmdir(&mut self, dir: &[u8], name: &[u8]) -> Done<WccData, WccData> {
        let args = Rmdir3Args {
            object: at(dir, name),
        };
        let answer = self.nfs(Proc3::Rmdir, &args);
        done(Proc3::Rmdir, answer.results::<Rmdir3Res>())
    }

    /// RENAME.
    #[track_caller]
    pub fn rename(
        &mut self,
        from: (&[u8], &[u8]),
        to: (&[u8], &[u8]),
    ) -> Done<Rename3Wcc, Rename3Wcc> {
        let args = Rename3Args {
            from: at(from.0, from.1),
            to: at(to.0, to.1),
        };
        let answer = self.nfs(Proc3::Rename, &args);
        done(Proc3::Rename, answer.results::<Rename3Res>())
    }

    /// LINK.
    #[track_caller]
    pub fn link(&mut self, fh: &[u8], dir: &[u8], name: &[u8]) -> Done<Link3Wcc, Link3Wcc> {
        let args = Link3Args {
            file: NfsFh3(fh),
            link: at(dir, name),
        };
        let answer = self.nfs(Proc3::Link, &args);
        done(Proc3::Link, answer.results::<Link3Res>())
    }

    /// READDIR.
    #[track_caller]
    pub fn readdir(
        &mut self,
        dir: &[u8],
        cookie: u64,
        cookieverf: Cookieverf3,
        count: u32,
    ) -> Done<Page> {
        let args = Readdir3Args {
            dir: NfsFh3(dir),
            cookie,
            cookieverf,
            count,
        };
        let answer = self.nfs(Proc3::Readdir, &args);
        let ok = done(Proc3::Readdir, answer.results::<Readdir3Res<'_>>())?;
        let entries = ok.reply.entries.iter().map(|e| Entry {
            fileid: e.fileid,
            name: e.name.0.to_vec(),
            cookie: e.cookie,
            attr: None,
            fh: None,
        });
        Ok(Page {
            attr: ok.dir_attributes,
            verf: ok.cookieverf,
            entries: entries.collect(),
            eof: ok.reply.eof,
            resok_bytes: answer.bytes().len() - 4,
        })
    }

    /// READDIRPLUS; `counts` are dircount and maxcount.
    #[track_caller]
    pub fn readdirplus(
        &mut self,
        dir: &[u8],
        cookie: u64,
        cookieverf: Cookieverf3,
        counts: (u32, u32),
    ) -> Done<Page> {
        let args = Readdirplus3Args {
            dir: NfsFh3(dir),
            cookie,
            cookieverf,
            dircount: counts.0,
            maxcount: counts.1,
        };
        let answer = self.nfs(Proc3::Readdirplus, &args);
        let ok = done(Proc3::Readdirplus, answer.results::<Readdirplus3Res<'_>>())?;
        let entries = ok.reply.entries.iter().map(|e| Entry {
            fileid: e.fileid,
            name: e.name.0.to_vec(),
            cookie: e.cookie,
            attr: e.name_attributes,
            fh: e.name_handle.map(|fh| fh.0.to_vec()),
        });
        Ok(Page {
            attr: ok.dir_attributes,
            verf: ok.cookieverf,
            entries: entries.collect(),
            eof: ok.reply.eof,
            resok_bytes: answer.bytes().len() - 4,
        })
    }

    /// The whole directory by READDIR with replies of at most `count` bytes.
    #[track_caller]
    pub fn list(&mut self, dir: &[u8], count: u32) -> Vec<Entry> {
        let mut all: Vec<Entry> = Vec::new();
        let (mut cookie, mut verf) = (0, [0; 8]);
        loop {
            let page = self.readdir(dir, cookie, verf, count).expect("READDIR");
            verf = page.verf;
            all.extend(page.entries);
            if page.eof {
                return all;
            }
            cookie = all.last().expect("no entries and no end").cookie;
        }
    }

    /// The same by READDIRPLUS.
    #[track_caller]
    pub fn list_plus(&mut self, dir: &[u8], counts: (u32, u32)) -> Vec<Entry> {
        let mut all: Vec<Entry> = Vec::new();
        let (mut cookie, mut verf) = (0, [0; 8]);
        loop {
            let page = self.readdirplus(dir, cookie, verf, counts);
            let page = page.expect("READDIRPLUS");
            verf = page.verf;
            all.extend(page.entries);
            if page.eof {
                return all;
            }
            cookie = all.last().expect("no entries and no end").cookie;
        }
    }

    /// FSSTAT.
    #[track_caller]
    pub fn fsstat(&mut self, fh: &[u8]) -> Done<Fsstat3ResOk> {
        let args = Fsstat3Args { fsroot: NfsFh3(fh) };
        let answer = self.nfs(Proc3::Fsstat, &args);
        done(Proc3::Fsstat, answer.results::<Fsstat3Res>())
    }

    /// FSINFO.
    #[track_caller]
    pub fn fsinfo(&mut self, fh: &[u8]) -> Done<Fsinfo3ResOk> {
        let args = Fsinfo3Args { fsroot: NfsFh3(fh) };
        let answer = self.nfs(Proc3::Fsinfo, &args);
        done(Proc3::Fsinfo, answer.results::<Fsinfo3Res>())
    }

    /// PATHCONF.
    #[track_caller]
    pub fn pathconf(&mut self, fh: &[u8]) -> Done<Pathconf3ResOk> {
        let args = Pathconf3Args { object: NfsFh3(fh) };
        let answer = self.nfs(Proc3::Pathconf, &args);
        done(Proc3::Pathconf, answer.results::<Pathconf3Res>())
    }

    /// COMMIT.
    #[track_caller]
    pub fn commit(&mut self, fh: &[u8], offset: u64, count: u32) -> Done<Commit3ResOk, WccData> {
        let args = Commit3Args {
            file: NfsFh3(fh),
            offset,
            count,
        };
        let answer = self.nfs(Proc3::Commit, &args);
        done(Proc3::Commit, answer.results::<Commit3Res>())
    }
}
