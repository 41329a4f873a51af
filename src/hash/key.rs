//! Keys: what a message is routed by, turned into a seeded 64-bit hash.
//!
//! Two nodes may only agree on a key's owner if they hash it alike, so a hash depends on the value
//! and the seed alone: never on the machine's word size or byte order, nor on who owns the memory.
//! `String` and `str`, `Vec<u8>` and `[u8]`, `T` and `&T` hash alike. Integers of different widths
//! do *not*: `7u32` and `7u64` are different keys (`usize` counts as `u64`). A `NonZeroU32` is the
//! `u32` in it, an `IpAddr` the address of its family.
//!
//! An `Option` is a key as well, and `None` one like any other: all messages whose key is `None`
//! have the same owner. Where they should rather be spread, give them a variant without a key, or
//! a router that follows none.
//!
//! ```
//! use keyway::hash::{HashKey, HashSeed};
//!
//! let seed = HashSeed::from_cluster("shop");
//! assert_eq!("cart".hash_key(seed), String::from("cart").hash_key(seed));
//! // Parts cannot slide into each other.
//! assert_ne!(("ab", "c").hash_key(seed), ("a", "bc").hash_key(seed));
//! ```

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::num::NonZero;
use std::rc::Rc;
use std::sync::Arc;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// What makes one cluster's hashes differ from another's.
///
/// A seed made from a secret keeps outsiders from choosing keys that all belong to one node. xxh3
/// is not a cryptographic hash: this raises the cost of such an attack as long as hashes and owners
/// stay unobserved, it is no proof against it. `Debug` therefore does not print the value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HashSeed(pub u64);

impl HashSeed {
    /// The seed of a cluster that has no secret: known to anyone who knows its name.
    pub fn from_cluster(name: &str) -> Self {
        Self(xxh3_64_with_seed(name.as_bytes(), xxh3_64(b"keyway cluster hash seed")))
    }
}

impl fmt::Debug for HashSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HashSeed(..)")
    }
}

/// A value that messages can be routed by.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key",
    label = "not a key",
    note = "a key is an integer, `bool`, `char`, a text, bytes (of a UUID, for example), an IP or socket \
            address, an `Option` of one of these or a tuple of up to four; of a float take its bits, \
            `value.to_bits()`, in a field of their own; of a type of your own take a field, \
            `key = id.0`, or implement `HashKey` for it",
    note = "or route by a function: `router.key(|message| ...)`, or name the key with each send"
)]
pub trait HashKey {
    /// The key's hash: equal for equal values and seeds, on every machine.
    fn hash_key(&self, seed: HashSeed) -> u64;
}

macro_rules! integers {
    ($($integer:ty),*) => {$(
        impl HashKey for $integer {
            #[inline]
            fn hash_key(&self, seed: HashSeed) -> u64 {
                xxh3_64_with_seed(&self.to_le_bytes(), seed.0)
            }
        }
    )*};
}
integers!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);

macro_rules! non_zero {
    ($($integer:ty),*) => {$(
        impl HashKey for NonZero<$integer> {
            #[inline]
            fn hash_key(&self, seed: HashSeed) -> u64 {
                self.get().hash_key(seed)
            }
        }
    )*};
}
non_zero!(u8, u16, u32, u64, u128, usize, i8, i16, i32, i64, i128, isize);

impl HashKey for usize {
    #[inline]
    fn hash_key(&self, seed: HashSeed) -> u64 {
        // The width must not depend on the machine.
        (*self as u64).hash_key(seed)
    }
}

impl HashKey for isize {
    #[inline]
    fn hash_key(&self, seed: HashSeed) -> u64 {
        (*self as i64).hash_key(seed)
    }
}

impl HashKey for bool {
    #[inline]
    fn hash_key(&self, seed: HashSeed) -> u64 {
        u8::from(*self).hash_key(seed)
    }
}

impl HashKey for char {
    #[inline]
    fn hash_key(&self, seed: HashSeed) -> u64 {
        u32::from(*self).hash_key(seed)
    }
}

impl HashKey for [u8] {
    #[inline]
    fn hash_key(&self, seed: HashSeed) -> u64 {
        xxh3_64_with_seed(self, seed.0)
    }
}

impl<const N: usize> HashKey for [u8; N] {
    #[inline]
    fn hash_key(&self, seed: HashSeed) -> u64 {
        xxh3_64_with_seed(self, seed.0)
    }
}

