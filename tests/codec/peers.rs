//! Against nfs3_types, on valid bytes: the same encoding, and the same field by name.

use super::{Numbers, SAMPLES, TYPES, encode, samples};
use nfs3_types::xdr_codec::{Pack, Unpack};
use nfs3_types::{mount as mount3, nfs3, portmap as pmap};
use nfsd::nfs3::types as ours;
use nfsd::nfs3::{args, res};
use nfsd::xdr::{Res, Sample, Tape};

/// Decodes and encodes with nfs3_types.
fn recode<T: Pack + Unpack>(mut raw: &[u8]) -> Result<Vec<u8>, String> {
    let (value, _) = T::unpack(&mut raw).map_err(|error| format!("{error:?}"))?;
    if !raw.is_empty() {
        return Err(format!("{} bytes left", raw.len()));
    }
    let mut out = Vec::new();
    value.pack(&mut out).map_err(|error| format!("{error:?}"))?;
    Ok(out)
}

type Recode = fn(&[u8]) -> Result<Vec<u8>, String>;

macro_rules! peer_types {
    ($($t:ident $(<$($lt:lifetime),*>)?)*) => {
        &[$((stringify!($t), recode::<nfs3::$t $(<$($lt),*>)?> as Recode),)*]
    };
}

const PEER: &[(&str, Recode)] = peer_types! {
    GETATTR3args SETATTR3args LOOKUP3args<'_> ACCESS3args READLINK3args READ3args WRITE3args<'_> CREATE3args<'_>
    MKDIR3args<'_> SYMLINK3args<'_> MKNOD3args<'_> REMOVE3args<'_> RMDIR3args<'_> RENAME3args<'_, '_> LINK3args<'_> READDIR3args
    READDIRPLUS3args FSSTAT3args FSINFO3args PATHCONF3args COMMIT3args
    GETATTR3res SETATTR3res LOOKUP3res ACCESS3res READLINK3res<'_> READ3res<'_> WRITE3res CREATE3res MKDIR3res
    SYMLINK3res MKNOD3res REMOVE3res RMDIR3res RENAME3res LINK3res READDIR3res<'_> READDIRPLUS3res<'_> FSSTAT3res
    FSINFO3res PATHCONF3res COMMIT3res
};

