//! The directory on its own: any order of merges leads to one content.

use proptest::prelude::*;

use super::*;
use crate::base::{HandlerId, LayoutHash, MessageType, Placed, WorkerIndex};
use crate::member::records::Merge;
use crate::wire::codec::{Reader, Writer};

fn record(name: &str, incarnation: u64, version: u64, state: MemberState, weight: u32) -> Record {
    let mut record = local(name, address(1), incarnation).into_record().unwrap();
    (record.version, record.member_mut().state, record.member_mut().weight) =
        (version, state, weight);
    record
}

fn directory(limit: usize) -> Directory {
    Directory::new(local("me", address(0), 1).into_record().unwrap(), limit)
}

fn any_record() -> impl Strategy<Value = Record> {
    let state = prop::sample::select(vec![
        MemberState::Joining,
        MemberState::Up,
        MemberState::Leaving,
        MemberState::Left,
        MemberState::Down,
    ]);
    let name = prop::sample::select(vec!["a", "b"]);
    (name, 1..4_u64, 1..4_u64, state, 1..3_u32).prop_map(
        |(name, incarnation, version, state, weight)| {
            record(name, incarnation, version, state, weight)
        },
    )
}

const WORKERS: u16 = 4;

fn service(path: &str, placed: Placed) -> Service {
    let messages = vec![MessageType::new("m", LayoutHash(1))];
    Service { path: path.parse().unwrap(), handler: HandlerId(3), placed, messages }
}

fn any_services() -> impl Strategy<Value = Vec<Service>> {
    let some = prop::collection::btree_set(0..WORKERS, 0..=usize::from(WORKERS));
    let placed = some.prop_map(|some| {
        Placed::new(some.into_iter().map(WorkerIndex).collect(), WORKERS).unwrap()
    });
    prop::collection::vec(placed, 0..4).prop_map(|all| {
        let paths = ["/user/a", "/user/b", "/user/c"];
        paths.into_iter().zip(all).map(|(path, placed)| service(path, placed)).collect()
    })
}

proptest! {
    #[test]
    fn merging_in_any_order_and_any_number_gives_one_content(
        (records, shuffled) in prop::collection::vec(any_record(), 0..12).prop_flat_map(|records| {
            let twice: Vec<Record> = records.iter().chain(&records).cloned().collect();
            (Just(records), Just(twice).prop_shuffle())
        })
    ) {
        let (mut left, mut right) = (directory(10), directory(10));
        for record in records {
            left.merge(Time::ZERO, record, true);
        }
        for record in shuffled {
            right.merge(Time::ZERO, record, true);
        }
        let content = |directory: &Directory| -> Vec<Record> {
            directory.entries.values().map(|entry| entry.record.clone()).collect()
        };
        prop_assert_eq!(content(&left), content(&right));
    }

    #[test]
    fn what_is_written_is_read(record in any_record(), services in any_services()) {
        let mut bytes = Vec::new();
        let mut record = record;
        record.member_mut().workers = WORKERS;
        record.member_mut().services = services;
        record.put(&mut Writer::new(&mut bytes));
        let mut expected = record;
        expected.member_mut().reachable = false;
        prop_assert_eq!(Record::read(&mut Reader::new(&bytes)).unwrap(), expected);
    }

    #[test]
    fn a_services_workers_are_read_in_one_form_only(
        named in prop::collection::vec(0..WORKERS + 2, 0..7),
    ) {
        let mut record = record("a", 1, 1, MemberState::Up, 1);
        record.member_mut().workers = WORKERS;
        let placed = Placed::default();
        record.member_mut().services = vec![service("/user/a", placed)];
        let mut bytes = Vec::new();
        record.put(&mut Writer::new(&mut bytes));
        // The workers' count stands before that of the message types, which has one of 10 bytes
        // and its name.
        let at = bytes.len() - 2 - (2 + 1 + 8) - 2;
        let mut list = (named.len() as u16).to_le_bytes().to_vec();
        named.iter().for_each(|worker| list.extend(worker.to_le_bytes()));
        bytes.splice(at..at + 2, list);
        let read = Record::read(&mut Reader::new(&bytes));
        let ascend = named.is_sorted_by(|one, next| one < next);
        let there = named.iter().all(|worker| *worker < WORKERS);
        let some = named.len() < usize::from(WORKERS);
        prop_assert_eq!(read.is_ok(), ascend && there && some, "{:?}", named);
        if let Ok(read) = read {
            let placed = &read.member.services[0].placed;
            let is_on = |worker| named.is_empty() || named.contains(&worker);
            for worker in 0..WORKERS {
                prop_assert_eq!(placed.contains(WorkerIndex(worker)), is_on(worker));
            }
        }
    }
}

