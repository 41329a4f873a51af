//! What passes on the connections between workers, as it is written, read and acknowledged: of each
//! message that was written it is known whether its receiver has taken it, whether a handler got it
//! then, and whether its sender has heard of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::sim::events::{ConnId, CoreId, LifeId};
use crate::sim::messages::{MessageId, Request};
use crate::wire::{Deframed, Frame, FrameKind, deframe};
use crate::worker::outbox::Outbox;

/// One that was written.
struct Written {
    request: Request,
    handled: bool,
}

/// One direction of a connection: from the worker that dialed to the one that accepted.
struct Flow {
    from: CoreId,
    /// How much of the frame that was written last is still to be written.
    rest: usize,
    /// What was written and is not acknowledged, in order.
    open: VecDeque<Written>,
    /// How many of these were taken.
    taken: usize,
    /// As the dialing worker has heard: how many were handled, and how many not.
    acknowledged: (u64, u64),
    /// Asks among what is acknowledged, but for some that have ended.
    asks: Vec<MessageId>,
    /// Of how many of these it is known that they have not ended.
    open_asks: usize,
    /// By the number that travels: asks that are sent once, until their reply is read.
    waits: BTreeMap<u64, MessageId>,
    /// The dialing worker has closed it.
    closed: bool,
}

/// Asks that are kept before it is looked which have ended.
const ASKS: usize = 64;

/// All of them.
#[derive(Default)]
pub struct Passage {
    flows: BTreeMap<ConnId, Flow>,
    /// By process: how many messages wait in `open` of flows that it has not closed.
    open: Vec<u64>,
}

/// The whole frames at the front of some bytes.
fn frames(bytes: &[u8]) -> impl Iterator<Item = (Frame<'_>, usize)> {
    let mut at = 0;
    std::iter::from_fn(move || match deframe(&bytes[at..], u32::MAX) {
        Ok(Deframed::Frame(frame, full)) => {
            at += full;
            Some((frame, full))
        }
        _ => None,
    })
}

fn is_request(frame: &Frame<'_>) -> bool {
    matches!(frame.header.kind, FrameKind::Tell | FrameKind::Ask)
}

