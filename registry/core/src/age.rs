//! Spans of time as users write them: `90s`, `15m`, `36h`, `14d`.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A whole number of seconds, minutes, hours or days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Age(Duration);

/// A text that is no span of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no span of time: write a whole number and one of s, m, h, d, for example 36h or 14d")]
pub struct InvalidAge(String);

const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)];

impl Age {
    /// A span of whole seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// As the standard library has it.
    pub const fn as_duration(self) -> Duration {
        self.0
    }

    /// Its seconds, for arithmetic on timestamps.
    pub fn as_secs(self) -> i64 {
        i64::try_from(self.0.as_secs()).unwrap_or(i64::MAX)
    }
}

impl FromStr for Age {
    type Err = InvalidAge;

    fn from_str(text: &str) -> Result<Self, InvalidAge> {
        let invalid = || InvalidAge(crate::digest::short(text));
        let (suffix, seconds) =
            UNITS.iter().find(|(suffix, _)| text.ends_with(suffix)).ok_or_else(invalid)?;
        let number = text.strip_suffix(suffix).unwrap_or_default();
        if number.is_empty() || number.len() > 9 || !number.bytes().all(|b| b.is_ascii_digit()) {
            return Err(invalid());
        }
        let number: u64 = number.parse().map_err(|_| invalid())?;
        Ok(Self(Duration::from_secs(number * seconds)))
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (suffix, unit) =
            UNITS.iter().find(|(_, unit)| seconds > 0 && seconds.is_multiple_of(*unit)).unwrap_or(&("s", 1));
        write!(f, "{}{suffix}", seconds / unit)
    }
}

impl Serialize for Age {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("0s", 0, "0s")]
    #[case("90s", 90, "90s")]
    #[case("120s", 120, "2m")]
    #[case("36h", 129_600, "36h")]
    #[case("14d", 1_209_600, "14d")]
    fn reads_and_prints(#[case] text: &str, #[case] seconds: u64, #[case] printed: &str) {
        let age: Age = text.parse().unwrap();
        assert_eq!(age, Age::from_secs(seconds));
        assert_eq!(age.to_string(), printed);
    }

    #[rstest]
    #[case("")]
    #[case("d")]
    #[case("-1d")]
    #[case("1.5h")]
    #[case("14")]
    #[case("1w")]
    #[case("99999999999d")]
    #[case("1é")]
    fn refuses(#[case] text: &str) {
        assert!(text.parse::<Age>().is_err());
    }
}
