//! The paths that this node serves: each comes to be, is known to the cluster, and can be withdrawn.
//!
//! A path has its placement: the workers that run it, which are every one unless it was served
//! otherwise. Only they are told, and only they are waited for.
//!
//! The cluster learns of a path when they all run it, so that no message can come too early.
//! It learns that the path is withdrawn first, and the workers end their routees after a grace, by
//! when the others have heard: until then what they still send is handled. A path that cannot be
//! served after all is withdrawn at once, as nobody knows of it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{Control, ControlSink, ControlTimer};
use crate::base::{
    HandlerId, MessageType, Path, Placement, PlacementError, Service, Time, WorkerIndex,
};
use crate::control::links::JobId;
use crate::member::MemberError;
use crate::worker::{Command, RouteeFactory};

/// Why a path cannot be served.
#[derive(Debug, PartialEq, Eq)]
pub enum ServeError {
    /// It is served already, or about to be, or not yet withdrawn.
    PathTaken,
    /// Two of its message types have one name, or (1 in 4 billion) one id.
    SameMessage {
        /// The name of the one.
        name: Arc<str>,
        /// The name of the other.
        other: Arc<str>,
    },
    /// There are as many as there can be at a time.
    TooMany,
    /// This node cannot follow its placement.
    Placement(PlacementError),
    /// This node leaves, or has left: nobody would send to it.
    Leaving,
}

/// Why a path that was to be served is not after all.
#[derive(Debug, PartialEq, Eq)]
pub enum ServeFailure {
    /// The user's function panicked on a worker.
    FactoryPanicked,
    /// Membership would not have it: this node's description would become too large to be
    /// gossiped.
    Member(MemberError),
}

/// This node does not serve that path.
#[derive(Debug, PartialEq, Eq)]
pub struct NotServed;

/// What comes next for a path.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// Tell the cluster what is served, and then whoever asked for this one.
    Announce,
    /// Tell the cluster what is served; this one's time to end comes after the grace.
    Retire,
    /// Have the workers that run it end their routees.
    Withdraw,
    /// No worker runs it any more, and its path is free. Why it could not be served, unless it was.
    Over(Option<ServeFailure>),
}

/// How far a path has come.
#[derive(Debug)]
enum Stage {
    /// So many of its workers do not run it yet.
    Starting(u16),
    /// The cluster was told.
    Served,
    /// The cluster was told that it is withdrawn.
    Retiring,
    /// So many of its workers have not said yet that they do not run it any more.
    Ending(u16, Option<ServeFailure>),
}

struct Registration {
    service: Service,
    stage: Stage,
}

pub(super) struct Serving {
    workers: u16,
    grace: Duration,
    /// By the slots of their handlers' ids.
    paths: Vec<Option<Registration>>,
    /// What was served last in each slot: messages for it may still come.
    gone: Vec<Option<Service>>,
    /// Ids for slots that are used again. The oldest comes first.
    free: VecDeque<HandlerId>,
}

impl Serving {
    /// Of a node with so many workers; `grace` is by when the others have heard of what this node
    /// says of itself.
    pub fn new(workers: u16, grace: Duration) -> Self {
        Self { workers, grace, paths: Vec::new(), gone: Vec::new(), free: VecDeque::new() }
    }

    /// What the cluster is told.
    fn services(&self) -> Vec<Service> {
        let served = |known: &&Registration| matches!(known.stage, Stage::Served);
        let served = self.paths.iter().flatten().filter(served);
        let mut services: Vec<Service> = served.map(|known| known.service.clone()).collect();
        services.sort();
        services
    }

    /// The workers that run a path, or are to.
    fn workers_of(&self, handler: HandlerId) -> Vec<WorkerIndex> {
        let known = self.paths.get(handler.slot()).and_then(Option::as_ref);
        let known = known.filter(|known| known.service.handler == handler);
        known.into_iter().flat_map(|known| known.service.placed.iter(self.workers)).collect()
    }

    /// What a handler is of, or was, until another path has its slot, and is withdrawn as well.
    pub fn service_of(&self, handler: HandlerId) -> Option<&Service> {
        let slot = handler.slot();
        let present = self.paths.get(slot).and_then(Option::as_ref).map(|known| &known.service);
        let gone = self.gone.get(slot).and_then(Option::as_ref);
        present.into_iter().chain(gone).find(|service| service.handler == handler)
    }

