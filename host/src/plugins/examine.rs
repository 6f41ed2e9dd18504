//! One plugin by itself, before any request needs it: for who examines a configuration, or a policy.

use super::Settings;
use super::component::{Code, Description};
use super::instance::Instance;
use super::log::Line;
use super::pool::{START_MAX, runtime};
use crate::component::Engine;
use crate::files::Files;
use std::time::{Duration, Instant};
use tidegate_core::policy::Plugin;

/// A plugin that can be used.
pub(crate) struct Examined {
    description: Description,
    /// From its file to its first instance.
    pub(crate) took: Duration,
    /// What an instance has before its first call.
    pub(crate) memory_bytes: usize,
}

/// Compiles a plugin, and makes one instance of it.
///
/// # Errors
///
/// Why it cannot be used: one line, and perhaps one with a hint.
pub(crate) fn examine(name: &str, settings: &Settings) -> Result<Examined, String> {
    let begun = Instant::now();
    let bytes = Files::default().read(&settings.file)?;
    let told = |why: String| format!("{}: {why}", settings.file.display());
    let code = Code::compile(&Engine::for_plugins(None)?, &bytes).map_err(told)?;
    let (line, runtime) = (Line::new(name), runtime()?);
    let made = Instance::new(&code, &line, settings.memory_max, START_MAX);
    let (instance, description) = runtime.block_on(made).map_err(told)?;
    let memory_bytes = instance.memory_bytes();
    Ok(Examined { description, took: begun.elapsed(), memory_bytes })
}

impl Examined {
    /// What it says that it is, in a line.
    pub(crate) fn summary(&self) -> String {
        let Description { name, version, gives, .. } = &self.description;
        format!("{name} {version} gives {}; {}", gives.join(", "), self.description.spelled())
    }

    /// Why a policy's use of it does not fit what it is, if that is so.
    pub(crate) fn differs(&self, plugin: &Plugin) -> Option<String> {
        self.description.differs_from(plugin)
    }
}
