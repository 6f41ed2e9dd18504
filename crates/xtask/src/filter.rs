//! Builds the filter: two modules from one crate, the same bytes wherever it is built.

use std::env;
use std::ffi::OsStr;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::{Path, PathBuf};

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
    let build = Build { toolchain, workspace, exceptions };
    Ok(Built {
        plain: build.artefact("tidegate", &[])?,
        standing: build.artefact("tidegate-standing", &["standing"])?,
    })
}

/// Builds the module that panics where a request asks for it. It is for tests, and never ships.
pub(crate) fn build_faulty(toolchain: &Toolchain, workspace: &Workspace) -> Result<Artefact> {
    let build = Build { toolchain, workspace, exceptions: Exceptions::Standard };
    build.artefact("tidegate-faults", &["faults"])
}

/// What a module is built with and where.
struct Build<'a> {
    toolchain: &'a Toolchain,
    workspace: &'a Workspace,
    exceptions: Exceptions,
}

impl Build<'_> {
    fn artefact(&self, name: &str, features: &[&str]) -> Result<Artefact> {
        let ending = match self.exceptions {
            Exceptions::Standard => "",
            Exceptions::Legacy => "-legacy-eh",
        };
        let places = places(self.toolchain, self.workspace)?;
        let linked = compile(self.toolchain, self.workspace, self.exceptions, features, &places)?;
        let path = self.workspace.target.join("filter").join(format!("{name}{ending}.wasm"));
        ship(&linked, path, self.exceptions, &places)
    }
}

/// Compiles and links; returns the module as the linker wrote it.
fn compile(
    toolchain: &Toolchain,
    workspace: &Workspace,
    exceptions: Exceptions,
    features: &[&str],
    places: &[Place],
) -> Result<Vec<u8>> {
    let ourselves = env::current_exe().context("cannot tell where this program is")?;
    let mut cargo = toolchain.cargo();
    // These would beat the profile in Cargo.toml.
    for (name, _) in env::vars_os().filter(|(name, _)| is_profile(name)) {
        cargo.env_remove(name);
    }
    command::run(
        cargo
            .current_dir(&workspace.root)
            .args(["build", "--package=tidegate-filter", "--profile=filter"])
            .args(["-Zbuild-std=std,panic_unwind", "--target", TARGET])
            .args(features.iter().map(|feature| format!("--features={feature}")))
            .env("CARGO_TARGET_DIR", &workspace.target)
            // This one beats every other way to set flags, so nobody's settings change the digest.
            .env("CARGO_ENCODED_RUSTFLAGS", rustflags(exceptions, places).join("\x1f"))
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", ourselves)
            .env(linker::REAL_LINKER, &toolchain.linker),
    )?;
    let linked = workspace.target.join(TARGET).join("filter/tidegate_filter.wasm");
    fs::read(&linked).with_context(|| format!("cannot read {}", linked.display()))
}

fn is_profile(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("CARGO_PROFILE_"))
}

fn rustflags(exceptions: Exceptions, places: &[Place]) -> Vec<String> {
    let legacy = exceptions == Exceptions::Legacy;
    let remap = |place: &Place| format!("--remap-path-prefix={}={}", place.path, place.shown_as);
    ["-Cpanic=unwind".to_owned(), format!("-Cllvm-args=-wasm-use-legacy-eh={legacy}")]
        .into_iter()
        .chain(places.iter().map(remap))
        .collect()
}

/// A folder that the compiler reads from. Panic messages carry source paths, and where a checkout,
/// a home or a toolchain lies must not show in the module.
#[derive(Debug)]
struct Place {
    path: String,
    shown_as: &'static str,
}

/// The last place that fits a path wins, so the narrower ones come later.
fn places(toolchain: &Toolchain, workspace: &Workspace) -> Result<Vec<Place>> {
    [(workspace.root.clone(), "/tidegate"), (workspace.target.clone(), "/target")]
        .into_iter()
        .chain([(toolchain.library.clone(), "/library")])
        .chain(crates()?.into_iter().map(|folder| (folder, "/crates")))
        .map(|(path, shown_as)| match path.to_str() {
            Some(path) => Ok(Place { path: path.to_owned(), shown_as }),
            None => bail!("{} is not UTF-8", path.display()),
        })
        .collect()
}

/// The folders into which cargo unpacks crates, one for each registry or mirror. This program was
/// built from crates, so they are there, but for a vendored build, which has none.
fn crates() -> Result<Vec<PathBuf>> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")));
    let sources = home.context("no CARGO_HOME and no home folder")?.join("registry/src");
    let Ok(entries) = fs::read_dir(&sources) else { return Ok(Vec::new()) };
    let mut folders = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    folders.sort(); // a new order would be new flags, and new flags a new build
    Ok(folders)
}

/// Trims the linked module and writes it to `path`.
fn ship(
    linked: &[u8],
    path: PathBuf,
    exceptions: Exceptions,
    places: &[Place],
) -> Result<Artefact> {
    let trimmed = module::trim(linked, exceptions)
        .with_context(|| format!("cannot make {}", path.display()))?;
    let bytes = trimmed.bytes.len();
    if bytes > BYTES_MAX {
        bail!("{} has {bytes} bytes, at most {BYTES_MAX} are allowed", path.display());
    }
    if let Some(place) = places.iter().find(|place| contains(&trimmed.bytes, &place.path)) {
        bail!("{} names {}: other machines would build other bytes", path.display(), place.path);
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

fn contains(module: &[u8], path: &str) -> bool {
    module.windows(path.len()).any(|window| window == path.as_bytes())
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // writing to a String cannot fail
        hex
    })
}
