//! Load on a proxy, and what it costs.

use crate::{Result, perform};
use anyhow::{Context, bail, ensure};
use std::net::SocketAddr;
use std::process::{Command, ExitCode};

/// Requests of one turn: about a tenth of a second of local decisions.
pub const REQUESTS: u64 = 3_000;

/// The least rounds that a median and quartiles mean something for.
const ROUNDS_MIN: usize = 3;

/// `EX_USAGE` of sysexits.h.
const BAD_USAGE: u8 = 64;

/// What one turn came to.
#[derive(Clone, Copy)]
pub struct Turn {
    /// Microseconds of the process's CPU time for each request.
    pub cpu_us: f64,
    /// Requests a second.
    pub rate: f64,
}

/// A measuring program: reads `--rounds N` from its command line, and measures so many.
pub fn main(program: &str, measure: impl AsyncFnOnce(usize) -> Result<()>) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let rounds = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--rounds", rounds] => rounds.parse().ok().filter(|rounds| *rounds >= ROUNDS_MIN),
        _ => None,
    };
    let Some(rounds) = rounds else {
        eprintln!("usage: {program} --rounds N, at least {ROUNDS_MIN}");
        return BAD_USAGE.into();
    };
    match perform(measure(rounds)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
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
