//! A fate per message: each message has an id and its true history, which is what handlers got, what
//! was written on connections and which of these were lost. All that a node says of its messages is
//! held against that: *refused* and *dead* means never handled, *delivered* handled, *unknown* that
//! some of it was written on a connection that was lost; a message is handled at most once, one that
//! may be sent again at most once for each attempt; and of a broadcast each routee of the sender's
//! table gets one copy, or it is refused for it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::deadlines::Owed;
use super::ends::History;
use super::passage::Passage;
use crate::base::fate::{AskError, Counts};
use crate::base::{NodeRef, Time, WorkerIndex};
use crate::route::snapshot::{RouterState, Snapshot};
use crate::sim::events::{ConnId, CoreId, LifeId};
use crate::sim::messages::{MessageId, SenderId, read_request};
use crate::sim::network::Owner;
use crate::sim::process::Sums;
use crate::sim::world::World;
use crate::worker::outbox::Outbox;

/// The invariant's name.
pub const NAME: &str = "each message has one fate, and what is told of it is true";

/// How often all messages that have not ended are looked for.
const FIND_EVERY: Duration = Duration::from_millis(20);

/// How often what is over is forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(1);

/// What is known of one message: some of the bits below.
pub type Known = u16;

/// Its sender was told that it is not sent.
pub const REFUSED: Known = 1;
/// It may be sent again.
pub const AGAIN: Known = 2;
/// It goes to many routees.
pub const BROADCAST: Known = 4;
/// At least one byte of it was written on a connection.
pub const WRITTEN: Known = 8;
/// And that was closed before its end was heard of, or its reply came.
pub const LOST: Known = 16;
/// A handler got it.
pub const HANDLED: Known = 32;
/// Whoever asked was told that no handler did.
const DEAD: Known = 64;
/// Whoever asked was told how it ended.
const TOLD: Known = 128;
/// A handler panicked over it.
const PANICKED: Known = 256;
/// A handler let it go without a reply.
const LET_GO: Known = 512;
/// The worker that had sent it read a reply to it.
const ANSWERED: Known = 1024;
/// It died on its sender's node.
pub const DIED: Known = 2048;
/// Its sender's worker was told that no handler got it.
pub const DEAD_THERE: Known = 4096;
/// Whoever asked was told that a handler may have got it.
pub const UNKNOWN: Known = 8192;

/// One stream of numbered messages.
pub struct Sender {
    /// Its worker.
    pub core: CoreId,
    /// What is known of each.
    pub messages: Vec<Known>,
}

/// What a worker's counts must say.
#[derive(Default)]
struct Book {
    /// Messages of its own node that its handlers got.
    own: u64,
    /// Its messages that it heard were handled.
    delivered: u64,
    /// And were not.
    dead: u64,
    /// What was written on connections that are over, and of which it heard nothing.
    unknown: u64,
    /// Refused to its handlers.
    refused: u64,
    /// Messages from other nodes that none of its handlers got.
    died: u64,
    /// It was told to stop.
    stopping: bool,
    /// What it knows of the cluster.
    snapshot: Option<Arc<Snapshot>>,
}

/// A message of which every routee of a table is to get a copy.
pub struct Broadcast {
    to: Arc<RouterState>,
    /// Copies that were not refused.
    pub accepted: usize,
    /// Who had one.
    pub got: Vec<CoreId>,
    /// Copies some of which was written on connections.
    pub written: usize,
    /// Copies that died on their sender's node.
    pub died: usize,
}

/// How often it was looked, and something could have been wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Messages refused.
    pub refused: u64,
    /// Messages acknowledged as handled, which were.
    pub delivered: u64,
    /// Messages acknowledged as not handled, which were not.
    pub dead: u64,
    /// Messages that died where they were sent, and were never handled.
    pub died: u64,
    /// Messages that were found somewhere as their process was over.
    pub settled: u64,
    /// Messages with unknown ends, of which some byte was written on what was lost.
    pub unknown: u64,
    /// Attempts of asks that may be sent again which were handled once.
    pub attempts: u64,
    /// Broadcasts of routees of which each routee had one copy or one refusal.
    pub broadcasts: u64,
    /// Ends of asks that were true.
    pub told: u64,
    /// Times that what has not ended was found where it waits.
    pub found: u64,
}

