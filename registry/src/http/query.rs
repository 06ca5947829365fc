//! Query parameters and pagination (distribution-spec, "Listing tags"): `n`, `last` and the `Link` header. Pure.

use std::fmt::Write as _;

use super::error::ApiError;

/// The most entries of one page, also without `n`.
pub(super) const MAX_PAGE: usize = 10_000;

/// The parameters of a request, percent-decoded, in their order.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads what stands after the `?`.
    pub(super) fn parse(query: Option<&str>) -> Result<Self, ApiError> {
        let decode = |text: &str| {
            super::route::percent_decode(&text.replace('+', " "))
                .map(std::borrow::Cow::into_owned)
                .ok_or_else(|| {
                    ApiError::bad_request("UNSUPPORTED", "the query is not valid percent-encoded UTF-8")
                })
        };
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                Ok((decode(key)?, decode(value)?))
            })
            .collect::<Result<_, ApiError>>()
            .map(Self)
    }

    /// The first value of a parameter.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// Every value of a parameter.
    pub(super) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// The page asked for by `n` and `last`.
    pub(super) fn page(&self) -> Result<PageRequest, ApiError> {
        let limit = match self.get("n") {
            None => MAX_PAGE,
            Some(n) if !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()) => {
                n.parse().unwrap_or(MAX_PAGE).min(MAX_PAGE)
            }
            Some(n) => {
                return Err(ApiError::bad_request("UNSUPPORTED", format!("n={n:?} is no number"))
                    .detail("ask for a page with n=100, or leave n out"));
            }
        };
        Ok(PageRequest { limit, last: self.get("last").filter(|last| !last.is_empty()).map(str::to_owned) })
    }
}

/// Which page of a list is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PageRequest {
    /// At most so many entries.
    pub limit: usize,
    /// Only what follows this entry.
    pub last: Option<String>,
}

impl PageRequest {
    /// The `Link` header to the page after `last`.
    pub(super) fn next(&self, path: &str, last: &str) -> String {
        format!("<{path}?n={}&last={}>; rel=\"next\"", self.limit, percent_encode(last))
    }
}

/// Escapes all but unreserved characters and the slash.
pub(super) fn percent_encode(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(byte.into());
            }
            // Writing to a String cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("", MAX_PAGE, None)]
    #[case("n=5", 5, None)]
    #[case("n=0", 0, None)]
    #[case("n=5&last=v1", 5, Some("v1"))]
    #[case("last=a%2Fb&n=1", 1, Some("a/b"))]
    #[case("n=99999999999999999999999", MAX_PAGE, None)]
    #[case("&&n=5&last=", 5, None)]
    fn pages(#[case] query: &str, #[case] limit: usize, #[case] last: Option<&str>) {
        let page = Query::parse(Some(query)).unwrap().page().unwrap();
        assert_eq!(page, PageRequest { limit, last: last.map(str::to_owned) });
    }

    #[rstest]
    #[case("n=")]
    #[case("n=-1")]
    #[case("n=x")]
    #[case("n=%2B1")]
    #[case("n=%zz")]
    fn malformed_pages_are_refused(#[case] query: &str) {
        assert!(Query::parse(Some(query)).and_then(|query| query.page()).is_err(), "{query}");
    }

    #[test]
    fn the_next_page_is_escaped() {
        let page = PageRequest { limit: 2, last: None };
        assert_eq!(page.next("/v2/_catalog", "a/b c"), "</v2/_catalog?n=2&last=a/b%20c>; rel=\"next\"");
    }

    #[test]
    fn a_parameter_may_repeat() {
        let query = Query::parse(Some("tag=a&tag=b&tag")).unwrap();
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["a", "b", ""]);
    }
}
