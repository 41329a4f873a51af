//! A run of encoded frames in one aligned buffer: what queues carry and one write takes.

use std::fmt;
use std::time::Duration;

use rkyv::util::AlignedVec;

use super::deframe::{Deframed, Frame, deframe};
use super::header::{
    CORRELATION, CORRELATION_AND_DEADLINE, DEADLINE_US, FrameKind, HEADER_BYTES, at, padded,
};
use crate::base::{HandlerId, MessageTypeId};

/// Capacity of an ordinary chunk. One chunk is about what one `write` carries best on loopback,
/// and it stays in the second-level cache between encoding and writing.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// Whole frames, one after the other, each 16-byte aligned, in a buffer aligned to 64.
///
/// A consumer takes bytes from the front ([`Chunk::consume`]) while the producer's part is over:
/// frames are only appended before the chunk is handed on.
pub struct Chunk {
    bytes: AlignedVec<64>,
    start: usize,
    end: usize,
    frames: u32,
}

impl Chunk {
    /// An empty chunk with room for `capacity` bytes of frames. The bytes are zeroed once here;
    /// afterwards the buffer is reused as it is.
    pub fn with_capacity(capacity: usize) -> Self {
        let mut bytes = AlignedVec::with_capacity(capacity);
        bytes.resize(capacity, 0);
        Self { bytes, start: 0, end: 0, frames: 0 }
    }

