//! What is measured: one listener of one Envoy each.

use crate::listeners::{self, Pattern};
use harness::Result;
use harness::envoy::{HTTP, Policy, answer_directly};
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where the host service that keeps its truth in Redis is, as Envoy calls it.
const HOST_ON_REDIS: &str = "tidegate_host_redis";

/// More a second than any machine sends, so that nothing is ever refused.
const RATE: &str = "1000000/1s";

/// One thing that is measured.
#[derive(Clone)]
pub(crate) struct Cell {
    /// Its listener, and whatever else wants a name of its own.
    pub(crate) name: &'static str,
    /// What the table calls it.
    pub(crate) label: &'static str,
    /// Where Envoy counts the requests that its limit let through; none if it has no limit.
    pub(crate) counter: Option<String>,
    /// Where Envoy counts those that were decided without the host.
    pub(crate) degraded: Option<String>,
    stands: Stands,
}

/// What stands in front of the router.
#[derive(Clone)]
enum Stands {
    Nothing,
    Native,
    /// A module that does the least that any could: it lies here.
    Least(PathBuf),
    Tidegate(Value),
}

/// What no filter in a machine of its own can do without: being called for a request, and
/// reading one header, for which Envoy calls back for memory.
const LEAST: &str = r#"(module
  (import "env" "proxy_get_header_map_value"
    (func $header (param i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "x-key")
  (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $header (i32.const 0) (i32.const 16) (i32.const 5) (i32.const 64) (i32.const 68)))
    (i32.const 0)))"#;

/// Against this cell's rounds all others' are held.
pub(crate) const BARE: usize = 0;
/// What the filter's added cost is compared with.
pub(crate) const NATIVE: usize = 1;

/// All of them, the ones to compare with first; what they need besides lies in `folder`.
pub(crate) fn all(folder: &Path) -> Result<Vec<Cell>> {
    let least = folder.join("least.wasm");
    fs::write(&least, wat::parse_str(LEAST)?)?;
    let native = Cell {
        name: "native",
        label: "Envoy's `local_ratelimit`, one descriptor on a header",
        counter: Some("native.http_local_rate_limit.ok".to_owned()),
        degraded: None,
        stands: Stands::Native,
    };
    Ok(vec![
        Cell {
            name: "bare",
            label: "no filter",
            counter: None,
            degraded: None,
            stands: Stands::Nothing,
        },
        native,
        Cell {
            name: "least",
            label: "the least wasm module that reads that header and decides nothing",
            counter: None,
            degraded: None,
            stands: Stands::Least(least),
        },
        tidegate("one", "Tidegate, one local limit on that header", json!([by_header("one")])),
        tidegate("ten", "Tidegate, 10 local limits of which 2 apply", two_of_ten("ten")),
        tidegate("memory", "Tidegate, one global exact limit, in memory", global("memory")),
        tidegate("redis", "Tidegate, one global exact limit, in Redis", global("redis")),
    ])
}

/// How many machines of the filter that makes.
pub(crate) fn filters(cells: &[Cell]) -> u32 {
    cells
        .iter()
        .map(|cell| u32::from(matches!(cell.stands, Stands::Least(_) | Stands::Tidegate(_))))
        .sum()
}

/// What an Envoy is planned with whose edits replace it anyway.
pub(crate) fn stand_in() -> Policy {
    Policy::Text(String::new())
}

/// Makes listeners of all cells out of the one in `envoy.yaml`.
pub(crate) fn edit(cells: Vec<Cell>, host_on_redis: SocketAddr) -> impl Fn(&mut Value) {
    move |config| {
        let Some(pattern) = Pattern::of(config) else { return };
        let listeners = cells.iter().map(|cell| cell.listener(&pattern)).collect();
        config["static_resources"]["listeners"] = listeners;
        listeners::add_cluster(config, HOST_ON_REDIS, host_on_redis);
    }
}

impl Cell {
    fn listener(&self, pattern: &Pattern) -> Value {
        let filter = match &self.stands {
            Stands::Nothing => None,
            Stands::Native => Some(native(self.name)),
            Stands::Tidegate(policy) => Some(pattern.filter(self.name, policy)),
            Stands::Least(module) => {
                let mut filter = pattern.filter(self.name, &json!({}));
                let code = &mut filter["typed_config"]["config"]["vm_config"]["code"];
                *code = json!({ "local": { "filename": module } });
                Some(filter)
            }
        };
        let mut listener = pattern.listener(self.name, filter);
        listener.pointer_mut(HTTP).into_iter().for_each(answer_directly);
        listener
    }
}

fn tidegate(name: &'static str, label: &'static str, limits: Value) -> Cell {
    let cluster = if name == "redis" { HOST_ON_REDIS } else { "tidegate_host" };
    let policy = json!({
        "tidegate": 1,
        "domain": "bench",
        // Every ask is to be answered, on a busy machine too.
        "host": { "cluster": cluster, "deadline": "1s" },
        "limits": limits,
    });
    let counts = |what| Some(format!("wasmcustom.wasm_filter.tidegate.limit.{name}.{what}"));
    let (counter, degraded) = (counts("allowed"), counts("degraded"));
    Cell { name, label, counter, degraded, stands: Stands::Tidegate(policy) }
}

fn by_header(name: &str) -> Value {
    json!({ "name": name, "key": [{ "header": "x-key" }], "rate": RATE })
}

/// Eight for other paths; one on the header and one on the client's address that apply.
fn two_of_ten(name: &str) -> Value {
    let elsewhere = |area| {
        json!({ "name": format!("area-{area}"), "when": { "path": format!("/area-{area}/*") },
                "key": ["client_ip"], "rate": RATE })
    };
    let mut limits: Vec<Value> = (1..=8).map(elsewhere).collect();
    limits.push(json!({ "name": "by-address", "key": ["client_ip"], "rate": RATE }));
    limits.push(by_header(name));
    Value::Array(limits)
}

fn global(name: &str) -> Value {
    let mut limit = by_header(name);
    limit["scope"] = json!("global");
    limit["exact"] = json!(true);
    limit["on_error"] = json!("open");
    json!([limit])
}

/// Envoy's own filter, doing what [`by_header`] does for the one value that is sent.
fn native(name: &str) -> Value {
    let bucket =
        json!({ "max_tokens": 1_000_000, "tokens_per_fill": 1_000_000, "fill_interval": "1s" });
    let always = json!({ "default_value": { "numerator": 100, "denominator": "HUNDRED" } });
    let by_header =
        json!({ "request_headers": { "header_name": "x-key", "descriptor_key": "key" } });
    json!({
        "name": "envoy.filters.http.local_ratelimit",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
            "stat_prefix": name,
            "token_bucket": bucket,
            "filter_enabled": always,
            "filter_enforced": always,
            "rate_limits": [{ "actions": [by_header] }],
            "descriptors": [{ "entries": [{ "key": "key", "value": "a" }], "token_bucket": bucket }],
        },
    })
}
