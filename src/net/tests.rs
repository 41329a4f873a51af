//! A link's bytes come in pieces of any size: the same frames come out of them, in order, once.

use std::io;

use proptest::collection::vec;
use proptest::prelude::*;

use super::inbox::Inbox;
use super::link::read;
use crate::base::{HandlerId, MessageTypeId};
use crate::wire::{Chunk, Deframed, Fields, FrameKind, HEADER_BYTES, deframe, encode_empty};
use crate::worker::turn::Moved;

const LIMIT: u32 = 8 * 1024;

fn encoded(bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (at, body) in bodies.iter().enumerate() {
        let mut chunk = Chunk::with_capacity(LIMIT as usize + HEADER_BYTES);
        let fields = Fields { epoch: (at % 3 == 0).then_some(at as u64), ..Fields::default() };
        let (message, target) = (MessageTypeId(at as u32), HandlerId(7));
        encode_empty(&mut chunk, FrameKind::Tell, &fields, message, target, body).unwrap();
        bytes.extend_from_slice(chunk.bytes());
    }
    bytes
}

/// Reads `bytes` in pieces of the given sizes, over and over, as a worker does.
fn read_in_pieces(bytes: &[u8], pieces: &[usize], usual: usize) -> Vec<(u32, Vec<u8>)> {
    let mut inbox = Inbox::new(usual);
    let mut out = Vec::new();
    let mut rest = bytes;
    let mut most = 0;
    for piece in pieces.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let room = inbox.room();
        assert!(!room.is_empty(), "a read without room would look like the end of the stream");
        most = most.max(room.len());
        let (now, later) = rest.split_at((*piece).min(room.len()).min(rest.len()));
        room[..now.len()].copy_from_slice(now);
        inbox.filled(now.len());
        rest = later;
        let mut consumed = 0;
        let need = loop {
            match deframe(&inbox.bytes()[consumed..], LIMIT).unwrap() {
                Deframed::Frame(frame, full) => {
                    assert_eq!(frame.body().as_ptr() as usize % HEADER_BYTES, 0, "misaligned");
                    out.push((frame.header.message.0, frame.body().to_vec()));
                    consumed += full;
                }
                Deframed::Need(need) => break need,
            }
        };
        inbox.consumed(consumed, need);
    }
    assert!(inbox.bytes().is_empty());
    assert!(most <= usual.max(LIMIT as usize), "the inbox grew to {most} bytes");
    out
}

fn check(bodies: &[Vec<u8>], pieces: &[usize], usual: usize) {
    let out = read_in_pieces(&encoded(bodies), pieces, usual);
    assert_eq!(out.len(), bodies.len());
    for (at, ((message, body), expected)) in out.iter().zip(bodies).enumerate() {
        assert_eq!(*message, at as u32);
        assert_eq!(body, expected);
    }
}

proptest! {
    #[test]
    fn pieces_of_any_size_give_the_same_frames(
        bodies in vec(vec(any::<u8>(), 0..2_000), 0..20),
        pieces in vec(1..3_000_usize, 1..20),
        usual in prop::sample::select(vec![64_usize, 256, 1024, 65_536]),
    ) {
        check(&bodies, &pieces, usual);
    }

    #[test]
    fn frames_far_larger_than_the_usual_buffer_pass(
        sizes in vec(0..LIMIT as usize - 32, 1..6),
        pieces in vec(1..5_000_usize, 1..10),
    ) {
        let bodies: Vec<Vec<u8>> =
            sizes.iter().enumerate().map(|(at, size)| vec![at as u8; *size]).collect();
        check(&bodies, &pieces, 64);
    }
}

#[test]
fn every_cut_of_two_frames_gives_both() {
    let bodies = [vec![1; 40], vec![2; 3]];
    let bytes = encoded(&bodies);
    for cut in 1..bytes.len() {
        let out = read_in_pieces(&bytes, &[cut, bytes.len() - cut], 64);
        assert_eq!(out, [(0, bodies[0].clone()), (1, bodies[1].clone())], "cut at {cut}");
    }
    assert_eq!(read_in_pieces(&bytes, &[1], 64).len(), 2, "byte by byte");
}

/// Gives what it is told to, one after the other.
struct Stream(Vec<io::Result<usize>>);

impl io::Read for Stream {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        self.0.remove(0)
    }
}

#[test]
fn a_read_says_how_it_ended() {
    const ROOM: usize = 64;
    let fails = |kind: io::ErrorKind| Err(io::Error::from(kind));
    let interrupted = || fails(io::ErrorKind::Interrupted);
    for (answers, expected) in [
        (vec![Ok(5)], Moved::Bytes { count: 5, more: false }),
        (vec![Ok(ROOM)], Moved::Bytes { count: ROOM, more: true }),
        (vec![interrupted(), interrupted(), Ok(5)], Moved::Bytes { count: 5, more: false }),
        (vec![fails(io::ErrorKind::WouldBlock)], Moved::Blocked),
        (vec![Ok(0)], Moved::Closed),
        (vec![fails(io::ErrorKind::ConnectionReset)], Moved::Closed),
    ] {
        let mut stream = Stream(answers);
        assert_eq!(read(&mut stream, &mut Inbox::new(ROOM)), expected);
        assert!(stream.0.is_empty(), "{expected:?}: it did not ask again");
    }
}
