//! A copy of `wit/` with the tools of all languages around it, where the README's blocks are run.
//!
//! A block that is run has a name behind its language: ```` ```sh javascript-plugin ````.

use crate::{Result, parts};
use anyhow::{Context, bail};
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// Gone when it drops, but for what cargo built.
pub struct Workshop {
    folder: TempDir,
    tools: PathBuf,
    component: Option<PathBuf>,
}

impl Workshop {
    /// Copies `wit/`, and puts what npm would have installed beside the examples.
    ///
    /// # Errors
    ///
    /// [`parts::Missing`].
    pub fn open() -> Result<Self> {
        let tools = parts::foreign()?;
        let component = parts::component().ok();
        let workshop = Self { folder: tempfile::tempdir()?, tools, component };
        copy(&parts::root().join("wit"), &workshop.folder.path().join("wit"))?;
        let modules = workshop.tools.join("javascript/node_modules");
        symlink(modules, workshop.example("javascript").join("node_modules"))?;
        // A second run finds what the first built.
        let built = parts::target().join("foreign");
        fs::create_dir_all(&built)?;
        symlink(built, workshop.example("rust").join("target"))?;
        Ok(workshop)
    }

    /// The same with this component in place of the limiter's.
    #[must_use]
    pub fn with_component(mut self, component: &Path) -> Self {
        self.component = Some(component.to_owned());
        self
    }

    /// The folder of the examples in a language.
    pub fn example(&self, language: &str) -> PathBuf {
        self.folder.path().join("wit/examples").join(language)
    }

    /// Runs the README's block of this name, LANGUAGE-WHAT, in that language's folder.
    ///
    /// # Errors
    ///
    /// If it fails: with what it wrote.
    pub fn run(&self, block: &str) -> Result<()> {
        output(&mut self.command(block, &self::block(block)?)?).map(drop)
    }

    /// The README's block of this name, which is one command, as a command that becomes it.
    ///
    /// # Errors
    ///
    /// If there is no such block.
    pub fn program(&self, block: &str) -> Result<Command> {
        self.command(block, &format!("exec {}", self::block(block)?))
    }

    /// A script with all tools at hand.
    ///
    /// # Errors
    ///
    /// If this machine's `PATH` is broken.
    pub fn command(&self, block: &str, script: &str) -> Result<Command> {
        let (language, _) = block.rsplit_once('-').context("LANGUAGE-WHAT")?;
        let python = self.tools.join("python");
        let path = env::var_os("PATH").unwrap_or_default();
        let mut programs = vec![parts::host()?];
        if language == "rust-server" {
            programs.push(parts::edge_server()?);
        }
        let ours = programs.iter().filter_map(|it| it.parent().map(Path::to_owned));
        let ours = ours.chain([python.join("bin")]);
        let path = ours.chain(env::split_paths(&path));
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", script]).current_dir(self.example(language));
        command.env("PATH", env::join_paths(path)?).env("PYTHONPATH", python);
        command.env("NO_COLOR", "1").env_remove("CARGO_TARGET_DIR");
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("TIDEGATE_") {
                command.env_remove(name);
            }
        }
        if let Some(component) = &self.component {
            command.env("TIDEGATE_COMPONENT", component);
        }
        let rust = env::var("TIDEGATE_RUST_FOR_WASM").unwrap_or_default();
        command.envs(rust.lines().filter_map(|line| line.split_once('=')));
        Ok(command)
    }
}

/// What a command writes to its standard output.
///
/// # Errors
///
/// If it fails: with what it wrote.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    if !output.status.success() {
        bail!("{command:?} ended with {}:\n{out}{err}", output.status);
    }
    Ok(out)
}

/// Copies what git keeps: what tools left beside it is no example.
fn copy(from: &Path, to: &Path) -> Result<()> {
    const MADE: [&str; 5] = ["node_modules", "target", "guard", "__pycache__", "plugin.wasm"];
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if MADE.iter().any(|made| entry.file_name() == *made) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// The block of the README that has this name, for a shell.
///
/// # Errors
///
/// If there is none.
pub fn block(name: &str) -> Result<String> {
    let found = blocks()?.into_iter().find(|(info, _)| *info == format!("sh {name}"));
    Ok(found.with_context(|| format!("wit/README.md has no block `sh {name}`"))?.1)
}

/// What stands behind the marks that open each block of the README, and what is in it.
///
/// # Errors
///
/// If the page cannot be read, or is cut off.
pub fn blocks() -> Result<Vec<(String, String)>> {
    let page = page("README.md")?;
    let blocks = page.split("\n```").skip(1).step_by(2);
    blocks
        .map(|block| {
            let (info, text) = block.split_once('\n').context("a block has lines")?;
            Ok((info.to_owned(), format!("{text}\n")))
        })
        .collect()
}

/// A file of `wit/`.
///
/// # Errors
///
/// If it cannot be read.
pub fn page(path: &str) -> Result<String> {
    let path = parts::root().join("wit").join(path);
    fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}
