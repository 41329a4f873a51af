//! Each story asserts the whole list of effects.

use super::LinkEffect::*;
use super::{DialOrder, Failure, LinkConfig, LogLine};
use super::{IncomingCounts, JobEvent, JobId, LinkEffect, LinkTimer, Links};
use crate::base::{
    DestinationId, Incarnation, LogKind, Member, NodeId, NodeRef, Time, View, WorkerIndex,
};
use crate::control::troubles::PeerTrouble;
use crate::part::PartId;
use crate::route::snapshot::{Destination, Reach};
use crate::wire::handshake::{Established, HandshakeError, Purpose};
use std::net::SocketAddr;
use std::time::Duration;

const CONFIG: LinkConfig = LinkConfig {
    handshake_timeout: Duration::from_secs(5),
    max_pending_handshakes: 8,
    max_frame_bytes: 4_096,
};

fn at(ms: u64) -> Time {
    Time(ms * 1_000_000)
}

fn from(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], port))
}

fn node(number: u64) -> NodeRef {
    NodeRef { node: NodeId(number), incarnation: Incarnation(1) }
}

fn member(number: u64, reachable: bool) -> Member {
    Member {
        name: format!("n{number}").into(),
        reachable,
        weight: 1,
        ..Member::plain(node(number), from(number as u8, 7_400))
    }
}

fn view(members: &[(u64, bool)]) -> View {
    View::new(node(1), 0, members.iter().map(|(number, up)| member(*number, *up)).collect())
}

fn target(number: u64) -> Destination {
    Destination {
        id: DestinationId::new(number as usize, std::num::NonZeroU32::MIN),
        node: node(number),
        worker: WorkerIndex(0),
        address: from(number as u8, 7_400),
        reach: Reach::Usable,
        routed: true,
        damped: false,
    }
}

fn established(number: u64) -> Established {
    Established {
        purpose: Purpose::Workers,
        peer: node(number),
        peer_worker: WorkerIndex(0),
        my_worker: WorkerIndex(0),
        wire_version: 2,
        link_epoch: 1,
        authenticated: true,
        takes: None,
    }
}

struct Scene(Links);

impl Scene {
    fn new() -> Self {
        Self(Links::new(CONFIG))
    }

    fn run(&mut self, call: impl FnOnce(&mut Links, &mut Vec<LinkEffect>)) -> Vec<LinkEffect> {
        let mut out = Vec::new();
        call(&mut self.0, &mut out);
        out
    }

    fn incoming(&mut self, ms: u64, from: SocketAddr) -> Vec<LinkEffect> {
        self.run(|links, out| links.incoming(at(ms), from, out))
    }

    fn event(&mut self, ms: u64, job: JobId, event: JobEvent) -> Vec<LinkEffect> {
        self.run(|links, out| links.event(at(ms), job, event, out))
    }

    fn sweep(&mut self, ms: u64) -> Vec<LinkEffect> {
        self.run(|links, out| links.timer(at(ms), LinkTimer::Sweep, out))
    }

    fn follow(&mut self, ms: u64, members: &[(u64, bool)]) -> Vec<LinkEffect> {
        self.run(|links, out| links.follow(at(ms), &view(members), out))
    }

    fn dial(&mut self, ms: u64, number: u64) -> Vec<LinkEffect> {
        self.run(|links, out| links.dial(at(ms), WorkerIndex(0), target(number), out))
    }
}

fn sweep_at(ms: u64) -> LinkEffect {
    Schedule(at(ms), LinkTimer::Sweep)
}

fn order(job: JobId, number: u64, link_epoch: u64) -> LinkEffect {
    Dial(DialOrder {
        job,
        address: from(number as u8, 7_400),
        purpose: Purpose::Workers,
        from_worker: WorkerIndex(0),
        to: node(number),
        to_worker: WorkerIndex(0),
        link_epoch,
        segment_bytes: None,
    })
}

