//! The envelope of a datagram: who sent it, for which part, and a tag that proves it came whole from
//! a node that holds the cluster's secret. `docs/PROTOCOL.md` has the layout and what replay means.

use hmac::Mac;
use thiserror::Error;

use super::auth::ClusterKey;
use super::codec::{ReadResult, Reader, Writer};
use super::version::WIRE_VERSION_MAX;
use crate::base::NodeRef;
use crate::base::debug_as_display;

const MAGIC: [u8; 4] = *b"KWYD";
const VERSION: u8 = WIRE_VERSION_MAX;
/// Set in `flags` when a shared secret is behind the tag.
const FLAG_SECRET: u8 = 1;

const HEADER_LEN: usize = 32;
/// What proves a datagram stands at its end, in bytes.
pub const TAG_LEN: usize = 16;
/// The part number of membership, which is no part beside the others but what they all stand on.
pub const MEMBERSHIP: u8 = 0;
/// The number of membership's payloads that come in pieces.
pub const PIECES: u8 = 255;
/// What the envelope adds to a payload, in bytes.
pub const OVERHEAD_LEN: usize = HEADER_LEN + TAG_LEN;
/// Longest payload whose datagram, of 1,200 bytes, every path carries whole: it fits the least packet
/// of IPv6, and a tunnel or two over Ethernet.
pub const WHOLE_BYTES: usize = 1_200 - OVERHEAD_LEN;
/// What a piece of a longer payload says of itself before its bytes.
pub const PIECE_HEAD_BYTES: usize = 4 + 1 + 1;
/// The most bytes of a longer payload in one piece.
pub const PIECE_BYTES: usize = WHOLE_BYTES - PIECE_HEAD_BYTES;
/// Longest payload of one datagram in bytes.
pub const MAX_PAYLOAD_LEN: usize = 16 * 1024;
/// Longest datagram in bytes: a receive buffer of one byte more tells a longer one from a full one.
pub const MAX_DATAGRAM_LEN: usize = MAX_PAYLOAD_LEN + OVERHEAD_LEN;

/// How many bytes a payload of membership takes in datagrams, whole or in pieces.
pub const fn sent_bytes(payload: usize) -> usize {
    if payload <= WHOLE_BYTES {
        return payload + OVERHEAD_LEN;
    }
    payload + payload.div_ceil(PIECE_BYTES) * (PIECE_HEAD_BYTES + OVERHEAD_LEN)
}

/// Why a datagram was not sealed or not opened. A datagram that fails to open is dropped and
/// counted; nothing is answered, since the sender may be forged.
#[derive(Clone, Copy, PartialEq, Eq, Error)]
pub enum DatagramError {
    /// The caller's payload does not fit.
    #[error(
        "sealing a datagram failed: its payload has {length} bytes and at most \
         {MAX_PAYLOAD_LEN} fit; split it"
    )]
    PayloadTooLong {
        /// The payload's length in bytes.
        length: usize,
    },
    /// Shorter than an empty payload's envelope.
    #[error(
        "opening a datagram failed: {length} bytes are too few for an envelope; \
         something else than a Keyway node sends to this port, or the network cuts datagrams"
    )]
    TooShort {
        /// The datagram's length in bytes.
        length: usize,
    },
    /// Longer than any datagram a node sends.
    #[error(
        "opening a datagram failed: {length} bytes are more than the largest \
         ({MAX_DATAGRAM_LEN}); something else than a Keyway node sends to this port"
    )]
    TooLong {
        /// The datagram's length in bytes.
        length: usize,
    },
    /// Not a Keyway datagram.
    #[error(
        "opening a datagram failed: it does not begin with Keyway's magic; \
         something else than a Keyway node sends to this port"
    )]
    WrongMagic,
    /// A Keyway datagram of a version that this build does not read.
    #[error(
        "opening a datagram failed: its envelope is version {theirs} and this node reads \
         {VERSION}; upgrade the older side"
    )]
    UnknownVersion {
        /// The version it carries.
        theirs: u8,
    },
    /// From a cluster with another name.
    #[error(
        "opening a datagram failed: it belongs to another cluster; correct the seed addresses or \
         the cluster name of whichever node is wrong"
    )]
    WrongCluster,
    /// This node has a secret, the sender none.
    #[error(
        "opening a datagram failed: the sender has no shared secret and this node has one; \
         give the sender the same secret"
    )]
    SecretOnlyHere,
    /// The sender has a secret, this node none.
    #[error(
        "opening a datagram failed: the sender has a shared secret and this node has none; \
         give this node the same secret"
    )]
    SecretOnlyThere,
    /// The tag does not fit the bytes.
    #[error(
        "opening a datagram failed: its tag is wrong, so that it was sealed with another secret, \
         damaged, or forged; give all nodes the same secret"
    )]
    WrongTag,
}

