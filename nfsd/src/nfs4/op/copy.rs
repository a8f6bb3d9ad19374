//! COPY: the server copies a range of the saved file into the current file (RFC 7862 15.2). What does
//! not take long is done before the answer; the rest goes on behind it, if the client lets it and can
//! be told of its end (RFC 7862 4.8).

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use vfs::{CopyRange, Permit, exec};

use super::write::StableHow4;
use crate::cx::Reply;
use crate::fh::FileHandle;
use crate::nfs4::allow::{self, Allowed};
use crate::nfs4::compound::Compound;
use crate::nfs4::state::client::Client;
use crate::nfs4::state::copy::{Ended, Offload};
use crate::nfs4::state::stateid::Kind;
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::{Length4, Offset4, Stateid4, Verifier4};
use crate::server::Shared;
use crate::xdr::{Dec, Decode, Enc, Encode, Result as XdrResult, XdrError, xdr_opaque, xdr_struct};
#[cfg(any(test, feature = "samples"))]
use crate::xdr::{Sample, Tape};

/// How long an answer may wait for the copy.
const PATIENCE: Duration = Duration::from_millis(100);
/// Bytes copied before looking at the clock, or at whether the copy is still wanted: at least.
const CHUNK: u64 = 8 << 20;
/// At most: holes are quick.
const CHUNK_MAX: u64 = 256 << 20;
/// How long a chunk should take.
const CHUNK_TIME: std::ops::Range<Duration> = Duration::from_millis(10)..Duration::from_millis(40);

xdr_opaque! {
    /// Names of servers, URLs, addresses.
    pub struct Location4(max 1024);
}

xdr_struct! {
    /// `copy_requirements4`.
    pub struct CopyRequirements4 {
        /// From the first byte to the last.
        pub consecutive: bool,
        /// Before the answer.
        pub synchronous: bool,
    }

    /// `COPY4args`.
    pub struct CopyArgs<'a> {
        /// What allows to read the source.
        pub src_stateid: Stateid4,
        /// What allows to write the destination.
        pub dst_stateid: Stateid4,
        /// Where the range begins.
        pub src_offset: Offset4,
        /// Where it goes.
        pub dst_offset: Offset4,
        /// Its length; 0 for up to the end of the source.
        pub count: Length4,
        /// How.
        pub requirements: CopyRequirements4,
        /// Where the source is, if not here.
        pub source_server: SourceServers<'a>,
    }

    /// `COPY4resok`, with `write_response4`.
    pub struct CopyRes {
        /// Names the copy that goes on.
        pub callback_id: ArrayVec<Stateid4, 1>,
        /// Bytes copied, perhaps fewer than asked; 0 for a copy that goes on.
        pub count: Length4,
        /// How stable they are.
        pub committed: StableHow4,
        /// If COMMIT gives another one, they may be lost.
        pub verifier: Verifier4,
        /// How.
        pub requirements: CopyRequirements4,
    }
}

/// `netloc4`: where another server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Netloc4<'a> {
    /// A host name.
    Name(Location4<'a>),
    /// A URL.
    Url(Location4<'a>),
    /// `netaddr4`: network id and universal address.
    Netaddr(Location4<'a>, Location4<'a>),
}

impl<'a> Decode<'a> for Netloc4<'a> {
    fn decode(dec: &mut Dec<'a>) -> XdrResult<Self> {
        match dec.u32()? {
            1 => dec.get().map(Self::Name),
            2 => dec.get().map(Self::Url),
            3 => Ok(Self::Netaddr(dec.get()?, dec.get()?)),
            _ => Err(XdrError::BadEnum),
        }
    }
}

impl Encode for Netloc4<'_> {
    fn encode(&self, enc: &mut Enc<'_>) -> XdrResult<()> {
        match self {
            Self::Name(name) => {
                enc.u32(1)?;
                enc.put(name)
            }
            Self::Url(url) => {
                enc.u32(2)?;
                enc.put(url)
            }
            Self::Netaddr(netid, addr) => {
                enc.u32(3)?;
                enc.put(netid)?;
                enc.put(addr)
            }
        }
    }
}

#[cfg(any(test, feature = "samples"))]
impl<'a> Sample<'a> for Netloc4<'a> {
    fn sample(tape: &mut Tape<'a>) -> Self {
        match tape.below(3) {
            0 => Self::Name(Sample::sample(tape)),
            1 => Self::Url(Sample::sample(tape)),
            _ => Self::Netaddr(Sample::sample(tape), Sample::sample(tape)),
        }
    }
}

/// Where the source is, in order of preference; all of them optional.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceServers<'a>(pub Vec<Netloc4<'a>>);

impl SourceServers<'_> {
    /// Most servers looked at.
    pub const MAX: usize = 16;
}

