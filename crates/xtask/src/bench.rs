//! `cargo xtask bench`: what a request costs, measured here and now.
//!
//! The measuring is in `tests/bench/`; here it gets what it needs.

use anyhow::{Result, bail};

use crate::command;
use crate::parts::{self, Profile};
use crate::workspace::Workspace;

/// Rounds unless told otherwise: enough for medians to settle on a noisy machine, in two minutes.
pub(crate) const ROUNDS: u32 = 60;

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum What {
    /// What a request costs in Envoy, with the filter and without.
    Filter,
    /// What a request costs in the bundled proxy, beside Envoy.
    Host,
}

impl What {
    /// As it is called on the command line.
    pub(crate) const NAMES: [&'static str; 2] = ["filter", "host"];

    /// The one of this name.
    pub(crate) fn named(name: &str) -> Self {
        if name == "host" { Self::Host } else { Self::Filter }
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Filter => "bench-filter",
            Self::Host => "bench-host",
        }
    }
}

/// Builds what is missing, then becomes the measuring program.
///
/// # Errors
///
/// If a part cannot be had; the program's own are its exit code.
pub(crate) fn run(workspace: &Workspace, what: What, rounds: u32) -> Result<()> {
    needs_h2load()?;
    let arguments = ["--rounds".to_owned(), rounds.to_string()];
    parts::become_program(workspace, what.program(), Profile::Release, arguments)
}

/// The load comes from h2load: a client in C takes less of the machine than one of ours would.
fn needs_h2load() -> Result<()> {
    if command::in_path("h2load").is_some() {
        return Ok(());
    }
    if !command::can_install() {
        bail!("no h2load here to make the load: install it (Debian: nghttp2-client)");
    }
    command::apt_install(&["nghttp2-client"])
}
