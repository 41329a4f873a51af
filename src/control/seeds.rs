//! What of the addresses that discovery finds is used, and when it looks again.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use crate::config::MAX_SEEDS;

/// How often discovery looks again.
pub const DISCOVERY_INTERVAL: Duration = Duration::from_secs(5);

/// Discovery's addresses, sorted out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FoundSeeds {
    /// What membership calls: each once, no more than it takes.
    pub usable: Vec<SocketAddr>,
    /// Those of another address family than this node's socket, which it can never reach.
    pub other_family: Vec<SocketAddr>,
    /// How many were more than membership takes.
    pub left_out: usize,
}

impl FoundSeeds {
    /// Sorts out what a node bound to `bind` can use.
    pub fn sort_out(bind: SocketAddr, found: Vec<SocketAddr>) -> Self {
        let mut sorted = Self::default();
        for address in found {
            let list = if address.is_ipv4() == bind.is_ipv4() {
                &mut sorted.usable
            } else {
                &mut sorted.other_family
            };
            if list.contains(&address) {
                continue;
            }
            if list.len() < MAX_SEEDS {
                list.push(address);
            } else {
                sorted.left_out += 1;
            }
        }
        sorted
    }

    /// What was found, with what was `known` of it first and in that order: who answers in another
    /// order each time has found nothing new, and of too many the same are used.
    pub fn in_known_order(known: &[SocketAddr], found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let mut left: BTreeSet<SocketAddr> = found.iter().copied().collect();
        let kept: Vec<SocketAddr> = known.iter().copied().filter(|it| left.remove(it)).collect();
        let new = found.into_iter().filter(|it| left.remove(it));
        let new: Vec<SocketAddr> = new.collect();
        [kept, new].concat()
    }

    /// Why none of it can be used, if some was found.
    pub fn no_use(&self, bind: SocketAddr) -> Option<String> {
        self.complaint(bind).filter(|_| self.usable.is_empty())
    }

    /// What is wrong with it, in words for a log; `None` if all of it is used.
    pub fn complaint(&self, bind: SocketAddr) -> Option<String> {
        let mut parts = Vec::new();
        if let Some(first) = self.other_family.first() {
            let count = self.other_family.len();
            parts.push(format!(
                "{count} seeds, such as {first}, are of another address family than `bind` \
                 ({bind}) and cannot be reached from it"
            ));
        }
        if self.left_out > 0 {
            let left_out = self.left_out;
            parts.push(format!("{left_out} are more than the {MAX_SEEDS} that are used"));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 7_400))
    }

    #[test]
    fn a_name_with_many_addresses_is_cut_and_complained_of() {
        let found = (0..200).map(|host| SocketAddr::from(([10, 0, 0, host], 7_400))).collect();
        let sorted = FoundSeeds::sort_out(bind(), found);
        assert_eq!(sorted.usable.len(), MAX_SEEDS);
        assert_eq!(sorted.left_out, 200 - MAX_SEEDS);
        let complaint = sorted.complaint(bind()).unwrap();
        assert_eq!(complaint, "136 are more than the 64 that are used");
    }

    #[test]
    fn an_address_of_another_family_is_named_and_not_called() {
        let other = SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 7_401));
        let sorted = FoundSeeds::sort_out(bind(), vec![bind(), other, bind(), other]);
        assert_eq!(sorted.usable, [bind()]);
        assert_eq!(sorted.other_family, [other]);
        let complaint = sorted.complaint(bind()).unwrap();
        assert!(complaint.contains("[::1]:7401") && complaint.contains("`bind`"), "{complaint}");
    }

    #[test]
    fn addresses_that_are_all_used_are_no_complaint() {
        let sorted = FoundSeeds::sort_out(bind(), vec![bind()]);
        assert_eq!(sorted.complaint(bind()), None);
    }

    #[test]
    fn what_is_found_in_another_order_is_the_same() {
        let host = |host| SocketAddr::from(([10, 0, 0, host], 7_400));
        let known = [host(1), host(2), host(3)];
        let found = FoundSeeds::in_known_order(&known, vec![host(3), host(1), host(2), host(1)]);
        assert_eq!(found, known);
        // Of many, those that are used stay.
        let many: Vec<_> = (0..200).rev().map(host).collect();
        let found = FoundSeeds::in_known_order(&known, many);
        assert_eq!(
            (&found[..4], found.len()),
            (&[known[0], known[1], known[2], host(199)][..], 200)
        );
        assert_eq!(FoundSeeds::in_known_order(&known, vec![host(3)]), [host(3)]);
    }
}
