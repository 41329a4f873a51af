//! The routees of a worker: they are made, replaced after a panic, woken, and ended with their path
//! or with the worker.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::context::Context;
use super::core::{Core, Timer, Waiter};
use super::handler::Hosted;
use super::{Request, RouteeFactory, Worker};
use crate::base::HandlerId;
use crate::base::fate::WorkEnd;
use crate::part::RouteeChange;

pub(super) struct RouteeSlot {
    pub id: HandlerId,
    pub factory: RouteeFactory,
    pub hosted: Box<dyn Hosted>,
}

impl RouteeSlot {
    /// Whether it panicked.
    fn run(
        &mut self,
        core: &mut Core,
        run: impl FnOnce(&mut dyn Hosted, &mut Context<'_>),
    ) -> bool {
        core.published.pulse.calls(self.id.0);
        core.last_call = (self.id, None);
        let mut cx = Context { core, handler: self.id, origin: None };
        let hosted = self.hosted.as_mut();
        catch_unwind(AssertUnwindSafe(|| run(hosted, &mut cx))).is_err()
    }

    /// Tells it that this is its end. There is no more to do for one that panics then.
    fn end(mut self, core: &mut Core) {
        self.run(core, |hosted, cx| hosted.stopped(cx));
        drop_quietly(self);
    }
}

/// A destructor that panics as well must not take the worker down.
pub(super) fn drop_quietly<T>(gone: T) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(gone)));
}

/// The routee of a handler, if it runs here.
#[inline]
pub(super) fn running(
    routees: &mut [Option<RouteeSlot>],
    id: HandlerId,
) -> Option<&mut RouteeSlot> {
    routees.get_mut(id.slot())?.as_mut().filter(|slot| slot.id == id)
}

impl Worker {
    /// Starts this worker's routee of a path. If the user's function panics there is none here,
    /// and whoever serves the path is told.
    pub fn serve(&mut self, id: HandlerId, factory: RouteeFactory) {
        let index = self.core.index;
        let Ok(hosted) = catch_unwind(AssertUnwindSafe(|| factory.make(index))) else {
            self.core.requests.push(Request::ServeFailed(id));
            return;
        };
        if self.routees.len() <= id.slot() {
            self.routees.resize_with(id.slot() + 1, || None);
        }
        self.routees[id.slot()] = Some(RouteeSlot { id, factory, hosted });
        self.routee_changed(id, RouteeChange::Started);
        self.start_routee(id);
        self.core.requests.push(Request::Served(id));
    }

    /// Ends this worker's routee of a path, if there is one: what still comes for it dies, and what
    /// it waited for does not come.
    pub fn withdraw(&mut self, id: HandlerId) {
        let place = self.routees.get_mut(id.slot());
        if let Some(slot) = place.and_then(|place| place.take_if(|slot| slot.id == id)) {
            slot.end(&mut self.core);
            // What it began as it ended, too.
            self.core.forget_waits_of(id);
            self.core.drop_work_of(id, WorkEnd::Withdrawn);
            self.routee_changed(id, RouteeChange::Withdrawn);
        }
        self.core.requests.push(Request::Withdrawn(id));
    }

    /// Replaces a routee whose state may be broken after a panic by a fresh one.
    #[cold]
    pub(super) fn restart(&mut self, id: HandlerId) {
        if self.replace(id) {
            self.routee_changed(id, RouteeChange::Replaced);
            self.start_routee(id);
        }
    }

    /// False when not even a fresh routee could be made; the old one stays then.
    #[cold]
    fn replace(&mut self, id: HandlerId) -> bool {
        let index = self.core.index;
        let Some(slot) = running(&mut self.routees, id) else { return false };
        let fresh = catch_unwind(AssertUnwindSafe(|| slot.factory.make(index)));
        let Ok(fresh) = fresh else { return false };
        drop_quietly(std::mem::replace(&mut slot.hosted, fresh));
        self.core.drop_work_of(id, WorkEnd::Replaced);
        true
    }

    fn start_routee(&mut self, id: HandlerId) {
        if self.with_routee(id, |hosted, cx| hosted.started(cx)) {
            // Not started again: one that panics whenever it starts would never come to an end.
            if self.replace(id) {
                self.routee_changed(id, RouteeChange::Replaced);
            }
        }
    }

    /// Tells every routee that its worker stops.
    pub(super) fn end_routees(&mut self) {
        for slot in std::mem::take(&mut self.routees).into_iter().flatten() {
            slot.end(&mut self.core);
        }
        self.core.drop_all_work();
    }

    pub(super) fn wake(&mut self, id: HandlerId, token: u64) {
        if self.with_routee(id, |hosted, cx| hosted.wake(token, cx)) {
            self.restart(id);
        }
    }