impl HashKey for Vec<u8> {
    #[inline]
    fn hash_key(&self, seed: HashSeed) -> u64 {
        self.as_slice().hash_key(seed)
    }
}

impl HashKey for str {
    #[inline]
    fn hash_key(&self, seed: HashSeed) -> u64 {
        self.as_bytes().hash_key(seed)
    }
}

impl HashKey for String {
    #[inline]
    fn hash_key(&self, seed: HashSeed) -> u64 {
        self.as_bytes().hash_key(seed)
    }
}

macro_rules! pointers {
    ($($pointer:ty),*) => {$(
        impl<T: HashKey + ?Sized> HashKey for $pointer {
            #[inline]
            fn hash_key(&self, seed: HashSeed) -> u64 {
                T::hash_key(self, seed)
            }
        }
    )*};
}
pointers!(&T, &mut T, Box<T>, Rc<T>, Arc<T>);

impl<T: HashKey + ToOwned + ?Sized> HashKey for Cow<'_, T> {
    #[inline]
    fn hash_key(&self, seed: HashSeed) -> u64 {
        T::hash_key(self, seed)
    }
}

impl<T: HashKey> HashKey for Option<T> {
    #[inline]
    fn hash_key(&self, seed: HashSeed) -> u64 {
        match self {
            None => mix(seed, []),
            Some(value) => mix(seed, [value.hash_key(seed)]),
        }
    }
}

/// Hashes the count of parts and then each part's own hash. As every part is a fixed eight bytes,
/// no bytes can slide from one into the next.
#[inline]
fn mix<const N: usize>(seed: HashSeed, parts: [u64; N]) -> u64 {
    let mut bytes = [[0; 8]; 5];
    // The tag keeps `None` from being the key 0, and a tuple the array of its hashes.
    bytes[0] = (0x6b65_7977_6179_0000 | N as u64).to_le_bytes();
    for (place, part) in bytes[1..].iter_mut().zip(parts) {
        *place = part.to_le_bytes();
    }
    xxh3_64_with_seed(bytes[..=N].as_flattened(), seed.0)
}

macro_rules! tuples {
    ($(($($name:ident $index:tt),+)),*) => {$(
        impl<$($name: HashKey),+> HashKey for ($($name,)+) {
            #[inline]
            fn hash_key(&self, seed: HashSeed) -> u64 {
                mix(seed, [$(self.$index.hash_key(seed)),+])
            }
        }
    )*};
}
tuples!((A 0), (A 0, B 1), (A 0, B 1, C 2), (A 0, B 1, C 2, D 3));

macro_rules! addresses {
    ($($address:ty),*) => {$(
        impl HashKey for $address {
            #[inline]
            fn hash_key(&self, seed: HashSeed) -> u64 {
                self.octets().hash_key(seed)
            }
        }
    )*};
}
addresses!(Ipv4Addr, Ipv6Addr);

impl HashKey for IpAddr {
    #[inline]
    fn hash_key(&self, seed: HashSeed) -> u64 {
        match self {
            Self::V4(address) => address.hash_key(seed),
            Self::V6(address) => address.hash_key(seed),
        }
    }
}

impl HashKey for SocketAddrV4 {
    #[inline]
    fn hash_key(&self, seed: HashSeed) -> u64 {
        (self.ip(), self.port()).hash_key(seed)
    }
}

impl HashKey for SocketAddrV6 {
    #[inline]
    fn hash_key(&self, seed: HashSeed) -> u64 {
        (self.ip(), self.port(), self.flowinfo(), self.scope_id()).hash_key(seed)
    }
}

