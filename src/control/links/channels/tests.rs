//! Two nodes' deciders, and between them connections that move a few bytes at a time and break.

use rand::{RngExt, SeedableRng};

use super::*;
use crate::base::{Incarnation, NodeId, Rng};
use crate::control::links::{Failure, LinkConfig};

const PART: PartId = PartId(9);

fn node(side: usize) -> NodeRef {
    NodeRef { node: NodeId(side as u64 + 1), incarnation: Incarnation(1) }
}

fn address(side: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, side as u8 + 1], 7_400))
}

fn established(peer: NodeRef, link_epoch: u64) -> Established {
    Established {
        purpose: Purpose::Control,
        peer,
        peer_worker: WorkerIndex(0),
        my_worker: WorkerIndex(0),
        wire_version: 2,
        link_epoch,
        authenticated: true,
        takes: None,
    }
}

/// One connection: what is on its way in each direction, and who still has it open.
struct Conn {
    jobs: [JobId; 2],
    ends: [usize; 2],
    pipes: [Vec<u8>; 2],
    open: [bool; 2],
}

struct Scene {
    now: Time,
    links: [Links; 2],
    conns: Vec<Conn>,
    timers: Vec<(Time, usize, LinkTimer)>,
    /// By speaker: how many words it said, and up to which it was told of a loss.
    said: [u64; 2],
    excused: [u64; 2],
    /// By speaker: what the other side got.
    got: [Vec<u64>; 2],
    losses: usize,
    breaches: usize,
    dialed: usize,
    refuses: bool,
}

impl Scene {
    fn new() -> Self {
        let config = LinkConfig {
            handshake_timeout: Duration::from_secs(5),
            max_pending_handshakes: 8,
            max_frame_bytes: 4_096,
        };
        Self {
            now: Time::ZERO,
            links: [Links::new(config), Links::new(config)],
            conns: Vec::new(),
            timers: Vec::new(),
            said: [0; 2],
            excused: [0; 2],
            got: [Vec::new(), Vec::new()],
            losses: 0,
            breaches: 0,
            dialed: 0,
            refuses: false,
        }
    }

    fn run(&mut self, side: usize, call: impl FnOnce(&mut Links, Time, &mut Vec<LinkEffect>)) {
        let mut out = Vec::new();
        call(&mut self.links[side], self.now, &mut out);
        for effect in out {
            self.effect(side, effect);
        }
    }

    fn effect(&mut self, side: usize, effect: LinkEffect) {
        match effect {
            LinkEffect::Dial(order) => self.dial(side, order),
            LinkEffect::Write(job, bytes) => {
                if let Some((conn, end)) = self.find(side, job) {
                    self.conns[conn].pipes[1 - end].extend(bytes);
                }
            }
            LinkEffect::Abort(job) => {
                if let Some((conn, end)) = self.find(side, job) {
                    let conn = &mut self.conns[conn];
                    conn.open[end] = false;
                    conn.pipes[end].clear();
                    self.breaches += 1;
                }
            }
            LinkEffect::Schedule(at, timer) => self.timers.push((at, side, timer)),
            LinkEffect::Said { from, part, body, .. } => {
                assert_eq!((from, part), (node(1 - side), PART));
                let number = u64::from_le_bytes(*body.first_chunk().unwrap());
                self.got[1 - side].push(number);
            }
            LinkEffect::Lost { to, part } => {
                assert_eq!((to, part), (node(1 - side), PART));
                self.excused[side] = self.said[side];
                self.losses += 1;
            }
            _ => {}
        }
    }

    fn find(&self, side: usize, job: JobId) -> Option<(usize, usize)> {
        let mut all = self.conns.iter().enumerate().flat_map(|(at, conn)| {
            (0..2).map(move |end| (at, end, conn.ends[end], conn.jobs[end]))
        });
        let found = all.find(|(_, _, who, known)| (*who, *known) == (side, job));
        found.map(|(conn, end, _, _)| (conn, end))
    }

    fn dial(&mut self, side: usize, order: DialOrder) {
        assert_eq!(order.purpose, Purpose::Control);
        self.dialed += 1;
        if self.refuses {
            self.breaches += 1;
            let failed = JobEvent::Failed(Failure::Refused, "refused".to_owned());
            return self.run(side, |links, now, out| links.event(now, order.job, failed, out));
        }
        let other = 1 - side;
        let mut out = Vec::new();
        self.links[other].incoming(self.now, address(side), &mut out);
        let accept = out.iter().find_map(|effect| match effect {
            LinkEffect::Accept(job) => Some(*job),
            _ => None,
        });
        let accept = accept.expect("there is room");
        self.conns.push(Conn {
            jobs: [order.job, accept],
            ends: [side, other],
            pipes: [Vec::new(), Vec::new()],
            open: [true; 2],
        });
        let accepted = JobEvent::Accepted(established(node(side), order.link_epoch));
        self.run(other, |links, now, out| links.event(now, accept, accepted, out));
        self.run(side, |links, now, out| links.event(now, order.job, JobEvent::Dialed(None), out));
    }

