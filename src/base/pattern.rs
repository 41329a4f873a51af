//! Which paths are meant: `/user/*`. The grammar of [`Path`] with wildcards, parsed once.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::debug_as_display;
use super::path::{MAX_PATH_BYTES, Path, rules};

/// A pattern of paths such as `/user/*/cache` or `/user/**`: a path in which `*` stands for one
/// part, whatever it is, and `**` at the end for one part or more. A clone costs a count.
///
/// ```
/// use keyway::base::{Path, PathPattern};
///
/// let pattern: PathPattern = "/user/*".parse()?;
/// assert!(pattern.fits(&"/user/carts".parse::<Path>().unwrap()));
/// let refused = "/user/ca*".parse::<PathPattern>().unwrap_err();
/// assert_eq!(
///     refused.to_string(),
///     "\"/user/ca*\" is no path pattern: part 2, \"ca*\": a `*` stands for a whole part, with \
///      nothing beside it; write it like `/user/*` or `/user/**`"
/// );
/// # Ok::<(), keyway::base::PatternError>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PathPattern {
    /// Without the `**`.
    parts: Arc<[Part]>,
    /// Whether a `**` follows.
    is_open: bool,
}

#[derive(PartialEq, Eq, Hash)]
enum Part {
    Any,
    Named(Box<str>),
}

/// A text is no pattern of paths.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{pattern:?} is no path pattern: {}{rule}; write it like `/user/*` or `/user/**`",
    place(part)
)]
pub struct PatternError {
    /// The text, cut where it is long.
    pub pattern: String,
    /// The part that breaks the rule, counted from 1, and its text; `None` for the whole text.
    pub part: Option<(usize, String)>,
    /// The rule that it breaks.
    pub rule: &'static str,
}

debug_as_display!(PatternError);

fn place(part: &Option<(usize, String)>) -> String {
    part.as_ref().map_or_else(String::new, |(number, text)| format!("part {number}, {text:?}: "))
}

impl PathPattern {
    /// The pattern with this text.
    ///
    /// # Errors
    /// A [`PatternError`] names the part and the rule that it breaks.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let broken = |part, rule| {
            let pattern = text.chars().take(MAX_PATH_BYTES).collect();
            PatternError { pattern, part, rule }
        };
        let inside = text.strip_prefix('/').ok_or_else(|| broken(None, rules::BEGIN))?;
        if text.len() > MAX_PATH_BYTES {
            return Err(broken(None, rules::LENGTH));
        }
        let mut parts = Vec::new();
        let mut is_open = false;
        for (index, part) in inside.split('/').enumerate() {
            let rule = match part {
                _ if is_open => Some("`**` stands for all that follows, so it comes last"),
                "**" => {
                    is_open = true;
                    continue;
                }
                _ => broken_rule(part),
            };
            if let Some(rule) = rule {
                return Err(broken(Some((index + 1, part.to_owned())), rule));
            }
            parts.push(if part == "*" { Part::Any } else { Part::Named(part.into()) });
        }
        Ok(Self { parts: parts.into(), is_open })
    }

    /// Whether a path is meant.
    pub fn fits(&self, path: &Path) -> bool {
        let mut actual = path.split('/').skip(1);
        let begins = self.parts.iter().all(|part| match (part, actual.next()) {
            (Part::Any, Some(_)) => true,
            (Part::Named(wanted), Some(actual)) => **wanted == *actual,
            (_, None) => false,
        });
        begins && actual.next().is_some() == self.is_open
    }
}

fn broken_rule(part: &str) -> Option<&'static str> {
    if part.is_empty() {
        Some("between two `/`, and behind the last, there must be something")
    } else if part != "*" && part.contains('*') {
        Some("a `*` stands for a whole part, with nothing beside it")
    } else if part != "*" && !part.bytes().all(rules::is_allowed) {
        Some(rules::LETTERS)
    } else {
        None
    }
}

