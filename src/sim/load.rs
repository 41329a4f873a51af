//! What is sent through the simulated cluster: the messages, the routee that takes them and sends
//! on its own, and application threads that hand messages to workers.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use super::events::LifeId;
use super::invariants::deadlines::Deadline;
use super::invariants::withdrawal::Site;
use super::invariants::{asks, ends, fates, owners, panics};
use super::ledger::Ledger;
use super::messages::{
    ANY, Answer, ArchivedAnswer, ArchivedFrom, ArchivedNote, ArchivedQuestion, ArchivedRiddle,
    From, MessageId, Note, Question, Riddle, SenderId,
};
use crate::base::fate::AskError;
use crate::base::{HandlerId, Path, Time};
use crate::hash::{HashKey, HashSeed};
use crate::part::watch::{ArchivedGone, Gone};
use crate::queue::reply::Ticket;
use crate::route::snapshot::RouterState;
use crate::route::{RouterSpec, StrategyKind};
use crate::wire::Message as _;
use crate::wire::WireType;
use crate::worker::outbox::{append, with_arena};
use crate::worker::place::{Place, Route, places};
use crate::worker::send::{Choice, Sender, tell_head};
use crate::worker::{
    AppReply, AskOptions, Context, Handler, HandlerTable, Later, OnReply, Replier, Routee,
    RouteeFactory, RouterRef, Target,
};
use rand::RngExt;

/// Where all routees serve.
const PATH: &str = "/user/witness";

/// Where all load goes.
pub fn path() -> Path {
    PATH.parse().expect("this is a path")
}

/// The routers of every node, by id.
pub fn routers(seed: HashSeed) -> Vec<RouterSpec> {
    StrategyKind::BUILT_IN
        .iter()
        .map(|strategy| {
            let mut spec = RouterSpec::new(path(), strategy.clone(), seed);
            spec.slot_bits = crate::hash::MIN_SLOT_BITS;
            spec
        })
        .collect()
}

/// The truth, shared by all handlers of one simulation, which run in one thread.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<Ledger>>);

impl Shared {
    /// Around a new ledger.
    pub fn new(ledger: Ledger) -> Self {
        Self(Arc::new(Mutex::new(ledger)))
    }

    /// The ledger. A handler that panics on purpose holds it not.
    pub fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The routee: notes what it gets, answers, and sends on its own.
pub struct Witness {
    ledger: Shared,
    site: Site,
    sender: SenderId,
    seed: HashSeed,
    later: Vec<(u64, MessageId, Replier<Answer>)>,
}

/// The wake-up at which a routee sends on its own; others stand for a riddle to be answered.
const SEND: u64 = 0;

/// What all routees are made by for one of the times that a process serves its path.
pub fn factory(ledger: &Shared, (life, serving): (LifeId, usize), seed: HashSeed) -> RouteeFactory {
    let ledger = ledger.clone();
    RouteeFactory::new(move |worker| {
        let site = Site { life, worker: usize::from(worker.0), serving };
        let sender = ledger.lock().made(site);
        Witness { ledger: ledger.clone(), site, sender, seed, later: Vec::new() }
    })
}

impl Routee for Witness {
    fn register(handlers: &mut HandlerTable<Self>) {
        handlers.add::<Note>();
        handlers.add::<Question>();
        handlers.add::<Riddle>();
        handlers.add::<Gone>();
    }

    fn started(&mut self, cx: &mut Context<'_>) {
        self.rest(cx);
    }

    fn wake(&mut self, token: u64, cx: &mut Context<'_>) {
        if token != SEND {
            self.solve(token);
            return;
        }
        let (quiet, count) = {
            let mut ledger = self.ledger.lock();
            (ledger.quiet, ledger.rng.random_range(1..=3))
        };
        if quiet {
            return;
        }
        for _ in 0..count {
            self.send(cx);
        }
        let mut ledger = self.ledger.lock();
        let Ledger { parts, services, rng, .. } = &mut *ledger;
        if let Some((token, target)) = parts.watches.draw(rng, services, self.site) {
            cx.watch::<Self>(target, token).expect("no simulated node watches that much");
        }
        drop(ledger);
        self.rest(cx);
    }

