//! The routees of a worker: they are made, replaced after a panic, woken, and ended with their path
//! or with the worker.

use std::sync::Arc;

use super::Worker;
use super::core::{Context, Core, Waiter};
use super::handler::{Hosted, LateStart, RouteeFactory};
use super::panics::{caught, drop_quietly};
use super::request::Request;
use crate::base::fate::WorkEnd;
use crate::base::{HandlerId, InstanceId};
use crate::part::RouteeChange;

/// What of a user's code runs as a routee is made.
const MADE: &str = "its function that makes a routee";

pub(super) struct RouteeSlot {
    pub id: InstanceId,
    pub factory: RouteeFactory,
    pub hosted: Box<dyn Hosted>,
}

impl RouteeSlot {
    /// Whether it panicked.
    fn run(
        &mut self,
        core: &mut Core,
        hook: &'static str,
        run: impl FnOnce(&mut dyn Hosted, &mut Context<'_>),
    ) -> bool {
        core.published.pulse.calls(self.id.handler.0, 0);
        core.calls.hook(self.id.handler, hook);
        let mut cx = Context { core, instance: self.id, origin: None };
        let hosted = self.hosted.as_mut();
        let outcome = caught(|| run(hosted, &mut cx));
        outcome.map_err(|payload| core.note_panic(self.id.handler, hook.into(), payload)).is_err()
    }

    /// Tells it that this is its end. There is no more to do for one that panics then.
    fn end(mut self, core: &mut Core) {
        if !core.published.is_given_up() {
            self.run(core, "stopped", |hosted, cx| hosted.stopped(cx));
        }
        drop_quietly(self);
    }
}

/// The routee that is meant, if it runs here.
#[inline]
pub(super) fn running(
    routees: &mut [Option<RouteeSlot>],
    id: InstanceId,
) -> Option<&mut RouteeSlot> {
    routees.get_mut(id.handler.slot())?.as_mut().filter(|slot| id.is(slot.id))
}

impl Worker {
    /// Starts this worker's routee of a path. If the user's function panics, or the routee as it is
    /// started, there is none here, and whoever serves the path is told.
    pub fn serve(&mut self, handler: HandlerId, factory: RouteeFactory) {
        self.core.note_path(handler, &factory);
        self.core.kinds.note(handler, factory.kind());
        let Some(hosted) = self.core.make(handler, &factory) else {
            drop_quietly(factory);
            self.core.requests.push(Request::ServeFailed(handler));
            return;
        };
        if self.routees.len() <= handler.slot() {
            self.routees.resize_with(handler.slot() + 1, || None);
        }
        let id = InstanceId { handler, life: Some(self.next_life) };
        self.next_life = self.next_life.next();
        let slot = RouteeSlot { id, factory, hosted };
        drop_quietly(self.routees[handler.slot()].replace(slot));
        self.routee_changed(id, RouteeChange::Started);
        if self.with_routee(id, "started", |hosted, cx| hosted.started(cx)) == Some(true) {
            drop_quietly(self.routees[handler.slot()].take());
            self.forget(id);
            self.core.requests.push(Request::ServeFailed(handler));
            return;
        }
        self.core.requests.push(Request::Served(handler));
    }

    /// Ends this worker's routee of a path, if there is one: what still comes for it dies, and what
    /// it waited for does not come.
    pub fn withdraw(&mut self, handler: HandlerId) {
        let place = self.routees.get_mut(handler.slot());
        let slot = place.and_then(|place| place.take_if(|slot| slot.id.handler == handler));
        if let Some(slot) = slot {
            let id = slot.id;
            slot.end(&mut self.core);
            // What it began as it ended, too.
            self.forget(id);
        }
        self.core.requests.push(Request::Withdrawn(handler));
    }

    /// A routee has gone, with its path.
    fn forget(&mut self, id: InstanceId) {
        self.core.forget_waits_of(id);
        self.core.end_work_of(id, WorkEnd::Withdrawn);
        self.routee_changed(id, RouteeChange::Withdrawn);
    }

    /// Replaces a routee whose state may be broken after a panic by a fresh one.
    #[cold]
    pub(super) fn restart(&mut self, id: InstanceId) {
        let Some(slot) = running(&mut self.routees, id) else { return };
        let made = self.core.make(id.handler, &slot.factory);
        let late = made.is_none();
        let fresh = self.replace(id, made);
        if !late
            && self.with_routee(fresh, "started", |hosted, cx| hosted.started(cx)) == Some(true)
        {
            self.replace(fresh, None);
        }
    }

