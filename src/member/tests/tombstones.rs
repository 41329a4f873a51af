//! Who is gone stays gone, for however long somebody missed it.

use super::*;

/// The shortest that may be set, and a time that is much longer.
const KEPT: u64 = 10_000;
const LONG: Duration = Duration::from_secs(45);

fn join(net: &mut Net, name: &str, at: usize, incarnation: u64) -> usize {
    let mut config = seeded(&[0, 1, 2]);
    config.settings.tombstone_ms = KEPT;
    net.add(config, local(name, address(at), incarnation))
}

fn start(net: &mut Net, index: usize) -> usize {
    join(net, &format!("n{index}"), index, 1_000 + index as u64)
}

fn cluster(seed: u64, count: usize) -> Net {
    let mut net = Net::new(seed);
    let all: Vec<usize> = (0..count).map(|index| start(&mut net, index)).collect();
    net.until(S(20), |net| net.agreed(&all, count)).expect("a cluster forms");
    net.run(S(2));
    net
}

fn leave(net: &mut Net, node: usize) {
    net.call(node, |membership, now, sink| membership.leave(now, sink));
    net.run(MS(50));
    net.call(node, |membership, now, sink| membership.left(now, sink));
    net.run(MS(500));
    net.kill(node);
}

fn down(net: &mut Net, on: usize, node: NodeRef) {
    net.call(on, |membership, now, sink| membership.down(now, node.node, sink)).unwrap();
}

/// How many events of a kind about one life this node had, from an event on.
fn count(net: &Net, on: usize, life: NodeRef, kind: impl Fn(&MemberEvent) -> bool) -> usize {
    let events = net.nodes[on].events.iter().map(|(_, event)| event);
    events.filter(|event| event.member().node_ref() == life && kind(event)).count()
}

fn joined(net: &Net, on: usize, life: NodeRef) -> usize {
    count(net, on, life, |event| matches!(event, MemberEvent::Joined(_)))
}

fn ended(net: &Net, on: usize, life: NodeRef, state: MemberState) -> usize {
    count(net, on, life, |event| matches!(event, MemberEvent::Removed(was) if was.state == state))
}

fn removed(net: &Net, on: usize, life: NodeRef) -> usize {
    count(net, on, life, |event| matches!(event, MemberEvent::Removed(_)))
}

#[test]
fn who_left_while_a_member_was_away_for_long_stays_gone() {
    for paused in [false, true] {
        let mut net = cluster(700 + u64::from(paused), 10);
        let gone: Vec<NodeRef> = (3..10).map(|node| net.me(node)).collect();
        match paused {
            true => net.pause(2),
            false => net.cut(&[2], &[0, 1, 3, 4, 5, 6, 7, 8, 9]),
        }
        for node in 3..10 {
            leave(&mut net, node);
        }
        net.run(LONG);
        match paused {
            true => net.resume(2),
            false => net.heal(),
        }
        net.run(S(30));
        assert!(net.agreed(&[0, 1, 2], 3), "paused: {paused}");
        for life in gone {
            for on in 0..3 {
                assert_eq!(joined(&net, on, life), 1, "{life} on {on}, paused: {paused}");
                // Whoever watches it hears of its end once, and how it was.
                assert_eq!(removed(&net, on, life), 1, "{life} on {on}, paused: {paused}");
                assert_eq!(ended(&net, on, life, MemberState::Left), 1, "{life} on {on}");
            }
        }
    }
}

#[test]
fn who_was_removed_while_it_was_away_for_long_ends_when_it_comes_back() {
    // Alone, and with somebody on its side.
    for beside in [&[3_usize][..], &[2, 3]] {
        let mut net = cluster(710, 4);
        let life = net.me(3);
        net.run(S(1));
        let here: Vec<usize> = (0..4).filter(|node| !beside.contains(node)).collect();
        net.cut(beside, &here);
        net.run(S(5));
        down(&mut net, 0, life);
        net.run(LONG);
        assert_eq!(net.view(1).member(life.node), None);
        net.heal();
        net.run(S(20));
        assert_eq!(net.nodes[3].faults, [MemberFault::Removed], "beside {beside:?}");
        assert!(net.agreed(&[0, 1, 2], 3), "beside {beside:?}");
        for on in 0..3 {
            assert_eq!(joined(&net, on, life), 1, "on {on}, beside {beside:?}");
            assert_eq!(ended(&net, on, life, MemberState::Down), 1, "on {on}");
        }
    }
}