    /// Takes everything out, so that the chunk can be filled anew.
    #[inline]
    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
        self.frames = 0;
    }

    /// Bytes of frames still in the chunk.
    #[inline]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether no bytes are left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// How many bytes the buffer can hold in all.
    #[inline]
    pub fn capacity(&self) -> usize {
        self.bytes.len()
    }

    /// Frames that were put in; consuming does not lower it.
    #[inline]
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// The bytes still in the chunk. Aligned to 16 as long as whole frames were consumed.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Drops `count` bytes from the front.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "consumed {count} of {} bytes", self.len());
        self.start += count;
    }

    /// Room behind the last frame.
    #[inline]
    pub(super) fn tail(&mut self) -> &mut [u8] {
        &mut self.bytes[self.end..]
    }

    /// Takes over a frame of `length` exact bytes that was written into [`Chunk::tail`], and zeros
    /// the gap up to the next frame, which may hold old bytes of another message.
    #[inline(always)]
    pub(super) fn commit(&mut self, length: usize) {
        let full = padded(length);
        if length < full {
            self.bytes[self.end + length..self.end + full].fill(0);
        }
        self.end += full;
        self.frames += 1;
    }

    /// Takes the last frame back, which was given to `commit` a moment ago and is `full`
    /// bytes long with its gap.
    #[cold]
    pub fn retract(&mut self, full: usize) {
        assert!(full <= self.len() && self.frames > 0, "only what was put in can be taken back");
        self.end -= full;
        self.frames -= 1;
    }

    /// Appends whole encoded frames from elsewhere. Returns false, and changes nothing, when they
    /// do not fit.
    #[inline]
    pub fn append(&mut self, frames: &[u8], count: u32) -> bool {
        debug_assert_eq!(frames.len() % HEADER_BYTES, 0, "frames are padded");
        let end = self.end + frames.len();
        if end > self.bytes.len() {
            return false;
        }
        self.bytes[self.end..end].copy_from_slice(frames);
        self.end = end;
        self.frames += count;
        true
    }

    /// Whether nothing was consumed.
    pub fn is_untouched(&self) -> bool {
        self.start == 0
    }

    /// Takes over what is left of another chunk, with the whole of a frame that was consumed in
    /// part, as if that had happened here. The chunk must be empty. Returns false, and changes
    /// nothing, when it does not fit.
    pub fn take_rest_of(&mut self, other: &Self) -> bool {
        let from = other.boundaries().take_while(|start| *start <= other.start).last().unwrap_or(0);
        let fits = self.append(&other.bytes[from..other.end], other.frames);
        if fits {
            self.start = other.start - from;
        }
        fits
    }

    /// How many tells and asks, no byte of which was consumed, are still in the chunk.
    pub fn untouched_requests(&self) -> u64 {
        self.requests().count() as u64
    }

    /// The frames no byte of which was consumed.
    pub fn untouched(&self) -> impl Iterator<Item = Frame<'_>> {
        let starts = self.headers().map(|(start, _)| start).filter(|start| *start >= self.start);
        starts.filter_map(|start| match deframe(&self.bytes[start..self.end], u32::MAX) {
            Ok(Deframed::Frame(frame, _)) => Some(frame),
            _ => None,
        })
    }

    /// The targets and types of those tells and asks.
    pub fn requests(&self) -> impl Iterator<Item = (HandlerId, MessageTypeId)> {
        let headers = self.headers().filter(|(start, _)| *start >= self.start);
        headers.map(|(_, header)| header).filter_map(|header| {
            let kind = at::KIND.read(header) & 15;
            (kind == FrameKind::Tell as u8 || kind == FrameKind::Ask as u8)
                .then(|| (at::TARGET.read(header), at::MESSAGE.read(header)))
        })
    }

    /// The correlations of the asks no byte of which was consumed.
    pub fn untouched_asks(&self) -> impl Iterator<Item = u64> {
        let frames = self.headers().filter(|(start, _)| *start >= self.start);
        frames.filter_map(|(start, _)| ask_of(&self.bytes[start..self.end]))
    }

    /// Takes out the frames, of those no byte of which was consumed, that fit by their bytes; `None`
    /// when there is none.
    pub fn take_out(&mut self, fits: impl Fn(&[u8]) -> bool) -> Option<Self> {
        let untouched: Vec<usize> = self.boundaries().filter(|at| *at >= self.start).collect();
        let frames = || untouched.windows(2).map(|pair| pair[0]..pair[1]);
        let taken = frames().filter(|frame| fits(&self.bytes[frame.clone()]));
        let bytes = taken.map(|frame| frame.len()).sum::<usize>();
        if bytes == 0 {
            return None;
        }
        let mut out = Self::with_capacity(bytes);
        let mut kept = untouched[0];
        for frame in frames() {
            if fits(&self.bytes[frame.clone()]) {
                out.append(&self.bytes[frame], 1);
                self.frames -= 1;
            } else {
                let length = frame.len();
                self.bytes.copy_within(frame, kept);
                kept += length;
            }
        }
        self.end = kept;
        Some(out)
    }

    /// Of each tell, ask and reply no byte of which was consumed: whether it is a request, and how
    /// many bytes it takes.
    pub fn messages(&self) -> impl Iterator<Item = (bool, usize)> {
        let headers = self.headers().filter(|(start, _)| *start >= self.start);
        headers.filter_map(|(_, header)| {
            let kind = at::KIND.read(header) & 15;
            let is_request = kind == FrameKind::Tell as u8 || kind == FrameKind::Ask as u8;
            let is_message = is_request || kind == FrameKind::Reply as u8;
            is_message.then(|| (is_request, padded(at::LENGTH.read(header) as usize)))
        })
    }

    /// The frames of an untouched chunk by their length: those up to `most` bytes, and the longer ones.
    pub fn split_by_length(&self, most: usize) -> (Self, Self) {
        let full = |(_, header): (usize, &[u8; HEADER_BYTES])| {
            padded(at::LENGTH.read(header) as usize).max(HEADER_BYTES)
        };
        let longer: usize = self.headers().map(full).filter(|bytes| *bytes > most).sum();
        let room = |bytes: usize| Self::with_capacity(padded(bytes.max(HEADER_BYTES)));
        let mut parts = (room(self.end - longer), room(longer));
        for (start, header) in self.headers() {
            let bytes = full((start, header));
            let part = if bytes > most { &mut parts.1 } else { &mut parts.0 };
            let fits = part.append(&self.bytes[start..start + bytes], 1);
            debug_assert!(fits, "there is room for it");
        }
        parts
    }

    /// How many bytes lie behind so many of the frames that are left, of which the first is whole.
    pub fn bytes_behind(&self, frames: u32) -> usize {
        if frames >= self.frames {
            return 0;
        }
        let mut next = self.start;
        for _ in 0..frames {
            let left = self.bytes.get(next..self.end);
            let Some(header) = left.and_then(<[u8]>::first_chunk::<HEADER_BYTES>) else {
                return 0;
            };
            next += padded(at::LENGTH.read(header) as usize).max(HEADER_BYTES);
        }
        self.end.saturating_sub(next)
    }

    /// Drops the rest of a frame that was consumed in part.
    pub fn skip_partial_frame(&mut self) {
        let boundary = self.boundaries().find(|start| *start >= self.start);
        self.start = boundary.unwrap_or(self.end);
    }

    /// Fills in what the first frame, an ask with a deadline, could not know when it was encoded: its
    /// correlation, and what is left of its deadline as it is put on its way.
    pub fn patch_first_ask(&mut self, correlation: u64, left: Duration) {
        let frame = self.bytes[self.start..].first_chunk_mut::<{ DEADLINE_US.end() }>();
        let frame = frame.expect("an ask has a correlation and a deadline");
        let fields = at::FIELDS.read(frame) & CORRELATION_AND_DEADLINE;
        assert_eq!(fields, CORRELATION_AND_DEADLINE, "they stand first of all fields");
        CORRELATION.write(frame, correlation);
        DEADLINE_US.write(frame, u64::try_from(left.as_micros()).unwrap_or(u64::MAX));
    }

    /// Points the first frame at another handler.
    pub fn patch_first_target(&mut self, target: HandlerId) {
        let header = self.bytes[self.start..].first_chunk_mut::<HEADER_BYTES>();
        at::TARGET.write(header.expect("a frame begins with a header"), target);
    }

    /// Holds bytes that are not frames: a reply's body on its way to an application thread. The
    /// chunk must be empty and large enough.
    pub fn hold(&mut self, body: &[u8]) {
        debug_assert!(self.is_empty(), "a body is held alone");
        self.bytes[..body.len()].copy_from_slice(body);
        self.start = 0;
        self.end = body.len();
    }

    /// Drops all but the body of the first frame, which is then held as by [`Chunk::hold`].
    pub fn keep_body(&mut self) {
        let frame = deframe(&self.bytes[self.start..self.end], u32::MAX);
        let Ok(Deframed::Frame(frame, _)) = frame else {
            debug_assert!(false, "a chunk made in this process holds valid frames");
            return self.clear();
        };
        let (offset, length) = (frame.header.body_offset(), frame.body().len());
        self.start += offset;
        self.end = self.start + length;
    }

    /// Where frames start, and where the last one ends.
    fn boundaries(&self) -> impl Iterator<Item = usize> {
        self.headers().map(|(start, _)| start).chain([self.end])
    }

    /// The headers of all frames with where these start, from the front of the buffer (`start` may
    /// stand in the middle of one).
    fn headers(&self) -> impl Iterator<Item = (usize, &[u8; HEADER_BYTES])> {
        let mut next = 0;
        std::iter::from_fn(move || {
            let start = next;
            let header = self.bytes.get(start..self.end)?.first_chunk()?;
            next += padded(at::LENGTH.read(header) as usize).max(HEADER_BYTES);
            Some((start, header))
        })
    }
}

/// The correlation of the first frame, if that is an ask.
pub fn ask_of(frames: &[u8]) -> Option<u64> {
    let frame = frames.first_chunk::<{ CORRELATION.end() }>()?;
    let is_ask = at::KIND.read(frame) & 15 == FrameKind::Ask as u8;
    is_ask.then(|| CORRELATION.read(frame))
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk")
            .field("frames", &self.frames)
            .field("bytes", &self.len())
            .field("capacity", &self.capacity())
            .finish()
    }
}
