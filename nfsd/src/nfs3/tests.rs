//! Laws of every NFS version 3, MOUNT, port mapper and AUTH_SYS type, and of directory listings.

use super::Proc3;
use super::args::*;
use super::dirlist::{DirlistEnc, Entry3, Entryplus3, Push};
use super::res::*;
use super::status::{Nfsstat3, customary, from_errno, listed, permitted};
use super::types::*;
use crate::mount::types as mount;
use crate::rpc::{auth::sys::AuthSys, portmap};
use crate::xdr::{Dec, Decode, Enc, Encode, Result, Sample, Tape, XdrError, pad_len};
use proptest::prelude::*;

fn bytes<T: Encode>(value: &T) -> Vec<u8> {
    let mut buf = Vec::new();
    Enc::new(&mut buf, usize::MAX).put(value).unwrap();
    buf
}

fn whole<'a, T: Decode<'a>>(raw: &'a [u8]) -> Result<T> {
    let mut dec = Dec::new(raw);
    let value = dec.get()?;
    dec.finish()?;
    Ok(value)
}

/// The laws of a wire type, for the value a tape gives, and with one word of it overwritten.
fn laws<D>(tape: &'static [u8], (at, word): (usize, u32))
where
    D: Decode<'static> + Encode + Sample<'static> + PartialEq + std::fmt::Debug,
{
    let value = D::sample(&mut Tape::new(tape));
    let raw: &'static [u8] = bytes(&value).leak();
    assert_eq!(raw.len() % 4, 0);
    assert_eq!(whole::<D>(raw).as_ref(), Ok(&value));
    // A cut value is an error, not a panic and not another value.
    for cut in 0..raw.len() {
        whole::<D>(&raw[..cut]).unwrap_err();
    }
    // An encoder with one byte less than needed says so.
    if !raw.is_empty() {
        let mut buf = Vec::new();
        let short = Enc::new(&mut buf, raw.len() - 1).put_or_rollback(&value);
        assert_eq!((short, buf.len()), (Err(XdrError::Full), 0));
    }
    // Whatever one hostile word does, what is accepted is encoded to something equal.
    let mut twisted = raw.to_vec();
    if let Some(slot) = twisted.chunks_exact_mut(4).nth(at % (raw.len() / 4).max(1)) {
        slot.copy_from_slice(&word.to_be_bytes());
    }
    let twisted: &'static [u8] = twisted.leak();
    if let Ok(value) = whole::<D>(twisted) {
        let again: &'static [u8] = bytes(&value).leak();
        assert_eq!(again.len(), twisted.len());
        assert_eq!(whole::<D>(again), Ok(value));
    }
}

macro_rules! laws_of {
    ($($name:ident: $($t:ty),*;)*) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(64))]
            $(#[test]
            fn $name(
                tape in proptest::collection::vec(any::<u8>(), 0..600),
                at in 0_usize..300,
                word in prop_oneof![any::<u32>(), 0_u32..9, Just(u32::MAX)],
            ) {
                let tape: &'static [u8] = tape.leak();
                $(laws::<$t>(tape, (at, word));)*
            })*
        }
    };
}

laws_of! {
    args_of_files: Getattr3Args<'static>, Setattr3Args<'static>, Access3Args<'static>, Readlink3Args<'static>, Read3Args<'static>,
        Write3Args<'static>, Commit3Args<'static>, Fsstat3Args<'static>, Fsinfo3Args<'static>, Pathconf3Args<'static>;
    args_of_names: Lookup3Args<'static>, Create3Args<'static>, Mkdir3Args<'static>, Symlink3Args<'static>, Mknod3Args<'static>,
        Remove3Args<'static>, Rmdir3Args<'static>, Rename3Args<'static>, Link3Args<'static>;
    args_of_listings: Readdir3Args<'static>, Readdirplus3Args<'static>;
    results_of_files: Getattr3Res, Setattr3Res, Access3Res, Readlink3Res<'static>, Read3Res<'static>, Write3Res,
        Commit3Res, Fsstat3Res, Fsinfo3Res, Pathconf3Res;
    results_of_names: Lookup3Res<'static>, Create3Res<'static>, Remove3Res, Rename3Res, Link3Res;
    results_of_listings: Readdir3Res<'static>, Readdirplus3Res<'static>;
    mount_types: mount::Dirpath<'static>, mount::Fhstatus, mount::Mountres3<'static>, mount::Mountlist<'static>,
        mount::Exports<'static>;
    portmap_types: portmap::Mapping, portmap::PmapList<'static>, portmap::Rpcb<'static>, portmap::RpcbList<'static>,
        portmap::RpcbString<'static>;
    auth_sys: AuthSys<'static>;
}

