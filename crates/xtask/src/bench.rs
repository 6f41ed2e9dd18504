//! `cargo xtask bench`: what a request costs, measured here and now.
//!
//! The measuring is `tests/bench/filter.rs`; here it gets what it needs.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result, bail};

use crate::filter::{self, Exceptions};
use crate::parts::{self, Profile};
use crate::workspace::Workspace;
use crate::{command, tools};

/// Rounds unless told otherwise: enough for medians to settle on a noisy machine, in two minutes.
pub(crate) const ROUNDS: u32 = 60;

/// Builds what is missing, then becomes the measuring program.
///
/// # Errors
///
/// If a part cannot be had; the program's own are its exit code.
pub(crate) fn filter(workspace: &Workspace, rounds: u32) -> Result<()> {
    needs_h2load()?;
    let tools = tools::find(workspace)?;
    let built = filter::build(workspace, Exceptions::Standard)?;
    let mut bench = parts::program(workspace, "bench-filter", Profile::Release)?;
    bench.args(["--rounds", &rounds.to_string()]);
    let error = parts::hand_over(&mut bench, &tools, &built).exec();
    Err(error).context("cannot start the measuring")
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
