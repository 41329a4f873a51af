//! Walk of a message: `worker/outbox` comes before, `net/inbox` of the other node after.
//!
//! A link's socket: one vectored write for all that waits, one read for all that has come. The
//! simulator reads and writes by the same two functions, over streams of its own.

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

    /// Reads once.
    #[inline]
    pub fn read(&mut self) -> Moved {
        read(&mut self.stream, &mut self.inbox)
    }

    /// How it stands with what was written.
    pub fn flow(&self) -> Option<Flow> {
        flow(self.stream.as_fd())
    }

    /// Writes once.
    #[inline]
    pub fn write(&mut self, outbox: &Outbox) -> Moved {
        write(&mut self.stream, outbox)
    }
}

/// Reads once, as much as there is room for, from a stream that never waits.
#[inline]
pub fn read(stream: &mut impl Read, inbox: &mut Inbox) -> Moved {
    let room = inbox.room();
    let asked = room.len();
    match moved(asked, || stream.read(room)) {
        moved @ Moved::Bytes { count, .. } => {
            inbox.filled(count);
            moved
        }
        moved => moved,
    }
}

/// Writes what waits in a link's outbox to a stream that never waits, with one call.
#[inline]
pub fn write(stream: &mut impl Write, outbox: &Outbox) -> Moved {
    let mut slices = [IoSlice::new(&[]); SLICES];
    let mut count = 0;
    let mut bytes = 0;
    for (slot, slice) in slices.iter_mut().zip(outbox.slices()) {
        *slot = IoSlice::new(slice);
        bytes += slice.len();
        count += 1;
    }
    moved(bytes, || stream.write_vectored(&slices[..count]))
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