/// The messages of one simulation.
#[derive(Default)]
pub struct Fates {
    /// By number.
    pub senders: Vec<Sender>,
    /// By process and worker.
    books: Vec<Vec<Book>>,
    /// What is on connections.
    pub passage: Passage,
    /// What handlers got from other nodes, until it is known from which connection.
    handled: VecDeque<MessageId>,
    /// Attempts that were handled.
    attempts: BTreeSet<(MessageId, u64)>,
    /// Attempts that died where they were sent.
    pub dead_attempts: BTreeSet<(MessageId, u64)>,
    /// Those of routees.
    pub broadcasts: BTreeMap<MessageId, Broadcast>,
    forgot_at: Time,
    /// What was looked at.
    pub seen: Seen,
}

/// Whom a router that sends to everybody must reach, found without what senders find it by.
fn reached(state: &RouterState) -> impl Iterator<Item = (NodeRef, WorkerIndex)> {
    let routees = state.table.routees().iter().enumerate();
    let active = routees.filter(|(place, _)| state.active.contains(*place as u16));
    active.map(|(_, routee)| (routee.node, routee.worker))
}

// ---- who sends what ----

impl Fates {
    /// A process has begun.
    pub fn add_life(&mut self, workers: usize) {
        self.books.push((0..workers).map(|_| Book::default()).collect());
    }

    /// A new stream of numbered messages that go through this worker.
    pub fn add_sender(&mut self, core: CoreId) -> SenderId {
        self.senders.push(Sender { core, messages: Vec::new() });
        self.senders.len() - 1
    }

    /// Whether there is such a stream.
    pub fn has_sender(&self, sender: SenderId) -> bool {
        sender < self.senders.len()
    }

    /// A sender is about to send: the number of its message. `again` says that it may be sent more
    /// than once.
    pub fn sends(&mut self, sender: SenderId, again: bool) -> MessageId {
        let messages = &mut self.senders[sender].messages;
        messages.push(if again { AGAIN } else { 0 });
        MessageId { sender, number: messages.len() as u64 - 1 }
    }

    /// What is known of a message.
    pub fn known(&mut self, id: MessageId) -> Option<&mut Known> {
        known(&mut self.senders, id)
    }

    fn book(&mut self, (life, worker): CoreId) -> &mut Book {
        &mut self.books[life][worker]
    }

    /// A message was refused to its sender. `counted` says that its worker did.
    ///
    /// # Errors
    /// When it was sent all the same.
    pub fn refused(&mut self, id: MessageId, counted: bool) -> Result<(), String> {
        let core = self.senders[id.sender].core;
        self.seen.refused += 1;
        self.book(core).refused += u64::from(counted);
        let known = self.known(id).ok_or("a message was refused that never was")?;
        *known |= REFUSED;
        match *known & (WRITTEN | HANDLED) {
            0 => Ok(()),
            _ => Err(format!("{id} was sent, and then refused")),
        }
    }

    /// A worker knows the cluster so from now on.
    pub fn applied(&mut self, core: CoreId, snapshot: &Arc<Snapshot>) {
        self.book(core).snapshot = Some(Arc::clone(snapshot));
    }

    /// Whether a worker was told to stop.
    pub fn is_stopping(&self, (life, worker): CoreId) -> bool {
        self.books[life][worker].stopping
    }

    /// A worker was told to stop.
    pub fn stops(&mut self, core: CoreId) {
        self.book(core).stopping = true;
    }

    /// Whether a message of an application goes to whom it must: each routee of this router once.
    ///
    /// # Errors
    /// Who is left out, or is none of them.
    pub fn goes_to(
        &mut self,
        state: &RouterState,
        places: impl Iterator<Item = (NodeRef, WorkerIndex)>,
    ) -> Result<(), String> {
        let (mut to, mut all) = (places.collect::<Vec<_>>(), reached(state).collect::<Vec<_>>());
        to.sort_unstable();
        all.sort_unstable();
        if to != all {
            return Err(format!("a broadcast goes to {to:?}, and the table has {all:?}"));
        }
        self.seen.broadcasts += 1;
        Ok(())
    }

