//! `cargo xtask demo`: everything, running, with an account of what it does.
//!
//! The demo itself is `tests/demo/main.rs`; here it gets what it needs.

use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::filter;
use crate::parts::{self, Profile};
use crate::tools;
use crate::wasm::Exceptions;
use crate::workspace::Workspace;

/// Builds what is missing, then becomes the demo. With `keep` it stays up until Ctrl-C.
///
/// # Errors
///
/// If a part cannot be had; the demo's own are its exit code.
pub(crate) fn run(workspace: &Workspace, keep: bool) -> Result<()> {
    let tools = tools::find(workspace)?;
    let built = filter::build(workspace, Exceptions::Standard)?;
    let mut demo = parts::program(workspace, "demo", Profile::Dev)?;
    if keep {
        demo.arg("--keep");
    }
    // In our place rather than below us: Ctrl-C is its alone, and we wait for its cleaning up.
    let error = parts::hand_over(&mut demo, &tools, &built).exec();
    Err(error).context("cannot start the demo")
}
