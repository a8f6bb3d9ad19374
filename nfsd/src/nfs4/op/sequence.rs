//! SEQUENCE: the session and slot a request runs in (RFC 8881 18.46).

use vfs::exec;

use crate::cx::Reply;
use crate::nfs4::compound::{Compound, Sequenced};
use crate::nfs4::state::session::{Sequence, Session, Turn};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Sequenceid4, Sessionid4, Slotid4};
use crate::xdr::xdr_struct;

xdr_struct! {
    /// `SEQUENCE4args`.
    pub struct SequenceArgs {
        /// The session.
        pub sessionid: Sessionid4,
        /// Number of the request in its slot.
        pub sequenceid: Sequenceid4,
        /// The slot.
        pub slotid: Slotid4,
        /// Highest slot the client has a request in.
        pub highest_slotid: Slotid4,
        /// The reply is to be kept for a retransmission.
        pub cachethis: bool,
    }

    /// `SEQUENCE4resok`.
    pub struct SequenceRes {
        /// The session.
        pub sessionid: Sessionid4,
        /// Number of the request in its slot.
        pub sequenceid: Sequenceid4,
        /// The slot.
        pub slotid: Slotid4,
        /// Highest slot the server takes requests in.
        pub highest_slotid: Slotid4,
        /// Highest slot the server would like to see used.
        pub target_highest_slotid: Slotid4,
        /// What the client should know ([`crate::nfs4::state::client::SeqStatus`]).
        pub status_flags: u32,
    }
}

/// Bytes of [`SequenceRes`].
const RES_BYTES: usize = 36;

impl SequenceArgs {
    fn answer(&self, session: &Session) -> SequenceRes {
        SequenceRes {
            sessionid: self.sessionid,
            sequenceid: self.sequenceid,
            slotid: self.slotid,
            highest_slotid: session.highest_slot(),
            target_highest_slotid: session.highest_slot(),
            status_flags: session.status().bits(),
        }
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: SequenceArgs,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let ask = Sequence {
        session: args.sessionid,
        sequence: args.sequenceid,
        slot: args.slotid,
        keep: args.cachethis,
        print: c.print(),
        request_bytes: c.request_bytes(),
        reply_bytes: out.bytes.len() + RES_BYTES,
    };
    match c.cx.server.state.sequence(&ask, exec::now())? {
        Turn::New(slot) => {
            let fore = slot.session().fore;
            let (most, status) = match args.cachethis && fore.max_cached < fore.max_response {
                true => (fore.max_cached, Nfsstat4::RepTooBigToCache),
                false => (fore.max_response, Nfsstat4::RepTooBig),
            };
            c.limit_reply(most as usize, status);
            out.put(&args.answer(slot.session()))?;
            c.sequenced = Some(Sequenced { slot });
        }
        Turn::Replay(reply) => c.replay = Some(reply),
        Turn::Unkept(session) => {
            out.put(&args.answer(&session))?;
            c.refuse = Some(Nfsstat4::RetryUncachedRep);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdr::{Enc, Sample, Tape};

    #[test]
    fn sequence_results_have_one_length() {
        let tape: Vec<u8> = (0..200).collect();
        let res = SequenceRes::sample(&mut Tape::new(&tape));
        let mut wire = Vec::new();
        Enc::new(&mut wire, 1024).put(&res).expect("fits");
        assert_eq!(wire.len(), RES_BYTES);
    }
}
