//! Where the real parts are: Envoy, the filter, the host service, Redis.

use crate::Result;
use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A part that this machine lacks. A test that meets it skips aloud.
#[derive(Debug)]
pub struct Missing {
    part: &'static str,
    hint: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not here; {}", self.part, self.hint)
    }
}

impl std::error::Error for Missing {}

/// The workspace's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."))
}

/// Cargo's target folder: the one this very program was built into.
pub fn target() -> PathBuf {
    // target/debug/deps/e2e-0123, or target/debug/demo.
    let found = env::current_exe().ok().and_then(|exe| {
        let folder = exe.parent()?;
        let profile = if folder.ends_with("deps") { folder.parent()? } else { folder };
        Some(profile.parent()?.to_owned())
    });
    found.unwrap_or_else(|| root().join("target"))
}

/// Envoy: `TIDEGATE_ENVOY`, else the one that `cargo xtask` fetched, else the one on `PATH`.
///
/// # Errors
///
/// [`Missing`].
pub fn envoy() -> Result<PathBuf> {
    let hint = "`cargo xtask tools` fetches it, or set TIDEGATE_ENVOY";
    named("TIDEGATE_ENVOY", "Envoy", hint, || {
        [target(), root().join("target")]
            .iter()
            .find_map(|target| beneath(&target.join("tools/envoy"), "envoy"))
            .or_else(|| on_path("envoy"))
    })
}

/// The filter: `TIDEGATE_FILTER`, else what `cargo xtask` built.
///
/// # Errors
///
/// [`Missing`].
pub fn filter() -> Result<PathBuf> {
    let hint = "`cargo xtask build filter` builds it, or set TIDEGATE_FILTER";
    named("TIDEGATE_FILTER", "the filter", hint, || built("tidegate.wasm"))
}

/// The component: `TIDEGATE_COMPONENT`, else what `cargo xtask` built.
///
/// # Errors
///
/// [`Missing`].
pub fn component() -> Result<PathBuf> {
    let hint = "`cargo xtask build component` builds it, or set TIDEGATE_COMPONENT";
    named("TIDEGATE_COMPONENT", "the component", hint, || {
        let folders = [target(), root().join("target")];
        let files = folders.map(|target| target.join("component/tidegate.component.wasm"));
        files.into_iter().find(|path| path.is_file())
    })
}

/// The build of the filter that also tells standings on responses it lets through:
/// `TIDEGATE_FILTER_STANDING`, else what `cargo xtask` built.
///
/// # Errors
///
/// [`Missing`].
pub fn filter_standing() -> Result<PathBuf> {
    let hint = "`cargo xtask build filter` builds it, or set TIDEGATE_FILTER_STANDING";
    named("TIDEGATE_FILTER_STANDING", "the filter's standing build", hint, || {
        built("tidegate-standing.wasm")
    })
}

/// The build of the filter that panics where a request asks for it:
/// `TIDEGATE_FILTER_FAULTS`, else what `cargo xtask test` built.
///
/// # Errors
///
/// [`Missing`].
pub fn filter_faults() -> Result<PathBuf> {
    let hint = "`cargo xtask test` builds it, or set TIDEGATE_FILTER_FAULTS";
    named("TIDEGATE_FILTER_FAULTS", "the filter's faulty build", hint, || {
        built("tidegate-faults.wasm")
    })
}

/// The tools that make and run components in other languages: the folder `TIDEGATE_FOREIGN`, else
/// what `cargo xtask` fetched.
///
/// # Errors
///
/// [`Missing`].
pub fn foreign() -> Result<PathBuf> {
    let hint = "`cargo xtask test --only foreign` fetches them, or set TIDEGATE_FOREIGN";
    let named = env::var_os("TIDEGATE_FOREIGN").map(PathBuf::from);
    let fetched = [target(), root().join("target")].map(|target| target.join("tools/foreign"));
    let found = named.into_iter().chain(fetched).find(|folder| folder.is_dir());
    Ok(found.ok_or(Missing { part: "what makes components in other languages", hint })?)
}

