//! Ledgers and audit against histories whose truth is known, and against a real kill.

mod random;

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const SHAPE: Shape = Shape { senders: 3, keys: 4, max_intervals: 10_000 };

fn owner(node: u32) -> Owner {
    Owner { node, worker: 0 }
}

fn sent_record(sender: u32, accepted: &[u64]) -> SentRecord {
    SentRecord { sender, accepted: accepted.to_vec(), refused: 0, in_doubt: None }
}

/// What arrived where, in order of time; index + 1 is the time in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reception {
    receiver: usize,
    sender: u32,
    key: u32,
    sequence: u64,
}

/// Plays a history into real ledgers with exact times.
fn play(history: &[Reception], receivers: usize) -> Vec<Received> {
    play_with_change(history, receivers, u64::MAX)
}

/// The same, with a new table epoch everywhere from `change_ns` on.
fn play_with_change(history: &[Reception], receivers: usize, change_ns: u64) -> Vec<Received> {
    let mut ledgers: Vec<ReceivedLedger> =
        (0..receivers).map(|_| ReceivedLedger::in_memory(SHAPE).unwrap()).collect();
    for (index, reception) in history.iter().enumerate() {
        let now_ns = index as u64 + 1;
        let Reception { receiver, sender, key, sequence } = *reception;
        ledgers[receiver].set_epoch(u16::from(now_ns >= change_ns));
        ledgers[receiver].record(sender, key, sequence, now_ns, || now_ns);
    }
    ledgers
        .iter()
        .enumerate()
        .map(|(node, ledger)| Received { owner: owner(node as u32), record: ledger.to_record() })
        .collect()
}

/// The truth, message by message.
#[derive(Debug, Default, PartialEq, Eq)]
struct Truth {
    delivered: u64,
    duplicated: u64,
    reordered: u64,
    foreign: u64,
    missing: BTreeSet<(u32, u32, u64)>,
}

fn truth(history: &[Reception], sent: &[SentRecord]) -> Truth {
    let mut truth = Truth::default();
    let mut seen: BTreeMap<(u32, u32), BTreeSet<u64>> = BTreeMap::new();
    for record in sent {
        for (key, &count) in record.accepted.iter().enumerate() {
            truth.missing.extend((1..=count).map(|seq| (record.sender, key as u32, seq)));
        }
    }
    for reception in history {
        let Reception { sender, key, sequence, .. } = *reception;
        let count = sent
            .iter()
            .find(|record| record.sender == sender)
            .and_then(|record| record.accepted.get(key as usize))
            .copied()
            .unwrap_or(0);
        if sequence == 0 || sequence > count {
            truth.foreign += 1;
            continue;
        }
        let seen = seen.entry((sender, key)).or_default();
        if seen.contains(&sequence) {
            truth.duplicated += 1;
        } else {
            truth.delivered += 1;
            truth.reordered += u64::from(seen.last().is_some_and(|&highest| highest > sequence));
        }
        seen.insert(sequence);
        truth.missing.remove(&(sender, key, sequence));
    }
    truth
}

fn merge(history: &[Reception], sent: &[SentRecord], receivers: usize) -> Audit {
    Audit::merge(sent, &play(history, receivers), &[], Placement::Anywhere)
}

fn lost_set(audit: &Audit) -> BTreeSet<(u32, u32, u64)> {
    audit
        .lost
        .iter()
        .flat_map(|lost| (lost.first..=lost.last).map(|seq| (lost.sender, lost.key, seq)))
        .collect()
}

#[test]
fn a_healthy_run_is_one_interval_per_sender_and_key() {
    let mut ledger = ReceivedLedger::in_memory(SHAPE).unwrap();
    for sequence in 1..=1_000 {
        ledger.record(1, 2, sequence, 10 * sequence, || 10 * sequence + 3);
    }
    let record = ledger.to_record();
    assert_eq!(
        record.intervals,
        [Interval {
            sender: 1,
            key: 2,
            epoch: 0,
            first: 1,
            last: 1_000,
            first_ns: 13,
            last_ns: 10_000
        }]
    );
    let audit = Audit::merge(
        &[sent_record(1, &[0, 0, 1_000])],
        &[Received { owner: owner(0), record }],
        &[],
        Placement::Anywhere,
    );
    assert!(audit.balanced);
    assert_eq!(audit.void_reason(), None);
    assert_eq!((audit.sent, audit.delivered), (1_000, 1_000));
}