impl Passage {
    /// A worker has written so many bytes of an outbox on a connection that it dialed. Of each
    /// message some byte of which is among them for the first time, `each` gets the frame, and says
    /// which it is.
    pub fn written(
        &mut self,
        (conn, from): (ConnId, CoreId),
        outbox: &Outbox,
        count: usize,
        each: &mut dyn FnMut(&Frame<'_>) -> Option<Request>,
    ) {
        if self.open.len() <= from.0 {
            self.open.resize(from.0 + 1, 0);
        }
        let open = &mut self.open[from.0];
        let flow = self.flows.entry(conn).or_insert_with(|| Flow {
            from,
            rest: 0,
            open: VecDeque::new(),
            taken: 0,
            acknowledged: (0, 0),
            asks: Vec::new(),
            open_asks: 0,
            waits: BTreeMap::new(),
            closed: false,
        });
        let mut left = count;
        for slice in outbox.slices() {
            // Only the first one can begin within a frame.
            let rest = flow.rest.min(left);
            flow.rest -= rest;
            left -= rest;
            let mut frames = frames(&slice[rest..]);
            while left > 0
                && let Some((frame, full)) = frames.next()
            {
                if is_request(&frame)
                    && let Some(request) = each(&frame)
                {
                    if let (None, Some((number, _))) = (request.attempt, frame.correlation()) {
                        flow.waits.insert(number, request.id);
                    }
                    flow.open.push_back(Written { request, handled: false });
                    *open += u64::from(!flow.closed);
                }
                flow.rest = full.saturating_sub(left);
                left = left.saturating_sub(full);
            }
            if left == 0 {
                return;
            }
        }
    }

    /// The worker at the other end has taken these bytes, and its handlers got these messages out
    /// of them, in order. Gives how many they did not get.
    ///
    /// # Errors
    /// What cannot be.
    pub fn taken(
        &mut self,
        conn: ConnId,
        bytes: &[u8],
        handled: &mut VecDeque<MessageId>,
    ) -> Result<u64, String> {
        let count = frames(bytes).filter(|(frame, _)| is_request(frame)).count();
        let mut died = 0;
        for _ in 0..count {
            let flow = self.flows.get_mut(&conn);
            let Some(next) = flow.and_then(Flow::next) else {
                return Err(format!(
                    "a message was taken from connection {conn} where none was written"
                ));
            };
            next.handled = handled.front() == Some(&next.request.id);
            match next.handled {
                true => {
                    handled.pop_front();
                }
                false => died += 1,
            }
        }
        match handled.front() {
            Some(id) => {
                Err(format!("{id} was handled, and was not what came on connection {conn}"))
            }
            None => Ok(died),
        }
    }

    /// The dialing worker has read these bytes. Gives how many of its messages it has heard of: how
    /// many as handled, how many as not; `unhandled` gets the latter.
    ///
    /// # Errors
    /// What it heard and is not true.
    pub fn acknowledged(
        &mut self,
        conn: ConnId,
        bytes: &[u8],
        has_ended: impl Fn(MessageId) -> bool,
        unhandled: &mut Vec<MessageId>,
    ) -> Result<(u64, u64), String> {
        let mut heard = (0, 0);
        for (frame, _) in frames(bytes).filter(|(frame, _)| frame.header.kind == FrameKind::Ack) {
            let Some((delivered, dead)) = two_words(frame.body()) else { continue };
            let Some(flow) = self.flows.get_mut(&conn) else { continue };
            let (delivered_before, dead_before) = flow.acknowledged;
            let more = (delivered + dead).saturating_sub(delivered_before + dead_before) as usize;
            if more > flow.taken {
                let taken = flow.taken;
                return Err(format!("{more} messages are acknowledged, and {taken} were taken"));
            }
            let mut handled = 0;
            for Written { request, handled: was_handled } in flow.open.drain(..more) {
                handled += u64::from(was_handled);
                unhandled.extend((!was_handled).then_some(request.id));
                flow.asks.extend(request.is_ask.then_some(request.id));
            }
            if flow.asks.len() > 2 * flow.open_asks + ASKS {
                flow.asks.retain(|id| !has_ended(*id));
                flow.open_asks = flow.asks.len();
            }
            flow.taken -= more;
            if !flow.closed {
                self.open[flow.from.0] -= more as u64;
            }
            flow.acknowledged = (delivered, dead);
            if delivered != delivered_before + handled {
                return Err(format!(
                    "of {more} messages {handled} were handled, and {} are acknowledged as such",
                    delivered.saturating_sub(delivered_before)
                ));
            }
            heard = (heard.0 + handled, heard.1 + more as u64 - handled);
        }
        Ok(heard)
    }

    /// The dialing worker has read these bytes. `each` gets the asks that are sent once whose replies
    /// are among them.
    pub fn replied(&mut self, conn: ConnId, bytes: &[u8], each: &mut dyn FnMut(MessageId)) {
        let Some(flow) = self.flows.get_mut(&conn).filter(|flow| !flow.waits.is_empty()) else {
            return;
        };
        for (frame, _) in frames(bytes) {
            let ends = matches!(frame.header.kind, FrameKind::Reply | FrameKind::Failure);
            let number = frame.correlation().filter(|_| ends).map(|(number, _)| number);
            if let Some(id) = number.and_then(|number| flow.waits.remove(&number))
                && frame.header.kind == FrameKind::Reply
            {
                each(id);
            }
        }
    }

    /// The dialing worker has closed a connection: what it has not heard of, it never will. `each`
    /// gets that, and what it had asked there. Gives how many messages it never hears of.
    pub fn closed(&mut self, conn: ConnId, each: &mut dyn FnMut(MessageId)) -> u64 {
        let Some(flow) = self.flows.get_mut(&conn) else { return 0 };
        if std::mem::replace(&mut flow.closed, true) {
            return 0;
        }
        self.open[flow.from.0] -= flow.open.len() as u64;
        let asks = std::mem::take(&mut flow.asks);
        flow.open.iter().map(|written| written.request.id).chain(asks).for_each(each);
        flow.open.len() as u64
    }

    /// A worker has stopped: the connections that it dialed are closed in its mind.
    pub fn of_worker(&self, core: CoreId) -> Vec<ConnId> {
        let flows = self.flows.iter().filter(|(_, flow)| flow.from == core && !flow.closed);
        flows.map(|(conn, _)| *conn).collect()
    }

    /// What a process has written and not heard of, on what it has not closed.
    pub fn written_by(&self, life: LifeId) -> BTreeSet<MessageId> {
        let flows = self.flows.values().filter(|flow| flow.from.0 == life && !flow.closed);
        flows.flat_map(|flow| &flow.open).map(|written| written.request.id).collect()
    }

    /// How many messages a process has written and not heard of, on what it has not closed.
    pub fn open_of(&self, life: LifeId) -> u64 {
        self.open.get(life).copied().unwrap_or(0)
    }

    /// Forgets what both ends have closed.
    pub fn forget(&mut self, is_over: impl Fn(ConnId) -> bool) {
        let Self { flows, open } = self;
        flows.retain(|conn, flow| {
            let over = is_over(*conn);
            if over && !flow.closed {
                open[flow.from.0] -= flow.open.len() as u64;
            }
            !over
        });
    }
}

impl Flow {
    /// What is taken next.
    fn next(&mut self) -> Option<&mut Written> {
        let next = self.open.get_mut(self.taken)?;
        self.taken += 1;
        Some(next)
    }
}

/// The body of an acknowledgement.
fn two_words(body: &[u8]) -> Option<(u64, u64)> {
    let (first, rest) = body.split_first_chunk()?;
    Some((u64::from_le_bytes(*first), u64::from_le_bytes(*rest.first_chunk()?)))
}
