//! Other programs: say which one runs, run it, name it when it fails.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `command` with its output shown, after printing the command line.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", line(command));
    let status = command.status().with_context(|| format!("cannot start `{}`", line(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", line(command));
    }
    Ok(())
}

/// Runs `command` silently and returns what it wrote to stdout.
///
/// # Errors
///
/// Names the command and carries the line of its stderr that says most.
pub(crate) fn read(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", line(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}`: {}", line(command), complaint(&stderr));
    }
    String::from_utf8(output.stdout)
        .with_context(|| format!("`{}` wrote bytes that are not UTF-8", line(command)))
}

/// Finds the executable file `name` in `PATH`.
pub(crate) fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|file| is_executable(file))
}

/// Whether [`apt_install`] may be tried: there is an apt-get, and we are root.
pub(crate) fn can_install() -> bool {
    in_path("apt-get").is_some()
        && read(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// Installs Debian packages. Callers have asked [`can_install`].
pub(crate) fn apt_install(packages: &[&str]) -> Result<()> {
    let install = || {
        let mut command = Command::new("apt-get");
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "--yes", "--quiet=2", "--no-install-recommends"])
            .args(packages);
        command
    };
    // Fresh images come without package lists: the first try may only fail for that.
    if run(&mut install()).is_ok() {
        return Ok(());
    }
    run(Command::new("apt-get").args(["update", "--quiet=2"]))?;
    run(&mut install())
}

/// Downloads a Debian package into a folder, which takes no rights if the lists are there.
pub(crate) fn apt_download(package: &str, folder: &Path) -> Result<()> {
    let download = || {
        let mut command = Command::new("apt-get");
        command.args(["download", "--quiet=2", package]).current_dir(folder);
        command
    };
    if run(&mut download()).is_ok() {
        return Ok(());
    }
    run(Command::new("apt-get").args(["update", "--quiet=2"]))?;
    run(&mut download())
}

/// The line marked as the error, as a backtrace may follow it; else the last line.
fn complaint(stderr: &str) -> &str {
    let mut lines = stderr.lines().map(str::trim).filter(|line| !line.is_empty());
    let marked = lines.clone().find(|line| line.starts_with("error"));
    marked.or_else(|| lines.next_back()).unwrap_or("no message")
}

fn is_executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn line(command: &Command) -> String {
    let mut line = command.get_program().display().to_string();
    for arg in command.get_args() {
        line.push(' ');
        line.push_str(&arg.to_string_lossy());
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_program_is_named_with_what_it_complained_of() {
        let error = read(Command::new("sh").args(["-c", "echo first >&2; echo last >&2; exit 3"]))
            .expect_err("exits 3");
        let error = format!("{error:#}");
        assert!(error.contains("`sh -c") && error.ends_with("last"), "{error}");

        assert_eq!(
            complaint("info: trying\nerror: no network\n  15: <unknown>\n"),
            "error: no network"
        );
        assert_eq!(complaint("\n"), "no message");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("tidegate-no-such-program")).expect_err("is not there");
        assert!(format!("{error:#}").contains("cannot start `tidegate-no-such-program`"));
    }
}