impl<'a> Decode<'a> for SourceServers<'a> {
    fn decode(dec: &mut Dec<'a>) -> XdrResult<Self> {
        let len = dec.array_len(Self::MAX, 8)?;
        (0..len)
            .map(|_| dec.get())
            .collect::<XdrResult<_>>()
            .map(Self)
    }
}

impl Encode for SourceServers<'_> {
    fn encode(&self, enc: &mut Enc<'_>) -> XdrResult<()> {
        enc.u32(self.0.len() as u32)?;
        self.0.iter().try_for_each(|server| enc.put(server))
    }
}

#[cfg(any(test, feature = "samples"))]
impl<'a> Sample<'a> for SourceServers<'a> {
    fn sample(tape: &mut Tape<'a>) -> Self {
        let len = tape.below(Self::MAX + 1);
        Self((0..len).map(|_| Sample::sample(tape)).collect())
    }
}

/// A copy on its way.
struct Copying {
    server: Arc<Shared>,
    source: Allowed,
    target: Allowed,
    /// What is not copied yet.
    left: CopyRange,
    /// Bytes to copy next.
    chunk: u64,
    /// Of before the first byte: a failure of writing back shows, whenever it is met.
    verifier: Verifier4,
}

impl Copying {
    /// Copies the next chunk: how much that is. There must be something left.
    async fn step(&mut self, offload: &Offload) -> Result<u64, Nfsstat4> {
        let range = CopyRange {
            count: self.left.count.min(self.chunk),
            ..self.left
        };
        let (from, into) = (&self.source.opened, &self.target.opened);
        let start = exec::now();
        let copied = self
            .server
            .vfs
            .copy(
                Permit::Opened,
                &into.cred,
                &from.file,
                &into.file,
                range,
                &offload.progress,
            )
            .await;
        let done = copied.result?.min(range.count);
        self.chunk = next_chunk(self.chunk, exec::now() - start);
        if done == 0 {
            return Err(Nfsstat4::Io);
        }
        self.left.from += done;
        self.left.to += done;
        self.left.count -= done;
        Ok(done)
    }

    /// Copies until it is done or it is `until`: how much was copied. An error only if nothing was;
    /// else the next COPY meets it again.
    async fn begin(&mut self, until: Instant) -> Result<u64, Nfsstat4> {
        let offload = Offload::default();
        let mut done = 0;
        while self.left.count > 0 {
            match self.step(&offload).await {
                Ok(n) => done += n,
                Err(_) if done > 0 => break,
                Err(status) => return Err(status),
            }
            if exec::now() >= until {
                break;
            }
        }
        Ok(done)
    }

    /// Copies the rest, unless nobody wants it any more.
    async fn go_on(&mut self, offload: &Offload) -> Nfsstat4 {
        while self.left.count > 0 && !offload.is_stopped() {
            if let Err(status) = self.step(offload).await {
                return status;
            }
        }
        Nfsstat4::Ok
    }
}

/// How many bytes to copy after a chunk that took this long.
fn next_chunk(chunk: u64, took: Duration) -> u64 {
    if took < CHUNK_TIME.start {
        (chunk * 2).min(CHUNK_MAX)
    } else if took > CHUNK_TIME.end {
        (chunk / 2).max(CHUNK)
    } else {
        chunk
    }
}

/// The range meant, in a source of `size` bytes.
///
/// # Errors
/// `INVAL` for what ends beyond the source, `FBIG` for what no destination can hold.
fn range(args: &CopyArgs<'_>, size: u64) -> Result<CopyRange, Nfsstat4> {
    let rest = size.checked_sub(args.src_offset);
    let rest = rest.ok_or(Nfsstat4::Inval)?;
    let count = match args.count {
        0 => rest,
        count if count <= rest => count,
        _ => return Err(Nfsstat4::Inval),
    };
    let end = args.dst_offset.checked_add(count);
    end.ok_or(Nfsstat4::Fbig)?;
    Ok(CopyRange {
        from: args.src_offset,
        to: args.dst_offset,
        count,
    })
}

async fn prepare(c: &Compound<'_>, args: &CopyArgs<'_>) -> Result<Copying, Nfsstat4> {
    // Other servers are not asked for data.
    if !args.source_server.0.is_empty() {
        return Err(Nfsstat4::OffloadDenied);
    }
    let source = allow::saved(c, &args.src_stateid).await?;
    let target = allow::current(c, &args.dst_stateid, true).await?;
    let server = c.cx.server.clone();
    let (from, into) = (&source.opened.file, &target.opened.file);
    let left = range(args, server.vfs.getattr(from).await?.size)?;
    if Arc::ptr_eq(from, into) && left.from.abs_diff(left.to) < left.count {
        return Err(Nfsstat4::Inval);
    }
    let verifier = server.vfs.write_verifier();
    Ok(Copying {
        server,
        source,
        target,
        left,
        chunk: CHUNK,
        verifier,
    })
}

