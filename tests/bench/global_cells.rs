//! What is measured: one listener of one Envoy each.

use crate::global_load::Keys;
use crate::listeners::{self, Pattern};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// More a second than any machine sends, so that nothing is ever refused.
const PLENTY: &str = "1000000/1s";

/// So little that nearly all is refused.
const LITTLE: &str = "10/1s";

/// Where the service that says yes is, as Envoy calls it.
const YES: &str = "yes";

/// One thing that is measured.
#[derive(Clone)]
pub(crate) struct Cell {
    /// Its listener, its limit, and whatever else wants a name of its own.
    pub(crate) name: &'static str,
    /// What the table calls it.
    pub(crate) label: &'static str,
    pub(crate) keys: Keys,
    /// Whether nearly all requests are refused, rather than none.
    pub(crate) is_refused: bool,
    stands: Stands,
}

/// What stands in front of the router.
#[derive(Clone)]
enum Stands {
    Nothing,
    Native,
    Tidegate { rate: &'static str, scope: Value },
}

/// By their places in [`all`].
pub(crate) const BARE: usize = 0;
pub(crate) const NATIVE: usize = 1;
pub(crate) const LEASED: usize = 3;
pub(crate) const LEASED_KEYS: usize = 4;
pub(crate) const LEASED_FLOOD: usize = 5;
pub(crate) const LOCAL: usize = 6;
pub(crate) const LOCAL_KEYS: usize = 7;
pub(crate) const LOCAL_FLOOD: usize = 8;

pub(crate) fn all() -> Vec<Cell> {
    let exact = json!({ "scope": "global", "exact": true, "on_error": "open" });
    let leased = json!({ "scope": "global", "on_error": "open" });
    let local = json!({ "scope": "local" });
    let tidegate = |name, label, rate, keys, scope: &Value| Cell {
        name,
        label,
        keys,
        is_refused: rate == LITTLE,
        stands: Stands::Tidegate { rate, scope: scope.clone() },
    };
    let plain =
        |name, label, stands| Cell { name, label, keys: Keys::One, is_refused: false, stands };
    let (one, zipf) = (Keys::One, Keys::Zipf);
    vec![
        plain("bare", "no limit", Stands::Nothing),
        plain("native", "Envoy's `ratelimit`, a service that says yes", Stands::Native),
        tidegate("exact", "Tidegate, global, `exact`", PLENTY, one, &exact),
        tidegate("leased", "Tidegate, global, one hot key", PLENTY, one, &leased),
        tidegate("leased-keys", "Tidegate, global, 10,000 keys by Zipf", PLENTY, zipf, &leased),
        tidegate("leased-flood", "Tidegate, global, denied flood", LITTLE, one, &leased),
        tidegate("local", "Tidegate, local, one hot key", PLENTY, one, &local),
        tidegate("local-keys", "Tidegate, local, 10,000 keys by Zipf", PLENTY, zipf, &local),
        tidegate("local-flood", "Tidegate, local, denied flood", LITTLE, one, &local),
    ]
}

/// How many machines of the filter that makes.
pub(crate) fn filters(cells: &[Cell]) -> u32 {
    cells.iter().map(|cell| u32::from(cell.is_tidegate())).sum()
}

/// Makes listeners of all cells out of the one in `envoy.yaml`.
pub(crate) fn edit(cells: Vec<Cell>, yes: SocketAddr) -> impl Fn(&mut Value) {
    move |config| {
        let Some(pattern) = Pattern::of(config) else { return };
        let listeners = cells.iter().map(|cell| cell.listener(&pattern)).collect();
        config["static_resources"]["listeners"] = listeners;
        listeners::add_cluster(config, YES, yes);
    }
}

impl Cell {
    pub(crate) const fn is_tidegate(&self) -> bool {
        matches!(self.stands, Stands::Tidegate { .. })
    }

    fn listener(&self, pattern: &Pattern) -> Value {
        let filter = match &self.stands {
            Stands::Nothing => None,
            Stands::Native => Some(native()),
            Stands::Tidegate { rate, scope } => {
                Some(pattern.filter(self.name, &policy(self.name, rate, scope)))
            }
        };
        pattern.listener(self.name, filter)
    }
}

fn policy(name: &str, rate: &str, scope: &Value) -> Value {
    let mut limit = json!({ "name": name, "key": [{ "header": "x-key" }], "rate": rate });
    for (name, value) in scope.as_object().into_iter().flatten() {
        limit[name] = value.clone();
    }
    // The longest in which units for requests that wait need not be told: this machine is busy.
    let host = json!({ "cluster": "tidegate_host", "deadline": "60ms" });
    json!({ "tidegate": 1, "domain": "bench", "host": host, "limits": [limit] })
}

/// Envoy's own filter, which asks about the same field for each request.
fn native() -> Value {
    let by_header =
        json!({ "request_headers": { "header_name": "x-key", "descriptor_key": "key" } });
    json!({
        "name": "envoy.filters.http.ratelimit",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit",
            "domain": "bench",
            "failure_mode_deny": true,
            "timeout": "1s",
            "rate_limit_service": {
                "grpc_service": { "envoy_grpc": { "cluster_name": YES } },
                "transport_api_version": "V3",
            },
            "rate_limits": [{ "actions": [by_header] }],
        },
    })
}
