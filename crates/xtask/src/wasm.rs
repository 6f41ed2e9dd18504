//! Compiles a crate for wasm, with the standard library from source and no trace of this machine.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::toolchain::Toolchain;
use crate::workspace::Workspace;
use crate::{command, linker};

const TARGET: &str = "wasm32-unknown-unknown";

/// Cargo's name for the choice of a linker for [`TARGET`].
const LINKER: &str = "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER";

/// Which opcodes a panic unwinds with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Exceptions {
    /// `try_table` and `throw_ref`: Envoy 1.40 and wasmtime take them.
    Standard,
    /// `try` and `catch`: what older Envoys take, and wasmtime refuses.
    Legacy,
}

/// What a panic does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Panics {
    /// It unwinds, to be caught at the callback's edge.
    Unwind(Exceptions),
    /// It traps, and its instance is gone: a component's host makes another.
    Abort,
}

impl Panics {
    /// The profile in Cargo.toml.
    const fn profile(self) -> &'static str {
        match self {
            Self::Unwind(_) => "filter",
            Self::Abort => "component",
        }
    }

    const fn library(self) -> &'static str {
        match self {
            Self::Unwind(_) => "-Zbuild-std=std,panic_unwind",
            Self::Abort => "-Zbuild-std=std,panic_abort",
        }
    }

    fn flags(self) -> Vec<String> {
        match self {
            Self::Unwind(exceptions) => {
                let legacy = exceptions == Exceptions::Legacy;
                let opcodes = format!("-Cllvm-args=-wasm-use-legacy-eh={legacy}");
                vec!["-Cpanic=unwind".to_owned(), opcodes]
            }
            Self::Abort => vec!["-Cpanic=abort".to_owned()],
        }
    }
}

/// A crate of ours that is built for wasm.
pub(crate) struct Package<'a> {
    pub name: &'a str,
    pub features: &'a [&'a str],
    pub linking: Linking,
}

/// Who links.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Linking {
    /// The real linker.
    Plain,
    /// This program in its place, which drops exports: see [`linker`].
    Trimmed,
}

/// Compiles and links; returns the module as the linker wrote it.
pub(crate) fn compile(
    toolchain: &Toolchain,
    workspace: &Workspace,
    panics: Panics,
    package: &Package<'_>,
    places: &[Place],
) -> Result<Vec<u8>> {
    cargo_build(toolchain, workspace, panics, package, places, &["--package", package.name])?;
    let file = format!("{}.wasm", package.name.replace('-', "_"));
    let linked = built(workspace, panics).join(file);
    fs::read(&linked).with_context(|| format!("cannot read {}", linked.display()))
}

/// As [`compile`], for the examples of a package, which are modules each; with their names.
pub(crate) fn compile_examples(
    toolchain: &Toolchain,
    workspace: &Workspace,
    panics: Panics,
    package: &Package<'_>,
    places: &[Place],
) -> Result<Vec<(String, Vec<u8>)>> {
    cargo_build(toolchain, workspace, panics, package, places, &["--examples", "--locked"])?;
    let sources = fs::read_dir(workspace.root.join("examples"))?;
    let module = |source: std::io::Result<fs::DirEntry>| {
        let source = source?.path();
        let name = source.file_stem().and_then(OsStr::to_str).context("an example's name")?;
        let linked = built(workspace, panics).join("examples").join(format!("{name}.wasm"));
        let module =
            fs::read(&linked).with_context(|| format!("cannot read {}", linked.display()))?;
        Ok((name.to_owned(), module))
    };
    sources.map(module).collect()
}

fn built(workspace: &Workspace, panics: Panics) -> PathBuf {
    workspace.target.join(TARGET).join(panics.profile())
}

fn cargo_build(
    toolchain: &Toolchain,
    workspace: &Workspace,
    panics: Panics,
    package: &Package<'_>,
    places: &[Place],
    what: &[&str],
) -> Result<()> {
    let ourselves = env::current_exe().context("cannot tell where this program is")?;
    let trimmed = package.linking == Linking::Trimmed;
    let linker = if trimmed { &ourselves } else { &toolchain.linker };
    let mut cargo = toolchain.cargo();
    // These would beat the profile in Cargo.toml.
    for (name, _) in env::vars_os().filter(|(name, _)| is_profile(name)) {
        cargo.env_remove(name);
    }
    command::run(
        cargo
            .current_dir(&workspace.root)
            .arg("build")
            .args(what)
            .args(["--profile", panics.profile(), panics.library(), "--target", TARGET])
            .args(package.features.iter().map(|feature| format!("--features={feature}")))
            .env("CARGO_TARGET_DIR", &workspace.target)
            // This one beats every other way to set flags, so nobody's settings change the digest.
            .env("CARGO_ENCODED_RUSTFLAGS", rustflags(panics, places).join("\x1f"))
            .env(LINKER, linker)
            .envs(trimmed.then_some((linker::REAL_LINKER, &toolchain.linker))),
    )
}

fn is_profile(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("CARGO_PROFILE_"))
}

/// SHA-256 in a loop: unrolled, its 64 rounds are 6 KiB of the module. It names a global key's
/// budget the first time that a worker sees it lately.
const SHORT_SHA_2: &str = "--cfg=sha2_backend_soft=\"compact\"";

fn rustflags(panics: Panics, places: &[Place]) -> Vec<String> {
    let remap = |place: &Place| format!("--remap-path-prefix={}={}", place.path, place.shown_as);
    let flags = panics.flags().into_iter().chain([SHORT_SHA_2.to_owned()]);
    flags.chain(places.iter().map(remap)).collect()
}

/// A folder that the compiler reads from. Panic messages carry source paths, and where a checkout,
/// a home or a toolchain lies must not show in the module.
#[derive(Debug)]
pub(crate) struct Place {
    pub path: String,
    shown_as: &'static str,
}

/// The last place that fits a path wins, so the narrower ones come later.
pub(crate) fn places(toolchain: &Toolchain, workspace: &Workspace) -> Result<Vec<Place>> {
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

/// Refuses bytes that tell where they were built.
pub(crate) fn check_names_no_place(path: &Path, bytes: &[u8], places: &[Place]) -> Result<()> {
    let names = |place: &&Place| {
        bytes.windows(place.path.len()).any(|window| window == place.path.as_bytes())
    };
    match places.iter().find(names) {
        Some(place) => {
            bail!("{} names {}: other machines would build other bytes", path.display(), place.path)
        }
        None => Ok(()),
    }
}

/// A running Envoy may read the file: leave it alone when nothing changed, never show it half
/// written.
pub(crate) fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<()> {
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
