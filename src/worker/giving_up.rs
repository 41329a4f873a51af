//! What may be sent again is waited for no longer where its peer does not answer, and tried elsewhere.

use super::core::Core;
use super::link::{Link, LinkId};
use crate::base::fate::{AskError, DeathReason};
use crate::wire::ask_of;

impl Core {
    /// Attempts on links like this are given up; what was sent once stays open, since a reply may
    /// still come. An attempt of which nothing was written is taken back: it is dead, for it will
    /// never be handled. Of any other that is not known.
    pub(super) fn give_up_on(&mut self, like: impl Fn(LinkId, &Link) -> bool) {
        let links = &self.links;
        let fits = |id| links.get(id).is_some_and(|link| like(id, link));
        let attempts = self.asks.attempts_on(fits);
        let mut by_link: Vec<_> =
            attempts.iter().map(|(attempt, link)| (*link, *attempt)).collect();
        by_link.sort_unstable();
        let mut dead = Vec::new();
        for on_link in by_link.chunk_by(|a, b| a.0 == b.0) {
            let numbers: Vec<u64> = on_link.iter().map(|(_, attempt)| *attempt).collect();
            self.take_back(on_link[0].0, &numbers, &mut dead);
        }
        dead.sort_unstable();
        let Self { asks, ask_effects, now, .. } = self;
        for (attempt, _) in attempts {
            let end = match dead.binary_search(&attempt) {
                Ok(_) => AskError::Dead(DeathReason::Unreachable),
                Err(_) => AskError::LinkLost,
            };
            asks.lost(attempt, end, *now, ask_effects);
        }
    }

    /// Takes the attempts with these numbers, which are in order, out of an outbox, unless some byte
    /// of them was written. The numbers of those are added to `dead`.
    fn take_back(&mut self, id: LinkId, numbers: &[u64], dead: &mut Vec<u64>) {
        let Self { links, encoder, .. } = self;
        let link = &mut links[id];
        let peer = link.peer.0;
        let is_one =
            |frame: &[u8]| ask_of(frame).is_some_and(|it| numbers.binary_search(&it).is_ok());
        for chunk in link.outbox.take_out(encoder, is_one) {
            dead.extend(chunk.untouched_asks());
            let count = u64::from(chunk.frames());
            self.links[id].sent.requests -= count;
            self.published.tally.dead[DeathReason::Unreachable as usize].add(count);
            self.mourn_all(DeathReason::Unreachable, &chunk);
            self.note_dead_in(DeathReason::Unreachable, &chunk, Some(peer));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::base::fate::{AskError, DeathReason};
    use crate::route::snapshot::Reach;
    use crate::worker::AskOptions;
    use crate::worker::testnet::{Caller, LATER, Net, doing, ping, reference};

    const WITHIN: Duration = Duration::from_secs(10);

    #[test]
    fn what_is_given_up_is_unknown_only_if_some_byte_of_it_was_written() {
        let again = AskOptions::within(WITHIN).idempotent();
        for cut in [0, 1] {
            let mut net = Net::joined(2);
            for token in 0..3 {
                net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(1), &ping(token), again, token))
                    .unwrap();
            }
            let id = net.wires[0].dialed;
            let waiting = |net: &Net| net.sides[0].worker.link(id).unwrap().outbox().bytes();
            let frame = waiting(&net) / 3;
            net.cx(0, |cx| cx.tell_to(&reference(1), &ping(7))).unwrap();
            let left = waiting(&net) - 3 * frame + cut * (frame - cut);
            net.write(0, id, frame + cut);
            net.reach[1] = Reach::Unreachable;
            net.apply(0);
            assert_eq!(waiting(&net), left, "what is dead goes nowhere, and all else does");
            assert_eq!(net.counts(0).dead[DeathReason::Unreachable as usize], 2 - cut as u64);
            net.sides[0].worker.stop();
            let (lost, dead) = (AskError::LinkLost, AskError::Dead(DeathReason::Stopped));
            let second = if cut > 0 { lost } else { dead };
            assert_eq!(net.outcomes(0), [(0, Err(lost)), (1, Err(second)), (2, Err(dead))]);
            assert_eq!(net.counts(0).in_flight(), 0);
        }
    }

    #[test]
    fn what_a_worker_has_handed_to_nobody_when_it_stops_is_dead() {
        let mut net = Net::new(1);
        let mut ask = |token| {
            net.cx(0, |cx| {
                cx.ask_to::<Caller, _>(&reference(0), &doing(token, LATER), WITHIN, token)
            })
            .unwrap();
            if token == 0 {
                net.settle();
            }
        };
        (0..2).for_each(&mut ask);
        net.sides[0].worker.stop();
        let (lost, dead) = (AskError::LinkLost, AskError::Dead(DeathReason::Stopped));
        assert_eq!(net.outcomes(0), [(0, Err(lost)), (1, Err(dead))], "a handler has the first");
    }
}
