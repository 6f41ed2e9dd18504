//! The load: requests that are sent when they are due, on connections kept open.

use crate::MODES;
use harness::Result;
use harness::client::{Client, get};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Requests a second of each mode: twice what its limit admits.
const PER_SECOND: u32 = 80;

/// Connections of each mode: so that one slow answer delays no other request.
const CONNECTIONS: u32 = 8;

/// The header that has a request's key.
pub(crate) const KEY: &str = "x-key";

/// Whose key a request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whose {
    /// It is of the shard that breaks, or there is no other.
    Hit,
    /// It is of another.
    Elsewhere,
}

/// Requests of one mode about one key, all to one proxy.
#[derive(Clone)]
pub(crate) struct Stream {
    pub(crate) at: SocketAddr,
    /// Its place in [`MODES`].
    pub(crate) mode: usize,
    pub(crate) key: String,
    pub(crate) whose: Whose,
}

/// What became of one request.
pub(crate) struct Outcome {
    pub(crate) mode: usize,
    pub(crate) whose: Whose,
    /// When it was due, since the load began.
    pub(crate) due: Duration,
    /// From then to the end of the answer.
    pub(crate) took: Duration,
    /// None, if there was no answer.
    pub(crate) status: Option<u16>,
}

/// Sends the load for `span`.
pub(crate) async fn run(
    streams: &[Stream],
    begun: Instant,
    span: Duration,
) -> Result<Vec<Outcome>> {
    let mut connections = JoinSet::new();
    for stream in streams {
        for place in 0..CONNECTIONS {
            connections.spawn(keep(stream.clone(), place, begun, span));
        }
    }
    let mut outcomes = Vec::new();
    while let Some(more) = connections.join_next().await {
        outcomes.extend(more??);
    }
    outcomes.sort_by_key(|outcome| outcome.due);
    Ok(outcomes)
}

/// Every so-manieth request of a stream, on one connection.
async fn keep(stream: Stream, place: u32, begun: Instant, span: Duration) -> Result<Vec<Outcome>> {
    let call = get(&format!("/{}", MODES[stream.mode])).header(KEY, &stream.key);
    let mut client = Client::http1(stream.at).await?;
    let mut outcomes = Vec::new();
    for number in (place..).step_by(CONNECTIONS as usize) {
        let due = Duration::from_secs(1) / PER_SECOND * number;
        if due >= span {
            break;
        }
        tokio::time::sleep_until((begun + due).into()).await;
        let answer = client.send(call.clone()).await;
        outcomes.push(Outcome {
            mode: stream.mode,
            whose: stream.whose,
            due,
            took: begun.elapsed().saturating_sub(due),
            status: answer.as_ref().ok().map(|it| it.status.as_u16()),
        });
        if answer.is_err() {
            client = Client::http1(stream.at).await?;
        }
    }
    Ok(outcomes)
}
