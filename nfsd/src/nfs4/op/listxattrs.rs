//! LISTXATTRS: a page of the names of extended attributes (RFC 8276 8.4.3).
//!
//! Names go in order of a hash, which is the cookie: attributes that come and go between two pages
//! neither repeat nor hide others.

use std::hash::Hasher;

use siphasher::sip::SipHasher24;

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Component4, Count4};
use crate::xdr::{opaque_len, xdr_struct};

xdr_struct! {
    /// `LISTXATTRS4args`.
    pub struct ListxattrsArgs {
        /// Go on after this; 0 to begin.
        pub cookie: u64,
        /// Most bytes of the results.
        pub maxcount: Count4,
    }
}

/// Bytes of the results beside the names: cookie, number of names, end of the list.
const FRAME: usize = 8 + 4 + 4;

/// Names of one page.
#[derive(Debug, PartialEq, Eq)]
struct Page {
    /// Of the last name.
    cookie: u64,
    names: Vec<Box<[u8]>>,
    eof: bool,
}

/// Where a name stands; never 0.
fn place(name: &[u8]) -> u64 {
    let mut hasher = SipHasher24::new();
    hasher.write(name);
    hasher.finish().max(1)
}

/// The names behind `cookie`, as many as go into `limit` bytes.
///
/// # Errors
/// `TOOSMALL`.
fn page(names: Vec<Box<[u8]>>, cookie: u64, limit: usize) -> Result<Page, Nfsstat4> {
    let mut left = limit.checked_sub(FRAME).ok_or(Nfsstat4::Toosmall)?;
    let mut all: Vec<(u64, Box<[u8]>)> = names.into_iter().map(|n| (place(&n), n)).collect();
    all.retain(|(at, _)| *at > cookie);
    all.sort_unstable();
    let number = all.len();
    let mut page = Page {
        cookie,
        names: Vec::new(),
        eof: false,
    };
    for (at, name) in all {
        let len = opaque_len(name.len());
        if len > left {
            break;
        }
        left -= len;
        page.cookie = at;
        page.names.push(name);
    }
    page.eof = page.names.len() == number;
    if page.names.is_empty() && number > 0 {
        return Err(Nfsstat4::Toosmall);
    }
    Ok(page)
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: ListxattrsArgs,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let opened = c.with_xattrs()?;
    let limit = (args.maxcount as usize).min(c.room(out));
    let vfs = &c.cx.server.vfs;
    let names = vfs.listxattr(&opened.cred, &opened.file).await?;
    let page = page(names, args.cookie, limit)?;
    out.put(&page.cookie)?;
    out.put(&(page.names.len() as u32))?;
    for name in &page.names {
        out.put(&Component4(name))?;
    }
    out.put(&page.eof)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_empty_list_takes_room_as_well() {
        let empty = Page {
            cookie: 0,
            names: Vec::new(),
            eof: true,
        };
        assert_eq!(page(Vec::new(), 0, 16), Ok(empty));
        assert_eq!(page(Vec::new(), 0, 15), Err(Nfsstat4::Toosmall));
        let one = vec![Box::from(&b"name1"[..])];
        assert_eq!(page(one.clone(), 0, 27), Err(Nfsstat4::Toosmall));
        assert!(page(one, 0, 28).expect("a page").eof);
    }

    proptest! {
        #[test]
        fn pages_together_are_the_list(
            names in proptest::collection::btree_set(proptest::collection::vec(any::<u8>(), 1..40), 0..40),
            limit in 60_usize..400,
        ) {
            let list: Vec<Box<[u8]>> = names.iter().map(|n| n.as_slice().into()).collect();
            let (mut cookie, mut seen) = (0, BTreeSet::new());
            loop {
                let page = page(list.clone(), cookie, limit).expect("every name fits");
                let bytes: usize = page.names.iter().map(|n| opaque_len(n.len())).sum();
                prop_assert!(bytes + FRAME <= limit);
                for name in page.names {
                    prop_assert!(seen.insert(name.into_vec()), "twice");
                }
                if page.eof {
                    break;
                }
                prop_assert!(page.cookie > cookie, "no progress");
                cookie = page.cookie;
            }
            prop_assert_eq!(seen, names);
        }
    }
}