    /// A stranger connects to the first node.
    fn incoming(&mut self, now: Time, from: usize) -> JobId {
        let mut out = Vec::new();
        self.links[0].incoming(now, address(from), &mut out);
        match out.first() {
            Some(LinkEffect::Accept(job)) => *job,
            _ => panic!("{out:?}"),
        }
    }

    /// And has proven who it is.
    fn accepted(&mut self, now: Time, job: JobId, who: Established) -> Vec<LinkEffect> {
        let mut out = Vec::new();
        self.links[0].event(now, job, JobEvent::Accepted(who), &mut out);
        out
    }

    fn say(&mut self, side: usize, bytes: usize) {
        self.said[side] += 1;
        let mut body = self.said[side].to_le_bytes().to_vec();
        body.resize(8 + bytes, 7);
        let to = node(1 - side);
        let address = Some(address(1 - side));
        self.run(side, |links, now, out| links.say_to(now, to, address, (PART, 1), &body, out));
    }

    /// Some bytes arrive at one end; at the end of the stream it sees that it is closed.
    fn arrive(&mut self, conn: usize, end: usize, most: usize) {
        let at = &mut self.conns[conn];
        if !at.open[end] {
            return;
        }
        let count = most.min(at.pipes[end].len());
        let bytes: Vec<u8> = at.pipes[end].drain(..count).collect();
        let (side, job) = (at.ends[end], at.jobs[end]);
        let event = if count > 0 {
            JobEvent::Bytes(bytes)
        } else if !at.open[1 - end] {
            at.open[end] = false;
            JobEvent::Failed(Failure::Broken, "closed".to_owned())
        } else {
            return;
        };
        self.run(side, |links, now, out| links.event(now, job, event, out));
    }

    /// One end is told at once; the other end still gets what is on its way, or not.
    fn breaks(&mut self, conn: usize, end: usize, loses: bool) {
        let at = &mut self.conns[conn];
        if !at.open[end] {
            return;
        }
        at.open[end] = false;
        at.pipes[end].clear();
        if loses {
            at.pipes[1 - end].clear();
        }
        let (side, job) = (at.ends[end], at.jobs[end]);
        self.breaches += 1;
        let event = JobEvent::Failed(Failure::Broken, "reset".to_owned());
        self.run(side, |links, now, out| links.event(now, job, event, out));
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now.plus(time);
        while let Some(next) = (0..self.timers.len()).min_by_key(|place| self.timers[*place].0)
            && self.timers[next].0 <= end
        {
            let (at, side, timer) = self.timers.remove(next);
            self.now = self.now.max(at);
            self.run(side, |links, now, out| links.timer(now, timer, out));
        }
        self.now = end;
    }

    fn everything_arrives(&mut self) {
        for _ in 0..4 {
            for conn in 0..self.conns.len() {
                for end in [0, 1, 0, 1] {
                    self.arrive(conn, end, usize::MAX);
                }
            }
            self.pass(Duration::from_millis(1));
        }
    }
}

#[test]
fn words_arrive_in_order_and_once_or_their_speaker_hears_of_a_loss() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..300 {
        let mut rng = Rng::seed_from_u64(seed);
        let mut scene = Scene::new();
        for _ in 0..400 {
            let side = rng.random_range(0..2);
            match rng.random_range(0..100) {
                0..40 => scene.say(side, rng.random_range(0..2_000)),
                40..90 if !scene.conns.is_empty() => {
                    let last = scene.conns.len();
                    let conn = rng.random_range(last.saturating_sub(4)..last);
                    let most = rng.random_range(1..3_000);
                    scene.arrive(conn, side, most);
                }
                90..92 if !scene.conns.is_empty() => {
                    let conn = rng.random_range(0..scene.conns.len());
                    let loses = rng.random();
                    scene.breaks(conn, side, loses);
                }
                92 => scene.refuses = rng.random_range(0..4) == 0,
                _ => scene.pass(Duration::from_millis(rng.random_range(0..1_500))),
            }
            for got in &scene.got {
                assert!(got.is_sorted_by(|a, b| a < b), "seed {seed}: {got:?}");
            }
        }
        scene.everything_arrives();
        scene.pass(Duration::from_secs(5));
        scene.everything_arrives();
        for side in 0..2 {
            let got = &scene.got[side];
            let missing: Vec<u64> =
                (scene.excused[side] + 1..=scene.said[side]).filter(|n| !got.contains(n)).collect();
            assert_eq!(missing, Vec::<u64>::new(), "seed {seed}: neither arrived nor told as lost");
            kept += got.len();
        }
        assert!(scene.losses <= scene.breaches, "seed {seed}: a loss told twice");
        lost += scene.losses;
    }
    assert!(lost > 300 && kept > 20_000, "{lost} losses, {kept} words");
}