impl HashKey for SocketAddr {
    #[inline]
    fn hash_key(&self, seed: HashSeed) -> u64 {
        match self {
            Self::V4(address) => address.hash_key(seed),
            Self::V6(address) => address.hash_key(seed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SEED: HashSeed = HashSeed(0x5eed);

    #[test]
    fn owners_do_not_matter() {
        let text = "a key that is longer than sixteen bytes";
        let hash = text.hash_key(SEED);
        assert_eq!(hash, text.to_owned().hash_key(SEED));
        assert_eq!(hash, (&&text).hash_key(SEED));
        assert_eq!(hash, Box::<str>::from(text).hash_key(SEED));
        assert_eq!(hash, Arc::<str>::from(text).hash_key(SEED));
        assert_eq!(hash, Cow::Borrowed(text).hash_key(SEED));
        assert_eq!(hash, text.as_bytes().to_vec().hash_key(SEED));
        assert_eq!(b"abc".hash_key(SEED), b"abc"[..].hash_key(SEED));
        assert_eq!((7u64, "x").hash_key(SEED), (&7u64, String::from("x")).hash_key(SEED));
        assert_eq!(Some("x").hash_key(SEED), Some(String::from("x")).hash_key(SEED));
        assert_eq!(7usize.hash_key(SEED), 7u64.hash_key(SEED));
        assert_eq!((-7isize).hash_key(SEED), (-7i64).hash_key(SEED));
        assert_eq!(NonZero::new(7usize).unwrap().hash_key(SEED), 7u64.hash_key(SEED));
        assert_eq!(NonZero::new(-7i8).unwrap().hash_key(SEED), (-7i8).hash_key(SEED));
    }

    #[test]
    fn addresses_are_their_octets_and_port() {
        let (v4, v6) = (Ipv4Addr::new(10, 0, 0, 7), Ipv6Addr::LOCALHOST);
        assert_eq!(IpAddr::V4(v4).hash_key(SEED), [10, 0, 0, 7].hash_key(SEED));
        assert_eq!(IpAddr::V6(v6).hash_key(SEED), v6.octets().hash_key(SEED));
        assert_eq!(SocketAddr::from((v4, 80)).hash_key(SEED), (v4, 80u16).hash_key(SEED));
        let scoped = |flow, scope| SocketAddr::V6(SocketAddrV6::new(v6, 80, flow, scope));
        let all = [
            v4.hash_key(SEED),
            v6.hash_key(SEED),
            v4.to_ipv6_mapped().hash_key(SEED),
            SocketAddr::from((v4, 80)).hash_key(SEED),
            SocketAddr::from((v4, 81)).hash_key(SEED),
            scoped(0, 0).hash_key(SEED),
            scoped(0, 1).hash_key(SEED),
            scoped(1, 0).hash_key(SEED),
        ];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn different_keys_differ() {
        let hashes = [
            ("ab", "c").hash_key(SEED),
            ("a", "bc").hash_key(SEED),
            ("abc", "").hash_key(SEED),
            ("abc",).hash_key(SEED),
            "abc".hash_key(SEED),
            Some("abc").hash_key(SEED),
            None::<&str>.hash_key(SEED),
            Some(None::<&str>).hash_key(SEED),
            (1u64, 2u64, 3u64).hash_key(SEED),
            (1u64, 2u64, 3u64, 4u64).hash_key(SEED),
            ((1u64, 2u64), 3u64).hash_key(SEED),
            1u8.hash_key(SEED),
            1u16.hash_key(SEED),
            1u32.hash_key(SEED),
            1u64.hash_key(SEED),
            1u128.hash_key(SEED),
            0u64.hash_key(SEED),
            'a'.hash_key(SEED),
            "".hash_key(SEED),
            "abc".hash_key(HashSeed(0)),
        ];
        // `Some` and a tuple of one are both one part: the only two that may agree here.
        assert_eq!(Some("abc").hash_key(SEED), ("abc",).hash_key(SEED));
        assert_eq!(hashes.iter().collect::<BTreeSet<_>>().len(), hashes.len() - 1);
    }

    /// A changed hash moves every key of every running cluster during an upgrade.
    #[test]
    fn hashes_are_pinned() {
        assert_eq!(7u64.hash_key(SEED), xxh3_64_with_seed(&[7, 0, 0, 0, 0, 0, 0, 0], 0x5eed));
        assert_eq!("cart-7".hash_key(HashSeed::from_cluster("shop")), PINNED_TEXT);
        assert_eq!((7u32, "cart").hash_key(SEED), PINNED_TUPLE);
    }

    const PINNED_TEXT: u64 = 18_213_944_446_488_895_999;
    const PINNED_TUPLE: u64 = 2_799_394_797_911_062_933;

    #[test]
    fn seeds_stay_out_of_debug_output() {
        assert_eq!(format!("{:?}", HashSeed(0xdead)), "HashSeed(..)");
        assert_ne!(HashSeed::from_cluster("a").0, HashSeed::from_cluster("b").0);
    }
}
