//! Reads and writes: which link, when, and how much of it.

use super::inboxes::{FIRST_BYTES, FIRST_GRANT, Grant, InboxUsage, Whose, Widened, spare, stalled};
use super::{Moved, Turn, WorkerIo, show};
use crate::base::{LogKind, Time};
use crate::wire::WireError;
use crate::worker::purse::Account;
use crate::worker::{LinkId, Role, Worker};

/// What is known of a link's socket.
#[derive(Clone, Copy)]
pub(super) struct Port {
    pub link: Option<LinkId>,
    /// A read may bring bytes.
    readable: bool,
    /// No more bytes come than are there already: it is read until the end of them, since no
    /// further event tells of the end.
    over: bool,
    /// Its connection is over for this side: nothing more is written, and it is lost once what has
    /// come is handled.
    given_up: bool,
    /// A write may take bytes.
    writable: bool,
    /// Bytes were received and not handled, because there was no time.
    unhandled: bool,
    /// A frame came to its end since it was last said what the next one takes.
    ended: bool,
    /// It is among those that are ready.
    listed: bool,
    /// Something came since the last look.
    pub heard: bool,
    /// What is read next may have come long ago: it was left where it was.
    behind: bool,
    /// At so many looks in a row nothing had come, and messages waited to be acknowledged.
    pub quiet: u32,
    /// Since when something is written of which it is not known whether it arrived.
    pub owes: Option<Time>,
    /// How large its receive buffer may be.
    grant: Grant,
}

const NO_PORT: Port = Port {
    link: None,
    readable: false,
    over: false,
    given_up: false,
    writable: false,
    unhandled: false,
    ended: false,
    listed: false,
    heard: false,
    behind: false,
    quiet: 0,
    owes: None,
    grant: FIRST_GRANT,
};

impl Port {
    /// Whether something that has come may not have been handled.
    pub fn is_behind(&self) -> bool {
        self.listed || self.grant.wanted > 0
    }
}

/// On whose account a link's receive buffer is.
fn whose(worker: &Worker, link: LinkId) -> Whose {
    let client = worker.link(link).is_some_and(|it| it.outbox().held().1 == Account::Clients);
    if client { Whose::Client } else { Whose::Member }
}

impl Turn {
    /// A link's socket has something to read; if it is `over`, nothing comes after that.
    pub fn readable(&mut self, link: LinkId, over: bool) {
        self.noted = true;
        if let Some(port) = self.port(link) {
            port.readable = true;
            port.over |= over;
            self.list(link);
        }
    }

    /// A link's socket takes bytes again.
    pub fn writable(&mut self, worker: &mut Worker, link: LinkId) {
        self.noted = true;
        if let Some(port) = self.port(link) {
            port.writable = true;
            if worker.link(link).is_some_and(|link| !link.outbox().is_empty()) {
                worker.touch(link);
            }
        }
    }

    #[inline]
    pub(super) fn port(&mut self, link: LinkId) -> Option<&mut Port> {
        self.ports.get_mut(link.slot()).filter(|port| port.link == Some(link))
    }

    fn list(&mut self, link: LinkId) {
        if let Some(port) = self.port(link)
            && !port.listed
        {
            port.listed = true;
            self.ready.push_back(link);
        }
    }

    /// Gives a link its connection.
    pub(super) fn connect<I: WorkerIo>(
        &mut self,
        worker: &mut Worker,
        io: &mut I,
        link: Option<LinkId>,
        connection: I::Connection,
    ) {
        let Some(link) = link else { return io.refuse(connection) };
        if self.ports.len() <= link.slot() {
            self.ports.resize(link.slot() + 1, NO_PORT);
        }
        // What had the place before, or this link's connection before.
        if let Some(before) = self.ports[link.slot()].link {
            self.disconnect(io, before);
            io.close(before);
        }
        if let Err(error) = io.attach(link, connection) {
            io.unwatched(&error, self.log.line(worker.now(), LogKind::UnwatchedSocket));
            worker.link_lost(link);
            return;
        }
        io.allow(link, FIRST_BYTES);
        // What came before the socket was watched must be tried for; and the last that was said in
        // the handshake may not have arrived.
        let now = worker.now();
        self.ports[link.slot()] =
            Port { link: Some(link), readable: true, writable: true, owes: Some(now), ..NO_PORT };
        self.looks.begin(now);
        self.list(link);
        worker.touch(link);
    }

    /// A link has no connection any more.
    pub(super) fn disconnect<I: WorkerIo>(&mut self, io: &mut I, link: LinkId) {
        let Self { ports, inboxes, .. } = self;
        let port = ports.get_mut(link.slot()).filter(|port| port.link == Some(link));
        if let Some(port) = port {
            let freed = inboxes.end(&mut port.grant);
            *port = NO_PORT;
            inboxes.waiting.retain(|waiting| *waiting != link);
            if freed {
                self.fit_waiting(io);
            }
        }
    }

