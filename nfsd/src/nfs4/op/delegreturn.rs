//! DELEGRETURN: the client gives a delegation back (RFC 8881 18.6, RFC 7530 16.6).

use crate::cx::Reply;
use crate::nfs4::compound::Compound;
use crate::nfs4::state::stateid::Kind;
use crate::nfs4::stateful::{self, file_key};
use crate::nfs4::status::Nfsstat4;
use crate::nfs4::types::Stateid4;

pub(super) async fn run(
    c: &mut Compound<'_>,
    stateid: Stateid4,
    _out: &mut Reply,
) -> Result<(), Nfsstat4> {
    let file = file_key(&c.file()?.file);
    let target = stateful::target(c, &stateid)?;
    let home = c.home(&target.client);
    let returned = {
        let mut inner = target.client.lock();
        let held = &mut inner.holdings;
        held.check(home, target.name, target.seqid, &[Kind::Deleg], Some(file))?;
        held.return_deleg(target.name.key)?
    };
    drop(returned);
    stateful::renew(c, &target.client);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdr::Dec;

    #[test]
    fn delegreturn_arguments() {
        let wire = [0xff; 16];
        assert_eq!(Dec::new(&wire).get(), Ok(Stateid4::BYPASS));
        assert!(Dec::new(&wire[..12]).get::<Stateid4>().is_err());
    }
}