#[test]
fn a_channel_is_opened_by_the_first_word_and_closed_when_it_was_silent() {
    let mut scene = Scene::new();
    for _ in 0..3 {
        scene.say(0, 10);
    }
    scene.everything_arrives();
    assert_eq!((scene.dialed, scene.got[0].as_slice()), (1, [1, 2, 3].as_slice()));
    scene.pass(IDLE - Duration::from_secs(1));
    assert!(scene.conns[0].open[0]);
    scene.pass(Duration::from_secs(1));
    assert!(!scene.conns[0].open[0]);
    scene.everything_arrives();
    assert!(scene.links.iter().all(|links| links.jobs.is_empty()));
    assert_eq!(scene.losses, 0, "nothing was open");
    scene.say(0, 10);
    scene.everything_arrives();
    assert_eq!((scene.dialed, scene.got[0].len()), (2, 4));
}

#[test]
fn a_peer_that_acknowledges_nothing_loses_the_channel_in_time() {
    let mut scene = Scene::new();
    scene.say(0, 10);
    scene.pass(ACK_WITHIN - Duration::from_millis(1));
    assert_eq!(scene.losses, 0);
    scene.pass(Duration::from_millis(1));
    scene.pass(Duration::ZERO);
    assert_eq!((scene.losses, scene.excused[0]), (1, 1));
    assert!(scene.links[0].jobs.is_empty());
}

#[test]
fn what_a_peer_does_not_take_is_bounded_and_told_as_lost_once() {
    for bytes in [0, 10_000] {
        let mut scene = Scene::new();
        while scene.links[0].channels.lost.is_empty() {
            scene.say(0, bytes);
            assert!(scene.said[0] <= OUTBOX_WORDS as u64 + 1);
            assert!(scene.conns[0].pipes[1].len() <= OUTBOX_BYTES + FRAME_BYTES);
        }
        scene.pass(Duration::ZERO);
        assert_eq!(scene.losses, 1);
    }
}

#[test]
fn a_word_that_is_too_long_or_for_nobody_is_lost() {
    let mut scene = Scene::new();
    scene.say(0, WORD_BYTES - 7);
    scene.pass(Duration::ZERO);
    assert_eq!((scene.losses, scene.dialed), (1, 0));
    scene.run(0, |links, now, out| links.say_to(now, node(1), None, (PART, 1), &[0; 8], out));
    scene.run(0, |links, now, out| links.say_to(now, node(1), None, (PART, 1), &[0; 8], out));
    scene.pass(Duration::ZERO);
    assert_eq!(scene.losses, 2, "once for both");
}

#[test]
fn frames_of_unknown_kinds_are_skipped_and_others_that_do_not_fit_end_the_channel() {
    let mut scene = Scene::new();
    scene.say(0, 10);
    scene.everything_arrives();
    let mut unknown = frame(FrameKind::Part, 0, &[1; 40]);
    unknown[4] |= 15;
    for end in 0..2 {
        scene.conns[0].pipes[end].extend(&unknown);
        scene.arrive(0, end, usize::MAX);
        assert_eq!(scene.links[end].frames_skipped(), 1);
    }
    scene.say(0, 10);
    scene.everything_arrives();
    assert_eq!((scene.got[0].len(), scene.losses, scene.dialed), (2, 0, 1));
    // An acknowledgement of what was never said; then one from who is to listen.
    for (end, bad) in
        [(0, frame(FrameKind::Ack, 0, &[9; 16])), (1, frame(FrameKind::Ack, 0, &[0; 16]))]
    {
        scene.say(0, 10);
        let last = scene.conns.len() - 1;
        scene.conns[last].pipes[end].clear();
        scene.conns[last].pipes[end].extend(&bad);
        scene.arrive(last, end, usize::MAX);
        assert!(!scene.conns[last].open[end], "the end that saw it closes");
        scene.everything_arrives();
        let [speaker, listener] = &scene.links;
        assert!(speaker.channels.outgoing.is_empty() && listener.channels.heard.is_empty());
    }
}

