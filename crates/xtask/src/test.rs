//! `cargo xtask test`: everything that must hold before a change goes in.
//!
//! Steps run in order, the quick ones first, and the first that fails ends the
//! run.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::filter::{self, Built};
use crate::guests;
use crate::parts::Profile;
use crate::toolchain::{self, Toolchain};
use crate::wasm::Exceptions;
use crate::workspace::{Workspace, cargo};
use crate::{checkers, command, component, foreign, parts, tools};

/// One thing to check.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    /// The sources are formatted.
    Fmt,
    /// The compiler and clippy have nothing to say.
    Clippy,
    /// The dependencies' licences and sources are those that `deny.toml` allows.
    Deny,
    /// The filter builds, is small enough, and asks of Envoy only what Envoy offers; so does the
    /// component, and imports nothing that is not ours.
    Filter,
    /// Another checkout in another folder builds the same bytes.
    Reproducible,
    /// All tests, against a real Envoy and a real Redis.
    Tests,
    /// What is promised of the filter in Envoy holds in `tidegate proxy` too, and of the component
    /// there.
    Bundled,
    /// Plugins and hosts of other languages are built and run as `wit/README.md` says.
    Foreign,
    /// What is deployed beside the proxies starts, rides out faults, and is what Kubernetes and
    /// Prometheus take.
    Deploy,
    /// What a newcomer is shown is what is to be seen.
    Demo,
}

impl Step {
    pub(crate) const ALL: [Self; 10] = [
        Self::Fmt,
        Self::Clippy,
        Self::Deny,
        Self::Filter,
        Self::Reproducible,
        Self::Tests,
        Self::Bundled,
        Self::Foreign,
        Self::Deploy,
        Self::Demo,
    ];

    /// The step called `name` on the command line.
    ///
    /// # Errors
    ///
    /// If there is none; lists those there are.
    pub(crate) fn named(name: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|step| step.name() == name).with_context(|| {
            format!("there is no step `{name}`, only {}", Self::ALL.map(Self::name).join(", "))
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Deny => "deny",
            Self::Filter => "filter",
            Self::Reproducible => "reproducible",
            Self::Tests => "tests",
            Self::Bundled => "bundled",
            Self::Foreign => "foreign",
            Self::Deploy => "deploy",
            Self::Demo => "demo",
        }
    }
}

/// Runs `steps`; `arguments` go to `cargo test`.
///
/// # Errors
///
/// The first step that fails.
pub(crate) fn run(workspace: &Workspace, steps: &[Step], arguments: &[OsString]) -> Result<()> {
    let started = Instant::now();
    let mut bench = Bench { workspace, toolchain: None, built: None };
    let mut account = Vec::new();
    for &step in steps {
        eprintln!("\n=== {}", step.name());
        let step_started = Instant::now();
        let outcome =
            bench.run(step, arguments).with_context(|| format!("step {}", step.name()))?;
        account.push(format!("{} {outcome} ({} s)", step.name(), step_started.elapsed().as_secs()));
    }
    eprintln!("\nxtask test: {}; {} s in all", account.join(", "), started.elapsed().as_secs());
    Ok(())
}

/// What a step came to, when it did not fail.
type Outcome = &'static str;

/// What steps share: nothing is looked for or built twice in one run.
struct Bench<'a> {
    workspace: &'a Workspace,
    toolchain: Option<Toolchain>,
    built: Option<Built>,
}