    fn stopped(&mut self, _: &mut Context<'_>) {
        self.ledger.lock().stopped(self.site);
    }
}

impl Drop for Witness {
    /// With it go its repliers.
    fn drop(&mut self) {
        let mut ledger = self.ledger.lock();
        self.later.drain(..).for_each(|(_, id, _)| ledger.fates.let_go(id));
    }
}

impl Witness {
    fn rest(&self, cx: &mut Context<'_>) {
        let mut ledger = self.ledger.lock();
        let pause = ledger.traffic.every_ms;
        let pause = ledger.draw(pause);
        drop(ledger);
        cx.wake_after(Duration::from_millis(pause), SEND);
    }

    /// Answers a riddle, or lets it go.
    fn solve(&mut self, token: u64) {
        let Some(at) = self.later.iter().position(|(known, ..)| *known == token) else { return };
        let (_, id, replier) = self.later.swap_remove(at);
        let answers = self.ledger.lock().rng.random_range(0..8) > 0;
        // A full queue means that the asker's deadline tells it.
        if !answers || replier.reply(&Answer { token }).is_err() {
            self.ledger.lock().fates.let_go(id);
        }
    }

    fn send(&mut self, cx: &mut Context<'_>) {
        let mut ledger = self.ledger.lock();
        let Draft { key, router, asks, padding, panic } = draft(&mut ledger);
        let id = ledger.fates.sends(self.sender, false);
        let from = From::new(self.site.life, id, ANY);
        let within = Duration::from_millis({
            let range = ledger.traffic.deadline_ms;
            ledger.draw(range)
        });
        let token = ledger.token();
        let riddle = ledger.rng.random_range(0..3) == 0;
        drop(ledger);
        let router = RouterRef::new(cx.node(), router, self.seed);
        let sent = if asks {
            let sent = if riddle {
                cx.ask::<Self, _>(&router, &Riddle { key, from, token }, within, token)
            } else {
                let question = Question { key, from, token, again: false, panic, padding };
                cx.ask::<Self, _>(&router, &question, within, token)
            };
            if sent.is_ok() {
                let deadline = cx.now().plus(within);
                self.ledger.lock().opened(token, self.site, id, deadline);
            }
            sent
        } else if router.id() == BROADCAST {
            return self.broadcast(cx, &router, id, &Note { key, from, panic, padding });
        } else {
            cx.tell(&router, &Note { key, from, panic, padding })
        };
        if let Err(refusal) = sent {
            let mut ledger = self.ledger.lock();
            ledger.refused(id, true);
            ledger.judge(ends::NAME, ends::refused(refusal));
        }
    }

    fn broadcast(&self, cx: &mut Context<'_>, router: &RouterRef, id: MessageId, note: &Note) {
        let before = cx.counts();
        let outcome = cx.tell(router, note);
        let after = cx.counts();
        let sent = after.sent - before.sent;
        let refused = after.refused_total() - before.refused_total();
        let mut ledger = self.ledger.lock();
        let seen = ledger.fates.broadcast(id, router.id(), (sent, refused));
        ledger.judge(fates::NAME, seen);
        if outcome.is_ok() != (refused == 0) {
            let seen =
                format!("{refused} copies of {id} were refused, and it is told: {outcome:?}");
            ledger.blame(fates::NAME, seen);
        }
    }

    fn note(&self, from: &ArchivedFrom, attempt: Option<u64>) {
        let to = from.to.to_native();
        let mut ledger = self.ledger.lock();
        // One that is asked again may be asked elsewhere.
        if to != ANY && attempt.is_none() {
            ledger.addressed(self.site, HandlerId(to));
        }
        ledger.handled(self.site, (from.id(), attempt), from.life.to_native() as usize);
    }

    fn replied(&self, token: u64, reply: Result<&ArchivedAnswer, AskError>, now: Time) {
        let mut ledger = self.ledger.lock();
        ledger.ended(token, self.sender, reply.map(drop), now);
        if let Ok(answer) = reply
            && answer.token != token
        {
            let seen = format!("ask {token} got the answer to ask {}", answer.token);
            ledger.blame(asks::NAME, seen);
        }
    }
}

impl Handler<Note> for Witness {
    type Reply = ();

