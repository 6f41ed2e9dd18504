//! `cargo xtask bench`: what a request costs, measured here and now.
//!
//! The measuring is in `tests/bench/`; here it gets what it needs.

use anyhow::{Result, bail};

use crate::command;
use crate::component;
use crate::foreign;
use crate::parts::{self, Profile};
use crate::toolchain;
use crate::workspace::Workspace;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum What {
    /// What a request costs in Envoy, with the filter and without.
    Filter,
    /// What a decision costs in core, in the filter and in the component.
    Component,
    /// What a request costs in the bundled proxy, beside Envoy.
    Host,
    /// What a global limit costs in all processes, and whether four Envoys keep one.
    Global,
    /// What a plugin costs a request.
    Plugins,
    /// How long until all workers of two Envoys enforce what was revoked.
    Propagation,
    /// How much of what a Redis can decide comes through the whole service.
    Redis,
    /// What revocation costs where a great many tokens are revoked, and whether it misses any.
    Revocation,
}

impl What {
    /// As it is called on the command line.
    pub(crate) const NAMES: [&'static str; 8] =
        ["filter", "component", "host", "global", "plugins", "propagation", "redis", "revocation"];

    /// The one of this name.
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "component" => Self::Component,
            "host" => Self::Host,
            "global" => Self::Global,
            "plugins" => Self::Plugins,
            "propagation" => Self::Propagation,
            "redis" => Self::Redis,
            "revocation" => Self::Revocation,
            _ => Self::Filter,
        }
    }

    /// Rounds unless told otherwise: enough for medians to settle on a noisy machine, in some
    /// two minutes; or five, of all that a global limit can be.
    pub(crate) const fn rounds(self) -> u32 {
        match self {
            Self::Filter | Self::Component | Self::Host | Self::Revocation => 60,
            Self::Global | Self::Plugins | Self::Propagation | Self::Redis => 20,
        }
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Filter => "bench-filter",
            Self::Component => "bench-component",
            Self::Host => "bench-host",
            Self::Global => "bench-global",
            Self::Plugins => "bench-plugins",
            Self::Propagation => "bench-propagation",
            Self::Redis => "bench-redis",
            Self::Revocation => "bench-revocation",
        }
    }
}

/// Builds what is missing, then becomes the measuring program.
///
/// # Errors
///
/// If a part cannot be had; the program's own are its exit code.
pub(crate) fn run(
    workspace: &Workspace,
    what: What,
    rounds: u32,
    entries: Option<u64>,
) -> Result<()> {
    // The load comes from h2load: a client in C takes less of the machine than one of ours would.
    if matches!(what, What::Filter | What::Host | What::Redis) {
        needs("h2load", "nghttp2-client")?;
    }
    if what == What::Redis {
        needs("redis-benchmark", "redis-tools")?;
    }
    let mut environment = Vec::new();
    match what {
        What::Component => drop(component::build(&toolchain::find()?, workspace)?),
        What::Plugins => environment = foreign::environment(workspace, &toolchain::find()?)?,
        _ => {}
    }
    parts::become_program(workspace, what.program(), Profile::Release, |program| {
        program.args(["--rounds", &rounds.to_string()]).envs(environment);
        if let Some(entries) = entries {
            program.args(["--entries", &entries.to_string()]);
        }
    })
}

/// Installs `package`, a Debian one, if `program` is not here.
fn needs(program: &str, package: &str) -> Result<()> {
    if command::in_path(program).is_some() {
        return Ok(());
    }
    if !command::can_install() {
        bail!("no {program} here, which makes the load: install it (Debian: {package})");
    }
    command::apt_install(&[package])
}
