//! What users leave with work, and what panics as it is dropped, takes no worker down.

use super::*;

/// Panics as it is dropped, unless that is within a panic.
struct Rude;

impl Drop for Rude {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "told to");
    }
}

fn work(net: &mut Net) -> crate::worker::Work<Rude> {
    net.cx_of(0, CALLER, |cx| {
        let kept = Rude;
        let work = cx.begin_work(move |_: &mut Caller, result, _| drop((result, kept))).unwrap();
        let kept = Rude;
        cx.stop_work_with(work.key(), move || drop(kept));
        work
    })
}

#[test]
fn what_stops_work_is_dropped_unused_when_the_work_has_ended() {
    let mut net = Net::new(1);
    drop(work(&mut net));
    net.sides[0].worker.take_result();
}

#[test]
fn a_result_that_no_routee_takes_is_dropped_on_a_worker_that_was_given_up() {
    let mut net = Net::new(1);
    work(&mut net).done(Rude);
    net.sides[0].worker.core.published.give_up();
    net.sides[0].worker.take_result();
}

#[test]
fn results_that_come_too_late_are_dropped_with_their_worker() {
    let mut net = Net::new(1);
    let (early, late) = (work(&mut net), work(&mut net));
    early.done(Rude);
    net.sides[0].worker.stop();
    late.done(Rude);
    drop(net);
}