fn time(n: u32) -> Nfstime3 {
    Nfstime3 {
        seconds: n,
        nseconds: n + 1,
    }
}

fn fattr() -> Fattr3 {
    Fattr3 {
        ftype: Ftype3::Reg,
        mode: 0o644,
        nlink: 2,
        uid: 3,
        gid: 4,
        size: 5 << 32,
        used: 6,
        rdev: Specdata3 {
            specdata1: 7,
            specdata2: 8,
        },
        fsid: 9,
        fileid: 10,
        atime: time(11),
        mtime: time(13),
        ctime: time(15),
    }
}

#[test]
fn fattr3_on_the_wire() {
    let words: Vec<u32> = bytes(&fattr())
        .chunks_exact(4)
        .map(|w| u32::from_be_bytes(w.try_into().unwrap()))
        .collect();
    let want = [
        1, 0o644, 2, 3, 4, 5, 0, 0, 6, 7, 8, 0, 9, 0, 10, 11, 12, 13, 14, 15, 16,
    ];
    assert_eq!(words, want);
}

#[test]
fn read_head_and_segment_make_a_result() {
    for len in 0..9_u32 {
        let data = vec![7; len as usize];
        let head = Read3ResHead {
            file_attributes: Some(fattr()),
            count: len,
            eof: true,
        };
        let mut split = bytes(&head);
        split.extend(&data);
        split.resize(split.len() + pad_len(data.len()), 0);
        let ok = Read3ResOk {
            file_attributes: Some(fattr()),
            count: len,
            eof: true,
            data: Data3(&data),
        };
        assert_eq!(split, bytes(&Read3Res::Ok(ok)));
    }
}

#[test]
fn unknown_node_types_reach_the_procedure() {
    for ftype in [0_u32, 1, 2, 5, 8, u32::MAX] {
        assert_eq!(
            whole::<Mknoddata3>(&ftype.to_be_bytes()),
            Ok(Mknoddata3::Other(ftype))
        );
    }
    assert_eq!(whole::<Createhow3>(&[0, 0, 0, 3]), Err(XdrError::BadEnum));
    assert_eq!(whole::<SetTime>(&[0, 0, 0, 3]), Err(XdrError::BadEnum));
}

