//! Which connections are open at the admin port, and who gives way when there are too many.
//!
//! A connection either *waits* for a whole request head, or is *served*. Only few may wait, and
//! each for a short time: when one more comes, one that waits gives way, the oldest of the address
//! that has most of them. So connections that say nothing, or half of something, cannot keep out
//! one that says what it wants, however many there are.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;
use std::time::Duration;

use tokio::time::Instant;

/// How many places there are, and for how long.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Connections that may wait at a time.
    pub waiting: usize,
    /// How long one may wait, for a request head or for its answer to be read.
    pub wait: Duration,
    /// How long a connection may live.
    pub life: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let (wait, life) = (Duration::from_secs(2), Duration::from_secs(30));
        Self { waiting: 64, wait, life }
    }
}

/// All places of one port.
#[derive(Clone, Debug)]
pub(super) struct Places {
    limits: Limits,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// By the order in which they came.
    places: BTreeMap<u64, State>,
}

#[derive(Debug)]
struct State {
    address: IpAddr,
    since: Instant,
    /// Since when it waits; `None` while it is served.
    waits_since: Option<Instant>,
    gave_way: bool,
    /// Of the task that reads or writes it.
    waker: Option<Waker>,
}

/// How a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It may go on until then.
    Until(Instant),
    /// It has to end, because it was in the way.
    GaveWay,
}

/// One connection's place, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    number: u64,
    places: Places,
}

impl Places {
    pub(super) fn new(limits: Limits) -> Self {
        Self { limits, open: Arc::default() }
    }

    /// A place for one that has just come.
    pub(super) fn enter(&self, address: IpAddr, now: Instant) -> Arc<Place> {
        let mut open = self.lock();
        open.make_room(self.limits.waiting, address);
        let number = open.next;
        open.next += 1;
        let state =
            State { address, since: now, waits_since: Some(now), gave_way: false, waker: None };
        open.places.insert(number, state);
        drop(open);
        Arc::new(Place { number, places: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Open {
    /// Lets connections that wait give way until one more may, from this address.
    fn make_room(&mut self, most: usize, newcomer: IpAddr) {
        let waiting = |state: &State| state.waits_since.is_some() && !state.gave_way;
        let mut by_address = BTreeMap::from([(newcomer, 1)]);
        for state in self.places.values().filter(|state| waiting(state)) {
            *by_address.entry(state.address).or_insert(0) += 1;
        }
        let mut surplus = by_address.values().sum::<usize>().saturating_sub(most.max(1));
        while surplus > 0 {
            let waiting = self.places.values_mut().filter(|state| waiting(state));
            let first = waiting
                .min_by_key(|state| (Reverse(by_address[&state.address]), state.waits_since));
            let Some(state) = first else { return };
            *by_address.entry(state.address).or_default() -= 1;
            state.gave_way = true;
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
            surplus -= 1;
        }
    }
}

impl Place {
    /// A whole request head has come.
    pub(super) fn served(&self) {
        self.change(|state| state.waits_since = None);
    }

    /// An answer is there, or a part of it was taken.
    pub(super) fn waits(&self, now: Instant) {
        self.change(|state| state.waits_since = Some(now));
    }

    /// A part of an answer was taken.
    pub(super) fn took(&self, now: Instant) {
        self.change(|state| state.waits_since = state.waits_since.map(|_| now));
    }

    /// How it stands; its task is woken should it have to give way.
    pub(super) fn look(&self, waker: &Waker) -> Standing {
        let Limits { wait, life, .. } = self.places.limits;
        let mut open = self.places.lock();
        let Some(state) = open.places.get_mut(&self.number) else { return Standing::GaveWay };
        if state.gave_way {
            return Standing::GaveWay;
        }
        if !state.waker.as_ref().is_some_and(|known| known.will_wake(waker)) {
            state.waker = Some(waker.clone());
        }
        let end = state.since + life;
        Standing::Until(state.waits_since.map_or(end, |since| end.min(since + wait)))
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        if let Some(state) = self.places.lock().places.get_mut(&self.number) {
            change(state);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    fn places() -> (Places, Instant) {
        let (wait, life) = (Duration::from_secs(2), Duration::from_secs(30));
        (Places::new(Limits { waiting: 2, wait, life }), Instant::now())
    }

    fn gave_way(place: &Place) -> bool {
        place.look(Waker::noop()) == Standing::GaveWay
    }

    #[test]
    fn the_oldest_that_waits_gives_way() {
        let (places, now) = places();
        let after = |ms| now + Duration::from_millis(ms);
        let served = places.enter(ONE, now);
        served.served();
        let [first, second, third] = [1, 2, 3].map(|ms| places.enter(ONE, after(ms)));
        assert_eq!(
            [&served, &first, &second, &third].map(|place| gave_way(place)),
            [false, true, false, false]
        );
        // One that was answered waits anew.
        second.served();
        second.waits(after(4));
        let fourth = places.enter(ONE, after(5));
        assert_eq!([&second, &third, &fourth].map(|place| gave_way(place)), [false, true, false]);
    }

    #[test]
    fn an_address_that_takes_many_places_loses_them_first() {
        let (places, now) = places();
        let lone = places.enter(OTHER, now);
        let crowd = [1, 2, 3].map(|ms| places.enter(ONE, now + Duration::from_millis(ms)));
        assert!(!gave_way(&lone));
        assert_eq!(crowd.map(|place| gave_way(&place)), [true, true, false]);
    }

    #[test]
    fn a_place_that_is_left_is_free() {
        let (places, now) = places();
        let [first, second] = [places.enter(ONE, now), places.enter(ONE, now)];
        drop(first);
        let third = places.enter(ONE, now);
        assert!(!gave_way(&second) && !gave_way(&third));
    }

    #[test]
    fn waiting_ends_sooner_than_being_served() {
        let (places, now) = places();
        let at = |place: &Place| match place.look(Waker::noop()) {
            Standing::Until(end) => end.duration_since(now).as_secs(),
            Standing::GaveWay => panic!("nobody is in its way"),
        };
        let place = places.enter(ONE, now);
        assert_eq!(at(&place), 2);
        place.served();
        assert_eq!(at(&place), 30);
        place.took(now + Duration::from_secs(5));
        assert_eq!(at(&place), 30, "it is still served");
        place.waits(now + Duration::from_secs(10));
        assert_eq!(at(&place), 12);
        place.took(now + Duration::from_secs(11));
        assert_eq!(at(&place), 13);
        place.waits(now + Duration::from_secs(29));
        assert_eq!(at(&place), 30);
    }
}
