//! Walk of a message: `worker/outbox` comes before, `net/inbox` of the other node after.
//!
//! A link's socket: one vectored write for all that waits, one read for all that has come.

use std::io::{self, IoSlice, Read, Write};

use mio::net::TcpStream;

use super::inbox::Inbox;
use crate::worker::link::Link;

/// Chunks that one write takes at most; 1 MiB of ordinary ones.
const SLICES: usize = 16;

/// A connected socket with what the poll said of it.
pub struct Socket {
    /// The connection.
    pub stream: TcpStream,
    /// What has come.
    pub inbox: Inbox,
    /// A read may bring bytes.
    pub readable: bool,
    /// A write may take bytes.
    pub writable: bool,
}

/// What a read or write came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// So many bytes went through.
    Bytes(usize),
    /// Nothing goes through now; the poll will say when.
    Blocked,
    /// The connection is over.
    Closed,
}

impl Socket {
    /// Takes over a connected, non-blocking stream.
    pub fn new(stream: TcpStream, inbox_bytes: usize) -> Self {
        // Readiness is edge-triggered: what came before the registration must be tried for.
        Self { stream, inbox: Inbox::new(inbox_bytes), readable: true, writable: true }
    }

    /// Reads once, as much as there is room for.
    #[inline]
    pub fn read(&mut self) -> Outcome {
        let room = self.inbox.room();
        let asked = room.len();
        loop {
            match self.stream.read(room) {
                Ok(0) => return Outcome::Closed,
                Ok(count) => {
                    // A short read has emptied the socket: the poll announces whatever comes
                    // next, so a further read that finds nothing is saved.
                    self.readable = count == asked;
                    self.inbox.filled(count);
                    return Outcome::Bytes(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Outcome::Blocked;
                }
                Err(_) => return Outcome::Closed,
            }
        }
    }

    /// Writes what waits in the link's outbox, with one system call.
    #[inline]
    pub fn write(&mut self, link: &Link) -> Outcome {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        let mut bytes = 0;
        for (slot, slice) in slices.iter_mut().zip(link.outbox().slices()) {
            *slot = IoSlice::new(slice);
            bytes += slice.len();
            count += 1;
        }
        loop {
            match self.stream.write_vectored(&slices[..count]) {
                Ok(0) => return Outcome::Closed,
                Ok(written) => {
                    self.writable = written == bytes;
                    return Outcome::Bytes(written);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.writable = false;
                    return Outcome::Blocked;
                }
                Err(_) => return Outcome::Closed,
            }
        }
    }
}