    /// A routee has sent a message to all that a router has; so its worker has counted that.
    ///
    /// # Errors
    /// When it was sent to more or fewer.
    pub fn broadcast(
        &mut self,
        id: MessageId,
        router: u32,
        (sent, refused): (u64, u64),
    ) -> Result<(), String> {
        let core = self.senders[id.sender].core;
        let book = self.book(core);
        book.refused += refused;
        let state = book.snapshot.as_ref().and_then(|snapshot| snapshot.router(router)).cloned();
        let Some(state) = state else { return self.refused(id, false) };
        let most = reached(&state).count() as u64;
        // Where none can be reached, the strategy refuses the message once for all.
        let as_one = (sent, refused) == (1, 1);
        if (sent != most && !as_one) || refused > sent {
            return Err(format!(
                "{sent} copies of {id} were sent, {refused} of them refused, of {most} routees"
            ));
        }
        self.seen.broadcasts += u64::from(!as_one);
        let accepted = (sent - refused) as usize;
        self.note(id, BROADCAST);
        self.broadcasts
            .insert(id, Broadcast { to: state, accepted, got: Vec::new(), written: 0, died: 0 });
        Ok(())
    }
}

fn known(senders: &mut [Sender], id: MessageId) -> Option<&mut Known> {
    senders.get_mut(id.sender)?.messages.get_mut(id.number as usize)
}

// ---- what becomes of it ----

impl Fates {
    /// A handler got a message, in one of its attempts if it may be sent again; `me` is its node's
    /// life. Its sender's node may be the same.
    ///
    /// # Errors
    /// Why it must not.
    pub fn got(
        &mut self,
        (life, worker): CoreId,
        me: NodeRef,
        (id, attempt): (MessageId, Option<u64>),
    ) -> Result<(), String> {
        if let Some(attempt) = attempt {
            self.seen.attempts += 1;
            if !self.attempts.insert((id, attempt)) {
                return Err(format!("an attempt of {id} was handled twice"));
            }
            if self.dead_attempts.contains(&(id, attempt)) {
                return Err(format!("an attempt of {id} died, and was handled"));
            }
        }
        let is_own = self.senders.get(id.sender).is_some_and(|sender| sender.core.0 == life);
        match is_own {
            true => self.book((life, worker)).own += 1,
            false => self.handled.push_back(id),
        }
        self.reached((life, worker), me, id)
    }

    /// A handler has a message, and may panic over it: then it counts as dead where it is.
    ///
    /// # Errors
    /// Why it must not have it.
    pub fn reached(&mut self, core: CoreId, me: NodeRef, id: MessageId) -> Result<(), String> {
        let known = self.known(id).ok_or_else(|| format!("{id} was handled and never sent"))?;
        let before = std::mem::replace(known, *known | HANDLED);
        if before & BROADCAST > 0 {
            return self.got_copy(core, me, id);
        }
        match before {
            _ if before & REFUSED > 0 => Err(format!("{id} was refused, and handled")),
            _ if before & DEAD > 0 => Err(format!("{id} was told to be dead, and handled")),
            _ if before & DIED > 0 && before & AGAIN == 0 => {
                Err(format!("{id} died, and was handled"))
            }
            _ if before & (HANDLED | AGAIN) == HANDLED => Err(format!("{id} was handled twice")),
            _ => Ok(()),
        }
    }

    fn got_copy(&mut self, core: CoreId, me: NodeRef, id: MessageId) -> Result<(), String> {
        let Some(broadcast) = self.broadcasts.get_mut(&id) else { return Ok(()) };
        let Broadcast { to, accepted, got, .. } = broadcast;
        let worker = WorkerIndex(core.1 as u16);
        if got.contains(&core) {
            return Err(format!("worker {worker} of {me} got two copies of {id}"));
        }
        got.push(core);
        if got.len() > *accepted {
            return Err(format!("{} copies of {id} came, and {accepted} were sent", got.len()));
        }
        if reached(to).all(|routee| routee != (me, worker)) {
            return Err(format!("{id} came to worker {worker} of {me}, which was no routee"));
        }
        Ok(())
    }

    /// A worker told one of its own routees something.
    pub fn noticed(&mut self, core: CoreId) {
        self.book(core).own += 1;
    }

