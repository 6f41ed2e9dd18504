//! Load on a proxy, and what it costs.

use crate::Result;
use anyhow::{Context, bail, ensure};
use std::net::SocketAddr;
use std::process::Command;

/// Requests of one turn: about a tenth of a second of local decisions.
pub const REQUESTS: u64 = 3_000;

/// What one turn came to.
#[derive(Clone, Copy)]
pub struct Turn {
    /// Microseconds of the process's CPU time for each request.
    pub cpu_us: f64,
    /// Requests a second.
    pub rate: f64,
}

/// Sends [`REQUESTS`] on eight connections, all of which must be answered 200.
pub fn turn(process: u32, place: SocketAddr) -> Result<Turn> {
    let before_ns = cpu_ns(process)?;
    let output = Command::new("h2load")
        .args(["--h1", "--clients", "8", "--requests", &REQUESTS.to_string()])
        .args(["--header", "x-key: a"])
        .arg(format!("http://{place}/"))
        .output()
        .context("h2load, which makes the load")?;
    let spent_ns = cpu_ns(process)?.saturating_sub(before_ns);
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said.contains(&format!("status codes: {REQUESTS} 2xx")), "h2load says:\n{said}");
    let rate = rate(&said).with_context(|| format!("requests a second; h2load says:\n{said}"))?;
    Ok(Turn { cpu_us: spent_ns as f64 / 1e3 / REQUESTS as f64, rate })
}

/// `finished in 99.12ms, 30263.12 req/s, 1.00MB/s`
fn rate(said: &str) -> Option<f64> {
    let line = said.lines().find(|line| line.starts_with("finished in"))?;
    line.split(", ").find_map(|part| part.strip_suffix(" req/s"))?.parse().ok()
}

/// What all threads of a process have spent on a processor so far.
fn cpu_ns(process: u32) -> Result<u64> {
    let mut sum_ns = 0;
    for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
        // On the processor, waiting for it, and how often: in nanoseconds.
        let account = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        let spent = account.split_whitespace().next().context("a schedstat")?;
        sum_ns += spent.parse::<u64>()?;
    }
    if sum_ns == 0 {
        bail!("this kernel keeps no schedstat: no CPU time to be had");
    }
    Ok(sum_ns)
}
