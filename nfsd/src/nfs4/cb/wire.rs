//! The callback program (RFC 7530 section 16.38 and its XDR RFC 7531, RFC 8881 section 20, RFC 7862
//! section 16): CB_COMPOUND with the operations this server sends, and what clients answer.

use arrayvec::ArrayVec;

use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{
    Attrlist4, Bitmap4, Count4, Fattr4, Length4, NfsFh4, Sequenceid4, Sessionid4, Slotid4,
    StateOwner4, Stateid4, Tag4, Verifier4,
};
use crate::xdr::{Dec, Enc, Encode, Result, XdrError, xdr_enum, xdr_struct};

/// Version of the callback program. RFC 8881 18.36.3 says 4; its XDR, and every client, 1.
pub const CB_VERSION: u32 = 1;
/// CB_NULL: do nothing.
pub const CB_NULL: u32 = 0;
/// CB_COMPOUND: compound operations.
pub const CB_COMPOUND: u32 = 1;
/// Most results a client may send for CB_SEQUENCE and one operation.
const RESULTS_MAX: u32 = 2;

xdr_enum! {
    /// Callback operations, `nfs_cb_opnum4`.
    pub enum CbOp4 {
        /// Attributes of a file delegated for writing.
        Getattr = 3 "CB_GETATTR",
        /// Recall a delegation.
        Recall = 4 "CB_RECALL",
        /// Recall layouts.
        Layoutrecall = 5 "CB_LAYOUTRECALL",
        /// Changes of a directory.
        Notify = 6 "CB_NOTIFY",
        /// Offer a delegation that was wanted.
        PushDeleg = 7 "CB_PUSH_DELEG",
        /// Keep only so many recallable objects.
        RecallAny = 8 "CB_RECALL_ANY",
        /// A delegation that was wanted can be had.
        RecallableObjAvail = 9 "CB_RECALLABLE_OBJ_AVAIL",
        /// Use fewer slots.
        RecallSlot = 10 "CB_RECALL_SLOT",
        /// Slot of the backchannel.
        Sequence = 11 "CB_SEQUENCE",
        /// Delegations that were wanted will not come.
        WantsCancelled = 12 "CB_WANTS_CANCELLED",
        /// A lock may be tried.
        NotifyLock = 13 "CB_NOTIFY_LOCK",
        /// Changes of devices.
        NotifyDeviceid = 14 "CB_NOTIFY_DEVICEID",
        /// An asynchronous copy has ended.
        Offload = 15 "CB_OFFLOAD",
        /// Illegal operation.
        Illegal = 10044 "CB_ILLEGAL",
    }
}

xdr_struct! {
    /// `CB_GETATTR4args` (RFC 8881 20.1.1).
    pub struct CbGetattr4args<'a> {
        /// The file.
        pub fh: NfsFh4<'a>,
        /// `change` and `size`.
        pub asked: Bitmap4,
    }

    /// `CB_RECALL4args` (RFC 8881 20.2.1).
    pub struct CbRecall4args<'a> {
        /// The delegation.
        pub stateid: Stateid4,
        /// The file is about to be made empty: data need not be written back.
        pub truncate: bool,
        /// The file.
        pub fh: NfsFh4<'a>,
    }

    /// `CB_NOTIFY_LOCK4args` (RFC 8881 20.11.1).
    pub struct CbNotifyLock4args<'a> {
        /// The file.
        pub fh: NfsFh4<'a>,
        /// Who waits.
        pub owner: StateOwner4<'a>,
    }

    /// `CB_RECALL_ANY4args` (RFC 8881 20.6.1).
    pub struct CbRecallAny4args {
        /// How many the client may keep.
        pub keep: u32,
        /// Of which types, see [`RCA4_TYPES`].
        pub types: Bitmap4,
    }

    /// `CB_SEQUENCE4args` (RFC 8881 20.9.1).
    pub struct CbSequence4args {
        /// The session.
        pub sessionid: Sessionid4,
        /// Number of this request in its slot.
        pub sequenceid: Sequenceid4,
        /// The slot.
        pub slotid: Slotid4,
        /// Highest slot in use.
        pub highest_slotid: Slotid4,
        /// The reply is to be kept.
        pub cachethis: bool,
        /// Requests whose replies this callback may overtake: none are named.
        pub referring: ArrayVec<u32, 0>,
    }
}

