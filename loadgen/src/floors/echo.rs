//! The echo that F1 and F7 share: mio, one connection, nothing else.
//!
//! Both ends read until a read comes back short, which with edge-triggered readiness means
//! that the next byte will wake them again, and save the read that would only say so. This
//! is the cheapest correct use of epoll; a floor must not be beatable by a better loop.

use std::io::{self, Read, Write};
use std::net;
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use serde::{Deserialize, Serialize};

use super::peer::is_closed;

/// How an end waits for bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Waiting {
    /// Asleep in `epoll_wait`.
    Blocking,
    /// Awake, calling `epoll_wait` with a timeout of zero.
    Spinning,
}

const BUFFER_BYTES: usize = 64 << 10;

/// A connection with its own poll.
struct Endpoint {
    stream: TcpStream,
    poll: Poll,
    events: Events,
    timeout: Option<Duration>,
    /// The last read took all there was: only an event can bring more.
    drained: bool,
}

impl Endpoint {
    fn new(stream: net::TcpStream, waiting: Waiting) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let poll = Poll::new()?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(0), interest)?;
        let timeout = match waiting {
            Waiting::Blocking => None,
            Waiting::Spinning => Some(Duration::ZERO),
        };
        Ok(Self { stream, poll, events: Events::with_capacity(4), timeout, drained: false })
    }

    fn wait(&mut self) -> io::Result<()> {
        loop {
            match self.poll.poll(&mut self.events, self.timeout) {
                Ok(()) if self.events.is_empty() => {}
                Ok(()) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.drained = false;
        Ok(())
    }

    /// Reads what is there; `None` when that is nothing.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.stream.read(buffer) {
            Ok(read) => {
                self.drained = read < buffer.len();
                Ok(Some(read))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.drained = true;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Writes what fits.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.stream.write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            outcome => outcome,
        }
    }
}

/// Sends back every byte until the other end closes.
pub(super) fn serve(stream: net::TcpStream, waiting: Waiting) -> io::Result<()> {
    let mut endpoint = Endpoint::new(stream, waiting)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        if endpoint.drained {
            endpoint.wait()?;
        }
        let read = match endpoint.read(&mut buffer) {
            Ok(Some(0)) => return Ok(()),
            Ok(Some(read)) => read,
            Ok(None) => continue,
            Err(error) if is_closed(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            match endpoint.write(rest) {
                Ok(0) => endpoint.wait()?,
                Ok(written) => rest = &rest[written..],
                Err(error) if is_closed(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Keeps `in_flight` frames on their way and calls `returned` with how many came back, until
/// that says `false`.
///
/// Frames that come back together are replaced by one write. Never stops reading while it
/// cannot write, so that no frame size can make the two ends wait for each other.
pub(super) fn drive(
    stream: net::TcpStream,
    waiting: Waiting,
    frame_bytes: usize,
    in_flight: usize,
    mut returned: impl FnMut(u64) -> io::Result<bool>,
) -> io::Result<()> {
    let mut endpoint = Endpoint::new(stream, waiting)?;
    let frames = vec![0x5a; (frame_bytes * in_flight).min(4 << 20)];
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut unsent = frame_bytes * in_flight;
    let mut partial = 0;
    loop {
        while unsent > 0 {
            match endpoint.write(&frames[..unsent.min(frames.len())])? {
                0 => break,
                written => unsent -= written,
            }
        }
        if endpoint.drained {
            endpoint.wait()?;
        }
        match endpoint.read(&mut buffer)? {
            Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(read) => {
                partial += read;
                let whole = partial / frame_bytes;
                if whole > 0 {
                    partial -= whole * frame_bytes;
                    unsent += whole * frame_bytes;
                    if !returned(whole as u64)? {
                        return Ok(());
                    }
                }
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    fn connected() -> (net::TcpStream, net::TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("binds");
        let address = listener.local_addr().expect("bound");
        let one = net::TcpStream::connect(address).expect("connects");
        (one, listener.accept().expect("accepts").0)
    }

    /// 64 frames of 1 MiB are more than all socket buffers hold: the ends must not wait for
    /// each other.
    #[test]
    fn every_frame_comes_back_whatever_its_size() {
        for (frame_bytes, in_flight, wanted) in [(80, 1, 200), (80, 64, 5_000), (1 << 20, 64, 100)]
        {
            for waiting in [Waiting::Blocking, Waiting::Spinning] {
                let (driving, serving) = connected();
                let server = std::thread::spawn(move || serve(serving, waiting));
                let mut count = 0;
                drive(driving, waiting, frame_bytes, in_flight, |frames| {
                    assert!(frames <= in_flight as u64);
                    count += frames;
                    Ok(count < wanted)
                })
                .expect("drives");
                assert!((wanted..wanted + in_flight as u64).contains(&count), "{count}");
                server.join().expect("no panic").expect("a close is not an error");
            }
        }
    }

    #[test]
    fn a_server_that_closes_is_an_error() {
        let (driving, serving) = connected();
        drop(serving);
        assert!(drive(driving, Waiting::Blocking, 80, 1, |_| Ok(true)).is_err());
    }
}
