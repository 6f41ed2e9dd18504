//! The real parts that tests, demo and measurements run: who starts them finds them in variables.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;
use crate::filter::{self, Built};
use crate::tools::{self, Tools};
use crate::wasm::Exceptions;
use crate::workspace::{Workspace, cargo};

/// All packages that build natively. Of the filter and the component only the wasm counts: neither
/// the hostcalls of the one nor the exports of the other link natively.
pub(crate) const EVERYTHING: [&str; 3] =
    ["--workspace", "--exclude=tidegate-filter", "--exclude=tidegate-component"];

/// How something of ours is compiled.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Profile {
    /// Quick to build.
    Dev,
    /// Quick to run: what is measured.
    Release,
}

/// Tells `command` where the parts are, and that a part it misses is a failure.
pub(crate) fn hand_over<'a>(
    command: &'a mut Command,
    tools: &Tools,
    built: &Built,
) -> &'a mut Command {
    command
        .env("TIDEGATE_ENVOY", &tools.envoy)
        .env("TIDEGATE_REDIS_SERVER", &tools.redis_server)
        .env("TIDEGATE_REDIS_CLI", &tools.redis_cli)
        .env("TIDEGATE_FILTER", &built.plain.path)
        .env("TIDEGATE_FILTER_STANDING", &built.standing.path)
        .env("TIDEGATE_REQUIRE_REAL", "1")
}

/// Builds the host service; its program.
pub(crate) fn host(workspace: &Workspace, profile: Profile) -> Result<PathBuf> {
    built(workspace, "tidegate", profile)
}

/// Builds the program `name`.
pub(crate) fn built(workspace: &Workspace, name: &str, profile: Profile) -> Result<PathBuf> {
    build(workspace, &[name], profile)?;
    Ok(folder(&workspace.target, profile).join(name))
}

/// Builds the program `name` of `tidegate-tests`, and the host service for it; a command that
/// runs it with that host.
pub(crate) fn program(workspace: &Workspace, name: &str, profile: Profile) -> Result<Command> {
    build(workspace, &["tidegate", name], profile)?;
    let folder = folder(&workspace.target, profile);
    let mut program = Command::new(folder.join(name));
    program.current_dir(&workspace.root).env("TIDEGATE_HOST", folder.join("tidegate"));
    Ok(program)
}

/// Builds what is missing, then becomes the program `name` of `tidegate-tests`, told what `tell`
/// tells it. In our place rather
/// than below us: Ctrl-C is its alone, and we wait for its cleaning up.
///
/// # Errors
///
/// If a part cannot be had; the program's own are its exit code.
pub(crate) fn become_program(
    workspace: &Workspace,
    name: &str,
    profile: Profile,
    tell: impl FnOnce(&mut Command),
) -> Result<()> {
    let tools = tools::find(workspace)?;
    let built = filter::build(workspace, Exceptions::Standard)?;
    let mut program = program(workspace, name, profile)?;
    tell(&mut program);
    let error = hand_over(&mut program, &tools, &built).exec();
    Err(error).with_context(|| format!("cannot start {name}"))
}

fn build(workspace: &Workspace, programs: &[&str], profile: Profile) -> Result<()> {
    let mut build = Command::new(cargo());
    build.current_dir(&workspace.root);
    // All packages, as the tests are built: dependencies then have the same features, and are
    // not compiled anew.
    build.arg("build").args(EVERYTHING);
    build.args(programs.iter().map(|program| format!("--bin={program}")));
    build.arg("--target-dir").arg(&workspace.target);
    if profile == Profile::Release {
        build.arg("--release");
    }
    command::run(&mut build)
}

fn folder(target: &Path, profile: Profile) -> PathBuf {
    target.join(match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    })
}
