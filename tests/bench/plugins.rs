//! What a plugin costs a request: the shipped filter in wasmtime, as `tidegate proxy` runs it, with a
//! limit keyed on a header, and on what a plugin says of that header.
//!
//! One thread decides one request after another; the plugin's only instance has a thread of its own,
//! as it has in `tidegate proxy`. CPU time is that of all threads, wall time what a request waits.
//! Kinds take turns, each round beginning with another. Every request must be let through.

mod filter_form;
mod spread;

use anyhow::anyhow;
use filter_form::{Filter, request};
use harness::workshop::Workshop;
use harness::{Result, load, plugin};
use proxy_wasm_host::engine::Module;
use proxy_wasm_host::maps::HeaderMap;
use proxy_wasm_host::worker::Process;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use spread::Spread;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use tidegate::plugins::{Plugins, Settings};

/// Requests of one turn: less than a tenth of a second.
const REQUESTS: usize = 1_000;

/// The examples of `wit/`.
const LANGUAGES: [&str; 3] = ["rust", "javascript", "python"];

/// What decides the key, and the filter that does it so.
struct Kind {
    name: String,
    filter: Filter,
    wall_us: Vec<f64>,
    cpu_us: Vec<f64>,
}

fn main() -> ExitCode {
    // Plugins have runtimes of their own, which none must be around.
    let measuring = |rounds| std::thread::spawn(move || measure(rounds)).join();
    load::main("bench-plugins", async |rounds| {
        measuring(rounds).map_err(|_| anyhow!("the measuring thread panicked"))?
    })
}

fn measure(rounds: usize) -> Result<()> {
    let (module, workshop) = (filter_form::module()?, Workshop::open()?);
    let by_hand = workshop.example("by-hand.wasm");
    fs::write(&by_hand, plugin::component("1.0")?)?;
    let wants = |header: &str, path: &str| json!([{ "header": header }, path]);
    let mut kinds = vec![
        Kind::start("a header", &module, None)?,
        Kind::start(
            "a plugin that gives what it gets",
            &module,
            Some((by_hand, json!([{ "header": "x-do" }]))),
        )?,
    ];
    for language in LANGUAGES {
        workshop.run(&format!("{language}-plugin"))?;
        let file = workshop.example(language).join("plugin.wasm");
        let name = format!("the example in {language}");
        kinds.push(Kind::start(&name, &module, Some((file, wants("x-api-key", "path"))))?);
    }
    for round in 0..=rounds {
        for turn in 0..kinds.len() {
            let place = (round + turn) % kinds.len();
            // The first fills tables: not what a request costs.
            kinds[place].turn(round > 0)?;
        }
    }
    print(&kinds, rounds);
    Ok(())
}

impl Kind {
    fn start(name: &str, module: &Module, plugin: Option<(PathBuf, Value)>) -> Result<Self> {
        let (plugins, policy) = match plugin {
            None => (None, policy(json!({}), &json!({ "header": "x-api-key" }))),
            Some((file, wants)) => {
                let section =
                    json!({ "tiers": { "wants": wants, "defaults": { "tier": "none" } } });
                let policy = policy(section, &json!({ "plugin": "tiers.tier" }));
                (Some(loaded(&file)?), policy)
            }
        };
        let filter = Filter::start(&Process::new(), module, &policy, plugins)?;
        Ok(Self { name: name.to_owned(), filter, wall_us: Vec::new(), cpu_us: Vec::new() })
    }

    fn turn(&mut self, counts: bool) -> Result<()> {
        // Made before: what a proxy has read is not what a decision costs.
        let requests: Vec<HeaderMap> = (0..REQUESTS).map(|_| keyed()).collect();
        let (begun, before) = (Instant::now(), clock_gettime(ClockId::ProcessCPUTime));
        for request in requests {
            self.filter.passes(request)?;
        }
        let spent = clock_gettime(ClockId::ProcessCPUTime) - before;
        if counts {
            let each = REQUESTS as f64;
            self.wall_us.push(begun.elapsed().as_secs_f64() * 1e6 / each);
            self.cpu_us.push((spent.tv_sec as f64 * 1e6 + spent.tv_nsec as f64 / 1e3) / each);
        }
        Ok(())
    }
}

fn loaded(file: &Path) -> Result<Plugins> {
    let settings = [("tiers".to_owned(), Settings::of(file.to_owned()))].into();
    Plugins::load(&settings, None).map_err(|why| anyhow!(why))
}

/// A budget that is never used up.
fn policy(plugins: Value, key: &Value) -> Value {
    json!({
        "tidegate": 1, "domain": "bench", "host": { "cluster": "nobody" }, "plugins": plugins,
        "limits": [{ "name": "all", "rate": "1000000/1s", "key": [key] }],
    })
}

/// A request that each of them gives a key to.
fn keyed() -> HeaderMap {
    let mut request = request("client");
    request.add("x-api-key", "gk_client");
    request.add("x-do", "gk_client");
    request
}

fn print(kinds: &[Kind], rounds: usize) {
    println!("| the key is from, {rounds} rounds | wall µs per request | CPU µs | more CPU µs |");
    println!("|---|--:|--:|--:|");
    let Some(header) = kinds.first() else { return };
    for Kind { name, wall_us, cpu_us, .. } in kinds {
        let more = cpu_us.iter().zip(&header.cpu_us).map(|(ours, its)| ours - its).collect();
        let (wall, cpu) = (Spread::of(wall_us.clone()), Spread::of(cpu_us.clone()));
        println!(
            "| {name} | {:.1} ({}) | {:.1} ({}) | {:.1} |",
            wall.median,
            wall.quartiles(),
            cpu.median,
            cpu.quartiles(),
            Spread::of(more).median
        );
    }
}
