//! What the kernel says of a connection: `TCP_INFO`, getsockopt(2). With `scheduling` the one file with
//! `unsafe` in it: no crate that we have gives more of it than the round trip.

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::mesh::inquiries::KernelLook;

/// `struct tcp_info` of linux/tcp.h as far as we read it. The kernel fills as much of it as it knows, and
/// new kernels only add at its end.
#[repr(C)]
#[derive(Default, Clone, Copy)]
struct TcpInfo {
    /// State, congestion state, retransmits, probes, backoff, options and two more, a byte each.
    bytes: [u8; 8],
    rto: u32,
    ato: u32,
    snd_mss: u32,
    rcv_mss: u32,
    unacked: u32,
    sacked: u32,
    lost: u32,
    retrans: u32,
    fackets: u32,
    last_data_sent: u32,
    last_ack_sent: u32,
    last_data_recv: u32,
    last_ack_recv: u32,
    pmtu: u32,
    rcv_ssthresh: u32,
    rtt: u32,
    rttvar: u32,
    snd_ssthresh: u32,
    snd_cwnd: u32,
    advmss: u32,
    reordering: u32,
    rcv_rtt: u32,
    rcv_space: u32,
    total_retrans: u32,
    pacing_rate: u64,
    max_pacing_rate: u64,
    bytes_acked: u64,
    bytes_received: u64,
    segs_out: u32,
    segs_in: u32,
    notsent_bytes: u32,
    min_rtt: u32,
    data_segs_in: u32,
    data_segs_out: u32,
    delivery_rate: u64,
    busy_time: u64,
    rwnd_limited: u64,
    sndbuf_limited: u64,
}

/// None: the socket is none of TCP, or no kernel tells.
pub(super) fn look(socket: BorrowedFd<'_>) -> Option<KernelLook> {
    let mut info = TcpInfo::default();
    let mut len = size_of::<TcpInfo>() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed, so it is open. The kernel writes `len` bytes at most into
    // `info`, a C struct of integers for which any bytes are a value, and keeps no pointer.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut len,
        )
    };
    (result == 0).then_some(KernelLook {
        rtt_us: info.rtt,
        unacked: info.unacked,
        retransmits: info.total_retrans,
        congestion_window: info.snd_cwnd,
        last_ack_ms: info.last_ack_recv,
        last_sent_ms: info.last_data_sent,
        acked_bytes: info.bytes_acked,
        unsent_bytes: info.notsent_bytes,
        window_limited_us: info.rwnd_limited,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_a_peer_does_not_read_is_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut socket, _) = listener.accept().unwrap();
        socket.write_all(&[7; 1000]).unwrap();
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while look(socket.as_fd()).unwrap().acked_bytes < 1000 {
            assert!(std::time::Instant::now() < until);
        }
        assert!(look(socket.as_fd()).unwrap().congestion_window > 0);
        socket.set_nonblocking(true).unwrap();
        while socket.write(&[7; 64 * 1024]).is_ok() {}
        let look = look(socket.as_fd()).unwrap();
        assert!(look.unsent_bytes > 0, "{look:?}");
        drop(peer);
    }
}