fn line(kind: LogKind, text: &str) -> LinkEffect {
    Log(LogLine { kind, left_out: 0, text: text.into() })
}

// ---- from others ----

#[test]
fn a_peer_is_let_in_and_handed_to_its_worker() {
    let mut scene = Scene::new();
    assert_eq!(scene.incoming(0, from(9, 1)), [Accept(1), sweep_at(500)]);
    assert_eq!(scene.event(1, 1, JobEvent::Began), []);
    assert_eq!(scene.event(1, 1, JobEvent::Asked), []);
    let established = established(9);
    let done = scene.event(2, 1, JobEvent::Accepted(established));
    assert_eq!(done, [HandAccepted { job: 1, established }]);
    assert_eq!(scene.sweep(500), []);
    assert_eq!(
        scene.0.counts(),
        IncomingCounts { accepted: 1, refused: 0, turned_away: 0, looked: 0 }
    );
    // Shown by then: that its worker has no place for it takes nothing back.
    let peer = (established.peer, established.peer_worker);
    scene.0.no_place(Time(3), WorkerIndex(0), peer, 1, &mut Vec::new());
    assert_eq!(
        scene.0.counts(),
        IncomingCounts { accepted: 1, refused: 0, turned_away: 1, looked: 0 }
    );
}

#[test]
fn who_has_become_a_member_is_refused_no_more_for_want_of_a_place() {
    let mut scene = Scene::new();
    scene.follow(0, &[(1, true), (2, true)]);
    for number in [2, 3] {
        let peer = (node(number), WorkerIndex(0));
        scene.0.no_place(at(1), WorkerIndex(0), peer, 1, &mut Vec::new());
    }
    assert_eq!(scene.0.without_place().len(), 2);
    scene.follow(2, &[(1, true), (2, true), (3, true)]);
    let without: Vec<_> = scene.0.without_place().iter().copied().collect();
    assert_eq!(
        without,
        [(node(2), WorkerIndex(0), WorkerIndex(0))],
        "that one was a member before"
    );
}

#[test]
fn a_silent_stranger_has_half_a_second_and_a_slow_one_two() {
    let mut scene = Scene::new();
    scene.incoming(0, from(9, 1));
    assert_eq!(scene.incoming(100, from(9, 2)), [Accept(2)]);
    scene.event(150, 2, JobEvent::Began);
    let silent = "a connection from 10.0.0.9:1 was not let in: nothing was said for 500ms";
    let expected = [Abort(1), line(LogKind::StrangerConnection, silent), sweep_at(2_100)];
    assert_eq!(scene.sweep(500), expected);
    let slow = "a connection from 10.0.0.9:2 was not let in: the handshake was not completed \
                within 2s";
    assert_eq!(scene.sweep(2_100), [Abort(2), line(LogKind::StrangerConnection, slow)]);
    assert_eq!(scene.0.counts().refused, 2);
}

#[test]
fn strangers_of_one_address_compete_with_each_other() {
    let mut scene = Scene::new();
    scene.incoming(0, from(9, 1));
    scene.incoming(1, from(9, 2));
    scene.event(2, 1, JobEvent::Began);
    // A quarter of eight is theirs: the silent one gives way, not the older one that speaks.
    assert_eq!(scene.incoming(3, from(9, 3)), [Abort(2), Accept(3)]);
    assert_eq!(scene.incoming(4, from(8, 1)), [Accept(4)]);
    assert_eq!(scene.0.counts().turned_away, 1);
}

