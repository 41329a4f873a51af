//! What the bytes of a type mean, so that nodes find out that they mean different things by one
//! name before a message is sent, not after it was misread.
//!
//! [`Layout`] is implemented for *archived* types: those are what travels, whatever wrapper or
//! container made them (`Vec` and `VecDeque` are the same bytes, so they have the same layout).

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::num::{NonZeroI8, NonZeroU8};

use rkyv::boxed::ArchivedBox;
use rkyv::collections::btree_map::ArchivedBTreeMap;
use rkyv::collections::btree_set::ArchivedBTreeSet;
use rkyv::collections::util::Entry;
use rkyv::ffi::ArchivedCString;
use rkyv::net::{
    ArchivedIpAddr, ArchivedIpv4Addr, ArchivedIpv6Addr, ArchivedSocketAddr, ArchivedSocketAddrV4,
    ArchivedSocketAddrV6,
};
use rkyv::niche::niched_option::NichedOption;
use rkyv::niche::niching::{Bool, DefaultNiche, NaN, Null, Zero};
use rkyv::niche::option_box::ArchivedOptionBox;
use rkyv::niche::option_nonzero::{
    ArchivedOptionNonZeroI8, ArchivedOptionNonZeroI16, ArchivedOptionNonZeroI32,
    ArchivedOptionNonZeroI64, ArchivedOptionNonZeroI128, ArchivedOptionNonZeroU8,
    ArchivedOptionNonZeroU16, ArchivedOptionNonZeroU32, ArchivedOptionNonZeroU64,
    ArchivedOptionNonZeroU128,
};
use rkyv::ops::{
    ArchivedBound, ArchivedRange, ArchivedRangeFrom, ArchivedRangeFull, ArchivedRangeInclusive,
    ArchivedRangeTo, ArchivedRangeToInclusive,
};
use rkyv::option::ArchivedOption;
use rkyv::primitive::ArchivedUsize;
use rkyv::rend;
use rkyv::result::ArchivedResult;
use rkyv::string::ArchivedString;
use rkyv::time::ArchivedDuration;
use rkyv::traits::ArchivePointee;
use rkyv::tuple::{
    ArchivedTuple1, ArchivedTuple2, ArchivedTuple3, ArchivedTuple4, ArchivedTuple5, ArchivedTuple6,
    ArchivedTuple7, ArchivedTuple8, ArchivedTuple9, ArchivedTuple10, ArchivedTuple11,
    ArchivedTuple12, ArchivedTuple13,
};
use rkyv::vec::ArchivedVec;

use crate::base::LayoutHash;

/// An archived type whose bytes can be told from those of any other. Derive it for the types that
/// messages and replies are made of; the derive of a message brings its own.
///
/// ```
/// use keyway::{Layout, Message};
/// use rkyv::{Archive, Deserialize, Serialize};
///
/// #[derive(Archive, Serialize, Deserialize, Layout)]
/// struct Line {
///     sku: u32,
///     count: u16,
/// }
///
/// #[derive(Archive, Serialize, Deserialize, Message)]
/// #[message(name = "shop.order")]
/// struct Order {
///     lines: Vec<Line>,
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "what the bytes of `{Self}` mean is not known, so it cannot be part of a message",
    label = "has no `Layout`",
    note = "add `#[derive(keyway::Layout)]` to the type whose archived form this is",
    note = "instead of a hash map, whose order is another each time, take a `BTreeMap`",
    note = "for a field of a type from another crate, say what it is: `#[layout(name = \"uuid\")]`"
)]
pub trait Layout {
    /// Equal for types whose bytes mean the same. A type that contains itself, also by way of
    /// others, has none and cannot travel: a sender could nest it until checking it overflows the
    /// stack. Send a flat list whose entries name their parent by index.
    const LAYOUT: LayoutHash;
}

macro_rules! leaves {
    ($($name:expr => $archived:ty,)*) => {$(
        impl Layout for $archived {
            const LAYOUT: LayoutHash = LayoutHash::shape::<Self>($name);
        }
    )*};
}
leaves! {
    "bool" => bool,
    "u8" => u8,
    "i8" => i8,
    "NonZeroU8" => NonZeroU8,
    "NonZeroI8" => NonZeroI8,
    "()" => (),
    "Ipv4Addr" => ArchivedIpv4Addr,
    "Ipv6Addr" => ArchivedIpv6Addr,
    "RangeFull" => ArchivedRangeFull,
    "Option<NonZeroU8>" => ArchivedOptionNonZeroU8,
    "Option<NonZeroI8>" => ArchivedOptionNonZeroI8,
}

