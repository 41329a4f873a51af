//! A node that cannot be reached at the address it advertises is let in nowhere, and so owns keys
//! in no table but its own.

use crate::base::View;
use crate::sim::process::Life;

/// The invariant's name.
pub const NAME: &str = "who cannot be reached is not let in";

/// A node shows a view. Gives how many others there have been that it must not have let in.
///
/// # Errors
/// Whom it should not have let in.
pub fn check(lives: &[Life], view: &View) -> Result<usize, String> {
    let misled = |life: &&Life| life.misled && life.me != view.me;
    let strangers = lives.iter().filter(misled);
    match strangers.clone().find(|life| view.member(life.me.node).is_some()) {
        Some(life) => Err(format!("{} is a member, and is not where it says", life.me)),
        None => Ok(strangers.count()),
    }
}