    /// Puts another one in the place of one that runs, or none yet, which comes with the next message.
    /// It has another life, which gets nothing that the one before waited for.
    #[cold]
    fn replace(&mut self, id: InstanceId, by: Option<Box<dyn Hosted>>) -> InstanceId {
        let index = self.core.index;
        let Some(slot) = running(&mut self.routees, id) else { return id };
        let by = by.unwrap_or_else(|| Box::new(LateStart::new(slot.factory.clone(), index)));
        drop_quietly(std::mem::replace(&mut slot.hosted, by));
        slot.id.life = Some(self.next_life);
        self.next_life = self.next_life.next();
        let fresh = slot.id;
        self.core.end_work_of(id, WorkEnd::Replaced);
        self.core.forget_waits_of(id);
        self.routee_changed(fresh, RouteeChange::Replaced);
        fresh
    }

    /// Tells every routee that its worker stops.
    pub(super) fn end_routees(&mut self) {
        for slot in std::mem::take(&mut self.routees).into_iter().flatten() {
            slot.end(&mut self.core);
        }
        let Core { works, published, .. } = &mut self.core;
        works.end_all(WorkEnd::Stopped, published);
    }

    pub(super) fn wake(&mut self, id: InstanceId, token: u64) {
        match self.with_routee(id, "wake", |hosted, cx| hosted.wake(token, cx)) {
            Some(true) => self.restart(id),
            Some(false) => {}
            None => self.core.published.tally.void_wakes.add(1),
        }
    }

    /// Whether it panicked; `None` when this life of it does not run here any more.
    pub(super) fn with_routee(
        &mut self,
        id: InstanceId,
        hook: &'static str,
        run: impl FnOnce(&mut dyn Hosted, &mut Context<'_>),
    ) -> Option<bool> {
        let slot = running(&mut self.routees, id).filter(|_| !self.core.published.is_given_up())?;
        Some(slot.run(&mut self.core, hook, run))
    }
}

impl Core {
    /// `None` when the user's function panics, or on a worker that its node has given up, where
    /// nothing of users' runs any more.
    fn make(&mut self, handler: HandlerId, factory: &RouteeFactory) -> Option<Box<dyn Hosted>> {
        if self.published.is_given_up() {
            return None;
        }
        let made = caught(|| factory.make(self.index));
        made.map_err(|payload| self.note_panic(handler, MADE.into(), payload)).ok()
    }

    fn note_path(&mut self, handler: HandlerId, factory: &RouteeFactory) {
        if self.paths.len() <= handler.slot() {
            self.paths.resize(handler.slot() + 1, None);
        }
        self.paths[handler.slot()] = factory.path().map(|path| (handler, path));
    }

    /// Where a handler is served, also as it is started and ended, when no member record names it.
    pub(super) fn path_of(&self, handler: HandlerId) -> Arc<str> {
        let known = self.paths.get(handler.slot()).and_then(Option::as_ref);
        match known.filter(|(known, _)| *known == handler) {
            Some((_, path)) => Arc::clone(path),
            None => format!("handler {}", handler.0).into(),
        }
    }

    /// Ends the work of a routee that is no more.
    #[cold]
    fn end_work_of(&mut self, id: InstanceId, end: WorkEnd) {
        self.works.end_of(id, end, &self.published);
    }

    /// Calls off the times that a routee set, and gives up what it asked for: replies come late.
    #[cold]
    fn forget_waits_of(&mut self, id: InstanceId) {
        let times = self.wakes.find(|(instance, _)| *instance == id);
        self.published.tally.void_wakes.add(times.len() as u64);
        for time in times {
            self.wakes.cancel(time);
        }
        let before = self.soon.len();
        self.soon.retain(|(instance, _)| *instance != id);
        self.published.tally.void_wakes.add((before - self.soon.len()) as u64);
        let asks = self
            .asks
            .find(|waiter| matches!(waiter, Waiter::Routee { instance, .. } if *instance == id));
        for ask in asks {
            if self.asks.cancel(ask, &mut self.ask_effects).is_some() {
                self.published.tally.failed_asks.add(1);
            }
        }
        self.carry_asks();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use super::super::testnet::{
        ArchivedPing, CALLER, Caller, DROP, ECHO, Echo, Effect, Net, PANIC as PANICS, Ping, REPLY,
        ROUND_ROBIN, WITHIN, doing, ping, reference,
    };
    use super::super::{AskOptions, Handler, HandlerTable, OnReply, Routee};
    use super::*;
    use crate::base::LifeNumber;
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
            to.id.instance = InstanceId::running(handler);
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
        assert!(core.asks.is_empty() && core.wakes.is_empty() && core.soon.is_empty());
        net.settle();
        assert_eq!(net.outcomes(0), []);
        let counts = net.counts(0);
        assert_eq!((counts.asks, counts.failed_asks, counts.late_replies), (3, 3, 3));
    }

