//! What work takes, and who does it. A processor does one thing after another; what comes meanwhile
//! waits for it, in order, and datagrams for which there is no room are lost, as in a kernel.

use std::time::Duration;

use super::events::{Event, LifeId, ProcessorId};
use super::process::SOCKET_DATAGRAMS;
use super::work::{Step, Work};
use super::world::World;

impl World {
    /// Something is about to happen: now, or when whoever does it has time.
    pub(super) fn put_off(&mut self, event: Event) -> Option<Event> {
        let Some(id) = self.processor_of(&event) else { return Some(event) };
        if let Event::Turn(life, index) = event
            && !self.is_due(life, index)
        {
            return None;
        }
        let now = self.net.now;
        let processor = self.processors.0.entry(id).or_default();
        if processor.waiting.is_empty() {
            if processor.free_at <= now {
                return Some(event);
            }
            self.net.queue.push(processor.free_at, Event::Free(id));
        }
        if matches!(event, Event::Datagram { .. }) {
            if processor.datagrams == SOCKET_DATAGRAMS {
                return None;
            }
            processor.datagrams += 1;
        }
        processor.waiting.push_back(event);
        None
    }

    /// A processor has time: what has waited for it for the longest time happens.
    pub(super) fn goes_on(&mut self, id: ProcessorId) {
        let now = self.net.now;
        while let Some(processor) = self.processors.0.get_mut(&id) {
            if processor.free_at > now && !processor.waiting.is_empty() {
                return self.net.queue.push(processor.free_at, Event::Free(id));
            }
            let Some(event) = processor.waiting.pop_front() else { return };
            processor.datagrams -= usize::from(matches!(event, Event::Datagram { .. }));
            let more = !processor.waiting.is_empty();
            if let Some(life) = self.life_of(&event) {
                self.ledger.lock().parts.loads.comes_to(life, more);
            }
            if let Event::Turn(life, index) = event
                && let Some(body) = self.lives[life].body.as_deref_mut()
            {
                body.workers[index].turn_at = now;
            }
            if let Some(event) = self.for_somebody(event) {
                self.does(event);
            }
        }
    }

    /// Something has happened, and took its time.
    pub(super) fn took(&mut self, id: Option<ProcessorId>, step: Step) {
        let (Some(id), Some(work)) = (id, self.plan.work) else { return };
        let processor = self.processors.0.entry(id).or_default();
        let from = processor.free_at.max(self.net.now);
        processor.free_at = from.plus(Duration::from_nanos(step.nanos() * work.times));
    }

    /// Whose control has to do something.
    fn life_of(&self, event: &Event) -> Option<LifeId> {
        match event {
            Event::Datagram { to, .. } => self.slots.get(*to).copied().flatten(),
            Event::Timer(life, _)
            | Event::Report(life, _)
            | Event::Tables(life, _)
            | Event::Job(life, ..)
            | Event::Connected(life, ..)
            | Event::Discovered(life) => Some(*life),
            _ => None,
        }
    }

    /// Who does what has to be done, if that takes time.
    pub(super) fn processor_of(&self, event: &Event) -> Option<ProcessorId> {
        let work = self.plan.work?;
        let (life, thread) = match event {
            Event::Turn(life, index) => (*life, index + 1),
            _ => (self.life_of(event)?, 0),
        };
        Some(self.processor(work, (life, thread)))
    }

    fn processor(&self, work: Work, (life, thread): (LifeId, usize)) -> ProcessorId {
        match work.shared {
            Some(processors) => (self.lives[life].slot % processors, 0),
            None => (life, thread),
        }
    }

    /// Whether something waits for a process's control to have time for it.
    pub(super) fn is_behind(&self, life: LifeId) -> bool {
        self.plan.work.is_some_and(|work| {
            let processor = self.processors.0.get(&self.processor(work, (life, 0)));
            processor.is_some_and(|processor| !processor.waiting.is_empty())
        })
    }

    fn is_due(&self, life: LifeId, index: usize) -> bool {
        let body = self.lives[life].body.as_deref();
        body.is_some_and(|body| body.workers[index].turn_at == self.net.now)
    }
}
