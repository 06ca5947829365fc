//! What Kubernetes takes as a label: `[PREFIX/]NAME` for keys, a name or nothing for values. A selector that breaks these
//! rules is refused together with the whole object that it stands in.

/// Whether `text` may be a key: a name of at most 63 bytes, after an optional DNS name of at most 253 and a slash.
pub fn is_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => {
            prefix.len() <= 253
                && prefix
                    .split('.')
                    .all(|part| is_name(part, |byte| byte == b'-', |byte| !byte.is_ascii_uppercase()))
                && is_label(name)
        }
        None => is_label(text),
    }
}

/// Whether `text` may be a value: a name of at most 63 bytes, or nothing.
pub fn is_value(text: &str) -> bool {
    text.is_empty() || is_label(text)
}

fn is_label(text: &str) -> bool {
    text.len() <= 63 && is_name(text, |byte| b"-_.".contains(&byte), |_| true)
}

/// Letters and digits, with the bytes of `inside` between them.
fn is_name(text: &str, inside: impl Fn(u8) -> bool, also: impl Fn(u8) -> bool) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() && also(byte);
    let bytes = text.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(|byte| plain(*byte));
    ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|byte| plain(*byte) || inside(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("app", true)]
    #[case("App_1.x", true)]
    #[case("app.kubernetes.io/name", true)]
    #[case("app.kubernetes.io/Name", true)]
    #[case("App.io/name", false)]
    #[case("", false)]
    #[case("/a", false)]
    #[case("a/", false)]
    #[case("a/b/c", false)]
    #[case("a b", false)]
    #[case("-a", false)]
    #[case("a-", false)]
    #[case("a..b/c", false)]
    #[case("ä", false)]
    fn keys(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(is_key(text), valid, "{text}");
    }

    #[rstest]
    #[case("", true)]
    #[case("prod", true)]
    #[case("V1.2_a-b", true)]
    #[case("a/b", false)]
    #[case("a b", false)]
    #[case("_a", false)]
    fn values(#[case] text: &str, #[case] valid: bool) {
        assert_eq!(is_value(text), valid, "{text}");
    }

    #[test]
    fn lengths() {
        let long = "a".repeat(64);
        assert!(!is_key(&long) && !is_value(&long));
        assert!(is_key(&long[1..]) && is_value(&long[1..]));
        assert!(!is_key(&format!("{}/a", "a.".repeat(127))) && !is_key(&format!("{}a/a", "a.".repeat(127))));
    }
}