    /// Whether it panicked; false as well when it does not run here.
    pub(super) fn with_routee(
        &mut self,
        id: HandlerId,
        run: impl FnOnce(&mut dyn Hosted, &mut Context<'_>),
    ) -> bool {
        let slot = running(&mut self.routees, id);
        slot.is_some_and(|slot| slot.run(&mut self.core, run))
    }
}

impl Core {
    /// Calls off the times that a routee set, and gives up what it asked for: replies come late.
    #[cold]
    fn forget_waits_of(&mut self, id: HandlerId) {
        let times = self
            .timers
            .find(|timer| matches!(timer, Timer::Wake { handler, .. } if *handler == id));
        for time in times {
            self.timers.cancel(time);
        }
        self.soon.retain(|(handler, _)| *handler != id);
        let asks = self
            .asks
            .find(|waiter| matches!(waiter, Waiter::Routee { handler, .. } if *handler == id));
        for ask in asks {
            if self.asks.cancel(ask, &mut self.ask_effects).is_some() {
                self.counts.failed_asks += 1;
            }
        }
        self.carry_asks();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::super::testnet::*;
    use super::super::{HandlerTable, Routee};
    use super::*;
    use crate::base::fate::{AskError, DeathReason};

    /// Notes its end, and begins things that must not outlive it.
    struct Restless(Arc<Mutex<Vec<&'static str>>>);

    impl Routee for Restless {
        fn register(_: &mut HandlerTable<Self>) {}
        fn wake(&mut self, _: u64, _: &mut Context<'_>) {
            self.0.lock().unwrap().push("woken");
        }
        fn stopped(&mut self, cx: &mut Context<'_>) {
            self.0.lock().unwrap().push("stopped");
            cx.wake_after(Duration::ZERO, 1);
            cx.wake_after(Duration::from_secs(60), 2);
            panic!("told to");
        }
    }

    #[test]
    fn what_comes_for_a_withdrawn_routee_dies_and_its_path_can_be_served_again() {
        let mut net = Net::joined(2);
        let told = Arc::clone(&net.sides[1].seen);
        let factory = RouteeFactory::new(move |_| Echo::new(&told));
        net.ask(0, ROUND_ROBIN, &ping(0), 0).unwrap();
        net.cx(0, |cx| cx.tell_to(&reference(1), &ping(1))).unwrap();
        net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(1), &ping(2), WITHIN, 2)).unwrap();
        net.effects(1);
        net.sides[1].worker.withdraw(ECHO);
        assert_eq!(net.effects(1), [Effect::Withdrawn(ECHO.0)]);
        net.settle();
        assert!(net.seen(1, |seen| seen.keys.is_empty()));
        let unknown = Err(AskError::Dead(DeathReason::UnknownHandler));
        assert!(net.outcomes(0).contains(&(2, unknown)));

        let again = ECHO.next().unwrap();
        net.sides[1].worker.serve(again, factory);
        net.sides[1].worker.withdraw(ECHO);
        let mut effects = net.effects(1);
        effects.retain(|effect| !matches!(effect, Effect::Dead(..)));
        assert_eq!(effects, [Effect::Served(again.0), Effect::Withdrawn(ECHO.0)]);
        let mut to = reference(1);
        for (handler, keys) in [(ECHO, vec![]), (again, vec![4])] {
            to.handler = handler;
            net.cx(0, |cx| cx.tell_to(&to, &ping(4))).unwrap();
            net.settle();
            assert_eq!(net.seen(1, |seen| seen.keys.clone()), keys, "{handler:?}");
        }
    }

    #[test]
    fn a_withdrawn_routee_hears_nothing_more() {
        let mut net = Net::joined(2);
        net.cx(0, |cx| cx.wake_after(Duration::from_secs(60), 5));
        net.cx(0, |cx| cx.wake_after(Duration::ZERO, 6));
        for token in 0..3 {
            net.cx(0, |cx| cx.ask_to::<Caller, _>(&reference(1), &ping(7), WITHIN, token)).unwrap();
        }
        net.sides[0].worker.withdraw(CALLER);
        let core = &net.sides[0].worker.core;
        assert!(core.asks.is_empty() && core.timers.is_empty() && core.soon.is_empty());
        net.settle();
        assert_eq!(net.outcomes(0), []);
        let counts = net.counts(0);
        assert_eq!((counts.asks, counts.failed_asks, counts.late_replies), (3, 3, 3));
    }

    #[test]
    fn a_routee_that_panics_at_its_end_was_told_once_and_leaves_nothing() {
        let mut net = Net::new(1);
        let (id, steps) = (HandlerId(2), Arc::default());
        let its = Arc::clone(&steps);
        let worker = &mut net.sides[0].worker;
        worker.serve(id, RouteeFactory::new(move |_| Restless(Arc::clone(&its))));
        worker.withdraw(id);
        assert!(worker.core.timers.is_empty());
        net.settle();
        net.sides[0].worker.withdraw(id);
        net.sides[0].worker.stop();
        assert_eq!(*steps.lock().unwrap(), ["stopped"]);
        let ends = [Effect::Served(2), Effect::Withdrawn(2), Effect::Withdrawn(2)];
        assert_eq!(net.effects(0)[..3], ends);
        assert_eq!(Arc::strong_count(&steps), 1, "its factory is gone as well");
    }
}
