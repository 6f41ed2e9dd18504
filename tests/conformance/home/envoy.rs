//! A real Envoy around the filters, with as little of its own as possible.

use super::Line;
use crate::script::{Filter, Setup};
use harness::process::Process;
use harness::{Result, envoy, parts, ports};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::process::Command;
use tempfile::TempDir;

/// What stands before a filter's words in the log.
const MARK: &str = " wasm log ";

/// As long as an address, which is how our own host calls it.
const CHAIN: &str = "127.0.0.1:10000";

/// Starts one.
pub(super) async fn start(
    setup: &Setup,
    origin: SocketAddr,
) -> Result<(SocketAddr, Process, TempDir)> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("envoy.json");
    std::fs::write(&file, config(setup, origin)?.to_string())?;
    let mut command = Command::new(parts::envoy()?);
    command.arg("--config-path").arg(&file).args(["--concurrency", "1", "--disable-hot-restart"]);
    command.arg("--admin-address-path").arg(folder.path().join("admin"));
    command.args(["--service-node", "tidegate", "--service-cluster", "tidegate"]);
    command.args(["--log-level", "info", "--log-format", "%t %l %v"]);
    let levels = if setup.logs_all { "main:warning,wasm:trace" } else { "main:warning" };
    command.args(["--component-log-level", levels]);
    let mut process = Process::start("envoy", &mut command, folder.path())?;
    let admin = envoy::come_up(&mut process, folder.path()).await?;
    let mut listeners = envoy::listeners(admin)?.into_values();
    let address = listeners.next().ok_or_else(|| anyhow::anyhow!("Envoy has no listener"))?;
    Ok((address, process, folder))
}

/// Reads `THREAD LEVEL wasm log NAME [ROOT_ID] [VM_ID]: TEXT`.
pub(super) fn line(line: &str) -> Option<Line> {
    let (head, rest) = line.split_once(MARK)?;
    let (thread, level) = head.split_once(' ')?;
    let (who, text) = rest.split_once(": ")?;
    let filter = who.split(' ').next()?;
    Some(Line {
        thread: thread.to_owned(),
        level: if level == "warning" { "warn" } else { level }.to_owned(),
        filter: filter.to_owned(),
        text: text.to_owned(),
    })
}

fn config(setup: &Setup, origin: SocketAddr) -> Result<Value> {
    let filters = setup.filters.iter().map(wasm).collect::<Result<Vec<_>>>()?;
    let chain = if setup.is_network { network(filters) } else { http(filters) };
    let listener = json!({
        "name": "listener",
        "address": address(SocketAddr::from(([127, 0, 0, 1], 0))),
        "filter_chains": [{ "name": CHAIN, "filters": chain }],
    });
    let mut clusters = vec![
        cluster("upstream", origin, setup.is_upstream_http2),
        cluster("callee", origin, false),
        cluster("grpc", origin, true),
        cluster("nobody", ports::REFUSED, false),
        cluster("nobody_grpc", ports::REFUSED, true),
    ];
    for (name, is_origin) in &setup.clusters {
        let at = if *is_origin { origin } else { ports::REFUSED };
        clusters.push(cluster(name, at, false));
    }
    Ok(json!({
        "admin": { "address": address(SocketAddr::from(([127, 0, 0, 1], 0))) },
        "static_resources": { "listeners": [listener], "clusters": clusters },
    }))
}

/// One filter's configuration, HTTP or not.
fn wasm(filter: &Filter) -> Result<Value> {
    let text = |text: &str| json!({ "@type": "type.googleapis.com/google.protobuf.StringValue", "value": text });
    let option = |name: &str| filter.option(name).unwrap_or_default();
    let vm_id = filter.option("vm_id").unwrap_or(&filter.name);
    let mut config = json!({
        "name": filter.name,
        "root_id": option("root_id"),
        "configuration": text(&filter.configuration),
        "vm_config": {
            "vm_id": vm_id,
            "runtime": "envoy.wasm.runtime.v8",
            "code": { "local": { "filename": filter.file()? } },
        },
    });
    if let Some(value) = filter.option("vm_config") {
        config["vm_config"]["configuration"] = text(value);
    }
    if let Some((name, value)) = option("env").split_once(':') {
        config["vm_config"]["environment_variables"] = json!({ "key_values": { name: value } });
    }
    if let Some(policy) = filter.option("failure") {
        config["failure_policy"] = json!(format!("FAIL_{}", policy.to_uppercase()));
    }
    if option("failure") == "reload" {
        let backoff = json!({ "base_interval": "0.1s", "max_interval": "0.1s" });
        config["reload_config"] = json!({ "backoff": backoff });
    }
    if option("on_headers") == "stop" {
        config["allow_on_headers_stop_iteration"] = json!(true);
    }
    Ok(config)
}

fn http(filters: Vec<Value>) -> Value {
    let kind = |kind: &str| format!("type.googleapis.com/envoy.extensions.filters.http.{kind}");
    let wasm = filters.into_iter().map(|config| {
        json!({
            "name": config["name"],
            "typed_config": { "@type": kind("wasm.v3.Wasm"), "config": config },
        })
    });
    let router = json!({
        "name": "router",
        "typed_config": { "@type": kind("router.v3.Router"), "suppress_envoy_headers": true },
    });
    let routes = [
        json!({ "name": "default", "match": { "prefix": "/" }, "route": { "cluster": "upstream" } }),
    ];
    json!([{
        "name": "http",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "http",
            "http_filters": wasm.chain([router]).collect::<Vec<_>>(),
            "route_config": {
                "name": "routes",
                "virtual_hosts": [{ "name": "default", "domains": ["*"], "routes": routes }],
            },
            "http_protocol_options": { "enable_trailers": true },
            "generate_request_id": false,
        },
    }])
}

fn network(filters: Vec<Value>) -> Value {
    let kind = |kind: &str| format!("type.googleapis.com/envoy.extensions.filters.network.{kind}");
    let wasm = filters.into_iter().map(|config| {
        json!({
            "name": config["name"],
            "typed_config": { "@type": kind("wasm.v3.Wasm"), "config": config },
        })
    });
    let proxy = json!({
        "name": "tcp",
        "typed_config": {
            "@type": kind("tcp_proxy.v3.TcpProxy"),
            "stat_prefix": "tcp",
            "cluster": "upstream",
        },
    });
    json!(wasm.chain([proxy]).collect::<Vec<_>>())
}

fn cluster(name: &str, at: SocketAddr, is_http2: bool) -> Value {
    let mut cluster = json!({
        "name": name,
        "connect_timeout": "2s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(at) } }] }],
        },
    });
    let protocol = if is_http2 {
        json!({ "http2_protocol_options": {} })
    } else {
        json!({ "http_protocol_options": { "enable_trailers": true } })
    };
    cluster["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": protocol,
        },
    });
    cluster
}

fn address(at: SocketAddr) -> Value {
    json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } })
}
