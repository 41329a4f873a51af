//! What is wrong with whom, as it is seen, told, and over.

use super::*;
use crate::base::{Incarnation, NodeId};

fn at(second: u64) -> Time {
    Time(second * 1_000_000_000)
}

fn seen(number: u64, now: Time, what: PeerTrouble) -> Trouble {
    let peer = NodeRef { node: NodeId(number), incarnation: Incarnation(1) };
    let address = SocketAddr::from(([10, 0, 0, 1], 7_400));
    let name = format!("n{number}").into();
    Trouble { peer, name, address, what, error: None, since: now }
}

fn stranger(number: u64, now: Time) -> Trouble {
    let from = SocketAddr::from(([10, 0, 0, 2], 7_400));
    seen(number, now, PeerTrouble::NotThere { from })
}

#[test]
fn what_goes_on_is_told_rarely_and_its_end_once() {
    let mut troubles = Troubles::default();
    let mut told = Vec::new();
    for second in (0..600).step_by(2) {
        troubles.saw(at(second), seen(1, at(second), PeerTrouble::Refuses));
        told.extend(troubles.tell(at(second)).into_iter().map(|line| (second, line.text)));
    }
    let when: Vec<u64> = told.iter().map(|(second, _)| *second).collect();
    assert_eq!(when, [0, 60, 180, 420]);
    assert!(told[0].1.contains("a connection to 10.0.0.1:7400 was refused"), "{told:?}");
    assert!(told[1].1.ends_with("so for 60 s, 30 times since it was last said"), "{told:?}");
    assert!(troubles.news && troubles.shown.len() == 1);
    assert_eq!(troubles.shown[0].since, at(0));

    // Another thing is wrong with it: that is told at once, if nothing was told a moment ago.
    troubles.saw(at(601), seen(1, at(601), PeerTrouble::Vanish));
    assert_eq!(troubles.tell(at(601)).len(), 1);
    for second in 602..610 {
        let what = [PeerTrouble::Mute, PeerTrouble::Vanish][second as usize % 2];
        troubles.saw(at(second), seen(1, at(second), what));
        assert_eq!(troubles.tell(at(second)), [], "{what:?}");
    }
    let over = troubles.end(at(610), |_| true);
    let text = "n1 at 10.0.0.1:7400: over, after 610 s: connections vanish, for the last 1 s";
    assert_eq!(over[0].text, text);
    assert_eq!((troubles.tell(at(611)), troubles.shown.len()), (vec![], 0));
}

#[test]
fn what_the_system_says_is_told_once_it_says_so_for_a_while() {
    let mut troubles = Troubles::default();
    let fails = |second: u64, error: &str| {
        let seen = seen(1, at(second), PeerTrouble::Fails);
        Trouble { error: Some(error.into()), ..seen }
    };
    troubles.saw(at(0), fails(0, "no route"));
    troubles.saw(at(1), fails(1, "no route"));
    assert_eq!((troubles.tell(at(9)), troubles.shown.len()), (vec![], 0));
    let peer = troubles.known.values().next().unwrap();
    assert!(!peer.is_forgotten(at(30), true) && peer.is_forgotten(at(61), true));
    troubles.saw(at(10), fails(10, "no files"));
    assert!(troubles.tell(at(10))[0].text.contains("no files: look at"));
    assert!(!troubles.known.values().next().unwrap().is_forgotten(at(1_000), true));
    assert_eq!(troubles.shown[0].error.as_deref(), Some("no files"));
}

#[test]
fn what_comes_and_goes_is_told_once_a_minute() {
    let mut troubles = Troubles::default();
    let mut told = Vec::new();
    for second in 0..300 {
        let now = at(second);
        if second % 5 == 4 {
            told.extend(troubles.end(now, |_| true).iter().map(|_| (second, "over")));
        } else {
            troubles.saw(now, seen(1, now, PeerTrouble::Refuses));
        }
        told.extend(troubles.tell(now).iter().map(|_| (second, "refuses")));
    }
    let minute = |minute: u64| [(minute * 60, "refuses"), (minute * 60 + 4, "over")];
    assert_eq!(told, (0..5).flat_map(minute).collect::<Vec<_>>());
    // Of many that are over few are kept in mind.
    for number in 0..10_000 {
        let now = at(1_000 + number);
        troubles.saw(now, seen(number, now, PeerTrouble::Refuses));
        troubles.tell(now);
        troubles.end(now, |_| true);
    }
    assert_eq!(troubles.past.len() as u64, LASTS.as_secs());
    for number in 0..10_000 {
        let now = at(20_000 + number / MOST as u64);
        troubles.saw(now, seen(number, now, PeerTrouble::Refuses));
        troubles.known.values_mut().for_each(|known| {
            known.repeats.tell(now);
        });
        troubles.take_out(now, |_| true);
        assert!(troubles.past.len() <= MOST);
    }
}

