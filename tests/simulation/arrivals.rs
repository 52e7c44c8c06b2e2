//! Sockets that one worker has accepted and hands on to another before it reads from them. The mesh carries a
//! bare socket; here an open file stands for it, and tells which one it is.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use iii_stream::id::{GroupKey, ItemId};

/// A client whose socket is on its way.
pub(crate) struct Arrival {
    pub(crate) number: u32,
    pub(crate) room: usize,
    /// It answers no ping.
    pub(crate) is_mute: bool,
    /// What it sends first, and how many bytes of that at once; `None`: nothing.
    pub(crate) asks: Option<Request>,
}

/// The path that an upgrade joins, if it joins one, and how much of it comes at once.
pub(crate) type Request = (Option<(GroupKey, Option<ItemId>)>, usize);

/// All of one host.
#[derive(Clone, Default)]
pub(crate) struct OnTheirWay(Rc<RefCell<HashMap<i32, Arrival>>>);

impl OnTheirWay {
    /// What stands for the socket in the mesh.
    pub(crate) fn send(&self, arrival: Arrival) -> TcpStream {
        let file = File::open("/dev/null").expect("there always is one");
        self.0.borrow_mut().insert(file.as_raw_fd(), arrival);
        TcpStream::from(OwnedFd::from(file))
    }

    /// It has arrived, or was given back.
    pub(crate) fn take(&self, stream: &TcpStream) -> Arrival {
        let arrival = self.0.borrow_mut().remove(&stream.as_raw_fd());
        arrival.expect("it was sent once")
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().is_empty()
    }

    /// The process dies.
    pub(crate) fn clear(&self) {
        self.0.borrow_mut().clear();
    }
}
