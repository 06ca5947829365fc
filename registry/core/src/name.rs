//! Names of repositories and tags (distribution-spec, "Pulling manifests": `<name>` and `<reference>`).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::digest::{Digest, InvalidDigest, short};

/// A text that is no name; the message says why and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(String);

/// The longest repository name that is accepted, in bytes.
pub const MAX_REPOSITORY: usize = 255;

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*`, at most 255 bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryName(Box<str>);

/// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Box<str>);

/// What stands after `/manifests/`: a tag or a digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// By tag.
    Tag(Tag),
    /// By digest.
    Digest(Digest),
}

fn is_component(component: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(first) || !alphanumeric(last) {
        return false;
    }
    bytes.split(|&b| alphanumeric(b)).all(|separator| match separator {
        [] | b"." | b"_" | b"__" => true,
        dashes => dashes.iter().all(|&b| b == b'-'),
    })
}

impl FromStr for RepositoryName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        if text.len() > MAX_REPOSITORY {
            return Err(InvalidName(format!(
                "repository name {:?} is longer than {MAX_REPOSITORY} bytes",
                short(text)
            )));
        }
        if !text.split('/').all(is_component) {
            return Err(InvalidName(format!(
                "repository name {:?} is malformed: lower-case letters and digits, joined by one of `.`, `_`, `__`, dashes, or `/`",
                short(text)
            )));
        }
        Ok(Self(text.into()))
    }
}

impl FromStr for Tag {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let mut bytes = text.bytes();
        let valid = text.len() <= 128
            && bytes.next().is_some_and(word)
            && bytes.all(|b| word(b) || matches!(b, b'.' | b'-'));
        if !valid {
            return Err(InvalidName(format!(
                "tag {:?} is malformed: up to 128 letters, digits, `_`, `.`, `-`, beginning with a letter, a digit or `_`",
                short(text)
            )));
        }
        Ok(Self(text.into()))
    }
}

/// A reference that is neither a tag nor a digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReference {
    /// It holds a colon, so a digest was meant.
    #[error(transparent)]
    Digest(#[from] InvalidDigest),
    /// It holds no colon, so a tag was meant.
    #[error(transparent)]
    Tag(#[from] InvalidName),
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        if text.contains(':') { Ok(Self::Digest(text.parse()?)) } else { Ok(Self::Tag(text.parse()?)) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => fmt::Display::fmt(tag, f),
            Self::Digest(digest) => fmt::Display::fmt(digest, f),
        }
    }
}

macro_rules! text_newtype {
    ($type:ident) => {
        impl $type {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    };
}
text_newtype!(RepositoryName);
text_newtype!(Tag);

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("a", true)]
    #[case("library/alpine", true)]
    #[case("a.b_c__d---e/f0", true)]
    #[case("", false)]
    #[case("A", false)]
    #[case("a/", false)]
    #[case("/a", false)]
    #[case("a//b", false)]
    #[case("a..b", false)]
    #[case("a___b", false)]
    #[case("a._b", false)]
    #[case("-a", false)]
    #[case("a-", false)]
    #[case("a!b", false)]
    #[case("../etc", false)]
    #[case("ä", false)]
    fn repository_names(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(text.parse::<RepositoryName>().is_ok(), valid, "{text:?}");
    }

    #[rstest]
    #[case("latest", true)]
    #[case("_x", true)]
    #[case("v1.2.3-rc.1", true)]
    #[case("", false)]
    #[case(".a", false)]
    #[case("-a", false)]
    #[case("a/b", false)]
    #[case("a b", false)]
    fn tags(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(text.parse::<Tag>().is_ok(), valid, "{text:?}");
    }

    #[test]
    fn lengths_are_bounded() {
        assert!("a".repeat(255).parse::<RepositoryName>().is_ok());
        assert!("a".repeat(256).parse::<RepositoryName>().is_err());
        assert!("a".repeat(128).parse::<Tag>().is_ok());
        assert!("a".repeat(129).parse::<Tag>().is_err());
    }
}