xdr_struct! {
    /// `CB_SEQUENCE4resok` (RFC 8881 20.9.2).
    pub struct CbSequence4resok {
        /// The session.
        pub sessionid: Sessionid4,
        /// Number of the request in its slot.
        pub sequenceid: Sequenceid4,
        /// The slot.
        pub slotid: Slotid4,
        /// Highest slot the client has.
        pub highest_slotid: Slotid4,
        /// Highest slot the client would like used.
        pub target_highest_slotid: Slotid4,
    }

    /// `write_response4` (RFC 7862 7.5.2).
    pub struct WriteResponse4 {
        /// The operation, if it goes on.
        pub callback_id: Option<Stateid4>,
        /// Bytes copied.
        pub count: Length4,
        /// `stable_how4`.
        pub committed: Count4,
        /// Changes when unstable data may be lost.
        pub verifier: Verifier4,
    }

    /// `CB_OFFLOAD4args` (RFC 7862 16.1.1).
    pub struct CbOffload4args<'a> {
        /// The file written to.
        pub fh: NfsFh4<'a>,
        /// The operation.
        pub stateid: Stateid4,
        /// How it ended.
        pub info: OffloadInfo4,
    }
}

/// `offload_info4` (RFC 7862 16.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OffloadInfo4 {
    /// It is done.
    Done(WriteResponse4),
    /// It failed, after so many bytes.
    Failed(Nfsstat4, Length4),
}

impl Encode for OffloadInfo4 {
    fn encode(&self, enc: &mut Enc<'_>) -> Result<()> {
        match self {
            Self::Done(response) => {
                enc.put(&Nfsstat4::Ok)?;
                enc.put(response)
            }
            Self::Failed(status, copied) => {
                let status = match status {
                    Nfsstat4::Ok => Nfsstat4::Serverfault,
                    status => *status,
                };
                enc.put(&status)?;
                enc.put(copied)
            }
        }
    }
}

impl crate::xdr::Decode<'_> for OffloadInfo4 {
    fn decode(dec: &mut Dec<'_>) -> Result<Self> {
        match dec.get()? {
            Nfsstat4::Ok => dec.get().map(Self::Done),
            status => Ok(Self::Failed(status, dec.get()?)),
        }
    }
}

#[cfg(any(test, feature = "samples"))]
impl crate::xdr::Sample<'_> for OffloadInfo4 {
    fn sample(tape: &mut crate::xdr::Tape<'_>) -> Self {
        match Nfsstat4::sample(tape) {
            Nfsstat4::Ok => Self::Done(crate::xdr::Sample::sample(tape)),
            status => Self::Failed(status, crate::xdr::Sample::sample(tape)),
        }
    }
}

/// Bits of `craa_type_mask`: delegations for reading and for writing.
pub const RCA4_TYPES: Bitmap4 = Bitmap4::of(&[0, 1]);

/// An operation of this server's, beside CB_SEQUENCE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CbArgs<'a> {
    /// CB_GETATTR.
    Getattr(CbGetattr4args<'a>),
    /// CB_RECALL.
    Recall(CbRecall4args<'a>),
    /// CB_RECALL_ANY.
    RecallAny(CbRecallAny4args),
    /// CB_NOTIFY_LOCK.
    NotifyLock(CbNotifyLock4args<'a>),
    /// CB_OFFLOAD.
    Offload(CbOffload4args<'a>),
}

impl CbArgs<'_> {
    /// Its number.
    #[must_use]
    pub const fn op(&self) -> CbOp4 {
        match self {
            Self::Getattr(_) => CbOp4::Getattr,
            Self::Recall(_) => CbOp4::Recall,
            Self::RecallAny(_) => CbOp4::RecallAny,
            Self::NotifyLock(_) => CbOp4::NotifyLock,
            Self::Offload(_) => CbOp4::Offload,
        }
    }
}

impl Encode for CbArgs<'_> {
    fn encode(&self, enc: &mut Enc<'_>) -> Result<()> {
        enc.put(&self.op())?;
        match self {
            Self::Getattr(args) => enc.put(args),
            Self::Recall(args) => enc.put(args),
            Self::RecallAny(args) => enc.put(args),
            Self::NotifyLock(args) => enc.put(args),
            Self::Offload(args) => enc.put(args),
        }
    }
}

/// `CB_COMPOUND4args`: CB_SEQUENCE in a session, and at most one operation.
#[derive(Clone, Debug)]
pub struct CbCompound<'a> {
    /// Minor version of the client.
    pub minor: u32,
    /// `callback_ident` of SETCLIENTID (4.0).
    pub ident: u32,
    /// The slot (4.1).
    pub sequence: Option<CbSequence4args>,
    /// What it is about; without it, only the slot moves on.
    pub op: Option<&'a CbArgs<'a>>,
}