    fn known(&mut self, handler: HandlerId) -> Option<&mut Registration> {
        let known = self.paths.get_mut(handler.slot())?.as_mut();
        known.filter(|known| known.service.handler == handler)
    }

    fn serve(
        &mut self,
        path: Path,
        placement: &Placement,
        mut messages: Vec<MessageType>,
    ) -> Result<HandlerId, ServeError> {
        let placed = placement.place(&path, self.workers).map_err(ServeError::Placement)?;
        if self.paths.iter().flatten().any(|known| known.service.path == path) {
            return Err(ServeError::PathTaken);
        }
        messages.sort();
        for (at, message) in messages.iter().enumerate() {
            let same =
                |known: &&MessageType| known.name == message.name || known.id() == message.id();
            if let Some(other) = messages[..at].iter().find(same) {
                let (name, other) = (message.name.clone(), other.name.clone());
                return Err(ServeError::SameMessage { name, other });
            }
        }
        let fresh = || HandlerId::first(self.paths.len());
        let handler = self.free.pop_front().or_else(fresh).ok_or(ServeError::TooMany)?;
        if self.paths.len() <= handler.slot() {
            self.paths.push(None);
            self.gone.push(None);
        }
        let stage = Stage::Starting(placed.count(self.workers));
        let service = Service { path, handler, placed, messages };
        self.paths[handler.slot()] = Some(Registration { service, stage });
        Ok(handler)
    }

    /// A worker runs a handler now.
    fn served(&mut self, handler: HandlerId) -> Step {
        let Some(Registration { stage, .. }) = self.known(handler) else { return Step::Nothing };
        match stage {
            Stage::Starting(waiting) if *waiting > 1 => {
                *waiting -= 1;
                Step::Nothing
            }
            Stage::Starting(_) => {
                *stage = Stage::Served;
                Step::Announce
            }
            _ => Step::Nothing,
        }
    }

    /// A handler cannot be served: it could not be made, or the cluster could not be told.
    fn failed(&mut self, handler: HandlerId, why: ServeFailure) -> Step {
        let workers = self.workers;
        let Some(Registration { service, stage }) = self.known(handler) else {
            return Step::Nothing;
        };
        match stage {
            Stage::Starting(_) | Stage::Served => {
                *stage = Stage::Ending(service.placed.count(workers), Some(why));
                Step::Withdraw
            }
            // Another worker was first.
            Stage::Retiring | Stage::Ending(..) => Step::Nothing,
        }
    }

    fn unserve(&mut self, path: &Path) -> Result<(HandlerId, Step), NotServed> {
        let mut known = self.paths.iter_mut().flatten();
        let known = known.find(|known| known.service.path == *path).ok_or(NotServed)?;
        let handler = known.service.handler;
        match known.stage {
            Stage::Served => {
                known.stage = Stage::Retiring;
                Ok((handler, Step::Retire))
            }
            // It is under way already.
            Stage::Retiring | Stage::Ending(_, None) => Ok((handler, Step::Nothing)),
            Stage::Starting(_) | Stage::Ending(_, Some(_)) => Err(NotServed),
        }
    }

    /// The grace is over.
    fn due(&mut self, handler: HandlerId) -> Step {
        let workers = self.workers;
        match self.known(handler) {
            Some(Registration { service, stage: stage @ Stage::Retiring }) => {
                *stage = Stage::Ending(service.placed.count(workers), None);
                Step::Withdraw
            }
            _ => Step::Nothing,
        }
    }

    /// A worker does not run a handler any more.
    fn withdrawn(&mut self, handler: HandlerId) -> Step {
        let Some(known) = self.known(handler) else { return Step::Nothing };
        let Stage::Ending(waiting, why) = &mut known.stage else { return Step::Nothing };
        *waiting = waiting.saturating_sub(1);
        if *waiting > 0 {
            return Step::Nothing;
        }
        let why = why.take();
        let registration = self.paths[handler.slot()].take();
        self.gone[handler.slot()] = registration.map(|known| known.service);
        // A slot that has no id left that was not given out before is not used again.
        self.free.extend(handler.next());
        Step::Over(why)
    }
}

