//! The table is whole, and says what the RFCs say.

use super::*;
use crate::nfs4::MINOR_MAX;

#[test]
fn every_operation_has_a_row() {
    let listed: Vec<u32> = ROWS.iter().map(|row| row.0.wire()).collect();
    assert!(listed.is_sorted_by(|a, b| a < b), "{listed:?}");
    for op in Op4::ALL {
        assert_eq!(row(*op).is_some(), *op != Op4::Illegal, "{op}");
    }
}

#[test]
fn no_row_says_a_thing_twice() {
    for (op, sets, common, only_40, since_41, customary) in ROWS {
        let listed = |version: List, session: List, status: &Nfsstat4| {
            let lists = [*common, version, session, EVERY];
            let times = lists.iter().filter(|list| list.contains(status)).count();
            // Sets may overlap each other.
            times + usize::from(sets.iter().any(|set| set.contains(status)))
        };
        for status in Nfsstat4::ALL {
            let (old, new) = (
                listed(only_40, EVERY_40, status),
                listed(since_41, EVERY_41, status),
            );
            assert!(old <= 1 && new <= 1, "{op} {status}");
            let both = only_40.contains(status) && since_41.contains(status);
            assert!(!both, "{op} {status} is common");
            let known = customary.contains(status) && old == 1 && new == 1;
            assert!(!known, "{op} {status} is not merely customary");
        }
    }
}

#[test]
fn a_restricted_status_is_permitted_and_stays() {
    for op in Op4::ALL {
        for minor in 0..=MINOR_MAX {
            for status in Nfsstat4::ALL {
                let answer = restrict(*op, minor, *status);
                assert!(permitted(*op, minor, answer), "{op} 4.{minor} {status}");
                assert_eq!(restrict(*op, minor, answer), answer);
                if permitted(*op, minor, *status) {
                    assert_eq!(answer, *status);
                }
                // No failure becomes a success.
                assert_eq!(answer == Nfsstat4::Ok, {
                    let here = (op.minors().0..=op.minors().1).contains(&minor);
                    *status == Nfsstat4::Ok && here && *op != Op4::Illegal
                });
            }
        }
    }
}

#[test]
fn statuses_of_later_versions_are_not_in_earlier_ones() {
    let later = |status: Nfsstat4| (Badiomode.wire()..=Xattr2big.wire()).contains(&status.wire());
    for op in Op4::ALL.iter().filter(|op| op.minors().0 == 0) {
        for status in Nfsstat4::ALL.iter().filter(|status| later(**status)) {
            assert!(!permitted(*op, 0, *status), "{op} {status}");
        }
        for status in [Resource, StaleStateid, BadSeqid, LeaseMoved, Restorefh] {
            assert!(!permitted(*op, 1, status), "{op} {status}");
        }
    }
}

/// Rows as the RFCs have them, to be sure that the table was not cut wrongly.
#[test]
#[rustfmt::skip]
fn rows_of_the_rfcs() {
    let rows: &[(Op4, u32, List, List)] = &[
        (Op4::Lookup, 0, &[Access, Badchar, Badhandle, Badname, Badxdr, Delay, Fhexpired, Inval, Io, Moved,
            Nametoolong, Noent, Nofilehandle, Notdir, Resource, Serverfault, Stale, Symlink, Wrongsec],
            &[Exist, Isdir, WrongType, Perm]),
        (Op4::Lookup, 1, &[Access, Badchar, Badname, Noent, Notdir, Symlink, TooManyOps, Wrongsec],
            &[Badhandle, Resource]),
        (Op4::Renew, 0, &[Access, Badxdr, CbPathDown, Expired, LeaseMoved, Resource, Serverfault, StaleClientid],
            &[Inval, Stale]),
        (Op4::Renew, 1, &[Notsupp], &[Nfsstat4::Ok, Badxdr, Serverfault]),
        (Op4::Sequence, 0, &[OpIllegal], &[Nfsstat4::Ok, Notsupp, Badsession]),
        (Op4::Sequence, 1, &[BadHighSlot, Badsession, Badslot, ConnNotBoundToSession, Deadsession, SequencePos,
            SeqFalseRetry, SeqMisordered], &[StaleClientid, Access, Inval]),
        (Op4::CreateSession, 2, &[ClidInuse, Inval, Noent, NotOnlyOp, Nospc, SeqMisordered, StaleClientid,
            Toosmall, WrongCred], &[Badsession, ClientidBusy]),
        (Op4::DestroyClientid, 1, &[ClientidBusy, NotOnlyOp, StaleClientid, WrongCred], &[Badsession]),
        (Op4::Read, 1, &[DelegRevoked, Locked, Openmode, PnfsIoHole, Symlink, WrongType], &[StaleStateid, Nospc]),
        (Op4::Write, 0, &[Nxio, Nospc, StaleStateid, LeaseMoved, Locked, Symlink], &[Badname, WrongType]),
        (Op4::Lock, 0, &[Deadlock, Denied, BadSeqid, LockNotsupp, ReclaimConflict, StaleClientid], &[Noent]),
        (Op4::Setattr, 1, &[Attrnotsupp, Badowner, Locked, Perm, UnknownLayouttype, WrongType], &[Noent]),
        (Op4::Seek, 2, &[UnionNotsupp, Nxio, PnfsNoLayout, WrongType], &[Nospc]),
        (Op4::Seek, 1, &[OpIllegal], &[UnionNotsupp]),
        (Op4::Clone, 2, &[Xdev, Dquot, Fbig, Locked, Rofs], &[OffloadDenied]),
        (Op4::OffloadStatus, 2, &[CompleteAlready, BadStateid, OldStateid, Grace], &[Nofilehandle, Stale]),
        (Op4::Setxattr, 2, &[Xattr2big, Noxattr, Exist, Nospc, WrongType], &[BadCookie]),
        (Op4::Illegal, 0, &[OpIllegal, Badxdr], &[Delay, Notsupp]),
    ];
    for (op, minor, may, may_not) in rows {
        for status in *may {
            assert!(permitted(*op, *minor, *status), "{op} 4.{minor} {status}");
        }
        for status in *may_not {
            assert!(!permitted(*op, *minor, *status), "{op} 4.{minor} {status}");
        }
    }
}

#[test]
#[rustfmt::skip]
fn the_nearest_status() {
    for (op, minor, status, answer) in [
        (Op4::Readdir, 0, RepTooBig, Resource),
        (Op4::Readdir, 1, RepTooBig, RepTooBig),
        (Op4::Readdir, 0, Symlink, Notdir),
        (Op4::Create, 1, Symlink, Notdir),
        (Op4::Lookup, 0, Symlink, Symlink),
        (Op4::Readlink, 0, WrongType, Inval),
        (Op4::Setattr, 1, Symlink, WrongType),
        (Op4::Close, 1, StaleStateid, BadStateid),
        (Op4::Close, 0, StaleStateid, StaleStateid),
        (Op4::Write, 0, DelegRevoked, AdminRevoked),
        (Op4::Commit, 1, Rofs, Access),
        (Op4::Restorefh, 1, Restorefh, Nofilehandle),
        (Op4::Restorefh, 0, Restorefh, Restorefh),
        (Op4::Getfh, 0, Noent, Stale),
        (Op4::Remove, 0, FileOpen, FileOpen),
        (Op4::TestStateid, 1, Noent, Serverfault),
        (Op4::Setclientid, 2, Io, Notsupp),
    ] {
        assert_eq!(restrict(op, minor, status), answer, "{op} 4.{minor} {status}");
    }
}
