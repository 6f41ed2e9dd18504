//! Plugins of policies: components that compute what no rule can say, run within bounds.
//!
//! - [`text`]: what is set of each
//! - [`component`]: a file, compiled and looked over; [`bindings`]: the world that it must be of
//! - [`instance`]: one instance, its memory and its calls
//! - [`pool`]: all instances of one plugin, each on a thread of its own; and the next version of it
//! - [`rests`] and [`seats`]: when one that fails, or cannot be made, is left alone
//! - [`examine`]: one by itself, for who examines a configuration or a policy
//! - [`counts`]: what is counted; [`log`]: what a plugin says
//!
//! Whoever asks is answered within the plugin's deadline, whatever the plugin does: what takes
//! longer, or more memory, or breaks down, ends that instance, and the policy's defaults hold.
//! Nothing is remembered of an answer.

mod bindings;
mod component;
mod counts;
pub(crate) mod examine;
mod instance;
mod log;
mod pool;
mod rests;
mod seats;
pub(crate) mod text;

use crate::component::Engine;
use crate::files::Files;
use pool::Pool;
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
pub use text::Settings;
use tidegate_core::plugin::{Resolve, Resolved, Unresolved};
use tidegate_core::policy::Policy;

/// How often files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// All plugins of a process. Cheap to clone.
#[derive(Clone)]
pub struct Plugins(Arc<Inner>);

struct Inner {
    pools: BTreeMap<String, Pool>,
    counts: counts::Counts,
    /// Wakes who looks at the files; it ends when this is dropped.
    look: Mutex<Option<Sender<()>>>,
}

impl Plugins {
    /// Loads all plugins, and looks at their files from now on. With none there is nothing to run.
    /// With a folder for it, what was compiled once is kept there. It takes its time, and must not
    /// be called by a task of a runtime.
    ///
    /// # Errors
    ///
    /// The first that cannot be used, with its name and file.
    pub fn load(
        settings: &BTreeMap<String, Settings>,
        cache: Option<PathBuf>,
    ) -> Result<Self, String> {
        if settings.is_empty() {
            return Ok(Self::none());
        }
        let (counts, engine) = (counts::Counts::default(), Engine::for_plugins(cache)?);
        let (mut pools, mut files) = (BTreeMap::new(), BTreeMap::new());
        for (name, settings) in settings {
            let mut seen = Files::default();
            let told = |why: String| format!("plugins.{name}: {}: {why}", settings.file.display());
            let bytes =
                seen.read(&settings.file).map_err(|why| format!("plugins.{name}: {why}"))?;
            let of_plugin = counts.of(name);
            let pool = Pool::start(name, settings, &engine, &bytes, of_plugin).map_err(told)?;
            files.insert(name.clone(), seen);
            pools.insert(name.clone(), pool);
        }
        let plugins = Self::of(pools, counts);
        plugins.watch(files)?;
        Ok(plugins)
    }

    /// No plugins.
    pub(crate) fn none() -> Self {
        Self::of(BTreeMap::new(), counts::Counts::default())
    }

    fn of(pools: BTreeMap<String, Pool>, counts: counts::Counts) -> Self {
        Self(Arc::new(Inner { pools, counts, look: Mutex::new(None) }))
    }

    /// Whether there are any.
    pub(crate) fn are_any(&self) -> bool {
        !self.0.pools.is_empty()
    }

    /// Why the first of a policy's plugins that is loaded cannot be used as the policy does.
    pub(crate) fn differs(&self, policy: &Policy) -> Option<String> {
        policy.plugins.iter().find_map(|plugin| {
            let why = self.0.pools.get(&*plugin.name)?.differs(plugin)?;
            Some(format!("plugins.{}: {why}", plugin.name))
        })
    }

    /// Asks one; `answer` is called once, on another thread, or here at once.
    pub fn ask(&self, ask: Resolve, answer: impl FnOnce(Resolved) + Send + 'static) {
        match self.0.pools.get(&*ask.plugin) {
            Some(pool) => pool.ask(ask, Box::new(answer)),
            None => {
                self.0.counts.unknown.inc();
                answer(Err(Unresolved::Unknown));
            }
        }
    }

    /// Whether it is one of these.
    pub(crate) fn has(&self, plugin: &str) -> bool {
        self.0.pools.contains_key(plugin)
    }

    /// How long an answer may take, the way to the plugin's thread and back included.
    pub fn patience(&self, plugin: &str) -> Duration {
        self.0.pools.get(plugin).map_or(Duration::ZERO, Pool::patience)
    }

    /// Looks at the files now, as a person asked with SIGHUP.
    pub(crate) fn look(&self) {
        if let Some(look) = &*self.0.look.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = look.send(());
        }
    }

    /// Has what is counted told with the rest.
    pub(crate) fn register(&self, registry: &mut Registry) {
        if self.are_any() {
            self.0.counts.register(registry);
        }
    }

    /// Replaces plugins whose files changed; compiling takes its time on a thread of its own.
    fn watch(&self, mut files: BTreeMap<String, Files>) -> Result<(), String> {
        let (look, told) = channel();
        *self.0.look.lock().unwrap_or_else(PoisonError::into_inner) = Some(look);
        let inner = Arc::downgrade(&self.0);
        let watch = move || {
            while let Ok(()) | Err(RecvTimeoutError::Timeout) = told.recv_timeout(LOOK) {
                let Some(inner) = inner.upgrade() else { return };
                for (name, pool) in &inner.pools {
                    let Some(files) = files.get_mut(name) else { continue };
                    if files.has_changed() {
                        pool.replace(files);
                    }
                }
            }
        };
        let thread = std::thread::Builder::new().name("plugin-files".into());
        thread.spawn(watch).map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(())
    }
}
