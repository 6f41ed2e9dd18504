//! Four Envoys of two workers each under one leased limit, and one token bucket to hold them
//! against.
//!
//! They are offered twice what the limit admits, unevenly: most of it comes to one of them, and
//! all by one clock, that of this process. What they admit together is held against the bucket
//! in two ways.
//!
//! *Never too much*: a client sees that a request was admitted between its being sent and its
//! answer, not when. So of any span only those count that were sent and answered within it: they
//! certainly were admitted there. What they need more than refills in that span is the burst
//! that the bucket has at least ([`smallest_burst`]). This takes no tolerance: a stream that
//! conforms never shows more than its burst, however slow its answers are.
//!
//! *Hardly too little*: a bucket that is never full admits its burst and what refills. That is
//! counted from when the first of those admitted was sent to when the last was answered, which is
//! longer than the bucket had by at most two answers: a thousandth, of some seconds.

use crate::Result;
use crate::client::{Answer, Call, Client, get};
use crate::envoy::{Envoy, Policy, answer_directly, envoy};
use crate::host::Host;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// What the limit admits a second, and at once.
pub const RATE: u32 = 1_000;

/// What each Envoy is offered a second.
const OFFERED: [u32; 4] = [1_000, 600, 300, 100];

/// So many connections to each, so that both workers have some, and few requests wait for others.
const CONNECTIONS: u32 = 16;

/// Its name in the filters' metrics.
const LIMIT: &str = "fleet";

/// What became of it all.
#[derive(Debug)]
pub struct Account {
    /// Requests sent.
    pub offered: usize,
    /// Of those, let through.
    pub admitted: usize,
    /// Neither let through nor refused by the limit: their store was away, or did not answer in
    /// time.
    pub failed: usize,
    /// Decided by an Envoy alone, as far as they say.
    pub alone: u64,
    /// What one token bucket would have let through.
    pub ideal: f64,
    /// The least burst of a bucket that could have let them through.
    pub smallest_burst: f64,
    /// Asks that the host had.
    pub asks: u64,
    /// How many were let through in each whole second, by their answers.
    pub by_second: Vec<usize>,
}

/// Starts the Envoys with a policy whose limit has what is in `more` besides, offers them load
/// for `span`, and tells what they did.
///
/// # Errors
///
/// If anything does not come up, or a request gets no answer.
pub async fn press(host: &Host, more: &Value, span: Duration) -> Result<Account> {
    let mut proxies = Vec::new();
    for _ in OFFERED {
        let plan = envoy(policy(more)).workers(2).host(host.address()).in_envoy();
        // An origin would take more of this machine than all that is looked at.
        proxies.push(plan.http(answer_directly).start().await?);
    }
    let answers = offer(&proxies, span, &get("/")).await?;
    let mut account = Account::of(&answers);
    account.asks = host.metric("tidegate_asks_total{outcome=\"leased\"}").await?;
    for proxy in &proxies {
        account.alone += proxy.outcomes(LIMIT, "degraded")?;
    }
    Ok(account)
}

fn policy(more: &Value) -> Policy {
    let mut policy = json!({
        "tidegate": 1,
        "domain": "fleet",
        "host": { "cluster": "tidegate_host" },
        "limits": [{ "name": LIMIT, "rate": format!("{RATE}/1s"), "scope": "global" }],
    });
    for (name, value) in more.as_object().into_iter().flatten() {
        match name.as_str() {
            "deadline" => policy["host"]["deadline"] = value.clone(),
            name => policy["limits"][0][name] = value.clone(),
        }
    }
    Policy::Struct(policy)
}

async fn offer(proxies: &[Envoy], span: Duration, call: &Call) -> Result<Vec<Answer>> {
    let begun = Instant::now();
    let mut connections = JoinSet::new();
    for (proxy, per_second) in proxies.iter().zip(OFFERED) {
        let every = Duration::from_secs(1) / per_second;
        for place in 0..CONNECTIONS {
            let due = (place..).step_by(CONNECTIONS as usize).map(move |number| every * number);
            let due = due.take_while(move |due| *due < span).map(move |due| begun + due);
            connections.spawn(keep_busy(proxy.address(), due, call.clone()));
        }
    }
    let mut answers = Vec::new();
    while let Some(more) = connections.join_next().await {
        answers.extend(more??);
    }
    Ok(answers)
}

/// Sends a request whenever one is due, on one connection.
async fn keep_busy(
    at: SocketAddr,
    due: impl Iterator<Item = Instant>,
    call: Call,
) -> Result<Vec<Answer>> {
    let mut client = Client::http1(at).await?;
    let mut answers = Vec::new();
    for due in due {
        tokio::time::sleep_until(due.into()).await;
        answers.push(client.send(call.clone()).await?);
    }
    Ok(answers)
}

impl Account {
    fn of(answers: &[Answer]) -> Self {
        let admitted: Vec<_> = answers.iter().filter(|it| it.status == 200).map(spans).collect();
        let first = admitted.iter().map(|(sent, _)| *sent).min();
        let last = admitted.iter().map(|(_, answered)| *answered).max();
        let span = last.zip(first).map_or(Duration::ZERO, |(last, first)| last - first);
        let mut by_second = vec![0; span.as_secs() as usize];
        for (_, answered) in &admitted {
            let second = first.map_or(0, |first| (*answered - first).as_secs() as usize);
            by_second.get_mut(second).into_iter().for_each(|count| *count += 1);
        }
        Self {
            offered: answers.len(),
            admitted: admitted.len(),
            failed: answers.iter().filter(|it| ![200, 429].contains(&it.status.as_u16())).count(),
            alone: 0,
            ideal: f64::from(RATE) * (1.0 + span.as_secs_f64()),
            smallest_burst: smallest_burst(admitted, RATE.into()),
            asks: 0,
            by_second,
        }
    }

    /// What part of the ideal was not let through.
    pub fn under(&self) -> f64 {
        1.0 - self.admitted as f64 / self.ideal
    }
}

/// From a request to its answer.
pub fn spans(answer: &Answer) -> (Instant, Instant) {
    (answer.sent, answer.sent + answer.took)
}

/// The least burst of a bucket of `rate` a second that can have admitted these, each at some time
/// between its two.
pub fn smallest_burst(mut admitted: Vec<(Instant, Instant)>, rate: f64) -> f64 {
    admitted.sort_by_key(|(_, answered)| *answered);
    let begins = admitted.iter().map(|(sent, _)| *sent);
    let of_spans = begins.map(|begin| {
        let mut count = 0.0;
        let within = admitted.iter().filter(|(sent, _)| *sent >= begin);
        let needed = within.map(|(_, answered)| {
            count += 1.0;
            count - rate * (*answered - begin).as_secs_f64()
        });
        needed.fold(0.0, f64::max)
    });
    of_spans.fold(0.0, f64::max)
}
