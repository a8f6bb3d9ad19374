//! TEST_STATEID: which of these stateids are good (RFC 8881 18.48).

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::state::stateid::{self, Given, Kind};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Stateid4;
use crate::xdr::{Block, Dec, Decode, Result as XdrResult};

/// Most stateids of one request; the request's size limits them before.
const STATEIDS_MAX: usize = 1 << 16;
const SIZE: usize = <Stateid4 as Block>::SIZE;

/// `TEST_STATEID4args`: the stateids as they came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TestStateidArgs<'a>(&'a [u8]);

impl<'a> Decode<'a> for TestStateidArgs<'a> {
    fn decode(dec: &mut Dec<'a>) -> XdrResult<Self> {
        let len = dec.array_len(STATEIDS_MAX, SIZE)?;
        let bytes = dec.rest().get(..len * SIZE).unwrap_or_default();
        dec.skip(len * SIZE)?;
        Ok(TestStateidArgs(bytes))
    }
}

impl TestStateidArgs<'_> {
    fn iter(&self) -> impl Iterator<Item = Stateid4> {
        let each = self.0.chunks_exact(SIZE);
        each.filter_map(|raw| <Stateid4 as Block>::get(raw).ok())
    }
}

pub(super) async fn run(
    c: &mut Compound<'_>,
    args: TestStateidArgs<'_>,
    out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let count = args.0.len() / SIZE;
    if c.room(out) < 4 + 4 * count {
        return Err(Nfsstat4::RepTooBig);
    }
    out.put(&(count as u32))?;
    for stateid in args.iter() {
        let status = test(c, &stateid).err().unwrap_or(Nfsstat4::Ok);
        out.put(&status)?;
    }
    Ok(())
}

fn test(c: &Compound<'_>, stateid: &Stateid4) -> Result<(), Nfsstat4> {
    // The special ones, the current one too, are not for testing (RFC 8881 18.48.3).
    let Given::Of(name) = stateid::given(stateid, c.minor)? else {
        return Err(Nfsstat4::BadStateid);
    };
    let client = c.client()?;
    let kinds = [Kind::Open, Kind::Lock, Kind::Deleg];
    let home = c.home(client);
    let inner = client.lock();
    inner
        .holdings
        .check(home, name, stateid.seqid, &kinds, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdr::XdrError;

    #[test]
    fn test_stateid_takes_as_many_as_there_are() {
        let mut wire = 2_u32.to_be_bytes().to_vec();
        wire.extend([0; 16]);
        wire.extend([0xff; 16]);
        let args: TestStateidArgs<'_> = Dec::new(&wire).get().expect("whole");
        let listed: Vec<Stateid4> = args.iter().collect();
        assert_eq!(listed, [Stateid4::ANONYMOUS, Stateid4::BYPASS]);
        wire[3] = 3;
        let more = Dec::new(&wire).get::<TestStateidArgs<'_>>();
        assert_eq!(more, Err(XdrError::Short));
    }
}
