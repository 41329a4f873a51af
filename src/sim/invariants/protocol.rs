//! Nobody here garbles bytes, so no peer may ever find fault with another's frames.

/// The invariant's name.
pub const NAME: &str = "peers understand each other's frames";
