//! The kinds of faults: what each is called and how often it comes. What it does stands in
//! `strikes.rs`.

/// A range in milliseconds.
pub type RangeMs = (u64, u64);

/// One kind of fault that comes again and again.
#[derive(Clone, Copy, Debug)]
pub struct Repeated {
    /// Which.
    pub fault: Fault,
    /// The pause before each.
    pub every_ms: RangeMs,
}

/// How often a kind comes where a seed draws it.
pub struct Draw {
    /// Which.
    pub fault: Fault,
    /// It comes in one of so many seeds.
    pub of: u32,
    /// The pauses before each, one of which is drawn as well.
    pub pauses_ms: &'static [RangeMs],
}

/// Each kind, the name by which `--without` leaves it out, and how often it comes. One without a name
/// is not drawn beside others: see `plan.rs`.
macro_rules! faults {
    (
        $(
            $(#[$about:meta])*
            $fault:ident $(, $name:literal, one in $of:literal, $pauses_ms:expr)?;
        )+
    ) => {
        /// The kinds of faults that come again and again.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Fault {
            $($(#[$about])* $fault,)+
        }

        impl Fault {
            /// All of them, in this order.
            pub const ALL: &[Self] = &[$(Self::$fault,)+];

            /// Those that can be left out, by their names.
            pub const NAMED: &[(&str, Self)] = &[$($(($name, Self::$fault),)?)+];

            /// Those that a seed draws, each from a stream of its own.
            pub const DRAWN: &[Draw] =
                &[$($(Draw { fault: Self::$fault, of: $of, pauses_ms: $pauses_ms },)?)+];
        }
    };
}

faults! {
    /// A process is killed.
    Crash, "crash", one in 2, &[(500, 3_000), (2_000, 8_000), (5_000, 20_000)];
    /// A process stops for a while.
    Pause, "pause", one in 3, &[(300, 2_000), (2_000, 10_000)];
    /// Nothing passes between two groups, in one or both directions.
    Partition, "partition", one in 2, &[(1_000, 5_000), (3_000, 15_000)];
    /// A connection is reset.
    Reset, "reset", one in 2, &[(20, 200), (300, 3_000)];
    /// A process leaves gracefully.
    Leave, "leave", one in 3, &[(1_000, 5_000), (4_000, 15_000)];
    /// Several processes leave at once.
    MassLeave, "mass-leave", one in 6, &[(5_000, 20_000)];
    /// Several processes start at once.
    MassJoin, "mass-join", one in 4, &[(2_000, 15_000)];
    /// The packets of one connection vanish from now on, and nobody is told.
    Flow, "flow", one in 3, &[(100, 1_000), (1_000, 8_000)];
    /// A handler holds its worker for long; the process, and its kernel, go on.
    Block, "block", one in 3, &[(500, 2_000), (3_000, 10_000)];
    /// Nothing passes to and from the flapping member for a while.
    Flap;
    /// From now on the deaf member hears next to nothing.
    Deafen;
    /// A process withdraws its path, and serves it again.
    Withdraw, "withdraw", one in 2, &[(50, 500), (500, 4_000)];
}