    /// Which life was called with which token.
    type Calls = Arc<Mutex<Vec<(LifeNumber, u64)>>>;

    /// Waits for everything that can be waited for, and panics when told to.
    struct Waiting(Calls);

    const WAITING: HandlerId = HandlerId(2);
    const WAIT: u64 = 1;
    const PANIC: u64 = 2;

    impl Waiting {
        fn note(&self, cx: &Context<'_>, token: u64) {
            let life = cx.id().instance.life.expect("what runs has a life");
            self.0.lock().unwrap().push((life, token));
        }
    }

    impl Routee for Waiting {
        fn register(_: &mut HandlerTable<Self>) {}
        fn wake(&mut self, token: u64, cx: &mut Context<'_>) {
            self.note(cx, token);
            match token {
                WAIT => {
                    cx.wake_soon(PANIC);
                    cx.wake_soon(3);
                    cx.wake_after(Duration::from_millis(5), 4);
                    cx.wake_after(Duration::from_secs(60), 5);
                    cx.ask_to::<Self, _>(&reference(1), &ping(0), WITHIN, 6).unwrap();
                    let again = AskOptions::within(WITHIN).idempotent();
                    cx.ask_to::<Self, _>(&reference(1), &ping(1), again, 7).unwrap();
                    cx.ask_to::<Self, _>(&reference(1), &doing(2, DROP), WITHIN, 8).unwrap();
                }
                PANIC => panic!("told to"),
                _ => {}
            }
        }
    }

    impl OnReply<Ping> for Waiting {
        fn on_reply(
            &mut self,
            token: u64,
            _: Result<&rkyv::rend::u64_le, AskError>,
            cx: &mut Context<'_>,
        ) {
            self.note(cx, token);
        }
    }

    /// A routee that waits, and what became of the times and asks of its lives.
    fn waiting() -> (Net, RouteeFactory, Calls) {
        let (mut net, seen) = (Net::joined(2), Arc::default());
        let its = Arc::clone(&seen);
        let factory = RouteeFactory::new(move |_| Waiting(Arc::clone(&its)));
        net.sides[0].worker.serve(WAITING, factory.clone());
        assert_eq!(net.effects(0), [Effect::Served(2)]);
        net.cx_of(0, WAITING, |cx| cx.wake_soon(WAIT));
        (net, factory, seen)
    }

    /// All that was waited for has ended, and none of it reached a later life.
    fn nothing_came(net: &mut Net, seen: &Mutex<Vec<(LifeNumber, u64)>>, before: &[u64]) {
        net.pass(70_000);
        net.settle();
        let first = seen.lock().unwrap()[0].0;
        let seen: Vec<u64> = seen
            .lock()
            .unwrap()
            .iter()
            .map(|(life, token)| {
                assert_eq!(*life, first, "token {token} came to a later life");
                *token
            })
            .collect();
        assert_eq!(seen, before);
        let counts = net.counts(0);
        assert_eq!((counts.asks, counts.replies, counts.failed_asks), (3, 0, 3));
        assert_eq!(counts.late_replies, 2, "what was answered all the same; one was not");
        let core = &net.sides[0].worker.core;
        assert!(core.asks.is_empty() && core.wakes.is_empty() && core.soon.is_empty());
    }

    #[test]
    fn a_routee_that_was_replaced_leaves_its_successor_nothing() {
        let (mut net, _, seen) = waiting();
        net.settle();
        assert_ne!(
            net.cx_of(0, WAITING, |cx| cx.id().instance.life),
            Some(seen.lock().unwrap()[0].0)
        );
        nothing_came(&mut net, &seen, &[WAIT, PANIC]);
        assert_eq!(net.counts(0).void_wakes, 3, "one was due in the same turn");
    }

