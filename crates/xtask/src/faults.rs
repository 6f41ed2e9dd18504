//! `cargo xtask test faults`: what each fault of Redis costs, in a table.
//!
//! Not among the steps of `cargo xtask test`: it takes minutes, and a machine that is doing
//! nothing else. The work is in `tests/faults/`; here it gets what it needs.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;

use anyhow::{Context, Result};

use crate::filter;
use crate::parts::{self, Profile};
use crate::tools;
use crate::wasm::Exceptions;
use crate::workspace::Workspace;

/// Builds what is missing, then becomes the program that makes the faults: of these names, or all.
///
/// # Errors
///
/// If a part cannot be had; the program's own are its exit code.
pub(crate) fn run(workspace: &Workspace, names: &[OsString]) -> Result<()> {
    let tools = tools::find(workspace)?;
    let built = filter::build(workspace, Exceptions::Standard)?;
    let mut program = parts::program(workspace, "faults", Profile::Release)?;
    program.args(names);
    let error = parts::hand_over(&mut program, &tools, &built).exec();
    Err(error).context("cannot start making faults")
}
