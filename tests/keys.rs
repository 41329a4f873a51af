//! Keys through the derive: what a message is routed by is what its fields hash to.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU64};

use keyway::{HashKey, HashSeed, Layout, Message};
use rkyv::{Archive, Deserialize, Serialize};

const SEED: HashSeed = HashSeed(0x5eed);

/// The message's key is this value.
#[track_caller]
fn assert_key<M: Message>(message: &M, key: impl HashKey) {
    assert_eq!(message.key_hash(SEED), Some(key.hash_key(SEED)));
    let other = HashSeed(1);
    assert_eq!(message.key_hash(other), Some(key.hash_key(other)), "the seed counts");
}

/// A message `Put` with one field `id` of this type, which is its key.
macro_rules! put {
    ($type:ty, $value:expr) => {{
        #[derive(Archive, Serialize, Deserialize, Message)]
        #[message(name = "test.put", key = id)]
        struct Put {
            id: $type,
        }
        Put { id: $value }
    }};
}

#[test]
fn a_field_of_each_type_that_can_be_a_key() {
    assert_key(&put!(u8, 7), 7u8);
    assert_key(&put!(i8, -7), -7i8);
    assert_key(&put!(u16, 7), 7u16);
    assert_key(&put!(i16, -7), -7i16);
    assert_key(&put!(u32, 7), 7u32);
    assert_key(&put!(i32, -7), -7i32);
    assert_key(&put!(u64, 7), 7u64);
    assert_key(&put!(i64, -7), -7i64);
    assert_key(&put!(u128, 1 << 100), 1u128 << 100);
    assert_key(&put!(i128, -7), -7i128);
    assert_key(&put!(usize, 7), 7u64);
    assert_key(&put!(isize, -7), -7i64);
    assert_key(&put!(bool, true), true);
    assert_key(&put!(char, 'x'), 'x');
    assert_key(&put!(String, "apples".into()), "apples");
    assert_key(&put!(Box<str>, "apples".into()), "apples");
    assert_key(&put!(Vec<u8>, vec![1, 2]), [1u8, 2]);
    assert_key(&put!(Box<[u8]>, Box::new([1, 2])), [1u8, 2]);
    assert_key(&put!([u8; 16], [7; 16]), [7u8; 16]);
    assert_key(&put!(Box<u64>, Box::new(7)), 7u64);
    assert_key(&put!((u32, String), (7, "a".into())), (7u32, "a"));
    assert_key(&put!(NonZeroU8, NonZeroU8::MAX), 255u8);
    assert_key(&put!(NonZeroU64, NonZeroU64::MIN), 1u64);
    let ip = Ipv4Addr::new(10, 0, 0, 7);
    assert_key(&put!(Ipv4Addr, ip), ip);
    assert_key(&put!(IpAddr, ip.into()), ip);
    assert_key(&put!(SocketAddr, (ip, 80).into()), (ip, 80u16));
}

#[test]
fn none_is_a_key_like_any_other() {
    assert_key(&put!(Option<u64>, Some(7)), Some(7u64));
    assert_key(&put!(Option<u64>, None), None::<u64>);
    let hashes = [
        put!(Option<u64>, None).key_hash(SEED),
        put!(Option<u64>, Some(0)).key_hash(SEED),
        put!(u64, 0).key_hash(SEED),
    ];
    assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2] && hashes[0] != hashes[2]);
}

#[derive(Archive, Serialize, Deserialize, Layout)]
struct CartId(u64);

#[derive(Archive, Serialize, Deserialize, Layout)]
struct Owner {
    tenant: u32,
    cart: CartId,
    pair: (u8, (u16, String)),
}

fn owner() -> Owner {
    Owner { tenant: 3, cart: CartId(7), pair: (1, (2, "x".into())) }
}

/// A message with one field `of: Owner` and this key.
macro_rules! owned {
    ($($key:tt)*) => {{
        #[derive(Archive, Serialize, Deserialize, Message)]
        #[message(name = "test.owned", key = $($key)*)]
        struct Owned {
            of: Owner,
            count: u16,
        }
        Owned { of: owner(), count: 5 }
    }};
}

#[test]
fn fields_of_fields() {
    assert_key(&owned!(of.tenant), 3u32);
    assert_key(&owned!(of.cart.0), 7u64);
    assert_key(&owned!(of.pair.0), 1u8);
    assert_key(&owned!(of.pair.1.0), 2u16);
    assert_key(&owned!(of.pair.1.1), "x");
}

