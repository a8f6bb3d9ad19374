//! Bytes waiting to be sent on one socket: headers in one buffer, payloads by reference to one shared block.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use rustix::net::{SendAncillaryBuffer, SendFlags, send, sendmsg};

const MAX_SLICES: usize = 64;

/// A send queue. Headers are copied in (they are small), payloads are only counted: all of them are prefixes of
/// the block given to [`OutQueue::flush`], so a 1 MiB WRITE or READ reply costs the sender no copy.
#[derive(Debug, Default)]
pub struct OutQueue {
    bytes: Vec<u8>,
    sent: usize,
    /// Where in `bytes` a payload follows, and its length.
    payloads: VecDeque<(usize, usize)>,
    /// Bytes of the first payload that are already sent.
    payload_sent: usize,
}

impl OutQueue {
    /// Nothing left to send.
    pub fn is_empty(&self) -> bool {
        self.sent == self.bytes.len() && self.payloads.is_empty()
    }

    /// Appends `header`, then `payload` bytes of the shared block; answers the header's place for patching.
    pub fn push(&mut self, header: &[u8], payload: usize) -> &mut [u8] {
        if self.is_empty() {
            self.bytes.clear();
            self.sent = 0;
        }
        let at = self.bytes.len();
        self.bytes.extend_from_slice(header);
        if payload > 0 {
            self.payloads.push_back((self.bytes.len(), payload));
        }
        &mut self.bytes[at..]
    }

    /// Sends as much as the socket takes; true once everything is out. With `wait` a full socket blocks.
    pub fn flush(&mut self, socket: impl AsFd, block: &[u8], wait: bool) -> io::Result<bool> {
        let mut flags = SendFlags::NOSIGNAL;
        if !wait {
            flags |= SendFlags::DONTWAIT;
        }
        while !self.is_empty() {
            match self.send_some(&socket, block, flags) {
                Ok(n) => self.advance(n),
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(true)
    }

    fn send_some(
        &self,
        socket: impl AsFd,
        block: &[u8],
        flags: SendFlags,
    ) -> rustix::io::Result<usize> {
        if self.payloads.is_empty() {
            return send(socket, &self.bytes[self.sent..], flags);
        }
        let mut slices: [_; MAX_SLICES] = std::array::from_fn(|_| IoSlice::new(&[]));
        let (mut used, mut from, mut skip) = (0, self.sent, self.payload_sent);
        for &(at, len) in self.payloads.iter().take(MAX_SLICES / 2) {
            if at > from {
                slices[used] = IoSlice::new(&self.bytes[from..at]);
                used += 1;
            }
            slices[used] = IoSlice::new(&block[skip..len]);
            used += 1;
            (from, skip) = (at, 0);
        }
        sendmsg(
            socket,
            &slices[..used],
            &mut SendAncillaryBuffer::default(),
            flags,
        )
    }

    fn advance(&mut self, mut n: usize) {
        while n > 0 {
            let header_end = self.payloads.front().map_or(self.bytes.len(), |p| p.0);
            let step = n.min(header_end - self.sent);
            self.sent += step;
            n -= step;
            if let Some(&(_, len)) = self.payloads.front()
                && self.sent == header_end
            {
                let step = n.min(len - self.payload_sent);
                self.payload_sent += step;
                n -= step;
                if self.payload_sent == len {
                    self.payloads.pop_front();
                    self.payload_sent = 0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    #[test]
    fn headers_and_payloads_arrive_in_order_through_a_small_socket() {
        let (mut reader, writer) = UnixStream::pair().unwrap();
        let block = vec![9u8; 1 << 20];
        let mut queue = OutQueue::default();
        let mut expected = Vec::new();
        for i in 0..100u8 {
            let payload = [0, 4096, 1 << 20][usize::from(i) % 3];
            queue.push(&[i; 7], payload)[0] = 200;
            expected.push(200);
            expected.extend_from_slice(&[i; 6]);
            expected.extend_from_slice(&block[..payload]);
        }
        let total = expected.len();
        let drain = std::thread::spawn(move || {
            let mut got = vec![0; total];
            reader.read_exact(&mut got).map(|()| got)
        });
        while !queue.flush(&writer, &block, false).unwrap() {
            std::thread::yield_now();
        }
        assert!(drain.join().unwrap().unwrap() == expected);
    }
}
