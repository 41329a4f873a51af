//! Where a handler is served: `/user/carts`. The one grammar of paths, checked once.

use super::debug_as_display;
use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::FromStr;
use std::sync::Arc;

/// Most bytes of a path.
pub const MAX_PATH_BYTES: usize = 255;

/// A path such as `/user/carts`: `/` and a part, once or more, the parts of letters and digits
/// (ASCII), `.`, `_` and `-`, at most [`MAX_PATH_BYTES`] in all. Compared exactly. A clone costs a
/// count.
///
/// ```
/// use keyway::base::Path;
///
/// let path: Path = "/user/carts".parse()?;
/// assert_eq!(&*path, "/user/carts");
/// let refused = "/user//carts".parse::<Path>().unwrap_err();
/// assert_eq!(
///     refused.to_string(),
///     "\"/user//carts\" is no path: two `/` have nothing between them; write it like `/user/carts`"
/// );
/// # Ok::<(), keyway::base::PathError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Arc<str>);

/// A text is no path.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} is no path: {rule}; write it like `/user/carts`")]
pub struct PathError {
    /// The text, cut where it is long.
    pub path: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

debug_as_display!(PathError);

impl Path {
    /// The path with this text.
    ///
    /// # Errors
    /// A [`PathError`] names the rule that the text breaks.
    pub fn new(text: impl AsRef<str> + Into<Arc<str>>) -> Result<Self, PathError> {
        match broken_rule(text.as_ref()) {
            None => Ok(Self(text.into())),
            Some(rule) => {
                Err(PathError { path: text.as_ref().chars().take(MAX_PATH_BYTES).collect(), rule })
            }
        }
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What paths and patterns of paths have in common.
pub(super) mod rules {
    pub const BEGIN: &str = "it does not begin with `/`";
    pub const LENGTH: &str = "it is longer than 255 bytes";
    pub const LETTERS: &str = "between its `/` there may be only a-z, A-Z, 0-9, `.`, `_` and `-`";

    /// Whether a part of a path may have this byte.
    pub fn is_allowed(byte: u8) -> bool {
        byte.is_ascii_alphanumeric() || b"._-".contains(&byte)
    }
}

fn broken_rule(text: &str) -> Option<&'static str> {
    let Some(parts) = text.strip_prefix('/') else { return Some(rules::BEGIN) };
    if text.len() > MAX_PATH_BYTES {
        Some(rules::LENGTH)
    } else if text.ends_with('/') {
        Some("nothing follows its last `/`")
    } else if parts.split('/').any(str::is_empty) {
        Some("two `/` have nothing between them")
    } else if !parts.bytes().all(|byte| byte == b'/' || rules::is_allowed(byte)) {
        Some(rules::LETTERS)
    } else {
        None
    }
}

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::new(text)
    }
}

impl Deref for Path {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Path {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rule_is_named() {
        let rule = |text: &str| text.parse::<Path>().unwrap_err().rule;
        for text in ["", "user", "user/", " /user"] {
            assert_eq!(rule(text), "it does not begin with `/`", "{text:?}");
        }
        for text in ["/", "/user/", "//"] {
            assert_eq!(rule(text), "nothing follows its last `/`", "{text:?}");
        }
        assert_eq!(rule("//user"), "two `/` have nothing between them");
        let letters = "between its `/` there may be only a-z, A-Z, 0-9, `.`, `_` and `-`";
        for text in ["/user/*", "/a?", "/a\nb", "/ä", "/a b", "/a\0"] {
            assert_eq!(rule(text), letters, "{text:?}");
        }
        let part = "x".repeat(MAX_PATH_BYTES - 1);
        assert_eq!(rule(&format!("/{part}x")), "it is longer than 255 bytes");
        assert_eq!(Path::new(format!("/{part}")).unwrap().len(), MAX_PATH_BYTES);
        assert_eq!(Path::new("x".repeat(10_000)).unwrap_err().path.len(), MAX_PATH_BYTES);
    }
}
