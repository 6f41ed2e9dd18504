//! How much of what one Redis can decide comes through the whole service.
//!
//! What Redis can decide by itself is the limit: the very command that the host sends (as
//! Redis's MONITOR heard it), played from eight connections with sixteen commands on their way
//! on each. The service is the host as it is shipped, with its defaults, on the same Redis, and
//! h2load asks it as proxies do: over HTTP/2, many asks at once. They take turns of about a
//! second, since the machine's clock varies and others work on it; the medians of all rounds
//! are told, and of each round's ratio.
//!
//! Redis, the host and whoever makes the load share this machine. So the CPU time that a
//! decision takes is told for each of them, too: the scheduler's, of all threads. Redis's own,
//! in the service and by itself, says whether the host makes as large batches as the player.
//!
//! The player is held against `redis-benchmark`, by a command that both can send.

mod replay;

use anyhow::{Context, ensure};
use harness::client::{Client, post};
use harness::host::Host;
use harness::load::{self, Burst};
use harness::redis::{PASSWORD, Redis};
use harness::{Result, parts};
use replay::{CONNECTIONS, DEPTH, Player, Recorded, heard};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use tidegate_core::ask::{Ask, Item, LimitTag};
use tidegate_core::key::Key;
use tidegate_core::limit::{Algorithm, Quota};
use tidegate_core::time::Span;
use tidegate_core::wire;

/// As many limits on one request as the second kind of ask has.
const STACKED: u8 = 10;

/// Distinct keys, where they differ.
const KEYS: u64 = 10_000;

/// A limit that never refuses: to refuse costs Redis less.
const PER_SECOND: u32 = 1_000_000;

/// The first limit of asks, so that they are told from whatever else is sent.
const TAG: u64 = 0xbe7c;

/// What is measured, in the order of a round.
#[derive(Clone, Copy, PartialEq)]
enum Cell {
    /// SET by redis-benchmark.
    SetByTheirs,
    /// SET by the player.
    SetByOurs,
    /// The host's command by itself, for so many limits.
    Script { limits: u8, keys: Option<u64> },
    /// Asks for so many limits, through the host.
    Service { limits: u8 },
}

const ONE: Cell = Cell::Script { limits: 1, keys: None };
const TEN: Cell = Cell::Script { limits: STACKED, keys: None };

const CELLS: [Cell; 7] = [
    Cell::SetByTheirs,
    Cell::SetByOurs,
    ONE,
    Cell::Service { limits: 1 },
    Cell::Script { limits: 1, keys: Some(KEYS) },
    TEN,
    Cell::Service { limits: STACKED },
];

/// What one turn came to: decisions a second, and microseconds of CPU for each.
#[derive(Clone, Copy)]
struct Sample {
    rate: f64,
    redis_us: f64,
    host_us: f64,
    load_us: f64,
}

/// Everything that runs.
struct Stand {
    redis: Redis,
    host: Host,
    player: Player,
    set: Recorded,
    /// Of one limit and of [`STACKED`]: the host's command, and the file of the ask.
    kinds: [(Recorded, PathBuf); 2],
}

fn main() -> ExitCode {
    load::main("bench-redis", measure)
}

async fn measure(rounds: usize) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut stand = Stand::set_up(folder.path()).await?;
    let mut samples: [Vec<Sample>; CELLS.len()] = Default::default();
    for round in 0..=rounds {
        eprintln!("round {round} of {rounds}");
        for (cell, samples) in CELLS.iter().zip(&mut samples) {
            let sample = stand.turn(*cell).await?;
            // The first connects, allocates and warms caches: not what a decision costs.
            if round > 0 {
                samples.push(sample);
            }
        }
    }
    print(&samples);
    Ok(())
}

impl Stand {
    async fn set_up(folder: &Path) -> Result<Self> {
        let redis = Redis::start().await?;
        let host = Host::on_redis_by_default(&redis).await?;
        let player = Player::connect(redis.address()).await?;
        let (one, ten) = (ask(1)?, ask(STACKED)?);
        let kinds = [
            (recorded(&redis, &host, &one).await?, file(folder, "one", &one)?),
            (recorded(&redis, &host, &ten).await?, file(folder, "ten", &ten)?),
        ];
        let set = SET.map(|word| word.as_bytes().to_vec());
        Ok(Self { redis, host, player, set: Recorded::of(&set, 1, 1)?, kinds })
    }

    async fn turn(&mut self, cell: Cell) -> Result<Sample> {
        let decisions = cell.decisions();
        let processes = [self.redis.id(), self.host.id(), std::process::id()];
        let before = cpu_us(processes)?;
        let burst = match cell {
            Cell::SetByTheirs => self.set_by_theirs(decisions)?,
            Cell::SetByOurs => self.played(&self.set.clone(), decisions, None).await?,
            Cell::Script { limits, keys } => {
                let recorded = self.kinds[usize::from(limits != 1)].0.clone();
                self.played(&recorded, decisions, keys).await?
            }
            Cell::Service { limits } => {
                let place = format!("http://{}/v1/ask", self.host.address());
                let file = &self.kinds[usize::from(limits != 1)].1;
                load::asks(&place, file, decisions, [CONNECTIONS, cell.streams()])?
            }
        };
        let after = cpu_us(processes)?;
        let spent = |place: usize| (after[place] - before[place]) / decisions as f64;
        // The player is this very process; the others are children, and say it themselves.
        let load_us = if burst.cpu_us > 0.0 { burst.cpu_us } else { spent(2) };
        Ok(Sample { rate: burst.rate, redis_us: spent(0), host_us: spent(1), load_us })
    }

    async fn played(
        &mut self,
        recorded: &Recorded,
        times: u64,
        keys: Option<u64>,
    ) -> Result<Burst> {
        Ok(Burst { rate: self.player.play(recorded, times, keys).await?, cpu_us: 0.0 })
    }

