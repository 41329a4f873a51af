//! What a stranger or a faulty peer may send: each case ends that one connection or message by
//! name, and a healthy node goes on meanwhile.

#[path = "bad_input/scene.rs"]
mod scene;

use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use keyway::base::{HandlerId, Incarnation, MessageTypeId, NodeId};
use keyway::wire::handshake::HandshakeError;
use keyway::wire::handshake::{ANY_INCARNATION, ANY_NODE, DialParams, Dialer};
use keyway::wire::{ClusterKey, Fields, FrameKind, HEADER_BYTES, VersionRange, datagram};
use keyway::{
    AskError, Context, Counts, DeathReason, Handler, Message, NodeRef, Refusal, Routee, WorkerIndex,
};

use scene::*;

// ---- before the handshake ----

#[test]
fn garbage_on_the_port_is_refused_and_counted() {
    let scene = Scene::new();
    let hello = Dialer::new(scene.params(), [1; 32]).1;
    let mut cases = vec![b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), vec![0; 4096]];
    cases.extend((0..20).map(|seed| noise(seed, 16 + 50 * seed as usize)));
    // The magic is right and what follows is not.
    let mut lies = hello.clone();
    lies[12] = 0xff;
    lies[13] = 0xff;
    cases.push(lies);
    let mut reversed = hello.clone();
    (reversed[9], reversed[10]) = (9, 1);
    cases.push(reversed);
    let mut other_kind = hello.clone();
    other_kind[8] = 4;
    cases.push(other_kind);
    let count = cases.len() as u64;
    for case in cases {
        let mut stream = scene.connect();
        let _ = stream.write_all(&case);
        assert!(closes(&mut stream), "{:?} was left open", &case[..16]);
    }
    // Each prefix of a good beginning, and then nothing.
    let lengths: Vec<usize> = (0..hello.len()).step_by(7).collect();
    for length in &lengths {
        let mut stream = scene.connect();
        stream.write_all(&hello[..*length]).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(closes(&mut stream), "{length} bytes of a hello were left open");
    }
    eventually("all were counted", || {
        let strangers = scene.attacked.strangers();
        // One that says nothing comes from where a member is, and may be its look.
        strangers.refused == count + lengths.len() as u64 - 1 && strangers.looked > 0
    });
    assert!(logged("is no Keyway node"), "the reason is named");
    scene.finish(16 * MIB);
}

#[test]
fn endless_bytes_end_the_connection_early() {
    let scene = Scene::new();
    for hello_first in [false, true] {
        let mut stream = scene.connect();
        if hello_first {
            let hello = Dialer::new(scene.params(), [1; 32]).1;
            stream.write_all(&hello).unwrap();
        }
        let piece = vec![0xa5; MIB];
        let mut taken = 0;
        while taken < 256 * MIB {
            match stream.write(&piece) {
                Ok(count) if count > 0 => taken += count,
                _ => break,
            }
        }
        // Socket buffers take some of it; the node does not.
        assert!(taken < 64 * MIB, "{taken} bytes went through");
    }
    eventually("both were counted", || scene.attacked.strangers().refused == 2);
    scene.finish(16 * MIB);
}

#[test]
fn a_stranger_that_drips_is_dropped_in_time() {
    let scene = Scene::new();
    let hello = Dialer::new(scene.params(), [1; 32]).1;
    let mut stream = scene.connect();
    stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let begun = Instant::now();
    for byte in &hello {
        if stream.write_all(&[*byte]).is_err() || closes(&mut stream) {
            break;
        }
        thread::sleep(Duration::from_millis(100));
        assert!(begun.elapsed() < LIMIT, "a dripping stranger is still served");
    }
    let lived = begun.elapsed();
    assert!(lived >= Duration::from_millis(HANDSHAKE_MS), "dropped after {lived:?}");
    assert!(lived < Duration::from_millis(3 * HANDSHAKE_MS), "dropped after {lived:?}");
    eventually("it was counted", || scene.attacked.strangers().refused == 1);
    assert!(logged("was not completed within 1s"), "the reason is named");
    scene.finish(16 * MIB);
}

