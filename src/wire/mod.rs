//! Bytes between nodes: who may speak (secret proofs, handshake, sealed datagrams) and what is
//! said. Pure functions and state machines; no socket is touched here.

pub mod auth;
pub mod datagram;
pub mod handshake;
pub mod version;

pub use auth::{ClusterKey, ClusterKeyError, Secret};
pub use version::VersionRange;
