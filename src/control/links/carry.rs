//! Moves the bytes of a channel between two nodes' controls, over a connection that is not named
//! here, so that every driver takes the same steps.

use std::io;

use super::shake::{Step, Wire, now};
use super::{Failure, JobEvent};

/// How much is read in one go, and so how much of one channel may wait for control.
const READ_BYTES: usize = 4 << 10;

/// The bytes of one channel.
#[derive(Default)]
pub struct Carry {
    unsent: Vec<u8>,
}

impl Carry {
    /// This is written next. How much may wait is decided by whoever says so.
    pub fn add(&mut self, bytes: &[u8]) {
        self.unsent.extend_from_slice(bytes);
    }

    /// Goes on as far as it can without waiting. As long as the peer does not take all that is
    /// written, nothing is read: whoever takes no acknowledgement gets no more of them.
    pub fn step(&mut self, wire: &mut impl Wire) -> Step {
        self.go_on(wire).unwrap_or_else(|error| broken(error.to_string()))
    }

    fn go_on(&mut self, wire: &mut impl Wire) -> io::Result<Step> {
        while !self.unsent.is_empty() {
            match now(wire.write(&self.unsent))? {
                Some(0) => return Err(io::ErrorKind::WriteZero.into()),
                Some(count) => drop(self.unsent.drain(..count)),
                None => return Ok(Step::Write),
            }
        }
        let mut bytes = [0; READ_BYTES];
        Ok(match now(wire.read(&mut bytes))? {
            Some(0) => broken("the peer closed it".to_owned()),
            Some(count) => Step::Tell(JobEvent::Bytes(bytes[..count].to_vec())),
            None => Step::Read,
        })
    }
}

fn broken(why: String) -> Step {
    Step::Tell(JobEvent::Failed(Failure::Broken, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, and has some.
    #[derive(Default)]
    struct Peer {
        takes: usize,
        took: Vec<u8>,
        says: Vec<u8>,
        over: bool,
    }

    impl Wire for Peer {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let count = room.len().min(self.says.len());
            room[..count].copy_from_slice(&self.says[..count]);
            self.says.drain(..count);
            match count {
                0 if !self.over => Err(io::ErrorKind::WouldBlock.into()),
                count => Ok(count),
            }
        }

        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = bytes.len().min(self.takes);
            self.took.extend_from_slice(&bytes[..count]);
            self.takes -= count;
            if count == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
        }
    }

    #[test]
    fn who_takes_nothing_is_not_read() {
        let (mut carry, mut peer) = (Carry::default(), Peer::default());
        peer.says = vec![5; READ_BYTES + 1];
        carry.add(&[1, 2]);
        peer.takes = 1;
        assert_eq!(carry.step(&mut peer), Step::Write);
        carry.add(&[3]);
        assert_eq!(carry.step(&mut peer), Step::Write);
        peer.takes = 8;
        assert_eq!(carry.step(&mut peer), Step::Tell(JobEvent::Bytes(vec![5; READ_BYTES])));
        assert_eq!(peer.took, [1, 2, 3]);
        assert_eq!(carry.step(&mut peer), Step::Tell(JobEvent::Bytes(vec![5])));
        assert_eq!(carry.step(&mut peer), Step::Read);
    }

    #[test]
    fn a_peer_that_closes_ends_it_once_it_has_said_its_last() {
        let (mut carry, mut peer) = (Carry::default(), Peer::default());
        (peer.says, peer.over) = (vec![6], true);
        assert_eq!(carry.step(&mut peer), Step::Tell(JobEvent::Bytes(vec![6])));
        let closed = JobEvent::Failed(Failure::Broken, "the peer closed it".to_owned());
        assert_eq!(carry.step(&mut peer), Step::Tell(closed));
    }
}
