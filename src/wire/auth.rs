//! The cluster's shared secret, and the keys that are derived from it, one per purpose.
//!
//! ```text
//! root      = HMAC-SHA256("keyway/1 cluster key", length of name | name | secret set? | secret)
//! handshake = HMAC-SHA256(root, "handshake")      proves the secret when a TCP link opens
//! datagram  = HMAC-SHA256(root, "datagram")       seals membership datagrams
//! hash seed = HMAC-SHA256(root, "hash seed")[..8] places keys where outsiders cannot foresee
//! ```
//!
//! The secret enters as the message, not as the HMAC key: HMAC pads short keys with zero bytes, so
//! that two secrets which differ only in trailing zeros would be the same key.

use crate::base::debug_as_display;
use std::fmt;
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;

/// Longest cluster name in bytes of UTF-8.
pub const MAX_CLUSTER_NAME_LEN: usize = 64;
/// Longest shared secret in bytes.
pub const MAX_SECRET_LEN: usize = 1024;
/// Why no [`ClusterKey`] could be made: the configuration is wrong.
#[derive(Clone, PartialEq, Eq, Error)]
pub enum ClusterKeyError {
    /// The cluster's name is empty or too long.
    #[error(
        "deriving the cluster's keys failed: the cluster name has {length} bytes; \
         give it a name of 1 to {MAX_CLUSTER_NAME_LEN} bytes"
    )]
    ClusterName {
        /// The name's length in bytes.
        length: usize,
    },
    /// A secret was given, but it is empty or too long.
    #[error(
        "deriving the cluster's keys failed: the shared secret has {length} bytes; \
         give it 1 to {MAX_SECRET_LEN} bytes (16 random ones or more), or configure none"
    )]
    Secret {
        /// The secret's length in bytes.
        length: usize,
    },
}

debug_as_display!(ClusterKeyError);

/// Everything a node derives from its cluster's name and shared secret. Cheap to clone.
///
/// Without a secret the keys follow from the name alone: they catch damage and mix-ups, but no
/// attacker, and links that were opened with them say `authenticated: false`.
#[derive(Clone)]
pub struct ClusterKey(Arc<Keys>);

struct Keys {
    cluster: Box<str>,
    cluster_id: [u8; 8],
    has_secret: bool,
    // Keyed once, cloned for each use: that saves two of the hash's block rounds every time.
    handshake: Hmac<Sha256>,
    datagram: Hmac<Sha256>,
    hash_seed: u64,
}

impl ClusterKey {
    /// Derives all keys; the secret itself is not kept.
    pub fn new(cluster: &str, secret: Option<&[u8]>) -> Result<Self, ClusterKeyError> {
        if cluster.is_empty() || cluster.len() > MAX_CLUSTER_NAME_LEN {
            return Err(ClusterKeyError::ClusterName { length: cluster.len() });
        }
        if let Some(length) = secret.map(<[u8]>::len)
            && !(1..=MAX_SECRET_LEN).contains(&length)
        {
            return Err(ClusterKeyError::Secret { length });
        }
        let root = hmac_keyed(b"keyway/1 cluster key")
            .chain_update((cluster.len() as u64).to_le_bytes())
            .chain_update(cluster)
            .chain_update([u8::from(secret.is_some())])
            .chain_update(secret.unwrap_or_default())
            .finalize()
            .into_bytes();
        let derive = |purpose: &[u8]| hmac_sha256(&root, purpose);
        Ok(Self(Arc::new(Keys {
            cluster: cluster.into(),
            // From the name alone, so that it tells clusters apart and says nothing about secrets.
            cluster_id: first_8(hmac_sha256(b"keyway/1 cluster id", cluster.as_bytes())),
            has_secret: secret.is_some(),
            handshake: hmac_keyed(&derive(b"handshake")),
            datagram: hmac_keyed(&derive(b"datagram")),
            hash_seed: u64::from_le_bytes(first_8(derive(b"hash seed"))),
        })))
    }

    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.0.cluster
    }

    /// Eight bytes that tell this cluster's datagrams from another cluster's. Not secret.
    pub fn cluster_id(&self) -> [u8; 8] {
        self.0.cluster_id
    }

    /// Whether a shared secret is behind the keys. Without one nobody outside loopback should be
    /// able to reach the node.
    pub fn has_secret(&self) -> bool {
        self.0.has_secret
    }

    /// Seed of consistent hashing: the same on every node of the cluster.
    pub fn hash_seed(&self) -> u64 {
        self.0.hash_seed
    }

    pub(super) fn handshake_mac(&self) -> Hmac<Sha256> {
        self.0.handshake.clone()
    }

    pub(super) fn datagram_mac(&self) -> Hmac<Sha256> {
        self.0.datagram.clone()
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterKey")
            .field("cluster", &self.0.cluster)
            .field("has_secret", &self.0.has_secret)
            .finish_non_exhaustive()
    }
}

