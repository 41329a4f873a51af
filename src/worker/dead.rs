//! Messages that died: what is noted of them for whoever wants to know, in a bounded number of
//! notes, whatever a peer sends. Names are looked up by control, when it is told; the reasons are
//! `DeathReason` in `base/fate/dead_letter_reason.rs`.

use crate::base::fate::DeathReason;
use crate::base::{HandlerId, MessageTypeId, NodeRef, WorkerIndex};
use crate::wire::Frame;

/// How many notes that say what a message was about are kept at a time; what comes beyond is summed
/// up by reason and peer.
const MOST_DETAILED: usize = 32;

/// What messages were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Whose handler they were for.
    pub node: NodeRef,
    /// Which of its handlers.
    pub handler: HandlerId,
    /// Of which type.
    pub message: MessageTypeId,
}

/// Hears of each message that dies on its own node before it is written, and why. Only who holds what a
/// node counts against what becomes of each message has one.
pub type Mourner = Box<dyn FnMut(DeathReason, &Frame<'_>) + Send>;

/// Messages that died, as their worker knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dead {
    /// Why.
    pub reason: DeathReason,
    /// How many.
    pub count: u64,
    /// The node they were going to, or had come from.
    pub peer: Option<NodeRef>,
    /// What they were, unless there are too many kinds.
    pub about: Option<About>,
    /// The worker that counted them.
    pub worker: WorkerIndex,
}

/// Adds to a note that is alike; false when there is none and it becomes one of its own. Of many
/// kinds the details are left out.
pub(super) fn sum_up<'a>(notes: impl Iterator<Item = &'a mut Dead>, new: &mut Dead) -> bool {
    let mut detailed = 0;
    let mut bare = None;
    for note in notes {
        if (note.reason, note.peer) == (new.reason, new.peer) {
            if note.about == new.about {
                note.count += new.count;
                return true;
            }
            if note.about.is_none() {
                bare = Some(&mut note.count);
                continue;
            }
        }
        detailed += usize::from(note.about.is_some());
    }
    if detailed < MOST_DETAILED {
        return false;
    }
    new.about = None;
    bare.map(|count| *count += new.count).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Incarnation, NodeId};

    fn dead(handler: u32, peer: u64, count: u64) -> Dead {
        let node = NodeRef { node: NodeId(1), incarnation: Incarnation(1) };
        let about = About { node, handler: HandlerId(handler), message: MessageTypeId(7) };
        Dead {
            reason: DeathReason::UnknownHandler,
            count,
            peer: Some(NodeRef { node: NodeId(peer), incarnation: Incarnation(1) }),
            about: Some(about),
            worker: WorkerIndex(0),
        }
    }

    fn note(notes: &mut Vec<Dead>, mut new: Dead) {
        if !sum_up(notes.iter_mut(), &mut new) {
            notes.push(new);
        }
    }

    #[test]
    fn what_is_alike_is_summed_up() {
        let mut notes = Vec::new();
        for (handler, peer) in [(1, 1), (2, 1), (1, 1), (1, 2)] {
            note(&mut notes, dead(handler, peer, 3));
        }
        assert_eq!(notes, [dead(1, 1, 6), dead(2, 1, 3), dead(1, 2, 3)]);
    }

    #[test]
    fn a_peer_that_sends_to_every_handler_there_could_be_fills_no_memory() {
        let mut notes = Vec::new();
        for handler in 0..10_000 {
            note(&mut notes, dead(handler, 1, 1));
        }
        assert_eq!(notes.len(), MOST_DETAILED + 1);
        assert_eq!(notes.iter().map(|note| note.count).sum::<u64>(), 10_000);
        // What has a note of its own goes on to add to it.
        note(&mut notes, dead(0, 1, 5));
        assert_eq!((notes.len(), notes[0].count), (MOST_DETAILED + 1, 6));
        note(&mut notes, dead(0, 2, 1));
        assert_eq!((notes.len(), notes[MOST_DETAILED + 1].about), (MOST_DETAILED + 2, None));
    }
}
