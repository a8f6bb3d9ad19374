//! IO_ADVISE: how a range is going to be used (RFC 7862 15.5).

use vfs::Advice;

use crate::cx::Reply;
use crate::nfs4::allow;
use crate::nfs4::compound::Compound;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Bitmap4, Length4, Offset4, Stateid4};
use crate::xdr::xdr_struct;

/// `IO_ADVISE4_*` bits (RFC 7862 15.5.1).
#[allow(missing_docs, reason = "RFC 7862 words")]
pub mod hint {
    pub const WILLNEED: u32 = 4;
    pub const WILLNEED_OPPORTUNISTIC: u32 = 5;
    pub const DONTNEED: u32 = 6;
}

xdr_struct! {
    /// `IO_ADVISE4args`.
    pub struct IoAdviseArgs {
        /// What allows it.
        pub stateid: Stateid4,
        /// Where the range begins.
        pub offset: Offset4,
        /// Its length; 0 for up to the end of the file.
        pub count: Length4,
        /// The client's hints.
        pub hints: Bitmap4,
    }
}

/// What is done about some hints, and which that heeds. The others are about how a descriptor is read,
/// which all clients share here.
fn heeded(hints: &Bitmap4) -> (Option<Advice>, Bitmap4) {
    let will = Bitmap4::of(&[hint::WILLNEED, hint::WILLNEED_OPPORTUNISTIC]).and(hints);
    let wont = Bitmap4::of(&[hint::DONTNEED]).and(hints);
    match (will.is_empty(), wont.is_empty()) {
        (false, true) => (Some(Advice::WillNeed), will),
        (true, false) => (Some(Advice::DontNeed), wont),
        _ => (None, Bitmap4::EMPTY),
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: IoAdviseArgs,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let target = match allow::current(c, &args.stateid, false).await {
        // Open for writing only: what is about to be written may be spoken of as well.
        Err(Nfsstat4::Openmode) => allow::current(c, &args.stateid, true).await?,
        target => target?,
    };
    args.offset.checked_add(args.count).ok_or(Nfsstat4::Inval)?;
    let (advice, done) = heeded(&args.hints);
    if let Some(advice) = advice {
        let vfs = &c.cx.server.vfs;
        vfs.advise(&target.opened.file, args.offset, args.count, advice)
            .await?;
    }
    out.put(&done)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_that_contradict_are_not_heeded() {
        let of = |bits: &[u32]| heeded(&Bitmap4::of(bits));
        let will = Bitmap4::of(&[hint::WILLNEED]);
        assert_eq!(of(&[0, hint::WILLNEED]), (Some(Advice::WillNeed), will));
        let wont = Bitmap4::of(&[hint::DONTNEED]);
        assert_eq!(of(&[hint::DONTNEED, 10]), (Some(Advice::DontNeed), wont));
        assert_eq!(
            of(&[hint::WILLNEED, hint::DONTNEED]),
            (None, Bitmap4::EMPTY)
        );
        assert_eq!(of(&[1, 2, 3, 7, 8, 9]), (None, Bitmap4::EMPTY));
    }
}