    #[test]
    fn a_routee_that_is_served_again_gets_nothing_of_the_one_before() {
        let (mut net, factory, seen) = waiting();
        net.sides[0].worker.run();
        net.sides[0].worker.withdraw(WAITING);
        net.sides[0].worker.serve(WAITING.next().unwrap(), factory.clone());
        nothing_came(&mut net, &seen, &[WAIT]);
        assert_eq!(net.counts(0).void_wakes, 4);

        // Even under the same id, which no control gives out twice.
        let (mut net, _, seen) = waiting();
        net.sides[0].worker.run();
        net.sides[0].worker.withdraw(WAITING);
        let its = Arc::clone(&seen);
        let same = RouteeFactory::new(move |_| Waiting(Arc::clone(&its)));
        net.sides[0].worker.serve(WAITING, same);
        nothing_came(&mut net, &seen, &[WAIT]);
    }

    #[test]
    fn what_is_due_when_its_routee_ends_is_counted() {
        let (mut net, _, seen) = waiting();
        let worker = &mut net.sides[0].worker;
        worker.run();
        let old = worker.routees[WAITING.slot()].as_ref().unwrap().id;
        worker.restart(old);
        // As those that were taken out of their lists before.
        let before = worker.counts();
        worker.wake(old, 9);
        let waiter = || Waiter::Routee {
            instance: old,
            token: 9,
            deliver: super::super::asking::deliver_reply::<Waiting, Ping>,
        };
        worker.end_ask(waiter(), Ok(&[]));
        worker.end_ask(waiter(), Err(AskError::Timeout));
        let after = worker.counts();
        assert_eq!(after.void_wakes - before.void_wakes, 1);
        let asks = (after.replies, after.failed_asks - before.failed_asks);
        assert_eq!((asks, after.late_replies - before.late_replies), ((0, 2), 1));
        assert_eq!(seen.lock().unwrap().len(), 1, "nothing reached its successor");
    }

    #[test]
    fn a_routee_that_panics_at_its_end_was_told_once_and_leaves_nothing() {
        let mut net = Net::new(1);
        let (id, steps) = (HandlerId(2), Arc::default());
        let its = Arc::clone(&steps);
        let worker = &mut net.sides[0].worker;
        worker.serve(id, RouteeFactory::new(move |_| Restless(Arc::clone(&its))));
        worker.withdraw(id);
        assert!(worker.core.wakes.is_empty());
        net.settle();
        net.sides[0].worker.withdraw(id);
        net.sides[0].worker.stop();
        assert_eq!(*steps.lock().unwrap(), ["stopped"]);
        let ends = [Effect::Served(2), Effect::Withdrawn(2), Effect::Withdrawn(2)];
        assert_eq!(net.effects(0)[..3], ends);
        assert_eq!(Arc::strong_count(&steps), 1, "its factory is gone as well");
    }

    const SHAKY: HandlerId = HandlerId(2);

    /// Panics so many times as it is started, and notes when it was and what it has handled.
    #[derive(Clone, Default)]
    struct Shaky {
        panics: Arc<AtomicU64>,
        seen: Arc<Mutex<Vec<&'static str>>>,
    }

    impl Shaky {
        fn took(&self) -> Vec<&'static str> {
            std::mem::take(&mut self.seen.lock().unwrap())
        }
    }

    impl Routee for Shaky {
        fn register(handlers: &mut HandlerTable<Self>) {
            handlers.add::<Ping>();
        }
        fn started(&mut self, cx: &mut Context<'_>) {
            cx.wake_after(Duration::from_secs(60), 1);
            if self.panics.load(Ordering::Relaxed) > 0 {
                self.panics.fetch_sub(1, Ordering::Relaxed);
                panic!("told to");
            }
            self.seen.lock().unwrap().push("started");
        }
    }

    impl Handler<Ping> for Shaky {
        type Reply = u64;
        fn handle(&mut self, ping: &ArchivedPing, _: &mut Context<'_>) -> u64 {
            assert_ne!(ping.what.to_native(), PANICS, "told to");
            self.seen.lock().unwrap().push("handled");
            0
        }
    }

    fn tell_shaky(net: &mut Net, what: u64) {
        let mut to = reference(0);
        to.id.instance = InstanceId::running(SHAKY);
        net.cx(0, |cx| cx.tell_to(&to, &doing(1, what))).unwrap();
        net.settle();
    }

