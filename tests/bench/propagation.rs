//! How long from an acknowledged revocation until each of eight workers enforces it: two Envoys of
//! four workers, a host at each, one log. See `harness::propagation`.
//!
//! First in one Redis. Then in a master with two replicas and three sentinels, whose master is
//! killed while revocations go on: each is sent again until it is acknowledged.

#[path = "../../crates/tidegate-redis/tests/server/mod.rs"]
mod server;

use harness::host::{of_sentinels, patient};
use harness::propagation::{Account, Lab};
use harness::redis::Redis;
use harness::{Result, load};
use server::sentinel::{Fleet, NAME, PASSWORD, SENTINEL_PASSWORD};
use std::process::ExitCode;
use std::time::Duration;

/// Revocations in one round.
const REVOKED: u32 = 50;

/// Before the master is killed, and after.
const AROUND: (u32, u32) = (50, 450);

fn main() -> ExitCode {
    load::main("bench-propagation", measure)
}

async fn measure(rounds: usize) -> Result<()> {
    println!("| | revocations | workers | p50 | p99 | max | longest until acknowledged |");
    println!("|---|--:|--:|--:|--:|--:|--:|");
    let redis = Redis::start().await?;
    let mut lab = Lab::start(patient(&redis)).await?;
    let mut all = Account::default();
    for round in 1..=rounds {
        all.add(lab.revoke(REVOKED).await?);
        eprintln!("round {round} of {rounds}");
    }
    print("one Redis", all);
    drop((lab, redis));
    // Its processes end with this thread.
    let Some(mut fleet) = Fleet::start() else { return Ok(()) };
    let sentinels = fleet.sentinels.iter().map(|sentinel| sentinel.port);
    let told = of_sentinels(sentinels, NAME, [PASSWORD, SENTINEL_PASSWORD]);
    let mut lab = Lab::start(told).await?;
    let mut all = lab.revoke(AROUND.0).await?;
    fleet.servers[0].kill();
    all.add(lab.revoke(AROUND.1).await?);
    print("Sentinel, master killed", all);
    Ok(())
}

fn print(name: &str, account: Account) {
    let Account { mut lags, acknowledged_after } = account;
    lags.sort_unstable();
    let ms = |lag: Duration| format!("{:.1} ms", lag.as_secs_f64() * 1e3);
    let at = |permille: usize| ms(lags[(lags.len() - 1) * permille / 1_000]);
    let revoked = lags.len() / 8;
    let (p50, p99, most) = (at(500), at(990), at(1_000));
    println!("| {name} | {revoked} | 8 | {p50} | {p99} | {most} | {} |", ms(acknowledged_after));
}
