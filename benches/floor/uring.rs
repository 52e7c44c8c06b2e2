//! Many sends in one system call (`io_uring_enter(2)`). The one file of the benches with `unsafe` in it: no crate
//! makes a request of a buffer and keeps that buffer as long as the kernel may read it.
//!
//! Requests are not linked, each stands for itself, and none may wait: a socket that takes nothing is an error.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;

use io_uring::squeue::Entry;
use io_uring::{IoUring, opcode, types};

/// A ring, and the sends that go with the next submission.
pub(crate) struct Ring {
    ring: IoUring,
    /// For good, so that the kernel may read it whenever it likes.
    frame: &'static [u8],
    /// The kernel knows the sockets by their place in a table that it has of them.
    is_registered: bool,
    /// Sends at most in one submission.
    most: usize,
    pushed: usize,
    /// Of all submissions.
    pub(crate) submissions: u64,
}

impl Ring {
    /// A ring for so many sends at a time. `sockets`: all that will be written to, which the kernel looks up once.
    pub(crate) fn new(
        frame: &'static [u8],
        most: usize,
        sockets: Option<&[RawFd]>,
    ) -> io::Result<Self> {
        let entries = most.next_power_of_two() as u32;
        let ring = quickest(entries).or_else(|_| IoUring::new(entries))?;
        // The ring is looked up once as well, where the kernel knows how.
        let _ = ring.submitter().register_ring_fd();
        if let Some(sockets) = sockets {
            ring.submitter().register_files(sockets)?;
        }
        Ok(Self {
            ring,
            frame,
            is_registered: sockets.is_some(),
            most,
            pushed: 0,
            submissions: 0,
        })
    }

    /// The frame for that socket, whose place in the table is `place`.
    pub(crate) fn push(&mut self, place: usize, socket: RawFd) -> io::Result<()> {
        if self.pushed == self.most {
            self.submit()?;
        }
        let send = self.send(place, socket);
        // SAFETY: the request names one buffer, the frame, which lives as long as the process and is never
        // written to. The kernel only reads it. What else the request holds are integers: a descriptor that
        // names another file, or none, is answered with an error or ends in a wrong socket, and in no memory
        // of ours.
        let pushed = unsafe { self.ring.submission().push(&send) };
        pushed.map_err(io::Error::other)?; // it has room for `most`
        self.pushed += 1;
        Ok(())
    }

    fn send(&self, place: usize, socket: RawFd) -> Entry {
        let (bytes, len) = (self.frame.as_ptr(), self.frame.len() as u32);
        let send = match self.is_registered {
            true => opcode::Send::new(types::Fixed(place as u32), bytes, len),
            false => opcode::Send::new(types::Fd(socket), bytes, len),
        };
        send.flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL).build()
    }

    /// One system call for all that was pushed. Returns when each has its answer.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
        let mut answers = std::mem::take(&mut self.pushed);
        self.submissions += u64::from(answers > 0);
        while answers > 0 {
            match self.ring.submit_and_wait(answers) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for answer in self.ring.completion() {
                answers -= 1;
                match usize::try_from(answer.result()) {
                    Ok(len) if len == self.frame.len() => {}
                    Ok(len) => {
                        let part = format!("a socket took {len} bytes of a frame");
                        return Err(io::Error::other(part));
                    }
                    Err(_) => return Err(io::Error::from_raw_os_error(-answer.result())),
                }
            }
        }
        Ok(())
    }
}

/// With all that spares work where one thread submits and waits (Linux 6.1).
fn quickest(entries: u32) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .build(entries)
}
