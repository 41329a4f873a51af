//! How long links rest, which of two connections stays, and on whose account replies wait.

use std::time::Duration;

use super::*;
use crate::worker::link::Lower;
use crate::worker::purse::Account;

/// Dials and fails so many times. Gives how long the link rests after the last one.
fn fail(net: &mut Net, times: usize) -> u64 {
    let rests = |net: &mut Net| net.cx(0, |cx| cx.tell_to(&reference(1), &ping(1))).is_err();
    let mut rested = 0;
    for _ in 0..times {
        assert!(!rests(net));
        net.sides[0].worker.dial_failed(destination(1));
        rested = 0;
        while rests(net) {
            net.pass(1);
            rested += 1;
            assert!(rested <= LIMITS.redial_max_ms + 2, "it rests for ever");
        }
        // The message that found it rested has it dialed.
        net.effects(0);
    }
    rested
}

#[test]
fn a_link_that_was_open_rests_as_shortly_as_one_that_never_failed() {
    let mut net = Net::new(2);
    let (short, long) = (LIMITS.redial_min_ms, LIMITS.redial_max_ms);
    assert!((long..=long + 2).contains(&fail(&mut net, 5)));
    net.open(0, 1);
    net.settle();
    net.cut(0);
    net.effects(0);
    let rested = fail(&mut net, 1);
    assert!((short..=short + 2).contains(&rested), "{rested} ms");
}

#[test]
fn a_link_to_a_peer_that_is_back_rests_as_shortly_as_one_that_never_failed() {
    let mut net = Net::new(2);
    let (short, long) = (LIMITS.redial_min_ms, LIMITS.redial_max_ms);
    assert!((long..=long + 2).contains(&fail(&mut net, 5)));
    net.sides[0].worker.dial_failed(destination(1));
    for reach in [Reach::Unreachable, Reach::Usable] {
        net.reach[1] = reach;
        net.apply(0);
    }
    net.effects(0);
    let rested = fail(&mut net, 1);
    assert!((short..=short + 2).contains(&rested), "{rested} ms");
}

/// Its workers have no place for more links, or it ends whatever it hears.
#[test]
fn a_peer_that_lets_in_and_closes_at_once_is_dialed_ever_more_seldom() {
    let mut net = Net::new(2);
    let (mut dials, mut suspects, mut told) = (0, 0, 0);
    let end = net.now.plus(Duration::from_secs(20));
    while net.now < end {
        // Somebody always wants to send; refusals while the link rests are no matter here.
        let _ = net.cx(0, |cx| cx.tell_to(&reference(1), &ping(1)));
        for effect in net.effects(0) {
            match effect {
                Effect::Dial(_) => {
                    dials += 1;
                    let id = net.sides[0].worker.link_opened(destination(1), None).expect("wanted");
                    net.sides[0].worker.link_lost(id);
                }
                Effect::Suspect(_) => suspects += 1,
                Effect::InVain(peer) => {
                    assert!(peer == 1 && dials > 2, "it is told from the third on");
                    told += 1;
                }
                _ => {}
            }
        }
        net.pass(1);
    }
    let most = 20_000 / LIMITS.redial_max_ms + 12;
    assert!((3..=most).contains(&dials) && suspects <= most, "{dials} dials, {suspects} suspects");
    assert_eq!(told, dials - 2);
    // Once it takes what is said, links are as good as any.
    while net.cx(0, |cx| cx.tell_to(&reference(1), &ping(1))).is_err() {
        net.pass(1);
    }
    if net.effects(0).contains(&Effect::Dial(1)) {
        net.open(0, 1);
    }
    net.settle();
    net.cut(0);
    assert!(net.effects(0).contains(&Effect::Dial(1)), "at once");
}

#[test]
fn a_connection_that_stood_for_long_in_silence_is_dialed_anew_at_once() {
    let mut net = Net::new(2);
    net.cx(0, |cx| cx.tell_to(&reference(1), &ping(1))).unwrap();
    for _ in 0..5 {
        assert!(net.effects(0).contains(&Effect::Dial(1)));
        let id = net.sides[0].worker.link_opened(destination(1), None).unwrap();
        net.pass(LIMITS.redial_max_ms);
        net.sides[0].worker.link_lost(id);
    }
}

#[test]
fn of_two_connections_of_a_pair_the_later_stays_whichever_comes_first() {
    let mut net = Net::new(1);
    let peer = node(7);
    let worker = &mut net.sides[0].worker;
    let later = worker.accept(peer, WorkerIndex(0), 5).unwrap();
    assert_eq!(worker.accept(peer, WorkerIndex(0), 4), None, "it was overtaken");
    assert!(worker.link(later).is_some());
    // Another worker of the same peer has connections of its own.
    assert!(worker.accept(peer, WorkerIndex(1), 1).is_some());
    let latest = worker.accept(peer, WorkerIndex(0), 6).unwrap();
    assert!(worker.link(later).is_none() && worker.link(latest).is_some());
    assert_eq!(net.effects(0), [Effect::Overtaken(Lower::Closed), Effect::Close]);
}

/// Without a secret anybody can open a link in its name, with an epoch above all that it will count.
#[test]
fn an_epoch_that_none_exceeds_keeps_its_owner_out_for_seconds_and_not_in_silence() {
    let mut net = Net::new(1);
    let accept = |net: &mut Net, epoch| {
        let link = net.sides[0].worker.accept(node(7), WorkerIndex(0), epoch);
        (link.is_some(), net.effects(0))
    };
    assert_eq!(accept(&mut net, u64::MAX), (true, vec![]));
    net.pass(4_990);
    assert_eq!(accept(&mut net, 7), (false, vec![Effect::Overtaken(Lower::Closed)]));
    net.pass(20);
    let taken = vec![Effect::Overtaken(Lower::Taken), Effect::Close];
    assert_eq!(accept(&mut net, 8), (true, taken));
    // From then on it counts on.
    assert_eq!(accept(&mut net, 7), (false, vec![Effect::Overtaken(Lower::Closed)]));
    assert_eq!(accept(&mut net, 9), (true, vec![Effect::Close]));
}

#[test]
fn replies_to_a_peer_are_on_the_account_of_what_it_is_now() {
    let mut net = Net::new(2);
    net.reach[1] = Reach::Gone;
    net.apply(0);
    let link = net.sides[0].worker.accept(node(1), WorkerIndex(0), 1).unwrap();
    let account = |net: &Net| net.sides[0].worker.link(link).unwrap().outbox().held().1;
    assert_eq!(account(&net), Account::Clients, "nobody knows it yet");
    net.reach[1] = Reach::Usable;
    net.apply(0);
    assert_eq!(account(&net), Account::Replies, "it is a member");
    net.reach[1] = Reach::Unreachable;
    net.apply(0);
    assert_eq!(account(&net), Account::Replies, "it is one as long as it is not removed");
}
