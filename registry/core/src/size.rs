//! Amounts of memory as users write them: `64Mi`, `1Gi`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A whole number of KiB, MiB or GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

/// A text that is no amount of memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no amount of memory: write a whole number and one of Ki, Mi, Gi, for example 64Mi")]
pub struct InvalidSize(String);

const UNITS: [(&str, u64); 3] = [("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)];

impl Size {
    /// Its bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = InvalidSize;

    fn from_str(text: &str) -> Result<Self, InvalidSize> {
        let unit = UNITS.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)));
        unit.filter(|(number, _)| number.len() <= 9 && number.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|(number, unit)| Some(Self(number.parse::<u64>().ok()? * unit)))
            .ok_or_else(|| InvalidSize(crate::digest::short(text)))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = UNITS.iter().find(|(_, unit)| self.0 > 0 && self.0.is_multiple_of(*unit));
        let (suffix, unit) = fits.unwrap_or(&("Ki", 1 << 10));
        write!(f, "{}{suffix}", self.0 / unit)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("64Mi", 64 << 20, "64Mi")]
    #[case("1024Mi", 1 << 30, "1Gi")]
    #[case("0Ki", 0, "0Ki")]
    fn reads_and_prints(#[case] text: &str, #[case] bytes: u64, #[case] printed: &str) {
        let size: Size = text.parse().unwrap();
        assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, printed));
    }

    #[rstest]
    fn refuses(#[values("", "Mi", "64", "64M", "-1Mi", "1.5Gi", "9999999999Gi")] text: &str) {
        assert!(text.parse::<Size>().is_err(), "{text}");
    }
}