    /// A worker has written so many bytes of an outbox on a connection that it dialed.
    ///
    /// # Errors
    /// What must not be written.
    pub fn wrote(
        &mut self,
        conn: ConnId,
        core: CoreId,
        outbox: &Outbox,
        count: usize,
    ) -> Result<(), String> {
        let mut wrong = Ok(());
        let Self { senders, broadcasts, passage, dead_attempts, .. } = self;
        passage.written((conn, core), outbox, count, &mut |frame| {
            let request = read_request(frame)?;
            let id = request.id;
            let Some(known) = known(senders, id) else {
                wrong = Err(format!("{id} was written and never sent"));
                return None;
            };
            let before = std::mem::replace(known, *known | WRITTEN);
            if let Some(broadcast) = broadcasts.get_mut(&id) {
                broadcast.written += 1;
            }
            if before & (REFUSED | BROADCAST) == REFUSED {
                wrong = Err(format!("{id} was refused, and written"));
            } else if before & DIED > 0 && before & AGAIN == 0 {
                wrong = Err(format!("{id} died, and was written"));
            } else if request.attempt.is_some_and(|it| dead_attempts.contains(&(id, it))) {
                wrong = Err(format!("an attempt of {id} died, and was written"));
            } else if before & DEAD > 0 {
                wrong = Err(format!("{id} was told to be dead, and written"));
            } else if before & (WRITTEN | AGAIN | BROADCAST) == WRITTEN {
                wrong = Err(format!("{id} was written twice"));
            }
            Some(request)
        });
        wrong
    }

    /// A worker is done with these bytes, which came on a connection that another one dialed.
    ///
    /// # Errors
    /// What its handlers got and was not among them.
    pub fn took(&mut self, conn: ConnId, core: CoreId, bytes: &[u8]) -> Result<(), String> {
        let died = self.passage.taken(conn, bytes, &mut self.handled)?;
        self.book(core).died += died;
        Ok(())
    }

    /// A worker is done with these bytes, which came on a connection that it dialed.
    ///
    /// # Errors
    /// What it heard and is not true.
    pub fn heard(&mut self, conn: ConnId, core: CoreId, bytes: &[u8]) -> Result<(), String> {
        let senders = &self.senders;
        let has_ended = |id: MessageId| {
            let known = senders[id.sender].messages.get(id.number as usize);
            known.is_none_or(|known| known & TOLD > 0)
        };
        let mut unhandled = Vec::new();
        let (delivered, dead) =
            self.passage.acknowledged(conn, bytes, has_ended, &mut unhandled)?;
        unhandled.into_iter().for_each(|id| self.note(id, DEAD_THERE));
        let senders = &mut self.senders;
        self.passage.replied(conn, bytes, &mut |id| {
            if let Some(known) = known(senders, id) {
                *known |= ANSWERED;
            }
        });
        self.seen.delivered += delivered;
        self.seen.dead += dead;
        let book = self.book(core);
        book.delivered += delivered;
        book.dead += dead;
        Ok(())
    }

    /// A worker has closed a connection that it dialed.
    pub fn closed(&mut self, conn: ConnId, core: CoreId) {
        let senders = &mut self.senders;
        let lost = self.passage.closed(conn, &mut |id| {
            if let Some(known) = known(senders, id) {
                *known |= LOST;
            }
        });
        self.seen.unknown += lost;
        self.book(core).unknown += lost;
    }

    /// A worker has stopped, and closes nothing any more.
    pub fn stopped(&mut self, core: CoreId) {
        for conn in self.passage.of_worker(core) {
            self.closed(conn, core);
        }
    }

    /// Whoever asked is told how that ended.
    ///
    /// # Errors
    /// When it cannot be true.
    pub fn told(&mut self, id: MessageId, end: Result<(), AskError>) -> Result<(), String> {
        let core = self.senders[id.sender].core;
        let stopping = self.book(core).stopping;
        self.seen.told += 1;
        let known = self.known(id).ok_or("an end of an ask that never was")?;
        let history = history(*known, stopping);
        *known |= TOLD | if History::denies(end) { DEAD } else { 0 };
        *known |= if end == Err(AskError::LinkLost) { UNKNOWN } else { 0 };
        history.allows(end).map_err(|why| format!("{id} ended so: {end:?}; but {why}"))
    }

    /// A handler panics over a message.
    pub fn panicked(&mut self, id: MessageId) {
        self.note(id, PANICKED);
    }

    /// A handler lets an ask go, without a reply.
    pub fn let_go(&mut self, id: MessageId) {
        self.note(id, LET_GO);
    }

