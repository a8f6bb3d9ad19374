//! Plain and zero-copy sends on a ring of their own, for `tests/bench/run --sends` only (feature `send-bench`): what the
//! engine would gain if it sent READ replies without copying them. The server does not use it.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

/// Bytes in front of the payload: mark, RPC and READ header of a reply, more or less.
pub const HEADER: usize = 128;
/// Replies that may wait until the kernel lets go of them.
const BUFFERS: usize = 8;

/// `IORING_SEND_ZC_REPORT_USAGE` and `IORING_NOTIF_USAGE_ZC_COPIED` of io_uring(7).
const REPORT_USAGE: u16 = 1 << 3;
const COPIED: u32 = 1 << 31;

/// How a reply is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// IORING_OP_SENDMSG of header and payload: what the server does.
    Sendmsg,
    /// IORING_OP_SENDMSG_ZC of the same.
    SendmsgZc,
    /// IORING_OP_SEND_ZC of a registered buffer that has both.
    SendZcFixed,
}

/// What was sent.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sent {
    /// Bytes, headers included.
    pub bytes: u64,
    /// Notifications that the kernel has let go of a buffer (zero-copy only).
    pub notified: u64,
    /// Those of them that say that it was copied all the same.
    pub copied: u64,
}

#[repr(C, align(4096))]
#[derive(Clone)]
struct Page([u8; 4096]);

/// A reply: the header at the end of its first page, the payload on the pages behind.
struct Reply {
    iov: [libc::iovec; 2],
    msg: libc::msghdr,
    busy: bool,
}

/// Replies with `payload` bytes. They are never freed: the kernel may hold them at any end.
fn replies(payload: usize) -> &'static mut [Reply] {
    let reply = |n: usize| {
        let pages = vec![Page([n as u8 + 1; 4096]); 1 + payload.div_ceil(4096)].leak();
        let bytes = pages.as_mut_ptr().cast::<u8>();
        let part = |at: usize, iov_len| libc::iovec {
            iov_base: bytes.wrapping_add(at).cast(),
            iov_len,
        };
        Reply {
            iov: [part(4096 - HEADER, HEADER), part(4096, payload)],
            // SAFETY: a `msghdr` of zeroes is one without name, data and control messages.
            msg: unsafe { std::mem::zeroed() },
            busy: false,
        }
    };
    let all = (0..BUFFERS).map(reply).collect::<Vec<_>>().leak();
    for reply in all.iter_mut() {
        reply.msg.msg_iov = ptr::from_mut(&mut reply.iov).cast();
        reply.msg.msg_iovlen = reply.iov.len();
    }
    all
}

fn entry(way: Way, socket: types::Fd, index: usize, reply: &Reply) -> squeue::Entry {
    let msg = ptr::from_ref(&reply.msg);
    let [header, payload] = reply.iov;
    let whole = header.iov_len + payload.iov_len;
    let entry = match way {
        Way::Sendmsg => opcode::SendMsg::new(socket, msg)
            .flags(libc::MSG_WAITALL as u32)
            .build(),
        Way::SendmsgZc => opcode::SendMsgZc::new(socket, msg)
            .flags(libc::MSG_WAITALL as u32)
            .ioprio(REPORT_USAGE)
            .build(),
        Way::SendZcFixed => opcode::SendZc::new(socket, header.iov_base.cast(), whole as u32)
            .buf_index(Some(index as u16))
            .flags(libc::MSG_WAITALL)
            .zc_flags(REPORT_USAGE)
            .build(),
    };
    entry.user_data(index as u64)
}

/// Sends replies with `payload` bytes (at most 16 MiB) one after the other while `more` says so, as a connection of the server does,
/// and waits until the kernel has let go of all.
///
/// # Errors
/// Of the ring and of the socket, and `WriteZero` for a send that came back short.
pub fn send_for(
    socket: impl AsFd,
    way: Way,
    payload: usize,
    more: impl Fn() -> bool,
) -> io::Result<Sent> {
    let mut ring: IoUring = IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(2 * BUFFERS as u32)?;
    let replies = replies(payload.min(16 << 20));
    if way == Way::SendZcFixed {
        let whole = |reply: &Reply| libc::iovec {
            iov_base: reply.iov[0].iov_base,
            iov_len: reply.iov[0].iov_len + reply.iov[1].iov_len,
        };
        let whole: Vec<_> = replies.iter().map(whole).collect();
        // SAFETY: the memory is mapped until the process ends.
        unsafe { ring.submitter().register_buffers(&whole)? };
    }
    let socket = types::Fd(socket.as_fd().as_raw_fd());
    let mut sent = Sent::default();
    for index in (0..BUFFERS).cycle() {
        if !more() {
            break;
        }
        while replies[index].busy {
            complete(&mut ring, replies, &mut sent)?;
        }
        let entry = entry(way, socket, index, &replies[index]);
        // SAFETY: the entry's header, addresses and data are never freed.
        unsafe { ring.submission().push(&entry).map_err(io::Error::other)? };
        let before = sent.bytes;
        while sent.bytes == before {
            complete(&mut ring, replies, &mut sent)?;
        }
    }
    while replies.iter().any(|reply| reply.busy) {
        complete(&mut ring, replies, &mut sent)?;
    }
    Ok(sent)
}

/// Submits what there is, waits for something and takes it in.
fn complete(ring: &mut IoUring, replies: &mut [Reply], sent: &mut Sent) -> io::Result<()> {
    match ring.submit_and_wait(1) {
        Err(e) if e.kind() != io::ErrorKind::Interrupted => return Err(e),
        _ => {}
    }
    for cqe in ring.completion() {
        let Some(reply) = replies.get_mut(cqe.user_data() as usize) else {
            continue;
        };
        reply.busy = cqueue::more(cqe.flags());
        if cqueue::notif(cqe.flags()) {
            sent.notified += 1;
            sent.copied += u64::from(cqe.result().cast_unsigned() & COPIED != 0);
            continue;
        }
        if cqe.result() < 0 {
            return Err(io::Error::from_raw_os_error(-cqe.result()));
        }
        if cqe.result() as usize != reply.iov[0].iov_len + reply.iov[1].iov_len {
            return Err(io::ErrorKind::WriteZero.into());
        }
        sent.bytes += cqe.result() as u64;
    }
    Ok(())
}