#[test]
fn what_was_held_back_since_another_kind_was_told_is_told_as_new() {
    let mut troubles = Troubles::default();
    troubles.saw(at(0), seen(1, at(0), PeerTrouble::Refuses));
    assert_eq!(troubles.tell(at(0)).len(), 1);
    for second in 10..60 {
        troubles.saw(at(second), seen(1, at(second), PeerTrouble::Vanish));
        assert_eq!(troubles.tell(at(second)), []);
    }
    let told = troubles.tell(at(60)).remove(0).text;
    assert!(told.contains("nothing comes back") && !told.contains("last said"), "{told}");
}

#[test]
fn what_the_system_says_once_pushes_out_nothing_that_was_told() {
    let mut troubles = Troubles::default();
    troubles.saw(at(0), seen(1, at(0), PeerTrouble::Refuses));
    assert_eq!(troubles.tell(at(0)).len(), 1);
    // A look that fails by itself, and one much later.
    for second in [100, 120] {
        for what in [PeerTrouble::Fails, PeerTrouble::NotSent] {
            troubles.saw(at(second), seen(1, at(second), what));
            assert_eq!((troubles.tell(at(second)), troubles.shown.len()), (vec![], 1));
            assert_eq!(troubles.shown[0].what, PeerTrouble::Refuses);
        }
    }
    let over = troubles.end(at(121), |known| known.can_be_looked_at()).remove(0).text;
    assert_eq!(over, "n1 at 10.0.0.1:7400: over, after 121 s: refuses connections");

    // What goes on is told in its place, datagrams first.
    troubles.saw(at(0), seen(1, at(0), PeerTrouble::Refuses));
    for second in 100..103 {
        for what in [PeerTrouble::NotSent, PeerTrouble::Fails] {
            troubles.saw(at(second), seen(1, at(second), what));
        }
    }
    assert!(troubles.tell(at(102))[0].text.contains("sends no datagrams"));
    assert_eq!(troubles.shown[0].since, at(100));
}

#[test]
fn what_is_not_certain_yet_hides_nothing_that_is() {
    let mut troubles = Troubles::default();
    troubles.saw(at(0), seen(1, at(0), PeerTrouble::NotSent));
    troubles.saw(at(1), seen(1, at(1), PeerTrouble::Refuses));
    assert_eq!(troubles.tell(at(1)).len(), 1);
    assert_eq!((troubles.shown[0].what, troubles.shown[0].since), (PeerTrouble::Refuses, at(1)));

    // Nor does it keep the places.
    let mut troubles = Troubles::default();
    for number in 0..1_000 {
        troubles.saw(at(0), seen(number, at(0), PeerTrouble::NotSent));
    }
    for number in 1_000..2_000 {
        troubles.saw(at(1), seen(number, at(1), PeerTrouble::Vanish));
    }
    troubles.saw(at(1), seen(2_000, at(1), PeerTrouble::Fails));
    troubles.tell(at(1));
    let shown: Vec<_> = troubles.shown.iter().map(|trouble| trouble.peer.node.0).collect();
    assert_eq!(shown, (1_000..1_000 + MOST as u64).collect::<Vec<_>>());
    assert_eq!(troubles.known.len(), MOST);
}