debug_as_display!(DatagramError);

/// What was in an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened<'d> {
    /// Who sealed it.
    pub sender: NodeRef,
    /// Which part it is for: [`MEMBERSHIP`], or one that the receiver may not know.
    pub part: u8,
    /// What it says.
    pub payload: &'d [u8],
}

/// Puts a part's `payload` into an envelope. `out` is cleared first, so that one buffer serves all sends; on
/// an error it is left empty.
pub fn seal(
    key: &ClusterKey,
    sender: NodeRef,
    part: u8,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), DatagramError> {
    out.clear();
    if payload.len() > MAX_PAYLOAD_LEN {
        return Err(DatagramError::PayloadTooLong { length: payload.len() });
    }
    out.reserve(payload.len() + OVERHEAD_LEN);
    let mut header = Writer::new(out);
    header.bytes(&MAGIC).u8(VERSION).u8(flags(key)).u8(part).u8(0);
    header.bytes(&key.cluster_id()).node_ref(sender).bytes(payload);
    let tag = key.datagram_mac().chain_update(&*out).finalize().into_bytes();
    out.extend_from_slice(&tag[..TAG_LEN]);
    Ok(())
}

/// Checks an envelope and gives what is in it. The cheap checks come first; nothing of the
/// payload is looked at before the tag has been found right.
pub fn open<'d>(key: &ClusterKey, datagram: &'d [u8]) -> Result<Opened<'d>, DatagramError> {
    let length = datagram.len();
    if length > MAX_DATAGRAM_LEN {
        return Err(DatagramError::TooLong { length });
    }
    let too_short = DatagramError::TooShort { length };
    let (sealed, tag) = datagram.split_last_chunk::<TAG_LEN>().ok_or(too_short)?;
    let (header, payload) = sealed.split_first_chunk::<HEADER_LEN>().ok_or(too_short)?;
    let header = Header::read(header).map_err(|_| too_short)?;

    if header.magic != MAGIC {
        return Err(DatagramError::WrongMagic);
    }
    if header.version != VERSION {
        return Err(DatagramError::UnknownVersion { theirs: header.version });
    }
    if header.cluster_id != key.cluster_id() {
        return Err(DatagramError::WrongCluster);
    }
    match (key.has_secret(), header.flags & FLAG_SECRET != 0) {
        (true, false) => return Err(DatagramError::SecretOnlyHere),
        (false, true) => return Err(DatagramError::SecretOnlyThere),
        (true, true) | (false, false) => {}
    }
    key.datagram_mac()
        .chain_update(sealed)
        .verify_truncated_left(tag)
        .map_err(|_| DatagramError::WrongTag)?;
    Ok(Opened { sender: header.sender, part: header.part, payload })
}

struct Header {
    magic: [u8; 4],
    version: u8,
    flags: u8,
    part: u8,
    cluster_id: [u8; 8],
    sender: NodeRef,
}

impl Header {
    fn read(bytes: &[u8]) -> ReadResult<Self> {
        let mut reader = Reader::new(bytes);
        let (magic, version, flags, part) =
            (reader.fixed()?, reader.u8()?, reader.u8()?, reader.u8()?);
        let _reserved = reader.u8()?;
        let (cluster_id, sender) = (reader.fixed()?, reader.node_ref()?);
        Ok(Self { magic, version, flags, part, cluster_id, sender })
    }
}