impl Control {
    /// Registers a path, and has the workers of its placement run it;
    /// [`ControlTells::served`](super::ControlTells::served) tells what became of it.
    ///
    /// # Errors
    /// When the path is taken, two message types have one name, the placement cannot be, or this
    /// node leaves.
    pub fn serve(
        &mut self,
        path: Path,
        placement: &Placement,
        factory: RouteeFactory,
        sink: &mut dyn ControlSink,
    ) -> Result<HandlerId, ServeError> {
        if self.leaving.turn_away().is_some() {
            return Err(ServeError::Leaving);
        }
        let factory = factory.at(&path);
        let handler = self.serving.serve(path, placement, factory.messages().to_vec())?;
        self.tell_those_of(handler, sink, || Command::Serve(handler, factory.clone()));
        Ok(handler)
    }

    fn tell_those_of(
        &self,
        handler: HandlerId,
        sink: &mut dyn ControlSink,
        command: impl Fn() -> Command<JobId>,
    ) {
        for worker in self.serving.workers_of(handler) {
            sink.command(worker, command());
        }
    }

    /// The path of a handler, also before the cluster is told of it, and after.
    pub fn path_of(&self, handler: HandlerId) -> Option<&Path> {
        let known = self.serving.paths.get(handler.slot()).and_then(Option::as_ref);
        known.map(|known| &known.service).filter(|it| it.handler == handler).map(|it| &it.path)
    }

    /// A worker runs a handler now.
    pub fn served(&mut self, now: Time, handler: HandlerId, sink: &mut dyn ControlSink) {
        let step = self.serving.served(handler);
        self.serve_step(now, handler, step, sink);
    }

    /// A handler's routee could not be made on a worker.
    pub fn serve_failed(&mut self, now: Time, handler: HandlerId, sink: &mut dyn ControlSink) {
        let step = self.serving.failed(handler, ServeFailure::FactoryPanicked);
        self.serve_step(now, handler, step, sink);
    }

    /// Begins to withdraw a path: the others stop sending here, then the workers end its routees.
    /// Ends with [`ControlTells::unserved`](super::ControlTells::unserved). Asked again meanwhile it
    /// changes nothing.
    ///
    /// # Errors
    /// When the path is not served.
    pub fn unserve(
        &mut self,
        now: Time,
        path: &Path,
        sink: &mut dyn ControlSink,
    ) -> Result<HandlerId, NotServed> {
        let (handler, step) = self.serving.unserve(path)?;
        self.serve_step(now, handler, step, sink);
        Ok(handler)
    }

    /// A worker does not run a handler any more.
    pub fn withdrawn(&mut self, now: Time, handler: HandlerId, sink: &mut dyn ControlSink) {
        let step = self.serving.withdrawn(handler);
        self.serve_step(now, handler, step, sink);
    }

    pub(super) fn withdraw_due(
        &mut self,
        now: Time,
        handler: HandlerId,
        sink: &mut dyn ControlSink,
    ) {
        let step = self.serving.due(handler);
        self.serve_step(now, handler, step, sink);
    }

    fn serve_step(
        &mut self,
        now: Time,
        handler: HandlerId,
        step: Step,
        sink: &mut dyn ControlSink,
    ) {
        match step {
            Step::Nothing => {}
            Step::Announce => match self.announce_services(now, sink) {
                Ok(()) => sink.served(handler, Ok(())),
                Err(error) => {
                    let step = self.serving.failed(handler, ServeFailure::Member(error));
                    self.serve_step(now, handler, step, sink);
                }
            },
            Step::Retire => {
                // A node that has said goodbye has told everybody more than this; and what was not
                // too large does not become so by losing a part.
                let _ = self.announce_services(now, sink);
                sink.schedule(now.plus(self.serving.grace), ControlTimer::Withdraw(handler));
            }
            Step::Withdraw => self.tell_those_of(handler, sink, || Command::Withdraw(handler)),
            Step::Over(None) => sink.unserved(handler),
            Step::Over(Some(why)) => sink.served(handler, Err(why)),
        }
    }

