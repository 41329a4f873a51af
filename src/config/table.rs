//! The `settings!` macro: from one row of the table follows everything that is known of a setting.
//!
//! A row stands in `settings.rs`:
//!
//! ```text
//! /// What it is, in the words of `--print-config` and of the field's documentation.
//! probe_timeout_ms: u64 = 80, Number(10, 4_999), under_half_of probe_period_ms;
//! ```
//!
//! That is a name (its unit last: `_ms`, `_us`, `_bytes`), a type, a default, and one of the kinds
//! of [`Field`] with its range. Then, where they apply and in this order: `shown "words"` in place
//! of a default that differs between machines, and `at_least other` or
//! `under_half_of other` for another number of the same section, and `takes Kind |value, of| bytes`
//! for each kind of memory that it bounds, with those of `sizes.rs`.
//!
//! **To add a setting, write its row.** The field of the section's struct, its default, its line in
//! `--print-config`, the file, the environment, `--set`, `NodeBuilder::set`, `validate`, and the
//! range that a decider holds its settings to, all follow. Then read the field where it is needed:
//! `Settings::config` in `runtime/start.rs` holds the whole configuration; membership is handed
//! its whole section, the workers get `Limits::new`. A choice among names is an enum made by
//! `choice!`, with the kind `Choice`.

use super::RefusedSetting;
use super::field::Field;
use super::sizes::Take;

/// One setting of a configuration at hand.
pub(crate) struct Setting<'a> {
    /// As in `membership.probe_timeout_ms`.
    pub(crate) path: &'static str,
    /// The lines of its description.
    pub(super) doc: &'static [&'static str],
    /// In words, where the default's value would mislead.
    pub(super) shown: Option<&'static str>,
    /// Where it is kept, and what it takes.
    pub(crate) field: Field<'a>,
    /// The memory it may take.
    pub(super) takes: &'static [Take],
}

impl Setting<'_> {
    /// The values it takes, in words that complete «it takes ...».
    pub(super) fn allowed(&self) -> String {
        let unit = ["_ms", "_us", "_bytes"].into_iter().find(|unit| self.path.ends_with(unit));
        match (&self.field, unit) {
            (Field::Number(..), Some(unit)) => {
                format!("{} {}", self.field.allowed(), &unit[1..])
            }
            _ => self.field.allowed(),
        }
    }
}

/// What one number must be in view of another one.
#[derive(Clone, Copy)]
pub(super) enum Relation {
    AtLeast,
    UnderHalfOf,
}

/// A relation between two settings of a configuration at hand.
pub(super) struct Related {
    pub(super) path: &'static str,
    pub(super) value: u64,
    pub(super) relation: Relation,
    pub(super) other: &'static str,
    pub(super) other_value: u64,
}

impl Related {
    fn holds(&self) -> bool {
        match self.relation {
            Relation::AtLeast => self.value >= self.other_value,
            Relation::UnderHalfOf => self.value < self.other_value / 2,
        }
    }

    pub(super) fn words(&self) -> String {
        match self.relation {
            Relation::AtLeast => format!("at least `{}`", self.other),
            Relation::UnderHalfOf => format!("less than half of `{}`", self.other),
        }
    }
}

/// A part of the configuration, with the settings of the parts below it.
pub(crate) trait Section: Clone {
    /// All settings, in the order in which they are printed.
    fn settings(&mut self) -> Vec<Setting<'_>>;

    /// What numbers must have in common.
    fn relations(&self) -> Vec<Related>;

    /// Checks each setting by itself, and what numbers must have in common.
    fn check(&self) -> Result<(), RefusedSetting> {
        for mut setting in self.clone().settings() {
            if let Some(value) = setting.field.current()
                && !setting.field.assign(&value)
            {
                let (shown, allowed) = (setting.field.show(&value), setting.allowed());
                return Err(RefusedSetting::new(setting.path, shown, allowed));
            }
        }
        match self.relations().into_iter().find(|related| !related.holds()) {
            Some(broken) => {
                let allowed = format!("{} ({})", broken.words(), broken.other_value);
                Err(RefusedSetting::new(broken.path, broken.value.to_string(), allowed))
            }
            None => Ok(()),
        }
    }
}

