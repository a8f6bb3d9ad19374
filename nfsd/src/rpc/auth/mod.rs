//! Authentication flavors (RFC 5531 section 8).

pub mod none;
pub mod sys;

use super::msg::Call;
use crate::xdr::{Dec, Decode, Enc, Encode, Result, XdrError, xdr_enum};
pub use sys::Unix;

/// Most bytes of a credential or verifier body (RFC 5531 section 8.2).
pub const MAX_AUTH_BYTES: usize = 400;

xdr_enum! {
    /// `auth_stat` (RFC 5531 section 9): why a caller is not who it says.
    pub enum AuthStat {
        /// Success.
        Ok = 0 "AUTH_OK",
        /// Bad credential (seal broken).
        Badcred = 1 "AUTH_BADCRED",
        /// Client must begin new session.
        Rejectedcred = 2 "AUTH_REJECTEDCRED",
        /// Bad verifier (seal broken).
        Badverf = 3 "AUTH_BADVERF",
        /// Verifier expired or replayed.
        Rejectedverf = 4 "AUTH_REJECTEDVERF",
        /// Rejected for security reasons.
        Tooweak = 5 "AUTH_TOOWEAK",
        /// Bogus response verifier.
        Invalidresp = 6 "AUTH_INVALIDRESP",
        /// Reason unknown.
        Failed = 7 "AUTH_FAILED",
        /// Kerberos generic error (AUTH_KERB, deprecated).
        KerbGeneric = 8 "AUTH_KERB_GENERIC",
        /// Time of credential expired (AUTH_KERB, deprecated).
        Timeexpire = 9 "AUTH_TIMEEXPIRE",
        /// Problem with ticket file (AUTH_KERB, deprecated).
        TktFile = 10 "AUTH_TKT_FILE",
        /// Cannot decode authenticator (AUTH_KERB, deprecated).
        Decode = 11 "AUTH_DECODE",
        /// Wrong net address in ticket (AUTH_KERB, deprecated).
        NetAddr = 12 "AUTH_NET_ADDR",
        /// No credentials for user (RPCSEC_GSS).
        GssCredproblem = 13 "RPCSEC_GSS_CREDPROBLEM",
        /// Problem with context (RPCSEC_GSS).
        GssCtxproblem = 14 "RPCSEC_GSS_CTXPROBLEM",
    }
}

/// `opaque_auth` (RFC 5531 section 8.2): a credential or verifier not interpreted yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpaqueAuth<'a> {
    /// Flavor number, possibly one that is not in the table of flavors.
    pub flavor: u32,
    /// Flavor-specific content, at most [`MAX_AUTH_BYTES`].
    pub body: &'a [u8],
}

impl OpaqueAuth<'_> {
    /// AUTH_NONE with an empty body.
    pub const NONE: OpaqueAuth<'static> = OpaqueAuth {
        flavor: Flavor::None.wire(),
        body: &[],
    };
}

impl<'a> Decode<'a> for OpaqueAuth<'a> {
    #[inline]
    fn decode(dec: &mut Dec<'a>) -> Result<Self> {
        Ok(Self {
            flavor: dec.u32()?,
            body: dec.opaque(MAX_AUTH_BYTES)?,
        })
    }
}

impl Encode for OpaqueAuth<'_> {
    #[inline]
    fn encode(&self, enc: &mut Enc<'_>) -> Result<()> {
        if self.body.len() > MAX_AUTH_BYTES {
            return Err(XdrError::TooLong);
        }
        enc.u32(self.flavor)?;
        enc.opaque(self.body)
    }
}

/// Credential of calls made here, encoded once for all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    flavor: Flavor,
    body: Box<[u8]>,
}

impl Credential {
    /// AUTH_NONE.
    #[must_use]
    pub fn none() -> Self {
        Credential {
            flavor: Flavor::None,
            body: Box::default(),
        }
    }

    /// AUTH_SYS.
    ///
    /// # Errors
    /// A machine name above [`sys::MAX_MACHINENAME`].
    pub fn sys(parms: &sys::AuthSys<'_>) -> Result<Self> {
        let mut body = Vec::new();
        Enc::new(&mut body, MAX_AUTH_BYTES).put(parms)?;
        Ok(Credential {
            flavor: Flavor::Sys,
            body: body.into(),
        })
    }

