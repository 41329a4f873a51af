//! Layout hashes: what the bytes of a type mean, in 64 bits, made at compile time.

use std::fmt;

use xxhash_rust::const_xxh3::xxh3_64;

/// Bodies lie in receive buffers at multiples of this.
pub const MOST_ALIGNMENT: usize = 16;

/// What bytes of a type mean: a hash over its archived form, with the names of fields and variants.
///
/// Two types of one hash can be read as each other; two types that differ in anything a reader
/// would notice (order, number, type or name of fields and variants, byte order, alignment) have
/// different ones, but for a chance of 2^-64. It does not depend on the type's own name, its crate,
/// the compiler or the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LayoutHash(pub u64);

impl LayoutHash {
    /// The hash that stands for a name.
    pub const fn of(name: &str) -> Self {
        Self(xxh3_64(name.as_bytes()))
    }

    /// This one followed by another; the order counts.
    #[must_use]
    pub const fn with(self, next: Self) -> Self {
        let (first, second) = (self.0.to_le_bytes(), next.0.to_le_bytes());
        let mut bytes = [0; 16];
        let mut at = 0;
        while at < 8 {
            bytes[at] = first[at];
            bytes[at + 8] = second[at];
            at += 1;
        }
        Self(xxh3_64(&bytes))
    }

    /// What the compiler knows of a type (its size and its alignment) beside what it is called
    /// here.
    ///
    /// # Panics
    /// If it cannot be read in place at a receiver: while it is compiled, as no layout is made later.
    pub const fn shape<T>(kind: &str) -> Self {
        assert!(
            align_of::<T>() <= MOST_ALIGNMENT,
            "a type that is aligned to more than 16 bytes cannot travel: take `align` out of its \
             `#[rkyv(attr(repr(...)))]`, or send a plain type and convert it"
        );
        let size = Self(size_of::<T>() as u64);
        Self::of(kind).with(size).with(Self(align_of::<T>() as u64))
    }

    /// Followed by a field.
    #[must_use]
    pub const fn field(self, name: &str, layout: Self) -> Self {
        self.with(Self::of("field")).with(Self::of(name)).with(layout)
    }

    /// Followed by a variant; its fields come next.
    #[must_use]
    pub const fn variant(self, name: &str, discriminant: i128) -> Self {
        let discriminant = Self(discriminant as u64);
        self.with(Self::of("variant")).with(Self::of(name)).with(discriminant)
    }
}

impl fmt::Display for LayoutHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
