//! NLM_TEST: whether a lock could be had, and what is in the way (XNFS 10.4.2).

use std::time::Duration;

use vfs::exec;
use vfs::locks::{Conflict, HOST, Held, Holder as Holding, LockKind, OwnerId};

use super::target;
use crate::cx::{Cx, Reply};
use crate::nlm::state::{NOBODY, OwnerName};
use crate::nlm::types::{Holder, NLM_V4, Netobj, NlmStat, TestArgs, TestRes};
use crate::xdr::XdrError;

/// How long it waits for delegations to come back.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it tries again after somebody got out of its way.
const TRIES: usize = 16;

/// Why not.
enum No {
    Stat(NlmStat),
    Held(OwnerName, Held),
}

impl From<NlmStat> for No {
    fn from(stat: NlmStat) -> Self {
        No::Stat(stat)
    }
}

pub async fn run(
    cx: &Cx,
    vers: u32,
    args: &TestArgs<'_>,
    reply: &mut Reply,
) -> Result<(), XdrError> {
    let tested = test(cx, args).await;
    let stat = match &tested {
        Ok(()) => Ok(()),
        Err(No::Stat(stat)) => Err((stat.of_version(vers), None)),
        Err(No::Held(name, held)) => Err((NlmStat::Denied, Some(holder(name, held)))),
    };
    let cookie = args.cookie;
    if vers >= NLM_V4 {
        return reply.put(&TestRes { cookie, stat });
    }
    let stat = stat.map_err(|(stat, holder)| (stat, holder.map(|h| h.narrow())));
    reply.put(&TestRes { cookie, stat })
}

fn holder<'a>(name: &'a OwnerName, held: &Held) -> Holder<'a> {
    Holder {
        exclusive: held.kind == LockKind::Write,
        svid: name.svid,
        oh: Netobj(&name.oh),
        offset: held.range.offset(),
        len: match held.range.length() {
            u64::MAX => 0,
            len => len,
        },
    }
}

async fn test(cx: &Cx, args: &TestArgs<'_>) -> Result<(), No> {
    let opened = target::file(cx, args.alock.fh.0).await?;
    let wanted = target::wanted(&args.alock, args.exclusive)?;
    target::permitted(cx, &opened, false).await?;
    if cx.server.grace.in_grace() {
        return Err(NlmStat::DeniedGracePeriod.into());
    }
    let (server, file) = (&cx.server, opened.file.locks());
    let (ip, name) = (cx.client.addr.ip(), args.alock.caller_name.0);
    let (host, owner) = (server.nlm.known(ip, name), target::owner(&args.alock));
    let _hosted = target::on_host(&opened, LockKind::Read).await?;
    let end = exec::now() + PATIENCE;
    for _ in 0..TRIES {
        let tested = match &host {
            Some(host) => host.test(file, &owner, wanted),
            None => file.test(NOBODY, OwnerId(u64::MAX), wanted.range, wanted.kind),
        };
        match file.tested(tested).await {
            Ok(()) => return Ok(()),
            Err(Conflict::Lock(holding, held)) => {
                if !target::gone(cx, holding.client).await? {
                    return Err(No::Held(name_of(cx, holding), held));
                }
            }
            Err(Conflict::Deleg(held)) => {
                if !target::returned(cx, file, &held, end).await {
                    return Err(NlmStat::DeniedNolocks.into());
                }
            }
            Err(_) => return Err(NlmStat::DeniedNolocks.into()),
        }
    }
    Err(NlmStat::DeniedNolocks.into())
}

/// What a holder is called. One of another protocol has no name here.
fn name_of(cx: &Cx, holding: Holding) -> OwnerName {
    if holding.client == HOST {
        let svid = i32::try_from(holding.owner.0).unwrap_or(0);
        let oh = Box::from(*b"host");
        return OwnerName { svid, oh };
    }
    let host = cx.server.nlm.by_id(holding.client);
    let name = host.and_then(|host| host.owner_name(holding.owner));
    name.unwrap_or(OwnerName {
        svid: 0,
        oh: Box::default(),
    })
}