    pub(super) fn lose<I: WorkerIo>(&mut self, worker: &mut Worker, io: &mut I, link: LinkId) {
        self.disconnect(io, link);
        io.close(link);
        worker.link_lost(link);
    }

    /// Reads what has come on a link to its end, and then loses it: a peer that is gone may have said
    /// before what became of messages, while this worker had no time.
    pub(super) fn read_out(&mut self, link: LinkId) {
        if let Some(port) = self.port(link) {
            (port.given_up, port.readable, port.owes) = (true, true, None);
            self.list(link);
        }
    }

    /// Reads each link that is ready once, and handles what came; where one did not come to its
    /// end, the others have their turn first.
    pub(super) fn read_sockets<I: WorkerIo>(&mut self, worker: &mut Worker, io: &mut I) -> bool {
        self.pace.share();
        let mut any = false;
        for _ in 0..self.ready.len() {
            if self.pace.is_over() {
                break;
            }
            let Some(link) = self.ready.pop_front() else { break };
            let Some(port) = self.port(link) else { continue };
            port.listed = false;
            // It is listed again when there is room for its message, or when its peer, which does not
            // take its replies, has taken them.
            if port.grant.wanted > 0 || worker.is_choked(link) {
                port.behind = true;
                if port.given_up {
                    self.lose(worker, io, link);
                }
                continue;
            }
            if !port.unhandled {
                match io.read(link) {
                    Moved::Bytes { more, .. } => {
                        port.readable = more || port.over || port.given_up;
                        port.heard |= !port.behind;
                        port.behind &= more;
                        if more {
                            self.widen(worker, io, link);
                        }
                    }
                    Moved::Blocked if !port.given_up => {
                        port.readable = false;
                        continue;
                    }
                    Moved::Blocked | Moved::Closed => {
                        any = true;
                        self.lose(worker, io, link);
                        continue;
                    }
                }
            }
            any = true;
            match self.handle(worker, io, link) {
                Ok((some, need)) => {
                    let Some(port) = self.port(link) else { continue };
                    port.ended |= some;
                    if let Some(need) = need {
                        let ended = std::mem::take(&mut port.ended);
                        self.fit(worker, io, link, need, ended);
                    }
                    if let Some(port) = self.port(link) {
                        port.unhandled = need.is_none();
                        if port.unhandled || port.readable {
                            self.list(link);
                        }
                    }
                }
                Err(error) => self.expel(worker, io, link, error),
            }
        }
        // Now that what had come has been taken, however long this worker was held before.
        any | self.end_stalled(worker, io)
    }

    /// A read filled a link's buffer: it becomes larger, if there is room.
    fn widen<I: WorkerIo>(&mut self, worker: &Worker, io: &mut I, link: LinkId) {
        let (now, whose) = (worker.now(), whose(worker, link));
        let grant = &mut self.ports[link.slot()].grant;
        match self.inboxes.widen(grant, whose, now) {
            Widened::Yes => io.allow(link, grant.bytes()),
            Widened::Wanted => self.give_back(io, link, now),
            Widened::No => {}
        }
    }

    /// Has another link give back what this one wants, if there is one.
    #[cold]
    fn give_back<I: WorkerIo>(&mut self, io: &mut I, wanting: LinkId, now: Time) {
        let grants = self.ports.iter().map(|port| &port.grant);
        let Some((place, to)) = spare(grants, &self.ports[wanting.slot()].grant, now) else {
            return;
        };
        let port = &mut self.ports[place];
        // What it holds is handled first.
        if let Some(link) = port.link
            && io.received(link).len() <= to
        {
            self.inboxes.narrow(&mut port.grant, to);
            io.allow(link, port.grant.bytes());
        }
    }

    /// Sees to it that a link has room for the frame that comes next, or waits for it.
    #[inline]
    fn fit<I: WorkerIo>(
        &mut self,
        worker: &Worker,
        io: &mut I,
        link: LinkId,
        need: usize,
        ended: bool,
    ) {
        let Some(port) = self.port(link) else { return };
        if port.grant.frame > 0 || need > port.grant.window {
            self.fit_long(worker, io, link, need, ended);
        }
    }

    #[cold]
    fn fit_long<I: WorkerIo>(
        &mut self,
        worker: &Worker,
        io: &mut I,
        link: LinkId,
        need: usize,
        ended: bool,
    ) {
        let held = io.received(link).len();
        let now = worker.now();
        let whose = whose(worker, link);
        let grant = &mut self.ports[link.slot()].grant;
        if ended {
            self.inboxes.go_on(grant);
        }
        // A message is through, maybe since the last time: those that wait come first.
        let through = ended || need <= grant.window;
        if through && held <= grant.window && self.inboxes.end_frame(grant) {
            io.allow(link, grant.window);
            self.fit_waiting(io);
        }
        let grant = &mut self.ports[link.slot()].grant;
        if self.inboxes.fit(grant, whose, need) {
            io.allow(link, grant.bytes());
        } else {
            self.inboxes.wait(link, now);
        }
    }

