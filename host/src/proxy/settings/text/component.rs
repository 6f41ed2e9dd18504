//! A component that decides requests, as typed.

use super::filter::{Blob, Limits};
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::proxy) struct Component {
    /// Its file, such as `tidegate.component.wasm`.
    pub(in crate::proxy) wasm: PathBuf,
    /// A policy file …
    pub(in crate::proxy) policy: Option<PathBuf>,
    /// … or the policy itself.
    pub(in crate::proxy) configuration: Option<Blob>,
    /// Left out: `tidegate`.
    pub(in crate::proxy) name: Option<String>,
    #[serde(default)]
    pub(in crate::proxy) limits: Limits,
}
