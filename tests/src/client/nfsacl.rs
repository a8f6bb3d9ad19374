//! The NFSACL side of the client, with ACLs in the short text form of acl(5).

use nfsd::nfs3::status::Nfsstat3;
use nfsd::nfs3::types::{Fattr3, NfsFh3, PostOpAttr};
use nfsd::nfsacl::types::{
    AclList, AclProc3, Aclent, Getacl3Args, Getacl3Res, NA_DEFAULT, NFS_ACL_PROGRAM, NFSACL_V3,
    Setacl3Args, Setacl3Res, mask,
};
use nfsd::xdr::Res;

use super::Client;
use super::nfs3::{Done, Fail};

/// A procedure of version 3.
pub const fn nfsacl3(proc: AclProc3) -> [u32; 3] {
    [NFS_ACL_PROGRAM, NFSACL_V3, proc.wire()]
}

/// A list of entries as wire triples: type, id, rights.
pub fn list(entries: &[(u32, u32, u32)]) -> AclList {
    let entries: Vec<Aclent> = entries
        .iter()
        .map(|&(kind, id, perm)| Aclent { kind, id, perm })
        .collect();
    AclList {
        count: entries.len() as u32,
        entries,
    }
}

/// The list of an ACL in short text form (`u::rw-,u:7:r--,g::r--,m::r--,o::---`), as the Linux client sends it: with a
/// mask in any case. Empty text is the empty list.
///
/// # Panics
/// On anything else.
pub fn from_text(text: &str, flag: u32) -> AclList {
    let entry = |part: &str| {
        let (who, rights) = part.rsplit_once(':').expect("WHO:RIGHTS");
        let (tag, id) = who.split_once(':').expect("TAG:ID");
        let kind = match (tag, id.is_empty()) {
            ("u", true) => 1,
            ("u", false) => 2,
            ("g", true) => 4,
            ("g", false) => 8,
            ("m", true) => 0x10,
            ("o", true) => 0x20,
            _ => panic!("{part}"),
        };
        let bit = |letter, bit| if rights.contains(letter) { bit } else { 0 };
        let perm = bit('r', 4) | bit('w', 2) | bit('x', 1);
        (kind | flag, id.parse().unwrap_or(0), perm)
    };
    let mut entries: Vec<(u32, u32, u32)> = text
        .split(',')
        .filter(|p| !p.is_empty())
        .map(entry)
        .collect();
    if let [_, (_, _, group), _] = entries[..] {
        entries.push((0x10 | flag, 0, group));
    }
    list(&entries)
}

/// A list in short text form, without the mask that only repeats the group.
///
/// # Panics
/// If an entry is none.
pub fn text(list: &AclList) -> String {
    let group = list.entries.iter().find(|e| e.kind & 0xfff == 4);
    let repeated = list.entries.len() == 4;
    let line = |entry: &Aclent| {
        let (tag, id) = match entry.kind & 0xfff {
            1 => ("u", String::new()),
            2 => ("u", entry.id.to_string()),
            4 => ("g", String::new()),
            8 => ("g", entry.id.to_string()),
            0x10 if repeated && group.is_some_and(|g| g.perm == entry.perm) => return None,
            0x10 => ("m", String::new()),
            0x20 => ("o", String::new()),
            other => panic!("type {other:#x}"),
        };
        let letter = |bit, letter| if entry.perm & bit != 0 { letter } else { '-' };
        let rights = [letter(4, 'r'), letter(2, 'w'), letter(1, 'x')];
        Some(format!("{tag}:{id}:{}", String::from_iter(rights)))
    };
    let lines: Vec<String> = list.entries.iter().filter_map(line).collect();
    lines.join(",")
}

/// What GETACL gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acls {
    /// The file's attributes.
    pub attr: Fattr3,
    /// The access ACL as it came.
    pub access: AclList,
    /// The default ACL as it came.
    pub default: AclList,
}

impl Client {
    /// GETACL with any mask.
    #[track_caller]
    pub fn getacl_mask(&mut self, fh: &[u8], mask: u32) -> Done<Acls> {
        let args = Getacl3Args {
            object: NfsFh3(fh),
            mask,
        };
        let answer = self.call(nfsacl3(AclProc3::Getacl), &args);
        match answer.results::<Getacl3Res>() {
            Res::Ok(ok) => {
                assert_eq!(ok.mask, mask, "what was asked for");
                Ok(Acls {
                    attr: ok.obj_attributes.expect("attributes"),
                    access: ok.access,
                    default: ok.default,
                })
            }
            Res::Fail(status, with) => Err(Fail { status, with }),
        }
    }

    /// Both ACLs in short text form; no default ACL is empty text.
    ///
    /// # Panics
    /// If there is an error, or the lists are not what a client may expect.
    #[track_caller]
    pub fn acls(&mut self, fh: &[u8]) -> (String, String) {
        let acls = self.getacl_mask(fh, mask::ALL).expect("GETACL");
        for (list, flag) in [(&acls.access, 0), (&acls.default, NA_DEFAULT)] {
            assert_eq!(list.count as usize, list.entries.len());
            assert!(list.entries.iter().all(|e| e.kind & !0x3f == flag));
            assert_ne!(list.count, 3, "there is always a mask");
        }
        (text(&acls.access), text(&acls.default))
    }

    /// SETACL with lists as they are.
    #[track_caller]
    pub fn setacl_lists(
        &mut self,
        fh: &[u8],
        mask: u32,
        access: AclList,
        default: AclList,
    ) -> Done<PostOpAttr> {
        let args = Setacl3Args {
            object: NfsFh3(fh),
            mask,
            access,
            default,
        };
        let answer = self.call(nfsacl3(AclProc3::Setacl), &args);
        match answer.results::<Setacl3Res>() {
            Res::Ok(attr) => Ok(attr),
            Res::Fail(status, with) => Err(Fail { status, with }),
        }
    }

    /// SETACL of ACLs in short text form, as the Linux client calls it; the status.
    #[track_caller]
    pub fn setacl(&mut self, fh: &[u8], access: Option<&str>, default: Option<&str>) -> Nfsstat3 {
        let args = setacl_args(fh, access, default);
        let set = self.setacl_lists(fh, args.mask, args.access, args.default);
        set.map_or_else(|fail| fail.status, |_| Nfsstat3::Ok)
    }
}

/// Arguments of SETACL.
pub fn setacl_args<'a>(
    fh: &'a [u8],
    access: Option<&str>,
    default: Option<&str>,
) -> Setacl3Args<'a> {
    let bit = |sent: bool, bit| if sent { bit } else { 0 };
    Setacl3Args {
        object: NfsFh3(fh),
        mask: bit(access.is_some(), mask::NA_ACL) | bit(default.is_some(), mask::NA_DFACL),
        access: from_text(access.unwrap_or(""), 0),
        default: from_text(default.unwrap_or(""), NA_DEFAULT),
    }
}
