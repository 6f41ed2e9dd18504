//! What a policy wants to know of a request, read as filters read it.

use crate::component::world::types::{Fact, Want};
use crate::proxy::exchange::Beginning;
use proxy_wasm_host::exchange::Exchange;
use proxy_wasm_host::maps::HeaderMap;
use proxy_wasm_host::plugin::PluginConfig;
use std::mem;
use tidegate_core::facts::REPEATED;

/// The facts, in the order of the wants.
pub(super) fn gather(
    wants: &[Want],
    beginning: &mut Beginning,
    config: &PluginConfig,
) -> Vec<Fact> {
    // Lent to what reads properties, and taken back.
    let exchange = Exchange {
        request_headers: Some(mem::take(&mut beginning.headers)),
        facts: mem::take(&mut beginning.facts),
        ..Exchange::default()
    };
    let facts = wants.iter().map(|want| read(want, &exchange, config)).collect();
    beginning.headers = exchange.request_headers.unwrap_or_default();
    beginning.facts = exchange.facts;
    facts
}

fn read(want: &Want, exchange: &Exchange, config: &PluginConfig) -> Fact {
    let property = |path: &[u8]| exchange.property(config, path);
    let headers = exchange.request_headers.as_ref()?;
    match want {
        Want::Header(name) => headers.get(name.as_bytes()).map(|value| value.to_vec()),
        Want::SoleHeader(name) => sole(headers, name.as_bytes()),
        Want::ClientAddress => property(b"source\0address"),
        Want::Route => property(b"xds\0route_name"),
        Want::Property(path) => property(path.join("\0").as_bytes()),
    }
}

fn sole(headers: &HeaderMap, name: &[u8]) -> Fact {
    let mut values = headers.iter().filter(|(known, _)| **known == *name);
    let (_, value) = values.next()?;
    Some(if values.next().is_some() { REPEATED.to_vec() } else { value.to_vec() })
}