impl Bench<'_> {
    fn run(&mut self, step: Step, arguments: &[OsString]) -> Result<Outcome> {
        match step {
            Step::Fmt => {
                self.needs_component("fmt", "rustfmt")?;
                command::run(self.cargo().args(["fmt", "--all", "--check"]))?;
            }
            Step::Clippy => {
                self.needs_component("clippy", "clippy")?;
                command::run(
                    self.cargo()
                        .args(["clippy", "--workspace", "--all-targets", "--quiet"])
                        .args(["--", "--deny", "warnings"]),
                )?;
                // All targets are those that plain `cargo test` runs, and these have steps of their own.
                command::run(
                    self.cargo()
                        .args(["clippy", "--workspace", "--test=deploy", "--test=foreign"])
                        .args(["--quiet", "--", "--deny", "warnings"]),
                )?;
            }
            Step::Deny => return self.deny(),
            Step::Filter => {
                eprint!("{}", self.built()?);
                eprint!("{}", self.component()?);
            }
            Step::Reproducible => self.reproducible()?,
            Step::Tests => self.tests(arguments)?,
            Step::Bundled => self.bundled()?,
            Step::Foreign => return self.foreign(),
            Step::Deploy => return self.deploy(),
            Step::Demo => self.demo()?,
        }
        Ok("ok")
    }

    fn cargo(&self) -> Command {
        let mut command = Command::new(cargo());
        command.current_dir(&self.workspace.root);
        command
    }

    /// rustup's minimal profile comes without these.
    fn needs_component(&self, subcommand: &str, component: &str) -> Result<()> {
        if command::read(self.cargo().args([subcommand, "--version"])).is_ok() {
            return Ok(());
        }
        command::run(Command::new("rustup").args(["component", "add", component]))
            .with_context(|| format!("`cargo {subcommand}` is missing"))
    }

    /// Without the advisories, which take the network; those are for a scheduled run elsewhere.
    fn deny(&self) -> Result<Outcome> {
        if command::read(self.cargo().args(["deny", "--version"])).is_err() {
            eprintln!("SKIPPED: cargo-deny is not installed (`cargo install --locked cargo-deny`)");
            return Ok("SKIPPED");
        }
        command::run(
            self.cargo()
                .args(["deny", "--offline", "--workspace"])
                .args(["check", "bans", "licenses", "sources"]),
        )?;
        Ok("ok")
    }

    fn built(&mut self) -> Result<&Built> {
        if self.built.is_none() {
            let toolchain = match self.toolchain.take() {
                Some(toolchain) => toolchain,
                None => toolchain::find()?,
            };
            self.built =
                Some(filter::build_with(&toolchain, self.workspace, Exceptions::Standard)?);
            self.toolchain = Some(toolchain);
        }
        self.built.as_ref().context("the filter was just built")
    }

    /// Builds once more, from a copy of the sources at another place, with a library of its own.
    fn reproducible(&mut self) -> Result<()> {
        let [plain, standing] = {
            let built = self.built()?;
            [built.plain.digest.clone(), built.standing.digest.clone()]
        };
        let here = self.component()?.digest;
        let elsewhere = self.workspace.target.join("reproducible");
        let copy = Workspace { root: elsewhere.join("checkout"), target: elsewhere.join("built") };
        if copy.root.exists() {
            fs::remove_dir_all(&copy.root)?;
        }
        copy_sources(&self.workspace.root, &copy.root)?;
        let toolchain = self.toolchain.as_ref().context("the filter was just built with it")?;
        let again = filter::build_with(toolchain, &copy, Exceptions::Standard)?;
        let component = component::build(toolchain, &copy)?;
        if component.digest != here {
            let (path, digest) = (component.path.display(), component.digest);
            bail!("{path} has sha256 {digest}, but the same sources here gave {here}");
        }
        for (here, there) in [(plain, &again.plain), (standing, &again.standing)] {
            if here != there.digest {
                bail!(
                    "{} has sha256 {}, but the same sources here gave {here}",
                    there.path.display(),
                    there.digest
                );
            }
            eprintln!("{}: sha256 {here}, as here", there.path.display());
        }
        Ok(())
    }

    fn tests(&mut self, arguments: &[OsString]) -> Result<()> {
        let mut command = self.cargo();
        command.arg("test");
        if !picks_packages(arguments) {
            command.args(parts::EVERYTHING);
        }
        self.built()?;
        let toolchain = self.toolchain.as_ref().context("the filter was just built with it")?;
        command.env("TIDEGATE_GUESTS", guests::build(toolchain, self.workspace)?);
        command.args(arguments);
        self.run_with_parts(command)
    }

    fn bundled(&mut self) -> Result<()> {
        for home in ["bundled", "component"] {
            let mut command = self.cargo();
            // All packages, so that dependencies have the features that they were built with.
            command.arg("test").args(parts::EVERYTHING).arg("--test=e2e");
            command.env("TIDEGATE_HOME", home);
            self.run_with_parts(command)?;
        }
        Ok(())
    }

    fn foreign(&mut self) -> Result<Outcome> {
        self.built()?;
        let toolchain = self.toolchain.as_ref().context("the filter was just built with it")?;
        let environment = found(foreign::environment(self.workspace, toolchain))?;
        let Some(environment) = environment else { return Ok("SKIPPED") };
        let mut command = self.cargo();
        command.arg("test").args(parts::EVERYTHING).arg("--test=foreign");
        command.envs(environment);
        let server = parts::built(self.workspace, "edge-server", Profile::Dev)?;
        command.env("TIDEGATE_EDGE_SERVER", server);
        self.run_with_parts(command)?;
        Ok("ok")
    }

    fn deploy(&mut self) -> Result<Outcome> {
        let Some(checkers) = found(checkers::find(self.workspace))? else { return Ok("SKIPPED") };
        let mut command = self.cargo();
        command.arg("test").args(parts::EVERYTHING).arg("--test=deploy");
        command.env("TIDEGATE_CHECKERS", checkers);
        self.run_with_parts(command)?;
        Ok("ok")
    }

    /// Runs tests with all the real parts.
    fn run_with_parts(&mut self, mut command: Command) -> Result<()> {
        let tools = tools::find(self.workspace)?;
        let faulty = self.faulty()?;
        let component = self.component()?.path;
        let host = parts::host(self.workspace, Profile::Dev)?;
        command.env("TIDEGATE_FILTER_FAULTS", faulty).env("TIDEGATE_HOST", host);
        command.env("TIDEGATE_COMPONENT", component);
        command::run(parts::hand_over(&mut command, &tools, self.built()?))
    }

    /// Builds the filter that panics where a request asks for it.
    fn faulty(&mut self) -> Result<PathBuf> {
        self.built()?;
        let toolchain = self.toolchain.as_ref().context("the filter was just built with it")?;
        Ok(filter::build_faulty(toolchain, self.workspace)?.path)
    }

    fn component(&mut self) -> Result<component::Component> {
        self.built()?;
        let toolchain = self.toolchain.as_ref().context("the filter was just built with it")?;
        component::build(toolchain, self.workspace)
    }

    fn demo(&mut self) -> Result<()> {
        let tools = tools::find(self.workspace)?;
        let mut demo = parts::program(self.workspace, "demo", Profile::Dev)?;
        command::run(parts::hand_over(&mut demo, &tools, self.built()?))
    }
}

