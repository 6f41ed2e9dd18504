//! Many listeners out of the one in `envoy.yaml`, which differ in what stands before the router.

use harness::envoy::{HTTP, LISTENER};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// The listener that others are made of.
pub(crate) struct Pattern(Value);

impl Pattern {
    /// `None` if the configuration has none.
    pub(crate) fn of(config: &Value) -> Option<Self> {
        config.pointer(LISTENER).cloned().map(Self)
    }

    /// A listener with this filter or none before the router.
    pub(crate) fn listener(&self, name: &str, filter: Option<Value>) -> Value {
        let mut listener = self.0.clone();
        listener["name"] = json!(name);
        let Some(http) = listener.pointer_mut(HTTP) else { return listener };
        // Writing a log costs as much as a filter, and each listener the same.
        http["access_log"] = json!([]);
        http["stat_prefix"] = json!(name);
        let router = http["http_filters"][1].take();
        http["http_filters"] = filter.into_iter().chain([router]).collect();
        listener
    }

    /// The filter in a machine of its own, so that listeners share nothing.
    pub(crate) fn filter(&self, name: &str, policy: &Value) -> Value {
        let filters = self.0.pointer(HTTP).map(|http| &http["http_filters"]);
        let mut filter = filters.map(|filters| filters[0].clone()).unwrap_or_default();
        let config = &mut filter["typed_config"]["config"];
        config["name"] = json!(name);
        config["vm_config"]["vm_id"] = json!(name);
        config["configuration"] =
            json!({ "@type": "type.googleapis.com/google.protobuf.Struct", "value": policy });
        filter
    }
}

/// The host service's cluster once more, at another address.
pub(crate) fn add_cluster(config: &mut Value, name: &str, at: SocketAddr) {
    let Some(clusters) = config["static_resources"]["clusters"].as_array_mut() else { return };
    let host = clusters.iter().find(|cluster| cluster["name"] == "tidegate_host");
    let Some(mut cluster) = host.cloned() else { return };
    cluster["name"] = json!(name);
    cluster["load_assignment"]["cluster_name"] = json!(name);
    let endpoint = &mut cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"];
    endpoint["address"]["socket_address"]["port_value"] = json!(at.port());
    clusters.push(cluster);
}
