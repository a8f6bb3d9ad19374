//! What READDIR and READDIRPLUS have in common (RFC 1813 3.3.16, 3.3.17): reading a page of a
//! directory and filling the reply with it.

use vfs::{DirEntry, DirPage};

use super::reply::{attributes, put_failed};
use crate::cx::{Cx, Opened, Reply};
use crate::nfs3::Proc3;
use crate::nfs3::attr::post_op;
use crate::nfs3::dirlist::{DirlistEnc, Push};
use crate::nfs3::status::Nfsstat3;
use crate::nfs3::types::{Cookie3, Cookieverf3, Count3, PostOpAttr};
use crate::xdr::XdrError;

/// Where to go on, and how much to answer.
pub struct Wanted {
    /// READDIR or READDIRPLUS.
    pub procedure: Proc3,
    /// Position after which to go on.
    pub cookie: Cookie3,
    /// What came with it.
    pub cookieverf: Cookieverf3,
    /// Most bytes of fileids, names and cookies.
    pub dircount: Option<Count3>,
    /// Most bytes of the results after the status.
    pub maxcount: Count3,
}

/// Least bytes of one entry that count against `dircount`: fileid, name of one to four bytes, cookie.
const DIR_BYTES_MIN: usize = 24;
/// What one such entry takes of a page of READDIRPLUS, at most.
const PLUS_BYTES: usize = 180;

impl Wanted {
    /// Bytes of a page worth reading: not more entries than can be answered.
    fn page_bytes(&self) -> usize {
        let maxcount = self.maxcount as usize;
        self.dircount.map_or(maxcount, |dircount| {
            let entries = (dircount as usize / DIR_BYTES_MIN).saturating_add(1);
            maxcount.min(entries.saturating_mul(PLUS_BYTES))
        })
    }
}

/// Appends a failure; both procedures fail in the same form.
pub fn fail(
    procedure: Proc3,
    status: Nfsstat3,
    dir: PostOpAttr,
    reply: &mut Reply,
) -> Result<(), XdrError> {
    put_failed(procedure, status, dir, reply)
}

/// Appends a failure before the directory was read, with its attributes.
pub async fn refuse(
    cx: &Cx,
    dir: &Opened,
    procedure: Proc3,
    status: Nfsstat3,
    reply: &mut Reply,
) -> Result<(), XdrError> {
    fail(procedure, status, attributes(cx, dir).await, reply)
}

/// Reads a page and appends as many of its entries as fit, each added by `push`.
pub async fn list(
    cx: &Cx,
    dir: &Opened,
    wanted: Wanted,
    push: impl Fn(&mut DirlistEnc<'_, '_>, &DirEntry) -> Push,
    reply: &mut Reply,
) -> Result<(), XdrError> {
    let wanted = Wanted {
        maxcount: wanted.maxcount.min(cx.server.page_max()),
        ..wanted
    };
    let plus = wanted.procedure == Proc3::Readdirplus;
    let (cookie, verifier) = (wanted.cookie, wanted.cookieverf);
    let vfs = &cx.server.vfs;
    let listed = vfs
        .readdir(
            &dir.cred,
            &dir.file,
            cookie,
            verifier,
            wanted.page_bytes(),
            plus,
        )
        .await;
    let attributes = post_op(&dir.file, listed.dir.as_ref());
    let result = listed.result.map(|mut page| {
        // As LOOKUP has it: the export's root is its own parent.
        if let (true, Some(own)) = (cx.is_root(dir), &listed.dir)
            && let Some(parent) = page.entries.iter_mut().find(|e| *e.name == *b"..")
        {
            parent.fileid = own.fileid;
        }
        page
    });
    match result {
        Ok(page) => match fill(&wanted, &page, &attributes, push, reply) {
            Ok(()) => Ok(()),
            // Not even the first entry fits.
            Err(_) => fail(wanted.procedure, Nfsstat3::Toosmall, attributes, reply),
        },
        Err(e) => fail(wanted.procedure, e.into(), attributes, reply),
    }
}