const OTHERS: &[(&str, Recode)] = &[
    ("dirpath", recode::<mount3::dirpath<'_>>),
    ("mountres3", recode::<mount3::mountres3<'_>>),
    ("mountlist", recode::<mount3::mountlist<'_, '_>>),
    ("exports", recode::<mount3::exports<'_, '_>>),
    ("x_mapping", recode::<pmap::mapping>),
    ("x_pmaplist", recode::<pmap::pmaplist>),
    ("x_authsys_parms", recode::<nfs3_types::rpc::auth_unix>),
];

#[test]
fn nfs3_types_reads_what_we_write() {
    for (name, recode) in PEER.iter().chain(OTHERS) {
        let kind = TYPES
            .iter()
            .find(|kind| kind.name == *name)
            .expect("is a type of ours");
        let mut compared = 0;
        for raw in samples(kind) {
            let theirs = recode(&raw);
            // Type 0 of MKNOD: we keep it, to answer BADTYPE; the peer refuses the call.
            if *name == "MKNOD3args" && raw.ends_with(&[0; 4]) && theirs.is_err() {
                continue;
            }
            assert_eq!(theirs.as_deref(), Ok(&raw[..]), "{name} {raw:02x?}");
            compared += 1;
        }
        assert!(
            compared > SAMPLES / 3,
            "{name}: only {compared} values compared"
        );
    }
}

/// A value of ours, and what the peer decodes from its encoding.
fn both<O, P>(seed: u64) -> (O, P)
where
    O: Sample<'static> + nfsd::xdr::Encode,
    P: Unpack,
{
    let value = O::sample(&mut Tape::new(Numbers(seed).tape()));
    let raw = encode(&value);
    let (peer, used) = P::unpack(&mut &raw[..]).expect("valid");
    assert_eq!(used, raw.len());
    (value, peer)
}

/// Asserts that fields of the same meaning have the same value; two fields swapped would still encode and decode.
macro_rules! same {
    ($ours:expr, $peer:expr; $($field:ident)*) => {
        $(assert_eq!($ours.$field, $peer.$field, stringify!($field));)*
    };
}

fn same_time(ours: ours::Nfstime3, peer: &nfs3::nfstime3) {
    same!(ours, peer; seconds nseconds);
}

fn same_fattr(ours: &ours::Fattr3, peer: &nfs3::fattr3) {
    same!(ours, peer; mode nlink uid gid size used fsid fileid);
    same!(ours.rdev, peer.rdev; specdata1 specdata2);
    assert_eq!(ours.ftype.wire(), peer.type_ as u32);
    same_time(ours.atime, &peer.atime);
    same_time(ours.mtime, &peer.mtime);
    same_time(ours.ctime, &peer.ctime);
}

fn same_post(ours: &ours::PostOpAttr, peer: &nfs3::post_op_attr) {
    match (ours, peer) {
        (None, nfs3::Nfs3Option::None) => {}
        (Some(ours), nfs3::Nfs3Option::Some(peer)) => same_fattr(ours, peer),
        _ => panic!("{ours:?} {peer:?}"),
    }
}

fn same_wcc(ours: &ours::WccData, peer: &nfs3::wcc_data) {
    same_post(&ours.after, &peer.after);
    match (&ours.before, &peer.before) {
        (None, nfs3::Nfs3Option::None) => {}
        (Some(ours), nfs3::Nfs3Option::Some(peer)) => {
            same!(ours, peer; size);
            same_time(ours.mtime, &peer.mtime);
            same_time(ours.ctime, &peer.ctime);
        }
        _ => panic!("{ours:?} {peer:?}"),
    }
}

/// The success arms of both, when it is one.
fn resok<T, F, P, E>(
    ours: Res<nfsd::nfs3::status::Nfsstat3, T, F>,
    peer: nfs3::Nfs3Result<P, E>,
) -> Option<(T, P)> {
    match (ours, peer) {
        (Res::Ok(ours), nfs3::Nfs3Result::Ok(peer)) => Some((ours, peer)),
        (Res::Fail(status, _), nfs3::Nfs3Result::Err((peer, _))) => {
            assert_eq!(status.wire(), peer as u32);
            None
        }
        _ => panic!("different arms"),
    }
}

#[test]
fn fields_of_arguments() {
    for seed in 0..SAMPLES {
        let (o, p): (args::Read3Args<'_>, nfs3::READ3args) = both(seed);
        same!(o, p; offset count);
        let (o, p): (args::Write3Args<'_>, nfs3::WRITE3args<'_>) = both(seed);
        same!(o, p; offset count);
        assert_eq!(o.stable.wire(), p.stable as u32);
        assert_eq!(o.data.0, &p.data[..]);
        let (o, p): (args::Commit3Args<'_>, nfs3::COMMIT3args) = both(seed);
        same!(o, p; offset count);
        let (o, p): (args::Readdir3Args<'_>, nfs3::READDIR3args) = both(seed);
        same!(o, p; cookie count);
        assert_eq!(o.cookieverf, p.cookieverf.0);
        let (o, p): (args::Readdirplus3Args<'_>, nfs3::READDIRPLUS3args) = both(seed);
        same!(o, p; cookie dircount maxcount);
        let (o, p): (args::Rename3Args<'_>, nfs3::RENAME3args<'_, '_>) = both(seed);
        assert_eq!(
            (o.from.name.0, o.to.name.0),
            (&p.from.name.0[..], &p.to.name.0[..])
        );
        let (o, p): (args::Setattr3Args<'_>, nfs3::SETATTR3args) = both(seed);
        let set = |o: Option<u32>, p: nfs3::Nfs3Option<u32>| match p {
            nfs3::Nfs3Option::None => assert_eq!(o, None),
            nfs3::Nfs3Option::Some(p) => assert_eq!(o, Some(p)),
        };
        set(o.new_attributes.mode, p.new_attributes.mode);
        set(o.new_attributes.uid, p.new_attributes.uid);
        set(o.new_attributes.gid, p.new_attributes.gid);
        match (o.new_attributes.atime, &p.new_attributes.atime) {
            (ours::SetTime::DontChange, nfs3::set_atime::DONT_CHANGE)
            | (ours::SetTime::SetToServerTime, nfs3::set_atime::SET_TO_SERVER_TIME) => {}
            (ours::SetTime::SetToClientTime(o), nfs3::set_atime::SET_TO_CLIENT_TIME(p)) => {
                same_time(o, p)
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn fields_of_results() {
    for seed in 0..SAMPLES {
        let (o, p): (res::Getattr3Res, nfs3::GETATTR3res) = both(seed);
        if let Some((o, p)) = resok(o, p) {
            same_fattr(&o.obj_attributes, &p.obj_attributes);
        }
        let (o, p): (res::Lookup3Res<'_>, nfs3::LOOKUP3res) = both(seed);
        if let Some((o, p)) = resok(o, p) {
            same_post(&o.obj_attributes, &p.obj_attributes);
            same_post(&o.dir_attributes, &p.dir_attributes);
        }
        let (o, p): (res::Write3Res, nfs3::WRITE3res) = both(seed);
        if let Some((o, p)) = resok(o, p) {
            same_wcc(&o.file_wcc, &p.file_wcc);
            same!(o, p; count);
            assert_eq!((o.committed.wire(), o.verf), (p.committed as u32, p.verf.0));
        }
        let (o, p): (res::Rename3Res, nfs3::RENAME3res) = both(seed);
        if let Some((o, p)) = resok(o, p) {
            same_wcc(&o.fromdir_wcc, &p.fromdir_wcc);
            same_wcc(&o.todir_wcc, &p.todir_wcc);
        }
        let (o, p): (res::Fsstat3Res, nfs3::FSSTAT3res) = both(seed);
        if let Some((o, p)) = resok(o, p) {
            same!(o, p; tbytes fbytes abytes tfiles ffiles afiles invarsec);
        }
        let (o, p): (res::Fsinfo3Res, nfs3::FSINFO3res) = both(seed);
        if let Some((o, p)) = resok(o, p) {
            same!(o, p; rtmax rtpref rtmult wtmax wtpref wtmult dtpref maxfilesize properties);
            same_time(o.time_delta, &p.time_delta);
        }
        let (o, p): (res::Pathconf3Res, nfs3::PATHCONF3res) = both(seed);
        if let Some((o, p)) = resok(o, p) {
            same!(o, p; linkmax name_max no_trunc chown_restricted case_insensitive case_preserving);
        }
        let (o, p): (res::Readdirplus3Res<'_>, nfs3::READDIRPLUS3res<'_>) = both(seed);
        if let Some((o, p)) = resok(o, p) {
            let peers = p.reply.entries.into_inner();
            assert_eq!(o.reply.entries.iter().count(), peers.len());
            for (o, p) in o.reply.entries.iter().zip(peers) {
                same!(o, p; fileid cookie);
                assert_eq!(o.name.0, &p.name.0[..]);
                same_post(&o.name_attributes, &p.name_attributes);
            }
        }
    }
}
