//! `cargo xtask test faults`: what each fault of Redis costs, in a table.
//!
//! Not among the steps of `cargo xtask test`: it takes minutes, and a machine that is doing
//! nothing else. The work is in `tests/faults/`.

use std::ffi::OsString;

use anyhow::Result;

use crate::parts::{self, Profile};
use crate::workspace::Workspace;

/// Builds what is missing, then becomes the program that makes the faults: of these names, or all.
///
/// # Errors
///
/// If a part cannot be had; the program's own are its exit code.
pub(crate) fn run(workspace: &Workspace, names: &[OsString]) -> Result<()> {
    parts::become_program(workspace, "faults", Profile::Release, |faults| {
        faults.args(names);
    })
}
