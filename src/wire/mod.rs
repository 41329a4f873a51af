//! Bytes between nodes: who may speak (secret proofs, handshake, sealed datagrams) and what is
//! said (frames). Pure functions and state machines; no socket is touched here.

pub mod auth;
pub mod chunk;
pub mod codec;
pub mod datagram;
pub mod deframe;
pub mod encode;
pub mod handshake;
pub mod header;
pub mod layout;
pub mod message;
#[cfg(test)]
mod tests;
pub mod version;

pub use auth::{ClusterKey, ClusterKeyError};
pub use chunk::{CHUNK_BYTES, Chunk, ask_of};
pub use deframe::{Deframed, Frame, WireError, deframe};
pub use encode::{EncodeError, encode, encode_empty, measure};
pub use header::{Fields, FrameKind, HEADER_BYTES, Header, MAX_FIELDS_BYTES, padded};
pub use layout::Layout;
pub use message::{Message, WireType};
pub use version::VersionRange;