#[test]
fn idle_strangers_do_not_keep_others_out_for_long() {
    let scene = Scene::new();
    let idle: Vec<TcpStream> = (0..5 * PENDING).map(|_| scene.connect()).collect();
    eventually("the surplus is turned away", || {
        scene.attacked.strangers().turned_away as usize >= 4 * PENDING
    });
    // A new node gets in as soon as the idle ones are timed out.
    let begun = Instant::now();
    let late = node().seed(scene.address()).start().unwrap();
    let router = late.router("/user/orders").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    eventually("a new node's ask is answered", || {
        router.ask(&order(1)).within(Duration::from_secs(1)).idempotent().wait() == Ok(2)
    });
    let waited = begun.elapsed();
    assert!(waited < Duration::from_secs(10), "the new node waited for {waited:?}");
    drop(late);
    eventually("the idle ones are counted", || {
        let strangers = scene.attacked.strangers();
        (strangers.refused + strangers.turned_away) as usize >= 5 * PENDING
    });
    drop(idle);
    scene.finish(24 * MIB);
}

#[test]
fn strangers_with_the_wrong_papers_are_told_why() {
    let scene = Scene::new();
    let me = scene.attacked.id();
    let key = |cluster, secret| ClusterKey::new(cluster, secret).unwrap();
    let refused = |change: &dyn Fn(&mut DialParams)| {
        let mut params = scene.params();
        change(&mut params);
        let mut stream = scene.connect();
        let error = shake(&mut stream, params).unwrap_err();
        assert!(closes(&mut stream), "left open after {error}");
        error
    };
    let error = refused(&|p| p.key = key(CLUSTER, Some(b"another secret of enough bytes")));
    assert_eq!(error, HandshakeError::WrongProof);
    let error = refused(&|p| p.key = key(CLUSTER, None));
    assert_eq!(error, HandshakeError::SecretOnlyThere);
    let error = refused(&|p| p.key = key("elsewhere", Some(SECRET.as_bytes())));
    assert!(matches!(error, HandshakeError::WrongCluster { .. }), "{error:?}");
    let error = refused(&|p| p.versions = VersionRange::new(200, 201).unwrap());
    assert!(matches!(error, HandshakeError::UnknownVersion { .. }), "{error:?}");
    let error = refused(&|p| p.to_worker = WorkerIndex(99));
    assert!(error.to_string().contains("worker 99"), "{error}");
    let error = refused(&|p| p.to.incarnation = Incarnation(3));
    assert!(matches!(error, HandshakeError::WrongNode { .. }), "{error:?}");
    let error = refused(&|p| p.to.node = NodeId::from_name("somebody else"));
    assert!(matches!(error, HandshakeError::WrongNode { .. }), "{error:?}");
    // The node itself cannot be dialed by itself either.
    let error = refused(&|p| p.me = me);
    eprintln!("as itself: {error}");
    eventually("all were counted", || scene.attacked.strangers().refused == 8);

    // And one without an idea of who is there gets in.
    let mut params = scene.params();
    params.to = NodeRef { node: ANY_NODE, incarnation: ANY_INCARNATION };
    shake(&mut scene.connect(), params).unwrap();
    scene.finish(16 * MIB);
}

#[test]
fn datagrams_of_strangers_are_dropped_and_counted() {
    let scene = Scene::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut sent = 0;
    let lengths = [0, 1, 7, 16, 31, 32, 33, 64, 512, 1_400, 9_000, 65_507];
    for round in 0..20 {
        for length in lengths {
            socket.send_to(&noise(round, length), scene.address()).unwrap();
            sent += 1;
            // The socket's own buffer is no part of this.
            thread::sleep(Duration::from_micros(300));
        }
    }
    eventually("they were counted", || scene.attacked.strangers().datagrams.not_ours >= sent / 2);
    let members = scene.attacked.view().members.len();
    assert_eq!(members, 2, "strangers change no view");
    scene.finish(16 * MIB);
}

// ---- after the handshake ----