/// Numbers by name: their archived types of either byte order, aligned and not. (Whether it is
/// aligned is a part of the shape.)
macro_rules! numbers {
    ($($name:ident: $le:ident $be:ident $ule:ident $ube:ident,)*) => {$(
        leaves! {
            stringify!($name) => rend::$le,
            concat!(stringify!($name), " big") => rend::$be,
            stringify!($name) => rend::unaligned::$ule,
            concat!(stringify!($name), " big") => rend::unaligned::$ube,
        }
    )*};
}
numbers! {
    u16: u16_le u16_be u16_ule u16_ube,
    u32: u32_le u32_be u32_ule u32_ube,
    u64: u64_le u64_be u64_ule u64_ube,
    u128: u128_le u128_be u128_ule u128_ube,
    i16: i16_le i16_be i16_ule i16_ube,
    i32: i32_le i32_be i32_ule i32_ube,
    i64: i64_le i64_be i64_ule i64_ube,
    i128: i128_le i128_be i128_ule i128_ube,
    f32: f32_le f32_be f32_ule f32_ube,
    f64: f64_le f64_be f64_ule f64_ube,
    char: char_le char_be char_ule char_ube,
    NonZeroU16: NonZeroU16_le NonZeroU16_be NonZeroU16_ule NonZeroU16_ube,
    NonZeroU32: NonZeroU32_le NonZeroU32_be NonZeroU32_ule NonZeroU32_ube,
    NonZeroU64: NonZeroU64_le NonZeroU64_be NonZeroU64_ule NonZeroU64_ube,
    NonZeroU128: NonZeroU128_le NonZeroU128_be NonZeroU128_ule NonZeroU128_ube,
    NonZeroI16: NonZeroI16_le NonZeroI16_be NonZeroI16_ule NonZeroI16_ube,
    NonZeroI32: NonZeroI32_le NonZeroI32_be NonZeroI32_ule NonZeroI32_ube,
    NonZeroI64: NonZeroI64_le NonZeroI64_be NonZeroI64_ule NonZeroI64_ube,
    NonZeroI128: NonZeroI128_le NonZeroI128_be NonZeroI128_ule NonZeroI128_ube,
}

/// What points elsewhere in the body does so by an offset, whose width and byte order count; so
/// does the byte order of the numbers that others are made of.
macro_rules! pointing {
    ($($name:literal: $archived:ty,)*) => {$(
        impl Layout for $archived {
            const LAYOUT: LayoutHash =
                LayoutHash::shape::<Self>($name).with(ArchivedUsize::LAYOUT);
        }
    )*};
}
pointing! {
    "str": ArchivedString,
    "CStr": ArchivedCString,
    "Duration": ArchivedDuration,
    "IpAddr": ArchivedIpAddr,
    "SocketAddr": ArchivedSocketAddr,
    "SocketAddrV4": ArchivedSocketAddrV4,
    "SocketAddrV6": ArchivedSocketAddrV6,
    "Option<NonZeroU16>": ArchivedOptionNonZeroU16,
    "Option<NonZeroU32>": ArchivedOptionNonZeroU32,
    "Option<NonZeroU64>": ArchivedOptionNonZeroU64,
    "Option<NonZeroU128>": ArchivedOptionNonZeroU128,
    "Option<NonZeroI16>": ArchivedOptionNonZeroI16,
    "Option<NonZeroI32>": ArchivedOptionNonZeroI32,
    "Option<NonZeroI64>": ArchivedOptionNonZeroI64,
    "Option<NonZeroI128>": ArchivedOptionNonZeroI128,
}

