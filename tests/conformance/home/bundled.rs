//! Our own host around the same filters: `tidegate proxy`.

use super::Line;
use crate::script::{Filter, Setup};
use harness::bundled::Bundled;
use harness::{Result, ports};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// Starts one.
pub(super) async fn start(setup: &Setup, origin: SocketAddr) -> Result<(SocketAddr, Bundled)> {
    let proxy = Bundled::start(&config(setup, origin)?).await?;
    let address = proxy.listeners().first().copied();
    Ok((address.ok_or_else(|| anyhow::anyhow!("the proxy has no listener"))?, proxy))
}

/// Reads a line of JSON; those of filters name them.
pub(super) fn line(line: &str) -> Option<Line> {
    let line: Value = serde_json::from_str(line).ok()?;
    let field = |name: &str| Some(line.get(name)?.as_str()?.to_owned());
    let text = field("message")?;
    if text.contains(" trapped: ") {
        return None; // the host's word, not the filter's
    }
    Some(Line {
        // There is one worker.
        thread: String::new(),
        level: field("level")?.to_lowercase(),
        filter: field("plugin")?,
        text,
    })
}

fn config(setup: &Setup, origin: SocketAddr) -> Result<Value> {
    let url = |at: SocketAddr| format!("http://{at}");
    let cluster = |at: SocketAddr, http2: bool| json!({ "url": url(at), "http2": http2 });
    let mut clusters = json!({
        "callee": cluster(origin, false),
        "grpc": cluster(origin, true),
        "nobody": cluster(ports::REFUSED, false),
        "nobody_grpc": cluster(ports::REFUSED, true),
    });
    for (name, is_origin) in &setup.clusters {
        clusters[name] = cluster(if *is_origin { origin } else { ports::REFUSED }, false);
    }
    let protocol = if setup.is_network { "tcp" } else { "http" };
    Ok(json!({
        "listeners": [{
            "protocol": protocol,
            "normalize_path": false,
            "filters": setup.filters.iter().map(filter).collect::<Result<Vec<_>>>()?,
            "upstream": cluster(origin, setup.is_upstream_http2),
        }],
        "clusters": clusters,
        "workers": 1,
        "log_level": if setup.logs_all { "trace" } else { "info" },
    }))
}

fn filter(filter: &Filter) -> Result<Value> {
    let option = |name: &str| filter.option(name).unwrap_or_default();
    let mut config = json!({
        "name": filter.name,
        "wasm": filter.file()?,
        "root_id": option("root_id"),
        "vm_id": filter.option("vm_id").unwrap_or(&filter.name),
        "configuration": filter.configuration,
    });
    if let Some(value) = filter.option("vm_config") {
        config["vm_configuration"] = json!(value);
    }
    if let Some((name, value)) = option("env").split_once(':') {
        config["environment"] = json!({ name: value });
    }
    if let Some(policy) = filter.option("failure") {
        config["on_failure"] = json!(policy);
    }
    if option("failure") == "reload" {
        config["reload_pause"] = json!("1ms");
    }
    if option("on_headers") == "stop" {
        config["allow_on_headers_stop_iteration"] = json!(true);
    }
    Ok(config)
}
