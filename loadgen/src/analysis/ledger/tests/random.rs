//! Random histories, whose truth is found message by message.

use proptest::prelude::*;

use super::*;

/// A random history: streams of several senders and keys, cut up, swapped, repeated and dropped.
fn histories() -> impl Strategy<Value = (Vec<SentRecord>, Vec<Reception>)> {
    let message = (0..3_usize, 0..3_u32, 0..4_u32, 0..14_u64);
    (
        prop::collection::vec(prop::collection::vec(0..12_u64, 4), 3),
        prop::collection::vec(message, 0..120),
        any::<bool>(),
    )
        .prop_map(|(counts, messages, mostly_in_order)| {
            let sent: Vec<SentRecord> = counts
                .iter()
                .enumerate()
                .map(|(sender, counts)| sent_record(sender as u32, counts))
                .collect();
            let mut next: BTreeMap<(u32, u32), u64> = BTreeMap::new();
            let history = messages
                .into_iter()
                .enumerate()
                .map(|(index, (receiver, sender, key, sequence))| {
                    let next = next.entry((sender, key)).or_insert(1);
                    // Long runs are rare among independent numbers; follow the stream mostly.
                    let sequence = if mostly_in_order && index % 5 != 0 { *next } else { sequence };
                    *next = sequence + 1;
                    let receiver = if mostly_in_order { index / 40 } else { receiver };
                    Reception { receiver, sender, key, sequence }
                })
                .collect();
            (sent, history)
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    /// One routee: everything is exact.
    #[test]
    fn any_history_at_one_routee_is_counted_exactly((sent, mut history) in histories()) {
        for reception in &mut history {
            reception.receiver = 0;
        }
        let truth = truth(&history, &sent);
        let audit = merge(&history, &sent, 1);
        prop_assert_eq!(audit.delivered, truth.delivered);
        prop_assert_eq!(audit.duplicated, truth.duplicated);
        prop_assert_eq!(audit.reordered, truth.reordered);
        prop_assert_eq!(audit.foreign, truth.foreign);
        prop_assert_eq!(audit.missing, truth.missing.len() as u64);
        prop_assert_eq!(lost_set(&audit), truth.missing);
    }

    /// Several routees: all but the number of reordered is exact, that is never too high, and is
    /// zero only if nothing was (a repeat of the same message elsewhere can hide one).
    #[test]
    fn any_history_at_several_routees_is_counted((sent, history) in histories()) {
        let truth = truth(&history, &sent);
        let audit = merge(&history, &sent, 3);
        prop_assert_eq!(audit.delivered, truth.delivered);
        prop_assert_eq!(audit.duplicated, truth.duplicated);
        prop_assert_eq!(audit.foreign, truth.foreign);
        prop_assert_eq!(lost_set(&audit), truth.missing);
        prop_assert!(audit.reordered <= truth.reordered, "{} > {}", audit.reordered, truth.reordered);
        if truth.duplicated == 0 && truth.reordered > 0 {
            prop_assert!(audit.reordered > 0, "missed {}", truth.reordered);
        }
    }

    /// Faults planted into a healthy run with a handoff, as a real one would have them.
    #[test]
    fn planted_faults_are_counted_exactly(
        length in 60..200_u64,
        handoff in 20..40_u64,
        lost in prop::collection::btree_set(1..200_u64, 0..5),
        repeated in prop::collection::btree_set(1..200_u64, 0..5),
        late_stretch in 0..4_u64,
        strayed in prop::collection::btree_set(1..200_u64, 0..5),
    ) {
        // Sequences up to `handoff` go to routee 0, later ones to routee 1.
        let right = |sequence| usize::from(sequence > handoff);
        let at = |receiver, sequence| Reception { receiver, sender: 0, key: 0, sequence };
        // The stretch before the handoff comes after the first message of the new owner. Faults
        // keep away from it by more than the grace, so that each is what it was planted as.
        let stretch = handoff - late_stretch + 1..=handoff;
        let far = |sequence: u64| sequence < handoff - 10 || sequence > handoff + 10;
        let lost: BTreeSet<u64> =
            lost.into_iter().filter(|&seq| seq <= length && far(seq)).collect();
        let repeated: BTreeSet<u64> = repeated
            .into_iter()
            .filter(|seq| *seq <= length && far(*seq) && !lost.contains(seq))
            .collect();
        let strayed: BTreeSet<u64> = strayed
            .into_iter()
            .filter(|seq| {
                *seq <= length && far(*seq) && !lost.contains(seq) && !repeated.contains(seq)
            })
            .collect();

        let mut history = Vec::new();
        let mut change_ns = 0;
        for sequence in 1..=length {
            if lost.contains(&sequence) || stretch.contains(&sequence) {
                continue;
            }
            let receiver = right(sequence) ^ usize::from(strayed.contains(&sequence));
            history.push(at(receiver, sequence));
            if repeated.contains(&sequence) {
                history.push(at(receiver, sequence));
            }
            if sequence == handoff + 1 {
                change_ns = history.len() as u64;
                history.extend(stretch.clone().map(|sequence| at(0, sequence)));
            }
        }
        let sent = [sent_record(0, &[length])];
        let tables = [
            OwnerTable { from_ns: 0, owners: vec![owner(0)] },
            OwnerTable { from_ns: change_ns, owners: vec![owner(1)] },
        ];
        let placement = Placement::Tables { tables: &tables, grace_ns: late_stretch + 1 };
        let received = play_with_change(&history, 2, change_ns);
        let audit = Audit::merge(&sent, &received, &[], placement);
        prop_assert_eq!(audit.missing, lost.len() as u64);
        prop_assert_eq!(audit.duplicated, repeated.len() as u64);
        prop_assert_eq!(audit.reordered, late_stretch);
        prop_assert_eq!(audit.misrouted, strayed.len() as u64);
        prop_assert_eq!(audit.balanced, lost.is_empty());
        prop_assert_eq!(audit.unaccounted, lost.len() as u64);
    }
}
