//! Against xdr-codec, on valid bytes: what the types are built from.

use super::Numbers;
use nfsd::xdr::{Dec, Enc};
use xdr_codec::{Opaque, Pack, pack_opaque_array, unpack_opaque_flex};

#[test]
fn primitives_as_xdr_codec_writes_them() {
    let mut numbers = Numbers(3);
    for len in 0..70_usize {
        let (n, data) = (numbers.next(), &numbers.tape()[..len]);
        let (mut peer, mut ours) = (Vec::new(), Vec::new());
        let mut packed = || -> xdr_codec::Result<()> {
            n.pack(&mut peer)?;
            (n as i64).pack(&mut peer)?;
            (n as u32).pack(&mut peer)?;
            (n as i32).pack(&mut peer)?;
            (n & 1 == 1).pack(&mut peer)?;
            Opaque::borrowed(data).pack(&mut peer)?;
            Some(n as u32).pack(&mut peer)?;
            None::<u32>.pack(&mut peer)?;
            pack_opaque_array(&data[..len.min(5)], 5, &mut peer)?;
            Ok(())
        };
        packed().expect("xdr-codec packs");
        let mut fixed = [0; 5];
        fixed[..len.min(5)].copy_from_slice(&data[..len.min(5)]);
        let mut enc = Enc::new(&mut ours, usize::MAX);
        let mut put = || -> nfsd::xdr::Result<()> {
            enc.u64(n)?;
            enc.i64(n as i64)?;
            enc.u32(n as u32)?;
            enc.i32(n as i32)?;
            enc.bool(n & 1 == 1)?;
            enc.opaque(data)?;
            enc.put(&Some(n as u32))?;
            enc.put(&None::<u32>)?;
            enc.fixed(&fixed)
        };
        put().expect("fits");
        assert_eq!(ours, peer);
        let mut dec = Dec::new(&ours);
        assert_eq!(dec.skip(28), Ok(()));
        let (peer_data, _) = unpack_opaque_flex(&mut &ours[28..], None).expect("valid");
        assert_eq!(dec.opaque(usize::MAX).ok(), Some(&peer_data[..]));
    }
}