    fn handle(&mut self, note: &ArchivedNote, _: &mut Context<'_>) {
        if note.panic {
            self.ledger.lock().panics(self.site, self.sender, note.from.id(), false);
            panics::as_planned();
        }
        self.note(&note.from, None);
    }
}

impl Handler<Question> for Witness {
    type Reply = Answer;

    fn handle(&mut self, question: &ArchivedQuestion, cx: &mut Context<'_>) -> Answer {
        if question.panic {
            let (id, again) = (question.from.id(), question.again);
            self.ledger.lock().panics(self.site, self.sender, id, again);
            panics::as_planned();
        }
        self.note(&question.from, cx.attempt().filter(|_| question.again));
        Answer { token: question.token.to_native() }
    }
}

impl Handler<Riddle> for Witness {
    type Reply = Later<Answer>;

    fn handle(&mut self, riddle: &ArchivedRiddle, cx: &mut Context<'_>) -> Later<Answer> {
        self.note(&riddle.from, None);
        let (later, replier) = cx.reply_later();
        let token = riddle.token.to_native();
        self.later.push((token, riddle.from.id(), replier));
        let mut ledger = self.ledger.lock();
        let range = ledger.traffic.deadline_ms;
        let pause = ledger.draw((0, range.1));
        drop(ledger);
        cx.wake_after(Duration::from_millis(pause), token);
        later
    }
}

impl Handler<Gone> for Witness {
    type Reply = ();

    fn handle(&mut self, gone: &ArchivedGone, _: &mut Context<'_>) {
        let mut ledger = self.ledger.lock();
        ledger.noticed(self.site);
        ledger.parts.watches.told(gone.token.to_native(), gone.reason());
    }
}

impl OnReply<Question> for Witness {
    fn on_reply(
        &mut self,
        token: u64,
        reply: Result<&ArchivedAnswer, AskError>,
        cx: &mut Context<'_>,
    ) {
        self.replied(token, reply, cx.now());
    }
}

impl OnReply<Riddle> for Witness {
    fn on_reply(
        &mut self,
        token: u64,
        reply: Result<&ArchivedAnswer, AskError>,
        cx: &mut Context<'_>,
    ) {
        self.replied(token, reply, cx.now());
    }
}

/// The router's number that sends to all.
const BROADCAST: u32 = 2;

/// What a note takes in a chunk at most, beyond its padding.
const NOTE_BYTES: usize = 256;

/// One message before it has an address.
struct Draft {
    key: u64,
    router: u32,
    asks: bool,
    padding: Vec<u8>,
    panic: bool,
}

fn draft(ledger: &mut Ledger) -> Draft {
    let asks = ledger.rng.random_range(0..100) < ledger.traffic.asks_percent;
    // Half of it follows keys.
    let router = match ledger.rng.random_range(0..12) {
        0..6 => 3,
        6..9 => 0,
        9..11 => 1,
        _ if asks => 1,
        _ => BROADCAST,
    };
    let padding = match (ledger.traffic.padding, ledger.rng.random_range(0..8)) {
        (0, _) | (_, 0..6) => 0,
        (most, _) => ledger.rng.random_range(0..=most),
    };
    let panics = ledger.traffic.panic_ppm;
    let panic = panics > 0 && ledger.rng.random_range(0..1_000_000) < panics;
    let key = ledger.rng.random_range(0..64);
    Draft { key, router, asks, padding: vec![0; padding as usize], panic }
}

/// An ask that an application waits for.
pub struct Pending {
    ticket: Ticket<AppReply>,
    id: MessageId,
    token: u64,
    deadline: Deadline,
    ended: bool,
    /// Its routee had been withdrawn before, and it goes to no other.
    late: bool,
}

/// What became of a pending ask.
pub enum Outcome {
    /// Its answer came.
    Answered,
    /// It failed.
    Failed(AskError),
    /// It is still open.
    Open,
    /// What came is not the answer to it.
    Wrong(String),
}

impl Pending {
    /// Looks whether it has ended, unless it has.
    pub fn look(&mut self) -> Outcome {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let outcome = Pin::new(&mut self.ticket).poll(&mut context);
        self.ended = outcome.is_ready();
        match outcome {
            Poll::Pending => Outcome::Open,
            Poll::Ready(Err(error)) => Outcome::Failed(error),
            Poll::Ready(Ok(body)) => match Answer::access(body.into_chunk().bytes()) {
                Some(answer) if answer.token == self.token => Outcome::Answered,
                Some(answer) => {
                    let (want, got) = (self.token, answer.token);
                    Outcome::Wrong(format!("ask {want} got the answer to ask {got}"))
                }
                None => Outcome::Wrong(format!("ask {} got no valid answer", self.token)),
            },
        }
    }

