//! A worker's thread: moves commands, hand-overs, chunks and bytes, and sleeps when it may. What is
//! done when is decided by `worker/turn`.

use std::io;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, Weak};
use std::time::Duration;

use mio::{Events, Interest, Poll, Token};
use tokio::sync::mpsc;

use super::clock::Clock;
use super::proxies::{Command, Report};
use crate::base::{DestinationId, Time, WorkerIndex, counted};
use crate::net::link::Socket;
use crate::queue::Full;
use crate::queue::block_on::mark_worker_thread;
use crate::queue::board::{Board, CountsBoard, WayState};
use crate::queue::gate::for_handler_of;
use crate::queue::inject::Injected;
use crate::queue::ring::RingReceiver;
use crate::queue::wake::Sleeper;
use crate::queue::weighed::{WeighedReceiver, WeighedSender};
use crate::wire::{Chunk, WireError};
use crate::worker::inject::Injection;
use crate::worker::outbox::Outbox;
use crate::worker::turn::Flow;
use crate::worker::turn::{Line, Moved, Turn, TurnOutcome, WorkerIo};
use crate::worker::{LinkId, Worker};

/// The token of the waker; those of links are their names, of which none is this one.
pub const WAKE: Token = Token(usize::MAX);

const _: () = assert!(usize::BITS == 64, "a token of the poll holds the name of a link");

/// The rings between this worker and one sibling.
pub struct SiblingRings {
    /// To the sibling.
    pub to: WeighedSender<Chunk>,
    /// From the sibling.
    pub from: WeighedReceiver<Chunk>,
}

/// What a worker's thread is made of.
pub struct WorkerThread {
    /// The decider.
    pub worker: Worker,
    /// In which order it does what.
    pub turn: Turn,
    /// Tells producers whether a wake-up is needed.
    pub sleeper: Sleeper,
    /// What it moves.
    pub ends: WorkerEnds,
}

/// The worker's ends of everything that leads to or from it.
pub struct WorkerEnds {
    /// Where events come from.
    pub poll: Poll,
    /// Commands of control.
    pub commands: RingReceiver<Command>,
    /// Hand-overs of application threads.
    pub injected: Injected<Injection>,
    /// By sibling; `None` at the own place, and once they are closed.
    pub siblings: Vec<Option<SiblingRings>>,
    /// To control.
    pub reports: mpsc::Sender<Report>,
    /// The node's clock.
    pub clock: Clock,
    /// Where application threads see how links stand.
    pub board: Arc<Board>,
    /// Where it shows what it does.
    pub counts: Arc<CountsBoard>,
    /// Usual size of a link's receive buffer.
    pub inbox_bytes: usize,
    /// Held by every worker of the node that may still hand something over to a sibling.
    pub running: Arc<()>,
    /// The same, once this one has let go.
    pub awaited: Weak<()>,
    /// By the place of the link.
    pub sockets: Vec<Option<(LinkId, Socket)>>,
    /// Bytes in the inboxes of all of them.
    pub received_bytes: usize,
}

impl WorkerThread {
    /// Runs until it is told to stop.
    ///
    /// # Errors
    /// Only when the system's poll itself fails.
    pub fn run(&mut self) -> io::Result<()> {
        mark_worker_thread();
        for_handler_of(self.worker.node(), || self.cycle())
    }

    fn cycle(&mut self) -> io::Result<()> {
        let Self { worker, turn, sleeper, ends } = self;
        let mut events = Events::with_capacity(256);
        loop {
            match turn.run(worker, ends) {
                TurnOutcome::Again => poll(&mut ends.poll, &mut events, Some(Duration::ZERO))?,
                TurnOutcome::Sleep => {
                    // From here on every producer that adds something wakes the poll.
                    sleeper.announce();
                    let pause = turn.may_sleep(worker, ends);
                    let outcome = poll(&mut ends.poll, &mut events, pause);
                    sleeper.awake();
                    outcome?;
                }
                TurnOutcome::Ended => return Ok(()),
            }
            for event in &events {
                let link = LinkId::from_bits(event.token().0 as u64);
                let over = event.is_read_closed() || event.is_error();
                if event.is_readable() || over {
                    turn.readable(link, over);
                }
                if event.is_writable() {
                    turn.writable(worker, link);
                }
            }
        }
    }
}

impl WorkerEnds {
    #[inline]
    fn socket(&mut self, link: LinkId) -> Option<&mut Socket> {
        let place = self.sockets.get_mut(link.slot())?.as_mut();
        place.filter(|(of, _)| *of == link).map(|(_, socket)| socket)
    }

    #[inline]
    fn rings(&mut self, sibling: WorkerIndex) -> Option<&mut SiblingRings> {
        self.siblings[usize::from(sibling.0)].as_mut()
    }
}

impl WorkerIo for WorkerEnds {
    type Connection = std::net::TcpStream;

    #[inline]
    fn now(&mut self) -> Time {
        self.clock.now()
    }

    #[inline]
    fn next_command(&mut self) -> Option<Command> {
        self.commands.pop()
    }

    fn has_command(&self) -> bool {
        !self.commands.is_empty()
    }

    #[inline]
    fn is_control_gone(&self) -> bool {
        self.commands.is_closed() && self.commands.is_empty()
    }

