//! The messages that load consists of, and what tells one from another.

use std::fmt;

use rkyv::{Archive, Deserialize, Serialize};

use super::events::LifeId;
use crate::wire::{Frame, FrameKind, WireType};
use crate::{Layout, Message};

/// Who numbers messages: one thread of an application, or one worker's routee.
pub type SenderId = usize;

/// One message, or all copies of one that a routee sends to many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageId {
    /// Who sent it. Each routee that is made sends under a number of its own.
    pub sender: SenderId,
    /// How many messages that one had sent, refused ones included.
    pub number: u64,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "message {} of sender {}", self.number, self.sender)
    }
}

/// A tell or an ask as its frame says it.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Which message it is.
    pub id: MessageId,
    /// Whether somebody waits for a reply.
    pub is_ask: bool,
    /// Which attempt, of an ask that may be sent again.
    pub attempt: Option<u64>,
}

/// Stands for a handler that the sender does not know.
pub const ANY: u32 = u32::MAX;

/// Where a message comes from.
#[derive(Clone, Copy, Debug, Archive, Serialize, Deserialize, Layout)]
pub struct From {
    pub sender: u64,
    pub life: u32,
    /// The handler it was sent to; unknown where a router chose in passing.
    pub to: u32,
    pub number: u64,
}

impl From {
    pub fn new(life: LifeId, MessageId { sender, number }: MessageId, to: u32) -> Self {
        Self { sender: sender as u64, life: life as u32, to, number }
    }
}

impl ArchivedFrom {
    pub fn id(&self) -> MessageId {
        let sender = self.sender.to_native() as SenderId;
        MessageId { sender, number: self.number.to_native() }
    }
}

/// Takes no answer.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "sim.note", key = key)]
pub struct Note {
    pub key: u64,
    pub from: From,
    pub panic: bool,
    pub padding: Vec<u8>,
}

/// Answered at once.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "sim.question", key = key, reply = Answer)]
pub struct Question {
    pub key: u64,
    pub from: From,
    pub token: u64,
    /// May be sent again, and so come twice.
    pub again: bool,
    pub panic: bool,
    pub padding: Vec<u8>,
}

/// Answered later, or never.
#[derive(Archive, Serialize, Deserialize, Message)]
#[message(name = "sim.riddle", key = key, reply = Answer)]
pub struct Riddle {
    pub key: u64,
    pub from: From,
    pub token: u64,
}

/// To a question or riddle: its token.
#[derive(Archive, Serialize, Deserialize, Layout)]
pub struct Answer {
    pub token: u64,
}

/// Which of these messages a frame carries, if any.
pub fn read_request(frame: &Frame<'_>) -> Option<Request> {
    let (message, body) = (frame.header.message, frame.body());
    let (from, again) = match message {
        _ if !matches!(frame.header.kind, FrameKind::Tell | FrameKind::Ask) => return None,
        Note::TYPE_ID => (&Note::access(body)?.from, false),
        Question::TYPE_ID => {
            let question = Question::access(body)?;
            (&question.from, question.again)
        }
        Riddle::TYPE_ID => (&Riddle::access(body)?.from, false),
        _ => return None,
    };
    let attempt = frame.fields().correlation.filter(|_| again);
    Some(Request { id: from.id(), is_ask: message != Note::TYPE_ID, attempt })
}
