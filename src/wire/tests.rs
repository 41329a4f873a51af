//! Properties of frames: what goes in comes out, whatever else comes does no harm, and no byte of
//! another message travels along.

pub(in crate::wire) mod protocol;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use rkyv::ser::allocator::Arena;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Serialize};

use super::header::{HEADER_VERSION, HeaderError, MAX_FIELDS_BYTES};
use super::*;
use crate::base::{HandlerId, MessageTypeId};

const LIMIT: u32 = 1 << 16;

const KINDS: [FrameKind; 6] = [
    FrameKind::Tell,
    FrameKind::Ask,
    FrameKind::Reply,
    FrameKind::Failure,
    FrameKind::Ack,
    FrameKind::Fin,
];

#[derive(Clone, Debug)]
struct Sample {
    kind: FrameKind,
    fields: Fields,
    message: MessageTypeId,
    target: HandlerId,
    body: Vec<u8>,
}

fn fields() -> impl Strategy<Value = Fields> {
    let word = option::of(any::<u64>());
    (word.clone(), word.clone(), word.clone(), word, option::of(any::<[u64; 4]>())).prop_map(
        |(correlation, deadline_us, epoch, delivery_sequence, trace)| Fields {
            correlation,
            deadline_us,
            epoch,
            delivery_sequence,
            trace,
        },
    )
}

fn sample() -> impl Strategy<Value = Sample> {
    (
        proptest::sample::select(&KINDS),
        fields(),
        any::<u32>(),
        any::<u32>(),
        vec(any::<u8>(), 0..300),
    )
        .prop_map(|(kind, fields, message, target, body)| Sample {
            kind,
            fields,
            message: MessageTypeId(message),
            target: HandlerId(target),
            body,
        })
}

impl Sample {
    fn encode_into(&self, chunk: &mut Chunk) -> Result<usize, EncodeError> {
        encode_empty(chunk, self.kind, &self.fields, self.message, self.target, &self.body)
    }

    fn is_request(&self) -> bool {
        matches!(self.kind, FrameKind::Tell | FrameKind::Ask)
    }
}

/// A chunk that was full of other messages before.
fn used_chunk(capacity: usize) -> Chunk {
    let mut chunk = Chunk::with_capacity(capacity);
    chunk.tail().fill(0xee);
    chunk
}

fn aligned(bytes: &[u8]) -> AlignedVec<64> {
    let mut aligned = AlignedVec::new();
    aligned.extend_from_slice(bytes);
    aligned
}

