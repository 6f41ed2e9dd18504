//! One filter, as typed.

use crate::config::kinds::{Count, Time};
use serde::Deserialize;
use serde::de::Deserializer;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::proxy) struct Filter {
    /// Left out: the file's name, or `tidegate`.
    pub(in crate::proxy) name: Option<String>,
    /// The module; left out together with `policy`, it is the shipped filter.
    pub(in crate::proxy) wasm: Option<PathBuf>,
    /// A policy file, as what Tidegate's own filter is configured by.
    pub(in crate::proxy) policy: Option<PathBuf>,
    pub(in crate::proxy) root_id: Option<String>,
    pub(in crate::proxy) vm_id: Option<String>,
    pub(in crate::proxy) configuration: Option<Blob>,
    pub(in crate::proxy) configuration_file: Option<PathBuf>,
    pub(in crate::proxy) vm_configuration: Option<Blob>,
    pub(in crate::proxy) environment: BTreeMap<String, String>,
    pub(in crate::proxy) allowed_calls: Option<BTreeSet<String>>,
    pub(in crate::proxy) on_failure: Option<OnFailure>,
    /// With `on_failure: reload`: how long until a new start.
    pub(in crate::proxy) reload_pause: Option<Time<1, 60_000>>,
    pub(in crate::proxy) allow_on_headers_stop_iteration: bool,
    pub(in crate::proxy) limits: Limits,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::proxy) enum OnFailure {
    Closed,
    Open,
    Reload,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(in crate::proxy) struct Limits {
    pub(in crate::proxy) memory_mib: Count<1, 4_095>,
    pub(in crate::proxy) table_elements: Count<1, 100_000_000>,
    pub(in crate::proxy) callback: Time<1, 60_000>,
    pub(in crate::proxy) start: Time<1, 600_000>,
}

/// What a filter reads: a text as it stands, or anything else as JSON.
#[derive(Clone, Debug)]
pub(in crate::proxy) struct Blob(pub(in crate::proxy) Vec<u8>);

impl Default for Limits {
    fn default() -> Self {
        let limits = proxy_wasm_host::plugin::Limits::default();
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            memory_mib: Count(count(limits.memory_bytes >> 20)),
            table_elements: Count(count(limits.table_elements)),
            callback: Time(limits.callback),
            start: Time(limits.start),
        }
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Self(match serde_json::Value::deserialize(from)? {
            serde_json::Value::String(text) => text.into_bytes(),
            other => other.to_string().into_bytes(),
        }))
    }
}
