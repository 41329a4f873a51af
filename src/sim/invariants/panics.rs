//! Nothing panics but what the simulator's own routees are told to. Each of these panics is counted as
//! the end of its message, and any other one in a call of a routee's would pass for one: what deciders do
//! for a routee runs in there. Elsewhere a panic ends the run.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::base::fate::{Counts, DeathReason};
use crate::queue::foreign::quietly;
use crate::sim::events::CoreId;
use crate::sim::world::World;
use crate::worker::{Panicked, text_of};

/// The invariant's name.
pub const NAME: &str = "nothing panics but what is told to";

/// What a panic says that is planned.
static PLANNED: &str = "planned by the simulator";

/// Unlike `panic!` this writes nothing to the terminal.
pub fn as_planned() -> ! {
    std::panic::resume_unwind(Box::new(PLANNED))
}

/// The panics that there were to be.
#[derive(Default)]
pub struct Panics {
    /// By process and worker.
    planned: Vec<Vec<u64>>,
    /// How often one was seen to be counted.
    pub counted: u64,
}

impl Panics {
    /// A process has begun.
    pub fn add_life(&mut self, workers: usize) {
        self.planned.push(vec![0; workers]);
    }

    /// A handler is about to panic.
    pub fn plan(&mut self, (life, worker): CoreId) {
        self.planned[life][worker] += 1;
        self.counted += 1;
    }

    /// A worker's duty cycle is over.
    ///
    /// # Errors
    /// When it counts others.
    pub fn check(&self, (life, worker): CoreId, counts: &Counts) -> Result<(), String> {
        let at = DeathReason::HandlerPanicked as usize;
        let (counted, planned) =
            (counts.dead[at] + counts.received_dead[at], self.planned[life][worker]);
        match counted == planned {
            true => Ok(()),
            false => Err(format!(
                "{counted} messages are counted as those whose handlers panicked, of {planned}"
            )),
        }
    }
}

/// A worker tells of a panic in a call of a routee's.
///
/// # Errors
/// When that is another one.
pub fn check_told(panicked: &Panicked) -> Result<(), String> {
    match panicked.text == PLANNED {
        true => Ok(()),
        false => Err(format!("{panicked:?}")),
    }
}

impl World {
    /// Lets something happen. A panic in it that nothing caught is the last thing that does.
    pub(in crate::sim) fn caught(&mut self, happens: impl FnOnce(&mut Self)) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| happens(self))) {
            self.blame(NAME, text_of(payload));
            // What is broken may panic once more.
            quietly(|| self.lives.clear());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::Scenario;
    use crate::sim::plan::Plan;

    #[test]
    fn a_panic_anywhere_is_what_a_run_ends_with() {
        let mut world = World::new(Scenario::default(), Plan::draw);
        world.caught(|_| std::panic::resume_unwind(Box::new("an assertion")));
        let found = world.ledger.lock().violation.clone().unwrap();
        assert_eq!((found.invariant, &*found.seen), (NAME, "an assertion"));
    }
}
