//! What this kernel's io_uring can do, and the named fall-back for what it cannot.

use io_uring::{IoUring, Probe, opcode};

use crate::errno::Result;

macro_rules! features {
    ($($field:ident: $op:ident, $need:literal, $fallback:literal;)*) => {
        /// Opcodes and set-up flags found at start.
        #[derive(Clone, Debug)]
        #[allow(missing_docs, reason = "one field per opcode, named in the table")]
        pub struct Features {
            pub defer_taskrun: bool,
            $(pub $field: bool,)*
        }

        impl Features {
            pub(super) fn probe(ring: &IoUring, defer_taskrun: bool) -> Result<Self> {
                let mut probe = Probe::new();
                ring.submitter().register_probe(&mut probe)?;
                Ok(Features { defer_taskrun, $($field: probe.is_supported(opcode::$op::CODE),)* })
            }

            /// Missing features, each with what is done instead.
            pub fn fallbacks(&self) -> Vec<String> {
                let mut out = Vec::new();
                if !self.defer_taskrun {
                    out.push("DEFER_TASKRUN (Linux 6.1): COOP_TASKRUN instead".to_owned());
                }
                $(if !self.$field {
                    out.push(format!("{} (Linux {}): {}", stringify!($op), $need, $fallback));
                })*
                out
            }
        }
    };
}

features! {
    msg_ring: MsgRingData, "5.18", "workers wake each other by eventfd";
    ftruncate: Ftruncate, "6.9", "ftruncate(2) on the blocking pool";
    // 6.13 already lets go of each registered file by itself, but this is the first one that can be asked.
    lone_files: ReadvFixed, "6.15", "sockets are not registered files";
}