impl FromStr for PathPattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::new(text)
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in &*self.parts {
            match part {
                Part::Any => f.write_str("/*")?,
                Part::Named(name) => write!(f, "/{name}")?,
            }
        }
        if self.is_open { f.write_str("/**") } else { Ok(()) }
    }
}

impl fmt::Debug for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> PathPattern {
        text.parse().unwrap()
    }

    #[test]
    fn wildcards_stand_for_parts() {
        for (text, path, fits) in [
            ("/user/carts", "/user/carts", true),
            ("/user/*", "/user/carts", true),
            ("/user/*", "/user/carts/1", false),
            ("/*/carts", "/user/carts", true),
            ("/*/*", "/user", false),
            ("/user/**", "/user/carts/1", true),
            ("/user/**", "/user/carts", true),
            ("/user/**", "/user", false),
            ("/user/*/**", "/user/carts", false),
            ("/user/*/**", "/user/carts/1", true),
            ("/**", "/user", true),
            ("/user/carts", "/user/cart", false),
            ("/user", "/user/carts", false),
        ] {
            assert_eq!(pattern(text).fits(&path.parse().unwrap()), fits, "{text} {path}");
        }
    }

    #[test]
    fn the_part_and_the_rule_are_named() {
        let broken = |text: &str| {
            let error = text.parse::<PathPattern>().unwrap_err();
            (error.part.map(|(number, part)| format!("{number} {part}")), error.rule)
        };
        let part = |text: &str| Some(text.to_owned());
        for text in ["", "user/*", " /user", "*", "**"] {
            assert_eq!(broken(text), (None, "it does not begin with `/`"), "{text:?}");
        }
        let nothing = "between two `/`, and behind the last, there must be something";
        assert_eq!(broken("/"), (part("1 "), nothing));
        assert_eq!(broken("/a//b"), (part("2 "), nothing));
        assert_eq!(broken("/a/*/"), (part("3 "), nothing));
        let whole = "a `*` stands for a whole part, with nothing beside it";
        for (text, which) in [("/a/b*", "2 b*"), ("/***", "1 ***"), ("/*a/b", "1 *a")] {
            assert_eq!(broken(text), (part(which), whole), "{text}");
        }
        let last = "`**` stands for all that follows, so it comes last";
        assert_eq!(broken("/**/a"), (part("2 a"), last));
        assert_eq!(broken("/**/"), (part("2 "), last));
        let letters = "between its `/` there may be only a-z, A-Z, 0-9, `.`, `_` and `-`";
        for (text, which) in [("/a?/b", "1 a?"), ("/a/ä", "2 ä"), ("/a b", "1 a b")] {
            assert_eq!(broken(text), (part(which), letters), "{text}");
        }
        let long = format!("/{}", "x".repeat(MAX_PATH_BYTES));
        assert_eq!(broken(&long), (None, "it is longer than 255 bytes"));
        let cut = PathPattern::new(&"x".repeat(10_000)).unwrap_err();
        assert_eq!(cut.pattern.len(), MAX_PATH_BYTES);
    }

    proptest! {
        /// One grammar: without wildcards, a text is a pattern if it is a path, and then it fits
        /// itself alone.
        #[test]
        fn patterns_without_wildcards_are_paths(text in "[/]?[/a-c.é ]{0,8}", other in "/[a-c]{1,2}") {
            let path = text.parse::<Path>();
            match text.parse::<PathPattern>() {
                Ok(pattern) => {
                    let path = path.unwrap();
                    let other: Path = other.parse().unwrap();
                    prop_assert!(pattern.fits(&path));
                    prop_assert_eq!(pattern.fits(&other), path == other);
                    prop_assert_eq!(pattern.to_string(), text);
                }
                Err(_) => prop_assert!(path.is_err(), "{:?} is a path", text),
            }
        }

        #[test]
        fn whatever_is_parsed_is_shown_as_it_was(text in "(/([ab]|\\*)){1,4}(/\\*\\*)?") {
            prop_assert_eq!(pattern(&text).to_string(), text);
        }
    }
}
