//! `cargo xtask demo`: everything, running, with an account of what it does.
//!
//! The demo itself is `tests/demo/main.rs`; `parts` gives it what it needs.

use anyhow::Result;

use crate::parts::{self, Profile};
use crate::workspace::Workspace;

/// Builds what is missing, then becomes the demo. With `keep` it stays up until Ctrl-C.
///
/// # Errors
///
/// If a part cannot be had; the demo's own are its exit code.
pub(crate) fn run(workspace: &Workspace, keep: bool) -> Result<()> {
    parts::become_program(workspace, "demo", Profile::Dev, |demo| {
        demo.args(keep.then_some("--keep"));
    })
}
