//! A worker's half of load has nothing to do: what it would measure, its driver keeps anyway.

use std::sync::Arc;

use crate::base::InstanceId;
use crate::part::{LinkChange, LinkRef, Outlet, RouteeChange, WorkerPart};
use crate::wire::WireError;

/// A worker's half.
pub struct LoadWorker;

/// Nothing is ever said.
pub enum Never {}

impl std::fmt::Debug for Never {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {}
    }
}

impl WorkerPart for LoadWorker {
    type Facts = ();
    type Order = Never;
    type Report = Never;

    fn frame(
        &mut self,
        _: LinkRef,
        _: u8,
        _: &[u8],
        _: &mut Outlet<'_, Never>,
    ) -> Result<(), WireError> {
        Ok(()) // A newer peer may have some.
    }
    fn link(&mut self, _: LinkRef, _: LinkChange, _: &mut Outlet<'_, Never>) {}
    fn routee(&mut self, _: InstanceId, _: RouteeChange, _: &mut Outlet<'_, Never>) {}
    fn told(&mut self, _: &Arc<()>, _: &mut Outlet<'_, Never>) {}
    fn order(&mut self, order: Never, _: &mut Outlet<'_, Never>) {
        match order {}
    }
    fn timer(&mut self, _: u64, _: &mut Outlet<'_, Never>) {}
}