#[test]
fn handles_have_a_maximum() {
    let mut raw = vec![0, 0, 0, 68];
    raw.resize(72, 1);
    assert_eq!(whole::<NfsFh3<'_>>(&raw), Err(XdrError::TooLong));
    raw[3] = 64;
    raw.truncate(68);
    assert!(whole::<NfsFh3<'_>>(&raw).is_ok());
    assert_eq!(
        Enc::new(&mut vec![], 99).put(&NfsFh3(&[0; 65])),
        Err(XdrError::TooLong)
    );
}

/// No type that is decoded owns memory, so no length on the wire can make decoding allocate. (Two
/// types hold an `ArrayVec`, whose elements are inside the value.)
#[test]
fn decoding_cannot_allocate() {
    const {
        assert!(!std::mem::needs_drop::<(
            Write3Args<'_>,
            Symlink3Args<'_>,
            Create3Args<'_>,
            Mknod3Args<'_>
        )>());
        assert!(!std::mem::needs_drop::<(
            Rename3Args<'_>,
            Link3Args<'_>,
            Setattr3Args<'_>
        )>());
        assert!(!std::mem::needs_drop::<(
            Readdir3Args<'_>,
            Readdirplus3Args<'_>
        )>());
        assert!(!std::mem::needs_drop::<(
            Readdirplus3Res<'_>,
            mount::Exports<'_>,
            portmap::RpcbList<'_>
        )>());
        assert!(!std::mem::needs_drop::<crate::rpc::msg::Call<'_>>());
    }
}

#[test]
fn errnos() {
    assert_eq!(from_errno(0), Nfsstat3::Ok);
    for (errno, status) in [
        (libc::EPERM, Nfsstat3::Perm),
        (libc::EDQUOT, Nfsstat3::Dquot),
        (libc::ESTALE, Nfsstat3::Stale),
        (libc::EOPNOTSUPP, Nfsstat3::Notsupp),
        (libc::EMFILE, Nfsstat3::Jukebox),
        (libc::ENAMETOOLONG, Nfsstat3::Nametoolong),
        (libc::ETXTBSY, Nfsstat3::Io),
        (-1, Nfsstat3::Io),
        (i32::MAX, Nfsstat3::Io),
    ] {
        assert_eq!(from_errno(errno), status, "{errno}");
    }
    // Below 35 the numbers are those of the first Unix errno list, and so is the mapping.
    for status in Nfsstat3::ALL
        .iter()
        .filter(|s| s.wire() < 35 && s.wire() != 0)
    {
        assert_eq!(from_errno(status.wire() as i32), *status);
    }
}

#[test]
fn permitted_errors() {
    for procedure in Proc3::ALL {
        let all: Vec<Nfsstat3> = listed(*procedure).chain(customary(*procedure)).collect();
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(all.len(), distinct.len(), "{procedure}: listed twice");
        assert_eq!(
            all.is_empty(),
            *procedure == Proc3::Null,
            "{procedure} has a row"
        );
        assert!(permitted(*procedure, Nfsstat3::Ok));
        if *procedure != Proc3::Null {
            for status in [
                Nfsstat3::Stale,
                Nfsstat3::Badhandle,
                Nfsstat3::Serverfault,
                Nfsstat3::Jukebox,
            ] {
                assert!(permitted(*procedure, status), "{procedure} {status}");
            }
        }
        assert!(!permitted(*procedure, Nfsstat3::Remote));
    }
    assert!(!permitted(Proc3::Getattr, Nfsstat3::Noent));
    assert!(permitted(Proc3::Setattr, Nfsstat3::NotSync));
}

const VERF: Cookieverf3 = *b"verifier";

fn entry(name: &[u8], n: u64) -> Entry3<'_> {
    Entry3 {
        fileid: n,
        name: Filename3(name),
        cookie: n + 1,
    }
}

/// Lists `names`; gives the reply and how many fitted.
fn list(
    names: &[Vec<u8>],
    attrs: PostOpAttr,
    maxcount: u32,
    room: usize,
) -> (Vec<u8>, Option<usize>) {
    let mut buf = b"head".to_vec();
    let mut enc = Enc::new(&mut buf, room);
    let Ok(mut list) = DirlistEnc::begin(&mut enc, &attrs, &VERF, maxcount, None) else {
        return (buf, None);
    };
    let fitted = names
        .iter()
        .enumerate()
        .take_while(|(i, name)| list.push(&entry(name, *i as u64)) == Push::Added)
        .count();
    assert_eq!(list.entries(), fitted);
    let done = list.finish(fitted == names.len());
    (buf, done.is_ok().then_some(fitted))
}

proptest! {
    /// The listing holds exactly the entries that fit: the reply is never above the limit, and one
    /// entry more would be.
    #[test]
    fn listings_are_exact(
        names in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..30), 0..20),
        attrs in any::<bool>(),
        maxcount in 0_u32..800,
        room in prop_oneof![Just(usize::MAX), 0_usize..800],
    ) {
        let attrs = attrs.then(fattr);
        let (raw, fitted) = list(&names, attrs, maxcount, room);
        let limit = (maxcount as usize).min(room.saturating_sub(4));
        // Size of a resok with the first n entries.
        let size = |n: usize| {
            let entries: usize = names[..n].iter().map(|e| 24 + e.len() + pad_len(e.len())).sum();
            (if attrs.is_some() { 88 } else { 4 }) + 8 + entries + 8
        };
        let best = (0..=names.len()).rev().find(|n| size(*n) <= limit);
        let best = best.filter(|n| *n > 0 || names.is_empty());
        prop_assert_eq!(fitted, best);
        let Some(n) = fitted else {
            prop_assert_eq!(raw, b"head");
            return Ok(());
        };
        prop_assert_eq!(raw.len(), 4 + 4 + size(n));
        let Ok(Readdir3Res::Ok(res)) = whole(&raw[4..]) else { panic!("not a listing") };
        prop_assert_eq!((res.dir_attributes, res.cookieverf), (attrs, VERF));
        prop_assert_eq!(res.reply.eof, n == names.len());
        let got: Vec<Entry3<'_>> = res.reply.entries.iter().collect();
        let want: Vec<Entry3<'_>> =
            names[..n].iter().enumerate().map(|(i, e)| entry(e, i as u64)).collect();
        prop_assert_eq!(got, want);
    }

    /// dircount limits fileids, names and cookies, and never the first entry.
    #[test]
    fn dircount(lens in proptest::collection::vec(1_usize..30, 1..20), dircount in 0_u32..600) {
        let name = [b'n'; 30];
        let mut buf = Vec::new();
        let mut enc = Enc::new(&mut buf, usize::MAX);
        let mut list = DirlistEnc::begin(&mut enc, &None, &VERF, 1 << 20, Some(dircount)).unwrap();
        let (mut used, mut want) = (0, 0);
        for (i, len) in lens.iter().enumerate() {
            used += 20 + len + pad_len(*len);
            let plus = Entryplus3 {
                fileid: 1,
                name: Filename3(&name[..*len]),
                cookie: 2,
                name_attributes: Some(fattr()),
                name_handle: Some(NfsFh3(&name)),
            };
            let fits = i == 0 || used <= dircount as usize;
            prop_assert_eq!(list.push(&plus), if fits { Push::Added } else { Push::Full });
            if !fits {
                break;
            }
            want += 1;
        }
        list.finish(false).unwrap();
        let Ok(Readdirplus3Res::Ok(res)) = whole(&buf) else { panic!("not a listing") };
        prop_assert_eq!(res.reply.entries.iter().count(), want);
    }
}

#[test]
fn an_entry_that_does_not_fit_may_be_followed_by_a_smaller_one() {
    let mut buf = Vec::new();
    let mut enc = Enc::new(&mut buf, usize::MAX);
    let mut list = DirlistEnc::begin(&mut enc, &None, &VERF, 4 + 8 + 8 + 28, None).unwrap();
    assert_eq!(list.room(), 28);
    assert_eq!(list.push(&entry(b"toolong", 1)), Push::Full);
    assert_eq!(list.push(&entry(b"fits", 1)), Push::Added);
    assert_eq!(list.room(), 0);
    list.finish(true).unwrap();
    assert_eq!(buf.len(), 4 + 48);
}

#[test]
fn an_abandoned_listing_leaves_nothing() {
    let mut buf = vec![1];
    let mut enc = Enc::new(&mut buf, usize::MAX);
    let mut list = DirlistEnc::begin(&mut enc, &None, &VERF, 1000, None).unwrap();
    assert_eq!(list.push(&entry(b"name", 1)), Push::Added);
    list.abandon();
    assert_eq!(buf, [1]);
}