proptest! {
    #[test]
    fn random_bytes_give_frames_or_errors(bytes in vec(any::<u8>(), 0..200)) {
        let bytes = aligned(&bytes);
        let mut at = 0;
        while let Ok(Deframed::Frame(frame, full)) = deframe(&bytes[at..], LIMIT) {
            prop_assert!(full >= HEADER_BYTES && full % HEADER_BYTES == 0);
            prop_assert!(frame.header.length <= LIMIT);
            prop_assert_eq!(frame.header.body_offset() + frame.body().len(), frame.header.length as usize);
            frame.fields();
            at += full;
            prop_assert!(at <= bytes.len());
        }
    }

    /// Random bytes seldom get past the header's checks; these always do.
    #[test]
    fn random_headers_give_frames_or_errors(
        length in 0..400_u32,
        kind in 0..16_u8,
        bits in any::<u8>(),
        rest in vec(any::<u8>(), 10..400),
    ) {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.extend([HEADER_VERSION << 4 | kind, bits, 0, 0]);
        bytes.extend(rest);
        let bytes = aligned(&bytes);
        match deframe(&bytes, LIMIT) {
            Ok(Deframed::Frame(frame, full)) => {
                prop_assert_eq!(full, padded(length as usize));
                prop_assert!(frame.body().len() <= length as usize - HEADER_BYTES);
                frame.fields();
            }
            Ok(Deframed::Need(need)) => {
                prop_assert!(need > bytes.len());
                prop_assert!(need == HEADER_BYTES || need == padded(length as usize));
            }
            Err(error) => prop_assert!(matches!(
                error,
                WireError::Header(
                    HeaderError::Kind(_) | HeaderError::Reserved | HeaderError::TooShort(_)
                )
            )),
        }
    }

    #[test]
    fn frames_come_out_as_they_went_in(samples in vec(sample(), 0..20)) {
        let mut chunk = used_chunk(CHUNK_BYTES);
        let mut bytes = 0;
        for sample in &samples {
            bytes += sample.encode_into(&mut chunk).unwrap();
        }
        prop_assert_eq!((chunk.len(), chunk.frames()), (bytes, samples.len() as u32));
        let mut at = 0;
        for sample in &samples {
            let Ok(Deframed::Frame(frame, full)) = deframe(&chunk.bytes()[at..], LIMIT) else {
                panic!("no frame at {at}");
            };
            prop_assert_eq!(frame.body().as_ptr() as usize % HEADER_BYTES, 0);
            prop_assert_eq!(frame.header.kind, sample.kind);
            prop_assert_eq!(frame.header.message, sample.message);
            prop_assert_eq!(frame.header.target, sample.target);
            prop_assert_eq!(frame.fields(), sample.fields);
            let Fields { correlation, deadline_us, .. } = sample.fields;
            let both = correlation.map(|correlation| (correlation, deadline_us));
            prop_assert_eq!(frame.correlation(), both);
            prop_assert_eq!(frame.body(), &sample.body[..]);
            at += full;
        }
        prop_assert!(matches!(deframe(&chunk.bytes()[at..], LIMIT), Ok(Deframed::Need(HEADER_BYTES))));
    }

    #[test]
    fn every_cut_of_a_frame_asks_for_the_rest(sample in sample(), cut in any::<prop::sample::Index>()) {
        let mut chunk = Chunk::with_capacity(1024);
        let full = sample.encode_into(&mut chunk).unwrap();
        let cut = cut.index(full);
        match deframe(&chunk.bytes()[..cut], LIMIT) {
            Ok(Deframed::Need(need)) if cut < HEADER_BYTES => prop_assert_eq!(need, HEADER_BYTES),
            Ok(Deframed::Need(need)) => prop_assert_eq!(need, full),
            other => prop_assert!(false, "{other:?}"),
        }
    }

    /// A used buffer gives the same bytes as a fresh one: gaps are zeros, not what stood there.
    #[test]
    fn nothing_of_an_older_message_travels_along(samples in vec(sample(), 1..10)) {
        let mut used = used_chunk(CHUNK_BYTES);
        let mut fresh = Chunk::with_capacity(CHUNK_BYTES);
        for sample in &samples {
            sample.encode_into(&mut used).unwrap();
            sample.encode_into(&mut fresh).unwrap();
        }
        prop_assert_eq!(used.bytes(), fresh.bytes());
    }

    #[test]
    fn what_does_not_fit_leaves_the_chunk_as_it_was(
        first in sample(),
        second in sample(),
        room in 0..400_usize,
    ) {
        let mut chunk = used_chunk(padded(room));
        let _ = first.encode_into(&mut chunk);
        let (before, frames) = (chunk.bytes().to_vec(), chunk.frames());
        if second.encode_into(&mut chunk) == Err(EncodeError::Overflow) {
            prop_assert_eq!(chunk.bytes(), &before[..]);
            prop_assert_eq!(chunk.frames(), frames);
        } else {
            prop_assert!(chunk.len() <= chunk.capacity());
        }
    }

    /// Against a list of where frames begin.
    #[test]
    fn a_chunk_knows_what_was_not_touched(
        samples in vec(sample(), 0..12),
        taken in any::<prop::sample::Index>(),
    ) {
        let mut chunk = used_chunk(CHUNK_BYTES);
        let mut starts = Vec::new();
        for sample in &samples {
            starts.push(chunk.len());
            sample.encode_into(&mut chunk).unwrap();
        }
        let end = chunk.len();
        let whole = chunk.bytes().to_vec();
        let taken = taken.index(end + 1);
        chunk.consume(taken);

        let untouched = |(start, sample): (&usize, &Sample)| *start >= taken && sample.is_request();
        let expected = starts.iter().zip(&samples).filter(|pair| untouched(*pair)).count();
        prop_assert_eq!(chunk.untouched_requests(), expected as u64);

        chunk.skip_partial_frame();
        let next = starts.iter().copied().find(|start| *start >= taken).unwrap_or(end);
        prop_assert_eq!(chunk.bytes(), &whole[next..]);
        prop_assert_eq!(chunk.untouched_requests(), expected as u64);
    }
}

/// Holes between fields, a list, text: what rkyv writes has gaps of its own.
#[derive(Archive, Serialize)]
struct Gappy {
    small: u8,
    large: u64,
    text: String,
    list: Vec<(u8, u32)>,
    choice: Option<u16>,
}