#[test]
fn strangers_leave_places_for_members_addresses() {
    let mut scene = Scene::new();
    scene.follow(0, &[(1, true), (2, true)]);
    for host in 0..6 {
        scene.incoming(u64::from(host), from(100 + host, 1));
    }
    // Two of eight are kept: another stranger takes the place of the oldest of its kind.
    assert_eq!(scene.incoming(10, from(200, 1)), [Abort(1), Accept(7)]);
    assert_eq!(scene.incoming(11, from(2, 1)), [Accept(8)]);
    assert_eq!(scene.incoming(12, from(2, 2)), [Accept(9)]);
    // With all places held, a member's address takes a stranger's.
    assert_eq!(scene.incoming(13, from(2, 3)), [Abort(2), Accept(10)]);
}

#[test]
fn who_has_said_its_first_message_is_not_driven_out_at_once() {
    let mut scene = Scene::new();
    scene.incoming(0, from(9, 1));
    scene.incoming(0, from(9, 2));
    scene.event(1, 1, JobEvent::Asked);
    scene.event(1, 2, JobEvent::Asked);
    let away = "a connection from 10.0.0.9:3 was turned away: too many are unfinished";
    let expected = [line(LogKind::StrangerConnection, away), TurnAway];
    assert_eq!(scene.incoming(2, from(9, 3)), expected);
    assert_eq!(scene.incoming(250, from(9, 4)), [Abort(1), Accept(3)]);
}

#[test]
fn a_member_that_only_looks_is_no_stranger() {
    let mut scene = Scene::new();
    scene.follow(0, &[(1, true), (2, true)]);
    let closed = || JobEvent::Failed(Failure::Broken, "closed".into());
    scene.incoming(0, from(2, 1));
    assert_eq!(scene.event(1, 1, closed()), []);
    let looked = IncomingCounts { looked: 1, ..IncomingCounts::default() };
    assert_eq!(scene.0.counts(), looked);
    // Whoever has said something wanted more, and who is no member is a stranger.
    scene.incoming(2, from(2, 2));
    scene.event(2, 2, JobEvent::Began);
    let broke = "a connection from 10.0.0.2:2 was not let in: closed";
    assert_eq!(scene.event(3, 2, closed()), [line(LogKind::StrangerConnection, broke)]);
    scene.incoming(4, from(9, 3));
    scene.event(5, 3, closed());
    assert_eq!(scene.0.counts(), IncomingCounts { refused: 2, ..looked });
}

#[test]
fn who_is_refused_is_read_until_another_needs_the_place() {
    let mut scene = Scene::new();
    let refused = |error| JobEvent::Refused(error, "no".into());
    let said = line(LogKind::StrangerConnection, "a connection from 10.0.0.9:1 was not let in: no");
    scene.incoming(0, from(9, 1));
    scene.event(1, 1, JobEvent::Asked);
    assert_eq!(scene.event(2, 1, refused(HandshakeError::WrongProof)), [said, sweep_at(252)]);
    // It closes in time, or does not.
    assert_eq!(scene.event(3, 1, JobEvent::Failed(Failure::Broken, "closed".into())), []);
    scene.incoming(4, from(9, 2));
    scene.event(5, 2, refused(HandshakeError::WrongProof));
    assert_eq!(scene.sweep(252), [sweep_at(255)]);
    assert_eq!(scene.sweep(255), [Abort(2)]);
    // Whoever has said nothing yet has its place before it.
    scene.incoming(300, from(9, 3));
    scene.incoming(301, from(9, 4));
    scene.event(302, 4, refused(HandshakeError::WrongProof));
    assert_eq!(scene.incoming(303, from(9, 5))[..2], [Abort(4), Accept(5)]);
    assert_eq!(
        scene.0.counts(),
        IncomingCounts { accepted: 0, refused: 3, turned_away: 0, looked: 0 }
    );
    // A greeting wants nothing else.
    let wanted = WorkerIndex::NONE;
    scene.event(304, 5, refused(HandshakeError::NoSuchWorker { wanted, workers: 1 }));
    assert_eq!(scene.0.counts().refused, 3);
}

