//! Reads `WWW-Authenticate` (RFC 9110, section 11.6.1): how a registry wants to be asked.

use std::collections::BTreeMap;

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// The challenge that we can answer best.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User and password in the request itself.
    Basic,
    /// A token from the realm (Docker's token protocol).
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

/// The first Bearer challenge with a realm, else Basic if it is offered.
pub(crate) fn read(headers: &HeaderMap) -> Option<Challenge> {
    let challenges: Vec<_> = headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(parse)
        .collect();
    let bearer = challenges.iter().find_map(|(scheme, parameters)| {
        let realm = parameters.get("realm").filter(|_| scheme.eq_ignore_ascii_case("bearer"))?;
        Some(Challenge::Bearer {
            realm: realm.clone(),
            service: parameters.get("service").cloned(),
            scope: parameters.get("scope").cloned(),
        })
    });
    let basic = || challenges.iter().any(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
    bearer.or_else(|| basic().then_some(Challenge::Basic))
}

/// `scheme key="value", key=value, scheme …`. A word without `=` begins the next challenge.
fn parse(header: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let mut challenges: Vec<(String, BTreeMap<String, String>)> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return challenges;
        }
        if let Some(value) = after.trim_start().strip_prefix('=') {
            let (value, after) = parameter(value.trim_start());
            if let Some((_, parameters)) = challenges.last_mut() {
                parameters.entry(word.to_ascii_lowercase()).or_insert(value);
            }
            rest = after;
        } else {
            challenges.push((word.to_owned(), BTreeMap::new()));
            rest = after;
        }
    }
}

/// A token or a quoted string, and what follows it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn of(header: &str) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        headers.insert(WWW_AUTHENTICATE, header.parse().unwrap());
        read(&headers)
    }

    #[rstest]
    #[case(r#"Bearer realm="https://a.io/t",service="r.io",scope="repository:a/b:pull,push""#)]
    #[case(r#"bearer service=r.io , scope="repository:a/b:pull,push", realm="https://a.io/t""#)]
    #[case(
        r#"Basic realm="x", Bearer realm="https://a.io/t",service="r.io",scope="repository:a/b:pull,push""#
    )]
    fn a_token_is_preferred(#[case] header: &str) {
        let expected = Challenge::Bearer {
            realm: "https://a.io/t".into(),
            service: Some("r.io".into()),
            scope: Some("repository:a/b:pull,push".into()),
        };
        assert_eq!(of(header), Some(expected));
    }

    #[test]
    fn basic_is_known_and_the_rest_is_not() {
        assert_eq!(of(r#"Basic realm="berth""#), Some(Challenge::Basic));
        assert_eq!(of("Negotiate"), None);
        assert_eq!(of(r#"Bearer error="invalid_token""#), None);
    }

    proptest! {
        #[test]
        fn any_header_ends(header in "[ -~]{0,80}") {
            let _ = parse(&header);
        }
    }
}
