//! The trace that a request belongs to already, as its client says (W3C Trace Context, level 1).

use http::HeaderMap;

const LONGEST_STATE: usize = 512;

/// The span above a request's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    /// Whether its trace is recorded.
    pub(super) sampled: bool,
    /// What other systems carry along (`tracestate`).
    pub(super) state: String,
}

impl Parent {
    /// None without a header that is valid.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let parent = headers.get("traceparent")?.to_str().ok()?;
        let mut fields = parent.split('-');
        let version: [u8; 1] = hex(fields.next()?)?;
        let trace_id = hex(fields.next()?)?;
        let span_id = hex(fields.next()?)?;
        let [flags] = hex(fields.next()?)?;
        // Later versions may add fields, and mean the same by the first ones.
        let valid = version != [0xff] && (version != [0] || fields.next().is_none());
        if !valid || trace_id == [0; 16] || span_id == [0; 8] {
            return None;
        }
        let states = headers.get_all("tracestate").iter().filter_map(|value| value.to_str().ok());
        let state = states.collect::<Vec<_>>().join(",");
        let state = if state.len() > LONGEST_STATE { String::new() } else { state };
        Some(Self { trace_id, span_id, sampled: flags & 1 == 1, state })
    }
}

fn hex<const BYTES: usize>(text: &str) -> Option<[u8; BYTES]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    if text.len() != 2 * BYTES {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use rstest::rstest;

    use super::*;

    fn parent(value: &str) -> Option<Parent> {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", value.parse().unwrap());
        headers.append("tracestate", HeaderValue::from_static("a=1"));
        headers.append("tracestate", HeaderValue::from_static("b=2"));
        Parent::of(&headers)
    }

    #[test]
    fn a_parent_is_read() {
        let read = parent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(read.trace_id[..2], [0x4b, 0xf9]);
        assert_eq!(read.span_id, [0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7]);
        assert!(read.sampled);
        assert_eq!(read.state, "a=1,b=2");
    }

    #[rstest]
    #[case::not_sampled("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00", Some(false))]
    #[case::other_flags("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03", Some(true))]
    #[case::later("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", Some(true))]
    #[case::more("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", None)]
    #[case::version_ff("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", None)]
    #[case::no_trace("00-00000000000000000000000000000000-00f067aa0ba902b7-01", None)]
    #[case::no_span("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", None)]
    #[case::upper_case("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", None)]
    #[case::short("00-4bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01", None)]
    #[case::no_flags("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7", None)]
    #[case::empty("", None)]
    fn what_is_valid(#[case] value: &str, #[case] sampled: Option<bool>) {
        assert_eq!(parent(value).map(|parent| parent.sampled), sampled);
    }
}