/// Makes the structs of the configuration from the table of their rows; see the top of this file.
macro_rules! settings {
    ($(
        $(#[$about:meta])*
        $config:ident $prefix:literal {
            $(
                $(#[doc = $doc:literal])+
                $name:ident: $type:ty = $default:expr,
                $kind:ident $(($($argument:expr),+))?
                $(, shown $shown:literal)?
                $(, at_least $least:ident)?
                $(, under_half_of $whole:ident)?
                $(, takes $memory:ident |$value:pat_param, $of:pat_param| $bytes:expr)*;
            )+
            $(sections $($sub:ident: $subtype:ident),+;)?
        }
    )+) => {$(
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $config {
            $(
                $(#[doc = $doc])+
                #[doc = concat!(
                    "\n\nTakes `", stringify!($kind $(($($argument),+))?),
                    "`; the default is `", stringify!($default), "`."
                )]
                pub $name: $type,
            )+
            $($(
                #[doc = concat!("The section `[", stringify!($sub), "]`.")]
                pub $sub: $subtype,
            )+)?
        }

        impl Default for $config {
            fn default() -> Self {
                Self {
                    $($name: $default,)+
                    $($($sub: $subtype::default(),)+)?
                }
            }
        }

        impl $crate::config::table::Section for $config {
            fn settings(&mut self) -> Vec<$crate::config::table::Setting<'_>> {
                #[allow(unused_mut, reason = "only the whole has sections")]
                let mut settings = vec![$(
                    $crate::config::table::Setting {
                        path: concat!($prefix, stringify!($name)),
                        doc: &[$($doc),+],
                        shown: settings!(@optional $($shown)?),
                        field: $crate::config::field::Field::$kind(
                            &mut self.$name $($(, $argument)+)?
                        ),
                        takes: {
                            const TAKES: &[$crate::config::sizes::Take] = &[
                                $(($crate::config::bound::Kind::$memory, |$value, $of| $bytes),)*
                            ];
                            TAKES
                        },
                    },
                )+];
                $($(settings.extend(self.$sub.settings());)+)?
                settings
            }

            fn relations(&self) -> Vec<$crate::config::table::Related> {
                #[allow(unused_mut, reason = "only the whole has sections")]
                let mut relations = vec![$(
                    $(settings!(@related self $prefix $name AtLeast $least),)?
                    $(settings!(@related self $prefix $name UnderHalfOf $whole),)?
                )+];
                $($(relations.extend(self.$sub.relations());)+)?
                relations
            }
        }

        $(impl $config {
            /// The tables of the TOML file.
            pub(super) const SECTIONS: &[&str] = &[$(stringify!($sub)),+];
        })?
    )+};
    (@optional) => { None };
    (@optional $value:expr) => { Some($value) };
    (@related $self:ident $prefix:literal $name:ident $relation:ident $other:ident) => {
        $crate::config::table::Related {
            path: concat!($prefix, stringify!($name)),
            value: $self.$name as u64,
            relation: $crate::config::table::Relation::$relation,
            other: concat!($prefix, stringify!($other)),
            other_value: $self.$other as u64,
        }
    };
}
pub(super) use settings;

/// Makes an enum whose variants are known by name in the configuration.
macro_rules! choice {
    (
        $(#[$about:meta])*
        $choice:ident { $($(#[$variant_about:meta])* $variant:ident = $name:literal,)+ }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $choice {
            $($(#[$variant_about])* $variant,)+
        }

        impl $choice {
            /// Every choice, in the order of their names in messages.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name in the configuration.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }

        impl $crate::config::field::Choice for $choice {
            fn names(&self) -> Vec<&'static str> {
                Self::ALL.iter().map(|choice| choice.name()).collect()
            }

            fn chosen(&self) -> &'static str {
                self.name()
            }

            fn choose(&mut self, name: &str) -> bool {
                let found = Self::ALL.iter().find(|choice| choice.name() == name);
                found.map(|choice| *self = *choice).is_some()
            }
        }
    };
}
pub(super) use choice;
