//! Walk of a message: `net/inbox` comes before, `worker/deliver` after.
//!
//! Cuts received bytes into frames without copying them.

use super::header::{Fields, HEADER_BYTES, Header, HeaderError, padded};
use crate::base::debug_as_display;

/// One whole frame within a receive buffer.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// The checked header.
    pub header: Header,
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The message's archived bytes, as long as the sender made them, aligned to 16.
    #[inline]
    pub fn body(&self) -> &'a [u8] {
        &self.bytes[self.header.body_offset()..]
    }

    /// The optional fields.
    #[inline]
    pub fn fields(&self) -> Fields {
        self.header.fields_of(self.bytes)
    }

    /// Of an ask, or the answer to one: its correlation, and what is left of the asker's deadline in
    /// microseconds. As in [`Frame::fields`], of which it reads nothing else.
    #[inline]
    pub fn correlation(&self) -> Option<(u64, Option<u64>)> {
        self.header.correlation_of(self.bytes)
    }
}

/// What a peer did to the stream that cannot be mended: the link is closed.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A frame's header is not acceptable.
    #[error("the peer sent a bad frame: {0}")]
    Header(#[from] HeaderError),
    /// A frame lacks a field that its kind needs, or has a body of the wrong size.
    #[error("the peer sent a {0} frame without what it needs")]
    Incomplete(&'static str),
    /// A frame that this side of the link never gets.
    #[error("the peer sent a frame that only the other side of a link may send")]
    WrongDirection,
    /// An acknowledgement that goes backwards or beyond what was sent.
    #[error("the peer acknowledged what was never sent")]
    BadAck,
    /// The peer began a long message and did not end it, while others waited for its memory.
    #[error(
        "the peer began a long message and did not end it while others waited for room; raise \
         links.inboxes_bytes if it is only slow"
    )]
    Stalled,
}

debug_as_display!(WireError);

/// What stands at the front of some received bytes.
#[derive(Debug)]
pub enum Deframed<'a> {
    /// A whole frame, and how many bytes it takes.
    Frame(Frame<'a>, usize),
    /// More bytes are needed: this many in all, so far as is known.
    Need(usize),
}

/// Looks at the front of `bytes`, which starts at a frame boundary. `limit` caps the exact length
/// of a frame.
#[inline]
pub fn deframe(bytes: &[u8], limit: u32) -> Result<Deframed<'_>, WireError> {
    let Some((header, _)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Ok(Deframed::Need(HEADER_BYTES));
    };
    let header = Header::parse(header, limit)?;
    let length = header.length as usize;
    let full = padded(length);
    if bytes.len() < full {
        return Ok(Deframed::Need(full));
    }
    Ok(Deframed::Frame(Frame { header, bytes: &bytes[..length] }, full))
}
