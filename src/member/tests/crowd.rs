//! Members by the thousand: what one node does about them when they fall silent together.

use super::*;
use crate::member::door::Asked;
use crate::member::messages::Numbers;
use crate::member::messages::{FLAG_ESTABLISHED, FLAG_WELCOME, Packer};
use crate::member::roll_call::MOST_CALLED;
use crate::member::testnet::{Effect, Recorder};

const COUNT: usize = 1_000;

/// A node with so many others in view, all of which its seed has spoken of.
fn welcomed(sink: &mut Recorder) -> Membership {
    let own = local("n1", address(1), 1_001);
    let mut membership = Membership::new(seeded(&[0, 1]), own, Box::new(Manual), 1).unwrap();
    membership.start(Time::ZERO, sink);
    let other = |index: usize| {
        let index = if index == 0 { 0 } else { index + 1 };
        local(&format!("n{index}"), address(index), 5).into_record().unwrap()
    };
    let sender = Sender { member: other(0).member.node_ref(), renewal: 0 };
    let mut welcome = Vec::new();
    let flags = FLAG_WELCOME | FLAG_ESTABLISHED;
    let numbers =
        Numbers::answer(Some(membership.door.number(Time::ZERO, Asked::Call, address(0))));
    let mut packer = Packer::records(flags, numbers, sender, |bytes| welcome.push(bytes.to_vec()));
    for record in (0..COUNT).map(other) {
        packer.record(&record, Belief::Active { renewal: 0, refuted: 0 });
    }
    packer.finish();
    for datagram in welcome {
        membership.handle_datagram(Time::ZERO, address(0), &datagram, sink).unwrap();
    }
    assert_eq!(membership.directory.others().count(), COUNT);
    membership
}

/// The timers that are due by then, in their order. Gives how many datagrams were sent meanwhile.
fn run(membership: &mut Membership, sink: &mut Recorder, timers: &mut Timers, until: Time) -> u64 {
    let mut sent = 0;
    loop {
        for effect in sink.0.drain(..) {
            match effect {
                Effect::Schedule(at, timer) => {
                    timers.1 += 1;
                    timers.0.insert((at, timers.1), timer);
                }
                Effect::Send(..) => sent += 1,
                Effect::View(..) | Effect::Fault(_) => {}
            }
        }
        match timers.0.first_entry().filter(|next| next.key().0 <= until) {
            Some(next) => {
                let ((at, _), timer) = next.remove_entry();
                membership.handle_timer(at, timer, sink);
            }
            None => return sent,
        }
    }
}

#[derive(Default)]
struct Timers(BTreeMap<(Time, u64), MemberTimer>, u64);

#[test]
fn a_thousand_that_fall_silent_at_once_cost_a_bounded_amount_in_each_probe_period() {
    let (mut sink, mut timers) = (Recorder::default(), Timers::default());
    let mut membership = welcomed(&mut sink);
    let period = Duration::from_millis(MembershipConfig::default().probe_period_ms);
    let mut now = Time::ZERO;
    let (mut most_sent, mut most_looked_at) = (0, 0);
    let mut periods = 0;
    while membership.directory.others().any(|entry| entry.record.member.reachable) {
        let before = membership.swim.looked_at();
        now = now.plus(period);
        let sent = run(&mut membership, &mut sink, &mut timers, now);
        // The first ones are those of the start.
        most_sent = most_sent.max(if periods == 0 { 0 } else { sent });
        most_looked_at = most_looked_at.max(membership.swim.looked_at() - before);
        periods += 1;
        assert!(periods < 40, "they are not found out about");
    }
    println!("{periods} periods, {most_sent} datagrams and {most_looked_at} looks in one at most");
    // Each that is called is asked twice; as a suspect four times, which spread over four periods,
    // and while four calls overlap. Then its end is told to nobody, since nobody is left.
    let called = MOST_CALLED as u64;
    assert!(most_sent <= 2 * called + 4 * called + 100, "{most_sent}");
    assert!(most_looked_at <= 6 * called * COUNT as u64, "{most_looked_at}");
    // As soon as two probes have found somebody silent, with the periods that the calls take.
    let calls = COUNT.div_ceil(MOST_CALLED) as u64;
    assert!(now <= Time(3_000_000_000).plus(period * calls as u32), "{now:?}");
}
