//! What somebody who is no node may make of what proves that one is.

/// How something is forged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forgery {
    /// What proves it is nothing but zeros.
    Zeros,
    /// It is proven by another secret.
    Guessed,
    /// One bit of what was right is another one.
    Flipped,
    /// Its end is missing.
    Cut,
    /// It was said before, by a node.
    Replayed,
    /// It goes back to whoever said it.
    Reflected,
    /// No node would say it.
    Garbage,
}

impl Forgery {
    /// Each of them.
    pub const ALL: [Self; 7] = [
        Self::Zeros,
        Self::Guessed,
        Self::Flipped,
        Self::Cut,
        Self::Replayed,
        Self::Reflected,
        Self::Garbage,
    ];
}

/// How often each kind was tried on a node and came to nothing, by its place in [`Forgery::ALL`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Forged {
    /// Datagrams.
    pub datagrams: [u64; 7],
    /// Handshakes that it began.
    pub dialed: [u64; 7],
    /// Handshakes that a node began, in whose peer's place it listened.
    pub answered: [u64; 7],
}

/// A datagram that was made so.
pub struct ForgedDatagram {
    /// To which machine it comes.
    pub to: usize,
    /// From which it seems to.
    pub from: usize,
    /// What is wrong with it.
    pub how: Forgery,
    /// As it comes.
    pub bytes: Vec<u8>,
}
