//! How busy nodes are: what they say of themselves, and what one says when it is asked.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::health::stuck_after;
use super::node::Node;
use super::shared::Shared;
use crate::base::{Member, NodeRef};
use crate::part::load::{Load, LoadError, Loads, Order, Reading};
use crate::queue::foreign::shielded;
use crate::runtime::proxies;
use crate::runtime::published::Ended;

impl Shared {
    /// Has the part measure this node from now on.
    pub(super) fn measure_load(&self) {
        let boards: Vec<_> = self.doors.iter().map(|door| Arc::clone(&door.counts)).collect();
        let (clock, stuck_after) = (self.clock, stuck_after(self.slow_turn));
        let read = Box::new(move || {
            let mut sum = Reading::default();
            for board in &boards {
                let spent = board.time_spent(|| clock.now());
                sum.asleep_ns += spent.asleep_ns + spent.spun_ns;
                sum.awake_ns += spent.awake_ns;
                let pulse = board.pulse.read();
                // After the reading, so that it is no later.
                sum.stuck |= pulse.turn(clock.now()) >= stuck_after;
            }
            sum
        });
        let shown = Arc::clone(&self.parts.load);
        let show = Box::new(move |loads: Loads| shown.store(Arc::new(loads)));
        // A node that has stopped already needs none.
        let _ = self.order(proxies::Order::Part(Order::Begin { read, show }.into()));
    }
}

impl Node {
    /// How busy a member is, by what it last spread through the cluster: within about a second or
    /// two of the truth, and within 50 thousandths. `None` while it has said nothing.
    pub fn load(&self, node: NodeRef) -> Option<Load> {
        self.shared.parts.load.load().get(&node).copied()
    }

    /// For how long a member that is damped has to go on answering until it gets keys again, as far
    /// as this node can tell; `None` for one that is not damped.
    pub fn damped_for(&self, member: &Member) -> Option<Duration> {
        let now = self.shared.clock.now();
        member.damped_until.map(|until| until.since(now))
    }

    /// Asks a member how busy it is now.
    ///
    /// # Errors
    /// A [`LoadError`] says why there is no answer.
    pub async fn load_now(&self, node: NodeRef) -> Result<Load, LoadError> {
        let (tell, told) = oneshot::channel();
        // Whoever asked may have given up.
        let answer = Box::new(move |outcome| {
            let _ = tell.send(outcome);
        });
        let order = proxies::Order::Part(Order::Ask { node, answer }.into());
        self.shared.order(order).map_err(|_| LoadError::Stopped)?;
        let mut ended = self.shared.ended.clone();
        shielded(async {
            tokio::select! {
                biased;
                outcome = told => outcome.unwrap_or(Err(LoadError::Stopped)),
                _ = ended.wait_for(Option::<Ended>::is_some) => Err(LoadError::Stopped),
            }
        })
        .await
    }
}
