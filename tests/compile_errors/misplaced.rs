//! Attributes that would be ignored where they stand.

use keyway::{Layout, Message, Routee};
use rkyv::{Archive, Deserialize, Serialize};

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.on_field")]
struct KeyOnField {
    #[message(key)]
    cart: u64,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.on_field_of_variant")]
enum KeyOnFieldOfVariant {
    Add {
        #[message(key)]
        cart: u64,
    },
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.no_key", no_key)]
struct NoKeyOnType;

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.layout_of_message")]
#[layout(name = "uuid")]
struct LayoutOfMessage([u8; 16]);

#[derive(Archive, Serialize, Deserialize, Layout)]
#[layout(name = "uuid")]
struct LayoutOfType([u8; 16]);

#[derive(Archive, Serialize, Deserialize, Layout)]
enum LayoutOfVariant {
    #[layout(name = "uuid")]
    Id([u8; 16]),
}

#[derive(Archive, Serialize, Deserialize, Layout)]
struct LayoutOfNothing {
    #[layout]
    id: u64,
}

#[derive(Archive, Serialize, Deserialize, Layout)]
struct LayoutWithoutName {
    #[layout(name = "")]
    id: u64,
}

#[derive(Archive, Serialize, Deserialize, Layout)]
struct LayoutTwice {
    #[layout(name = "uuid")]
    #[layout(name = "ulid")]
    id: u64,
}

#[derive(Archive, Serialize, Deserialize, Layout)]
struct LayoutUnknown {
    #[layout(as = "uuid")]
    id: u64,
}

#[derive(Routee)]
#[routee(started = Self::open)]
struct HandlesNothing;

#[derive(Routee)]
#[routee(handles)]
struct HandlesNoList;

#[derive(Routee)]
#[routee(handles(Tick, Tick))]
struct HandlesTwice;

#[derive(Routee)]
#[routee(handles())]
struct RouteeOnField {
    #[routee(handles())]
    inner: u64,
}

#[derive(Routee)]
#[routee(handles())]
enum RouteeOnVariant {
    #[routee(handles())]
    One,
}

fn main() {}
