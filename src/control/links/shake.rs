//! What is said on a connection until a worker has it: a handshake of either side, or nothing where
//! only a look was wanted. Steps over a connection that is not named here, so that every driver
//! takes the same ones.

use std::io;
use std::net::SocketAddr;

use super::{Failure, JobEvent};
use crate::wire::handshake::{
    AcceptParams, AcceptStep, Acceptor, DialParams, DialStep, Dialer, HandshakeError,
};

/// How much of what a stranger says is read, and left aside, once it was refused.
const READ_ON: usize = 64 << 10;

/// How much of that at a time.
const READ_AT_ONCE: usize = 4 << 10;

/// An open connection that never waits: what cannot be done now fails with
/// [`io::ErrorKind::WouldBlock`].
pub trait Wire {
    /// Reads once; 0 bytes are the end.
    ///
    /// # Errors
    /// When nothing has come, or the connection broke.
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize>;

    /// Writes once.
    ///
    /// # Errors
    /// When nothing goes through now, or the connection broke.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize>;

    /// Nothing more is written, and the peer sees that, where a connection can be closed on one side.
    fn finish(&mut self) {}
}

/// What a step came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Control has to hear of this. After [`JobEvent::is_last`] there is no further step.
    Tell(JobEvent),
    /// The next step is due when the connection can be read.
    Read,
    /// The next step is due when the connection can be written.
    Write,
}

/// One connection's talk.
pub struct Shake {
    with: With,
    /// Of the part that comes next.
    came: Vec<u8>,
    unsent: Vec<u8>,
    /// Told once everything is sent.
    next: Option<JobEvent>,
    began: bool,
}

enum With {
    /// The node that is thought to be at this address.
    Peer(SocketAddr, Box<Dialer>),
    /// Whoever has connected.
    Stranger(Box<Acceptor>),
    /// Nobody: that it listens is all that matters.
    Listener,
    /// Whoever has connected and was refused, of which so much more is read. A connection that is
    /// closed while something on it is unread is reset, which may destroy the refusal on its way.
    Refused(usize),
}

impl Shake {
    /// Opens a link over the connection to an address, from when it is made. The nonce comes fresh
    /// from the system's random source.
    pub fn dial(address: SocketAddr, params: DialParams, nonce: [u8; 32]) -> Self {
        let (dialer, hello) = Dialer::new(params, nonce);
        let with = With::Peer(address, Box::new(dialer));
        Self { unsent: hello, next: Some(JobEvent::Connected), ..Self::new(with) }
    }

    /// Lets whoever has connected open a link. The nonce comes fresh from the system's random
    /// source.
    pub fn accept(params: AcceptParams, nonce: [u8; 32]) -> Self {
        Self::new(With::Stranger(Box::new(Acceptor::new(params, nonce))))
    }

    /// Looks whether somebody listens.
    pub fn probe() -> Self {
        Self { next: Some(JobEvent::Connected), ..Self::new(With::Listener) }
    }

    fn new(with: With) -> Self {
        Self { with, came: Vec::new(), unsent: Vec::new(), next: None, began: false }
    }

    /// Goes on as far as it can without waiting.
    pub fn step(&mut self, wire: &mut impl Wire) -> Step {
        loop {
            let moved = match self.unsent.is_empty() {
                false => self.send(wire),
                true => match self.next.take() {
                    Some(event) => {
                        if matches!(event, JobEvent::Refused(..)) {
                            wire.finish();
                        }
                        return Step::Tell(event);
                    }
                    None => self.read(wire),
                },
            };
            match moved {
                Ok(Some(step)) => return step,
                Ok(None) => {}
                // It may be gone already, and is refused either way.
                Err(_) if matches!(self.next, Some(JobEvent::Refused(..))) => self.unsent.clear(),
                Err(error) => return Step::Tell(self.broke(&error)),
            }
        }
    }

    fn send(&mut self, wire: &mut impl Wire) -> io::Result<Option<Step>> {
        match now(wire.write(&self.unsent))? {
            Some(0) => Err(io::ErrorKind::WriteZero.into()),
            Some(count) => {
                self.unsent.drain(..count);
                Ok(None)
            }
            None => Ok(Some(Step::Write)),
        }
    }

