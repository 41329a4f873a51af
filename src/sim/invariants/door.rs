//! A node that cannot be reached at the address it advertises is let in nowhere, and so owns keys
//! in no table but its own.

use crate::base::View;
use crate::sim::process::Life;

/// The invariant's name.
pub const NAME: &str = "who cannot be reached is not let in";

/// A node shows a view.
///
/// # Errors
/// Whom it should not have let in.
pub fn check(lives: &[Life], view: &View) -> Result<(), String> {
    let misled = |life: &&Life| life.misled && life.me != view.me;
    match lives.iter().filter(misled).find(|life| view.member(life.me.node).is_some()) {
        Some(life) => Err(format!("{} is a member, and is not where it says", life.me)),
        None => Ok(()),
    }
}
