//! How long from an acknowledged revocation until each of eight workers enforces it: two Envoys of
//! four workers, a host at each, one Redis. See `harness::propagation`.

use harness::propagation::Lab;
use harness::{Result, load};
use std::process::ExitCode;
use std::time::Duration;

/// Revocations in one round.
const REVOKED: u32 = 50;

fn main() -> ExitCode {
    load::main("bench-propagation", measure)
}

async fn measure(rounds: usize) -> Result<()> {
    let mut lab = Lab::start().await?;
    let mut lags = Vec::new();
    for round in 1..=rounds {
        lags.extend(lab.revoke(REVOKED).await?);
        eprintln!("round {round} of {rounds}");
    }
    lags.sort_unstable();
    let at = |permille: usize| lags[(lags.len() - 1) * permille / 1_000];
    println!("| revocations | workers | p50 | p99 | max |");
    println!("|--:|--:|--:|--:|--:|");
    let revoked = rounds * REVOKED as usize;
    let ms = |lag: Duration| format!("{:.1} ms", lag.as_secs_f64() * 1e3);
    println!(
        "| {revoked} | {} | {} | {} | {} |",
        lags.len() / revoked,
        ms(at(500)),
        ms(at(990)),
        ms(at(1_000)),
    );
    Ok(())
}
