//! One connection of a load that makes its requests itself: HTTP/1.1, one request under way.

use anyhow::{Context, ensure};
use harness::Result;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of a response's head and body. None of those measured has half as many.
const RESPONSE_BYTES_MAX: usize = 4 << 10;

pub(crate) struct Connection {
    stream: TcpStream,
    response: Vec<u8>,
}

impl Connection {
    pub(crate) async fn to(at: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, response: vec![0; RESPONSE_BYTES_MAX] })
    }

    /// Sends a whole request; the status of its response.
    pub(crate) async fn send(&mut self, request: &[u8]) -> Result<u16> {
        self.stream.write_all(request).await?;
        let mut count = 0;
        loop {
            let more = self.stream.read(&mut self.response[count..]).await?;
            ensure!(more > 0, "a response that ends after {count} bytes");
            count += more;
            let said = &self.response[..count];
            let Some(head_bytes) = said.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            let head = std::str::from_utf8(&said[..head_bytes])?;
            let mut lines = head.lines();
            let status =
                lines.next().and_then(|line| line.split(' ').nth(1)).context("a status")?;
            let body = lines.find_map(|line| line.strip_prefix("content-length: "));
            if count == head_bytes + 4 + body.context("a length")?.parse::<usize>()? {
                return Ok(status.parse()?);
            }
        }
    }
}