    /// Exactly what the handshake expects: frames that follow belong to the worker.
    fn read(&mut self, wire: &mut impl Wire) -> io::Result<Option<Step>> {
        let expects = match &self.with {
            With::Peer(_, dialer) => dialer.expects(),
            With::Stranger(acceptor) => acceptor.expects(),
            // It is not asked, and has nothing to say: but that it closes must be seen, since a
            // connection that is over is readable for ever.
            With::Listener => 1,
            With::Refused(left) => (*left).min(READ_AT_ONCE),
        };
        let had = self.came.len();
        self.came.resize(expects, 0);
        let read = now(wire.read(&mut self.came[had..]));
        let count = read.as_ref().map_or(0, |count| count.unwrap_or(0));
        self.came.truncate(had + count);
        match read? {
            Some(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(count) if let With::Refused(left) = &mut self.with => {
                self.came.clear();
                *left = left.saturating_sub(count);
                let more = "whoever was refused goes on talking".to_owned();
                let failed = JobEvent::Failed(Failure::Broken, more);
                return Ok((*left == 0).then_some(Step::Tell(failed)));
            }
            Some(_) => {}
            None => return Ok(Some(Step::Read)),
        }
        if self.came.len() == expects {
            let bytes = std::mem::take(&mut self.came);
            self.receive(&bytes);
        }
        if !std::mem::replace(&mut self.began, true) && matches!(self.with, With::Stranger(_)) {
            return Ok(Some(Step::Tell(JobEvent::Began)));
        }
        Ok(None)
    }

    fn receive(&mut self, bytes: &[u8]) {
        match &mut self.with {
            With::Peer(address, dialer) => match dialer.receive(bytes) {
                Ok(DialStep::More) => {}
                Ok(DialStep::Send(answer)) => self.unsent = answer,
                Ok(DialStep::Done(established)) => {
                    self.next = Some(JobEvent::Dialed(established.takes));
                }
                Err(error) => {
                    let why = format!("the handshake with {address} failed: {error}");
                    self.next = Some(refused(error, why));
                }
            },
            With::Stranger(acceptor) => match acceptor.receive(bytes) {
                AcceptStep::More => {}
                AcceptStep::Send(answer) => {
                    (self.unsent, self.next) = (answer, Some(JobEvent::Asked));
                }
                AcceptStep::Done { send, established } => {
                    (self.unsent, self.next) = (send, Some(JobEvent::Accepted(established)));
                }
                AcceptStep::Refuse { send, error } => {
                    let why = format!("the handshake was refused: {error}");
                    (self.unsent, self.next) = (send, Some(JobEvent::Refused(error, why)));
                    self.with = With::Refused(READ_ON);
                }
            },
            With::Refused(_) => {}
            With::Listener => {
                let why = "whoever listens there speaks first".to_owned();
                self.next = Some(JobEvent::Failed(Failure::Broken, why));
            }
        }
    }

    fn broke(&self, error: &io::Error) -> JobEvent {
        let why = match &self.with {
            With::Peer(address, _) => format!("connecting to {address} failed: {error}"),
            With::Stranger(_) | With::Refused(_) => {
                format!("the connection broke during its handshake: {error}")
            }
            With::Listener => error.to_string(),
        };
        JobEvent::Failed(Failure::Broken, why)
    }
}

fn refused(error: HandshakeError, why: String) -> JobEvent {
    JobEvent::Failed(Failure::Handshake(error), why)
}

/// `None` when it cannot be done now.
pub(super) fn now(moved: io::Result<usize>) -> io::Result<Option<usize>> {
    match moved {
        Ok(count) => Ok(Some(count)),
        Err(error) => match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
            _ => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::num::NonZeroU32;

    use super::*;
    use crate::base::{Incarnation, NodeId, NodeRef, WorkerIndex};
    use crate::wire::{ClusterKey, VersionRange};

    /// Takes and gives one byte at a time, and every other call nothing.
    #[derive(Default)]
    struct Slow {
        from: VecDeque<u8>,
        to: Vec<u8>,
        over: bool,
        turn: bool,
        finished: bool,
    }

    impl Wire for Slow {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            assert!(!room.is_empty(), "a read without room looks like the end");
            match self.from.pop_front() {
                Some(byte) => {
                    room[0] = byte;
                    Ok(1)
                }
                None if self.over => Ok(0),
                None => Err(io::ErrorKind::WouldBlock.into()),
            }
        }

        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.turn = !self.turn;
            if self.turn {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.to.push(bytes[0]);
            Ok(1)
        }

        fn finish(&mut self) {
            self.finished = true;
        }
    }

    fn node(name: &str) -> NodeRef {
        NodeRef { node: NodeId::from_name(name), incarnation: Incarnation(1) }
    }

    fn sides(secrets: [&str; 2]) -> [Shake; 2] {
        let [key, other] =
            secrets.map(|secret| ClusterKey::new("shop", Some(secret.as_bytes())).unwrap());
        let versions = VersionRange::SUPPORTED;
        let dial = DialParams {
            purpose: crate::wire::handshake::Purpose::Workers,
            key,
            me: node("a"),
            from_worker: WorkerIndex(0),
            to: node("b"),
            to_worker: WorkerIndex(1),
            link_epoch: 1,
            versions,
        };
        let accept = AcceptParams {
            key: other,
            me: node("b"),
            workers: 2,
            versions,
            turn_away: None,
            no_place: Default::default(),
            takes: 4_096,
        };
        let address = SocketAddr::from(([10, 0, 0, 1], 7_400));
        [Shake::dial(address, dial, [1; 32]), Shake::accept(accept, [2; 32])]
    }

    /// Lets both sides talk until each has told its last; gives all that they told.
    fn talk(mut sides: [Shake; 2]) -> [Vec<JobEvent>; 2] {
        let mut wires = [Slow::default(), Slow::default()];
        let mut told = [vec![], vec![]];
        for _ in 0..10_000 {
            for side in [0, 1] {
                if told[side].last().is_some_and(JobEvent::is_last) {
                    continue;
                }
                if let Step::Tell(event) = sides[side].step(&mut wires[side]) {
                    told[side].push(event);
                }
                let bytes = std::mem::take(&mut wires[side].to);
                wires[1 - side].from.extend(bytes);
            }
        }
        told
    }

    #[test]
    fn a_handshake_comes_to_its_end_however_its_bytes_come() {
        let [dialer, acceptor] = talk(sides(["sixteen bytes ok"; 2]));
        assert_eq!(dialer, [JobEvent::Connected, JobEvent::Dialed(NonZeroU32::new(4_096))]);
        assert_eq!(acceptor[..2], [JobEvent::Began, JobEvent::Asked]);
        let JobEvent::Accepted(established) = &acceptor[2] else { panic!("{acceptor:?}") };
        assert_eq!((established.peer, established.my_worker), (node("a"), WorkerIndex(1)));
        assert_eq!(acceptor.len(), 3);
    }

    #[test]
    fn who_cannot_prove_the_secret_is_told_as_refused() {
        let [_, acceptor] = talk(sides(["sixteen bytes ok", "another sixteen!"]));
        let refused = acceptor.iter().find_map(|event| match event {
            JobEvent::Refused(_, why) => Some(why),
            _ => None,
        });
        assert!(refused.is_some_and(|why| why.starts_with("the handshake was refused: ")));
    }

    /// What a stranger says that never ends is read for a while, after it was told why it is refused.
    #[test]
    fn who_is_refused_is_told_whole_and_then_read_for_a_while() {
        let [_, mut acceptor] = sides(["sixteen bytes ok"; 2]);
        let mut wire = Slow { from: vec![b'G'; 2 * READ_ON].into(), ..Slow::default() };
        let mut told = vec![];
        while !told.last().is_some_and(JobEvent::is_last) {
            if let Step::Tell(event) = acceptor.step(&mut wire) {
                assert_eq!(wire.finished, matches!(event, JobEvent::Refused(..)), "{event:?}");
                wire.finished = false;
                told.push(event);
            }
        }
        let refusal = wire.to.len();
        let read = 2 * READ_ON - wire.from.len();
        assert!((READ_ON..READ_ON + 200).contains(&read), "{read} bytes were read");
        let [JobEvent::Began, JobEvent::Refused(error, _), JobEvent::Failed(..)] = &told[..] else {
            panic!("{told:?}")
        };
        assert!(matches!(error, HandshakeError::WrongMagic { .. }), "{error:?}");
        assert!(refusal > 16, "it is told so: {refusal} bytes");
        // One that is gone, and one that says no more.
        for over in [true, false] {
            let [_, mut acceptor] = sides(["sixteen bytes ok"; 2]);
            let mut wire = Slow { from: vec![b'G'; 200].into(), over, ..Slow::default() };
            let mut told = vec![];
            for _ in 0..10_000 {
                if told.last().is_none_or(|last: &JobEvent| !last.is_last())
                    && let Step::Tell(event) = acceptor.step(&mut wire)
                {
                    told.push(event);
                }
            }
            assert!(matches!(told[1], JobEvent::Refused(..)), "{told:?}");
            assert_eq!((told.len(), wire.from.len()), (2 + usize::from(over), 0), "{told:?}");
        }
    }

    #[test]
    fn a_connection_that_ends_early_is_broken() {
        let [mut dialer, mut acceptor] = sides(["sixteen bytes ok"; 2]);
        let mut wire = Slow { over: true, ..Slow::default() };
        let mut told = vec![];
        while !told.last().is_some_and(JobEvent::is_last) {
            if let Step::Tell(event) = dialer.step(&mut wire) {
                told.push(event);
            }
        }
        let broken = |why: &str| JobEvent::Failed(Failure::Broken, why.to_owned());
        let why = "connecting to 10.0.0.1:7400 failed: unexpected end of file";
        assert_eq!(told, [JobEvent::Connected, broken(why)]);
        let why = "the connection broke during its handshake: unexpected end of file";
        assert_eq!(acceptor.step(&mut wire), Step::Tell(broken(why)));
    }

    #[test]
    fn a_look_tells_that_somebody_listens_and_says_nothing() {
        let (mut probe, mut wire) = (Shake::probe(), Slow::default());
        assert_eq!(probe.step(&mut wire), Step::Tell(JobEvent::Connected));
        assert_eq!(probe.step(&mut wire), Step::Read);
        assert!(wire.to.is_empty());
        wire.over = true;
        let Step::Tell(last) = probe.step(&mut wire) else { panic!("it goes on") };
        assert!(last.is_last(), "{last:?}");
    }
}