#[test]
fn numbers_from_outside_are_counted_not_trusted() {
    let mut ledger = ReceivedLedger::in_memory(SHAPE).unwrap();
    for (sender, key, sequence) in [
        (3, 0, 1),
        (0, 4, 1),
        (u32::MAX, u32::MAX, 1),
        (0, 0, 0),
        (0, 0, u64::MAX),
        (0, 0, HIGHEST_SEQUENCE + 1),
    ] {
        ledger.record(sender, key, sequence, 1, || 1);
    }
    ledger.record(0, 0, HIGHEST_SEQUENCE, 1, || 1);
    let record = ledger.to_record();
    assert_eq!((record.foreign, record.messages()), (6, 1));
    let received = [Received { owner: owner(0), record }];
    let audit = Audit::merge(&[sent_record(0, &[5])], &received, &[], Placement::Anywhere);
    assert_eq!((audit.foreign, audit.delivered, audit.missing), (7, 0, 5));
    assert!(audit.void_reason().unwrap().contains("7 messages arrived that nobody sent"));
}

#[test]
fn a_full_ledger_is_confessed() {
    let shape = Shape { senders: 1, keys: 1, max_intervals: 2 };
    let mut ledger = ReceivedLedger::in_memory(shape).unwrap();
    for sequence in [1, 3, 5, 7, 6] {
        ledger.record(0, 0, sequence, 1, || 1);
    }
    assert_eq!(ledger.steps_back(), 1);
    let record = ledger.to_record();
    assert_eq!((record.overflowed, record.intervals.len()), (2, 3));
    let received = [Received { owner: owner(0), record }];
    let audit = Audit::merge(&[sent_record(0, &[7])], &received, &[], Placement::Anywhere);
    assert!(!audit.balanced);
    assert!(audit.void_reason().unwrap().contains("no room"));
}

#[test]
fn the_equation_takes_refusals_dead_letters_and_unknowns() {
    let mut sender = SentLedger::in_memory(0, 1).unwrap();
    for _ in 0..10 {
        sender.begin(0);
        sender.accepted(0);
    }
    for _ in 0..3 {
        assert_eq!(sender.begin(0), 11, "a refused message gives its sequence back");
        sender.refused(0);
    }
    let sent = [sender.to_record()];
    // 7 of 10 arrive.
    let history: Vec<Reception> = [1, 2, 3, 5, 6, 8, 10]
        .map(|sequence| Reception { receiver: 0, sender: 0, key: 0, sequence })
        .to_vec();
    let received = play(&history, 1);
    let settle = |refused, dead, unknown| {
        let counters = [NodeCounters { refused, dead, unknown }];
        Audit::merge(&sent, &received, &counters, Placement::Anywhere)
    };
    let audit = settle(1, 1, 1);
    assert!(audit.balanced, "{audit}");
    assert_eq!((audit.sent, audit.delivered, audit.refused), (13, 7, 4));
    assert_eq!((audit.dead, audit.unknown, audit.missing), (1, 1, 3));
    // Some of the unknown ones had been handled: they count as delivered.
    let audit = settle(0, 0, 5);
    assert!(audit.balanced);
    assert_eq!((audit.unknown, audit.unknown_but_delivered), (3, 2));
    // One message vanished.
    let audit = settle(1, 1, 0);
    assert!(!audit.balanced);
    assert_eq!(audit.unaccounted, 1);
    assert!(audit.to_string().contains("sent 13 != delivered 7 + refused 4 + dead 1 + unknown 0"));
    // One message was counted dead and delivered.
    let audit = settle(0, 4, 0);
    assert!(!audit.balanced);
    assert_eq!(audit.overcounted, 1);
    assert!(audit.void_reason().unwrap().contains("more messages were counted"));
    assert_eq!(
        audit.lost,
        [(4, 4), (7, 7), (9, 9)].map(|(first, last)| Lost { sender: 0, key: 0, first, last })
    );
}