/// A copy that goes on behind the answer.
struct Behind {
    copying: Copying,
    offload: Arc<Offload>,
    /// Does not keep the client.
    client: Weak<Client>,
    fh: FileHandle,
    stateid: Stateid4,
}

impl Behind {
    async fn run(mut self) {
        let turn = self.offload.turn.take().await;
        let status = self.copying.go_on(&self.offload).await;
        drop(turn);
        let Some(client) = self.client.upgrade() else {
            return;
        };
        let heard = client.lock().copies.end(self.offload.key, status);
        let notifier = self.copying.server.state.notifier.get();
        if let Some(notifier) = notifier.filter(|_| heard) {
            let progress = &self.offload.progress;
            notifier.offloaded(Ended {
                clientid: client.clientid,
                fh: self.fh,
                stateid: self.stateid,
                status,
                count: progress.load(std::sync::atomic::Ordering::Relaxed),
                verifier: self.copying.verifier,
            });
        }
    }
}

/// Lets the rest of a copy go on: its stateid. `None` where that cannot be, and the copy ends here.
fn leave(c: &Compound<'_>, copying: Copying, done: u64) -> Result<Option<Stateid4>, Nfsstat4> {
    let client = c.client()?;
    let notifier = c.cx.server.state.notifier.get();
    if !notifier.is_some_and(|notifier| notifier.reaches(client)) {
        return Ok(None);
    }
    let fh =
        c.cx.fh(&copying.target.opened, &copying.target.opened.file)?;
    let Some(offload) = client.live()?.copies.begin(done) else {
        return Ok(None);
    };
    let stateid = c.home(client).stateid(Kind::Copy, offload.key, 1);
    let behind = Behind {
        copying,
        offload,
        client: Arc::downgrade(client),
        fh,
        stateid,
    };
    exec::spawn(behind.run());
    Ok(Some(stateid))
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: CopyArgs<'_>,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let mut copying = prepare(c, &args).await?;
    let verifier = copying.verifier;
    let done = copying.begin(exec::now() + PATIENCE).await?;
    let stateid = match copying.left.count > 0 && !args.requirements.synchronous {
        true => leave(c, copying, done)?,
        false => None,
    };
    out.put(&CopyRes {
        callback_id: stateid.into_iter().collect(),
        count: if stateid.is_some() { 0 } else { done },
        committed: StableHow4::Unstable,
        verifier,
        requirements: CopyRequirements4 {
            consecutive: true,
            synchronous: stateid.is_none(),
        },
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn args(src_offset: u64, dst_offset: u64, count: u64) -> CopyArgs<'static> {
        CopyArgs {
            src_stateid: Stateid4::ANONYMOUS,
            dst_stateid: Stateid4::ANONYMOUS,
            src_offset,
            dst_offset,
            count,
            requirements: CopyRequirements4 {
                consecutive: true,
                synchronous: true,
            },
            source_server: SourceServers::default(),
        }
    }

    #[test]
    fn copies_stay_within_their_source() {
        let of = |from, to, count| range(&args(from, to, count), 10).map(|r| r.count);
        assert_eq!(of(0, 0, 0), Ok(10));
        assert_eq!(of(10, 0, 0), Ok(0));
        assert_eq!(of(4, 99, 6), Ok(6));
        assert_eq!(of(4, 0, 7), Err(Nfsstat4::Inval));
        assert_eq!(of(11, 0, 0), Err(Nfsstat4::Inval));
        assert_eq!(of(u64::MAX, 0, 1), Err(Nfsstat4::Inval));
        assert_eq!(of(1, 0, u64::MAX), Err(Nfsstat4::Inval));
        assert_eq!(of(0, u64::MAX, 5), Err(Nfsstat4::Fbig));
    }

    #[test]
    fn chunks_follow_the_speed() {
        let ms = Duration::from_millis;
        assert_eq!(next_chunk(CHUNK, ms(1)), 2 * CHUNK);
        assert_eq!(next_chunk(2 * CHUNK, ms(20)), 2 * CHUNK);
        assert_eq!(next_chunk(2 * CHUNK, ms(50)), CHUNK);
        assert_eq!(next_chunk(CHUNK, ms(5000)), CHUNK);
        assert_eq!(next_chunk(CHUNK_MAX, ms(0)), CHUNK_MAX);
    }

    proptest! {
        #[test]
        fn copy_arguments_come_back(tape in proptest::collection::vec(any::<u8>(), 0..300)) {
            let args = CopyArgs::sample(&mut Tape::new(&tape));
            let mut wire = Vec::new();
            Enc::new(&mut wire, 1 << 20).put(&args)?;
            prop_assert_eq!(Dec::new(&wire).get::<CopyArgs<'_>>(), Ok(args));
        }
    }
}
