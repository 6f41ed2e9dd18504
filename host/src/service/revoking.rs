//! What of a host keeps revocations: the ledger and the API's listener, opened before anything is
//! answered.

use super::Failure;
use super::metrics::Metrics;
use crate::config::{self, Config, Provider};
use crate::revocations::{Home, Revocations, Settings, Wall};
use crate::revocations_api::{Api, Door, Lives};
use std::error::Error;
use std::io;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// How many generations of tokens there are in the longest life of one. Each is an image, and a
/// proxy fetches only those that changed.
const GENERATIONS: u64 = 12;

/// What is revoked, if that is kept here.
pub(super) enum Kept {
    /// From the beginning, or not at all.
    Open(Option<Arc<Revocations>>),
    /// From when it is first looked at, in this process's memory.
    InMemory(Lazily),
}

/// Opened when it is first looked at.
type Lazily = LazyLock<Option<Arc<Revocations>>, Open>;

type Open = Box<dyn FnOnce() -> Option<Arc<Revocations>> + Send>;

impl Kept {
    /// In this process's memory. Most processes have nothing to do with revocations.
    pub(super) fn in_memory(wall: Wall) -> Self {
        let open = move || Revocations::open(&Settings::in_memory(wall)).ok();
        Self::InMemory(LazyLock::new(Box::new(open)))
    }

    pub(super) fn get(&self) -> Option<&Arc<Revocations>> {
        match self {
            Self::Open(revocations) => revocations.as_ref(),
            Self::InMemory(revocations) => revocations.as_ref(),
        }
    }

    /// If it is there, without looking.
    pub(super) const fn open(&self) -> Option<&Arc<Revocations>> {
        match self {
            Self::Open(revocations) => revocations.as_ref(),
            Self::InMemory(_) => None,
        }
    }
}

/// Opens the ledger, if revocations are kept here. Blocks for about a second for each million.
///
/// # Errors
///
/// [`Failure`] if it cannot be used, or a key cannot.
pub(super) fn ledger(config: &Config) -> Result<Option<Arc<Revocations>>, Failure> {
    let Some(settings) = &config.revocations else { return Ok(None) };
    let settings = Settings {
        home: Home::Folder(settings.data_dir.clone()),
        is_shared: matches!(config.provider, Provider::Redis(_)),
        span_secs: span_secs(settings.token_ttl_max),
        leeway_secs: settings.leeway.as_secs(),
        id_key_files: settings.id_key_files.clone(),
        wall: Wall::of_this_machine(),
    };
    Revocations::open(&settings).map(Some).map_err(|problem| failure("revocations", problem))
}

/// Opens the API's door, if there is one.
///
/// # Errors
///
/// [`Failure`] if a file of its settings is not what it should be, or it cannot listen.
pub(super) fn door(
    settings: &config::Revocations,
    revocations: &Arc<Revocations>,
    metrics: &Metrics,
) -> Result<Option<Door>, Failure> {
    let Some(api) = &settings.api else { return Ok(None) };
    let lives = Lives {
        leeway: settings.leeway,
        token: settings.token_ttl_max,
        session: settings.session_ttl_max,
        retention: settings.retention_max,
    };
    let counts = metrics.revocations_api.clone();
    let answering = Api::new(api, lives, revocations.clone(), counts)
        .map_err(|problem| failure("revocations.api", problem))?;
    let opened = Door::open(api.listen, answering);
    let what = || format!("cannot listen on {}", api.listen);
    opened.map(Some).map_err(|source| Failure { what: what(), source })
}

fn failure(what: &str, problem: impl Into<Box<dyn Error + Send + Sync>>) -> Failure {
    Failure { what: what.to_owned(), source: io::Error::other(problem) }
}

/// How long a generation is: some of them make up the longest life of a token.
fn span_secs(token_ttl_max: Duration) -> u32 {
    u32::try_from(token_ttl_max.as_secs() / GENERATIONS).unwrap_or(u32::MAX).max(1)
}