/// Who was removed may have been away itself, and is told so by whoever it meets, also by members
/// that came later.
#[test]
fn who_joined_after_an_end_knows_of_it() {
    for fate in [MemberState::Left, MemberState::Down] {
        let removed = fate == MemberState::Down;
        let mut net = cluster(720 + u64::from(removed), 4);
        let life = net.me(3);
        net.cut(&[2, 3], &[0, 1]);
        if removed {
            net.run(S(5));
            down(&mut net, 0, life);
        } else {
            // It says farewell to nobody on the other side of the cut but these two.
            net.heal();
            net.cut(&[2], &[0, 1, 3]);
            leave(&mut net, 3);
        }
        net.run(LONG);
        // One after the other everybody who knew it makes place for another.
        for old in 0..2 {
            net.cut(&[2, 3], &[4 + old]);
            start(&mut net, 4 + old);
            net.run(S(20));
            leave(&mut net, old);
        }
        net.run(LONG);
        assert_eq!(net.view(5).members.len(), 3);
        net.heal();
        net.run(S(30));
        assert!(net.agreed(&[2, 4, 5], 3), "removed: {removed}");
        for on in [4, 5] {
            assert_eq!(joined(&net, on, life), 0, "on {on}, removed: {removed}");
        }
        assert_eq!(ended(&net, 2, life, fate), 1, "removed: {removed}");
        assert_eq!(net.nodes[3].faults.len(), usize::from(removed));
    }
}

/// Who did not run does not know whether the others could be heard meanwhile.
#[test]
fn who_slept_for_long_remembers_who_left_before() {
    let mut net = cluster(770, 4);
    let life = net.me(3);
    net.cut(&[2], &[0, 1, 3]);
    leave(&mut net, 3);
    net.pause(1);
    net.run(LONG);
    // It meets first who missed it.
    net.heal();
    net.cut(&[0], &[1, 2]);
    net.resume(1);
    net.run(S(10));
    assert!(net.reachable(1, net.me(2).node));
    assert_eq!(joined(&net, 1, life), 1);
    assert_eq!(ended(&net, 2, life, MemberState::Left), 1);
}

/// A member that has crashed stays one. Who missed its crash does not make it look alive.
#[test]
fn who_crashed_while_a_member_was_away_for_long_is_not_shown_as_reachable_again() {
    for paused in [false, true] {
        let mut net = cluster(730 + u64::from(paused), 5);
        let crashed = [net.me(3), net.me(4)];
        match paused {
            true => net.pause(2),
            false => net.cut(&[2], &[0, 1, 3, 4]),
        }
        net.kill(3);
        net.kill(4);
        net.run(LONG);
        let shown = |net: &Net, on, life| {
            count(net, on, life, |event| matches!(event, MemberEvent::Reachable(_)))
        };
        let before = crashed.map(|life| [0, 1].map(|on| shown(&net, on, life)));
        match paused {
            true => net.resume(2),
            false => net.heal(),
        }
        net.run(S(20));
        let after = crashed.map(|life| [0, 1].map(|on| shown(&net, on, life)));
        assert_eq!(after, before, "paused: {paused}");
        assert!(net.equal(&[0, 1, 2]), "paused: {paused}");
        assert!(crashed.iter().all(|life| !net.reachable(2, life.node)), "paused: {paused}");
    }
}

#[test]
fn who_was_replaced_while_it_was_away_for_long_ends_although_its_successor_has_left() {
    let mut net = cluster(740, 4);
    let first = net.me(3);
    net.pause(3);
    net.run(S(5));
    let second = join(&mut net, "n3", 8, 5_000);
    net.until(S(5), |net| net.view(second).members.len() == 4).expect("it joins");
    leave(&mut net, second);
    net.run(LONG);
    assert!(net.agreed(&[0, 1, 2], 3));
    net.resume(3);
    net.run(S(20));
    assert!(matches!(net.nodes[3].faults[..], [MemberFault::Superseded { .. }]));
    assert!(net.agreed(&[0, 1, 2], 3));
    assert!((0..3).all(|on| joined(&net, on, first) == 1));
}

