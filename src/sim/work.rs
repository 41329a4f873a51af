//! How long work takes, and what waits for whoever does it.

use std::collections::{BTreeMap, VecDeque};

use rand::RngExt;

use super::events::{Event, ProcessorId};
use super::streams::stream;
use crate::base::Time;

/// About what a step takes on a machine of today, in nanoseconds.
const CALL_NS: u64 = 15_000;
/// For each of its bytes, a datagram takes that more: it is authenticated.
const BYTE_NS: u64 = 5;
const TABLES_NS: u64 = 200_000;
const TURN_NS: u64 = 1_500;
const MESSAGE_NS: u64 = 500;

/// How long work takes.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Everything takes so many times as long as on a quick machine.
    pub times: u64,
    /// All processes share so many processors; else each thread has one of its own.
    pub shared: Option<usize>,
}

impl Work {
    /// What a seed draws: in most of them work takes no time.
    pub fn draw(seed: u64) -> Option<Self> {
        let mut rng = stream(seed, "work");
        let times = [1, 4, 8][rng.random_range(0..3)];
        (rng.random_range(0..4) == 0).then_some(Self { times, shared: None })
    }

    /// Many processes on two processors.
    pub fn draw_crowded(seed: u64) -> Self {
        let times = [1, 2, 4][stream(seed, "crowd").random_range(0..3)];
        Self { times, shared: Some(2) }
    }
}

/// What one has to do.
#[derive(Default)]
pub struct Processor {
    /// When it is done with what it does.
    pub free_at: Time,
    /// What it does then.
    pub waiting: VecDeque<Event>,
    /// How many of these are datagrams.
    pub datagrams: usize,
}

/// All that have something to do, or had.
#[derive(Default)]
pub struct Processors(pub BTreeMap<ProcessorId, Processor>);

/// What takes time.
pub enum Step {
    /// A call of control.
    Call,
    /// A datagram of so many bytes is taken in.
    Datagram(usize),
    /// Tables are made.
    Tables,
    /// A duty cycle that moved so many messages.
    Turn(u64),
}

impl Step {
    /// How long it takes on a quick machine.
    pub fn nanos(self) -> u64 {
        match self {
            Self::Call => CALL_NS,
            Self::Datagram(bytes) => CALL_NS + BYTE_NS * bytes as u64,
            Self::Tables => TABLES_NS,
            Self::Turn(messages) => TURN_NS + MESSAGE_NS * messages,
        }
    }

    /// Of what is about to happen; how much a duty cycle moves shows afterwards.
    pub fn of(event: &Event) -> Self {
        match event {
            Event::Datagram { bytes, .. } => Self::Datagram(bytes.len()),
            Event::Tables(..) => Self::Tables,
            Event::Turn(..) => Self::Turn(0),
            _ => Self::Call,
        }
    }
}