    #[test]
    fn a_path_whose_routee_panics_as_it_is_started_is_not_served() {
        let (mut net, shaky) = (Net::new(1), Shaky::default());
        let its = shaky.clone();
        let factory = RouteeFactory::new(move |_| its.clone());
        shaky.panics.store(1, Ordering::Relaxed);
        net.sides[0].worker.serve(SHAKY, factory.clone());
        assert_eq!(net.effects(0), [Effect::ServeFailed(SHAKY.0)]);
        assert!(net.sides[0].worker.core.wakes.is_empty(), "what it began is called off");
        tell_shaky(&mut net, REPLY);
        assert_eq!(net.effects(0), [Effect::Dead(DeathReason::UnknownHandler, 1, Some(0))]);
        net.sides[0].worker.serve(SHAKY, factory);
        assert_eq!(net.effects(0), [Effect::Served(SHAKY.0)]);
        tell_shaky(&mut net, REPLY);
        assert_eq!(shaky.took(), ["started", "handled"]);
    }

    #[test]
    fn no_routee_handles_a_message_before_it_was_started() {
        let (mut net, shaky) = (Net::new(1), Shaky::default());
        let its = shaky.clone();
        net.sides[0].worker.serve(SHAKY, RouteeFactory::new(move |_| its.clone()));
        assert_eq!(shaky.took(), ["started"]);
        // The fresh one panics as it is started; the next one is started with its first message.
        shaky.panics.store(1, Ordering::Relaxed);
        tell_shaky(&mut net, PANICS);
        assert_eq!(shaky.took(), [""; 0]);
        tell_shaky(&mut net, REPLY);
        tell_shaky(&mut net, REPLY);
        assert_eq!(shaky.took(), ["started", "handled", "handled"]);
        // One that always panics is tried with each message, and not for ever.
        shaky.panics.store(5, Ordering::Relaxed);
        tell_shaky(&mut net, PANICS);
        for _ in 0..2 {
            tell_shaky(&mut net, REPLY);
        }
        assert_eq!((shaky.took(), shaky.panics.load(Ordering::Relaxed)), (vec![], 0));
        tell_shaky(&mut net, REPLY);
        assert_eq!(shaky.took(), ["started", "handled"]);
        let counts = net.counts(0);
        assert_eq!(counts.dead[DeathReason::HandlerPanicked as usize], 4, "{counts:?}");
        assert_eq!(counts.in_flight(), 0);
    }

    /// Of each fate that its factory is told, one: whether it panics as it makes a routee.
    fn shaky_made_by(shaky: &Shaky, fates: &Arc<Mutex<Vec<bool>>>) -> RouteeFactory {
        let (its, fates) = (shaky.clone(), Arc::clone(fates));
        RouteeFactory::new(move |_| {
            let panics = fates.lock().unwrap().pop();
            assert_ne!(panics, Some(true), "told to");
            its.clone()
        })
    }

    #[test]
    fn what_panicked_is_gone_also_when_no_other_could_be_made() {
        let (mut net, shaky, fates) = (Net::new(1), Shaky::default(), Arc::default());
        net.sides[0].worker.serve(SHAKY, shaky_made_by(&shaky, &fates));
        let first = net.cx_of(0, SHAKY, |cx| cx.id().instance.life);
        assert_eq!(shaky.took(), ["started"]);
        fates.lock().unwrap().extend([true, true]);
        tell_shaky(&mut net, PANICS);
        let core = &net.sides[0].worker.core;
        assert!(core.wakes.is_empty(), "what it had waited for is called off");
        assert_ne!(net.cx_of(0, SHAKY, |cx| cx.id().instance.life), first);
        tell_shaky(&mut net, REPLY);
        assert_eq!(shaky.took(), ["started"], "the next, as the second could not be made either");
        tell_shaky(&mut net, REPLY);
        assert_eq!(shaky.took(), ["handled"]);
        let counts = net.counts(0);
        assert_eq!(counts.dead[DeathReason::HandlerPanicked as usize], 2, "{counts:?}");
        assert_eq!(counts.in_flight(), 0);
    }

    #[test]
    fn one_that_panics_as_it_is_started_handles_nothing_whatever_its_factory_does() {
        let (mut net, shaky, fates) = (Net::new(1), Shaky::default(), Arc::default());
        net.sides[0].worker.serve(SHAKY, shaky_made_by(&shaky, &fates));
        assert_eq!(shaky.took(), ["started"]);
        shaky.panics.store(1, Ordering::Relaxed);
        fates.lock().unwrap().extend([true, true, false]);
        tell_shaky(&mut net, PANICS);
        assert_eq!(shaky.took(), [""; 0]);
        tell_shaky(&mut net, REPLY);
        assert_eq!(shaky.took(), [""; 0], "neither of the next two could be made");
        net.sides[0].worker.withdraw(SHAKY);
        assert_eq!(net.counts(0).in_flight(), 0);
    }
}