    fn set_by_theirs(&self, times: u64) -> Result<Burst> {
        let mut command = Command::new(parts::redis_benchmark()?);
        command.args(["-p", &self.redis.address().port().to_string(), "-a", PASSWORD, "-q"]);
        command.args(["-c", &CONNECTIONS.to_string(), "-P", &DEPTH.to_string()]);
        command.args(["-n", &times.to_string()]).args(SET);
        load::burst(&mut command, times, |said| {
            let said = said.rsplit_once(" requests per second")?.0;
            said.rsplit([' ', '\r']).next()?.parse().ok()
        })
    }
}

/// The command that the player and redis-benchmark are compared by.
const SET: [&str; 5] = ["SET", "tidegate:bench:{000000000000}", "0123456789", "PX", "10000"];

impl Cell {
    /// So many take about a second.
    fn decisions(self) -> u64 {
        let whole = match self {
            Self::SetByTheirs | Self::SetByOurs => 400_000,
            Self::Script { limits: 1, .. } | Self::Service { limits: 1 } => 50_000,
            Self::Script { .. } | Self::Service { .. } => 10_000,
        };
        whole - whole % (CONNECTIONS * DEPTH) as u64
    }

    /// Asks under way on each connection. Ten limits take Redis ten times as long: as many asks
    /// as for one would wait for longer than the host lets them.
    fn streams(self) -> usize {
        if self == (Cell::Service { limits: 1 }) { 2 * DEPTH } else { DEPTH / 2 }
    }

    fn label(self) -> String {
        let kind =
            |limits| if limits == 1 { "one limit".to_owned() } else { format!("{limits} limits") };
        match self {
            Self::SetByTheirs => "`SET … PX` by redis-benchmark".to_owned(),
            Self::SetByOurs => "`SET … PX` by our player".to_owned(),
            Self::Script { limits, keys: None } => format!("{}, the script alone", kind(limits)),
            Self::Script { limits, keys: Some(keys) } => {
                format!("{}, the script alone, {keys} keys", kind(limits))
            }
            Self::Service { limits } => format!("{}, **the whole service**", kind(limits)),
        }
    }

    /// What the limit of this one is.
    fn limit(self) -> Option<Cell> {
        match self {
            Self::Service { limits: 1 } => Some(ONE),
            Self::Service { .. } => Some(TEN),
            _ => None,
        }
    }
}

fn print(samples: &[Vec<Sample>; CELLS.len()]) {
    println!(
        "| {} rounds | a second | of the limit | Redis, CPU µs | × alone | host, CPU µs | load, CPU µs | CPUs busy |",
        samples[0].len()
    );
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for (cell, samples_of_it) in CELLS.iter().zip(samples) {
        let figure = |of: fn(&Sample) -> f64| median(samples_of_it.iter().map(of).collect());
        let limit = cell.limit().and_then(|limit| CELLS.iter().position(|other| *other == limit));
        let against = |of: fn(&Sample) -> f64| {
            let limit = limit?;
            let pairs = samples_of_it.iter().zip(&samples[limit]);
            Some(median(pairs.map(|(with, alone)| of(with) / of(alone)).collect()))
        };
        let of_limit = against(|s| s.rate).map(|ratio| format!("{:.0} %", ratio * 100.0));
        let redis = against(|s| s.redis_us).map(|ratio| format!("{ratio:.2}"));
        println!(
            "| {} | {:.0} | {} | {:.1} | {} | {:.1} | {:.1} | {:.2} |",
            cell.label(),
            figure(|s| s.rate),
            of_limit.unwrap_or_default(),
            figure(|s| s.redis_us),
            redis.unwrap_or_default(),
            figure(|s| s.host_us),
            figure(|s| s.load_us),
            figure(|s| s.rate * (s.redis_us + s.host_us + s.load_us) / 1e6),
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn cpu_us(processes: [u32; 3]) -> Result<[f64; 3]> {
    let mut spent = [0.0; 3];
    for (spent, process) in spent.iter_mut().zip(processes) {
        *spent = load::cpu_ns(process)? as f64 / 1e3;
    }
    Ok(spent)
}

fn ask(limits: u8) -> Result<Ask> {
    let item = |place| {
        let quota = Quota::new(Algorithm::TokenBucket, PER_SECOND, Span::from_secs(1), PER_SECOND);
        let quota = quota.ok().context("a quota that can be")?;
        let (key, limit) = (Key([place; 16]), LimitTag(TAG + u64::from(place)));
        Ok(Item { key, limit, quota, cost: 1, owed: 0 })
    };
    Ok(Ask { items: (0..limits).map(item).collect::<Result<_>>()? })
}

fn file(folder: &Path, name: &str, ask: &Ask) -> Result<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, wire::encode_ask(ask))?;
    Ok(path)
}

/// The command by which the host asks Redis, once it has found it.
async fn recorded(redis: &Redis, host: &Host, ask: &Ask) -> Result<Recorded> {
    // The host has more to say to Redis than asks; only they are about so many keys.
    let count = ask.items.len();
    let part = format!("\" \"{count}\" \"tidegate:{:016x}:", ask.items[0].limit.0);
    let asking = async {
        let call = post("/v1/ask", wire::encode_ask(ask));
        let mut client = Client::http2(host.address()).await?;
        let answer = client.send(call.header("content-type", wire::ASK_TYPE)).await?;
        ensure!(answer.status == 200, "the host says {answer:?}");
        Ok(())
    };
    let words = heard(redis.address(), &part, asking).await?;
    // A line for the length of the reply, and four for each limit.
    Recorded::of(&words, 3, 1 + 4 * count)
}