impl Encode for CbCompound<'_> {
    fn encode(&self, enc: &mut Enc<'_>) -> Result<()> {
        enc.put(&Tag4(b""))?;
        enc.u32(self.minor)?;
        enc.u32(self.ident)?;
        enc.u32(u32::from(self.sequence.is_some()) + u32::from(self.op.is_some()))?;
        if let Some(sequence) = &self.sequence {
            enc.put(&CbOp4::Sequence)?;
            enc.put(sequence)?;
        }
        self.op.map_or(Ok(()), |op| enc.put(op))
    }
}

/// What a client answers about a file delegated to it for writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CbAttrs {
    /// `change`: differs from what it was when the delegation was granted if the file was modified.
    pub change: Option<u64>,
    /// `size` in bytes.
    pub size: Option<u64>,
}

/// What a client answers to an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CbDone {
    /// Success.
    Ok,
    /// Success of CB_GETATTR.
    Attrs(CbAttrs),
    /// Failure.
    Failed(Nfsstat4),
}

/// `CB_COMPOUND4res`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CbReply {
    /// Status of the whole.
    pub status: Nfsstat4,
    /// CB_SEQUENCE, in a session.
    pub sequence: Option<std::result::Result<CbSequence4resok, Nfsstat4>>,
    /// The operation, if it came to it.
    pub op: Option<CbDone>,
}

/// Numbers of `fattr4_change` and `fattr4_size`, in the order of their values.
pub const CHANGE: u32 = 3;
/// See [`CHANGE`].
pub const SIZE: u32 = 4;

fn status(dec: &mut Dec<'_>) -> Result<Nfsstat4> {
    // A status of a later version, or a private one, is a failure like others.
    Ok(Nfsstat4::from_wire(dec.u32()?).unwrap_or(Nfsstat4::Serverfault))
}

fn attrs(dec: &mut Dec<'_>) -> Result<CbAttrs> {
    let fattr: Fattr4<'_> = dec.get()?;
    let Attrlist4(values) = fattr.values;
    let mut values = Dec::new(values);
    let mut attrs = CbAttrs::default();
    if !fattr.mask.within(&Bitmap4::of(&[CHANGE, SIZE])) {
        // Of the others' values not even the length is known.
        return Err(XdrError::BadEnum);
    }
    if fattr.mask.has(CHANGE) {
        attrs.change = Some(values.u64()?);
    }
    if fattr.mask.has(SIZE) {
        attrs.size = Some(values.u64()?);
    }
    values.finish()?;
    Ok(attrs)
}

impl CbReply {
    /// Reads the reply to a CB_COMPOUND, in a session or not.
    ///
    /// # Errors
    /// It is none, or not to such a one.
    pub fn decode(bytes: &[u8], in_session: bool) -> Result<CbReply> {
        let mut dec = Dec::new(bytes);
        let mut reply = CbReply {
            status: status(&mut dec)?,
            sequence: None,
            op: None,
        };
        let _: Tag4<'_> = dec.get()?;
        let results = dec.u32()?;
        if results > RESULTS_MAX {
            return Err(XdrError::TooLong);
        }
        for _ in 0..results {
            let op: CbOp4 = dec.get()?;
            let done = status(&mut dec)?;
            let missing = reply.op.is_some() || in_session && reply.sequence.is_none();
            match op {
                CbOp4::Sequence if in_session && reply.sequence.is_none() => {
                    reply.sequence = Some(match done {
                        Nfsstat4::Ok => Ok(dec.get()?),
                        failed => Err(failed),
                    });
                }
                // A client that knows neither answers for the first operation.
                CbOp4::Illegal if missing && reply.op.is_none() => {
                    reply.op = Some(CbDone::Failed(done));
                }
                _ if missing => return Err(XdrError::BadEnum),
                CbOp4::Getattr if done == Nfsstat4::Ok => {
                    reply.op = Some(CbDone::Attrs(attrs(&mut dec)?));
                }
                _ if done == Nfsstat4::Ok => reply.op = Some(CbDone::Ok),
                _ => reply.op = Some(CbDone::Failed(done)),
            }
        }
        dec.finish()?;
        Ok(reply)
    }
}

#[cfg(test)]
mod tests;