/// What was found of what a step may do without, but for `TIDEGATE_REQUIRE_REAL=1`; aloud.
fn found<T>(tools: Result<T>) -> Result<Option<T>> {
    match tools {
        Ok(tools) => Ok(Some(tools)),
        Err(missing) if !env::var("TIDEGATE_REQUIRE_REAL").is_ok_and(|it| it == "1") => {
            eprintln!("SKIPPED: {missing:#}");
            Ok(None)
        }
        Err(missing) => Err(missing),
    }
}

fn picks_packages(arguments: &[OsString]) -> bool {
    arguments
        .iter()
        .filter_map(|argument| argument.to_str())
        .take_while(|argument| *argument != "--")
        .any(|argument| argument.starts_with("-p") || argument.starts_with("--package"))
}

/// Copies everything that a build could read: all but what git keeps and what was built.
fn copy_sources(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (source, copy) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_file() {
            fs::copy(&source, &copy)
                .with_context(|| format!("cannot copy {}", source.display()))?;
        } else if source.is_dir() && !is_left_behind(&source) {
            copy_sources(&source, &copy)?;
        }
    }
    Ok(())
}

fn is_left_behind(folder: &Path) -> bool {
    // Cargo marks every target folder, whatever its name.
    folder.ends_with(".git") || folder.join("CACHEDIR.TAG").is_file() || folder.ends_with("target")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_is_found_by_its_name() {
        for step in Step::ALL {
            assert_eq!(Step::named(step.name()).unwrap(), step);
        }
        let error = Step::named("lint").unwrap_err().to_string();
        assert!(error.contains("`lint`") && error.contains("clippy"), "{error}");
    }

    #[test]
    fn arguments_pick_packages_only_before_the_test_programs_own() {
        let picks = |line: &str| {
            picks_packages(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
        };
        assert!(picks("-p tidegate-core gate"));
        assert!(picks("--package=tidegate-core"));
        assert!(!picks("gate -- -p"));
        assert!(!picks(""));
    }
}
