//! Connections that are not HTTP: a client that sends bytes, an origin that sends them back.
//!
//! The client: `data TEXT` sends, `end` says that no more will come, `expect TEXT` waits until
//! all that came back ends so, `hang_up` is gone at once; `await`, `until` and `contexts` as for
//! HTTP. The origin ends its side at the end of the client's, or when it reads `quit`.

use crate::client::{ANSWER_DEADLINE, DELETED, LOG_DEADLINE, unescaped};
use crate::home::Home;
use crate::origin::{Record, Seen};
use crate::script::Case;
use anyhow::{Context, bail};
use harness::{Result, wait};
use hyper::header::HeaderMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// What makes the origin end its side.
const QUIT: &[u8] = b"quit";

/// Sends back what comes, on every connection; `open` is a clone for each, and one more.
pub(crate) async fn serve(listener: TcpListener, record: Record, open: Arc<()>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (record, open) = (Arc::clone(&record), Arc::clone(&open));
        tokio::spawn(async move {
            // A proxy that hangs up has its reasons; the log tells.
            let _ = echo(stream, record).await;
            drop(open);
        });
    }
}

/// Waits until an origin has done with all connections that were made so far: what reaches
/// it late shall be told of this case, not of the next.
pub(crate) async fn settle(origin: SocketAddr, open: &Arc<()>) -> Result<()> {
    // Connections are accepted in their order: when this one was, all before it were.
    let mut last = TcpStream::connect(origin).await?;
    last.shutdown().await?;
    last.read_to_end(&mut Vec::new()).await?;
    // The origin's own, and the server's.
    let is_idle = async || (Arc::strong_count(open) <= 2).then_some(());
    wait::until("the origin to have done with a case", is_idle).await
}

async fn echo(mut stream: TcpStream, record: Record) -> std::io::Result<()> {
    let (mut seen, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut part).await?;
        let part = part.get(..length).unwrap_or_default();
        seen.extend_from_slice(part);
        if part.is_empty() || part == QUIT {
            break;
        }
        stream.write_all(part).await?;
    }
    if seen.is_empty() {
        // A connection that a filter refused may have been made, or not.
        return stream.shutdown().await;
    }
    let (line, fields, trailers) = ("bytes".to_owned(), HeaderMap::new(), HeaderMap::new());
    let seen = Seen { line, fields, body: seen, trailers, is_whole: true };
    record.lock().unwrap_or_else(PoisonError::into_inner).push(seen);
    stream.shutdown().await
}

/// Plays the client's part of a case; what it got, as a transcript shows it.
pub(crate) async fn play(home: &Home, case: &Case) -> Result<Vec<String>> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((case.address, 0).into())?;
    let (from, to) = socket.connect(home.address).await?.into_split();
    let mut client = Client { from, to: Some(to), got: Vec::new() };
    let (mut last, mut contexts) = (DELETED, home.contexts());
    for line in &case.client {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "until" => (last, contexts) = (rest, 1),
            "contexts" => contexts = rest.parse()?,
            "origin" => {}
            "await" => home.await_line(&case.name, rest, 1).await?,
            "hang_up" => return client.hang_up(home, case, last, contexts).await,
            _ => client.act(verb, rest).await.with_context(|| line.clone())?,
        }
    }
    let end = client.read_to_end().await?;
    client.to = None;
    home.await_line(&case.name, last, contexts).await?;
    Ok(vec![format!("client: \"{}\", {end}", client.got.escape_ascii())])
}

struct Client {
    from: OwnedReadHalf,
    to: Option<OwnedWriteHalf>,
    got: Vec<u8>,
}

impl Client {
    async fn act(&mut self, verb: &str, rest: &str) -> Result<()> {
        match verb {
            "data" => self.to.as_mut().context("an open side")?.write_all(&unescaped(rest)).await?,
            // Dropping the half of a stream shuts it down.
            "end" => self.to = None,
            "expect" => {
                let wanted = unescaped(rest);
                while !self.got.ends_with(&wanted) {
                    let more =
                        tokio::time::timeout(LOG_DEADLINE, self.from.read_buf(&mut self.got));
                    if more.await?? == 0 {
                        bail!("the connection ended after {:?}", self.got.escape_ascii());
                    }
                }
            }
            _ => bail!("no such line for a client of bytes"),
        }
        Ok(())
    }

    async fn read_to_end(&mut self) -> Result<&'static str> {
        let end = self.from.read_to_end(&mut self.got);
        Ok(match tokio::time::timeout(ANSWER_DEADLINE, end).await {
            Ok(Ok(_)) => "then the end",
            Ok(Err(_)) => "broken off",
            Err(_) => "without an end",
        })
    }

    async fn hang_up(
        self,
        home: &Home,
        case: &Case,
        last: &str,
        contexts: usize,
    ) -> Result<Vec<String>> {
        let got = format!("client: \"{}\", hung up", self.got.escape_ascii());
        drop(self);
        home.await_line(&case.name, last, contexts).await?;
        Ok(vec![got])
    }
}
