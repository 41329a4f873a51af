//! What one sender sends to one routee arrives in the order in which it was sent, and once.

use std::collections::BTreeMap;

use crate::sim::events::LifeId;
use crate::sim::messages::{MessageId, SenderId};

/// The last number that each routee had from each sender.
#[derive(Default)]
pub struct Order {
    last: BTreeMap<(LifeId, usize, SenderId), u64>,
    /// How many messages came after another one of the same sender.
    pub followed: u64,
}

impl Order {
    /// The invariant's name.
    pub const NAME: &'static str = "a sender's messages arrive in order and once";

    /// A routee got a numbered message.
    ///
    /// # Errors
    /// Which message came after which.
    pub fn arrived(
        &mut self,
        (life, worker): (LifeId, usize),
        MessageId { sender, number }: MessageId,
    ) -> Result<(), String> {
        match self.last.insert((life, worker, sender), number) {
            Some(last) if last >= number => Err(format!(
                "worker {worker} of life {life} got message {number} of sender {sender} after \
                 message {last}"
            )),
            before => {
                self.followed += u64::from(before.is_some());
                Ok(())
            }
        }
    }
}