/// Types made of others, in this order.
macro_rules! composed {
    ($($name:literal: $archived:ident<$($part:ident),*>,)*) => {$(
        impl<$($part: Layout),*> Layout for $archived<$($part),*> {
            const LAYOUT: LayoutHash =
                LayoutHash::shape::<Self>($name).with(ArchivedUsize::LAYOUT)$(.with($part::LAYOUT))*;
        }
    )*};
}
composed! {
    "Option": ArchivedOption<T>,
    "Result": ArchivedResult<T, E>,
    "[]": ArchivedVec<T>,
    "map": ArchivedBTreeMap<K, V>,
    "set": ArchivedBTreeSet<K>,
    "pair": Entry<K, V>,
    "Range": ArchivedRange<T>,
    "RangeInclusive": ArchivedRangeInclusive<T>,
    "RangeFrom": ArchivedRangeFrom<T>,
    "RangeTo": ArchivedRangeTo<T>,
    "RangeToInclusive": ArchivedRangeToInclusive<T>,
    "Bound": ArchivedBound<T>,
    "tuple": ArchivedTuple1<A>,
    "tuple": ArchivedTuple2<A, B>,
    "tuple": ArchivedTuple3<A, B, C>,
    "tuple": ArchivedTuple4<A, B, C, D>,
    "tuple": ArchivedTuple5<A, B, C, D, E>,
    "tuple": ArchivedTuple6<A, B, C, D, E, F>,
    "tuple": ArchivedTuple7<A, B, C, D, E, F, G>,
    "tuple": ArchivedTuple8<A, B, C, D, E, F, G, H>,
    "tuple": ArchivedTuple9<A, B, C, D, E, F, G, H, I>,
    "tuple": ArchivedTuple10<A, B, C, D, E, F, G, H, I, J>,
    "tuple": ArchivedTuple11<A, B, C, D, E, F, G, H, I, J, K>,
    "tuple": ArchivedTuple12<A, B, C, D, E, F, G, H, I, J, K, L>,
    "tuple": ArchivedTuple13<A, B, C, D, E, F, G, H, I, J, K, L, M>,
}

impl<T: Layout, const N: usize> Layout for [T; N] {
    const LAYOUT: LayoutHash =
        LayoutHash::shape::<Self>("array").with(LayoutHash(N as u64)).with(T::LAYOUT);
}

impl<T: Layout> Layout for [T] {
    const LAYOUT: LayoutHash = LayoutHash::of("slice").with(T::LAYOUT);
}

impl Layout for str {
    const LAYOUT: LayoutHash = LayoutHash::of("str");
}

impl<T: ArchivePointee + Layout + ?Sized> Layout for ArchivedBox<T> {
    const LAYOUT: LayoutHash =
        LayoutHash::shape::<Self>("Box").with(ArchivedUsize::LAYOUT).with(T::LAYOUT);
}

impl<T: ArchivePointee + Layout + ?Sized> Layout for ArchivedOptionBox<T> {
    const LAYOUT: LayoutHash =
        LayoutHash::shape::<Self>("Option<Box>").with(ArchivedUsize::LAYOUT).with(T::LAYOUT);
}

impl<T: ?Sized> Layout for PhantomData<T> {
    const LAYOUT: LayoutHash = LayoutHash::of("nothing");
}

impl<T: Layout> Layout for ManuallyDrop<T> {
    const LAYOUT: LayoutHash = T::LAYOUT;
}

/// By what a value is told from none.
macro_rules! niches {
    ($($niche:ident),*) => {$(
        impl<T: Layout> Layout for NichedOption<T, $niche> {
            const LAYOUT: LayoutHash = LayoutHash::shape::<Self>("Option without a tag")
                .with(LayoutHash::of(stringify!($niche)))
                .with(T::LAYOUT);
        }
    )*};
}
niches!(DefaultNiche, Zero, NaN, Null, Bool);

/// A field's archived form that `#[layout(name = "...")]` names. If it has a layout of its own,
/// that one is made as well, though not used: of a type that contains itself it cannot be.
#[doc(hidden)]
#[derive(Debug)]
pub struct Named<T: ?Sized>(PhantomData<T>);

impl<T: Layout + ?Sized> Named<T> {
    /// The layout that the form has of its own.
    pub const OWN: Option<LayoutHash> = Some(T::LAYOUT);
}

impl<T: ?Sized> Named<T> {
    /// The name's.
    #[must_use]
    pub const fn with_layout(name: LayoutHash, _own: Option<LayoutHash>) -> LayoutHash {
        name
    }
}

/// Stands for the layout of [`Named`] where there is none.
#[doc(hidden)]
pub trait Unnamed {
    /// None.
    const OWN: Option<LayoutHash> = None;
}

impl<T: ?Sized> Unnamed for Named<T> {}

#[cfg(test)]
mod tests;