/// Everybody is told of former members only while there is somebody to keep them for.
#[test]
fn a_whole_cluster_does_not_speak_of_who_left() {
    let mut net = cluster(750, 4);
    leave(&mut net, 3);
    net.tapped = Some(Vec::new());
    net.run(S(8));
    let about = |net: &Net, node: NodeId| {
        let datagrams = net.tapped.iter().flatten();
        let read = datagrams.filter_map(|payload| Message::read(payload).ok());
        let listed = read.filter(|message| match &message.body {
            messages::Body::Summary { entries, .. } => {
                entries.iter().any(|entry| entry.member.node == node)
            }
            _ => false,
        });
        listed.count()
    };
    let left = net.me(3).node;
    assert_eq!(about(&net, left), 0);
    net.kill(2);
    net.run(S(10));
    assert!(about(&net, left) > 5, "two nodes tell once per second");
    // Also not for ever again what it forgets.
    let crashed = net.me(2);
    down(&mut net, 0, crashed);
    net.run(S(25));
    for on in 0..2 {
        let kept = &net.nodes[on].membership.directory;
        assert!(kept.get(left).is_none() && kept.get(crashed.node).is_some());
    }
}

/// Where there are more of them than fit the oldest go, and nobody asks another for those.
#[test]
fn tombstones_are_as_many_as_there_is_room_for() {
    let mut net = cluster(760, 2);
    let me = net.me(1);
    let tomb = |index: usize| {
        let mut record = local(&format!("old-{index}"), address(9), 1).into_record().unwrap();
        record.member_mut().state = MemberState::Down;
        record
    };
    let now = net.now;
    let mut held = |on: usize, range: std::ops::Range<usize>| {
        let directory = &mut net.nodes[on].membership.directory;
        for index in range {
            directory.merge(now.plus(MS(index as u64)), tomb(index), false);
        }
        directory.entries.len()
    };
    assert_eq!(held(0, 0..5_000), MAX_RECORDS);
    assert_eq!(held(1, 0..100), 102);
    let has = |net: &Net, on: usize, index: usize| {
        net.nodes[on].membership.directory.get(tomb(index).member.id).is_some()
    };
    assert!(!has(&net, 0, 0) && has(&net, 0, 4_999));
    net.run(S(240));
    assert!(!has(&net, 0, 0), "what was forgotten for want of room is not taken back");
    for on in 0..2 {
        assert_eq!(net.nodes[on].membership.directory.entries.len(), MAX_RECORDS);
        assert_eq!(net.view(on).members.len(), 2);
    }
    assert!((1_000..5_000).all(|index| has(&net, 0, index)));
    assert!(net.agreed(&[0, 1], 2) && me == net.me(1));
}

/// Who may run still although a later life of it has left is kept in mind by those too that came
/// later, and so is not asked for again and again.
#[test]
fn that_an_earlier_life_may_run_still_is_known_to_who_joined_later() {
    let mut net = cluster(780, 4);
    let first = net.me(3);
    net.pause(3);
    net.run(S(5));
    let second = join(&mut net, "n3", 8, 5_000);
    net.until(S(5), |net| net.view(second).members.len() == 4).expect("it joins");
    // One sees the later life, the other only hears of it.
    let early = start(&mut net, 5);
    net.until(S(5), |net| net.view(early).members.len() == 5).expect("it joins");
    leave(&mut net, second);
    net.run(LONG);
    net.tapped = Some(Vec::new());
    let late = start(&mut net, 6);
    net.until(S(5), |net| net.view(late).members.len() == 5).expect("it joins");
    net.run(S(200));
    let asks = |net: &Net, node: usize| {
        let datagrams = net.tapped.iter().flatten();
        let read = datagrams.filter_map(|payload| Message::read(payload).ok());
        let asks = read.filter(|message| match &message.body {
            messages::Body::Request { nodes, .. } => {
                message.sender.member == net.me(node) && nodes.contains(&first.node)
            }
            _ => false,
        });
        asks.count()
    };
    assert_eq!([asks(&net, early), asks(&net, late)], [0, 1]);
    // They know it also when nobody is left of those that told them.
    for node in 0..3 {
        leave(&mut net, node);
    }
    net.run(LONG);
    net.resume(3);
    net.call(3, |node, now, sink| node.set_seeds(now, vec![address(6)], sink));
    net.until(S(20), |net| !net.nodes[3].faults.is_empty()).expect("it is told");
    assert!(matches!(net.nodes[3].faults[..], [MemberFault::Superseded { .. }]));
    assert!(net.equal(&[early, late]));
    assert!([early, late].iter().all(|on| joined(&net, *on, first) == 0));
}