#[test]
fn a_flood_of_strangers_is_one_line_a_second() {
    let mut scene = Scene::new();
    let mut lines = 0;
    for ms in 0..3_000 {
        let mut effects = scene.incoming(ms, from(9, 1));
        let job = scene.0.next_job;
        effects.extend(scene.event(ms, job, JobEvent::Failed(Failure::Broken, "reset".into())));
        lines += effects.iter().filter(|effect| matches!(effect, Log(_))).count();
    }
    assert_eq!(lines, 3);
}

#[test]
fn an_unreachable_peer_that_opens_a_link_is_evidence() {
    let mut scene = Scene::new();
    scene.follow(0, &[(1, true), (2, false)]);
    scene.incoming(1, from(2, 1));
    let established = established(2);
    let done = scene.event(2, 1, JobEvent::Accepted(established));
    assert_eq!(done, [HandAccepted { job: 1, established }, Reached(node(2))]);
}

#[test]
fn without_descriptors_accepting_rests_once() {
    let mut scene = Scene::new();
    let failed = |links: &mut Links, out: &mut Vec<LinkEffect>| {
        links.accept_failed(at(0), "too many open files", out);
    };
    let text = "accepting a connection failed: too many open files; it is tried again in 100ms";
    let expected =
        [line(LogKind::AcceptFailed, text), Accepting(false), Schedule(at(100), LinkTimer::Accept)];
    assert_eq!(scene.run(failed), expected);
    assert_eq!(scene.run(failed), []);
    let again = scene.run(|links, out| links.timer(at(100), LinkTimer::Accept, out));
    assert_eq!(again, [Accepting(true)]);
}

// ---- to others ----

#[test]
fn a_dial_that_succeeds_goes_to_its_worker() {
    let mut scene = Scene::new();
    assert_eq!(scene.dial(0, 2), [order(1, 2, 1), sweep_at(1_000)]);
    assert_eq!(scene.event(3, 1, JobEvent::Connected), []);
    let takes = std::num::NonZeroU32::new(2_048);
    let expected =
        [HandDialed { job: 1, worker: WorkerIndex(0), destination: target(2).id, takes }];
    assert_eq!(scene.event(4, 1, JobEvent::Dialed(takes)), expected);
    assert_eq!(scene.event(5, 1, JobEvent::Failed(Failure::Broken, "late".into())), []);
}

#[test]
fn a_dial_that_meets_silence_asks_again_each_second_and_ends() {
    let mut scene = Scene::new();
    scene.dial(0, 2);
    for second in 1..5 {
        let expected =
            [Abort(second), order(second + 1, 2, second + 1), sweep_at((second + 1) * 1_000)];
        assert_eq!(scene.sweep(second * 1_000), expected);
    }
    let text = "a link could not be opened: 10.0.0.2:7400 did not complete the handshake within 5s";
    let failed = DialFailed { worker: WorkerIndex(0), destination: target(2).id };
    let vanish = Trouble(node(2), PeerTrouble::Vanish, None);
    assert_eq!(scene.sweep(5_000), [Abort(5), line(LogKind::DialFailed, text), failed, vanish]);
}

#[test]
fn a_connected_peer_has_the_whole_time_for_its_handshake() {
    let mut scene = Scene::new();
    scene.dial(0, 2);
    scene.event(1, 1, JobEvent::Connected);
    assert_eq!(scene.sweep(1_000), [sweep_at(5_000)]);
    let late = scene.sweep(5_000);
    assert!(late.contains(&Abort(1)) && late.contains(&Trouble(node(2), PeerTrouble::Mute, None)));
}

