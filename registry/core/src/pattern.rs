//! Globs over repositories, tags and image names: `*` stays within a path segment, `**` crosses segments.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// One glob. A literal matches itself; there are no other metacharacters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern(Box<str>);

/// A text that is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// Nothing can match it.
    #[error("a pattern must not be empty: write ** to match everything")]
    Empty,
    /// Longer than 512 bytes.
    #[error("a pattern may have at most 512 bytes")]
    TooLong,
    /// Holds three stars in a row.
    #[error("pattern {0:?} has three stars in a row: use * within a path segment or ** across segments")]
    Stars(String),
}

impl Pattern {
    /// Whether the whole of `text` matches. Linear in the product of both lengths, whatever the input.
    pub fn matches(&self, text: &str) -> bool {
        let (pattern, text) = (tokens(&self.0), text.as_bytes());
        // `reach[i]`: the tokens so far match the first `i` bytes.
        let mut reach = vec![false; text.len() + 1];
        reach[0] = true;
        for token in pattern {
            match token {
                Token::Byte(byte) => {
                    for i in (1..=text.len()).rev() {
                        reach[i] = reach[i - 1] && text[i - 1] == byte;
                    }
                    reach[0] = false;
                }
                Token::Segment => {
                    for i in 1..=text.len() {
                        reach[i] = reach[i] || (reach[i - 1] && text[i - 1] != b'/');
                    }
                }
                Token::Any => {
                    for i in 1..=text.len() {
                        reach[i] = reach[i] || reach[i - 1];
                    }
                }
            }
        }
        reach[text.len()]
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

enum Token {
    Byte(u8),
    Segment,
    Any,
}

fn tokens(pattern: &str) -> impl Iterator<Item = Token> + '_ {
    let mut bytes = pattern.bytes().peekable();
    std::iter::from_fn(move || {
        let byte = bytes.next()?;
        Some(match byte {
            b'*' if bytes.next_if_eq(&b'*').is_some() => Token::Any,
            b'*' => Token::Segment,
            byte => Token::Byte(byte),
        })
    })
}

impl FromStr for Pattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        if text.is_empty() {
            return Err(InvalidPattern::Empty);
        }
        if text.len() > 512 {
            return Err(InvalidPattern::TooLong);
        }
        if text.contains("***") {
            return Err(InvalidPattern::Stars(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    #[rstest]
    #[case("a", "a", true)]
    #[case("a", "ab", false)]
    #[case("v*", "v1.2", true)]
    #[case("v*", "1v", false)]
    #[case("*", "a/b", false)]
    #[case("**", "a/b", true)]
    #[case("**", "", true)]
    #[case("app/**", "app/a/b", true)]
    #[case("app/**", "app", false)]
    #[case("app/*/x", "app/a/x", true)]
    #[case("app/*/x", "app/a/b/x", false)]
    #[case("r.svc/**", "rxsvc/a", false)]
    #[case("*-*", "a-b-c", true)]
    fn table(#[case] pattern: &str, #[case] text: &str, #[case] matches: bool) {
        assert_eq!(pattern.parse::<Pattern>().unwrap().matches(text), matches, "{pattern} ~ {text}");
    }

    proptest! {
        #[test]
        fn a_literal_matches_only_itself(a in "[a-z/.]{1,12}", b in "[a-z/.]{1,12}") {
            prop_assert_eq!(a.parse::<Pattern>().unwrap().matches(&b), a == b);
        }

        #[test]
        fn hostile_patterns_end(stars in "(\\*[ab]){1,100}", text in "[ab]{0,200}") {
            let _ = stars.parse::<Pattern>().unwrap().matches(&text);
        }
    }
}