/// A good ask goes before each bad frame: it must be answered, and the link closed for the bad one.
/// Of many broken frames in a second one is named in the log, so that each waits for its second.
fn expelled(scene: &Scene, bad: &[u8], why: &str) {
    std::thread::sleep(Duration::from_millis(1_050));
    LOG.lock().unwrap().clear();
    let mut link = scene.link();
    let mut bytes = scene.good_ask(41);
    bytes.extend_from_slice(bad);
    link.send(&bytes);
    assert!(link.closes(), "the link is open after: {why}");
    eventually(why, || logged(why));
    let lines = LOG.lock().unwrap();
    let lines = String::from_utf8_lossy(&lines);
    let named = lines.lines().filter(|line| line.contains("for a broken frame")).count();
    assert_eq!(named, 1, "a flood of lines");
}

#[test]
fn a_peer_that_breaks_the_protocol_loses_its_link() {
    let scene = Scene::new();
    let good = raw(FrameKind::Tell, &Fields::default(), Order::TYPE_ID, scene.handler, &[0; 32]);
    let changed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bad = good.clone();
        change(&mut bad);
        bad
    };
    let length = |length: u32| changed(&move |bad| bad[..4].copy_from_slice(&length.to_le_bytes()));
    expelled(&scene, &changed(&|bad| bad[4] = 0x01), "header version 0 is unknown");
    expelled(&scene, &changed(&|bad| bad[4] = 0x31), "header version 3 is unknown");
    expelled(&scene, &changed(&|bad| bad[4] = 0x20), "0 is no kind of frame");
    for (at, bit) in [(5, 0x20), (5, 0x80), (6, 1), (7, 0x80)] {
        expelled(&scene, &changed(&|bad| bad[at] = bit), "a reserved bit");
    }
    expelled(&scene, &length(0), "a frame of 0 bytes cannot hold its own header");
    expelled(&scene, &length(15), "a frame of 15 bytes cannot hold");
    expelled(&scene, &length(FRAME_LIMIT + 1), "a frame of 65537 bytes is over the limit");
    expelled(&scene, &length(u32::MAX), "a frame of 4294967295 bytes is over the limit");
    // Its fields do not fit into what it declares.
    let short = changed(&|bad| {
        bad[..4].copy_from_slice(&16_u32.to_le_bytes());
        bad[5] = 1;
    });
    expelled(&scene, &short, "a frame of 16 bytes cannot hold its own header");

    let none = (MessageTypeId(0), HandlerId(0));
    let of = |kind, fields: &Fields, body: &[u8]| raw(kind, fields, none.0, none.1, body);
    let ask = of(FrameKind::Ask, &Fields::default(), &[]);
    expelled(&scene, &ask, "a ask frame without what it needs");
    for kind in [FrameKind::Reply, FrameKind::Failure] {
        let frame = of(kind, &Fields::correlated(0), &[0; 8]);
        expelled(&scene, &frame, "only the other side of a link may send");
    }
    expelled(&scene, &of(FrameKind::Reply, &Fields::default(), &[]), "a reply frame without");
    expelled(&scene, &of(FrameKind::Failure, &Fields::default(), &[]), "a failure frame without");
    let ack = of(FrameKind::Ack, &Fields::default(), &[0xff; 16]);
    expelled(&scene, &ack, "only the other side of a link may send");
    scene.finish(16 * MIB);
}