    /// What is known of an ask that is sent once, and whose worker has still to end it.
    pub fn owed(&self, id: MessageId) -> Owed {
        let sender = self.senders.get(id.sender);
        let known = sender.and_then(|sender| sender.messages.get(id.number as usize));
        match known.copied().unwrap_or(AGAIN) & (LOST | ANSWERED | AGAIN) {
            LOST => Owed::Loss,
            ANSWERED => Owed::Reply,
            _ => Owed::Nothing,
        }
    }

    fn note(&mut self, id: MessageId, bit: Known) {
        if let Some(known) = self.known(id) {
            *known |= bit;
        }
    }
}

fn history(known: Known, stopping: bool) -> History {
    let has = |bit| known & bit > 0;
    History {
        written: has(WRITTEN),
        lost: has(LOST),
        again: has(AGAIN),
        handled: has(HANDLED),
        panicked: has(PANICKED),
        let_go: has(LET_GO),
        left: stopping && !has(DIED),
    }
}

// ---- what nodes count ----

impl Fates {
    /// A worker's duty cycle is over.
    ///
    /// # Errors
    /// Which of its counts are not what really happened.
    pub fn check(&mut self, core: CoreId, counts: &Counts) -> Result<(), String> {
        if let Some(id) = self.handled.pop_front() {
            return Err(format!("{id} was handled, and came on no connection"));
        }
        let Book { own, delivered, dead, unknown, refused, died, .. } = self.books[core.0][core.1];
        let compared = [
            ("delivered", counts.delivered, own + delivered),
            ("dead at their receivers", counts.dead_at_peer, dead),
            ("unknown", counts.unknown, unknown),
            ("refused", counts.refused_total(), refused),
            ("received and dead", counts.received_dead.iter().sum(), died),
        ];
        match compared.into_iter().find(|(_, counted, true_)| counted != true_) {
            Some((what, counted, true_)) => {
                Err(format!("{counted} messages are counted as {what}, of {true_} that are"))
            }
            None => Ok(()),
        }
    }

    /// What a process has sent and not counted an end of must be somewhere: so much waits in it.
    ///
    /// # Errors
    /// When it is not.
    pub fn find(&mut self, life: LifeId, in_flight: u64, waiting: u64) -> Result<(), String> {
        let written = self.passage.open_of(life);
        self.seen.found += u64::from(in_flight > 0);
        if in_flight != waiting + written {
            return Err(format!(
                "{in_flight} messages have not ended, but {waiting} wait and {written} are written \
                 and not acknowledged"
            ));
        }
        Ok(())
    }

    /// Now and then forgets connections that both ends have closed.
    pub fn forget(&mut self, now: Time, is_over: impl Fn(ConnId) -> bool) {
        if now >= self.forgot_at.plus(FORGET_EVERY) {
            self.forgot_at = now;
            self.passage.forget(is_over);
        }
    }
}

impl World {
    /// Now and then each message that has not ended is looked for.
    pub(in crate::sim) fn find_messages(&mut self) {
        let now = self.net.now;
        if now < self.checks.found_at.plus(FIND_EVERY) {
            return;
        }
        let before = std::mem::replace(&mut self.checks.found_at, now);
        self.check_deadlines(before);
        for life in self.living() {
            // Where no worker has run everything is where it was.
            self.check_rooms(life);
            let ran = self.lives[life].body.as_deref_mut().map(|body| &mut body.ran);
            if ran.is_some_and(std::mem::take) {
                self.find_messages_of(life);
            }
        }
        let net = &self.net;
        let is_over = |conn| (0..2).all(|side| net.owner(conn, side) == Owner::Nobody);
        self.ledger.lock().fates.forget(now, is_over);
    }

    /// Each message that a process has sent and not counted an end of is looked for.
    pub(in crate::sim) fn find_messages_of(&mut self, life: LifeId) {
        let Some(body) = self.lives[life].body.as_deref() else { return };
        let Sums { sent, ended, .. } = body.sums();
        let in_flight = sent.saturating_sub(ended);
        let found = self.ledger.lock().fates.find(life, in_flight, body.waiting_messages());
        if let Err(seen) = found {
            self.blame(NAME, format!("life {life}: {seen}"));
        }
    }
}
