//! HTTP/1.1 by hand: requests that stop in the middle and go on when the test says so.

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::http::Failure;

/// One connection, for one request.
pub(crate) struct Raw {
    socket: TcpStream,
    address: String,
}

fn broken(error: &std::io::Error) -> Failure {
    Failure(format!("the connection broke: {error}"))
}

impl Raw {
    pub(crate) async fn connect(address: &str) -> Result<Self, Failure> {
        let socket = TcpStream::connect(address).await.map_err(|e| broken(&e))?;
        Ok(Self { socket, address: address.into() })
    }

    /// Sends a request line and headers (`length` of the body, if there is one).
    pub(crate) async fn head(&mut self, request: &str, length: Option<usize>) -> Result<(), Failure> {
        let length = length.map(|length| format!("content-length: {length}\r\n")).unwrap_or_default();
        let head =
            format!("{request} HTTP/1.1\r\nhost: {}\r\n{length}connection: close\r\n\r\n", self.address);
        self.send(head.as_bytes()).await
    }

    /// Sends some bytes of the body.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.socket.write_all(bytes).await.map_err(|e| broken(&e))
    }

    /// Reads exactly so many bytes of the answer.
    pub(crate) async fn read(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = vec![0; length];
        self.socket.read_exact(&mut bytes).await.map_err(|e| broken(&e))?;
        Ok(bytes)
    }

    /// Reads until the server closes; `begun` is what was read before. Status and body.
    pub(crate) async fn rest(mut self, begun: Vec<u8>) -> Result<(u16, Bytes), Failure> {
        let mut answer = begun;
        self.socket.read_to_end(&mut answer).await.map_err(|e| broken(&e))?;
        let answer = Bytes::from(answer);
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.ok_or_else(|| Failure(format!("no answer in {} bytes", answer.len())))?;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| Failure(format!("no status in {head:?}")))?;
        Ok((status, answer.slice(end + 4..)))
    }
}
