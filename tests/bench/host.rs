//! What the bundled proxy costs, beside Envoy: the same filter, the same load, the same run.
//!
//! Each proxy has one worker thread and four listeners: with and without the filter, in
//! front of an answer of its own and of an origin (a third process, an Envoy). All take
//! turns of a fraction of a second, since the machine's clock varies; the medians are told.
//! CPU time is all of the proxy's threads', as in `filter.rs`.
//!
//! Then how long the bundled proxy takes from its start to its first answer, and how much
//! memory a further worker with its machine takes.

use anyhow::{Context, ensure};
use harness::bundled::{self, Bundled};
use harness::envoy::{HTTP, LISTENER, Plan, Policy, answer_directly, answering, envoy};
use harness::load::{self, Turn};
use harness::{Result, parts, ports};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

/// Starts of the proxy that are timed.
const STARTS: usize = 20;

/// The longest that a start may take before it counts as failed.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// How many workers more the memory is divided by.
const MORE_WORKERS: u64 = 8;

/// What is measured: listeners in this order, in both proxies.
const CELLS: [Cell; 4] = [
    Cell { label: "direct answer, no filter", is_filtered: false, has_origin: false },
    Cell { label: "direct answer, one local limit", is_filtered: true, has_origin: false },
    Cell { label: "origin, no filter", is_filtered: false, has_origin: true },
    Cell { label: "origin, one local limit", is_filtered: true, has_origin: true },
];

struct Cell {
    label: &'static str,
    is_filtered: bool,
    has_origin: bool,
}

fn main() -> ExitCode {
    load::main("bench-host", measure)
}

async fn measure(rounds: usize) -> Result<()> {
    let origin = answering().start().await?;
    let envoy = cells_of(origin.address()).start().await?;
    let proxy = Bundled::start(&config(1, origin.address())).await?;
    let listeners = envoy.listeners()?;
    let place = |cell: usize| listeners.get(&name(cell)).copied().context("a listener of its own");
    let homes = [
        (envoy.id(), (0..CELLS.len()).map(place).collect::<Result<Vec<_>>>()?),
        (proxy.id(), proxy.listeners().to_vec()),
    ];
    // Of each home and cell, its turns.
    let mut turns: [[Vec<Turn>; CELLS.len()]; 2] = Default::default();
    for round in 0..=rounds {
        eprintln!("round {round} of {rounds}");
        for turn in 0..2 * CELLS.len() {
            let (home, cell) = (turn % 2, (round + turn / 2) % CELLS.len());
            let (process, places) = &homes[home];
            let figures = load::turn(*process, places[cell])?;
            // The first compiles, connects and fills tables: not what a request costs.
            if round > 0 {
                turns[home][cell].push(figures);
            }
        }
    }
    print(&turns);
    drop(proxy);
    println!(
        "\nfrom process start to the first answer: {:.1} ms, the median of {STARTS}",
        starts()?
    );
    println!("for a further worker and its machine: {:.2} MiB", worker_mib().await?);
    Ok(())
}

fn print(turns: &[[Vec<Turn>; CELLS.len()]; 2]) {
    println!(
        "| | Envoy, CPU µs | `tidegate proxy`, CPU µs | ratio | Envoy, req/s | `tidegate proxy`, req/s |"
    );
    println!("|---|--:|--:|--:|--:|--:|");
    for (place, cell) in CELLS.iter().enumerate() {
        let figure =
            |home: usize, of: fn(&Turn) -> f64| median(turns[home][place].iter().map(of).collect());
        let (theirs, ours) = (figure(0, |turn| turn.cpu_us), figure(1, |turn| turn.cpu_us));
        println!(
            "| {} | {theirs:.1} | {ours:.1} | {:.2} | {:.0} | {:.0} |",
            cell.label,
            ours / theirs,
            figure(0, |turn| turn.rate),
            figure(1, |turn| turn.rate),
        );
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Milliseconds from a start with a warm module cache to the first answered request.
fn starts() -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let mut spans_ms = Vec::new();
    // One more, which warms the cache.
    for place in 0..=STARTS {
        let (at, admin) = (ports::free()?, ports::free()?);
        let config = json!({ "workers": 1, "listeners": [listener(&CELLS[1], ports::REFUSED)] });
        fs::write(bundled::file(folder.path()), bundled::whole(&config, &[at], admin).to_string())?;
        let mut command = bundled::command(&parts::host()?, folder.path())?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let begun = Instant::now();
        let mut child = command.spawn()?;
        let answered = loop {
            if is_answered(at) {
                break true;
            }
            if begun.elapsed() > START_DEADLINE {
                break false;
            }
            std::thread::yield_now();
        };
        let span = begun.elapsed();
        child.kill()?;
        child.wait()?;
        ensure!(answered, "the proxy did not answer within {START_DEADLINE:?}");
        if place > 0 {
            spans_ms.push(span.as_secs_f64() * 1e3);
        }
    }
    Ok(median(spans_ms))
}

fn is_answered(at: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(at) else { return false };
    let sent =
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nx-key: a\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    sent.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.contains(" 200 ")
}

/// What a further worker takes, with a machine that has decided requests.
async fn worker_mib() -> Result<f64> {
    let mut bytes = [0; 2];
    for (place, workers) in [1, 1 + MORE_WORKERS].into_iter().enumerate() {
        let proxy = Bundled::start(&config(workers, ports::REFUSED)).await?;
        load::turn(proxy.id(), proxy.listeners()[1])?;
        [bytes[place], _] = load::resident_bytes(proxy.id())?;
    }
    Ok(bytes[1].saturating_sub(bytes[0]) as f64 / MORE_WORKERS as f64 / f64::from(1 << 20))
}

fn name(cell: usize) -> String {
    format!("cell-{cell}")
}

fn policy() -> Value {
    json!({
        "tidegate": 1,
        "domain": "bench",
        "limits": [{ "name": "one", "key": [{ "header": "x-key" }], "rate": "1000000/1s" }],
    })
}

fn config(workers: u64, origin: SocketAddr) -> Value {
    let listeners: Vec<_> = CELLS.iter().map(|cell| listener(cell, origin)).collect();
    json!({ "workers": workers, "listeners": listeners })
}

fn listener(cell: &Cell, origin: SocketAddr) -> Value {
    let filter = json!({ "name": "tidegate", "configuration": policy() });
    let filters = if cell.is_filtered { json!([filter]) } else { json!([]) };
    if cell.has_origin {
        return json!({ "filters": filters, "upstream": format!("http://{origin}") });
    }
    json!({ "filters": filters, "respond": { "body": "ok" } })
}

/// An Envoy with a listener for each cell.
fn cells_of(origin: SocketAddr) -> Plan {
    let plan = envoy(Policy::Struct(policy())).origin(origin);
    plan.edit(|config| {
        let Some(pattern) = config.pointer(LISTENER).cloned() else { return };
        let listeners = CELLS.iter().enumerate().map(|(place, cell)| {
            let mut listener = pattern.clone();
            listener["name"] = json!(name(place));
            let Some(http) = listener.pointer_mut(HTTP) else { return listener };
            http["access_log"] = json!([]);
            if !cell.has_origin {
                answer_directly(http);
            }
            if !cell.is_filtered {
                http["http_filters"] = json!([http["http_filters"][1]]);
            }
            listener
        });
        let listeners: Value = listeners.collect();
        config["static_resources"]["listeners"] = listeners;
    })
}