fn flags(key: &ClusterKey) -> u8 {
    if key.has_secret() { FLAG_SECRET } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::base::{Incarnation, NodeId};
    use crate::wire::tests::protocol::holds;

    const SENDER: NodeRef =
        NodeRef { node: NodeId(0x1122_3344_5566_7788), incarnation: Incarnation(9) };

    const PART: u8 = 3;

    fn opened(payload: &[u8]) -> Opened<'_> {
        Opened { sender: SENDER, part: PART, payload }
    }

    fn key(cluster: &str, secret: Option<&[u8]>) -> ClusterKey {
        ClusterKey::new(cluster, secret).unwrap()
    }

    fn sealed(key: &ClusterKey, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        seal(key, SENDER, PART, payload, &mut out).unwrap();
        out
    }

    #[test]
    fn what_was_sealed_opens_with_the_same_key() {
        for secret in [None, Some(b"swordfish".as_slice())] {
            let key = key("shop", secret);
            for payload in [vec![], b"alive".to_vec(), vec![3; MAX_PAYLOAD_LEN]] {
                let datagram = sealed(&key, &payload);
                assert_eq!(datagram.len(), payload.len() + OVERHEAD_LEN);
                assert_eq!(open(&key, &datagram), Ok(opened(&payload)));
            }
        }
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let datagram = sealed(&key("shop", Some(b"swordfish")), b"alive");
        assert_eq!(&datagram[..8], b"KWYD\x02\x01\x03\0");
        assert_eq!(datagram[8..16], key("shop", None).cluster_id());
        assert_eq!(datagram[16..24], 0x1122_3344_5566_7788_u64.to_le_bytes());
        assert_eq!(datagram[24..32], 9_u64.to_le_bytes());
        assert_eq!(&datagram[32..37], b"alive");
        // From another implementation, written from docs/PROTOCOL.md.
        assert_eq!(datagram[37..], 0x6f7d_d44b_3334_4a0e_0b90_5010_a03b_9422_u128.to_be_bytes());
    }

    #[test]
    fn the_envelope_is_what_the_document_says() {
        let key = key("shop", Some(b"swordfish"));
        let datagram = sealed(&key, b"alive");
        holds(
            "## Datagram envelope",
            &datagram,
            &[
                ("magic", b"KWYD"),
                ("version", &[2]),
                ("flags", &[1]),
                ("part", &[PART]),
                ("reserved", &[0]),
                ("cluster id", &key.cluster_id()),
                ("sender node", &SENDER.node.0.to_le_bytes()),
                ("sender incarnation", &SENDER.incarnation.0.to_le_bytes()),
                ("payload", b"alive"),
                ("tag", &datagram[37..]),
            ],
        );
    }

    #[test]
    fn sealing_clears_the_buffer_and_refuses_what_does_not_fit() {
        let key = key("shop", None);
        let mut out = b"left over".to_vec();
        seal(&key, SENDER, PART, b"alive", &mut out).unwrap();
        assert_eq!(open(&key, &out), Ok(opened(b"alive")));
        let length = MAX_PAYLOAD_LEN + 1;
        let refused = seal(&key, SENDER, PART, &vec![0; length], &mut out);
        assert_eq!(refused, Err(DatagramError::PayloadTooLong { length }));
        assert_eq!(out, Vec::<u8>::new());
    }

    #[test]
    fn each_reason_is_told_apart() {
        let mine = key("shop", Some(b"swordfish"));
        let open_with_mine = |datagram: &[u8]| open(&mine, datagram).map(|_| ());
        let good = sealed(&mine, b"alive");

        let mut other_magic = good.clone();
        other_magic[0] = b'X';
        assert_eq!(open_with_mine(&other_magic), Err(DatagramError::WrongMagic));
        let mut newer = good.clone();
        newer[4] = 3;
        assert_eq!(open_with_mine(&newer), Err(DatagramError::UnknownVersion { theirs: 3 }));
        let long = vec![0; MAX_DATAGRAM_LEN + 1];
        let too_long = DatagramError::TooLong { length: MAX_DATAGRAM_LEN + 1 };
        assert_eq!(open_with_mine(&long), Err(too_long));

        let from = |cluster, secret| sealed(&key(cluster, secret), b"alive");
        let other_cluster = from("bank", Some(b"swordfish".as_slice()));
        assert_eq!(open_with_mine(&other_cluster), Err(DatagramError::WrongCluster));
        let other_secret = from("shop", Some(b"sawfish".as_slice()));
        assert_eq!(open_with_mine(&other_secret), Err(DatagramError::WrongTag));
        let no_secret = from("shop", None);
        assert_eq!(open_with_mine(&no_secret), Err(DatagramError::SecretOnlyHere));
        let unexpected = open(&key("shop", None), &good);
        assert_eq!(unexpected, Err(DatagramError::SecretOnlyThere));
    }

    #[test]
    fn no_cut_and_no_flipped_bit_opens() {
        for secret in [None, Some(b"swordfish".as_slice())] {
            let key = key("shop", secret);
            let good = sealed(&key, b"alive");
            for length in 0..good.len() {
                let expected = if length < OVERHEAD_LEN {
                    DatagramError::TooShort { length }
                } else {
                    DatagramError::WrongTag
                };
                assert_eq!(open(&key, &good[..length]), Err(expected));
            }
            for bit in 0..good.len() * 8 {
                let mut flipped = good.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(open(&key, &flipped).is_err(), "bit {bit} is not covered");
            }
            let mut longer = good;
            longer.push(0);
            assert_eq!(open(&key, &longer), Err(DatagramError::WrongTag));
        }
    }

    proptest! {
        #[test]
        fn random_bytes_never_open(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
            prop_assert!(open(&key("shop", Some(b"swordfish")), &bytes).is_err());
        }

        #[test]
        fn random_bytes_under_a_right_header_never_open(
            tail in prop::collection::vec(any::<u8>(), 0..256),
        ) {
            let key = key("shop", Some(b"swordfish"));
            let mut datagram = sealed(&key, b"")[..HEADER_LEN].to_vec();
            datagram.extend(tail);
            prop_assert!(open(&key, &datagram).is_err());
        }
    }
}