    /// Which message it is.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Whether its routee had been withdrawn before it was handed in.
    pub fn is_late(&self) -> bool {
        self.late
    }

    /// Whether it was seen to have ended.
    pub fn has_ended(&self) -> bool {
        self.ended
    }

    /// Until when the node promised to end it.
    pub fn deadline(&mut self) -> &mut Deadline {
        &mut self.deadline
    }
}

/// What an application thread holds of its node.
pub struct Hands<'a> {
    /// The way into the thread's worker.
    pub sender: Sender<'a>,
    /// The truth.
    pub ledger: &'a Shared,
    /// The node's clock.
    pub now: Time,
}

impl Hands<'_> {
    /// Whether what is handed in for a place comes after its routee was withdrawn.
    fn is_late(&self, ledger: &mut Ledger, place: Place) -> bool {
        let to = self.sender.snapshot.destinations.get(place.destination);
        to.is_some_and(|to| ledger.services.is_late(to.node, to.worker, place.handler))
    }

    /// A message is about to be sent to all routees of a router.
    fn check_all(&self, state: &RouterState, to: &[Place]) {
        let destinations = &self.sender.snapshot.destinations;
        let to = to.iter().filter_map(|place| destinations.get(place.destination));
        let mut ledger = self.ledger.lock();
        let seen = ledger.fates.goes_to(state, to.map(|to| (to.node, to.worker)));
        ledger.judge(fates::NAME, seen);
    }
}

/// A thread of the application.
pub struct AppThread {
    /// The worker it hands its messages to; always the same, or their order would be lost.
    pub worker: usize,
    /// Asks that have not ended.
    pub pending: Vec<Pending>,
    life: LifeId,
    sender: SenderId,
    choices: Vec<Choice>,
    seed: HashSeed,
}

impl AppThread {
    /// A thread that has sent nothing yet.
    pub fn new(life: LifeId, worker: usize, ledger: &Shared, seed: HashSeed, chance: u64) -> Self {
        let sender = ledger.lock().fates.add_sender((life, worker));
        let choices = routers(seed).iter().map(|spec| Choice::new(spec, chance)).collect();
        Self { worker, pending: Vec::new(), life, sender, choices, seed }
    }

    /// Sends some messages. Whatever the table says is tried, though its link may be down: an
    /// application's knowledge is always a little old.
    pub fn burst(&mut self, hands: &Hands<'_>) {
        let count = {
            let mut ledger = hands.ledger.lock();
            let (least, most) = ledger.traffic.burst;
            ledger.rng.random_range(least..=most)
        };
        let mut choices = std::mem::take(&mut self.choices);
        for _ in 0..count {
            let draft = draft(&mut hands.ledger.lock());
            let choice = &mut choices[draft.router as usize];
            self.send(hands, draft, choice);
        }
        self.choices = choices;
    }

    /// Sends a message by some router of its node, if that is there.
    pub fn send_by(&mut self, hands: &Hands<'_>, router: u32, spec: &RouterSpec) {
        let mut draft = draft(&mut hands.ledger.lock());
        draft.router = router;
        draft.asks &= !matches!(spec.strategy, StrategyKind::Broadcast);
        self.send(hands, draft, &mut Choice::new(spec, u64::from(router)));
    }