    fn announce_services(
        &mut self,
        now: Time,
        sink: &mut dyn ControlSink,
    ) -> Result<(), MemberError> {
        let services = self.serving.services();
        self.member(now, sink, |membership, sink| membership.set_services(now, services, sink))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Placement = Placement::EveryWorker;

    fn serving() -> Serving {
        Serving::new(2, Duration::from_millis(100))
    }

    fn path(text: &str) -> Path {
        text.parse().unwrap()
    }

    fn told(serving: &Serving) -> Vec<(String, u32)> {
        let name = |service: Service| (service.path.to_string(), service.handler.0);
        serving.services().into_iter().map(name).collect()
    }

    /// Serves a path on both workers.
    fn serve(serving: &mut Serving, text: &str) -> HandlerId {
        let handler = serving.serve(path(text), &EVERY, Vec::new()).unwrap();
        let steps = [serving.served(handler), serving.served(handler)];
        assert_eq!(steps, [Step::Nothing, Step::Announce]);
        handler
    }

    fn withdraw(serving: &mut Serving, text: &str) {
        let (handler, step) = serving.unserve(&path(text)).unwrap();
        assert_eq!(step, Step::Retire);
        let steps = [serving.due(handler), serving.withdrawn(handler), serving.withdrawn(handler)];
        assert_eq!(steps, [Step::Withdraw, Step::Nothing, Step::Over(None)]);
    }

    #[test]
    fn a_path_is_known_only_while_all_workers_run_it() {
        let mut serving = serving();
        let handler = serving.serve(path("/a"), &EVERY, Vec::new()).unwrap();
        assert_eq!(serving.unserve(&path("/a")), Err(NotServed), "it is not served yet");
        assert_eq!(serving.served(handler), Step::Nothing);
        assert_eq!(told(&serving), []);
        assert_eq!(serving.served(handler), Step::Announce);
        assert_eq!(told(&serving), [("/a".to_owned(), 0)]);
        assert_eq!(serving.served(handler), Step::Nothing, "they were all there");

        assert_eq!(serving.unserve(&path("/a")), Ok((handler, Step::Retire)));
        assert_eq!(told(&serving), [], "the cluster is told before the workers are");
        assert_eq!(serving.withdrawn(handler), Step::Nothing, "nobody was asked to");
        assert_eq!(serving.unserve(&path("/a")), Ok((handler, Step::Nothing)));
        assert_eq!(serving.due(handler), Step::Withdraw);
        assert_eq!(serving.due(handler), Step::Nothing);
        assert_eq!(serving.unserve(&path("/a")), Ok((handler, Step::Nothing)));
        assert_eq!(serving.withdrawn(handler), Step::Nothing);
        assert_eq!(serving.serve(path("/a"), &EVERY, Vec::new()), Err(ServeError::PathTaken));
        assert_eq!(serving.withdrawn(handler), Step::Over(None));
        assert_eq!(serving.withdrawn(handler), Step::Nothing);
        assert_eq!(serving.unserve(&path("/a")), Err(NotServed));
    }

    #[test]
    fn a_path_that_is_served_again_has_another_handler_in_the_same_slot() {
        let mut serving = serving();
        let (a, b) = (serve(&mut serving, "/a"), serve(&mut serving, "/b"));
        withdraw(&mut serving, "/a");
        let again = serve(&mut serving, "/a");
        assert_eq!((a.slot(), b.slot(), again.slot()), (0, 1, 0));
        assert_ne!(a, again);
        assert_eq!(told(&serving), [("/a".to_owned(), again.0), ("/b".to_owned(), b.0)]);
        let late = [serving.served(a), serving.due(a), serving.withdrawn(a)];
        assert_eq!(late, [Step::Nothing, Step::Nothing, Step::Nothing], "about the one before");
    }

    #[test]
    fn a_path_whose_routee_cannot_be_made_is_withdrawn_and_free_again() {
        let mut serving = serving();
        let handler = serving.serve(path("/a"), &EVERY, Vec::new()).unwrap();
        assert_eq!(serving.served(handler), Step::Nothing, "one worker runs it");
        assert_eq!(serving.failed(handler, ServeFailure::FactoryPanicked), Step::Withdraw);
        assert_eq!(serving.unserve(&path("/a")), Err(NotServed), "it never was");
        assert_eq!(serving.withdrawn(handler), Step::Nothing);
        assert_eq!(serving.withdrawn(handler), Step::Over(Some(ServeFailure::FactoryPanicked)));
        serve(&mut serving, "/a");

        // On both.
        let handler = serving.serve(path("/b"), &EVERY, Vec::new()).unwrap();
        let panicked =
            |serving: &mut Serving| serving.failed(handler, ServeFailure::FactoryPanicked);
        assert_eq!(panicked(&mut serving), Step::Withdraw);
        assert_eq!(panicked(&mut serving), Step::Nothing);
        assert_eq!(told(&serving).len(), 1);
    }

    #[test]
    fn a_path_that_the_cluster_cannot_be_told_of_leaves_the_others_as_they_are() {
        let mut serving = serving();
        serve(&mut serving, "/a");
        let handler = serve(&mut serving, "/b");
        let why = || ServeFailure::Member(MemberError::Ended);
        assert_eq!(serving.failed(handler, why()), Step::Withdraw);
        assert_eq!(told(&serving), [("/a".to_owned(), 0)]);
        let steps = [serving.withdrawn(handler), serving.withdrawn(handler)];
        assert_eq!(steps, [Step::Nothing, Step::Over(Some(why()))]);
        serve(&mut serving, "/b");
    }

    #[test]
    fn there_is_a_most_of_them_and_each_that_ends_makes_room() {
        let mut serving = serving();
        for number in 0..HandlerId::MAX_SLOTS {
            serve(&mut serving, &format!("/{number}"));
        }
        assert_eq!(serving.serve(path("/more"), &EVERY, Vec::new()), Err(ServeError::TooMany));
        withdraw(&mut serving, "/7");
        assert_eq!(serve(&mut serving, "/more").slot(), 7);
    }
    #[test]
    fn only_the_workers_of_a_placement_are_told_and_waited_for() {
        let mut serving = Serving::new(4, Duration::ZERO);
        let named =
            |some: &[u16]| Placement::Workers(some.iter().copied().map(WorkerIndex).collect());
        let told = |serving: &Serving, handler| -> Vec<u16> {
            serving.workers_of(handler).into_iter().map(|worker| worker.0).collect()
        };
        let one = |serving: &Serving, handler| told(serving, handler).len() == 1;
        let serve = |serving: &mut Serving, placement: Placement| {
            serving.serve(path("/a"), &placement, Vec::new()).unwrap()
        };

        let handler = serve(&mut serving, named(&[3, 1]));
        assert_eq!(told(&serving, handler), [1, 3]);
        assert_eq!(serving.served(handler), Step::Nothing);
        assert_eq!(serving.served(handler), Step::Announce);
        let [service] = &serving.services()[..] else { panic!("one is served") };
        assert_eq!(service.placed.named(), [WorkerIndex(1), WorkerIndex(3)]);
        assert_eq!(serving.unserve(&path("/a")), Ok((handler, Step::Retire)));
        assert_eq!(serving.due(handler), Step::Withdraw);
        assert_eq!(told(&serving, handler), [1, 3]);
        assert_eq!(serving.withdrawn(handler), Step::Nothing);
        assert_eq!(serving.withdrawn(handler), Step::Over(None));
        assert!(told(&serving, handler).is_empty(), "it is over");

        let handler = serve(&mut serving, Placement::OnePerNode);
        assert!(one(&serving, handler));
        assert_eq!(serving.failed(handler, ServeFailure::FactoryPanicked), Step::Withdraw);
        let over = Step::Over(Some(ServeFailure::FactoryPanicked));
        assert_eq!(serving.withdrawn(handler), over);

        for (placement, why) in [
            (named(&[]), PlacementError::NoWorker { last: 3 }),
            (named(&[0, 4]), PlacementError::NotThere { worker: WorkerIndex(4), last: 3 }),
            (named(&[2, 2]), PlacementError::Twice { worker: WorkerIndex(2), last: 3 }),
        ] {
            let refused = serving.serve(path("/a"), &placement, Vec::new());
            assert_eq!(refused, Err(ServeError::Placement(why)));
        }
        let handler = serve(&mut serving, EVERY);
        assert_eq!(told(&serving, handler), [0, 1, 2, 3]);
    }
}