#[test]
fn a_typed_body_carries_nothing_of_an_older_message() {
    let mut arena = Arena::new();
    for (text, items) in [("", 0), ("short", 1), ("longer than can stand inline", 9)] {
        for choice in [None, Some(7)] {
            let body = Gappy {
                small: 1,
                large: 2,
                text: text.into(),
                list: (0..items).map(|item| (item, u32::from(item))).collect(),
                choice,
            };
            for fields in [Fields::default(), Fields::correlated(5)] {
                let bytes = [used_chunk(4096), Chunk::with_capacity(4096)].map(|mut chunk| {
                    let kind = FrameKind::Ask;
                    let (message, target) = (MessageTypeId(1), HandlerId(2));
                    encode(&mut chunk, &mut arena, kind, &fields, message, target, &body).unwrap();
                    chunk.bytes().to_vec()
                });
                assert_eq!(bytes[0], bytes[1], "{text:?} {choice:?} {fields:?}");
            }
        }
    }
}

#[test]
fn a_failed_encoding_can_be_repeated_in_a_larger_chunk() {
    let body = Gappy { small: 1, large: 2, text: "x".repeat(300), list: Vec::new(), choice: None };
    let mut arena = Arena::new();
    let mut encode_into = |chunk: &mut Chunk| {
        let fields = Fields::default();
        let (message, target) = (MessageTypeId(1), HandlerId(2));
        encode(chunk, &mut arena, FrameKind::Tell, &fields, message, target, &body)
    };
    for capacity in (0..400).step_by(16) {
        let mut chunk = Chunk::with_capacity(capacity);
        match encode_into(&mut chunk) {
            Ok(bytes) => assert!(bytes == chunk.len() && bytes <= capacity),
            Err(error) => {
                assert_eq!(error, EncodeError::Overflow);
                assert!(chunk.is_empty() && chunk.frames() == 0);
            }
        }
    }
    let mut chunk = Chunk::with_capacity(512);
    let bytes = encode_into(&mut chunk).unwrap();
    assert!(bytes > 300 + HEADER_BYTES && bytes < 300 + HEADER_BYTES + MAX_FIELDS_BYTES);
}

#[test]
fn the_limit_is_exact() {
    let mut chunk = Chunk::with_capacity(1024);
    let body = [0; 100];
    let fields = Fields::default();
    encode_empty(&mut chunk, FrameKind::Tell, &fields, MessageTypeId(0), HandlerId(0), &body)
        .unwrap();
    let exact = (HEADER_BYTES + body.len()) as u32;
    assert!(matches!(deframe(chunk.bytes(), exact), Ok(Deframed::Frame(..))));
    let error = deframe(chunk.bytes(), exact - 1).unwrap_err();
    let expected = HeaderError::TooLong { length: exact, limit: exact - 1 };
    assert_eq!(error, WireError::Header(expected));
}

/// A header that is right but for one thing is refused for that thing.
#[test]
fn whatever_is_wrong_with_a_header_is_named() {
    let trace = Some([1; 4]);
    let fields = Fields { correlation: Some(1), trace, ..Fields::default() };
    let mut chunk = Chunk::with_capacity(1_024);
    let (message, target) = (MessageTypeId(7), HandlerId(3));
    encode_empty(&mut chunk, FrameKind::Ask, &fields, message, target, &[9; 40]).unwrap();
    let right = aligned(chunk.bytes());
    let header_and_fields = (HEADER_BYTES + padded(8 + 32)) as u32;
    let with = |at: usize, bytes: &[u8]| {
        let mut changed = right.clone();
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        changed
    };
    let found = |bytes: &[u8]| match deframe(bytes, LIMIT) {
        Err(WireError::Header(error)) => Some(error),
        _ => None,
    };
    assert_eq!(found(&right), None);
    for bit in 0..16 {
        let reserved = (1_u16 << bit).to_le_bytes();
        assert_eq!(found(&with(6, &reserved)), Some(HeaderError::Reserved), "bit {bit}");
    }
    for bit in 5..8 {
        let unknown = [right[5] | 1 << bit];
        assert_eq!(found(&with(5, &unknown)), Some(HeaderError::Reserved), "field {bit}");
    }
    for version in (0..16).filter(|version| *version != HEADER_VERSION) {
        let kind = [version << 4 | FrameKind::Ask as u8];
        assert_eq!(found(&with(4, &kind)), Some(HeaderError::Version(version)));
    }
    for short in 0..header_and_fields {
        let length = short.to_le_bytes();
        assert_eq!(found(&with(0, &length)), Some(HeaderError::TooShort(short)));
    }
    assert_eq!(found(&with(0, &header_and_fields.to_le_bytes())), None);
    let length = LIMIT + 1;
    let too_long = HeaderError::TooLong { length, limit: LIMIT };
    assert_eq!(found(&with(0, &length.to_le_bytes())), Some(too_long));
}
