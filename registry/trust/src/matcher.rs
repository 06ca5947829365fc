//! What a policy accepts as the name of an identity: one text, or a regular expression that has to match all of it.

use std::fmt;

use regex::{Regex, RegexBuilder};

use crate::bounds::{MAX_REGEX, clip};

/// Matches the issuer or the subject of an identity.
#[derive(Clone)]
pub enum Matcher {
    /// This text and no other.
    Exact(String),
    /// Texts that a regular expression matches from the first character to the last.
    Regex(Regex),
}

/// A text that is no matcher; the message says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMatcher {
    /// Every text begins with nothing.
    #[error("it is empty, and matches nobody")]
    Empty,
    /// Not a regular expression, or one that takes too much memory.
    #[error("it is no regular expression of moderate size: {0}")]
    Regex(String),
}

impl Matcher {
    /// This text and no other.
    pub fn exact(text: &str) -> Result<Self, InvalidMatcher> {
        if text.is_empty() { Err(InvalidMatcher::Empty) } else { Ok(Self::Exact(text.to_owned())) }
    }

    /// A regular expression over the whole text; `^` and `$` need not be written.
    pub fn regex(pattern: &str) -> Result<Self, InvalidMatcher> {
        if pattern.is_empty() {
            return Err(InvalidMatcher::Empty);
        }
        let invalid = |error: regex::Error| InvalidMatcher::Regex(clip(&error.to_string()));
        // On its own first: `a)|(b` is none, and would become one within the group.
        RegexBuilder::new(pattern).size_limit(MAX_REGEX).build().map_err(invalid)?;
        let whole = format!(r"\A(?:{pattern})\z");
        RegexBuilder::new(&whole).size_limit(MAX_REGEX).build().map_err(invalid).map(Self::Regex)
    }

    pub(crate) fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(wanted) => wanted == text,
            Self::Regex(regex) => regex.is_match(text),
        }
    }

    /// The one text that it matches, if there is but one.
    pub(crate) fn only(&self) -> Option<&str> {
        match self {
            Self::Exact(text) => Some(text),
            Self::Regex(_) => None,
        }
    }
}

impl fmt::Debug for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "{text:?}"),
            Self::Regex(regex) => write!(f, "/{regex}/"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("https://github.com/acme/.*", "https://github.com/acme/app", true)]
    #[case("https://github.com/acme/.*", "https://evil.io/https://github.com/acme/app", false)]
    #[case("acme|corp", "acme", true)]
    #[case("acme|corp", "acme.evil", false)]
    #[case("acme|corp", "evilcorp", false)]
    #[case("^acme$", "acme", true)]
    #[case("acme", "acme\n", false)]
    #[case("acme.*", "acme\nevil", false)]
    #[case("(?m)^acme$", "evil\nacme", false)]
    fn a_regular_expression_matches_the_whole_text(
        #[case] pattern: &str,
        #[case] text: &str,
        #[case] matches: bool,
    ) {
        assert_eq!(Matcher::regex(pattern).unwrap().matches(text), matches, "{pattern} ~ {text:?}");
    }

    #[rstest]
    #[case("")]
    #[case("(")]
    #[case("a)|(b")]
    #[case("(?x) acme # comment")]
    #[case("(a{1000}){1000}")]
    fn others_are_refused(#[case] pattern: &str) {
        assert!(Matcher::regex(pattern).is_err());
    }

    #[test]
    fn an_exact_text_is_no_pattern() {
        assert!(!Matcher::exact("a.c").unwrap().matches("abc"));
        assert_eq!(Matcher::exact("").unwrap_err(), InvalidMatcher::Empty);
    }
}