    fn report(&mut self, report: Report) -> Result<(), Full<Report>> {
        match self.reports.try_send(report) {
            Err(mpsc::error::TrySendError::Full(report)) => Err(Full(report)),
            // Nobody is there to need it.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    #[inline]
    fn next_hand_over(&mut self) -> Option<Injection> {
        self.injected.pop()
    }

    fn has_hand_over(&self) -> bool {
        !self.injected.is_empty()
    }

    fn close_hand_overs(&mut self, each: &mut dyn FnMut(Injection)) {
        self.injected.close(each);
    }

    #[inline]
    fn next_chunk(&mut self, from: WorkerIndex) -> Option<Chunk> {
        self.rings(from)?.from.pop()
    }

    fn has_chunk(&self, from: WorkerIndex) -> bool {
        let rings = self.siblings[usize::from(from.0)].as_ref();
        rings.is_some_and(|rings| !rings.from.is_empty())
    }

    fn push_chunk(&mut self, to: WorkerIndex, chunk: Chunk) -> Result<(), Full<Chunk>> {
        match self.rings(to) {
            Some(rings) if !rings.to.is_closed() => rings.to.push_quiet(chunk),
            _ => Err(Full(chunk)),
        }
    }

    fn close_chunks(&mut self, sibling: WorkerIndex, each: &mut dyn FnMut(Chunk)) {
        if let Some(SiblingRings { to, from }) = self.siblings[usize::from(sibling.0)].take() {
            from.close(&mut *each);
            to.close(each);
        }
    }

    fn wake(&mut self, sibling: WorkerIndex) {
        if let Some(rings) = self.rings(sibling) {
            rings.to.notify();
        }
    }

    fn let_go(&mut self) {
        // Those that wait for it look at the number of holders.
        let held = std::mem::take(&mut self.running);
        self.awaited = Arc::downgrade(&held);
    }

    fn is_awaited(&self) -> bool {
        let awaited = self.awaited.strong_count() > 0;
        // What siblings pushed before they let go is seen after their letting go was.
        fence(Ordering::Acquire);
        awaited
    }

    fn attach(&mut self, link: LinkId, stream: std::net::TcpStream) -> io::Result<()> {
        let mut stream = mio::net::TcpStream::from_std(stream);
        let (token, interest) =
            (Token(link.to_bits() as usize), Interest::READABLE | Interest::WRITABLE);
        self.poll.registry().register(&mut stream, token, interest)?;
        if self.sockets.len() <= link.slot() {
            self.sockets.resize_with(link.slot() + 1, || None);
        }
        self.sockets[link.slot()] = Some((link, Socket::new(stream, self.inbox_bytes)));
        Ok(())
    }

    fn unwatched(&mut self, error: &io::Error, line: Line) {
        if let Some(left_out) = line {
            let left_out = counted(left_out);
            tracing::warn!(%error, left_out, "cannot watch a link's socket; it is closed");
        }
    }

    fn refuse(&mut self, stream: std::net::TcpStream) {
        drop(stream);
    }

    fn close(&mut self, link: LinkId) {
        if self.socket(link).is_some()
            && let Some((_, mut socket)) = self.sockets[link.slot()].take()
        {
            self.received_bytes -= socket.inbox.bytes().len();
            // Dropping the stream closes it, whether or not it could be deregistered.
            let _ = self.poll.registry().deregister(&mut socket.stream);
        }
    }

    fn broken(&mut self, _: LinkId, peer: Option<String>, error: WireError, line: Line) {
        if let Some(left_out) = line {
            let (peer, left_out) = (peer.as_deref(), counted(left_out));
            tracing::warn!(peer, %error, left_out, "a link is closed for a broken frame");
        }
    }

    #[inline]
    fn read(&mut self, link: LinkId) -> Moved {
        let moved = self.socket(link).map_or(Moved::Closed, Socket::read);
        if let Moved::Bytes { count, .. } = moved {
            self.received_bytes += count;
        }
        moved
    }

    #[inline]
    fn received(&self, link: LinkId) -> &[u8] {
        match self.sockets.get(link.slot()) {
            Some(Some((of, socket))) if *of == link => socket.inbox.bytes(),
            _ => &[],
        }
    }

    #[inline]
    fn consumed(&mut self, link: LinkId, count: usize, need: usize) {
        if let Some(socket) = self.socket(link) {
            socket.inbox.consumed(count, need);
            self.received_bytes -= count;
        }
    }

    fn allow(&mut self, link: LinkId, bytes: usize) {
        if let Some(socket) = self.socket(link) {
            socket.inbox.allow(bytes);
        }
    }

    #[inline]
    fn write(&mut self, link: LinkId, outbox: &Outbox) -> Moved {
        self.socket(link).map_or(Moved::Closed, |socket| socket.write(outbox))
    }

    fn flow(&mut self, link: LinkId) -> Option<Flow> {
        self.socket(link)?.flow()
    }

    fn dead(&mut self, _: LinkId, peer: Option<String>, silent: Duration, line: Line) {
        if let Some(left_out) = line {
            let (peer, silent_ms) = (peer.as_deref(), silent.as_millis() as u64);
            tracing::warn!(
                peer,
                silent_ms,
                left_out = counted(left_out),
                "a link is dialed anew: what was sent on it vanishes, as behind a firewall"
            );
        }
    }

    #[inline]
    fn show(&mut self, destination: DestinationId, state: WayState) {
        self.board.set(destination, state);
    }

    fn show_fill(&mut self) {
        let rings = self.siblings.iter().flatten().map(|rings| rings.from.len());
        self.counts.fill.rings.set(self.commands.len() + rings.sum::<usize>());
        self.counts.fill.inboxes.set(self.received_bytes);
    }
}

fn poll(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
    match poll.poll(events, timeout) {
        // A signal (a debugger, a stopped and continued process) ends the wait early.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        outcome => outcome,
    }
}