/// Without an entry that fits, nothing is appended.
fn fill(
    wanted: &Wanted,
    page: &DirPage,
    attributes: &PostOpAttr,
    push: impl Fn(&mut DirlistEnc<'_, '_>, &DirEntry) -> Push,
    reply: &mut Reply,
) -> Result<(), XdrError> {
    let mut enc = reply.enc();
    let (maxcount, dircount) = (wanted.maxcount, wanted.dircount);
    let mut list = DirlistEnc::begin(&mut enc, attributes, &page.verifier, maxcount, dircount)?;
    let all = page
        .entries
        .iter()
        .all(|entry| push(&mut list, entry) == Push::Added);
    list.finish(page.eof && all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nfs3::dirlist::{Dirlist3, Entry3};
    use crate::nfs3::res::Readdir3Res;
    use crate::nfs3::types::Filename3;
    use crate::xdr::{Dec, Res};

    fn wanted(maxcount: u32, dircount: Option<u32>) -> Wanted {
        Wanted {
            procedure: Proc3::Readdir,
            cookie: 0,
            cookieverf: [0; 8],
            dircount,
            maxcount,
        }
    }

    fn page(names: u64, eof: bool) -> DirPage {
        let entry = |n: u64| DirEntry {
            name: format!("name{n:04}").into_bytes().into(),
            fileid: n,
            cookie: n + 100,
            node: None,
        };
        DirPage {
            verifier: [7; 8],
            entries: (0..names).map(entry).collect(),
            eof,
        }
    }

    fn push(list: &mut DirlistEnc<'_, '_>, entry: &DirEntry) -> Push {
        list.push(&Entry3 {
            fileid: entry.fileid,
            name: Filename3(&entry.name),
            cookie: entry.cookie,
        })
    }

    /// Bytes of a list of `names` entries: attributes flag, verifier, entries, end.
    const fn size(names: u32) -> u32 {
        4 + 8 + names * (4 + 8 + 12 + 8) + 8
    }

    #[test]
    fn eof_only_when_the_last_entry_is_in() {
        for (room, eof, expected) in [
            (size(5), true, (5, true)),
            (size(5), false, (5, false)),
            (size(5) - 1, true, (4, false)),
            (size(1), true, (1, false)),
        ] {
            let mut reply = Reply::default();
            fill(&wanted(room, None), &page(5, eof), &None, push, &mut reply).expect("fits");
            let res: Readdir3Res<'_> = Dec::new(&reply.bytes).get().expect("decodes");
            let Res::Ok(ok) = res else { panic!("{res:?}") };
            let Dirlist3 { entries, eof } = ok.reply;
            assert_eq!((entries.iter().count(), eof), expected);
            assert!(reply.bytes.len() as u32 - 4 <= room);
        }
    }

    #[test]
    fn too_small_leaves_nothing_behind() {
        for room in [0, 11, 19, size(1) - 1] {
            let mut reply = Reply::default();
            let result = fill(&wanted(room, None), &page(5, true), &None, push, &mut reply);
            assert_eq!(
                (result, reply.bytes.len()),
                (Err(XdrError::Full), 0),
                "{room}"
            );
        }
        let mut reply = Reply::default();
        fill(
            &wanted(size(0), None),
            &page(0, true),
            &None,
            push,
            &mut reply,
        )
        .expect("empty");
    }

    #[test]
    fn a_page_is_no_larger_than_what_may_be_answered() {
        assert_eq!(wanted(4096, None).page_bytes(), 4096);
        assert_eq!(wanted(4096, Some(4096)).page_bytes(), 4096);
        assert_eq!(wanted(65536, Some(240)).page_bytes(), 11 * 180);
        assert_eq!(
            wanted(u32::MAX, Some(u32::MAX)).page_bytes(),
            u32::MAX as usize
        );
    }
}
