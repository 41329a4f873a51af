//! Walk of a message: `worker/outbox` comes before, `net/inbox` of the other node after.
//!
//! A link's socket: one vectored write for all that waits, one read for all that has come.

use std::io::{self, IoSlice, Read, Write};
use std::os::fd::AsFd;

use mio::net::TcpStream;

use super::flow::flow;
use super::inbox::Inbox;
use crate::worker::outbox::Outbox;
use crate::worker::turn::Flow;
use crate::worker::turn::Moved;

/// Chunks that one write takes at most; 1 MiB of ordinary ones.
const SLICES: usize = 16;

/// A connected socket with what it has received.
pub struct Socket {
    /// The connection.
    pub stream: TcpStream,
    /// What has come.
    pub inbox: Inbox,
}

impl Socket {
    /// Takes over a connected, non-blocking stream.
    pub fn new(stream: TcpStream, inbox_bytes: usize) -> Self {
        Self { stream, inbox: Inbox::new(inbox_bytes) }
    }

    /// Reads once, as much as there is room for.
    #[inline]
    pub fn read(&mut self) -> Moved {
        let room = self.inbox.room();
        let asked = room.len();
        match moved(asked, || self.stream.read(room)) {
            moved @ Moved::Bytes { count, .. } => {
                self.inbox.filled(count);
                moved
            }
            moved => moved,
        }
    }

    /// How it stands with what was written.
    pub fn flow(&self) -> Option<Flow> {
        flow(self.stream.as_fd())
    }

    /// Writes what waits in the link's outbox, with one system call.
    #[inline]
    pub fn write(&mut self, outbox: &Outbox) -> Moved {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        let mut bytes = 0;
        for (slot, slice) in slices.iter_mut().zip(outbox.slices()) {
            *slot = IoSlice::new(slice);
            bytes += slice.len();
            count += 1;
        }
        moved(bytes, || self.stream.write_vectored(&slices[..count]))
    }
}

/// What a call came to that was to move so many bytes. Fewer have emptied or filled the socket: the
/// poll announces whatever comes next, so that a further call that does nothing is saved.
#[inline]
fn moved(asked: usize, mut call: impl FnMut() -> io::Result<usize>) -> Moved {
    loop {
        match call() {
            Ok(0) => return Moved::Closed,
            Ok(count) => return Moved::Bytes { count, more: count == asked },
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Moved::Blocked,
            Err(_) => return Moved::Closed,
        }
    }
}
