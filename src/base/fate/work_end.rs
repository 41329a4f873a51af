//! How work ended that a routee had begun elsewhere.

use std::fmt;

reasons! {
    /// How work ended that a routee had begun elsewhere, see [`Context::begin_work`].
    ///
    /// [`Context::begin_work`]: crate::Context::begin_work
    pub enum WorkEnd {
        /// The routee got its result.
        Done,
        /// It panicked, and the routee was told.
        Panicked,
        /// It was given up without a result, and the routee was told.
        GivenUp,
        /// The routee called it off.
        CalledOff,
        /// The routee was withdrawn meanwhile.
        Withdrawn,
        /// The routee panicked meanwhile; the fresh one in its place never gets the result.
        Replaced,
        /// The node stopped meanwhile.
        Stopped,
    }
}

// It is no error.
impl fmt::Debug for WorkEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
