//! Layouts: equal for what reads alike, different for all else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use rkyv::with::{AsString, AsVec, Map};
use rkyv::{Archive, Deserialize, Serialize};

use crate::base::{LayoutHash, MessageTypeId};
use crate::{Layout, Message};

fn of<T: Archive<Archived: Layout>>() -> LayoutHash {
    <T::Archived as Layout>::LAYOUT
}

/// A struct or an enum of that body, in a module of its own, with the name `Sample`.
macro_rules! sample {
    ($module:ident, $($item:tt)*) => {
        #[allow(dead_code)]
        mod $module {
            use super::*;
            #[derive(Archive, Serialize, Deserialize, Layout)]
            $($item)*
        }
    };
}

sample!(
    plain,
    pub struct Sample {
        a: u32,
        b: u32,
        c: u64,
    }
);
sample!(
    again,
    pub struct Sample {
        a: u32,
        b: u32,
        c: u64,
    }
);
sample!(
    inserted,
    pub struct Sample {
        a: u32,
        x: u32,
        b: u32,
        c: u64,
    }
);
sample!(
    appended,
    pub struct Sample {
        a: u32,
        b: u32,
        c: u64,
        d: u8,
    }
);
sample!(
    removed,
    pub struct Sample {
        a: u32,
        c: u64,
    }
);
sample!(
    swapped,
    pub struct Sample {
        b: u32,
        a: u32,
        c: u64,
    }
);
sample!(
    renamed,
    pub struct Sample {
        a: u32,
        z: u32,
        c: u64,
    }
);
sample!(
    retyped,
    pub struct Sample {
        a: u32,
        b: i32,
        c: u64,
    }
);
sample!(
    padded,
    pub struct Sample {
        a: u32,
        c: u64,
        b: u32,
    }
);
sample!(
    optional,
    pub struct Sample {
        a: u32,
        b: Option<u32>,
        c: u64,
    }
);
sample!(positional, pub struct Sample(u32, u32, u64););
sample!(
    inner_plain,
    pub struct Sample {
        inner: Vec<super::plain::Sample>,
    }
);
sample!(
    inner_swapped,
    pub struct Sample {
        inner: Vec<super::swapped::Sample>,
    }
);
sample!(
    unit_enum,
    pub enum Sample {
        A,
        B,
    }
);
sample!(
    other_order,
    pub enum Sample {
        B,
        A,
    }
);
sample!(
    numbered,
    pub enum Sample {
        A = 1,
        B,
    }
);
sample!(
    more_variants,
    pub enum Sample {
        A,
        B,
        C,
    }
);
sample!(
    variant_fields,
    pub enum Sample {
        A(u32),
        B,
    }
);
sample!(
    named_fields,
    pub enum Sample {
        A { a: u32 },
        B,
    }
);
sample!(
    variant_renamed,
    pub enum Sample {
        A,
        Z,
    }
);
sample!(
    variant_fields_swapped,
    pub enum Sample {
        A { b: u32, a: u32 },
        B,
    }
);
sample!(
    variant_two_fields,
    pub enum Sample {
        A { a: u32, b: u32 },
        B,
    }
);
sample!(
    renamed_type,
    /// With words of its own.
    #[rkyv(archived = Stored)]
    pub struct Other {
        /// And here.
        a: u32,
        b: u32,
        c: u64,
    }
);
sample!(
    without_tag,
    pub struct Sample {
        #[rkyv(with = rkyv::with::Niche)]
        number: Option<std::num::NonZeroU32>,
        #[rkyv(with = rkyv::with::NicheInto<rkyv::niche::niching::NaN>)]
        part: Option<f32>,
    }
);
sample!(
    without_other_tag,
    pub struct Sample {
        #[rkyv(with = rkyv::with::Niche)]
        number: Option<std::num::NonZeroI32>,
        #[rkyv(with = rkyv::with::NicheInto<rkyv::niche::niching::NaN>)]
        part: Option<f32>,
    }
);
sample!(
    as_text,
    pub struct Sample {
        #[rkyv(with = AsString)]
        path: PathBuf,
    }
);
sample!(
    text,
    pub struct Sample {
        path: String,
    }
);
sample!(
    as_pairs,
    pub struct Sample {
        #[rkyv(with = AsVec)]
        all: BTreeMap<u32, String>,
    }
);
sample!(
    as_map,
    pub struct Sample {
        all: BTreeMap<u32, String>,
    }
);
sample!(
    texts,
    pub struct Sample {
        #[rkyv(with = Map<AsString>)]
        paths: Vec<PathBuf>,
    }
);
sample!(
    vouched,
    pub struct Sample {
        #[layout(name = "celsius")]
        value: f64,
    }
);
sample!(
    vouched_other,
    pub struct Sample {
        #[layout(name = "kelvin")]
        value: f64,
    }
);

