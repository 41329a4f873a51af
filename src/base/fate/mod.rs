//! What can become of a message: every one ends in exactly one of the counts, some of which are kept
//! by reason.

/// An enum that is counted by. A new variant goes to the end: their numbers travel between nodes.
macro_rules! reasons {
    (
        $(#[$about:meta])*
        pub enum $name:ident $(in $ask:ident)? { $($(#[$variant_about:meta])* $variant:ident,)+ }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$variant_about])* $variant,)+
        }

        impl $name {
            /// All of them, in the order of their numbers.
            pub const ALL: [Self; [$(Self::$variant),+].len()] = [$(Self::$variant),+];

            /// What they are called in code, in the same order.
            pub const NAMES: [&str; Self::ALL.len()] = [$(stringify!($variant)),+];

            /// What it is called in code: short and always the same, for logs and labels. `Display`
            /// gives a sentence.
            pub const fn name(self) -> &'static str {
                Self::NAMES[self as usize]
            }
        }

        reasons!(@in [$($ask)?] $name $($variant)+);
    };
    (@in [] $name:ident $($variant:ident)+) => {};
    (@in [$ask:ident] $name:ident $($variant:ident)+) => {
        impl $name {
            /// What an ask is said to have ended by, in the order of the numbers.
            pub(super) const NAMES_IN_ASK: [&str; Self::ALL.len()] =
                [$(concat!(stringify!($ask), "(", stringify!($variant), ")")),+];
        }
    };
}

mod ask_error;
mod counts;
mod dead_letter_reason;
mod refusal;
mod work_end;

pub use ask_error::AskError;
#[cfg(feature = "admin")]
pub(crate) use counts::counts;
#[cfg(test)]
pub(crate) use counts::each_another;
pub use counts::{CountCells, CountNames, Counts};
pub use dead_letter_reason::DeathReason;
pub use refusal::Refusal;
pub use work_end::WorkEnd;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ask_s_error_is_named_with_its_reason() {
        assert_eq!(Refusal::NoRoutee.name(), "NoRoutee");
        assert_eq!(AskError::Refused(Refusal::NoRoutee).name(), "Refused(NoRoutee)");
        assert_eq!(AskError::Dead(DeathReason::TooLarge).name(), "Dead(TooLarge)");
        assert_eq!(AskError::Timeout.name(), "Timeout");
    }

    #[test]
    fn numbers_and_order_of_reasons_agree() {
        for (index, refusal) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(refusal as usize, index);
        }
        for (index, reason) in DeathReason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
            assert_eq!(DeathReason::from_code(index as u32), reason);
        }
        assert_eq!(DeathReason::from_code(99), DeathReason::Other);
        for (index, end) in WorkEnd::ALL.into_iter().enumerate() {
            assert_eq!(end as usize, index);
        }
    }
}
