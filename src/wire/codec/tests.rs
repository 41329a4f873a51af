//! Fields are what `docs/PROTOCOL.md` says, come back as they were, and whatever else comes is
//! refused.

use std::net::{Ipv6Addr, SocketAddrV4};

use proptest::prelude::*;

use super::*;
use crate::base::{Incarnation, NodeId};

#[derive(Clone, Debug, PartialEq)]
enum Field {
    U8(u8),
    U16(u16),
    U32(u32),
    U64(u64),
    NodeRef(NodeRef),
    Text(String),
    Address(SocketAddr),
    Bytes(Vec<u8>),
}

impl Field {
    fn put(&self, out: &mut Writer<'_>) {
        match self {
            Self::U8(value) => out.u8(*value),
            Self::U16(value) => out.u16(*value),
            Self::U32(value) => out.u32(*value),
            Self::U64(value) => out.u64(*value),
            Self::NodeRef(node) => out.node_ref(*node),
            Self::Text(text) => out.text(text),
            Self::Address(address) => out.address(*address),
            Self::Bytes(bytes) => out.bytes(bytes),
        };
    }

    /// A field of this kind, which is what a reader knows.
    fn read(&self, from: &mut Reader<'_>) -> ReadResult<Self> {
        Ok(match self {
            Self::U8(_) => Self::U8(from.u8()?),
            Self::U16(_) => Self::U16(from.u16()?),
            Self::U32(_) => Self::U32(from.u32()?),
            Self::U64(_) => Self::U64(from.u64()?),
            Self::NodeRef(_) => Self::NodeRef(from.node_ref()?),
            Self::Text(_) => Self::Text(from.text()?.to_string()),
            Self::Address(_) => Self::Address(from.address()?),
            Self::Bytes(bytes) => Self::Bytes(from.bytes(bytes.len())?.to_vec()),
        })
    }
}

fn address() -> impl Strategy<Value = SocketAddr> {
    let v4 = (any::<[u8; 4]>(), 1..=u16::MAX)
        .prop_map(|(ip, port)| SocketAddr::V4(SocketAddrV4::new(ip.into(), port)));
    let v6 = (any::<[u8; 16]>(), 1..=u16::MAX, any::<u32>())
        .prop_map(|(ip, port, scope)| SocketAddrV6::new(ip.into(), port, 0, scope).into());
    prop_oneof![v4, v6].prop_filter("can be dialed", |at: &SocketAddr| !at.ip().is_unspecified())
}

fn field() -> impl Strategy<Value = Field> {
    let node = |(node, life)| NodeRef { node: NodeId(node), incarnation: Incarnation(life) };
    prop_oneof![
        any::<u8>().prop_map(Field::U8),
        any::<u16>().prop_map(Field::U16),
        any::<u32>().prop_map(Field::U32),
        any::<u64>().prop_map(Field::U64),
        any::<(u64, u64)>().prop_map(node).prop_map(Field::NodeRef),
        ".{0,40}".prop_map(Field::Text),
        address().prop_map(Field::Address),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Field::Bytes),
    ]
}

fn written(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut out = Writer::new(&mut bytes);
    fields.iter().for_each(|field| field.put(&mut out));
    bytes
}

proptest! {
    #[test]
    fn what_is_written_is_read(fields in prop::collection::vec(field(), 0..12)) {
        let bytes = written(&fields);
        let mut reader = Reader::new(&bytes);
        for field in &fields {
            prop_assert_eq!(&field.read(&mut reader).unwrap(), field);
        }
        prop_assert_eq!(reader.end(), Ok(()));
    }

    /// Whatever is missing at the end is missed by the field that it belongs to.
    #[test]
    fn what_is_cut_off_is_refused(
        fields in prop::collection::vec(field(), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = written(&fields);
        prop_assume!(!bytes.is_empty());
        let mut reader = Reader::new(&bytes[..cut.index(bytes.len())]);
        let outcome: ReadResult<Vec<Field>> =
            fields.iter().map(|field| field.read(&mut reader)).collect();
        prop_assert_eq!(outcome, Err(CUT_OFF));
    }

    /// Bytes of a stranger give an error or a value, which is then the value that was written.
    #[test]
    fn foreign_bytes_are_read_or_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..64),
        kinds in prop::collection::vec(field(), 0..6),
    ) {
        let mut reader = Reader::new(&bytes);
        let mut read = Vec::new();
        for kind in kinds {
            match kind.read(&mut reader) {
                Ok(field) => read.push(field),
                Err(_) => break,
            }
        }
        prop_assert!(bytes.starts_with(&written(&read)));
    }
}

#[test]
fn fields_are_these_bytes() {
    let v6 = SocketAddrV6::new(Ipv6Addr::LOCALHOST, 0x0102, 0, 0x0304_0506);
    for (field, bytes) in [
        (Field::U8(7), &[7][..]),
        (Field::U16(0x0102), &[2, 1]),
        (Field::U32(0x0102_0304), &[4, 3, 2, 1]),
        (Field::U64(0x0102_0304_0506_0708), &[8, 7, 6, 5, 4, 3, 2, 1]),
        (
            Field::NodeRef(NodeRef { node: NodeId(1), incarnation: Incarnation(2) }),
            &[1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0],
        ),
        (Field::Text("né".to_owned()), &[3, 0, b'n', 0xc3, 0xa9]),
        (Field::Address("1.2.3.4:258".parse().unwrap()), &[4, 1, 2, 3, 4, 2, 1]),
        (
            Field::Address(v6.into()),
            &[6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 1, 6, 5, 4, 3],
        ),
        (Field::Bytes(vec![1, 2]), &[1, 2]),
    ] {
        assert_eq!(written(std::slice::from_ref(&field)), bytes, "{field:?}");
    }
    assert_eq!(two_words(1, 2), [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn what_cannot_be_is_refused_by_its_name() {
    let text = |bytes: &[u8]| Reader::new(bytes).text().unwrap_err().0;
    assert_eq!(text(&[2, 0, b'a']), "it is cut off");
    assert_eq!(text(&[1, 0, 0xff]), "a text is not UTF-8");
    let address = |bytes: &[u8]| Reader::new(bytes).address().unwrap_err().0;
    assert_eq!(address(&[5, 1, 2, 3, 4, 2, 1]), "an address is neither IPv4 nor IPv6");
    assert_eq!(address(&[4, 1, 2, 3, 4, 0, 0]), "an address cannot be reached");
    assert_eq!(address(&[4, 0, 0, 0, 0, 2, 1]), "an address cannot be reached");
    assert_eq!(Reader::new(&[1]).end().unwrap_err().0, "bytes are left over");
}

#[test]
fn a_text_too_long_for_its_length_is_cut_between_characters() {
    let long = "a".repeat(usize::from(u16::MAX) - 1) + "é";
    let bytes = written(&[Field::Text(long)]);
    let text = Reader::new(&bytes).text().unwrap();
    assert_eq!(text.len(), usize::from(u16::MAX) - 1);
}

#[test]
fn a_size_stands_before_what_it_is_of() {
    let mut bytes = vec![9];
    Writer::new(&mut bytes).sized(|out| {
        out.u8(1).sized(|inner| {
            inner.bytes(&[2, 3]);
        });
    });
    assert_eq!(bytes, [9, 5, 0, 1, 2, 0, 2, 3]);
}
