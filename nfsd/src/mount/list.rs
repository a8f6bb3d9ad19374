//! Who mounted what, for DUMP: a note for administrators that nothing depends on, so it is bounded
//! and forgets the oldest first.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Most entries.
const ENTRIES_MAX: usize = 1024;

/// A client and a directory it mounted.
pub type Entry = (IpAddr, Box<[u8]>);

/// The list.
pub struct MountList(Mutex<VecDeque<Entry>>);

/// The server's list; it says nothing about exports, so a reload leaves it alone.
pub static MOUNTED: MountList = MountList::new();

impl MountList {
    /// An empty list.
    pub const fn new() -> Self {
        MountList(Mutex::new(VecDeque::new()))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client mounted a directory.
    pub fn add(&self, host: IpAddr, directory: &[u8]) {
        let mut entries = self.lock();
        entries.retain(|(h, d)| (*h, &**d) != (host, directory));
        if entries.len() >= ENTRIES_MAX {
            entries.pop_front();
        }
        entries.push_back((host, directory.into()));
    }

    /// A client says it unmounted a directory.
    pub fn remove(&self, host: IpAddr, directory: &[u8]) {
        self.lock().retain(|(h, d)| (*h, &**d) != (host, directory));
    }

    /// A client says it unmounted everything.
    pub fn remove_all(&self, host: IpAddr) {
        self.lock().retain(|(h, _)| *h != host);
    }

    /// What is mounted, oldest first.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn paths(list: &MountList, host: IpAddr) -> Vec<String> {
        let mine = list.entries().into_iter().filter(|(h, _)| *h == host);
        mine.map(|(_, path)| String::from_utf8_lossy(&path).into_owned())
            .collect()
    }

    #[test]
    fn clients_come_and_go() {
        let list = MountList::new();
        list.add(A, b"/a");
        list.add(A, b"/b");
        list.add(B, b"/a");
        list.add(A, b"/a");
        assert_eq!(paths(&list, A), ["/b", "/a"]);
        list.remove(A, b"/b");
        list.remove(A, b"/nothing");
        assert_eq!(paths(&list, A), ["/a"]);
        list.remove_all(A);
        assert_eq!((paths(&list, A).len(), paths(&list, B).len()), (0, 1));
    }

    #[test]
    fn the_oldest_goes_first() {
        let list = MountList::new();
        for n in 0..=ENTRIES_MAX {
            list.add(A, format!("/{n}").as_bytes());
        }
        let paths = paths(&list, A);
        assert_eq!((paths.len(), &*paths[0]), (ENTRIES_MAX, "/1"));
    }
}
