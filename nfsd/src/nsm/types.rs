//! The types of the Network Status Monitor (XNFS 11.4).

use crate::xdr::{xdr_enum, xdr_opaque, xdr_struct};

/// Program number.
pub const SM_PROG: u32 = 100_024;
/// The only version.
pub const SM_VERS: u32 = 1;

xdr_enum! {
    /// Procedures.
    pub enum SmProc {
        /// Does nothing.
        Null = 0 "SM_NULL",
        /// Whether a host can be monitored: [`SmName`] -> [`SmStatRes`].
        Stat = 1 "SM_STAT",
        /// Monitors a host: [`Mon`] -> [`SmStatRes`].
        Mon = 2 "SM_MON",
        /// Monitors it no more: [`MonId`] -> [`SmStat`].
        Unmon = 3 "SM_UNMON",
        /// Monitors none any more: [`MyId`] -> [`SmStat`].
        UnmonAll = 4 "SM_UNMON_ALL",
        /// As if this host had restarted: void -> void.
        SimuCrash = 5 "SM_SIMU_CRASH",
        /// The caller has restarted: [`StatChge`] -> void.
        Notify = 6 "SM_NOTIFY",
    }
}

xdr_enum! {
    /// `res`.
    pub enum SmRes {
        /// Yes.
        Succ = 0 "STAT_SUCC",
        /// No.
        Fail = 1 "STAT_FAIL",
    }
}

xdr_opaque! {
    /// The name of a host (SM_MAXSTRLEN).
    pub struct SmName(max 1024);
}

xdr_struct! {
    /// `sm_stat_res`.
    #[derive(Copy)]
    pub struct SmStatRes {
        /// Whether it was done.
        pub res: SmRes,
        /// State of the answering host.
        pub state: i32,
    }

    /// `sm_stat`.
    #[derive(Copy)]
    pub struct SmStat {
        /// State of the answering host.
        pub state: i32,
    }

    /// `my_id`: whom to call.
    #[derive(Copy)]
    pub struct MyId<'a> {
        /// Host.
        pub my_name: SmName<'a>,
        /// Program.
        pub my_prog: i32,
        /// Version.
        pub my_vers: i32,
        /// Procedure.
        pub my_proc: i32,
    }

    /// `mon_id`: whom to monitor, and for whom.
    #[derive(Copy)]
    pub struct MonId<'a> {
        /// Whom.
        pub mon_name: SmName<'a>,
        /// For whom.
        pub my_id: MyId<'a>,
    }

    /// `mon`.
    #[derive(Copy)]
    pub struct Mon<'a> {
        /// Whom, and for whom.
        pub mon_id: MonId<'a>,
        /// Goes back with the call.
        pub private: [u8; 16],
    }

    /// `stat_chge`: of SM_NOTIFY.
    #[derive(Copy)]
    pub struct StatChge<'a> {
        /// Who restarted.
        pub mon_name: SmName<'a>,
        /// Its new state.
        pub state: i32,
    }
}
