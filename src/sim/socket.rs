//! One side of a connection of the fake network, as whoever reads and writes it sees it.

use std::io::{self, IoSlice, Read, Write};

use super::events::{ConnId, Side};
use super::network::Network;
use super::newer::fail_anew;
use crate::base::Rng;
use crate::control::links::shake::Wire;
use crate::net::inbox::Inbox;
use crate::net::link;
use crate::worker::LinkId;
use crate::worker::outbox::Outbox;
use crate::worker::turn::Moved;

/// What a newer process says differently.
pub type Anew = fn(&mut [u8], &mut Rng);

/// A stream that never waits.
pub struct Pipe<'a> {
    /// Over which network.
    pub net: &'a mut Network,
    /// Which connection.
    pub conn: ConnId,
    /// Which side of it.
    pub side: Side,
    /// How what is written next is changed, if a newer process writes it.
    pub anew: Option<Anew>,
}

impl Read for Pipe<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.net.read(self.conn, self.side, room)
    }
}

impl Write for Pipe<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let Self { net, conn, side, .. } = self;
        let (conn, side) = (*conn, *side);
        let written = match self.anew.filter(|_| net.is_newer(conn, side)) {
            None => net.write(conn, side, slices.iter().map(|slice| &**slice)),
            Some(anew) => {
                let mut bytes =
                    slices.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<u8>>();
                anew(&mut bytes, &mut net.rng);
                net.write(conn, side, std::iter::once(bytes.as_slice()))
            }
        };
        if written == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(written) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Wire for Pipe<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        Read::read(self, room)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = Write::write(self, bytes)?;
        let to = self.net.slots(self.conn).1;
        if let Some(forger) = &mut self.net.forger {
            forger.overhears((self.conn, self.side), to, &bytes[..written]);
        }
        Ok(written)
    }
}

/// A link's socket.
pub struct Socket {
    /// Whose it is.
    pub link: LinkId,
    /// Which connection.
    pub conn: ConnId,
    /// Which side of it.
    pub side: Side,
    /// What has come and was not handled.
    pub inbox: Inbox,
    /// What was written ends with a whole frame.
    whole: bool,
    /// What a newer process says more, as far as it is not written.
    more: Vec<u8>,
}

impl Socket {
    /// A link's side of a connection, with a receive buffer of this size when much comes.
    pub fn new(link: LinkId, (conn, side): (ConnId, Side), inbox_bytes: usize) -> Self {
        let inbox = Inbox::new(inbox_bytes);
        Self { link, conn, side, inbox, whole: true, more: Vec::new() }
    }

    fn pipe<'a>(&self, net: &'a mut Network, anew: Option<Anew>) -> Pipe<'a> {
        Pipe { net, conn: self.conn, side: self.side, anew }
    }

    /// The receive buffer may be so large.
    pub fn allow(&mut self, net: &mut Network, bytes: usize) {
        net.trace.note(net.now, self.conn, "allow", bytes as u64);
        self.inbox.allow(bytes);
    }

    /// Reads once.
    pub fn read(&mut self, net: &mut Network) -> Moved {
        link::read(&mut self.pipe(net, None), &mut self.inbox)
    }

    /// Writes once.
    pub fn write(&mut self, net: &mut Network, outbox: &Outbox) -> Moved {
        if self.whole
            && let Some(moved) = self.write_more(net)
        {
            return moved;
        }
        // Reasons are changed where frames are whole.
        let anew: Option<Anew> = if self.whole { Some(fail_anew) } else { None };
        let moved = link::write(&mut self.pipe(net, anew), outbox);
        if let Moved::Bytes { more, .. } = moved {
            self.whole = more;
        }
        moved
    }

    /// Writes what a newer process says more, between two of its frames. What came of it if it
    /// could not write all of it.
    fn write_more(&mut self, net: &mut Network) -> Option<Moved> {
        if self.more.is_empty() {
            return None;
        }
        let count = net.write(self.conn, self.side, std::iter::once(self.more.as_slice()));
        self.more.drain(..count);
        if self.more.is_empty() {
            *net.said_more.entry((self.conn, 1 - self.side)).or_default() += 1;
            return None;
        }
        Some(if count == 0 { Moved::Blocked } else { Moved::Bytes { count: 0, more: false } })
    }

    /// Says something more in front of what its worker writes next: who writes is owed an answer,
    /// and must know of it.
    pub fn say_more(&mut self, frame: Vec<u8>) {
        if self.more.is_empty() {
            self.more = frame;
        }
    }
}
