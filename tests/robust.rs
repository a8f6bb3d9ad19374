//! What servers break on: clients that stop reading, disks that stop answering, resources that run out, signals at the
//! worst moment, and every operation of the kernel failing.

#[path = "robust/disks.rs"]
pub(crate) mod disks;
#[path = "robust/faults.rs"]
mod faults;
#[path = "robust/readers.rs"]
mod readers;
#[path = "robust/signals.rs"]
mod signals;
