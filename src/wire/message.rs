//! What a type must be to travel: [`WireType`] for any body, [`Message`] for what handlers take.

use rkyv::api::low::LowValidator;
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Failure;
use rkyv::{Archive, Portable, Serialize};

use super::encode::BodySerializer;
use crate::base::MessageTypeId;
use crate::hash::HashSeed;

/// A type whose rkyv form can be a frame's body: serialised without shared pointers, checked when
/// it comes from the network, read in place.
///
/// Implemented for every type that derives rkyv's `Archive` and `Serialize`.
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
}

impl<T> WireType for T where
    T: Archive<Archived: Portable + for<'a> CheckBytes<LowValidator<'a, Failure>>>
        + for<'a> Serialize<BodySerializer<'a>>
        + 'static
{
}

/// A message that handlers take. Derive it:
///
/// ```
/// use keyway::Message;
/// use rkyv::{Archive, Deserialize, Serialize};
///
/// #[derive(Archive, Serialize, Deserialize)]
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
pub trait Message: WireType {
    /// What an ask of this message is answered with; `()` when only its arrival matters.
    type Reply: WireType;

    /// The name by which nodes know this type, the same in every program of a cluster.
    const NAME: &'static str;

    /// The name's hash, which travels.
    const TYPE_ID: MessageTypeId = MessageTypeId::from_name(Self::NAME);

    /// The key's hash, if the message has one.
    fn key_hash(&self, seed: HashSeed) -> Option<u64>;
}
