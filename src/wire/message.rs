//! What a type must be to travel: [`WireType`] for any body, [`Message`] for what handlers take.

use rkyv::api::high::HighDeserializer;
use rkyv::api::low::LowValidator;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;
use rkyv::{Archive, Deserialize, Portable, Serialize};

use super::encode::BodySerializer;
use super::layout::Layout;
use crate::base::{LayoutHash, MessageTypeId, TypeRef};
use crate::hash::HashSeed;

/// A type whose rkyv form can be a frame's body: serialised without shared pointers, checked when
/// it comes from the network, read in place.
///
/// Implemented for every type that derives rkyv's `Archive` and `Serialize`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel: it has no rkyv form that can be checked and read in place",
    label = "not a type that can travel",
    note = "add `#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]` to it and to the \
            types of its fields; references, `Rc` and `Arc` cannot travel"
)]
pub trait WireType:
    Archive<Archived: Portable + for<'a> CheckBytes<LowValidator<'a, Failure>>>
    + for<'a> Serialize<BodySerializer<'a>>
    + 'static
{
    /// Checks a body and gives it as it lies in the buffer; `None` when it is not a valid archive
    /// of this type.
    #[inline]
    fn access(body: &[u8]) -> Option<&Self::Archived> {
        rkyv::api::low::access::<Self::Archived, Failure>(body).ok()
    }

    /// Checks a body and gives the value that it stands for; `None` as in [`WireType::access`].
    fn owned(body: &[u8]) -> Option<Self>
    where
        Self: Sized,
        Self::Archived: Deserialize<Self, HighDeserializer<Failure>>,
    {
        rkyv::deserialize(Self::access(body)?).ok()
    }
}

#[diagnostic::do_not_recommend]
impl<T> WireType for T where
    T: Archive<Archived: Portable + for<'a> CheckBytes<LowValidator<'a, Failure>>>
        + for<'a> Serialize<BodySerializer<'a>>
        + 'static
{
}

/// A message that handlers take. Derive it, and [`Layout`](derive@crate::Layout) for the types that
/// it or its reply is made of:
///
/// ```
/// use keyway::{Layout, Message};
/// use rkyv::{Archive, Deserialize, Serialize};
///
/// #[derive(Archive, Serialize, Deserialize, Layout)]
/// struct Total(u64);
///
/// #[derive(Archive, Serialize, Deserialize, Message)]
/// #[message(name = "shop.add_item", key = cart, reply = Total)]
/// struct AddItem {
///     cart: u64,
///     sku: u32,
/// }
/// assert_eq!(AddItem::NAME, "shop.add_item");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a message",
    label = "not a message",
    note = "add `#[derive(keyway::Message)]` and `#[message(name = \"...\")]` to it"
)]
pub trait Message: WireType<Archived: Layout> {
    /// What an ask of this message is answered with; `()` when only its arrival matters.
    type Reply: WireType<Archived: Layout>;

    /// The name by which nodes know this type, the same in every program of a cluster.
    const NAME: &'static str;

    /// What the bytes of the message and of its reply mean. A type of the same name with another
    /// layout is another message: it is refused where it is sent, never misread.
    const LAYOUT: LayoutHash = <<Self as Archive>::Archived as Layout>::LAYOUT
        .with(<<Self::Reply as Archive>::Archived as Layout>::LAYOUT);

    /// The hash of name and layout, which travels.
    const TYPE_ID: MessageTypeId = MessageTypeId::of(Self::NAME, Self::LAYOUT);

    /// All of these.
    const TYPE: &'static TypeRef =
        &TypeRef { name: Self::NAME, layout: Self::LAYOUT, id: Self::TYPE_ID };

    /// The key's hash, if the message has one.
    fn key_hash(&self, seed: HashSeed) -> Option<u64>;
}
