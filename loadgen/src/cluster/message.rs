//! What travels: tells of four sizes, asks, and their answers.
//!
//! Each carries who sent it, its key, its sequence for that (sender, key), and when it was due on
//! the machine's monotonic clock, which all processes share.

use keyway::{Layout, Message};
use rkyv::{Archive, Deserialize, Serialize};

/// The payload sizes that can be asked for, in bytes.
pub const SIZES: [u32; 4] = [64, 256, 1024, 4096];

/// A tell of some size.
pub trait Load: Message {
    /// A message; `due_ns` is 0 when its latency is not taken.
    fn new(sender: u32, key: u32, sequence: u64, due_ns: u64) -> Self;
}

macro_rules! load {
    ($($name:ident, $wire:literal, $pad:literal, $size:literal;)*) => {$(
        #[doc = concat!("A tell of ", stringify!($size), " bytes.")]
        #[derive(Archive, Serialize, Deserialize, Message)]
        #[message(name = $wire, key = key)]
        pub struct $name {
            /// Who sent it.
            pub sender: u32,
            /// Nothing; keeps what follows aligned.
            pub reserved: u32,
            /// What it is routed by.
            pub key: u64,
            /// Its number among those of its sender and key, from 1.
            pub sequence: u64,
            /// When it was to be sent; 0 when that does not matter.
            pub due_ns: u64,
            /// Fills it up to its size.
            pub pad: [u64; $pad],
        }

        impl Load for $name {
            #[inline]
            fn new(sender: u32, key: u32, sequence: u64, due_ns: u64) -> Self {
                Self { sender, reserved: 0, key: u64::from(key), sequence, due_ns, pad: [0; $pad] }
            }
        }

        const _: () = assert!(size_of::<<$name as Archive>::Archived>() == $size);
    )*};
}

load! {
    Load64, "load.64", 4, 64;
    Load256, "load.256", 28, 256;
    Load1024, "load.1024", 124, 1024;
    Load4096, "load.4096", 508, 4096;
}

/// Who handled an ask. As large as the ask, as in the floors, which echo what they get.
#[derive(Archive, Serialize, Deserialize, Layout)]
pub struct Answer {
    /// The node's number within the run.
    pub node: u32,
    /// Its worker.
    pub worker: u32,
    /// Fills it up to 64 bytes.
    pub pad: [u64; 7],
}

/// A request of 64 bytes.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "load.ask", key = key, reply = Answer)]
pub struct Request {
    /// Who asks.
    pub sender: u32,
    /// Nothing; keeps what follows aligned.
    pub reserved: u32,
    /// What it is routed by.
    pub key: u64,
    /// Its number among those of its sender and key, from 1.
    pub sequence: u64,
    /// When it was to be sent.
    pub due_ns: u64,
    /// Fills it up to 64 bytes.
    pub pad: [u64; 4],
}

/// Tells a routee of this process to look at its orders. Never crosses a link.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "load.poke")]
pub struct Poke {
    /// Nothing; an archive has at least a byte.
    pub nothing: u8,
}
