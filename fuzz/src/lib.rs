//! What the fuzz targets share: one cluster's keys, its two nodes, and a way to damage good bytes.

use std::hash::{DefaultHasher, Hasher};
use std::sync::OnceLock;

use keyway::base::{Incarnation, NodeId, NodeRef, WorkerIndex};
use keyway::wire::handshake::{AcceptParams, DialParams, Purpose, TurnAway};
use keyway::wire::{ClusterKey, VersionRange};

/// The node that dials and sends.
pub const A: NodeRef = NodeRef { node: NodeId(0xaaaa), incarnation: Incarnation(11) };
/// The node that accepts and receives.
pub const B: NodeRef = NodeRef { node: NodeId(0xbbbb), incarnation: Incarnation(22) };

/// How an input's first byte sets the scene.
#[derive(Clone, Copy, Debug)]
pub struct Scene(pub u8);

impl Scene {
    /// Whether the rest of the input is damage to a good exchange, rather than the exchange itself.
    pub fn damages_good_bytes(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether the nodes have a shared secret.
    fn has_secret(self) -> bool {
        self.0 & 2 == 0
    }

    /// A key that no other input has: see [`fresh_for`].
    pub fn fresh_key(self, input: &[u8]) -> ClusterKey {
        let fresh = fresh_for(input);
        let key = if self.has_secret() {
            ClusterKey::new("shop", Some(&fresh))
        } else {
            let name: String = fresh.iter().map(|byte| format!("{byte:02x}")).collect();
            ClusterKey::new(&name, None)
        };
        key.expect("a good name and secret")
    }

    /// The cluster's key, with or without a shared secret.
    pub fn key(self) -> ClusterKey {
        static KEYS: OnceLock<[ClusterKey; 2]> = OnceLock::new();
        let keys = KEYS.get_or_init(|| {
            [Some(b"sixteen bytes ok".as_slice()), None]
                .map(|secret| ClusterKey::new("shop", secret).expect("a good name and secret"))
        });
        keys[usize::from(!self.has_secret())].clone()
    }

    /// What node A wants.
    pub fn dial_params(self) -> DialParams {
        DialParams {
            key: self.key(),
            purpose: Purpose::Workers,
            me: A,
            from_worker: WorkerIndex(3),
            to: B,
            to_worker: WorkerIndex(1),
            link_epoch: 7,
            versions: VersionRange::SUPPORTED,
        }
    }

    /// What node B allows: one scene in 16 turns everyone away.
    pub fn accept_params(self) -> AcceptParams {
        AcceptParams {
            key: self.key(),
            me: B,
            workers: 2,
            versions: VersionRange::SUPPORTED,
            turn_away: (self.0 >> 2 & 15 == 15).then_some(TurnAway::Busy),
            no_place: Default::default(),
            takes: 1 << 20,
        }
    }
}

/// Thirty-two bytes that are other ones for every input: the nonce or secret to hear it with.
///
/// The fuzzer watches comparisons and puts what it saw compared into its next input. Under a fixed
/// nonce or key it learns the right proof that way, as no real sender can. Here a learned proof is
/// wrong as soon as it is written into the input.
pub fn fresh_for(input: &[u8]) -> [u8; 32] {
    let mut hash = DefaultHasher::new();
    hash.write(input);
    let hash = hash.finish().to_le_bytes();
    std::array::from_fn(|at| hash[at % hash.len()])
}

/// Changes `bytes` where `damage` says: each three bytes of it are a place (two bytes) and what to
/// XOR there. Gives whether anything is different in the end.
pub fn apply(damage: &[u8], bytes: &mut [u8]) -> bool {
    let good = bytes.to_vec();
    for &[low, high, change] in damage.as_chunks().0 {
        let at = usize::from(u16::from_le_bytes([low, high])) % bytes.len();
        bytes[at] ^= change;
    }
    good != bytes
}

/// Splits damage between two messages at its first byte.
pub fn halves(damage: &[u8]) -> (&[u8], &[u8]) {
    match damage.split_first() {
        Some((&at, rest)) => rest.split_at(usize::from(at).min(rest.len())),
        None => (&[], &[]),
    }
}