#[test]
fn what_came_while_this_process_did_not_run_is_read_before_anybody_is_blamed() {
    let mut scene = Scene::new();
    scene.dial(0, 2);
    scene.event(1, 1, JobEvent::Connected);
    scene.sweep(1_000);
    assert_eq!(scene.sweep(9_000), [sweep_at(9_100)], "its answer may wait");
    assert_eq!(scene.dial(9_001, 3), [order(2, 3, 2)], "the same timer will do");
    let handed =
        HandDialed { job: 1, worker: WorkerIndex(0), destination: target(2).id, takes: None };
    assert_eq!(scene.event(9_002, 1, JobEvent::Dialed(None)), [handed]);
    assert_eq!(scene.sweep(9_100), [sweep_at(10_001)]);

    scene.event(9_200, 2, JobEvent::Connected);
    assert_eq!(scene.sweep(10_001), [sweep_at(14_001)]);
    assert_eq!(scene.sweep(15_000), [sweep_at(15_100)]);
    let told = scene.sweep(16_000);
    assert!(told.contains(&Trouble(node(3), PeerTrouble::Mute, None)), "once is enough: {told:?}");
}

#[test]
fn a_refused_dial_is_evidence_and_a_broken_one_worth_a_look() {
    let mut scene = Scene::new();
    scene.dial(0, 2);
    let failed = DialFailed { worker: WorkerIndex(0), destination: target(2).id };
    let text = line(LogKind::DialFailed, "a link could not be opened: refused");
    let refused = JobEvent::Failed(Failure::Refused, "refused".into());
    assert_eq!(scene.event(1, 1, refused), [text, failed.clone(), Refused(node(2))]);
    scene.dial(2, 2);
    let broken = JobEvent::Failed(Failure::Broken, "reset".into());
    let probe = Probe { job: 3, address: from(2, 7_400) };
    assert_eq!(scene.event(3, 2, broken), [failed.clone(), probe]);
    // One that answers, if only with a refusal, is there.
    scene.dial(4, 2);
    let why = JobEvent::Failed(Failure::Handshake(HandshakeError::Busy), "busy".into());
    assert_eq!(scene.event(5, 4, why), [failed]);
}

#[test]
fn what_the_system_or_a_handshake_says_names_the_peer_in_its_words() {
    let mut scene = Scene::new();
    let trouble = |what, why: &str| Trouble(node(2), what, Some(why.into()));
    let address = from(2, 7_400);
    scene.dial(0, 2);
    let no_route = || JobEvent::Failed(Failure::Unmade, "no route".into());
    let fails = trouble(PeerTrouble::Fails, "no route");
    let said = scene.event(1, 1, no_route());
    assert_eq!(said[2..], [fails.clone(), Probe { job: 2, address }]);
    assert_eq!(scene.event(2, 2, no_route()), std::slice::from_ref(&fails));
    let look = scene.run(|links, out| links.look_again(at(3), (node(2), false), address, out));
    assert_eq!(look[0], Probe { job: 3, address });
    assert_eq!(scene.event(4, 3, no_route()), [fails]);

    let at_the_handshake = |scene: &mut Scene, job, error| {
        scene.dial(5, 2);
        scene.event(6, job, JobEvent::Failed(Failure::Handshake(error), "not it".into()))
    };
    let found = |number, life| NodeRef { incarnation: Incarnation(life), ..node(number) };
    let other = HandshakeError::WrongNode { wanted: node(2), found: found(3, 1) };
    let strange = trouble(PeerTrouble::NoHandshake, "not it");
    assert!(at_the_handshake(&mut scene, 4, other).contains(&strange));
    let restarted = HandshakeError::WrongNode { wanted: node(2), found: found(2, 2) };
    for (job, passes) in [(5, restarted), (6, HandshakeError::ShuttingDown)] {
        assert!(!at_the_handshake(&mut scene, job, passes).contains(&strange));
    }

    // What parts say goes the same way.
    let word = (PartId(9), 1);
    scene.run(|links, out| links.say_to(at(7), node(2), Some(address), word, b"word", out));
    let magic = Failure::Handshake(HandshakeError::WrongMagic { found: *b"HTTP/1.1" });
    assert!(scene.event(8, 7, JobEvent::Failed(magic, "not it".into())).contains(&strange));
    // Who knows no channels takes links.
    let asked =
        scene.run(|links, out| links.say_to(at(5_007), node(2), Some(address), word, b"word", out));
    assert!(matches!(asked[0], Dial(DialOrder { job: 8, .. })), "{asked:?}");
    let older = Failure::Handshake(HandshakeError::UnknownPurpose { code: 2 });
    let said = scene.event(5_008, 8, JobEvent::Failed(older, "not it".into()));
    assert!(matches!(&said[0], Log(_)) && !said.contains(&strange), "{said:?}");
}