#[test]
fn every_change_that_a_reader_could_notice_is_another_layout() {
    let all = [
        of::<plain::Sample>(),
        of::<inserted::Sample>(),
        of::<appended::Sample>(),
        of::<removed::Sample>(),
        of::<swapped::Sample>(),
        of::<renamed::Sample>(),
        of::<retyped::Sample>(),
        of::<padded::Sample>(),
        of::<optional::Sample>(),
        of::<positional::Sample>(),
        of::<inner_plain::Sample>(),
        of::<inner_swapped::Sample>(),
        of::<unit_enum::Sample>(),
        of::<other_order::Sample>(),
        of::<numbered::Sample>(),
        of::<more_variants::Sample>(),
        of::<variant_fields::Sample>(),
        of::<named_fields::Sample>(),
        of::<variant_renamed::Sample>(),
        of::<variant_two_fields::Sample>(),
        of::<variant_fields_swapped::Sample>(),
        of::<without_tag::Sample>(),
        of::<without_other_tag::Sample>(),
        of::<as_pairs::Sample>(),
        of::<as_map::Sample>(),
        of::<texts::Sample>(),
        of::<vouched::Sample>(),
        of::<vouched_other::Sample>(),
    ];
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{all:?}");
}

#[test]
fn what_reads_alike_has_one_layout() {
    assert_eq!(of::<plain::Sample>(), of::<again::Sample>());
    assert_eq!(of::<plain::Sample>(), of::<renamed_type::Other>());
    assert_eq!(of::<as_text::Sample>(), of::<text::Sample>());
    assert_eq!(of::<Vec<u8>>(), of::<VecDeque<u8>>());
    assert_eq!(of::<u32>(), of::<usize>(), "rkyv archives a usize as 32 bits");
}

#[test]
fn types_that_come_with_the_language_differ() {
    let all = [
        of::<()>(),
        of::<bool>(),
        of::<u8>(),
        of::<i8>(),
        of::<u16>(),
        of::<u32>(),
        of::<i32>(),
        of::<f32>(),
        of::<char>(),
        of::<std::num::NonZeroU32>(),
        of::<u64>(),
        of::<f64>(),
        of::<u128>(),
        of::<String>(),
        of::<Box<str>>(),
        of::<Box<u8>>(),
        of::<Box<[u8]>>(),
        of::<Option<Box<u8>>>(),
        of::<Vec<u8>>(),
        of::<Vec<i8>>(),
        of::<Vec<String>>(),
        of::<Vec<Vec<u8>>>(),
        of::<[u8; 4]>(),
        of::<[u8; 5]>(),
        of::<Option<u8>>(),
        of::<Result<u8, u8>>(),
        of::<(u8,)>(),
        of::<(u8, u16)>(),
        of::<(u16, u8)>(),
        of::<BTreeMap<u8, u8>>(),
        of::<BTreeSet<u8>>(),
        of::<std::ops::Range<u8>>(),
        of::<std::ops::RangeInclusive<u8>>(),
        of::<std::ops::RangeFrom<u8>>(),
        of::<std::ops::RangeTo<u8>>(),
        of::<std::ops::RangeToInclusive<u8>>(),
        of::<std::ops::RangeFull>(),
        of::<std::ops::Bound<u8>>(),
        of::<(u8, u8, u8, u8, u8, u8, u8, u8)>(),
        of::<(u8, u8, u8, u8, u8, u8, u8, u8, u8)>(),
        of::<(u8, u8, u8, u8, u8, u8, u8, u8, u8, u8)>(),
        of::<(u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8)>(),
        of::<(u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8)>(),
        of::<(u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8, u8)>(),
        of::<i128>(),
        of::<std::ffi::CString>(),
        of::<std::net::Ipv4Addr>(),
        of::<std::net::Ipv6Addr>(),
        of::<std::net::SocketAddrV4>(),
        of::<std::net::SocketAddrV6>(),
        of::<Duration>(),
        of::<IpAddr>(),
        of::<SocketAddr>(),
    ];
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{all:?}");
}

#[derive(Archive, Serialize, Deserialize, Layout)]
struct Boxed<T> {
    value: T,
    #[layout(name = "count")]
    count: u32,
}

#[test]
fn a_generic_type_has_the_layout_of_what_it_holds() {
    assert_eq!(of::<Boxed<u32>>(), of::<Boxed<usize>>());
    assert_ne!(of::<Boxed<u32>>(), of::<Boxed<u64>>());
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.question", reply = u32)]
struct Question {
    id: u64,
}

#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "test.question", reply = u64)]
struct OtherReply {
    id: u64,
}

#[test]
fn the_reply_is_a_part_of_a_message() {
    assert_eq!(of::<Question>(), of::<OtherReply>());
    assert_ne!(Question::LAYOUT, OtherReply::LAYOUT);
    assert_ne!(Question::TYPE_ID, OtherReply::TYPE_ID);
}

/// Another value here means that nodes built before and after do not understand each other: then
/// the wire version must rise as well.
#[test]
fn layouts_are_pinned() {
    let made = (Question::LAYOUT, Question::TYPE_ID, of::<Vec<(String, u16)>>());
    let pinned = (
        LayoutHash(9_220_754_110_810_495_009),
        MessageTypeId(3_221_252_133),
        LayoutHash(2_170_113_558_476_301_865),
    );
    assert_eq!(made, pinned);
}
