//! Distinguished names: how a certificate's subject is written (RFC 4514, in the certificate's order), and the patterns
//! of notation's trust policies, which hold for a subject when every part that they name is equal (specification:
//! "Trusted Identities Constraints").

use std::{collections::BTreeMap, fmt, fmt::Write as _, str::FromStr};

use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Signers whom a policy trusts, of all that the roots of a store vouch for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identities {
    /// `*`: everybody.
    Any,
    /// Those for whom at least one of these holds.
    Subjects(Vec<DistinguishedName>),
}

/// A pattern such as `C=US, ST=WA, O=acme`: the value of each attribute that it names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DistinguishedName(BTreeMap<String, String>);

/// A text that is no identity; the message says what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIdentity {
    /// None at all.
    #[error(
        "no identity is named: write `x509.subject: C=…, ST=…, O=…`, or `*` for every signer under the roots"
    )]
    Empty,
    /// `*` and others.
    #[error("`*` already means every signer: write it alone, or leave it out")]
    Wildcard,
    /// Another kind.
    #[error("{0:?} is no identity: write `x509.subject: C=…, ST=…, O=…`")]
    Kind(String),
    /// Not a distinguished name.
    #[error("{name:?} is no distinguished name: {cause}")]
    Malformed {
        /// The text.
        name: String,
        /// Why.
        cause: &'static str,
    },
    /// A part that must be there is not.
    #[error("{name:?} has no {part}: country (C), state (ST) and organization (O) must be named")]
    Incomplete {
        /// The text.
        name: String,
        /// What is missing.
        part: &'static str,
    },
    /// One says nothing that the other does not.
    #[error("{0:?} also holds for every signer of {1:?}: remove one of them")]
    Overlap(String, String),
}

const PREFIX: &str = "x509.subject:";
const MANDATORY: [&str; 3] = ["C", "ST", "O"];

/// Attribute types by their names (RFC 4514, 3, and what notation adds).
const TYPES: [(&str, &str); 11] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.5", "SERIALNUMBER"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.17", "POSTALCODE"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
];

impl Identities {
    /// Reads identities as notation's trust policies write them: `*`, or `x509.subject: …` that do not overlap.
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidIdentity> {
        let texts: Vec<&str> = texts.into_iter().collect();
        if texts == ["*"] {
            return Ok(Self::Any);
        }
        if texts.contains(&"*") {
            return Err(InvalidIdentity::Wildcard);
        }
        let subjects = texts
            .iter()
            .map(|text| {
                let name =
                    text.strip_prefix(PREFIX).ok_or_else(|| InvalidIdentity::Kind((*text).to_owned()))?;
                name.parse()
            })
            .collect::<Result<Vec<DistinguishedName>, _>>()?;
        for (position, one) in subjects.iter().enumerate() {
            for (other_position, other) in subjects.iter().enumerate() {
                if position != other_position && one.is_part_of(&other.0) {
                    return Err(InvalidIdentity::Overlap(one.to_string(), other.to_string()));
                }
            }
        }
        if subjects.is_empty() { Err(InvalidIdentity::Empty) } else { Ok(Self::Subjects(subjects)) }
    }

    /// Whether a signer with this subject ([`ByNotary::subject`](super::ByNotary::subject)) is one of them.
    pub fn hold(&self, subject: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Subjects(names) => names.iter().any(|name| name.matches(subject)),
        }
    }
}

impl DistinguishedName {
    /// Whether every part that this names has the same value in the subject. A subject that has a part twice or several
    /// values in one is nobody's.
    pub fn matches(&self, subject: &str) -> bool {
        parts(subject)
            .ok()
            .and_then(|parts| {
                // A value in hexadecimal is no text and equal to none.
                unique(parts.into_iter().filter_map(|part| Some((part.name, part.value?))))
            })
            .is_some_and(|subject| self.is_part_of(&subject))
    }

    fn is_part_of(&self, other: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(name, value)| other.get(name) == Some(value))
    }
}

impl FromStr for DistinguishedName {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = |cause| InvalidIdentity::Malformed { name: text.to_owned(), cause };
        let mut values = Vec::new();
        for part in parts(text).map_err(malformed)? {
            let value = part.value.ok_or_else(|| malformed("a value in hexadecimal names nobody"))?;
            values.push((part.name, value));
        }
        let values = unique(values).ok_or_else(|| malformed("a part is named twice"))?;
        match MANDATORY.iter().find(|part| !values.contains_key(**part)) {
            Some(part) => Err(InvalidIdentity::Incomplete { name: text.to_owned(), part }),
            None => Ok(Self(values)),
        }
    }
}

impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (name, value)) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{name}={}", escape(value))?;
        }
        Ok(())
    }
}

fn unique(parts: impl IntoIterator<Item = (String, String)>) -> Option<BTreeMap<String, String>> {
    let mut map = BTreeMap::new();
    for (name, value) in parts {
        if map.insert(name, value).is_some() {
            return None;
        }
    }
    Some(map)
}

/// One relative distinguished name.
struct Part {
    name: String,
    /// Absent when it is written in hexadecimal.
    value: Option<String>,
}

/// Reads a name with one attribute in each part (RFC 4514, 3). Types are upper case, `S` is `ST`.
fn parts(text: &str) -> Result<Vec<Part>, &'static str> {
    let mut rest = text;
    let mut parts = Vec::new();
    loop {
        let (name, after) = rest.split_once('=').ok_or("a part has no `=`")?;
        let name = name.trim().to_ascii_uppercase();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-') {
            return Err("a part's type is no word");
        }
        let name = if name == "S" { "ST".to_owned() } else { name };
        let (raw, next) = value(after.trim_start_matches(' '))?;
        let value = if after.trim_start_matches(' ').starts_with('#') { None } else { Some(raw) };
        if value.as_deref() == Some("") {
            return Err("a part has no value");
        }
        parts.push(Part { name, value });
        match next {
            Some(next) => rest = next,
            None => return Ok(parts),
        }
    }
}

/// Reads a value up to the next comma, and gives what follows that.
fn value(text: &str) -> Result<(String, Option<&str>), &'static str> {
    let mut value = Vec::new();
    // Unescaped spaces at the end do not belong to it.
    let mut kept = 0;
    let mut bytes = text.bytes().enumerate();
    let mut next = None;
    while let Some((position, byte)) = bytes.next() {
        match byte {
            b',' => {
                next = text.get(position + 1..);
                break;
            }
            b'+' => return Err("a part has several values: name one, or escape `+` as `\\+`"),
            b';' => return Err("a `;` is not escaped: write `\\;`"),
            b'\\' => {
                let (_, escaped) = bytes.next().ok_or("it ends with a backslash")?;
                if let Some(high) = hexadecimal(escaped) {
                    let low = bytes.next().and_then(|(_, low)| hexadecimal(low));
                    value.push(high << 4 | low.ok_or("an escape has one hexadecimal digit")?);
                } else if br##" "#+,;<=>\"##.contains(&escaped) {
                    value.push(escaped);
                } else {
                    return Err("a backslash stands before a character that needs none");
                }
                kept = value.len();
            }
            other => {
                value.push(other);
                if other != b' ' {
                    kept = value.len();
                }
            }
        }
    }
    value.truncate(kept);
    Ok((String::from_utf8(value).map_err(|_| "an escape is not UTF-8")?, next))
}

fn hexadecimal(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Writes a certificate's name.
pub(super) fn text(name: &X509Name<'_>) -> String {
    let parts: Vec<String> =
        name.iter().map(|part| part.iter().map(attribute).collect::<Vec<_>>().join("+")).collect();
    parts.join(", ")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let known = TYPES.iter().find(|(known, _)| *known == oid);
    match (known, attribute.as_str()) {
        (Some((_, name)), Ok(value)) => format!("{name}={}", escape(value)),
        _ => format!("{oid}=#{}", berth_registry_core::digest::hex(attribute.as_slice())),
    }
}

/// Escapes a value (RFC 4514, 2.4), so that [`value`] reads it back.
fn escape(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut escaped = String::new();
    for (position, char) in value.chars().enumerate() {
        let at_an_end =
            (char == ' ' && (position == 0 || position == last)) || (char == '#' && position == 0);
        if at_an_end || r#"",+;<=>\"#.contains(char) {
            escaped.push('\\');
            escaped.push(char);
        } else if char.is_control() {
            let mut bytes = [0; 4];
            for byte in char.encode_utf8(&mut bytes).bytes() {
                let _ = write!(escaped, "\\{byte:02x}");
            }
        } else {
            escaped.push(char);
        }
    }
    escaped
}