#[test]
fn a_reachable_members_name_is_not_given_away() {
    let mut directory = directory(10);
    let holder = record("a", 1, 1, MemberState::Up, 1);
    let mut rival = record("a", 2, 1, MemberState::Up, 1);
    rival.member_mut().address = address(2);
    assert_eq!(directory.merge(Time(1), holder.clone(), true), Merge::Added);
    let entry = directory.entries.get_mut(&holder.member.id).unwrap();
    entry.record.member_mut().reachable = true;
    assert_eq!(directory.merge(Time(2), rival.clone(), true), Merge::Refused);
    let entry = directory.entries.get_mut(&holder.member.id).unwrap();
    entry.record.member_mut().reachable = false;
    assert_eq!(directory.merge(Time(3), rival, true), Merge::Replaced);
    // The former holder is believed only if it is found to be alive and its heir is not.
    assert_eq!(directory.merge(Time(4), holder.clone(), false), Merge::Stale);
    assert_eq!(directory.merge(Time(5), holder, true), Merge::Replaced);
}

#[test]
fn a_full_directory_gives_up_the_oldest_former_member_first() {
    let mut directory = directory(4);
    let names = ["a", "b", "c", "d", "e"];
    let id = |name| NodeId::from_name(name);
    let mut merge = |at, name, state| directory.merge(Time(at), record(name, 1, 1, state, 1), true);
    assert_eq!(merge(1, names[0], MemberState::Up), Merge::Added);
    assert_eq!(merge(3, names[1], MemberState::Left), Merge::Added);
    assert_eq!(merge(2, names[2], MemberState::Down), Merge::Added);
    assert_eq!(merge(4, names[3], MemberState::Up), Merge::Added);
    assert_eq!(merge(5, names[4], MemberState::Up), Merge::Added);
    assert_eq!(merge(6, "f", MemberState::Up), Merge::Full);
    for name in ["a", "d", "e", "me"] {
        assert!(directory.get(id(name)).is_some(), "{name}");
    }
}

#[test]
fn what_a_node_may_say_of_itself_others_can_read() {
    for (workers, weight) in
        [(1, 1), (WorkerIndex::MOST, 1_000), (0, 1), (1_025, 1), (u16::MAX, 1), (1, 0), (1, 1_001)]
    {
        let local = LocalMember { workers, weight, ..local("me", address(0), 1) };
        let said = local.into_record();
        let mut other = record("me", 1, 1, MemberState::Joining, weight);
        other.member_mut().workers = workers;
        let mut bytes = Vec::new();
        other.put(&mut Writer::new(&mut bytes));
        let read = Record::read(&mut Reader::new(&bytes));
        assert_eq!(said.is_ok(), read.is_ok(), "{workers} workers of weight {weight}");
        let fits = (1..=1_024).contains(&workers) && (1..=1_000).contains(&weight);
        assert_eq!(said.is_ok(), fits, "{workers} workers of weight {weight}");
    }
}

/// A silence of one life is not counted to the next one.
#[test]
fn a_life_that_replaces_a_silent_one_is_unreachable_from_then_on() {
    let mut directory = directory(5);
    let silent = record("a", 1, 1, MemberState::Up, 1);
    let id = silent.member.id;
    assert_eq!(directory.merge(Time(1), silent, false), Merge::Added);
    let since = |directory: &Directory| directory.get(id).unwrap().unreachable_since;
    let later = record("a", 1, 2, MemberState::Up, 1);
    assert_eq!(directory.merge(Time(2), later, false), Merge::Changed);
    assert_eq!(since(&directory), Some(Time(1)));
    let heir = record("a", 2, 1, MemberState::Up, 1);
    assert_eq!(directory.merge(Time(3), heir, false), Merge::Replaced);
    assert_eq!(since(&directory), Some(Time(3)));
}
