//! Holds the handshake's tables in docs/PROTOCOL.md to what is sent.

use super::super::messages::{Hello, Kind, Prefix, Refusal, RefusalCode, Welcome, at};
use super::*;
use crate::wire::tests::protocol::{holds, row, table, words};

#[test]
fn the_prefix_is_the_documented_one() {
    let prefix = [
        row(at::MAGIC, "magic"),
        row(at::KIND, "kind"),
        row(at::OLDEST, "oldest version"),
        row(at::NEWEST, "newest version"),
        row(at::RESERVED, "reserved"),
        row(at::BODY_LEN, "body length"),
        row(at::RESERVED_TOO, "reserved"),
    ];
    assert_eq!(table("### Prefix", ["offset", "size", "field"]), prefix);
    let bytes = Prefix::new(Kind::Ready, versions(3, 7), 32).bytes;
    assert_eq!(&bytes, b"\x89KEYWAY\n\x04\x03\x07\0\x20\0\0\0");
}

#[test]
fn the_messages_are_the_documented_ones() {
    let versions = versions(3, 7);
    let hello = Hello {
        nonce: DIALER_NONCE,
        dialer: A,
        wanted: B,
        link_epoch: 7,
        from_worker: WorkerIndex(3),
        to_worker: WorkerIndex(4),
        has_secret: true,
        purpose: 9,
        cluster: "shop",
    };
    holds(
        "### Hello",
        &hello.encode(versions),
        &[
            ("prefix", &Prefix::new(Kind::Hello, versions, 84).bytes),
            ("nonce", &DIALER_NONCE),
            ("dialer node", &A.node.0.to_le_bytes()),
            ("dialer incarnation", &A.incarnation.0.to_le_bytes()),
            ("wanted node", &B.node.0.to_le_bytes()),
            ("wanted incarnation", &B.incarnation.0.to_le_bytes()),
            ("link epoch", &7_u64.to_le_bytes()),
            ("from worker", &[3, 0]),
            ("to worker", &[4, 0]),
            ("flags", &[1]),
            ("name length", &[4]),
            ("purpose", &[9]),
            ("reserved", &[0]),
            ("cluster name", b"shop"),
        ],
    );
    assert_eq!(Hello::parse(&hello.encode(versions)[PREFIX_LEN..]), Ok(hello));

    let welcome = Welcome {
        nonce: ACCEPTOR_NONCE,
        acceptor: B,
        chosen_version: 5,
        has_secret: true,
        takes: 70_000,
    };
    holds(
        "### Welcome",
        &welcome.encode(versions),
        &[
            ("prefix", &Prefix::new(Kind::Welcome, versions, 56).bytes),
            ("nonce", &ACCEPTOR_NONCE),
            ("acceptor node", &B.node.0.to_le_bytes()),
            ("acceptor incarnation", &B.incarnation.0.to_le_bytes()),
            ("chosen version", &[5]),
            ("flags", &[1]),
            ("reserved", &[0; 2]),
            ("longest frame", &70_000u32.to_le_bytes()),
        ],
    );
    assert_eq!(Welcome::parse(&welcome.encode(versions)[PREFIX_LEN..]), Ok(welcome));

    let refusal = Refusal { code: RefusalCode::NoSuchWorker, workers: 300, acceptor: B };
    holds(
        "### Refusal",
        &refusal.encode(versions),
        &[
            ("prefix", &Prefix::new(Kind::Refusal, versions, 24).bytes),
            ("code", &[9]),
            ("reserved", &[0]),
            ("workers", &300_u16.to_le_bytes()),
            ("reserved", &[0; 4]),
            ("acceptor node", &B.node.0.to_le_bytes()),
            ("acceptor incarnation", &B.incarnation.0.to_le_bytes()),
        ],
    );
    assert_eq!(Refusal::parse(&refusal.encode(versions)[PREFIX_LEN..]), Ok(refusal));
}

#[test]
fn the_proofs_are_the_documented_ones() {
    let told = record(SECRET);
    for (message, kind) in [(&told.proof, Kind::Proof), (&told.ready, Kind::Ready)] {
        let prefix = Prefix::new(kind, VersionRange::SUPPORTED, 32).bytes;
        holds("### Proof and Ready", message, &[("prefix", &prefix), ("proof", &message[16..])]);
    }
}

#[test]
fn the_codes_of_refusals_are_the_documented_ones() {
    let mut documented = table("In the order in which an acceptor checks:", ["code", "name"]);
    documented.sort_by_key(|[code, _]| code.parse::<u8>().unwrap());
    let codes = RefusalCode::ALL.map(|code| {
        [(code as u8).to_string(), words(&format!("{code:?}")).replace("self ", "self-")]
    });
    assert_eq!(documented, codes);
}
