//! Byte ranges, pure: `Range` of a blob GET (RFC 9110, section 14) and `Content-Range` of an upload chunk
//! (distribution-spec, "Pushing a blob in chunks": `<start>-<end>` without a unit).

use crate::engine::ByteRange;

/// Reads a `Range` header. `None` means: answer with the whole, as RFC 9110 asks for what is malformed, has another
/// unit or names several ranges (which a server may decline).
pub(super) fn parse(header: &str) -> Option<ByteRange> {
    let (unit, range) = header.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    match range.trim().split_once('-')? {
        ("", last) => number(last).map(ByteRange::Last),
        (first, "") => number(first).map(ByteRange::From),
        // A range that runs backwards holds no byte: the engine refuses it like one behind the end.
        (first, last) => Some(ByteRange::Between(number(first)?, number(last)?)),
    }
}

/// Reads the `Content-Range` of a chunk: its first and last byte. A leading `bytes ` and a trailing `/size` or `/*`,
/// which some clients send, are understood too.
pub(super) fn parse_chunk(header: &str) -> Option<(u64, u64)> {
    let range = header.trim();
    let range = range.strip_prefix("bytes ").map_or(range, str::trim_start);
    let range = range.split_once('/').map_or(range, |(range, _)| range);
    let (first, last) = range.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// Digits only: `u64::from_str` would let a plus sign pass.
fn number(text: &str) -> Option<u64> {
    if text.bytes().all(|b| b.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("bytes=0-", ByteRange::From(0))]
    #[case("bytes=0-0", ByteRange::Between(0, 0))]
    #[case("Bytes=2-5", ByteRange::Between(2, 5))]
    #[case("bytes=0-18446744073709551615", ByteRange::Between(0, u64::MAX))]
    #[case("bytes= -3", ByteRange::Last(3))]
    #[case("bytes=-0", ByteRange::Last(0))]
    #[case("bytes=5-2", ByteRange::Between(5, 2))]
    fn single_ranges(#[case] header: &str, #[case] range: ByteRange) {
        assert_eq!(parse(header), Some(range), "{header}");
    }

    #[rstest]
    #[case("bytes=0-1,3-4")]
    #[case("bytes=")]
    #[case("bytes=-")]
    #[case("bytes=a-b")]
    #[case("bytes=+1-2")]
    #[case("bytes=1-99999999999999999999")]
    #[case("items=0-1")]
    #[case("0-1")]
    fn others_are_ignored(#[case] header: &str) {
        assert_eq!(parse(header), None, "{header}");
    }

    #[rstest]
    #[case("0-9", Some((0, 9)))]
    #[case("bytes 0-9/*", Some((0, 9)))]
    #[case("bytes 5-9/10", Some((5, 9)))]
    #[case("9-0", None)]
    #[case("0", None)]
    #[case("-5", None)]
    #[case("5-", None)]
    #[case("", None)]
    fn chunks(#[case] header: &str, #[case] range: Option<(u64, u64)>) {
        assert_eq!(parse_chunk(header), range, "{header}");
    }
}
