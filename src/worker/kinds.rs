//! Of which type each routee is, so that whoever is named in its place is found where the mistake is
//! made, and not when a reply, a result or an end comes for a type that is not there.

use std::any::{TypeId, type_name};

use crate::base::HandlerId;

/// A routee's type.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    id: TypeId,
    name: &'static str,
}

impl Kind {
    pub fn of<H: 'static>() -> Self {
        Self { id: TypeId::of::<H>(), name: type_name::<H>() }
    }
}

/// By handler, for those that this worker runs or has run.
#[derive(Default)]
pub(super) struct Kinds(Vec<Option<(HandlerId, Kind)>>);

impl Kinds {
    pub fn note(&mut self, handler: HandlerId, kind: Kind) {
        if self.0.len() <= handler.slot() {
            self.0.resize(handler.slot() + 1, None);
        }
        self.0[handler.slot()] = Some((handler, kind));
    }

    /// # Panics
    /// When this handler's routee is no `H`: its program has given this call another type than its own.
    #[inline]
    pub fn check<H: 'static>(&self, handler: HandlerId, call: &str) {
        if let Some(Some((known, kind))) = self.0.get(handler.slot())
            && *known == handler
            && kind.id != TypeId::of::<H>()
        {
            another(call, type_name::<H>(), kind.name);
        }
    }
}

#[cold]
#[inline(never)]
fn another(call: &str, given: &str, runs: &str) -> ! {
    panic!(
        "`{call}` was given the type `{given}` in a handler of `{runs}`: a routee begins things for \
         itself alone; give it `Self`"
    )
}