#[test]
fn what_only_a_newer_node_understands_is_skipped_and_counted() {
    let scene = Scene::new();
    let mut link = scene.link();
    let mut unknown = Vec::new();
    for kind in 8..=15 {
        let mut frame =
            raw(FrameKind::Tell, &Fields::default(), Order::TYPE_ID, scene.handler, &[7; 40]);
        frame[4] = 2 << 4 | kind;
        // Neither do its bits mean anything here.
        frame[5..8].fill(0xff);
        unknown.push(frame);
    }
    // A part that does not exist.
    unknown.push(raw(
        FrameKind::Part,
        &Fields::default(),
        MessageTypeId(200 << 8),
        HandlerId(0),
        &[7; 9],
    ));
    for (at, frame) in unknown.iter().enumerate() {
        link.send(frame);
        link.send(&scene.good_ask(at as u64));
        assert_eq!(link.answer(), Answer::Reply(at as u64, at as u64 + 1));
    }
    eventually("they were counted", || scene.attacked.counts().skipped_frames == 9);

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut datagram = Vec::new();
    let params = scene.params();
    datagram::seal(&params.key, params.me, 200, b"news", &mut datagram).unwrap();
    socket.send_to(&datagram, scene.address()).unwrap();
    eventually("it was counted", || scene.attacked.strangers().datagrams.skipped == 1);
    // For a part that there is, by somebody who holds the secret and is no member: nothing newer.
    datagram::seal(&params.key, params.me, 2, b"news", &mut datagram).unwrap();
    socket.send_to(&datagram, scene.address()).unwrap();
    eventually("it was counted", || scene.attacked.strangers().datagrams.no_members == 1);
    let counted = scene.attacked.strangers().datagrams;
    assert_eq!((counted.skipped, counted.malformed), (1, 0));
    scene.finish(16 * MIB);
}

#[test]
fn a_bad_message_dies_alone_and_its_asker_is_told() {
    let scene = Scene::new();
    let mut letters = scene.attacked.dead_letters();
    let mut link = scene.link();
    let unknown = HandlerId(77);
    let far = HandlerId(u32::MAX);
    let strange = MessageTypeId(0xdead_beef);
    let good = Order::TYPE_ID;
    let cases = [
        // A string that says it stands elsewhere, far outside.
        (good, scene.handler, vec![0x80; 64], DeathReason::InvalidBody),
        (good, scene.handler, vec![], DeathReason::InvalidBody),
        (good, scene.handler, vec![0; 7], DeathReason::InvalidBody),
        (good, scene.handler, vec![0x80; 60_000], DeathReason::InvalidBody),
        (good, unknown, vec![0; 16], DeathReason::UnknownHandler),
        (good, far, vec![], DeathReason::UnknownHandler),
        (strange, scene.handler, vec![0; 16], DeathReason::UnknownMessage),
        // The name that the handler takes, with another layout: a sender that did not look.
        (OtherOrder::TYPE_ID, scene.handler, vec![0; 16], DeathReason::UnknownMessage),
    ];
    for (at, (message, target, body, reason)) in cases.iter().enumerate() {
        let fields = Fields::correlated(at as u64);
        link.send(&raw(FrameKind::Ask, &fields, *message, *target, body));
        assert_eq!(link.answer(), Answer::Failure(at as u64, *reason));
        link.send(&raw(FrameKind::Tell, &Fields::default(), *message, *target, body));
        // The link lives.
        link.send(&scene.good_ask(1_000));
        assert_eq!(link.answer(), Answer::Reply(1_000, 1_001));
        let mut told = 0;
        while told < 2 {
            let letter = letters.wait().unwrap();
            assert_eq!(letter.reason, *reason);
            assert_eq!(letter.peer.unwrap().node, NodeId::from_name("attacker"));
            told += letter.count;
        }
    }
    let dead = |counts: Counts| {
        [DeathReason::InvalidBody, DeathReason::UnknownHandler, DeathReason::UnknownMessage]
            .map(|reason| counts.received_dead[reason as usize])
    };
    eventually("they were counted", || dead(scene.attacked.counts()) == [8, 4, 4]);
    scene.finish(16 * MIB);
}

#[derive(Routee)]
#[routee(handles(Unheard))]
struct Withdrawn;

impl Handler<Unheard> for Withdrawn {
    type Reply = u64;
    fn handle(&mut self, _: &ArchivedUnheard, _: &mut Context<'_>) -> u64 {
        0
    }
}

#[test]
fn what_comes_for_a_path_that_was_withdrawn_is_told_with_its_names() {
    let scene = Scene::new();
    scene.attacked.serve("/user/withdrawn", |_| Withdrawn).unwrap();
    let router = scene.attacked.router("/user/withdrawn").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    let handler = router.routees()[0].id.instance.handler;
    scene.attacked.unserve("/user/withdrawn").unwrap();
    let mut letters = scene.attacked.dead_letters();
    let nothing = Fields::default();
    scene.link().send(&raw(FrameKind::Tell, &nothing, Unheard::TYPE_ID, handler, &[0; 16]));
    let letter = letters.wait().unwrap();
    assert_eq!(letter.reason, DeathReason::UnknownHandler);
    assert_eq!(letter.path.as_ref().map(|path| path.as_str()), Some("/user/withdrawn"));
    assert_eq!(letter.message.as_deref(), Some(Unheard::NAME));
    scene.finish(16 * MIB);
}