#[test]
fn only_a_datagram_that_is_taken_ends_that_none_was() {
    let mut troubles = Troubles::default();
    let there = SocketAddr::from(([10, 0, 0, 1], 7_400));
    // One that is taken in between shows that datagrams are sent.
    for second in 0..9 {
        troubles.saw(at(second), seen(1, at(second), PeerTrouble::NotSent));
        assert!(troubles.is_unsent(there) && troubles.tell(at(second)).is_empty());
        assert_eq!(troubles.sent_again(at(second), |to| *to == there), []);
        assert!(!troubles.is_unsent(there));
    }
    for second in 10..13 {
        troubles.saw(at(second), seen(1, at(second), PeerTrouble::NotSent));
        troubles.saw(at(second), seen(1, at(second), PeerTrouble::Fails));
        troubles.tell(at(second));
    }
    assert_eq!(troubles.shown[0].what, PeerTrouble::NotSent);
    // However long nothing is sent.
    assert_eq!(troubles.end(at(90), |known| known.has_passed(at(90))), []);
    assert_eq!(troubles.sent_again(at(99), |to| *to != there), []);
    let line = troubles.sent_again(at(100), |to| *to == there).remove(0).text;
    assert_eq!(line, "n1 at 10.0.0.1:7400: over, after 90 s: datagrams are not sent");

    // Nor is what was seen beside another trouble certain by what came later.
    troubles.saw(at(200), seen(1, at(200), PeerTrouble::Refuses));
    for second in [201, 204] {
        troubles.saw(at(second), seen(1, at(second), PeerTrouble::NotSent));
        assert!(troubles.is_unsent(there));
        troubles.sent_again(at(second), |to| *to == there);
    }
    troubles.tell(at(204));
    assert_eq!(troubles.shown[0].what, PeerTrouble::Refuses);
}

#[test]
fn a_link_that_opens_ends_only_what_kept_links_from_opening() {
    use PeerTrouble::{
        ClosesLinks, Fails, Mute, NoHandshake, NoPlace, NotSent, Refuses, Swallowed, TakesNothing,
        Vanish,
    };
    let ends = |what, by_look| {
        Known::new(at(0), seen(1, at(0), what), Repeats::default()).ends_with_a_link(by_look)
    };
    for (what, by_link, by_look) in [
        (Refuses, true, true),
        (Vanish, true, true),
        (Fails, true, true),
        (Mute, true, false),
        (NoHandshake, true, false),
        (NoPlace, false, false),
        (NotSent, false, false),
        (Swallowed, false, false),
        (TakesNothing, false, false),
        (ClosesLinks, false, false),
    ] {
        assert_eq!((ends(what, false), ends(what, true)), (by_link, by_look), "{what:?}");
    }
}

/// It lets in and closes, and refuses by name from then on.
#[test]
fn who_has_no_place_is_not_said_to_close_links() {
    use PeerTrouble::{ClosesLinks, NoPlace};
    let mut troubles = Troubles::default();
    let mut shown = |second, what| {
        troubles.saw(at(second), seen(1, at(second), what));
        troubles.tell(at(second));
        troubles.shown[0].what
    };
    assert_eq!(shown(0, ClosesLinks), ClosesLinks);
    assert_eq!([shown(1, NoPlace), shown(2, ClosesLinks)], [NoPlace; 2]);
    assert_eq!(shown(62, ClosesLinks), ClosesLinks, "there has been room since");
}

#[test]
fn a_newcomer_has_a_second_to_answer() {
    let mut troubles = Troubles::default();
    troubles.saw(at(0), stranger(1, at(0)));
    // What time passes while this node does not run is not the stranger's.
    assert_eq!((troubles.tell(at(9)), troubles.shown.len()), (vec![], 0));
    assert_eq!(troubles.end(at(9), |_| true), [], "nobody was told");
    troubles.saw(at(0), stranger(1, at(0)));
    troubles.saw(at(1), stranger(1, at(1)));
    let line = troubles.tell(at(1)).remove(0);
    assert_eq!((line.kind, troubles.shown.len()), (LogKind::NotThere, 1));
}

#[test]
fn however_many_strangers_call_members_are_named() {
    let mut troubles = Troubles::default();
    for second in [0, 5] {
        for number in 0..10_000 {
            troubles.saw(at(second), stranger(number, at(second)));
        }
    }
    assert_eq!(troubles.tell(at(5)).len(), 1, "a line a second of a kind");
    for number in 20_000..30_000 {
        troubles.saw(at(5), seen(number, at(5), PeerTrouble::Vanish));
    }
    assert_eq!(troubles.tell(at(5)).len(), 1);
    assert_eq!(troubles.shown.len(), MOST + MOST_STRANGERS);
    // Those that found no place in the log come to it later.
    for second in 6..100 {
        let told = [troubles.tell(at(second)), troubles.tell(at(second))].concat();
        assert!(told.iter().all(|line| line.left_out == 0), "what is told later is not left out");
    }
    assert!(troubles.known.values().all(|known| known.repeats.was_told()));
}