fn hmac_keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of every length")
}

fn hmac_sha256(key: &[u8], message: &[u8]) -> [u8; 32] {
    hmac_keyed(key).chain_update(message).finalize().into_bytes().into()
}

fn first_8(bytes: [u8; 32]) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = bytes;
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{NodeConfig, Secret};

    fn key(cluster: &str, secret: Option<&[u8]>) -> ClusterKey {
        ClusterKey::new(cluster, secret).unwrap()
    }

    fn fingerprint(key: &ClusterKey) -> [[u8; 32]; 2] {
        [key.handshake_mac(), key.datagram_mac()]
            .map(|mac| mac.chain_update(b"probe").finalize().into_bytes().into())
    }

    #[test]
    fn hmac_gives_the_published_test_vector() {
        // RFC 4231, test case 2.
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        let found = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
        let hex: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, expected);
    }

    /// The numbers come from another implementation, written from the description above.
    #[test]
    fn the_derivation_is_pinned_because_nodes_of_two_releases_must_agree() {
        assert_eq!(key("shop", None).hash_seed(), 0xc149_5028_c45d_ad87);
        assert_eq!(key("shop", Some(b"swordfish")).hash_seed(), 0xa922_5c3c_5cff_3659);
        assert_eq!(
            key("shop", None).cluster_id(),
            [0x2e, 0x10, 0x30, 0x70, 0x47, 0x5c, 0xa8, 0xf6]
        );
    }

    #[test]
    fn equal_inputs_give_equal_keys_and_any_difference_gives_other_ones() {
        let same = key("shop", Some(b"swordfish"));
        assert_eq!(fingerprint(&same), fingerprint(&key("shop", Some(b"swordfish"))));
        assert_eq!(same.hash_seed(), key("shop", Some(b"swordfish")).hash_seed());
        let all = [
            same,
            key("shop", None),
            key("shop", Some(b"swordfish\0")),
            key("shop", Some(b"Swordfish")),
            key("shops", Some(b"wordfish")),
            key("sho", Some(b"pswordfish")),
        ];
        for (i, a) in all.iter().enumerate() {
            let [handshake, datagram] = fingerprint(a);
            assert_ne!(handshake, datagram, "purposes must not share a key");
            for b in &all[..i] {
                let [other_handshake, other_datagram] = fingerprint(b);
                assert_ne!(handshake, other_handshake);
                assert_ne!(datagram, other_datagram);
                assert_ne!(a.hash_seed(), b.hash_seed());
            }
        }
    }

    #[test]
    fn the_cluster_id_follows_the_name_and_not_the_secret() {
        let id = key("shop", Some(b"one")).cluster_id();
        assert_eq!(id, key("shop", Some(b"two")).cluster_id());
        assert_eq!(id, key("shop", None).cluster_id());
        assert_ne!(id, key("bank", Some(b"one")).cluster_id());
    }

    #[test]
    fn names_and_secrets_out_of_bounds_are_refused() {
        let name = |length: usize| ClusterKey::new(&"n".repeat(length), None).err();
        assert_eq!(name(0), Some(ClusterKeyError::ClusterName { length: 0 }));
        assert_eq!(name(64), None);
        assert_eq!(name(65), Some(ClusterKeyError::ClusterName { length: 65 }));
        let secret = |length: usize| ClusterKey::new("shop", Some(&vec![7; length])).err();
        assert_eq!(secret(0), Some(ClusterKeyError::Secret { length: 0 }));
        assert_eq!(secret(1024), None);
        assert_eq!(secret(1025), Some(ClusterKeyError::Secret { length: 1025 }));
    }

    #[test]
    fn what_the_configuration_takes_makes_keys_and_no_more_would() {
        let secret = |length: usize| Secret::new(vec![b'x'; length]);
        let key_of = |name: &str, secret: &[u8]| ClusterKey::new(name, Some(secret));
        let longest = secret(MAX_SECRET_LEN).unwrap();
        assert!(secret(MAX_SECRET_LEN + 1).is_err());
        for (length, fits) in [(1, true), (MAX_CLUSTER_NAME_LEN, true), (65, false)] {
            let name = "x".repeat(length);
            assert_eq!(NodeConfig::default().set("cluster", &name).is_ok(), fits, "{length}");
            assert_eq!(key_of(&name, longest.as_bytes()).is_ok(), fits, "{length}");
        }
    }

    #[test]
    fn nothing_prints_a_secret() {
        assert_eq!(
            format!("{:?}", key("shop", Some(b"swordfish"))),
            "ClusterKey { cluster: \"shop\", has_secret: true, .. }"
        );
    }
}
