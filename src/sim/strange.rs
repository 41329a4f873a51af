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
    /// A machine more whose processes have the name of another one's. Then nothing goes wrong.
    pub namesake: Option<(SlotId, SlotId)>,
    /// The clocks of machines go back with each process, and whether these ask before they start
    /// what they have to exceed.
    pub back: Option<bool>,
}

impl Strange {
    /// What a seed has, beside so many machines, of which so many are there from the start.
    pub fn draw(seed: u64, nodes: usize, slots: usize) -> Self {
        let one_in = |name, of: u32| {
            let mut rng = stream(seed, name);
            (rng.random_range(0..of) == 0).then_some(rng)
        };
        let outsider = one_in("outsider", 8).map(|mut rng| {
            let kinds = [Outsider::Secret, Outsider::NoSecret, Outsider::Name];
            (slots, kinds[rng.random_range(0..kinds.len())])
        });
        let (forger, mixed) = (one_in("forger", 8).is_some(), one_in("mixed", 4).is_some());
        let next = slots + usize::from(outsider.is_some());
        let namesake = one_in("namesake", 16)
            .map(|mut rng| (next, rng.random_range(0..nodes as u64) as usize));
        let back = one_in("clocks back", 8).map(|mut rng| rng.random_range(0..2) == 0);
        Self { forger, mixed, outsider, namesake, back }
    }

    /// The machines that there are more for it, and after how many seconds each starts first.
    pub fn guests(&self) -> impl Iterator<Item = (SlotId, u64)> {
        let outsider = self.outsider.map(|(slot, _)| (slot, 1));
        outsider.into_iter().chain(self.namesake.map(|(slot, _)| (slot, 3)))
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