    /// As it goes into the header of a call.
    #[must_use]
    pub fn wire(&self) -> OpaqueAuth<'_> {
        OpaqueAuth {
            flavor: self.flavor.wire(),
            body: &self.body,
        }
    }
}

/// Who a call comes from, before squashing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Nobody in particular (AUTH_NONE).
    None,
    /// A Unix user as the client states it (AUTH_SYS).
    Unix(Unix),
}

/// The table of flavors: number, name, and the function that accepts a credential.
macro_rules! flavors {
    ($($(#[$m:meta])* $v:ident = $num:literal $name:literal $accept:path;)*) => {
        xdr_enum! {
            /// Authentication flavors understood here.
            pub enum Flavor {
                $($(#[$m])* $v = $num $name,)*
            }
        }

        /// Turns a call's credential and verifier into an identity.
        ///
        /// A flavor that is not in the table is AUTH_BADCRED, as on Linux.
        pub fn authenticate(call: &Call<'_>) -> Result<Identity, AuthStat> {
            match Flavor::from_wire(call.cred.flavor) {
                $(Some(Flavor::$v) => $accept(call.cred.body, &call.verf),)*
                None => Err(AuthStat::Badcred),
            }
        }
    };
}

flavors! {
    /// No authentication (RFC 5531 section 10.1).
    None = 0 "AUTH_NONE" none::accept;
    /// Unix uid, gid and groups (RFC 5531 appendix A).
    Sys = 1 "AUTH_SYS" sys::accept;
}

/// AUTH_NONE and AUTH_SYS calls carry an empty AUTH_NONE verifier (RFC 5531 section 8.2, appendix A).
fn require_null_verifier(verf: &OpaqueAuth<'_>) -> Result<(), AuthStat> {
    if *verf == OpaqueAuth::NONE {
        Ok(())
    } else {
        Err(AuthStat::Badverf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::msg::{self, CallHeader, Parsed};

    fn check(cred: OpaqueAuth<'_>, verf: OpaqueAuth<'_>) -> Result<Identity, AuthStat> {
        let header = CallHeader {
            xid: 1,
            prog: 2,
            vers: 3,
            proc: 4,
            cred,
            verf,
        };
        let mut record = Vec::new();
        Enc::new(&mut record, 2000).put(&header).unwrap();
        match msg::parse(&record) {
            Parsed::Call(call) => authenticate(&call),
            other => panic!("{other:?}"),
        }
    }

    fn auth(flavor: u32, body: &[u8]) -> OpaqueAuth<'_> {
        OpaqueAuth { flavor, body }
    }

    #[test]
    fn none_takes_nothing() {
        let none = OpaqueAuth::NONE;
        assert_eq!(check(none, none), Ok(Identity::None));
        assert_eq!(check(auth(0, b"x"), none), Err(AuthStat::Badcred));
        assert_eq!(check(none, auth(0, b"x")), Err(AuthStat::Badverf));
        assert_eq!(check(none, auth(1, b"")), Err(AuthStat::Badverf));
    }

    #[test]
    fn sys_gives_the_user() {
        let cred = sys::AuthSys {
            stamp: 1,
            machinename: b"host",
            uid: 5,
            gid: 6,
            gids: [7, 8].into_iter().collect(),
        };
        let mut body = Vec::new();
        Enc::new(&mut body, 400).put(&cred).unwrap();
        let user = Unix {
            uid: 5,
            gid: 6,
            gids: cred.gids.clone(),
        };
        assert_eq!(
            check(auth(1, &body), OpaqueAuth::NONE),
            Ok(Identity::Unix(user))
        );
        assert_eq!(
            check(auth(1, &body), auth(1, &body)),
            Err(AuthStat::Badverf)
        );
        for cut in 0..body.len() {
            assert_eq!(
                check(auth(1, &body[..cut]), OpaqueAuth::NONE),
                Err(AuthStat::Badcred)
            );
        }
        body.extend([0; 4]);
        assert_eq!(
            check(auth(1, &body), OpaqueAuth::NONE),
            Err(AuthStat::Badcred)
        );
    }

    #[test]
    fn unknown_flavors_are_bad_credentials() {
        for flavor in [2, 3, 6, 7, 390_003, u32::MAX] {
            assert_eq!(
                check(auth(flavor, b""), OpaqueAuth::NONE),
                Err(AuthStat::Badcred)
            );
        }
    }
}
