//! A link's bytes after its handshake, in pieces of any size. Whatever comes: the same frames come
//! out as from the whole, or the same error; no more room is taken than the limit allows; and a
//! body is either refused by its check or can be read from end to end.

#![no_main]

use keyway::net::inbox::Inbox;
use keyway::wire::{Deframed, HEADER_BYTES, WireError, WireType, deframe};
use libfuzzer_sys::fuzz_target;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Serialize};

const LIMIT: u32 = 4096;
const USUAL: usize = 64;

/// What a message may hold: text, lists in lists, choices.
#[derive(Archive, Serialize)]
struct Order {
    key: u64,
    note: String,
    lines: Vec<(u32, Option<String>)>,
    state: State,
}

#[derive(Archive, Serialize)]
enum State {
    Open,
    Sent { at: u64, by: String },
}

type Seen = Vec<(u32, Vec<u8>)>;

fn note(frame: keyway::wire::Frame<'_>, seen: &mut Seen) {
    assert_eq!(
        frame.body().as_ptr() as usize % HEADER_BYTES,
        0,
        "a body lies where it can be read"
    );
    assert!(frame.header.length <= LIMIT);
    std::hint::black_box(frame.fields());
    if let Some(order) = Order::access(frame.body()) {
        let mut read = order.note.as_str().len() + order.key.to_native() as usize % 2;
        for line in order.lines.iter() {
            read += line.1.as_ref().map_or(0, |text| text.as_str().chars().count());
        }
        if let ArchivedState::Sent { at, by } = &order.state {
            read += by.as_str().len() + at.to_native() as usize % 2;
        }
        std::hint::black_box(read);
    }
    seen.push((frame.header.target.0, frame.body().to_vec()));
}

/// All at once.
fn whole(input: &[u8]) -> (Seen, Option<WireError>) {
    let mut bytes = AlignedVec::<64>::new();
    bytes.extend_from_slice(input);
    let (mut at, mut seen) = (0, Seen::new());
    loop {
        match deframe(&bytes[at..], LIMIT) {
            Ok(Deframed::Frame(frame, full)) => {
                note(frame, &mut seen);
                at += full;
            }
            Ok(Deframed::Need(need)) => {
                assert!(need > bytes.len() - at);
                return (seen, None);
            }
            Err(error) => return (seen, Some(error)),
        }
    }
}

/// As a worker reads it.
fn in_pieces(mut input: &[u8], pieces: [usize; 2]) -> (Seen, Option<WireError>) {
    let mut inbox = Inbox::new(USUAL);
    let mut seen = Seen::new();
    for piece in pieces.into_iter().cycle() {
        if input.is_empty() {
            break;
        }
        let room = inbox.room();
        assert!((1..=LIMIT as usize).contains(&room.len()));
        let (now, later) = input.split_at(piece.min(room.len()).min(input.len()));
        room[..now.len()].copy_from_slice(now);
        inbox.filled(now.len());
        input = later;
        let mut consumed = 0;
        let need = loop {
            match deframe(&inbox.bytes()[consumed..], LIMIT) {
                Ok(Deframed::Frame(frame, full)) => {
                    note(frame, &mut seen);
                    consumed += full;
                }
                Ok(Deframed::Need(need)) => break need,
                Err(error) => return (seen, Some(error)),
            }
        };
        inbox.consumed(consumed, need);
    }
    (seen, None)
}

fuzz_target!(|input: &[u8]| {
    let Some((&[first, second], input)) = input.split_first_chunk::<2>() else { return };
    let pieces = [usize::from(first) + 1, usize::from(second) + 1];
    assert_eq!(whole(input), in_pieces(input, pieces));
});