#[test]
fn dials_to_a_peer_that_is_reachable_again_begin_anew() {
    let mut scene = Scene::new();
    scene.follow(0, &[(1, true), (2, false), (3, false)]);
    scene.dial(0, 2);
    scene.dial(0, 3);
    let expected = [Abort(1), order(3, 2, 3)];
    assert_eq!(scene.follow(400, &[(1, true), (2, true), (3, false)]), expected);
    assert_eq!(scene.follow(401, &[(1, true), (2, true), (3, false)]), []);
}

#[test]
fn a_suspect_is_looked_at_four_times_and_never_twice_at_once() {
    let mut scene = Scene::new();
    let view = view(&[(1, true), (2, true)]);
    let address = from(2, 7_400);
    let suspect =
        |scene: &mut Scene| scene.run(|links, out| links.suspect(at(0), node(2), &view, out));
    assert_eq!(suspect(&mut scene), [Probe { job: 1, address }, sweep_at(5_000)]);
    assert_eq!(suspect(&mut scene), []);
    assert_eq!(scene.event(1, 1, JobEvent::Connected), [Abort(1), sweep_at(11)]);
    assert_eq!(scene.sweep(11), [Probe { job: 2, address }, sweep_at(5_011)]);
    assert_eq!(scene.event(12, 2, JobEvent::Connected), [Abort(2), sweep_at(52)]);
    assert_eq!(scene.sweep(52), [Probe { job: 3, address }, sweep_at(5_052)]);
    let refused = JobEvent::Failed(Failure::Refused, String::new());
    assert_eq!(scene.event(53, 3, refused), [Refused(node(2))]);
    assert_eq!(suspect(&mut scene), [Probe { job: 4, address }, sweep_at(5_000)]);
    // That nothing comes through says nothing about the process.
    let broken = JobEvent::Failed(Failure::Broken, String::new());
    assert_eq!(scene.event(54, 4, broken), []);
}

#[test]
fn who_has_opened_a_channel_is_not_mute_although_it_closed_a_connection_before() {
    for opens in [false, true] {
        let mut scene = Scene::new();
        scene.follow(0, &[(1, true), (2, true)]);
        scene.dial(0, 2);
        let mut out = scene.event(1, 1, JobEvent::Failed(Failure::Broken, "reset".into()));
        if opens {
            let (address, word) = (Some(from(2, 7_400)), (PartId(9), 1));
            scene.run(|links, out| links.say_to(at(1), node(2), address, word, b"word", out));
            scene.event(1, 3, JobEvent::Dialed(None));
        }
        let mut told = Vec::new();
        for ms in 1..300 {
            for effect in out {
                if let Probe { job, .. } = effect {
                    told.extend(scene.event(ms, job, JobEvent::Connected));
                }
            }
            out = scene.sweep(ms);
        }
        let mute = Trouble(node(2), PeerTrouble::Mute, None);
        assert_eq!(told.contains(&mute), !opens);
    }
}

