//! What a global limit costs, wherever it costs it; and whether it is true.
//!
//! One Envoy with one worker has a listener for each cell: with no limit, with Envoy's own filter
//! that asks a service for each request, and with Tidegate's filter. What is told is the CPU time
//! of Envoy, of the host service, of its Redis and of that service together, more than without a
//! limit. That service says yes without looking: what any design costs that asks each time,
//! whatever is behind it. Requests go on to an origin, for where Envoy answers by itself its own
//! filter asks nobody; what that takes, and the load, is not told.
//!
//! Cells take turns, since the machine's clock varies and others work on it; each turn is held
//! against the same round's bare one. A turn ends only when what it left to do is done: what is
//! leased and not needed any more goes back.
//!
//! Then four Envoys of two workers are pressed for half a minute against one limit, and what they
//! admit is held against one token bucket: see `harness::fleet`.

mod alone;
mod connection;
mod global_cells;
mod global_load;
mod global_table;
mod global_yes;
mod listeners;
mod spread;

use anyhow::{Context, ensure};
use global_cells::Cell;
use global_load::{Answers, REQUESTS};
use global_table::{PROCESSES, Sample};
use global_yes::Yes;
use harness::envoy::{Envoy, Policy, answering, envoy};
use harness::fleet::{self, Account};
use harness::host::Host;
use harness::load;
use harness::redis::Redis;
use harness::{Result, perform, wait};
use serde_json::json;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

/// How long what a turn left to do may take.
const AFTERMATH: Duration = Duration::from_millis(300);

/// How long the four Envoys are pressed.
const PRESSED: Duration = Duration::from_secs(30);

/// Of a flood, so many at least must be refused.
const REFUSED_PERCENT_MIN: u64 = 95;

fn main() -> ExitCode {
    if std::env::args().nth(1).is_some_and(|argument| argument == global_yes::ARGUMENT) {
        return match perform(global_yes::serve()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    load::main("bench-global", measure)
}

async fn measure(rounds: usize) -> Result<()> {
    costs(rounds).await?;
    truth().await
}

/// Everything that runs while costs are measured.
struct Stand {
    redis: Redis,
    host: Host,
    yes: Yes,
    _origin: Envoy,
    envoy: Envoy,
    cells: Vec<Cell>,
    places: Vec<SocketAddr>,
}

async fn costs(rounds: usize) -> Result<()> {
    let stand = Stand::set_up().await?;
    let mut samples = vec![Vec::with_capacity(rounds); stand.cells.len()];
    for round in 0..=rounds {
        eprintln!("round {round} of {rounds}");
        for turn in 0..stand.cells.len() {
            // Each round begins with another cell: no cell always follows the same one.
            let cell = (round + turn) % stand.cells.len();
            let sample = stand.turn(cell, round).await?;
            // The first compiles, connects and fills tables: not what a request costs.
            if round > 0 {
                samples[cell].push(sample);
            }
        }
    }
    for cell in &stand.cells {
        stand.all_were_counted(cell, (rounds as u64 + 1) * REQUESTS)?;
    }
    global_table::print(&stand.cells, &samples);
    Ok(())
}

impl Stand {
    async fn set_up() -> Result<Self> {
        let redis = Redis::start().await?;
        let host = Host::on_redis(&redis).await?;
        let yes = Yes::start().await?;
        let cells = global_cells::all();
        let origin = answering().start().await?;
        let plan = envoy(Policy::Text(String::new())).host(host.address());
        let plan = plan.origin(origin.address());
        let plan = plan.filters(global_cells::filters(&cells)).in_envoy();
        let envoy = plan.edit(global_cells::edit(cells.clone(), yes.address())).start().await?;
        let listeners = envoy.listeners()?;
        let place =
            |cell: &Cell| listeners.get(cell.name).copied().context("a listener of its own");
        let places = cells.iter().map(place).collect::<Result<_>>()?;
        Ok(Self { redis, host, yes, _origin: origin, envoy, cells, places })
    }

    async fn turn(&self, place: usize, round: usize) -> Result<Sample> {
        let cell = &self.cells[place];
        let (asks, before) = (self.asks().await?, self.cpu_ns()?);
        let answers = global_load::turn(self.places[place], cell.keys, round as u64).await?;
        wait::pass(AFTERMATH).await;
        let (after, asks_after) = (self.cpu_ns()?, self.asks().await?);
        let Answers { admitted, refused } = answers;
        let is_right = match cell.is_refused {
            true => refused * 100 >= REQUESTS * REFUSED_PERCENT_MIN,
            false => admitted == REQUESTS,
        };
        ensure!(is_right, "{}: {admitted} admitted, {refused} refused", cell.name);
        let us = |process| (after[process] - before[process]) as f64 / 1e3 / REQUESTS as f64;
        Ok(Sample {
            us: std::array::from_fn(us),
            asks: (asks_after - asks) as f64 / REQUESTS as f64,
        })
    }

    fn cpu_ns(&self) -> Result<[u64; PROCESSES.len()]> {
        let mut spent = [0; PROCESSES.len()];
        let processes = [self.envoy.id(), self.host.id(), self.redis.id(), self.yes.id()];
        for (spent, process) in spent.iter_mut().zip(processes) {
            *spent = load::cpu_ns(process)?;
        }
        Ok(spent)
    }

    async fn asks(&self) -> Result<u64> {
        self.host.metric("tidegate_ask_seconds_count").await
    }

    /// A limit that let everything through because it did not work would be cheap.
    fn all_were_counted(&self, cell: &Cell, requests: u64) -> Result<()> {
        if cell.name == "native" {
            let asked = self.envoy.stat("cluster.yes.upstream_rq_total")?;
            ensure!(asked >= requests, "{asked} of {requests} were asked for");
        }
        if !cell.is_tidegate() {
            return Ok(());
        }
        let outcome = |what| self.envoy.outcomes(cell.name, what);
        let (counted, alone) = (outcome("allowed")? + outcome("limited")?, outcome("degraded")?);
        let name = cell.name;
        ensure!(counted >= requests, "{name}: {counted} of {requests} were decided");
        alone::are_few(name, alone, requests)
    }
}

async fn truth() -> Result<()> {
    let redis = Redis::start().await?;
    let host = Host::on_redis(&redis).await?;
    eprintln!("four Envoys, for {PRESSED:?}");
    let account = fleet::press(&host, &json!({}), PRESSED).await?;
    let Account { offered, admitted, failed, alone, ideal, smallest_burst, asks, .. } = account;
    let (rate, under) = (fleet::RATE, account.under() * 100.0);
    println!(
        "\nFour Envoys of two workers, {rate}/1s among them, {offered} requests in {PRESSED:?}: \
         {admitted} admitted, of {ideal:.0} that one bucket would have ({under:.2} % under); \
         they conform to a burst of {smallest_burst:.0} of {rate}; {asks} asks, {alone} decided \
         without the host, {failed} failed. By second: {:?}",
        account.by_second
    );
    Ok(())
}