#[test]
fn the_most_silent_of_too_many_that_are_no_members_gives_way() {
    let mut scene = Scene::new();
    let mut kept = Vec::new();
    // The first of all has said nothing for longest, but it is a member.
    scene.links[0].members = [NodeRef { node: NodeId(100), incarnation: Incarnation(1) }].into();
    for number in 0..=MOST_HEARD as u64 {
        let peer = NodeRef { node: NodeId(100 + number), incarnation: Incarnation(1) };
        let job = scene.incoming(Time(number), 1);
        let out = scene.accepted(Time(number), job, established(peer, 1));
        kept.push(job);
        let aborts = out.iter().filter(|effect| matches!(effect, LinkEffect::Abort(_))).count();
        assert_eq!(aborts, usize::from(number == MOST_HEARD as u64));
    }
    let is_kept = |number: usize| scene.links[0].jobs.contains_key(&kept[number]);
    assert!(is_kept(0) && !is_kept(1) && is_kept(2));
    assert_eq!(scene.links[0].channels.heard.len(), MOST_HEARD);
}

#[test]
fn of_two_channels_of_a_node_the_later_is_heard_whichever_comes_first() {
    let mut scene = Scene::new();
    let jobs = [1, 2, 3, 4].map(|from| scene.incoming(Time::ZERO, from));
    let [second, first, third, other] = jobs;
    let accepted = |scene: &mut Scene, job, peer, epoch| {
        scene.accepted(Time::ZERO, job, established(peer, epoch))
    };
    assert_eq!(accepted(&mut scene, second, node(1), 5), [LinkEffect::Keep(second)]);
    // It was dialed before and overtaken: what its peer says it says on the later one.
    let [LinkEffect::Log(line), LinkEffect::Abort(aborted)] =
        &accepted(&mut scene, first, node(1), 4)[..]
    else {
        panic!("it is closed, which is said")
    };
    assert_eq!((line.kind, *aborted), (LogKind::Overtaken, first));
    assert_eq!(scene.links[0].channels.heard[&node(1)], second);
    let replaced = [LinkEffect::Abort(second), LinkEffect::Keep(third)];
    assert_eq!(accepted(&mut scene, third, node(1), 6), replaced);
    // Another life of the node, and another node, have their own.
    let earlier = NodeRef { incarnation: Incarnation(0), ..node(1) };
    assert_eq!(accepted(&mut scene, other, earlier, 1), [LinkEffect::Keep(other)]);
    let word = frame(FrameKind::Part, u32::from(PART.0) << 8, &[0; 8]);
    let mut heard = |job| {
        let mut out = Vec::new();
        let bytes = JobEvent::Bytes(word.clone());
        scene.links[0].event(Time::ZERO, job, bytes, &mut out);
        out.iter().any(|effect| matches!(effect, LinkEffect::Said { .. }))
    };
    assert_eq!(jobs.map(&mut heard), [false, false, true, true]);
}

#[test]
fn a_channel_of_a_higher_epoch_keeps_a_later_one_out_for_seconds() {
    let mut scene = Scene::new();
    let [wild, early, late] = [1, 2, 3].map(|from| scene.incoming(Time::ZERO, from));
    let after = |ms| Time::ZERO.plus(Duration::from_millis(ms));
    scene.accepted(after(0), wild, established(node(1), u64::MAX));
    let effects = scene.accepted(after(4_990), early, established(node(1), 7));
    assert!(effects.contains(&LinkEffect::Abort(early)), "{effects:?}");
    let effects = scene.accepted(after(5_000), late, established(node(1), 8));
    let [LinkEffect::Abort(aborted), LinkEffect::Keep(kept)] = effects
        .iter()
        .filter(|effect| !matches!(effect, LinkEffect::Log(_)))
        .collect::<Vec<_>>()[..]
    else {
        panic!("{effects:?}")
    };
    assert_eq!((*aborted, *kept), (wild, late));
}

#[test]
fn what_was_said_to_who_is_gone_is_told_as_lost() {
    let mut scene = Scene::new();
    scene.say(0, 10);
    scene.run(0, |links, now, out| links.end_channels(now, &[node(1)].into(), out));
    scene.pass(Duration::ZERO);
    assert_eq!((scene.losses, scene.excused[0]), (1, 1));
    assert!(scene.links[0].jobs.is_empty() && scene.links[0].channels.outgoing.is_empty());
    // Where all was acknowledged nothing is lost.
    let mut scene = Scene::new();
    scene.say(0, 10);
    scene.everything_arrives();
    scene.run(0, |links, now, out| links.end_channels(now, &[node(1)].into(), out));
    scene.run(1, |links, now, out| links.end_channels(now, &[node(0)].into(), out));
    scene.pass(Duration::ZERO);
    assert_eq!(scene.losses, 0);
    assert!(scene.links.iter().all(|links| links.jobs.is_empty()));
    assert!(scene.links[1].channels.heard.is_empty());
}