#[test]
fn an_asker_with_another_idea_of_the_message_is_told() {
    let scene = Scene::new();
    let confused = node().seed(scene.address()).start().unwrap();
    let router = confused.router("/user/orders").build().unwrap();
    router.wait_ready(1, LIMIT).unwrap();
    let outcome = router.ask(&OtherOrder { number: 1 }).within(LIMIT).wait();
    assert_eq!(outcome, Err(AskError::Refused(Refusal::LayoutMismatch)));
    let outcome = router.ask(&Unheard { number: 1 }).within(LIMIT).wait();
    assert_eq!(outcome, Err(AskError::Dead(DeathReason::UnknownMessage)));
    let told = router.tell(&OtherOrder { number: 1 });
    assert_eq!(told, Err(Refusal::LayoutMismatch));
    eventually("the sender's books name them", || confused.counts().dead_at_peer == 1);
    let counts = confused.counts();
    assert_eq!((counts.sent, counts.failed_asks, counts.in_flight()), (3, 1, 0), "{counts:?}");
    // It can still do better.
    assert_eq!(router.ask(&order(4)).within(LIMIT).wait(), Ok(5));
    drop(confused);
    scene.finish(16 * MIB);
}

#[test]
fn frames_in_small_pieces_are_put_together() {
    let scene = Scene::new();
    let mut link = scene.link();
    link.stream.set_nodelay(true).unwrap();
    let mut bytes = scene.good_ask(1);
    bytes.extend(scene.good_ask(2));
    for byte in &bytes {
        link.send(&[*byte]);
    }
    assert_eq!(link.answer(), Answer::Reply(1, 2));
    assert_eq!(link.answer(), Answer::Reply(2, 3));
    // A frame that never ends takes no more room than it may have.
    let mut header = scene.good_ask(3)[..HEADER_BYTES].to_vec();
    header[..4].copy_from_slice(&FRAME_LIMIT.to_le_bytes());
    link.send(&header);
    link.send(&[0; 1000]);
    thread::sleep(Duration::from_millis(100));
    drop(link);
    scene.finish(16 * MIB);
}

#[test]
fn a_peer_that_asks_and_never_reads_is_not_read_any_more() {
    let scene = Scene::new();
    let mut link = scene.link();
    link.stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut asks = Vec::new();
    for correlation in 0..1_000 {
        asks.extend(scene.good_ask(correlation));
    }
    let mut taken = 0;
    while let Ok(count) = link.stream.write(&asks) {
        taken += count;
        assert!(taken < 512 * MIB, "endless asks go through though no reply is taken");
    }
    // Unknown handlers make answers as well.
    scene.finish(48 * MIB);
}

#[test]
fn many_links_of_one_peer_replace_each_other() {
    let scene = Scene::new();
    let mut last = None;
    for epoch in 1..200 {
        let mut params = scene.params();
        params.link_epoch = epoch;
        let mut stream = scene.connect();
        shake(&mut stream, params).unwrap();
        let mut older = last.replace(Link { stream, received: Vec::new() });
        if let Some(older) = &mut older {
            assert!(older.closes(), "an older link lives beside a newer one");
        }
    }
    let mut newest = last.unwrap();
    newest.send(&scene.good_ask(5));
    assert_eq!(newest.answer(), Answer::Reply(5, 6));
    // One that comes late does not replace a newer one.
    let mut params = scene.params();
    params.link_epoch = 3;
    let mut stream = scene.connect();
    shake(&mut stream, params).unwrap();
    assert!(closes(&mut stream), "an older link came late and was taken");
    newest.send(&scene.good_ask(6));
    assert_eq!(newest.answer(), Answer::Reply(6, 7));
    scene.finish(24 * MIB);
}
