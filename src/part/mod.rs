//! Parts: capabilities that stand beside plain routing, each in one folder. A part has a half on
//! every worker and a half in control, both deciders; it owns its frames, timers, words between
//! its halves, settings and counters. What the rest of the house knows of a part is its line in
//! the list at the end of this file.
//!
//! A part's effects go through an outlet ([`Outlet`], [`ControlOutlet`]). The worker and control
//! carry them out; tests compare the whole list. Words between workers' halves of different nodes
//! go over the links of workers; control's halves say something to all nodes
//! ([`ControlOutlet::gossip`]), or to one ([`ControlOutlet::send`]).

mod list;
pub mod load;
mod outlet;
pub mod watch;

use std::sync::Arc;

use self::list::parts;
pub use self::outlet::{
    ControlEffect, ControlEffects, ControlOutlet, Outlet, To, WorkerEffect, WorkerEffects,
};
use crate::base::{InstanceId, MemberEvent, NodeRef, View, WorkerIndex};
use crate::config::NodeConfig;
use crate::wire::WireError;

/// A part's number on the wire. Numbers are never used for another part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartId(pub u8);

/// One use of a connection, or of the way to a sibling, as a part sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkRef {
    /// The worker's own name for it; a link that comes later has another.
    pub link: u64,
    /// Who is at the other end.
    pub peer: (NodeRef, WorkerIndex),
    /// Whether this side dialed it. Frames to a peer go out on links that were dialed to it.
    pub dialed: bool,
}

/// What happened to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkChange {
    /// Frames can flow; nothing that was sent on an earlier link to this peer is on its way.
    Opened,
    /// It is gone, or could not be opened. What was sent on it may have arrived or not.
    Closed,
}

/// What happened to a routee of this worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteeChange {
    /// It runs from now on.
    Started,
    /// It panicked, and a fresh instance has its place.
    Replaced,
    /// Its path is not served here any more.
    Withdrawn,
}

/// One capability: its two halves and what stands about it in the list.
pub trait Part {
    /// Its name in settings, counters and the log.
    const NAME: &'static str;
    /// Names of its counters, in the order of their numbers.
    const COUNTERS: &'static [&'static str];
    /// Its settings.
    type Settings: Clone + Default + std::fmt::Debug + Send + Sync;
    /// Its half on each worker.
    type Worker: WorkerPart;
    /// What its faces share on a node's application threads.
    type Face: Send + Sync;
    /// Its half in control.
    type Control: ControlPart<
            WorkerOrder = <Self::Worker as WorkerPart>::Order,
            Report = <Self::Worker as WorkerPart>::Report,
            Facts = <Self::Worker as WorkerPart>::Facts,
        >;

    /// A worker's half.
    fn worker(me: NodeRef, index: WorkerIndex, settings: &Self::Settings) -> Self::Worker;
    /// Control's half.
    fn control(me: NodeRef, workers: u16, settings: &Self::Settings) -> Self::Control;
    /// What its faces share, in a node with so many workers.
    fn face(workers: usize, settings: &Self::Settings) -> Self::Face;
}

/// A part's half on one worker. All of it runs on that worker's thread, between two messages.
pub trait WorkerPart {
    /// What control's half publishes for all workers.
    type Facts: Send + Sync;
    /// What control's half, or a handler, wants of this half.
    type Order: Send;
    /// What this half tells control's half.
    type Report: Send;

    /// A frame of this part came in on a link.
    ///
    /// # Errors
    /// When the frame breaks the part's protocol; the link is closed then. An operation that is
    /// not known is no such error: a newer peer may have it, and it is counted and skipped.
    fn frame(
        &mut self,
        from: LinkRef,
        op: u8,
        body: &[u8],
        out: &mut Outlet<'_, Self::Report>,
    ) -> Result<(), WireError>;
    /// A link opened or closed.
    fn link(&mut self, link: LinkRef, change: LinkChange, out: &mut Outlet<'_, Self::Report>);
    /// A routee of this worker started or was withdrawn, or it is the fresh one in the place of one
    /// that panicked.
    fn routee(
        &mut self,
        instance: InstanceId,
        change: RouteeChange,
        out: &mut Outlet<'_, Self::Report>,
    );
    /// Control's half published anew.
    fn told(&mut self, facts: &Arc<Self::Facts>, out: &mut Outlet<'_, Self::Report>);
    /// Control's half, or a handler of this worker, wants something.
    fn order(&mut self, order: Self::Order, out: &mut Outlet<'_, Self::Report>);
    /// A time set with [`Outlet::after`] has come.
    fn timer(&mut self, token: u64, out: &mut Outlet<'_, Self::Report>);
    /// The link to this peer has no room: of what [`Outlet::send`] took for it, this was dropped.
    /// What went before is on its way all the same.
    fn crowded_out(
        &mut self,
        _peer: (NodeRef, WorkerIndex),
        _op: u8,
        _body: &[u8],
        _out: &mut Outlet<'_, Self::Report>,
    ) {
    }
    /// The link to this peer cannot be opened at the moment: of what [`Outlet::send`] took for it,
    /// this was dropped.
    fn cut_off(
        &mut self,
        _peer: (NodeRef, WorkerIndex),
        _op: u8,
        _body: &[u8],
        _out: &mut Outlet<'_, Self::Report>,
    ) {
    }
    /// Whether a node that leaves has nothing more to wait for here.
    fn is_drained(&self) -> bool {
        true
    }
}

/// A part's half in control.
pub trait ControlPart {
    /// What it publishes for all workers.
    type Facts: Send + Sync;
    /// What it wants of the workers' halves.
    type WorkerOrder: Send;
    /// What the workers' halves tell it.
    type Report: Send;
    /// What faces want of it.
    type Order: Send;

    /// The view changed, by these events.
    fn view(
        &mut self,
        view: &Arc<View>,
        events: &[MemberEvent],
        out: &mut ControlOutlet<'_, Self::Facts, Self::WorkerOrder>,
    );
    /// A face wants something.
    fn order(
        &mut self,
        order: Self::Order,
        out: &mut ControlOutlet<'_, Self::Facts, Self::WorkerOrder>,
    );
    /// A worker's half said something.
    fn report(
        &mut self,
        worker: WorkerIndex,
        report: Self::Report,
        out: &mut ControlOutlet<'_, Self::Facts, Self::WorkerOrder>,
    );
    /// A time set with [`ControlOutlet::after`] has come.
    fn timer(&mut self, token: u64, out: &mut ControlOutlet<'_, Self::Facts, Self::WorkerOrder>);
    /// What another member's half gossips under this key is news: the latest, each once. When that
    /// member's life is over, so is what it said.
    fn heard(
        &mut self,
        _from: NodeRef,
        _key: u32,
        _bytes: &[u8],
        _out: &mut ControlOutlet<'_, Self::Facts, Self::WorkerOrder>,
    ) {
    }
    /// Another node's half sent this. An operation that is not known is skipped: a newer peer may
    /// have it.
    fn message(
        &mut self,
        _from: NodeRef,
        _op: u8,
        _bytes: &[u8],
        _out: &mut ControlOutlet<'_, Self::Facts, Self::WorkerOrder>,
    ) {
    }
    /// Of what was sent to that node, something may not have arrived.
    fn lost(&mut self, _to: NodeRef, _out: &mut ControlOutlet<'_, Self::Facts, Self::WorkerOrder>) {
    }
}

// The list: a part's field, its type and its number on the wire.
parts! {
    watch: watch::Watch = 1,
    load: load::LoadPart = 2,
}