#[test]
fn a_handoff_in_order_is_no_reorder_and_one_out_of_order_is() {
    let at = |receiver, sequence| Reception { receiver, sender: 0, key: 0, sequence };
    let sent = [sent_record(0, &[6])];
    let good = [at(0, 1), at(0, 2), at(0, 3), at(1, 4), at(1, 5), at(1, 6)];
    assert_eq!(merge(&good, &sent, 2).reordered, 0);
    // The new owner begins before the old one has finished: 3 arrives after 4.
    let early = [at(0, 1), at(0, 2), at(1, 4), at(0, 3), at(1, 5), at(1, 6)];
    assert_eq!(merge(&early, &sent, 2).reordered, 1);
    // A whole stretch comes late. Only the ends of an interval have times, so the count is exact
    // if the stretch is an interval of its own, as after a change of epoch, and 1 otherwise.
    let late = [at(0, 1), at(1, 5), at(1, 6), at(0, 2), at(0, 3), at(0, 4)];
    assert_eq!(merge(&late, &sent, 2).reordered, 1);
    let cut = play_with_change(&late, 2, 2);
    assert_eq!(Audit::merge(&sent, &cut, &[], Placement::Anywhere).reordered, 3);
}

#[test]
fn coarse_cycle_times_raise_no_false_alarm() {
    // The old owner's cycle began at 100 and handled 3 at 190; the new owner handled 4 at 195, in
    // a cycle that began at 120.
    let mut old = ReceivedLedger::in_memory(SHAPE).unwrap();
    for sequence in 1..=3 {
        old.record(0, 0, sequence, 100, || 180);
    }
    let mut new = ReceivedLedger::in_memory(SHAPE).unwrap();
    new.record(0, 0, 4, 120, || 195);
    let received = [(0, old), (1, new)]
        .map(|(node, ledger)| Received { owner: owner(node), record: ledger.to_record() });
    let audit = Audit::merge(&[sent_record(0, &[4])], &received, &[], Placement::Anywhere);
    assert_eq!((audit.delivered, audit.reordered), (4, 0));
}

#[test]
fn a_killed_sender_leaves_at_most_one_message_in_doubt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sender");
    let mut ledger = SentLedger::in_file(&path, 0, 4).unwrap();
    ledger.begin(2);
    ledger.accepted(2);
    ledger.begin(2);
    let sent = [SentRecord::read(&path).unwrap()];
    assert_eq!((sent[0].in_doubt, sent[0].accepted_in_all()), (Some(2), 1));
    let first = Reception { receiver: 0, sender: 0, key: 2, sequence: 1 };
    let arrived = merge(&[first, Reception { sequence: 2, ..first }], &sent, 1);
    assert!(arrived.balanced);
    assert_eq!((arrived.sent, arrived.delivered), (2, 2));
    let not_sent = merge(&[first], &sent, 1);
    assert!(not_sent.balanced);
    assert_eq!((not_sent.sent, not_sent.delivered), (1, 1));
}

#[test]
fn one_owner_within_a_calm_period() {
    let at = |receiver, key, sequence| Reception { receiver, sender: 0, key, sequence };
    // Times 1 to 8. Key 0 moves from 0 to 1 at time 4; key 1 strays once, at time 7.
    let history = [
        at(0, 0, 1),
        at(0, 1, 1),
        at(0, 0, 2),
        at(1, 0, 3),
        at(0, 1, 2),
        at(1, 0, 4),
        at(1, 1, 3),
        at(0, 1, 4),
    ];
    let received = play(&history, 2);
    let sent = [sent_record(0, &[4, 4])];
    let count = |periods: &[(u64, u64)]| {
        let periods: Vec<Period> =
            periods.iter().map(|&(from_ns, until_ns)| Period { from_ns, until_ns }).collect();
        Audit::merge(&sent, &received, &[], Placement::OneOwner(&periods)).misrouted
    };
    assert_eq!(count(&[(1, 3), (4, 8)]), 1);
    assert_eq!(count(&[(1, 8)]), 3, "without the change, half of key 0 is misplaced");
    assert_eq!(count(&[(1, 3), (8, 8)]), 0);
}

