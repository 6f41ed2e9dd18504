//! Builds the filter: two modules from one crate, the same bytes wherever it is built.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::{env, iter};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::toolchain::Toolchain;
use crate::workspace::Workspace;
use crate::{command, linker, module, toolchain};

/// A bigger module takes Envoy longer to load, once for each worker thread.
const BYTES_MAX: usize = 250 * 1024;

const TARGET: &str = "wasm32-unknown-unknown";

/// Which opcodes a panic unwinds with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Exceptions {
    /// `try_table` and `throw_ref`: Envoy 1.40 and wasmtime take them.
    Standard,
    /// `try` and `catch`: what older Envoys take, and wasmtime refuses.
    Legacy,
}

/// The modules that were built.
#[derive(Debug)]
pub(crate) struct Built {
    /// The filter that never touches a response it lets through.
    pub plain: Artefact,
    /// The filter that can also write the standing into responses; every response costs it a
    /// callback.
    pub standing: Artefact,
}

/// One module on disk.
#[derive(Debug)]
pub(crate) struct Artefact {
    pub path: PathBuf,
    pub bytes: usize,
    /// SHA-256, in hex.
    pub digest: String,
    /// As Envoy sees them.
    pub exports: Vec<String>,
}

impl fmt::Display for Artefact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.path.display())?;
        writeln!(f, "  size     {} bytes, at most {BYTES_MAX}", self.bytes)?;
        writeln!(f, "  sha256   {}", self.digest)?;
        writeln!(f, "  exports  {}", self.exports.join(" "))
    }
}

impl fmt::Display for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.plain, self.standing)
    }
}

/// Builds both modules of `workspace` into its target folder.
pub(crate) fn build(workspace: &Workspace, exceptions: Exceptions) -> Result<Built> {
    let toolchain = toolchain::find()?;
    build_with(&toolchain, workspace, exceptions)
}

/// [`build`] with a toolchain that was found before.
pub(crate) fn build_with(
    toolchain: &Toolchain,
    workspace: &Workspace,
    exceptions: Exceptions,
) -> Result<Built> {
    let ending = match exceptions {
        Exceptions::Standard => "",
        Exceptions::Legacy => "-legacy-eh",
    };
    let artefact = |name: &str, features: &[&str]| {
        let linked = compile(toolchain, workspace, exceptions, features)?;
        let path = workspace.target.join("filter").join(format!("{name}{ending}.wasm"));
        ship(&linked, path, exceptions)
    };
    Ok(Built {
        plain: artefact("tidegate", &[])?,
        standing: artefact("tidegate-standing", &["standing"])?,
    })
}

/// Compiles and links; returns the module as the linker wrote it.
fn compile(
    toolchain: &Toolchain,
    workspace: &Workspace,
    exceptions: Exceptions,
    features: &[&str],
) -> Result<Vec<u8>> {
    let ourselves = env::current_exe().context("cannot tell where this program is")?;
    let flags = rustflags(toolchain, workspace, exceptions)?;
    command::run(
        toolchain
            .cargo()
            .current_dir(&workspace.root)
            .args(["build", "--package=tidegate-filter", "--profile=filter"])
            .args(["-Zbuild-std=std,panic_unwind", "--target", TARGET])
            .args(features.iter().map(|feature| format!("--features={feature}")))
            .env("CARGO_TARGET_DIR", &workspace.target)
            // This one beats every other way to set flags, so nobody's settings change the digest.
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", ourselves)
            .env(linker::REAL_LINKER, &toolchain.linker),
    )?;
    let linked = workspace.target.join(TARGET).join("filter/tidegate_filter.wasm");
    fs::read(&linked).with_context(|| format!("cannot read {}", linked.display()))
}

fn rustflags(
    toolchain: &Toolchain,
    workspace: &Workspace,
    exceptions: Exceptions,
) -> Result<Vec<String>> {
    let legacy = exceptions == Exceptions::Legacy;
    let mut flags =
        vec!["-Cpanic=unwind".to_owned(), format!("-Cllvm-args=-wasm-use-legacy-eh={legacy}")];
    // Panic messages carry source paths. Where a checkout, a home or a toolchain lies must not
    // show in the module. The last mapping that fits wins, so the narrower ones come later.
    let mappings = iter::once((workspace.root.clone(), "/tidegate"))
        .chain([(workspace.target.clone(), "/target"), (toolchain.library.clone(), "/library")])
        .chain(crates(&toolchain.cargo, workspace)?.into_iter().map(|folder| (folder, "/crates")));
    for (from, to) in mappings {
        let from = from.to_str().with_context(|| format!("{} is not UTF-8", from.display()))?;
        flags.push(format!("--remap-path-prefix={from}={to}"));
    }
    Ok(flags)
}

/// The folders into which cargo unpacks crates, one for each registry or mirror.
fn crates(cargo: &Path, workspace: &Workspace) -> Result<Vec<PathBuf>> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let sources = home.context("no CARGO_HOME and no home folder")?.join("registry/src");
    if !sources.is_dir() {
        // A fresh machine: the folders' names are known once something was unpacked.
        let mut fetch = std::process::Command::new(cargo);
        command::run(fetch.arg("fetch").current_dir(&workspace.root))?;
    }
    let entries =
        fs::read_dir(&sources).with_context(|| format!("cannot read {}", sources.display()))?;
    let mut folders = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    folders.sort();
    Ok(folders)
}

/// Trims the linked module and writes it to `path`.
fn ship(linked: &[u8], path: PathBuf, exceptions: Exceptions) -> Result<Artefact> {
    let trimmed = module::trim(linked, exceptions)
        .with_context(|| format!("cannot make {}", path.display()))?;
    let bytes = trimmed.bytes.len();
    if bytes > BYTES_MAX {
        bail!("{} has {bytes} bytes, at most {BYTES_MAX} are allowed", path.display());
    }
    write_if_changed(&path, &trimmed.bytes)?;
    Ok(Artefact { path, bytes, digest: sha256(&trimmed.bytes), exports: trimmed.exports })
}

/// A running Envoy may read the file: leave it alone when nothing changed, never show it half
/// written.
fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let folder = path.parent().context("an artefact lies in a folder")?;
    let draft = path.with_extension("wasm.new");
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&draft, bytes))
        .and_then(|()| fs::rename(&draft, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // writing to a String cannot fail
        hex
    })
}
