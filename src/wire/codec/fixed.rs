//! Values of a fixed size, and their places in bytes of a fixed shape, such as a frame's header.
//!
//! A list of places is the only description of such a shape, for whoever writes, reads or patches
//! it. Since it is made of constants, a field costs one load or store.

use std::fmt;
use std::marker::PhantomData;

use crate::base::{HandlerId, Incarnation, MessageTypeId, NodeId, NodeRef, WorkerIndex};

/// A value that takes the same number of bytes whatever it is: little-endian.
pub trait Fixed: Sized {
    /// How many.
    const BYTES: usize;

    /// From exactly so many bytes.
    fn read(bytes: &[u8]) -> Self;

    /// Over exactly so many bytes.
    fn write(&self, out: &mut [u8]);
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Fixed for $number {
            const BYTES: usize = size_of::<Self>();

            #[inline(always)]
            fn read(bytes: &[u8]) -> Self {
                Self::from_le_bytes(bytes.try_into().expect("as many as a number has"))
            }

            #[inline(always)]
            fn write(&self, out: &mut [u8]) {
                out.copy_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

numbers!(u8, u16, u32, u64);

macro_rules! wrapped_numbers {
    ($($wrapper:ident($number:ty)),*) => {$(
        impl Fixed for $wrapper {
            const BYTES: usize = <$number>::BYTES;

            #[inline(always)]
            fn read(bytes: &[u8]) -> Self {
                Self(<$number>::read(bytes))
            }

            #[inline(always)]
            fn write(&self, out: &mut [u8]) {
                self.0.write(out);
            }
        }
    )*};
}

wrapped_numbers!(
    HandlerId(u32),
    Incarnation(u64),
    MessageTypeId(u32),
    NodeId(u64),
    WorkerIndex(u16)
);

impl<T: Fixed, const N: usize> Fixed for [T; N] {
    const BYTES: usize = N * T::BYTES;

    #[inline]
    fn read(bytes: &[u8]) -> Self {
        std::array::from_fn(|index| T::read(&bytes[index * T::BYTES..(index + 1) * T::BYTES]))
    }

    #[inline]
    fn write(&self, out: &mut [u8]) {
        for (value, out) in self.iter().zip(out.chunks_exact_mut(T::BYTES)) {
            value.write(out);
        }
    }
}

/// A life of a node: its id, then its incarnation.
impl Fixed for NodeRef {
    const BYTES: usize = NodeId::BYTES + Incarnation::BYTES;

    fn read(bytes: &[u8]) -> Self {
        let (node, incarnation) = bytes.split_at(NodeId::BYTES);
        Self { node: NodeId::read(node), incarnation: Incarnation::read(incarnation) }
    }

    fn write(&self, out: &mut [u8]) {
        let (node, incarnation) = out.split_at_mut(NodeId::BYTES);
        self.node.write(node);
        self.incarnation.write(incarnation);
    }
}

/// Where a value stands in bytes of a fixed shape. The places of a shape are a list in which each
/// begins where the one before it ends:
///
/// ```
/// use keyway::wire::codec::Place;
///
/// const LENGTH: Place<u32> = Place::FIRST;
/// const KIND: Place<u8> = LENGTH.then();
///
/// let mut bytes = [0; KIND.end()];
/// LENGTH.write(&mut bytes, 258);
/// KIND.write(&mut bytes, 7);
/// assert_eq!(bytes, [2, 1, 0, 0, 7]);
/// assert_eq!(KIND.read(&bytes), 7);
/// ```
pub struct Place<T> {
    start: usize,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for Place<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Place<T> {}

impl<T: Fixed> Place<T> {
    /// The first one of a shape.
    pub const FIRST: Self = Self { start: 0, value: PhantomData };

    /// The next one.
    pub const fn then<U: Fixed>(self) -> Place<U> {
        Place { start: self.end(), value: PhantomData }
    }

    /// The offset of its first byte.
    pub const fn start(self) -> usize {
        self.start
    }

    /// The offset of the first byte behind it: how many bytes a shape has that ends with it.
    pub const fn end(self) -> usize {
        self.start + T::BYTES
    }

    /// What stands here in bytes of this shape.
    #[inline(always)]
    pub fn read<const N: usize>(self, bytes: &[u8; N]) -> T {
        T::read(&bytes[self.start()..self.end()])
    }

    /// Puts it there.
    #[inline(always)]
    pub fn write<const N: usize>(self, bytes: &mut [u8; N], value: T) {
        value.write(&mut bytes[self.start()..self.end()]);
    }
}

impl<T: Fixed> fmt::Debug for Place<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes {}..{}", self.start(), self.end())
    }
}
