//! What a decision costs in each form: core as it is, the shipped filter in wasmtime, the component
//! in wasmtime.
//!
//! One thread decides alone; nothing but the host's side of each form is around it: for the filter a
//! stream through one filter, for the component its facts gathered from the same headers. Both
//! share what they share in the same memory, that of the bundled proxy. CPU time is this thread's.
//! Forms take turns, each round beginning with another. Every request must be let through.

mod filter_form;
#[path = "component_forms.rs"]
mod forms;
mod spread;

use filter_form::request;
use forms::{Component, Core, Filter, Form};
use harness::{Result, load};
use proxy_wasm_host::maps::HeaderMap;
use proxy_wasm_host::worker::Process;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use spread::Spread;
use std::process::ExitCode;

/// Requests of one turn: some ten milliseconds.
const REQUESTS: usize = 5_000;

/// Keys that take turns: as many clients come again within a moment.
const KEYS: usize = 1_000;

fn main() -> ExitCode {
    load::main("bench-component", measure)
}

async fn measure(rounds: usize) -> Result<()> {
    println!("| CPU ns per decision, {rounds} rounds | core | filter | component | × filter |");
    println!("|---|--:|--:|--:|--:|");
    let modules = forms::Modules::load()?;
    for (name, limits) in policies() {
        let policy = json!({ "tidegate": 1, "domain": "bench", "limits": limits });
        let mut forms: [Box<dyn Form>; 3] = [
            Box::new(Core::start(&policy)?),
            Box::new(Filter::start(&Process::new(), &modules.filter, &policy, None)?),
            Box::new(Component::start(&modules, &policy)?),
        ];
        row(name, &mut forms, rounds)?;
    }
    Ok(())
}

/// Budgets that are never used up.
fn policies() -> [(&'static str, Value); 4] {
    let of = |name: &str, more: Value| {
        let mut limit =
            json!({ "name": name, "rate": "1000000/1s", "key": [{ "header": "x-key" }] });
        if let (Some(limit), Value::Object(more)) = (limit.as_object_mut(), more) {
            limit.extend(more);
        }
        limit
    };
    let window = |name| of(name, json!({ "algorithm": "sliding_window" }));
    [
        ("one limit for all", json!([of("all", json!({ "key": [{ "const": "all" }] }))])),
        ("one bucket for each key", json!([of("bucket", json!({}))])),
        ("one window for each key", json!([window("window")])),
        (
            "four limits, one by a condition",
            json!([
                of("when", json!({ "when": { "path": "/" } })),
                of("method", json!({ "when": { "method": "GET" } })),
                window("third"),
                of("all", json!({ "key": [{ "const": "all" }] })),
            ]),
        ),
    ]
}

fn row(name: &str, forms: &mut [Box<dyn Form>; 3], rounds: usize) -> Result<()> {
    let mut samples = [(); 3].map(|()| Vec::with_capacity(rounds));
    for round in 0..=rounds {
        for turn in 0..forms.len() {
            let place = (round + turn) % forms.len();
            let ns = turn_ns(forms[place].as_mut())?;
            // The first fills tables: not what a request costs.
            if round > 0 {
                samples[place].push(ns);
            }
        }
    }
    let times: Vec<f64> =
        samples[2].iter().zip(&samples[1]).map(|(ours, its)| ours / its).collect();
    let [core, filter, component] = samples.map(Spread::of);
    println!(
        "| {name} | {:.0} ({}) | {:.0} ({}) | {:.0} ({}) | {:.2} |",
        core.median,
        core.quartiles(),
        filter.median,
        filter.quartiles(),
        component.median,
        component.quartiles(),
        Spread::of(times).median
    );
    Ok(())
}

/// CPU time for each request of a turn.
fn turn_ns(form: &mut dyn Form) -> Result<f64> {
    // Made before: what a proxy has read is not what a decision costs.
    let requests: Vec<HeaderMap> =
        (0..REQUESTS).map(|number| request(&format!("client-{}", number % KEYS))).collect();
    let before = clock_gettime(ClockId::ThreadCPUTime);
    for request in requests {
        form.passes(request)?;
    }
    let spent = clock_gettime(ClockId::ThreadCPUTime) - before;
    Ok((spent.tv_sec as f64 * 1e9 + spent.tv_nsec as f64) / REQUESTS as f64)
}
