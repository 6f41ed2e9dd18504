//! What is set of plugins, in the service's configuration and in the proxy's.
//!
//! ```yaml
//! plugins:
//!   tiers:                     # the name by which policies know it
//!     file: tiers.wasm         # a component; read again when it changes
//!     instances: 2             # calls at once, each on a thread; left out: as many as cores, 4 at most
//!     deadline: 10ms           # for one call, and the wait for an instance
//!     memory_max: 64           # MiB for each instance
//! ```

use crate::config::kinds::{Small, Time};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tidegate_policy::spelling::is_name;

/// Cores that plugins take unless more are said.
const INSTANCES_DEFAULT_MAX: usize = 4;

/// What is typed of one.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Text {
    file: PathBuf,
    instances: Option<Small<1, 64>>,
    #[serde(default = "deadline")]
    deadline: Time<1, 1_000>,
    /// MiB.
    #[serde(default = "memory_max")]
    memory_max: Small<1, 4_096>,
}

/// What is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where its component is.
    pub file: PathBuf,
    /// Calls at once.
    pub instances: usize,
    /// The longest for one call, the wait for an instance included.
    pub deadline: Duration,
    /// Bytes of memory for each instance.
    pub memory_max: usize,
}

impl Settings {
    /// Those of one that nobody waits for, as where a policy is tried: one instance, and time enough
    /// on a busy machine.
    #[must_use]
    pub fn of(file: PathBuf) -> Self {
        let memory_max = usize::from(memory_max().0) << 20;
        Self { file, instances: 1, deadline: Duration::from_secs(1), memory_max }
    }
}

/// What is meant by what is typed of all.
///
/// # Errors
///
/// The name that is none, and what is wrong with it.
pub(crate) fn resolve(
    text: BTreeMap<String, Text>,
) -> Result<BTreeMap<String, Settings>, (String, String)> {
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    text.into_iter()
        .map(|(name, text)| {
            if !is_name(&name) {
                let what = "is no plugin's name: wanted 1 to 64 of a-z, 0-9, _ and -".to_owned();
                return Err((name, what));
            }
            let or_else = || cores.min(INSTANCES_DEFAULT_MAX);
            let settings = Settings {
                file: text.file,
                instances: text.instances.map_or_else(or_else, |it| it.0.into()),
                deadline: text.deadline.0,
                memory_max: usize::from(text.memory_max.0) << 20,
            };
            Ok((name, settings))
        })
        .collect()
}

fn deadline() -> Time<1, 1_000> {
    Time(Duration::from_millis(10))
}

fn memory_max() -> Small<1, 4_096> {
    Small(64)
}
