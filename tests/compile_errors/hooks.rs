//! Hooks without a function, and with the hook's own name.

use keyway::Routee;

#[derive(Routee)]
#[routee(handles(), started)]
struct NoFunction;

#[derive(Routee)]
#[routee(handles(), wake = Self::wake)]
struct OwnName;

#[derive(Routee)]
#[routee(handles(), begun = Self::open)]
struct Unknown;

fn main() {}
