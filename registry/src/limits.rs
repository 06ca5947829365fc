//! What the server bears: how long it waits for clients, how much it takes at once. One place, so that the numbers can
//! be judged together; the table of `DESIGN.md` says what a client is told at each. A test keeps both alike.

use std::time::Duration;

/// For the TLS handshake.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long an HTTP/1.1 connection may be without a request, the head of the next one included: longer than clients keep
/// theirs (90 s is common), so that it is they who close it and no request crosses our closing.
pub const HEAD: Duration = Duration::from_mins(2);
/// For a client that began to send a body and went silent.
pub const BODY_STALLED: Duration = Duration::from_mins(1);
/// For a client that neither takes bytes nor closes.
pub const WRITE_STALLED: Duration = Duration::from_mins(1);
/// Bytes of the head of a request.
pub const MAX_HEAD: u32 = 64 << 10;
/// Fields of the head of a request.
pub const MAX_HEADERS: usize = 100;
/// Connections at once; further ones wait in the system's queue. 100 KiB each at most, but for their uploads.
pub const MAX_CONNECTIONS: usize = 4096;
/// HTTP/2 requests at once on one connection.
pub const MAX_STREAMS: u32 = 64;
/// What a client may send on one HTTP/2 stream before the engine has taken it: held in memory while uploads queue up.
pub const STREAM_WINDOW: u32 = 256 << 10;
/// The same for a whole connection. All streams may fill theirs, so that those which wait for memory never block those
/// which have it.
pub const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MAX_STREAMS;
/// Memory for parts of uploads, all together, unless configured: eight parts of 8 MiB on their way to S3.
pub const UPLOAD_MEMORY: usize = 64 << 20;
/// Requests that bring bytes of blobs at once, unless configured.
pub const MAX_UPLOADS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_the_same() {
        let (seconds, kib) = (|span: Duration| span.as_secs(), |bytes: u32| bytes >> 10);
        let rows = [
            format!("| TLS handshake | {} s |", seconds(HANDSHAKE)),
            format!("| head of a request; idle HTTP/1.1 connection | {} s |", seconds(HEAD)),
            format!("| silence within a body | {} s |", seconds(BODY_STALLED)),
            format!("| a client that takes nothing | {} s |", seconds(WRITE_STALLED)),
            format!("| size of a head | {} KiB, {MAX_HEADERS} fields |", kib(MAX_HEAD)),
            format!("| connections | {MAX_CONNECTIONS} |"),
            format!("| HTTP/2 streams of a connection | {MAX_STREAMS} |"),
            format!("| HTTP/2 window of a stream | {} KiB |", kib(STREAM_WINDOW)),
            format!("| memory for parts (`uploads.memory`) | {} MiB |", UPLOAD_MEMORY >> 20),
            format!("| requests that bring bytes (`uploads.atOnce`) | {MAX_UPLOADS} |"),
        ];
        let page = include_str!("../DESIGN.md");
        for row in rows {
            assert!(page.contains(&row), "DESIGN.md lacks {row:?}");
        }
    }
}