    fn send(&mut self, hands: &Hands<'_>, draft: Draft, choice: &mut Choice) {
        let Some(state) = hands.sender.snapshot.router(draft.router) else { return };
        let hash = draft.key.hash_key(self.seed);
        choice.look(&hands.sender, state);
        let message = if draft.asks { Question::TYPE } else { Note::TYPE };
        let route = choice.route(state, message, Some(hash));
        {
            let mut ledger = hands.ledger.lock();
            let to = (draft.router, hash);
            let chosen = ledger.owners.chosen(hands.sender.snapshot, state, to, &route);
            ledger.judge(owners::NAME, chosen);
        }
        match route {
            Ok(Route::One(place)) if draft.asks => self.ask(hands, draft, place),
            Ok(Route::One(place)) => self.tell(hands, draft, &[place]),
            Ok(Route::All) => {
                let all: Vec<_> = places(state, message).flatten().collect();
                hands.check_all(state, &all);
                self.tell(hands, draft, &all);
            }
            Err(_) => {}
        }
    }

    fn tell(&mut self, hands: &Hands<'_>, draft: Draft, to: &[Place]) {
        let Draft { key, padding, panic, .. } = draft;
        let mut ledger = hands.ledger.lock();
        let run = if to.len() == 1 { ledger.rng.random_range(1..=3) } else { 1 };
        let buffers = hands.sender.buffers;
        for place in to {
            hands.is_late(&mut ledger, *place);
            let ids: Vec<_> = (0..run).map(|_| ledger.fates.sends(self.sender, false)).collect();
            let mut frames = buffers.take_fitting(run * (NOTE_BYTES + padding.len()));
            for id in &ids {
                let from = From::new(self.life, *id, place.handler.0);
                let note = Note { key, from, panic, padding: padding.clone() };
                let head = tell_head::<Note>(*place);
                let limit = (buffers, buffers.max_frame_bytes);
                with_arena(|arena| append(&mut frames, arena, limit, &head, &note))
                    .ok()
                    .flatten()
                    .expect("a chunk has room for a few small messages");
            }
            if hands.sender.hand_over(place.destination, frames).is_err() {
                ids.into_iter().for_each(|id| ledger.refused(id, false));
            }
        }
    }

    fn ask(&mut self, hands: &Hands<'_>, draft: Draft, place: Place) {
        let mut ledger = hands.ledger.lock();
        let range = ledger.traffic.deadline_ms;
        let within = Duration::from_millis(ledger.draw(range));
        let idempotent = ledger.rng.random_range(0..3) == 0;
        let options = AskOptions { within, idempotent };
        let asked = self.ask_one(hands, &mut ledger, draft, place, options);
        self.pending.extend(asked);
    }

    /// Asks one routee and nobody else.
    pub fn probe(&mut self, hands: &Hands<'_>, place: Place, within: Duration) -> Option<Pending> {
        let mut ledger = hands.ledger.lock();
        let draft = Draft { key: 0, router: 0, asks: true, padding: Vec::new(), panic: false };
        self.ask_one(hands, &mut ledger, draft, place, within.into())
    }

    fn ask_one(
        &mut self,
        hands: &Hands<'_>,
        ledger: &mut Ledger,
        draft: Draft,
        place: Place,
        options: AskOptions,
    ) -> Option<Pending> {
        let token = ledger.token();
        let id = ledger.fates.sends(self.sender, options.idempotent);
        let key_hash = Some(draft.key.hash_key(self.seed));
        let again = Target::Router { router: draft.router, message: Question::TYPE, key_hash };
        let question = Question {
            key: draft.key,
            from: From::new(self.life, id, place.handler.0),
            token,
            again: options.idempotent,
            panic: draft.panic,
            padding: draft.padding,
        };
        let asked = hands.sender.ask(Ok(place), again, &question, options, hands.now);
        let ticket = match asked {
            Ok(ticket) => ticket,
            Err(refusal) => {
                ledger.refused(id, false);
                ledger.judge(ends::NAME, ends::refused(refusal));
                return None;
            }
        };
        let late = hands.is_late(ledger, place) && !options.idempotent;
        let deadline = Deadline::new(hands.now.plus(options.within));
        Some(Pending { ticket, id, token, deadline, ended: false, late })
    }
}
