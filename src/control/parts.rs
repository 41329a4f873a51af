//! Where parts meet control: what happens to the process is passed to their halves, and what they
//! want done is carried out at the end of each step.

use super::{Control, ControlSink, ControlTimer};
use crate::base::{MemberEvent, Time, WorkerIndex};
use crate::part::{ControlEffect, ControlOrder, ControlReport, PartId};
use crate::worker::Command;

impl Control {
    /// A face wants something of a part.
    pub fn part_order(&mut self, now: Time, order: ControlOrder, sink: &mut dyn ControlSink) {
        self.parts.order(order);
        self.carry_out_parts(now, sink);
    }

    /// A part's half on a worker said something.
    pub fn part_report(
        &mut self,
        now: Time,
        worker: WorkerIndex,
        report: ControlReport,
        sink: &mut dyn ControlSink,
    ) {
        self.parts.report(worker, report);
        self.carry_out_parts(now, sink);
    }

    pub(super) fn part_timer(
        &mut self,
        now: Time,
        part: PartId,
        token: u64,
        sink: &mut dyn ControlSink,
    ) {
        self.parts.timer(part, token);
        self.carry_out_parts(now, sink);
    }

    /// The view changed, and its snapshot is published: facts follow it.
    pub(super) fn parts_follow_view(
        &mut self,
        now: Time,
        events: &[MemberEvent],
        sink: &mut dyn ControlSink,
    ) {
        self.parts.view(self.membership.view(), events);
        self.carry_out_parts(now, sink);
    }

    fn carry_out_parts(&mut self, now: Time, sink: &mut dyn ControlSink) {
        if std::mem::take(&mut self.parts.effects.published) {
            self.tell_all(sink, || Command::Facts(self.parts.facts().clone()));
        }
        for effect in self.parts.effects.list.drain(..) {
            match effect {
                ControlEffect::After { part, after, token } => {
                    sink.schedule(now.plus(after), ControlTimer::Part { part, token });
                }
                ControlEffect::ToWorker(worker, order) => {
                    sink.command(worker, Command::Part(order));
                }
            }
        }
    }
}
