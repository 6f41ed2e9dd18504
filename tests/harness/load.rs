//! Load on a proxy, and what it costs.

use crate::{Result, perform};
use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use tidegate_core::wire::{ASK_TYPE, PROXY, WAITS_MS};

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

/// What a program that makes load came to.
#[derive(Clone, Copy)]
pub struct Burst {
    /// Requests a second.
    pub rate: f64,
    /// Microseconds of its own CPU time for each request.
    pub cpu_us: f64,
}

/// A measuring program: reads `--rounds N` from its command line, and measures so many.
pub fn main(program: &str, measure: impl AsyncFnOnce(usize) -> Result<()>) -> ExitCode {
    main_with(program, [], async |rounds, []| measure(rounds).await)
}

/// The same for a program that is told more: after `--rounds N`, `--NAME N` for each of these, or
/// else what stands here. Each is at least 1.
pub fn main_with<const MORE: usize>(
    program: &str,
    more: [(&str, u64); MORE],
    measure: impl AsyncFnOnce(usize, [u64; MORE]) -> Result<()>,
) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((rounds, told)) = read(&arguments, more) else {
        let more = more.map(|(name, default)| format!(" [--{name} N, {default} if not told]"));
        eprintln!("usage: {program} --rounds N, at least {ROUNDS_MIN}{}", more.concat());
        return BAD_USAGE.into();
    };
    match perform(measure(rounds, told)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What a command line says; `None` if it makes no sense.
fn read<const MORE: usize>(
    arguments: &[String],
    more: [(&str, u64); MORE],
) -> Option<(usize, [u64; MORE])> {
    let (mut rounds, mut told) = (None, more.map(|(_, default)| default));
    for pair in arguments.chunks(2) {
        let [name, value] = pair else { return None };
        let name = name.strip_prefix("--")?;
        if name == "rounds" {
            rounds = value.parse().ok().filter(|rounds| *rounds >= ROUNDS_MIN);
            continue;
        }
        let place = more.iter().position(|(known, _)| *known == name)?;
        told[place] = value.parse().ok().filter(|value| *value > 0)?;
    }
    Some((rounds?, told))
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

/// Asks that the host may turn away because the machine stalled, in a thousand: so few do not
/// move a median.
const TURNED_AWAY_PERMILLE_MAX: u64 = 10;

/// Sends the ask in `file` so often, over HTTP/2, on so many connections with so many asks
/// under way on each. The rate is of those that were answered 200.
///
/// # Errors
///
/// If more than a few are not, or h2load is not here.
pub fn asks(place: &str, file: &Path, count: u64, [clients, streams]: [usize; 2]) -> Result<Burst> {
    let mut command = Command::new("h2load");
    command.args(["--clients", &clients.to_string()]);
    command.args(["--max-concurrent-streams", &streams.to_string()]);
    command.args(["--requests", &count.to_string()]).arg("--data").arg(file);
    // As a proxy says it, but with patience: a machine that measures has slow moments.
    let said = [("content-type", ASK_TYPE), (PROXY, "bench"), (WAITS_MS, "200")];
    for (name, value) in said {
        command.args(["--header", &format!("{name}: {value}")]);
    }
    command.arg(place);
    burst(&mut command, count, |said| {
        let answered: u64 =
            said.split_once("status codes: ")?.1.split_once(" 2xx")?.0.parse().ok()?;
        let is_measure = (count - answered) * 1_000 <= count * TURNED_AWAY_PERMILLE_MAX;
        is_measure.then(|| Some(rate(said)? * answered as f64 / count as f64)).flatten()
    })
}

/// Runs a program that sends `count` requests; `rate` finds in what it says how
/// many were answered a second.
///
/// # Errors
///
/// If it is not here, or does not say that.
pub fn burst(
    command: &mut Command,
    count: u64,
    rate: impl FnOnce(&str) -> Option<f64>,
) -> Result<Burst> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
    let mut child = child.with_context(|| format!("start {command:?}"))?;
    let mut said = Vec::new();
    child.stdout.take().context("what it says")?.read_to_end(&mut said)?;
    // Ended, but not yet gone: until it is waited for, the system knows what it spent.
    waitid(WaitId::Pid(Pid::from_child(&child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)?;
    let spent_us = whole_cpu_us(child.id())?;
    child.wait()?;
    let said = String::from_utf8_lossy(&said);
    let rate = rate(&said).with_context(|| format!("{command:?} says:\n{said}"))?;
    Ok(Burst { rate, cpu_us: spent_us / count as f64 })
}

/// `finished in 99.12ms, 30263.12 req/s, 1.00MB/s`
fn rate(said: &str) -> Option<f64> {
    let line = said.lines().find(|line| line.starts_with("finished in"))?;
    line.split(", ").find_map(|part| part.strip_suffix(" req/s"))?.parse().ok()
}

/// What all threads of a process have spent on a processor so far.
///
/// # Errors
///
/// If there is no such process, or this kernel does not count it.
pub fn cpu_ns(process: u32) -> Result<u64> {
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

/// The memory that a process has now, and the most that it ever had.
///
/// # Errors
///
/// If there is no such process.
pub fn resident_bytes(process: u32) -> Result<[u64; 2]> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).context("its memory")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Result::Ok(kib << 10)
    };
    Ok([bytes("VmRSS:")?, bytes("VmHWM:")?])
}

/// What a process has spent on a processor in all, threads that have ended too, to ten
/// milliseconds.
fn whole_cpu_us(process: u32) -> Result<f64> {
    /// Linux tells it in hundredths of a second, whatever its clock's rate.
    const TICK_US: f64 = 10_000.0;
    let account = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // After its name, in brackets, the eleventh and the next: by itself and for it.
    let (_, fields) = account.rsplit_once(')').context("a stat")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<std::result::Result<f64, _>>()? * TICK_US)
}
