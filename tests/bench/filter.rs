//! What the filter costs: CPU time of an Envoy for each request, with and without it.
//!
//! One Envoy with one worker answers all requests itself. It has a listener for each cell,
//! so that what differs between cells is what stands in front of the same router: nothing,
//! Envoy's own `local_ratelimit`, or Tidegate under some policy.
//!
//! Other work on the machine comes and goes, and so does its clock rate. So cells take turns of
//! a fraction of a second, and each round's cell is held against the same round's bare cell:
//! the median of these differences is what the filter adds. CPU time is the scheduler's, in
//! nanoseconds, of all of Envoy's threads; every request must have been let through. h2load
//! keeps eight connections busy, so this is the cost under load, when callouts overlap.

mod alone;
mod cells;
mod listeners;
mod spread;
mod table;

use anyhow::Context;
use cells::Cell;
use harness::envoy::{Envoy, envoy};
use harness::host::Host;
use harness::load;
use harness::redis::Redis;
use harness::{Result, wait};
use std::net::SocketAddr;
use std::process::ExitCode;
use table::Sample;

fn main() -> ExitCode {
    load::main("bench-filter", measure)
}

async fn measure(rounds: usize) -> Result<()> {
    let redis = Redis::start().await?;
    let (memory, on_redis) = (Host::on_memory().await?, Host::on_redis(&redis).await?);
    let folder = tempfile::tempdir()?;
    let cells = cells::all(folder.path())?;
    let plan = envoy(cells::stand_in()).host(memory.address()).filters(cells::filters(&cells));
    let envoy = plan.edit(cells::edit(cells.clone(), on_redis.address())).start().await?;
    let listeners = envoy.listeners()?;
    let place = |cell: &Cell| listeners.get(cell.name).copied().context("a listener of its own");
    let places: Vec<SocketAddr> = cells.iter().map(place).collect::<Result<_>>()?;

    let mut samples = vec![Vec::with_capacity(rounds); cells.len()];
    let mut requests = vec![0; cells.len()];
    for round in 0..=rounds {
        match round {
            0 => eprintln!("warming up"),
            _ => eprintln!("round {round} of {rounds}"),
        }
        for turn in 0..cells.len() {
            // Each round begins with another cell: no cell always follows the same one.
            let cell = (round + turn) % cells.len();
            let sample = Sample { us: load::turn(envoy.id(), places[cell])?.cpu_us };
            requests[cell] += load::REQUESTS;
            // The first load compiles, connects and fills tables: not what a request costs.
            if round > 0 {
                samples[cell].push(sample);
            }
        }
    }
    for (cell, sent) in cells.iter().zip(&requests) {
        all_were_counted(&envoy, cell, *sent).await?;
    }
    table::print(&cells, &samples);
    Ok(())
}

/// A limit that let everything through because it did not work would be cheap.
async fn all_were_counted(envoy: &Envoy, cell: &Cell, requests: u64) -> Result<()> {
    let Some(counter) = &cell.counter else { return Ok(()) };
    let what = format!("{counter} to reach {requests}");
    wait::until(&what, async || (envoy.stat(counter).ok()? >= requests).then_some(())).await?;
    let Some(degraded) = &cell.degraded else { return Ok(()) };
    alone::are_few(cell.name, envoy.stat(degraded)?, requests)
}
