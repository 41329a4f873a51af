//! That code of the user's has panicked is told: which path, what for, and what the panic says.

use std::any::Any;
use std::sync::Arc;

use super::core::Core;
use super::panics::{Panicked, text_of};
use super::request::Request;
use crate::base::HandlerId;

impl Core {
    /// Has it told that a call of the user's code has panicked.
    #[cold]
    pub(super) fn note_panic(
        &mut self,
        handler: HandlerId,
        at: Arc<str>,
        payload: Box<dyn Any + Send>,
    ) {
        let (worker, path, text) = (self.index, self.path_of(handler), text_of(payload));
        self.calls.panics += 1;
        let new = Panicked { worker, path, at, text, more: 0 };
        let known = self.requests.iter_mut().find_map(|request| match request {
            Request::Panicked(known) => Some(known),
            _ => None,
        });
        match known {
            Some(known) => known.more += 1,
            None => self.requests.push(Request::Panicked(new)),
        }
    }
}
