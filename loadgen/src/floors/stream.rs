//! One connection, one direction: what F2 and F6 share.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::peer::{Task, is_closed};
use super::{FRAME_ALIGNMENT, MAX_FRAME_BYTES};
use crate::error::{Attempt, Failure, Result};
use crate::machine::{Window, WindowReport};

/// Bytes per write and per read. Larger reads made no difference that stands out of the noise:
/// the sending end is the one that is busy all the time.
pub(super) const CHUNK_BYTES: usize = 64 << 10;

/// What a reading end counted.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Reading {
    /// Frames or bytes within the window.
    pub(super) count: u64,
    /// The reading end, then the sending end.
    pub(super) window: WindowReport,
}

/// Writes the same chunk of whole frames again and again until the other end closes.
pub(super) fn send(mut stream: TcpStream, frame_bytes: usize) -> io::Result<()> {
    let chunk = frames(frame_bytes);
    loop {
        match stream.write_all(&chunk) {
            Ok(()) => {}
            Err(error) if is_closed(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// As many whole frames as 64 KiB hold, but one at least. A frame begins with its length as
/// a little-endian `u32`.
fn frames(frame_bytes: usize) -> Vec<u8> {
    let mut frame = vec![0x5a; frame_bytes.next_multiple_of(FRAME_ALIGNMENT)];
    frame[..4].copy_from_slice(&(frame_bytes as u32).to_le_bytes());
    frame.repeat((CHUNK_BYTES / frame.len()).max(1))
}

/// Counts frames by their lengths.
pub(super) fn read_frames(mut stream: TcpStream, task: &Task) -> Result<Reading> {
    let mut frames = FrameCounter::new(task.frame_bytes);
    measure(task, "read frames", || frames.read(&mut stream))
}

/// Counts bytes.
pub(super) fn read_bytes(mut stream: TcpStream, task: &Task) -> Result<Reading> {
    let mut buffer = vec![0; CHUNK_BYTES];
    measure(task, "read bytes", || match stream.read(&mut buffer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        read => Ok(read as u64),
    })
}

/// Repeats `step` through the warm-up and the measured time; sums what it returns in the
/// latter. The clock is read once per step, which is once per system call.
fn measure(
    task: &Task,
    attempt: &str,
    mut step: impl FnMut() -> io::Result<u64>,
) -> Result<Reading> {
    let warm_up_ends = Instant::now() + task.warm_up;
    while Instant::now() < warm_up_ends {
        step().attempting(attempt)?;
    }
    let window = Window::open(&[std::process::id(), task.peer_pid])?;
    let ends = window.opened() + task.duration;
    let mut count = 0;
    while Instant::now() < ends {
        count += step().attempting(attempt)?;
    }
    let window = window.close()?;
    if count == 0 {
        return Err(Failure::new(attempt, "nothing came in the measured time"));
    }
    Ok(Reading { count, window })
}

/// Steps over frames in a buffer, keeping an incomplete one for the next read.
struct FrameCounter {
    buffer: Vec<u8>,
    /// Where the incomplete frame ends; it begins at 0.
    kept: usize,
}

impl FrameCounter {
    fn new(frame_bytes: usize) -> Self {
        Self { buffer: vec![0; CHUNK_BYTES.max(2 * frame_bytes)], kept: 0 }
    }

    fn read(&mut self, source: &mut impl Read) -> io::Result<u64> {
        let read = source.read(&mut self.buffer[self.kept..])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let bytes = &self.buffer[..self.kept + read];
        let (mut at, mut count) = (0, 0);
        while let Some(length) = bytes.get(at..at + 4) {
            let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
            if !(FRAME_ALIGNMENT..=MAX_FRAME_BYTES).contains(&length) {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("a frame of {length} bytes"),
                ));
            }
            let next = at + length.next_multiple_of(FRAME_ALIGNMENT);
            if next > bytes.len() {
                break;
            }
            at = next;
            count += 1;
        }
        let end = bytes.len();
        self.buffer.copy_within(at..end, 0);
        self.kept = end - at;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out at most `step` bytes per read.
    struct Dribble<'a> {
        bytes: &'a [u8],
        step: usize,
    }

    impl Read for Dribble<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.step.min(self.bytes.len()).min(buffer.len());
            buffer[..count].copy_from_slice(&self.bytes[..count]);
            self.bytes = &self.bytes[count..];
            Ok(count)
        }
    }

    #[test]
    fn frames_are_counted_however_they_are_cut() {
        for frame_bytes in [16, 70, 80, 1_000, 100_000] {
            let chunk = frames(frame_bytes);
            let frame_count = chunk.len() / frame_bytes.next_multiple_of(FRAME_ALIGNMENT);
            for step in [1, 3, 16, 79, 4_096, chunk.len()] {
                let mut source = Dribble { bytes: &chunk, step };
                let mut counter = FrameCounter::new(frame_bytes);
                let mut count = 0;
                while !source.bytes.is_empty() {
                    count += counter.read(&mut source).expect("reads");
                }
                assert_eq!(count, frame_count as u64, "{frame_bytes} bytes in steps of {step}");
                assert_eq!(counter.kept, 0);
            }
        }
    }

    #[test]
    fn a_chunk_is_64_kib_of_whole_frames() {
        assert_eq!(frames(80).len(), 65_520);
        assert_eq!(frames(65).len() % 80, 0);
        assert_eq!(frames(100_000).len(), 100_000);
    }

    #[test]
    fn lengths_that_cannot_be_are_errors() {
        for length in [0_u32, 15, 2 << 20, u32::MAX] {
            let mut bytes = [0; 32];
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            let outcome = FrameCounter::new(80).read(&mut &bytes[..]);
            assert_eq!(outcome.expect_err("impossible").kind(), io::ErrorKind::InvalidData);
        }
    }
}
