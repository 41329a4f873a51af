//! What becomes of links to a peer that is reachable again. After a cut an old connection may be
//! good, but the system repeats what it lost ever more seldom, so that whatever is written behind
//! it waits for seconds. A new connection is open at once.

use super::Worker;
use super::link::{LinkId, LinkState};

impl Worker {
    /// The peer behind a dialed link is reachable again. A link that rests before its next dial
    /// rests no more. One on which something is stuck is replaced when what has come on it is read:
    /// what was written and not acknowledged is unknown, what was not written goes out again. One on
    /// which all that was sent has ended is good, since nothing was sent while the peer was
    /// unreachable.
    pub(super) fn peer_is_back(&mut self, id: LinkId) {
        let Some(link) = self.core.links.get_mut(id) else { return };
        match link.state {
            LinkState::Broken => {
                link.state = LinkState::Idle;
                link.redial_pause_ms = 0;
                self.core.refresh_usable();
            }
            LinkState::Dialing => {
                self.core.dialed_anew(id);
                self.core.refresh_usable();
            }
            LinkState::Open if !link.is_settled() || self.core.asks.waits_on(id) => {
                // This side gives the connection up: nobody is suspected for it.
                self.give_up_connection(id);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::route::snapshot::Reach;
    use crate::worker::testnet::{Effect, Net, destination, ping, reference};

    fn flip(net: &mut Net) {
        for reach in [Reach::Unreachable, Reach::Usable] {
            net.reach[1] = reach;
            net.apply(0);
        }
    }

    #[test]
    fn a_link_on_which_something_is_stuck_is_replaced_and_the_rest_goes_out_again() {
        let mut net = Net::joined(2);
        for key in 0..3 {
            net.cx(0, |cx| cx.tell_to(&reference(1), &ping(key))).unwrap();
        }
        let id = net.wires[0].dialed;
        let frame = net.sides[0].worker.link(id).unwrap().outbox().bytes() / 3;
        net.write(0, id, frame);
        flip(&mut net);
        let given_up = [Effect::Dial(1), Effect::Close];
        assert_eq!(net.effects(0), given_up, "at once, and nobody is suspected");
        assert_eq!(net.counts(0).unknown, 1);
        net.wires.clear(); // The old socket is closed.
        net.open(0, 1);
        net.settle();
        assert_eq!(net.seen(1, |seen| seen.keys.clone()), [1, 2]);
        assert_eq!((net.counts(0).in_flight(), net.counts(0).unknown), (0, 1));
    }

    #[test]
    fn a_link_on_which_all_has_ended_is_kept() {
        let mut net = Net::joined(2);
        net.cx(0, |cx| cx.tell_to(&reference(1), &ping(1))).unwrap();
        net.settle();
        net.pass(100);
        net.settle();
        flip(&mut net);
        assert_eq!(net.effects(0), []);
        net.cx(0, |cx| cx.tell_to(&reference(1), &ping(2))).unwrap();
        net.settle();
        assert_eq!(net.seen(1, |seen| seen.keys.clone()), [1, 2]);
        assert_eq!(net.counts(0).unknown, 0);
    }

    #[test]
    fn a_link_that_rests_after_a_failed_dial_rests_no_more() {
        let mut net = Net::new(2);
        net.cx(0, |cx| cx.tell_to(&reference(1), &ping(1))).unwrap();
        net.effects(0);
        net.sides[0].worker.dial_failed(destination(1));
        net.effects(0);
        flip(&mut net);
        net.cx(0, |cx| cx.tell_to(&reference(1), &ping(2))).unwrap();
        assert_eq!(net.effects(0), [Effect::Dial(1)]);
    }
}