#[test]
fn several_parts() {
    assert_key(&owned!((of.tenant, count)), (3u32, 5u16));
    assert_key(&owned!((count, of.tenant)), (5u16, 3u32));
    assert_key(&owned!((of.tenant, of.cart.0, of.pair.1.1)), (3u32, 7u64, "x"));
    assert_key(&owned!((of.tenant, of.cart.0, count, of.pair.0,)), (3u32, 7u64, 5u16, 1u8));
}

#[test]
fn one_part_is_a_tuple_with_a_comma_only() {
    assert_key(&owned!((count)), 5u16);
    assert_key(&owned!((count,)), (5u16,));
    assert_ne!(owned!((count)).key_hash(SEED), owned!((count,)).key_hash(SEED));
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.positional", key = 1)]
struct Positional(u8, u64);

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.newtype", key = 0.0)]
struct Newtype(CartId);

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.deep", key = (0.0, 0.1.0, 1.cart.0))]
struct Deep((u8, (u16,)), Owner);

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.raw", key = (r#type, id.r#type))]
struct Raw {
    r#type: u8,
    id: RawId,
}

#[derive(Archive, Serialize, Deserialize, Layout)]
struct RawId {
    r#type: u64,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.unkeyed")]
struct Unkeyed {
    cart: u64,
}

#[test]
fn fields_by_position_and_raw_names() {
    assert_key(&Positional(1, 7), 7u64);
    assert_key(&Newtype(CartId(7)), 7u64);
    assert_key(&Deep((1, (2,)), owner()), (1u8, 2u16, 7u64));
    assert_key(&Raw { r#type: 1, id: RawId { r#type: 2 } }, (1u8, 2u64));
    assert_eq!(Unkeyed { cart: 7 }.key_hash(SEED), None);
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.change", key = (id.tenant, id.cart.0))]
enum Change {
    Add {
        id: Owner,
        sku: u32,
    },
    Clear {
        id: Owner,
    },
    #[message(key = 0)]
    Drop(u64),
    #[message(key = (0.tenant, 1, 0.cart.0))]
    Move(Owner, u8),
    #[message(key = (r#type,))]
    Turn {
        r#type: u8,
    },
    #[message(no_key)]
    Recount,
    #[message(no_key)]
    Audit {
        id: Owner,
    },
}

#[test]
fn variants_with_the_key_of_the_type_their_own_or_none() {
    assert_key(&Change::Add { id: owner(), sku: 1 }, (3u32, 7u64));
    assert_key(&Change::Clear { id: owner() }, (3u32, 7u64));
    assert_key(&Change::Drop(9), 9u64);
    assert_key(&Change::Move(owner(), 4), (3u32, 4u8, 7u64));
    assert_key(&Change::Turn { r#type: 4 }, (4u8,));
    assert_eq!(Change::Recount.key_hash(SEED), None);
    assert_eq!(Change::Audit { id: owner() }.key_hash(SEED), None);
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.own_keys")]
enum OwnKeys {
    #[message(key = id)]
    ByNumber {
        id: u64,
    },
    #[message(key = 0)]
    ByText(String),
    Unkeyed(u8),
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.all_keyed", key = 0)]
enum AllKeyed {
    Add(u64, u32),
    Clear(u64),
}

#[test]
fn keys_of_variants_alone_and_of_all_variants() {
    assert_key(&OwnKeys::ByNumber { id: 7 }, 7u64);
    assert_key(&OwnKeys::ByText("a".into()), "a");
    assert_eq!(OwnKeys::Unkeyed(1).key_hash(SEED), None);
    assert_key(&AllKeyed::Add(7, 1), 7u64);
    assert_key(&AllKeyed::Clear(7), 7u64);
}

/// A reference travels by a wrapper of rkyv's, and is a key like what it refers to.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.referring", key = (shelf, name))]
struct Referring {
    #[rkyv(with = rkyv::with::InlineAsBox)]
    shelf: &'static u32,
    #[rkyv(with = rkyv::with::Skip)]
    name: &'static str,
}

#[test]
fn references() {
    assert_key(&Referring { shelf: &7, name: "x" }, (7u32, "x"));
}
