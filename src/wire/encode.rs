//! Walk of a message: `worker/place` comes before, `worker/outbox` after.
//!
//! A message is serialised by rkyv straight into the tail of the chunk that will be written to the
//! socket: no copy, no allocation.

use std::error::Error;
use std::fmt;

use rkyv::Serialize;
use rkyv::api::low::{LowSerializer, to_bytes_in_with_alloc};
use rkyv::rancor::{Source, Trace};
use rkyv::ser::allocator::{Arena, ArenaHandle};
use rkyv::ser::{Positional, Writer};

use super::chunk::Chunk;
use super::header::{Fields, FrameKind, HEADER_BYTES, Header, MAX_FIELDS_BYTES, padded};
use crate::base::debug_as_display;
use crate::base::{HandlerId, MessageTypeId};

/// Why a message could not be encoded.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The chunk's tail is too small; the caller takes a larger one.
    #[error("the message does not fit into what is left of the chunk")]
    Overflow,
    /// The message's own serialisation failed.
    #[error("the message's serialisation failed")]
    Serialize,
}

debug_as_display!(EncodeError);

impl Trace for EncodeError {
    fn trace<R>(self, _trace: R) -> Self
    where
        R: fmt::Debug + fmt::Display + Send + Sync + 'static,
    {
        self
    }
}

impl Source for EncodeError {
    fn new<T: Error + Send + Sync + 'static>(_source: T) -> Self {
        Self::Serialize
    }
}

/// Where rkyv writes to: the body's part of a chunk.
pub struct BodyWriter<'a> {
    room: &'a mut [u8],
    at: usize,
    /// Counts what finds no room instead of failing.
    counts: bool,
}

impl Positional for BodyWriter<'_> {
    #[inline]
    fn pos(&self) -> usize {
        self.at
    }
}

impl Writer<EncodeError> for BodyWriter<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let end = self.at + bytes.len();
        match self.room.get_mut(self.at..end) {
            Some(room) => room.copy_from_slice(bytes),
            None if self.counts => {}
            None => return Err(EncodeError::Overflow),
        }
        self.at = end;
        Ok(())
    }
}

/// The serialiser that bodies go through: it knows no shared pointers, so `Rc` and `Arc` are
/// refused when a message type is compiled.
pub type BodySerializer<'a> = LowSerializer<BodyWriter<'a>, ArenaHandle<'a>, EncodeError>;

/// Appends one frame to a chunk. On an error the chunk is as it was.
#[inline(always)]
pub fn encode<B>(
    chunk: &mut Chunk,
    arena: &mut Arena,
    kind: FrameKind,
    fields: &Fields,
    message: MessageTypeId,
    target: HandlerId,
    body: &B,
) -> Result<usize, EncodeError>
where
    B: for<'a> Serialize<BodySerializer<'a>>,
{
    let tail = chunk.tail();
    if tail.len() < HEADER_BYTES + MAX_FIELDS_BYTES {
        return Err(EncodeError::Overflow);
    }
    let body_offset = if *fields == Fields::default() {
        HEADER_BYTES
    } else {
        let mut words = [0; MAX_FIELDS_BYTES];
        let fields_bytes = fields.write(&mut words);
        tail[HEADER_BYTES..HEADER_BYTES + MAX_FIELDS_BYTES].copy_from_slice(&words);
        HEADER_BYTES + fields_bytes
    };
    let writer = BodyWriter { room: &mut tail[body_offset..], at: 0, counts: false };
    let writer = to_bytes_in_with_alloc::<_, _, EncodeError>(body, writer, arena.acquire())?;
    let length = body_offset + writer.at;
    if padded(length) > tail.len() {
        return Err(EncodeError::Overflow);
    }
    let header = Header::new(length as u32, kind, fields, message, target);
    header.write(tail.first_chunk_mut().expect("there is room for a header"));
    chunk.commit(length);
    Ok(padded(length))
}

/// How long a frame would be that fits into no chunk; nothing where its serialisation fails.
#[cold]
pub fn measure<B>(arena: &mut Arena, fields: &Fields, body: &B) -> Option<usize>
where
    B: for<'a> Serialize<BodySerializer<'a>>,
{
    let writer = BodyWriter { room: &mut [], at: 0, counts: true };
    let writer = to_bytes_in_with_alloc::<_, _, EncodeError>(body, writer, arena.acquire()).ok()?;
    Some(padded(HEADER_BYTES + fields.write(&mut [0; MAX_FIELDS_BYTES]) + writer.at))
}

/// Appends one frame whose body is given as bytes (empty for most control frames).
pub fn encode_empty(
    chunk: &mut Chunk,
    kind: FrameKind,
    fields: &Fields,
    message: MessageTypeId,
    target: HandlerId,
    body: &[u8],
) -> Result<usize, EncodeError> {
    let mut words = [0; MAX_FIELDS_BYTES];
    let body_offset = HEADER_BYTES + fields.write(&mut words);
    let length = body_offset + body.len();
    let tail = chunk.tail();
    if padded(length) > tail.len() {
        return Err(EncodeError::Overflow);
    }
    let header = Header::new(length as u32, kind, fields, message, target);
    header.write(tail.first_chunk_mut().expect("there is room for a header"));
    tail[HEADER_BYTES..body_offset].copy_from_slice(&words[..body_offset - HEADER_BYTES]);
    tail[body_offset..length].copy_from_slice(body);
    chunk.commit(length);
    Ok(padded(length))
}