#[test]
fn tables_say_who_owned_a_key() {
    let at = |receiver, key, sequence| Reception { receiver, sender: 0, key, sequence };
    let history = [at(0, 0, 1), at(0, 1, 1), at(0, 0, 2), at(1, 0, 3), at(1, 0, 4), at(0, 1, 2)];
    let received = play(&history, 2);
    let sent = [sent_record(0, &[4, 2])];
    let count = |change_ns, grace_ns| {
        let tables = [
            OwnerTable { from_ns: 0, owners: vec![owner(0), owner(0)] },
            OwnerTable { from_ns: change_ns, owners: vec![owner(1), owner(0)] },
        ];
        let placement = Placement::Tables { tables: &tables, grace_ns };
        Audit::merge(&sent, &received, &[], placement).misrouted
    };
    assert_eq!(count(4, 0), 0);
    // The change came at 6 in truth: both messages at the new owner are wrong, unless within grace.
    assert_eq!(count(6, 0), 2);
    assert_eq!(count(6, 2), 0);
    assert_eq!(count(6, 1), 1);
    // The old owner went on for too long: one of the interval's ends is misplaced.
    assert_eq!(count(2, 0), 1);
}

#[test]
fn epochs_end_intervals() {
    let mut ledger = ReceivedLedger::in_memory(SHAPE).unwrap();
    ledger.record(0, 0, 1, 1, || 1);
    ledger.record(0, 0, 2, 2, || 2);
    ledger.set_epoch(9);
    ledger.record(0, 0, 3, 3, || 3);
    ledger.record(0, 0, 4, 4, || 4);
    let record = ledger.to_record();
    let seen: Vec<_> =
        record.intervals.iter().map(|part| (part.epoch, part.first, part.last)).collect();
    assert_eq!(seen, [(0, 1, 2), (9, 3, 4)]);
    assert_eq!(ledger.steps_back(), 0);
    let audit = Audit::merge(
        &[sent_record(0, &[4])],
        &[Received { owner: owner(0), record }],
        &[],
        Placement::Anywhere,
    );
    assert!(audit.balanced);
    assert_eq!((audit.delivered, audit.duplicated, audit.reordered), (4, 0, 0));
}

#[test]
fn records_travel_as_json_and_damaged_ones_are_refused() {
    let mut ledger = ReceivedLedger::in_memory(SHAPE).unwrap();
    for sequence in [1, 2, 3, 5, 4] {
        ledger.record(2, 3, sequence, 1_000 + sequence, || 1_000 + sequence);
    }
    let record = ledger.to_record();
    let text = serde_json::to_string(&record).unwrap();
    assert_eq!(serde_json::from_str::<ReceivedRecord>(&text).unwrap(), record);
    assert!(text.contains("[2,3,0,1,2,1001,2]"), "{text}");
    for bad in ["[0,0,0,0,1,1,1]", "[0,0,0,1,18446744073709551615,1,1]", "[0,0,0,1,1,1]"] {
        assert!(serde_json::from_str::<Interval>(bad).is_err(), "{bad}");
    }
}

#[test]
fn damaged_files_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    let check = |content: &[u8]| {
        std::fs::write(&path, content).unwrap();
        let error = ReceivedRecord::read(&path).unwrap_err().to_string();
        assert!(error.contains("ledger"), "{error}");
        assert!(SentRecord::read(&path).is_err());
    };
    check(b"");
    check(b"seven b");
    check(&[0; 512]);
    let mut ledger = ReceivedLedger::in_file(&path, SHAPE).unwrap();
    ledger.record(0, 0, 1, 1, || 1);
    drop(ledger);
    let good = std::fs::read(&path).unwrap();
    assert_eq!(ReceivedRecord::read(&path).unwrap().messages(), 1);
    check(&good[..good.len() / 2 / 8 * 8][..200]);
    // Every word of the header and of the first slot set to nonsense: never a panic.
    for word in 0..20 {
        let mut bad = good.clone();
        bad[word * 8..word * 8 + 8].fill(0xff);
        std::fs::write(&path, &bad).unwrap();
        if let Ok(record) = ReceivedRecord::read(&path) {
            let received = [Received { owner: owner(0), record }];
            Audit::merge(&[sent_record(0, &[1])], &received, &[], Placement::Anywhere);
        }
    }
}