#[test]
fn a_look_tells_that_somebody_listens_again_and_nothing_else() {
    let mut scene = Scene::new();
    let address = from(2, 7_400);
    let look = |scene: &mut Scene, ms| {
        scene.run(|links, out| links.look_again(at(ms), (node(2), true), address, out))
    };
    assert_eq!(look(&mut scene, 0), [Probe { job: 1, address }, sweep_at(1_000)]);
    assert_eq!(look(&mut scene, 1), [], "one at a time");
    assert_eq!(scene.sweep(1_000), [Abort(1)]);
    for (job, how) in [(2, Failure::Refused), (3, Failure::Broken)] {
        look(&mut scene, 1_000);
        assert_eq!(scene.event(1_001, job, JobEvent::Failed(how, String::new())), []);
    }
    look(&mut scene, 2_000);
    assert_eq!(scene.event(2_001, 4, JobEvent::Connected), [Abort(4), Listens(node(2))]);
}

#[test]
fn a_refused_look_is_evidence_against_a_peer_that_did_not_refuse_before() {
    let mut scene = Scene::new();
    let address = from(2, 7_400);
    for (job, refuses) in [(1, false), (2, true)] {
        scene.run(|links, out| links.look_again(at(0), (node(2), refuses), address, out));
        let refused = JobEvent::Failed(Failure::Refused, "refused".into());
        let told: &[LinkEffect] = if refuses { &[] } else { &[Refused(node(2))] };
        assert_eq!(scene.event(1, job, refused), told);
    }
}

// ---- where what is sent vanishes ----

/// A connection to a member that was opened then is given up, and it is looked whether its machine
/// takes another, which it does so much later. Gives what comes of it, and how its link is dialed anew.
fn vanishes(scene: &mut Scene, opened: u64, ms: u64, after: u64) -> (Vec<LinkEffect>, Option<u32>) {
    let members = view(&[(1, true), (2, true)]);
    scene.follow(ms, &[(1, true), (2, true)]);
    scene.0.vanished(at(ms), node(2), at(opened));
    let dialed = scene.dial(ms, 2);
    let Some(Dial(DialOrder { job, segment_bytes, .. })) = dialed.first() else {
        panic!("{dialed:?}")
    };
    scene.event(ms, *job, JobEvent::Dialed(None));
    scene.run(|links, out| links.suspect(at(ms), node(2), &members, out));
    let probe = scene.0.next_job;
    let mut effects = scene.event(ms + after, probe, JobEvent::Connected);
    effects.retain(|effect| matches!(effect, Trouble(..)));
    scene.0.jobs.clear();
    (effects, *segment_bytes)
}

#[test]
fn where_what_is_sent_vanishes_again_packets_are_short_and_the_peer_is_named() {
    let mut scene = Scene::new();
    let named = || vec![Trouble(node(2), PeerTrouble::Swallowed, None)];
    assert_eq!(vanishes(&mut scene, 0, 2_000, 1), (vec![], None));
    // Others that were open at the time are no further sign.
    assert_eq!(vanishes(&mut scene, 1_000, 2_250, 1), (vec![], None));
    assert_eq!(vanishes(&mut scene, 2_001, 4_000, 1), (named(), Some(1_188)));
    // Whoever it is opened for, and for as long as it is a member.
    assert_eq!(vanishes(&mut scene, 4_001, 6_000, 1), (named(), Some(1_188)));
    assert_eq!(vanishes(&mut scene, 6_001, 90_000, 1), (vec![], Some(1_188)), "much later");
    scene.follow(90_001, &[(1, true)]);
    assert_eq!(vanishes(&mut scene, 90_002, 92_000, 1), (vec![], None));
}

/// The whole path is cut again and again.
#[test]
fn a_member_that_takes_no_connection_at_once_is_not_said_to_swallow() {
    let mut scene = Scene::new();
    for cut in 0..5 {
        let (effects, _) = vanishes(&mut scene, cut * 4_000, cut * 4_000 + 2_000, 600);
        assert_eq!(effects, []);
    }
    // Nor is one that is no member.
    for second in 0..5 {
        scene.0.vanished(at(second * 1_000 + 1), node(3), at(second * 1_000));
    }
    assert!(!scene.0.vanishing.contains_key(&node(3)));
}
