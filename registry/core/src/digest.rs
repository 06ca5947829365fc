//! Digests: the names of content (OCI image-spec, "Digests").
//! Everything that enters from the network is parsed into these types before it reaches the engine.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest as _, Sha256, Sha512};

/// A registered digest algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// `sha256`, 64 hex digits.
    Sha256,
    /// `sha512`, 128 hex digits.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }

    /// Hashes bytes that are whole in memory.
    pub fn digest(self, bytes: &[u8]) -> Digest {
        match self {
            Self::Sha256 => Digest::from_hex(self, &hex(&Sha256::digest(bytes))),
            Self::Sha512 => Digest::from_hex(self, &hex(&Sha512::digest(bytes))),
        }
    }
}

impl FromStr for Algorithm {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        match text {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            other => Err(InvalidDigest(format!(
                "digest algorithm {other:?} is not supported: use sha256 or sha512"
            ))),
        }
    }
}

/// `algorithm:hex`, lower case, of the length that the algorithm asks for.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    text: Box<str>,
}

/// A text that is no digest; the message says why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidDigest(String);

impl Digest {
    /// The SHA-256 digest of bytes in memory.
    pub fn sha256(bytes: &[u8]) -> Self {
        Algorithm::Sha256.digest(bytes)
    }

    /// Builds a digest from the raw output of a hash function; `None` if the length is not the algorithm's.
    pub fn from_raw(algorithm: Algorithm, raw: &[u8]) -> Option<Self> {
        (raw.len() * 2 == algorithm.hex_len()).then(|| Self::from_hex(algorithm, &hex(raw)))
    }

    /// Of the output of SHA-256.
    pub fn from_sha256(raw: [u8; 32]) -> Self {
        Self::from_hex(Algorithm::Sha256, &hex(&raw))
    }

    /// The output of SHA-256; `None` if it is another algorithm's.
    pub fn to_sha256(&self) -> Option<[u8; 32]> {
        let mut raw = [0; 32];
        for (byte, pair) in raw.iter_mut().zip(self.hex().as_bytes().chunks_exact(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        (self.algorithm == Algorithm::Sha256).then_some(raw)
    }

    fn from_hex(algorithm: Algorithm, hex: &str) -> Self {
        Self { algorithm, text: [algorithm.as_str(), ":", hex].concat().into_boxed_str() }
    }

    /// `algorithm:hex`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hex digits after the colon.
    pub fn hex(&self) -> &str {
        self.text.split_at(self.algorithm.as_str().len() + 1).1
    }

    /// Whether `bytes` are the content that this digest names.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        self.algorithm.digest(bytes) == *self
    }

    /// The tag under which clients without the referrers API keep what refers to this digest
    /// (distribution-spec, "Referrers Tag Schema"); cosign appends `.sig`, `.att`, `.sbom`.
    pub fn referrers_tag(&self) -> String {
        let hex = self.hex();
        let hex = hex.get(..64).unwrap_or(hex);
        format!("{}-{hex}", self.algorithm.as_str())
    }

    /// The SHA-256 digest that such a tag is about, whatever is appended; a SHA-512 digest is cut short in its tag.
    pub fn of_referrers_tag(tag: &str) -> Option<Self> {
        let (algorithm, rest) = tag.split_once('-')?;
        let (hex, end) = (rest.get(..64)?, rest.get(64..)?);
        let ours = algorithm == Algorithm::Sha256.as_str() && (end.is_empty() || end.starts_with('.'));
        if ours { format!("{algorithm}:{hex}").parse().ok() } else { None }
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(InvalidDigest(format!(
                "digest {:?} has no algorithm: write sha256:<hex>",
                short(text)
            )));
        };
        let algorithm: Algorithm = algorithm.parse()?;
        if hex.len() != algorithm.hex_len() || !hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(InvalidDigest(format!(
                "digest {:?} is malformed: {} takes {} lower-case hex digits",
                short(text),
                algorithm.as_str(),
                algorithm.hex_len()
            )));
        }
        Ok(Self { algorithm, text: text.into() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digits =
        |byte: &u8| [byte >> 4, byte & 0xf].map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]));
    let mut text = String::with_capacity(bytes.len() * 2);
    text.extend(bytes.iter().flat_map(digits));
    text
}

/// Keeps an error message readable when the input is hostile.
pub(crate) fn short(text: &str) -> String {
    if text.chars().count() <= 160 {
        text.to_owned()
    } else {
        text.chars().take(160).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[test]
    fn round_trips() {
        let digest = Digest::sha256(b"");
        assert_eq!(
            digest.to_string(),
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert!(digest.matches(b"") && !digest.matches(b"x"));
        assert_eq!(digest.referrers_tag().len(), 71);
    }

    #[rstest]
    #[case("")]
    #[case("sha256")]
    #[case("sha256:")]
    #[case("md5:d41d8cd98f00b204e9800998ecf8427e")]
    #[case("sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855")]
    #[case("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85")]
    #[case("sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
    #[case("sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b85/")]
    fn refuses(#[case] text: &str) {
        assert!(text.parse::<Digest>().is_err());
    }
}
