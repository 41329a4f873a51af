//! Where parts put what they want done. An outlet is a list that the caller owns and empties, so
//! that the memory is used again and a test can compare all of it.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rkyv::ser::allocator::Arena;

use super::{LinkRef, PartId};
use crate::base::{InstanceId, NodeRef, WorkerIndex};
use crate::wire::{Chunk, EncodeError, Fields, FrameKind, Message, encode};

/// Where a part's frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// Back on this link; dropped when it is gone.
    Link(LinkRef),
    /// To a worker of a node, on the link dialed to it, which is opened if need be. Dropped at once,
    /// and the part is told, when the link is full
    /// ([`WorkerPart::crowded_out`](super::WorkerPart::crowded_out)), or cannot be opened now
    /// ([`WorkerPart::cut_off`](super::WorkerPart::cut_off)). What is dropped later the part sees as
    /// [`LinkChange::Closed`](super::LinkChange::Closed).
    Peer(NodeRef, WorkerIndex),
}

/// What a worker's half of a part wants done. `R` is its word to control's half.
#[derive(Debug)]
pub enum WorkerEffect<R> {
    /// Send a frame of this part.
    Send {
        /// Whose frame it is.
        part: PartId,
        /// Where to.
        to: To,
        /// The part's own number for what the frame says.
        op: u8,
        /// Where in [`WorkerEffects::bytes`] its body lies.
        body: Range<usize>,
    },
    /// Bring a message, encoded as one tell, to this routee of this worker, and to no other life.
    Deliver(InstanceId, Chunk),
    /// Call the part's timer with this token after a while.
    After {
        /// Whose timer it is.
        part: PartId,
        /// How long.
        after: Duration,
        /// What the part gets back.
        token: u64,
    },
    /// Tell control's half.
    ToControl(R),
    /// Raise a counter of the part.
    Count {
        /// Whose counter.
        part: PartId,
        /// Which of its [`COUNTERS`](super::Part::COUNTERS).
        counter: usize,
        /// By how much.
        by: u64,
    },
}

/// The effects of parts on one worker since they were last carried out.
#[derive(Debug)]
pub struct WorkerEffects<R> {
    /// In the order in which they were asked for.
    pub list: Vec<WorkerEffect<R>>,
    /// The bodies of frames, one behind another.
    pub bytes: Vec<u8>,
}

impl<R> Default for WorkerEffects<R> {
    fn default() -> Self {
        Self { list: Vec::new(), bytes: Vec::new() }
    }
}

impl<R> WorkerEffects<R> {
    /// Whether nothing is to be done.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

/// What one part on a worker may do. `R` is its own word to control's half, `wrap` makes the
/// house's out of it.
pub struct Outlet<'a, R> {
    part: PartId,
    sink: &'a mut dyn WorkerSink<R>,
}

/// Hides the enum over all parts' reports from a part.
pub(super) trait WorkerSink<R> {
    fn send(&mut self, part: PartId, to: To, op: u8, body: &[u8]);
    fn deliver(&mut self, to: InstanceId, chunk: Chunk);
    fn after(&mut self, part: PartId, after: Duration, token: u64);
    fn to_control(&mut self, report: R);
    fn count(&mut self, part: PartId, counter: usize, by: u64);
}

impl<R, All: From<R>> WorkerSink<R> for WorkerEffects<All> {
    fn send(&mut self, part: PartId, to: To, op: u8, body: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(body);
        self.list.push(WorkerEffect::Send { part, to, op, body: start..self.bytes.len() });
    }

    fn deliver(&mut self, to: InstanceId, chunk: Chunk) {
        self.list.push(WorkerEffect::Deliver(to, chunk));
    }

    fn after(&mut self, part: PartId, after: Duration, token: u64) {
        self.list.push(WorkerEffect::After { part, after, token });
    }

    fn to_control(&mut self, report: R) {
        self.list.push(WorkerEffect::ToControl(report.into()));
    }

    fn count(&mut self, part: PartId, counter: usize, by: u64) {
        self.list.push(WorkerEffect::Count { part, counter, by });
    }
}

/// The smallest chunk for a message that a part delivers.
const DELIVERED_BYTES: usize = 64;

impl<'a, R> Outlet<'a, R> {
    pub(super) fn new(part: PartId, sink: &'a mut dyn WorkerSink<R>) -> Self {
        Self { part, sink }
    }

    /// Sends a frame of this part. At most once, in order with the part's other frames on the
    /// same link; it is no message and stands in no count of messages.
    pub fn send(&mut self, to: To, op: u8, body: &[u8]) {
        self.sink.send(self.part, to, op, body);
    }

    /// Delivers a message to a routee of this worker, as if it had been told. It is counted like
    /// any other tell, and is dead when that life of the routee is over before it gets there.
    pub fn deliver<M: Message>(&mut self, to: InstanceId, message: &M) {
        let mut capacity = DELIVERED_BYTES;
        loop {
            let mut chunk = Chunk::with_capacity(capacity);
            let fields = Fields::default();
            let kind = FrameKind::Tell;
            let (arena, handler) = (&mut Arena::new(), to.handler);
            match encode(&mut chunk, arena, kind, &fields, M::TYPE_ID, handler, message) {
                Ok(_) => return self.sink.deliver(to, chunk),
                Err(EncodeError::Overflow) => capacity *= 4,
                // Parts deliver types of this crate, and none of them fails.
                Err(EncodeError::Serialize) => {
                    debug_assert!(false, "a part's own message failed to serialise");
                    return;
                }
            }
        }
    }

