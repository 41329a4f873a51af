//! Who leaves says so until somebody knows, and knows whether somebody does.

use super::*;

fn leave(net: &mut Net, node: usize) {
    net.call(node, |membership, now, sink| membership.leave(now, sink));
    net.run(MS(50));
}

fn left(net: &mut Net, node: usize) {
    net.call(node, |membership, now, sink| membership.left(now, sink));
}

fn is_heard(net: &Net, node: usize) -> bool {
    net.nodes[node].membership.is_farewell_heard()
}

fn lists(net: &Net, on: usize, life: NodeRef) -> bool {
    net.view(on).member(life.node).is_some()
}

#[test]
fn a_farewell_that_nobody_hears_is_said_again_until_somebody_does() {
    let mut net = Net::cluster(900, 3);
    let life = net.me(2);
    leave(&mut net, 2);
    net.cut(&[2], &[0, 1]);
    left(&mut net, 2);
    net.run(MS(2_500));
    assert!(!is_heard(&net, 2) && lists(&net, 0, life) && lists(&net, 1, life));
    net.heal();
    net.until(S(1), |net| is_heard(net, 2)).expect("somebody hears it");
    net.run(MS(200));
    assert!(!lists(&net, 0, life) && !lists(&net, 1, life));
    // Who knows is not told again and again: once more at the most.
    net.tapped = Some(Vec::new());
    net.run(S(3));
    let said = net.tapped.iter().flatten().filter_map(|payload| Message::read(payload).ok());
    assert_eq!(said.filter(|message| message.sender.member == life).count(), 2);
}

#[test]
fn an_answer_that_is_lost_is_given_again() {
    let mut net = Net::cluster(901, 2);
    leave(&mut net, 1);
    net.lost_kinds = [messages::former(Sender { member: net.me(0), renewal: 0 }, 0, &[])[0]].into();
    left(&mut net, 1);
    net.run(S(1));
    let life = net.me(1);
    assert!(!is_heard(&net, 1) && !lists(&net, 0, life));
    net.lost_kinds.clear();
    net.until(S(1), |net| is_heard(net, 1)).expect("it is told");
}

#[test]
fn only_who_stays_and_answered_when_the_leave_began_is_waited_for() {
    // Alone.
    let mut net = Net::cluster(902, 1);
    leave(&mut net, 0);
    left(&mut net, 0);
    assert!(is_heard(&net, 0));
    // One that is silent before, and one that falls silent meanwhile.
    for silent_before in [true, false] {
        let mut net = Net::cluster(903, 2);
        net.kill(0);
        if silent_before {
            net.run(S(10));
        }
        leave(&mut net, 1);
        net.run(S(10));
        assert!(!net.reachable(1, net.me(0).node));
        left(&mut net, 1);
        net.run(S(1));
        assert_eq!(is_heard(&net, 1), silent_before);
    }
}

#[test]
fn who_is_silent_does_not_stand_for_who_could_know() {
    let mut net = Net::cluster(904, 3);
    net.kill(0);
    net.run(S(10));
    leave(&mut net, 2);
    net.cut(&[2], &[1]);
    left(&mut net, 2);
    net.run(S(1));
    assert!(!is_heard(&net, 2));
}

#[test]
fn those_that_leave_together_do_not_wait_for_each_other() {
    // Each knows of the other's leave, or has not heard of it when both say farewell.
    for knows in [true, false] {
        let mut net = Net::cluster(905, 2);
        if !knows {
            net.cut(&[0], &[1]);
        }
        leave(&mut net, 0);
        leave(&mut net, 1);
        net.heal();
        left(&mut net, 0);
        left(&mut net, 1);
        net.run(MS(300));
        assert!(is_heard(&net, 0) && is_heard(&net, 1), "knows: {knows}");
    }
}

/// What it knows goes with it.
#[test]
fn the_word_of_one_that_leaves_as_well_is_not_enough() {
    let mut net = Net::cluster(906, 3);
    leave(&mut net, 0);
    leave(&mut net, 1);
    net.cut(&[0, 1], &[2]);
    left(&mut net, 0);
    net.run(S(1));
    let life = net.me(0);
    assert!(!lists(&net, 1, life) && !is_heard(&net, 0));
    net.heal();
    net.until(S(1), |net| is_heard(net, 0)).expect("the one that stays hears it");
}
