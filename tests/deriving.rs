//! What the derives make of types that are not plain: generic ones, those that find keyway by
//! another name, those that speak of themselves without containing themselves.

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::time::Duration;

use keyway::base::LayoutHash;
use keyway::{Context, Handler, HashKey, HashSeed, Layout, Message, Node, Routee};
use rkyv::{Archive, Deserialize, Serialize};

const SEED: HashSeed = HashSeed(0x5eed);

fn of<T: Archive<Archived: Layout>>() -> LayoutHash {
    <T::Archived as Layout>::LAYOUT
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.put", key = id, reply = Option<T>)]
struct Put<I, T> {
    id: I,
    value: T,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.block", key = (at, name.0))]
struct Block<T: Copy + 'static, const N: usize>
where
    T: Ord,
{
    at: u32,
    name: (String, u8),
    bytes: [u8; N],
    best: T,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.event", key = 0)]
enum Event<I, T> {
    Set(I, T),
    Clear(I),
    #[message(key = by)]
    Audit {
        by: T,
    },
    #[message(no_key)]
    Nothing,
}

#[test]
fn a_generic_message_has_the_key_and_layout_of_what_it_holds() {
    let put = Put { id: String::from("a"), value: 7u32 };
    assert_eq!(put.key_hash(SEED), Some("a".hash_key(SEED)));
    let block = Block { at: 1, name: ("a".into(), 2), bytes: [0; 3], best: 4u16 };
    assert_eq!(block.key_hash(SEED), Some((1u32, "a").hash_key(SEED)));
    assert_eq!(Event::<u64, u8>::Set(7, 1).key_hash(SEED), Some(7u64.hash_key(SEED)));
    assert_eq!(Event::<u64, u8>::Clear(7).key_hash(SEED), Some(7u64.hash_key(SEED)));
    assert_eq!(Event::<u64, u8>::Audit { by: 3 }.key_hash(SEED), Some(3u8.hash_key(SEED)));
    assert_eq!(Event::<u64, u8>::Nothing.key_hash(SEED), None);

    let all = [
        Put::<u64, u32>::TYPE_ID,
        Put::<u32, u64>::TYPE_ID,
        Put::<u64, String>::TYPE_ID,
        Block::<u8, 3>::TYPE_ID,
        Block::<u8, 4>::TYPE_ID,
        Block::<u16, 3>::TYPE_ID,
        Event::<u64, u32>::TYPE_ID,
        Event::<u32, u64>::TYPE_ID,
    ];
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{all:?}");
    assert_eq!(Put::<u64, u32>::LAYOUT, Put::<u64, usize>::LAYOUT, "the same bytes");
    assert_eq!(Put::<u64, u32>::NAME, Put::<u64, String>::NAME);
}

#[derive(Default, Routee)]
#[routee(handles(Put<u64, u32>))]
struct Values;

impl Handler<Put<u64, u32>> for Values {
    type Reply = Option<u32>;
    fn handle(&mut self, put: &ArchivedPut<u64, u32>, _: &mut Context<'_>) -> Option<u32> {
        (put.id.to_native() == 7).then(|| put.value.to_native())
    }
}

/// Takes two messages of one name: one whose bytes differ and one whose bytes do not.
macro_rules! both {
    ($name:ident, $first:ty, $second:ty) => {
        #[derive(Default, Routee)]
        #[routee(handles($first, $second))]
        struct $name;
        both!(@handler $name, $first);
        both!(@handler $name, $second);
    };
    (@handler $name:ident, $message:ty) => {
        impl Handler<$message> for $name {
            type Reply = <$message as Message>::Reply;
            fn handle(
                &mut self,
                _: &<$message as Archive>::Archived,
                _: &mut Context<'_>,
            ) -> Self::Reply {
                None
            }
        }
    };
}
both!(Differing, Put<u64, u32>, Put<u64, String>);
both!(Alike, Put<u64, u32>, Put<u64, usize>);

#[test]
fn a_generic_message_is_handled_and_one_routee_takes_one_of_them() {
    let node = Node::builder().bind("127.0.0.1:0").start().unwrap();
    node.serve("/deriving/values", |_| Values).unwrap();
    let values = node.router("/deriving/values").consistent_hash().build().unwrap();
    values.wait_ready(1, Duration::from_secs(20)).unwrap();
    let ask = |put| values.ask(&put).within(Duration::from_secs(20)).wait();
    assert_eq!(ask(Put { id: 7u64, value: 3u32 }), Ok(Some(3)));

    let refused = [
        node.serve("/deriving/differing", |_| Differing).unwrap_err().to_string(),
        node.serve("/deriving/alike", |_| Alike).unwrap_err().to_string(),
    ];
    for why in refused {
        assert!(why.contains("test.put"), "{why}");
    }
    node.leave_and_wait().unwrap();
}

/// Keyway under another name, as a crate that re-exports it has it.
mod facade {
    pub mod router {
        pub use keyway as kw;
    }
}

#[derive(Archive, Serialize, Deserialize, facade::router::kw::Layout)]
#[rkyv(crate = facade::router::kw::rkyv)]
#[layout(crate = facade::router::kw)]
struct Line(#[layout(name = "sku")] u32);

#[derive(Archive, Serialize, Deserialize, facade::router::kw::Message)]
#[rkyv(crate = facade::router::kw::rkyv)]
#[message(name = "test.order", key = (cart, lines), crate = crate::facade::router::kw)]
struct Order {
    cart: u64,
    lines: Option<u32>,
    line: Line,
}

#[derive(facade::router::kw::Routee)]
#[routee(handles(Order), started = Self::open, crate = facade::router::kw)]
struct Orders;

impl Orders {
    fn open(&mut self, _: &mut Context<'_>) {}
}

impl Handler<Order> for Orders {
    type Reply = ();
    fn handle(&mut self, _: &ArchivedOrder, _: &mut Context<'_>) {}
}

#[test]
fn keyway_can_have_another_name() {
    let order = Order { cart: 7, lines: None, line: Line(1) };
    assert_eq!(order.key_hash(SEED), Some((7u64, None::<u32>).hash_key(SEED)));

    let node = Node::builder().bind("127.0.0.1:0").start().unwrap();
    node.serve("/deriving/orders", |_| Orders).unwrap();
    let orders = node.router("/deriving/orders").consistent_hash().build().unwrap();
    orders.wait_ready(1, Duration::from_secs(20)).unwrap();
    assert_eq!(orders.ask(&order).within(Duration::from_secs(20)).wait(), Ok(()));
    node.leave_and_wait().unwrap();
}

/// An id that says of what, and holds nothing of it.
#[derive(Archive, Serialize, Deserialize, Layout)]
struct Id<T> {
    number: u64,
    of: PhantomData<T>,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.cart", key = id.number)]
struct Cart {
    id: Id<Cart>,
    parent: Option<Id<Self>>,
    kin: PhantomData<Cart>,
    #[rkyv(with = rkyv::with::Skip)]
    cached: Option<Box<Cart>>,
    #[layout(name = "id by hand")]
    by_hand: Vec<Id<self::Cart>>,
}

#[test]
fn speaking_of_itself_is_not_containing_itself() {
    let id = |number| Id { number, of: PhantomData };
    let cart = || Cart {
        id: id(7),
        parent: Some(id(8)),
        kin: PhantomData,
        cached: None,
        by_hand: vec![id(9)],
    };
    let mut outer = cart();
    outer.cached = Some(Box::new(cart()));
    assert_eq!(outer.key_hash(SEED), Some(7u64.hash_key(SEED)));
}

/// Whose archived form is its own type.
#[derive(Archive, Serialize, Deserialize, Layout, rkyv::Portable, rkyv::bytecheck::CheckBytes)]
#[bytecheck(crate = rkyv::bytecheck)]
#[rkyv(as = Point)]
#[repr(C)]
struct Point {
    x: u8,
    y: i8,
}

/// Whose archived form is made by another.
#[derive(Archive, Serialize, Deserialize, Message)]
#[rkyv(as = ArchivedPair<<T as Archive>::Archived>)]
#[message(name = "test.same_pair", key = first)]
struct SamePair<T> {
    first: T,
    second: T,
}

#[derive(rkyv::Portable, rkyv::bytecheck::CheckBytes)]
#[bytecheck(crate = rkyv::bytecheck)]
#[repr(C)]
struct ArchivedPair<T> {
    first: T,
    second: T,
}

impl<T: Layout> Layout for ArchivedPair<T> {
    const LAYOUT: LayoutHash =
        LayoutHash::shape::<Self>("pair").field("first", T::LAYOUT).field("second", T::LAYOUT);
}

/// A type of another crate, told of here.
#[derive(Archive, Serialize, Deserialize, Layout)]
#[rkyv(remote = Duration)]
struct Span {
    #[rkyv(getter = Duration::as_secs)]
    seconds: u64,
}

impl From<Span> for Duration {
    fn from(span: Span) -> Self {
        Self::from_secs(span.seconds)
    }
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.pause")]
struct Pause {
    #[rkyv(with = Span)]
    length: Duration,
    at: Point,
}

#[test]
fn forms_that_are_made_elsewhere() {
    assert_ne!(of::<Point>(), of::<(u8, i8)>());
    assert_ne!(SamePair::<u32>::LAYOUT, SamePair::<u64>::LAYOUT);
    let pair = SamePair { first: 7u64, second: 8 };
    assert_eq!(pair.key_hash(SEED), Some(7u64.hash_key(SEED)));
    let pause = Pause { length: Duration::from_secs(3), at: Point { x: 1, y: -1 } };
    assert_eq!(pause.key_hash(SEED), None);
}
