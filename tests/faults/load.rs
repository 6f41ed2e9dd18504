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

/// What became of one request.
pub(crate) struct Outcome {
    pub(crate) mode: usize,
    /// When it was due, since the load began.
    pub(crate) due: Duration,
    /// From then to the end of the answer.
    pub(crate) took: Duration,
    /// None, if there was no answer.
    pub(crate) status: Option<u16>,
}

/// Sends the load for `span`.
pub(crate) async fn run(at: SocketAddr, begun: Instant, span: Duration) -> Result<Vec<Outcome>> {
    let mut connections = JoinSet::new();
    for mode in 0..MODES.len() {
        for place in 0..CONNECTIONS {
            connections.spawn(keep(at, mode, place, begun, span));
        }
    }
    let mut outcomes = Vec::new();
    while let Some(more) = connections.join_next().await {
        outcomes.extend(more??);
    }
    outcomes.sort_by_key(|outcome| outcome.due);
    Ok(outcomes)
}

/// Every so-manieth request of one mode, on one connection.
async fn keep(
    at: SocketAddr,
    mode: usize,
    place: u32,
    begun: Instant,
    span: Duration,
) -> Result<Vec<Outcome>> {
    let (path, mut client) = (format!("/{}", MODES[mode]), Client::http1(at).await?);
    let mut outcomes = Vec::new();
    for number in (place..).step_by(CONNECTIONS as usize) {
        let due = Duration::from_secs(1) / PER_SECOND * number;
        if due >= span {
            break;
        }
        tokio::time::sleep_until((begun + due).into()).await;
        let answer = client.send(get(&path)).await;
        let took = begun.elapsed().saturating_sub(due);
        outcomes.push(Outcome {
            mode,
            due,
            took,
            status: answer.as_ref().ok().map(|it| it.status.as_u16()),
        });
        if answer.is_err() {
            client = Client::http1(at).await?;
        }
    }
    Ok(outcomes)
}
