//! What a seed may have beside the nodes of its cluster, and how these differ.

use rand::RngExt;

use super::events::SlotId;
use super::streams::stream;
use crate::control::joining::SeedState;
use crate::wire::ClusterKey;

/// The cluster's name, and its secret.
const CLUSTER: &str = "sim";
const SECRET: &[u8] = b"a secret for simulated nodes";

/// What there is; by default nothing.
#[derive(Clone, Debug, Default)]
pub struct Strange {
    /// Somebody who is no node tries to get in.
    pub forger: bool,
    /// Not all machines are set up alike.
    pub mixed: bool,
    /// A machine more whose processes are none of the cluster's.
    pub outsider: Option<(SlotId, Outsider)>,
}

impl Strange {
    /// What a seed has, beside so many machines.
    pub fn draw(seed: u64, slots: usize) -> Self {
        let one_in = |name, of: u32| {
            let mut rng = stream(seed, name);
            (rng.random_range(0..of) == 0).then_some(rng)
        };
        let outsider = one_in("outsider", 8).map(|mut rng| {
            let kinds = [Outsider::Secret, Outsider::NoSecret, Outsider::Name];
            (slots, kinds[rng.random_range(0..kinds.len())])
        });
        let (forger, mixed) = (one_in("forger", 8).is_some(), one_in("mixed", 4).is_some());
        Self { forger, mixed, outsider }
    }
}

/// The key of the cluster.
pub fn cluster_key() -> ClusterKey {
    ClusterKey::new(CLUSTER, Some(SECRET)).expect("the name and the secret are fine")
}

/// In which way a process is none of the cluster's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outsider {
    /// Its secret is another one.
    Secret,
    /// It has none.
    NoSecret,
    /// Its cluster has another name.
    Name,
}

impl Outsider {
    /// What it proves itself by.
    pub fn key(self) -> ClusterKey {
        let key = match self {
            Self::Secret => ClusterKey::new(CLUSTER, Some(b"a secret of another cluster")),
            Self::NoSecret => ClusterKey::new(CLUSTER, None),
            Self::Name => ClusterKey::new("another", Some(SECRET)),
        };
        key.expect("the name and the secret are fine")
    }

    /// What it is told where it calls.
    pub fn told(self) -> SeedState {
        match self {
            Self::Secret => SeedState::OtherSecret,
            Self::NoSecret => SeedState::SecretOnlyThere,
            Self::Name => SeedState::OtherCluster,
        }
    }
}