    /// Something has become free for those that wait.
    fn fit_waiting<I: WorkerIo>(&mut self, io: &mut I) {
        for _ in 0..self.inboxes.waiting.len() {
            let Some(link) = self.inboxes.waiting.pop_front() else { return };
            let place = link.slot();
            let mut grant = self.ports[place].grant;
            let (need, whose) = (grant.wanted, grant.wanting);
            if self.inboxes.fit(&mut grant, whose, need) {
                io.allow(link, grant.bytes());
                self.ports[place].grant = grant;
                self.list(link);
            } else {
                self.inboxes.waiting.push_back(link);
            }
        }
    }

    /// While some wait, whoever has had room of their kind for too long gives it up, and the link.
    fn end_stalled<I: WorkerIo>(&mut self, worker: &mut Worker, io: &mut I) -> bool {
        if self.inboxes.waiting.is_empty() {
            return false;
        }
        let waited = self.inboxes.wait_on(worker.now());
        let grants = self.ports.iter().map(|port| &port.grant);
        let Some(place) = stalled(grants, waited) else { return false };
        let Some(link) = self.ports[place].link else { return false };
        self.expel(worker, io, link, WireError::Stalled);
        true
    }

    /// How much receive buffers may take beyond their first bytes.
    pub fn inbox_usage(&self) -> [InboxUsage; 4] {
        self.inboxes.usage(self.ports.iter().map(|port| &port.grant))
    }

    /// Handles what was received. Says whether a frame came to its end, and what the one that comes
    /// next takes; nothing of that when the time was over before the end.
    fn handle<I: WorkerIo>(
        &mut self,
        worker: &mut Worker,
        io: &mut I,
        link: LinkId,
    ) -> Result<(bool, Option<usize>), WireError> {
        let mut count = 0;
        loop {
            self.before(worker, io);
            let bytes = &io.received(link)[count..];
            let received = worker.receive(link, bytes, self.pace.left());
            self.behind(worker, received.as_ref().map_or(0, |received| received.frames));
            let received = received?;
            count += received.consumed;
            let look = self.pace.handled(received.frames);
            let over = look && self.look(worker, io);
            if received.more && (over || worker.is_choked(link)) {
                io.consumed(link, count, 0);
                return Ok((count > 0, None));
            }
            if !received.more {
                io.consumed(link, count, received.need);
                return Ok((count > 0, Some(received.need)));
            }
        }
    }

    /// A peer broke the protocol: its link is closed, nobody else notices.
    #[cold]
    fn expel<I: WorkerIo>(
        &mut self,
        worker: &mut Worker,
        io: &mut I,
        link: LinkId,
        error: WireError,
    ) {
        let line = self.log.line(worker.now(), LogKind::BrokenFrame);
        let peer = line.and_then(|_| worker.peer_name(link));
        io.broken(link, peer, error, line);
        self.lose(worker, io, link);
    }

    /// Writes every outbox that got frames.
    pub(super) fn flush<I: WorkerIo>(
        &mut self,
        worker: &mut Worker,
        io: &mut I,
        now: Time,
    ) -> bool {
        let mut any = false;
        for id in self.again.drain(..) {
            worker.touch(id);
        }
        while let Some(id) = worker.take_dirty() {
            let Some(link) = worker.link(id) else { continue };
            match link.role {
                Role::Own => {}
                Role::Sibling(sibling) => {
                    let mut some = false;
                    while let Some(chunk) = worker.pop_sibling_chunk(id) {
                        if let Err(full) = io.push_chunk(sibling, chunk) {
                            worker.unpop_sibling_chunk(id, full.0);
                            self.again.push(id);
                            break;
                        }
                        some = true;
                    }
                    if some {
                        any = true;
                        io.wake(sibling);
                    }
                }
                Role::Dialed { .. } | Role::Accepted { .. } => {
                    any |= self.flush_socket(worker, io, id, now);
                }
            }
            show(worker, io, id);
        }
        any
    }

    fn flush_socket<I: WorkerIo>(
        &mut self,
        worker: &mut Worker,
        io: &mut I,
        id: LinkId,
        now: Time,
    ) -> bool {
        let Some(&mut Port { mut writable, given_up, .. }) = self.port(id) else { return false };
        if given_up {
            return false;
        }
        let mut any = false;
        while writable {
            let Some(link) = worker.link(id).filter(|link| !link.outbox().is_empty()) else {
                break;
            };
            match io.write(id, link.outbox()) {
                Moved::Bytes { count, more } => {
                    any = true;
                    writable = more;
                    worker.written(id, count);
                }
                Moved::Blocked => writable = false,
                Moved::Closed => {
                    self.read_out(id);
                    return true;
                }
            }
        }
        if !writable {
            worker.blocked(id);
        }
        if let Some(port) = self.port(id) {
            port.writable = writable;
            let first = any && port.owes.is_none();
            if first {
                port.owes = Some(now);
            }
            let again = port.readable || port.unhandled;
            if first {
                self.looks.begin(now);
            }
            if again {
                self.list(id); // Reading rested while its outbox was full.
            }
        }
        any
    }
}