/// A filter of the conformance tests, by its name: in the folder `TIDEGATE_GUESTS`, else what
/// `cargo xtask` built.
///
/// # Errors
///
/// [`Missing`].
pub fn guest(name: &str) -> Result<PathBuf> {
    let hint = "`cargo xtask build guests` builds it, or set TIDEGATE_GUESTS";
    let file = format!("{name}.wasm");
    let beside = env::var_os("TIDEGATE_GUESTS").map(PathBuf::from);
    let folders = [target().join("guests"), root().join("target/guests")];
    let mut places = beside.into_iter().chain(folders).map(|folder| folder.join(&file));
    let found = places.find(|path| path.is_file());
    Ok(found.ok_or(Missing { part: "a filter of the tests", hint })?)
}

/// Redis's server: `TIDEGATE_REDIS_SERVER`, else the one on `PATH`.
///
/// # Errors
///
/// [`Missing`].
pub fn redis() -> Result<PathBuf> {
    let hint = "install Redis, or set TIDEGATE_REDIS_SERVER";
    named("TIDEGATE_REDIS_SERVER", "redis-server", hint, || on_path("redis-server"))
}

/// Redis's command line, by which scripts ask it: `TIDEGATE_REDIS_CLI`, else the one on `PATH`.
///
/// # Errors
///
/// [`Missing`].
pub fn redis_cli() -> Result<PathBuf> {
    let hint = "install Redis's tools, or set TIDEGATE_REDIS_CLI";
    named("TIDEGATE_REDIS_CLI", "redis-cli", hint, || on_path("redis-cli"))
}

/// Redis's own measure: the one on `PATH`.
///
/// # Errors
///
/// [`Missing`].
pub fn redis_benchmark() -> Result<PathBuf> {
    let hint = "install Redis's tools";
    Ok(on_path("redis-benchmark").ok_or(Missing { part: "redis-benchmark", hint })?)
}

/// The host service's program, built here once so that nobody has to be told to.
///
/// # Errors
///
/// If it does not build.
pub fn host() -> Result<PathBuf> {
    static BUILT: OnceLock<Built> = OnceLock::new();
    let built = BUILT.get_or_init(|| program("TIDEGATE_HOST", "tidegate"));
    built.clone().map_err(anyhow::Error::msg)
}

/// The example of a server in Rust, in the same way.
///
/// # Errors
///
/// If it does not build.
pub fn edge_server() -> Result<PathBuf> {
    static BUILT: OnceLock<Built> = OnceLock::new();
    let built = BUILT.get_or_init(|| program("TIDEGATE_EDGE_SERVER", "edge-server"));
    built.clone().map_err(anyhow::Error::msg)
}

type Built = std::result::Result<PathBuf, String>;

/// The program that a variable names, else that of the package of this name, built.
fn program(variable: &str, name: &str) -> Built {
    if let Some(path) = env::var_os(variable) {
        return Ok(path.into());
    }
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--package", name, "--bin", name, "--target-dir"])
        .arg(target())
        .current_dir(root())
        .status()
        .map_err(|error| format!("cannot run cargo to build {name}: {error}"))?;
    if !status.success() {
        return Err(format!("{name} does not build"));
    }
    Ok(target().join("debug").join(name))
}

fn named(
    variable: &str,
    part: &'static str,
    hint: &'static str,
    look: impl FnOnce() -> Option<PathBuf>,
) -> Result<PathBuf> {
    let found = env::var_os(variable).map(PathBuf::from).or_else(look);
    Ok(found.filter(|path| path.is_file()).ok_or(Missing { part, hint })?)
}

fn built(file: &str) -> Option<PathBuf> {
    [target(), root().join("target")]
        .iter()
        .map(|target| target.join("filter").join(file))
        .find(|path| path.is_file())
}

fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// A file of this name at any depth: the wheel that Envoy comes in has folders of its own.
fn beneath(folder: &Path, file: &str) -> Option<PathBuf> {
    let entries: Vec<PathBuf> =
        folder.read_dir().ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let here = entries.iter().find(|path| path.is_file() && path.ends_with(file)).cloned();
    here.or_else(|| entries.iter().filter(|path| path.is_dir()).find_map(|at| beneath(at, file)))
}