    /// Has [`WorkerPart::timer`](super::WorkerPart::timer) called after a while, to the
    /// millisecond above.
    pub fn after(&mut self, after: Duration, token: u64) {
        self.sink.after(self.part, after, token);
    }

    /// Tells control's half.
    pub fn to_control(&mut self, report: R) {
        self.sink.to_control(report);
    }

    /// Raises one of the part's counters.
    pub fn count(&mut self, counter: usize, by: u64) {
        self.sink.count(self.part, counter, by);
    }
}

/// What control's half of a part wants done. `F` are facts, `O` orders to workers' halves.
#[derive(Debug)]
pub enum ControlEffect<O> {
    /// Call the part's timer with this token after a while.
    After {
        /// Whose timer it is.
        part: PartId,
        /// How long.
        after: Duration,
        /// What the part gets back.
        token: u64,
    },
    /// Hand this to one worker's half.
    ToWorker(WorkerIndex, O),
    /// Say this to all members.
    Gossip {
        /// Whose word it is.
        part: PartId,
        /// What it replaces.
        key: u32,
        /// The word.
        bytes: Vec<u8>,
    },
    /// Say this to another node's half.
    Send {
        /// Whose word it is.
        part: PartId,
        /// Whom to.
        to: NodeRef,
        /// The part's own number for what the word says.
        op: u8,
        /// The word.
        bytes: Vec<u8>,
    },
}

/// The effects of parts in control since they were last carried out.
#[derive(Debug)]
pub struct ControlEffects<O> {
    /// In the order in which they were asked for.
    pub list: Vec<ControlEffect<O>>,
    /// Whether the facts were published anew.
    pub published: bool,
}

impl<O> Default for ControlEffects<O> {
    fn default() -> Self {
        Self { list: Vec::new(), published: false }
    }
}

/// What one part in control may do.
pub struct ControlOutlet<'a, F, O> {
    part: PartId,
    facts: &'a mut Arc<F>,
    sink: &'a mut dyn ControlSink<O>,
}

pub(super) trait ControlSink<O> {
    fn after(&mut self, part: PartId, after: Duration, token: u64);
    fn to_worker(&mut self, worker: WorkerIndex, order: O);
    fn publish(&mut self);
    fn gossip(&mut self, part: PartId, key: u32, bytes: Vec<u8>);
    fn send(&mut self, part: PartId, to: NodeRef, op: u8, bytes: Vec<u8>);
}

impl<O, All: From<O>> ControlSink<O> for ControlEffects<All> {
    fn after(&mut self, part: PartId, after: Duration, token: u64) {
        self.list.push(ControlEffect::After { part, after, token });
    }

    fn to_worker(&mut self, worker: WorkerIndex, order: O) {
        self.list.push(ControlEffect::ToWorker(worker, order.into()));
    }

    fn publish(&mut self) {
        self.published = true;
    }

    fn gossip(&mut self, part: PartId, key: u32, bytes: Vec<u8>) {
        self.list.push(ControlEffect::Gossip { part, key, bytes });
    }

    fn send(&mut self, part: PartId, to: NodeRef, op: u8, bytes: Vec<u8>) {
        self.list.push(ControlEffect::Send { part, to, op, bytes });
    }
}

impl<'a, F, O> ControlOutlet<'a, F, O> {
    pub(super) fn new(
        part: PartId,
        facts: &'a mut Arc<F>,
        sink: &'a mut dyn ControlSink<O>,
    ) -> Self {
        Self { part, facts, sink }
    }

    /// Has [`ControlPart::timer`](super::ControlPart::timer) called after a while.
    pub fn after(&mut self, after: Duration, token: u64) {
        self.sink.after(self.part, after, token);
    }

    /// Hands new facts to all workers' halves, behind the snapshot of the same step.
    pub fn publish(&mut self, facts: F) {
        *self.facts = Arc::new(facts);
        self.sink.publish();
    }

    /// Hands an order to one worker's half.
    pub fn to_worker(&mut self, worker: WorkerIndex, order: O) {
        self.sink.to_worker(worker, order);
    }

    /// Says something to all members, now and to come, in place of what this node said before
    /// under the same key. Up to 256 bytes, and 16 keys. It spreads within a second or two,
    /// even where datagrams are lost, and the others hear the latest of it only.
    pub fn gossip(&mut self, key: u32, bytes: Vec<u8>) {
        self.sink.gossip(self.part, key, bytes);
    }

    /// Says something to another node's half: up to 16,368 bytes. Words to one node arrive in
    /// order, each once; or [`ControlPart::lost`](super::ControlPart::lost) tells that some may not
    /// have arrived, as when the node is no member, or takes too little of what it is sent.
    pub fn send(&mut self, to: NodeRef, op: u8, bytes: Vec<u8>) {
        self.sink.send(self.part, to, op, bytes);
    }
}
