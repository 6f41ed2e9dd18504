//! The load: eight connections, each with one request under way, and a key in each request.
//!
//! h2load sends the same fields in every request, and takes a refusal for a failure.

use crate::connection::Connection;
use anyhow::bail;
use harness::Result;
use std::net::SocketAddr;
use tokio::task::JoinSet;

/// Connections that are kept busy.
const CONNECTIONS: u64 = 8;

/// Requests of one turn: half a second to two.
pub(crate) const REQUESTS: u64 = 6_000;

/// Distinct keys, where they differ.
pub(crate) const KEYS: u32 = 10_000;

/// Whose budgets requests are about.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Keys {
    /// All about the same.
    One,
    /// The `n`th most frequent of [`KEYS`] a `n`th as often as the most frequent.
    Zipf,
}

/// What became of the requests of one turn.
#[derive(Clone, Copy, Default)]
pub(crate) struct Answers {
    pub(crate) admitted: u64,
    pub(crate) refused: u64,
}

/// Sends [`REQUESTS`]; another `turn` draws other keys.
///
/// # Errors
///
/// If a request is neither admitted (200) nor refused (429).
pub(crate) async fn turn(at: SocketAddr, keys: Keys, turn: u64) -> Result<Answers> {
    let mut sending = JoinSet::new();
    for connection in 0..CONNECTIONS {
        let draw = Draw::new(keys, turn * CONNECTIONS + connection);
        sending.spawn(send(at, draw, REQUESTS / CONNECTIONS));
    }
    let mut sum = Answers::default();
    while let Some(answers) = sending.join_next().await {
        let answers = answers??;
        sum.admitted += answers.admitted;
        sum.refused += answers.refused;
    }
    Ok(sum)
}

async fn send(at: SocketAddr, mut draw: Draw, requests: u64) -> Result<Answers> {
    let mut connection = Connection::to(at).await?;
    let mut answers = Answers::default();
    for _ in 0..requests {
        let key = draw.next();
        let request = format!("GET / HTTP/1.1\r\nhost: shop.example\r\nx-key: k{key:05}\r\n\r\n");
        match connection.send(request.as_bytes()).await? {
            200 => answers.admitted += 1,
            429 => answers.refused += 1,
            other => bail!("a response with status {other}"),
        }
    }
    Ok(answers)
}

/// Draws keys, the same ones for the same number.
struct Draw {
    /// What part of all draws is of a key up to this one.
    up_to: Vec<f64>,
    state: u64,
}

impl Draw {
    fn new(keys: Keys, number: u64) -> Self {
        let keys = if keys == Keys::One { 1 } else { KEYS };
        let weights = (1..=keys).map(|rank| 1.0 / f64::from(rank));
        let all: f64 = weights.clone().sum();
        let up_to = weights.scan(0.0, |sum, weight| {
            *sum += weight / all;
            Some(*sum)
        });
        Self { up_to: up_to.collect(), state: number }
    }

    fn next(&mut self) -> usize {
        // SplitMix64.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let part = ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64;
        self.up_to.partition_point(|up_to| *up_to < part).min(self.up_to.len() - 1)
    }
}