/// The n-th message of an endless history with gaps and repeats in it.
fn endless(index: u64) -> (u32, u64) {
    let key = (index % 4) as u32;
    let round = index / 4 + 1;
    // Every eleventh repeats the one before, every thirteenth skips ahead.
    let sequence = match (index.is_multiple_of(11), index.is_multiple_of(13)) {
        (true, _) => round.saturating_sub(1).max(1),
        (_, true) => round + 2,
        _ => round,
    };
    (key, sequence)
}

/// Kills a process in the middle of recording and compares the file with the history: it must
/// hold a prefix of it, each message exactly once.
#[test]
fn a_kill_leaves_every_recorded_message_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger");
    for round in 0..20 {
        let shape = Shape { senders: 1, keys: 4, max_intervals: 600_000 };
        let mut ledger = ReceivedLedger::in_file(&path, shape).unwrap();
        // SAFETY: the child only loads and stores in a mapping made before the fork; it neither
        // allocates nor takes a lock, which a fork of a threaded process forbids.
        let child = unsafe { libc::fork() };
        assert!(child >= 0);
        if child == 0 {
            for index in 0..1_000_000 {
                let (key, sequence) = endless(index);
                ledger.record(0, key, sequence, index, || index);
            }
            loop {
                // SAFETY: waits for a signal and touches nothing.
                unsafe { libc::pause() };
            }
        }
        // The mapping is shared: the child's progress shows here.
        while ledger.steps_back() == 0 {
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_micros(117 * round));
        let mut status = 0;
        // SAFETY: the child is ours and has not been waited for.
        unsafe {
            libc::kill(child, libc::SIGKILL);
            libc::waitpid(child, &mut status, 0);
        }
        let record = ReceivedRecord::read(&path).unwrap();
        assert_eq!(record.overflowed, 0, "the test's own ledger is too small");
        let mut per_key: [Vec<u64>; 4] = Default::default();
        for interval in &record.intervals {
            per_key[interval.key as usize].extend(interval.first..=interval.last);
        }
        let total = record.messages();
        let mut expected: [Vec<u64>; 4] = Default::default();
        for index in 0..total {
            let (key, sequence) = endless(index);
            expected[key as usize].push(sequence);
        }
        assert!(total > 0);
        assert_eq!(per_key, expected, "after {total} messages");
    }
}

/// Prints what the hot path costs: `cargo test --release -p loadgen -- --ignored --nocapture cost`.
#[test]
#[ignore = "a measurement, not a check"]
fn cost_of_recording() {
    const KEYS: u32 = 200;
    const ROUNDS: u64 = 100_000;
    let shape = Shape { senders: 1, keys: KEYS, max_intervals: 1_000 };
    let mut ledger = ReceivedLedger::in_memory(shape).unwrap();
    let start = std::time::Instant::now();
    for sequence in 1..=ROUNDS {
        for key in 0..KEYS {
            ledger.record(0, std::hint::black_box(key), sequence, sequence, || sequence);
        }
    }
    let per_message = start.elapsed().as_nanos() as f64 / (ROUNDS * u64::from(KEYS)) as f64;
    println!("received: {per_message:.2} ns per message");
    assert_eq!(ledger.to_record().intervals.len(), KEYS as usize);

    let mut ledger = SentLedger::in_memory(0, KEYS).unwrap();
    let start = std::time::Instant::now();
    for _ in 0..ROUNDS {
        for key in 0..KEYS {
            let key = std::hint::black_box(key);
            std::hint::black_box(ledger.begin(key));
            ledger.accepted(key);
        }
    }
    let per_message = start.elapsed().as_nanos() as f64 / (ROUNDS * u64::from(KEYS)) as f64;
    println!("sent: {per_message:.2} ns per message");
}
