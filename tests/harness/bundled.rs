//! The filter's other home: `tidegate proxy`, set by a file as an operator would.

use crate::client::Client;
use crate::process::Process;
use crate::{Result, client, parts, ports, wait};
use anyhow::{Context, bail};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The first proxy compiles the filter for all of them, by a compiler that is not optimised: some
/// ten seconds, several times that on a busy machine.
const COMPILES_WITHIN: std::time::Duration = std::time::Duration::from_secs(90);

/// A running proxy; it is killed when dropped.
pub struct Bundled {
    listeners: Vec<SocketAddr>,
    admin: SocketAddr,
    process: Process,
    folder: TempDir,
}

impl Bundled {
    /// Starts one with this configuration, whose listeners get addresses of their own, and
    /// waits until it is ready.
    ///
    /// # Errors
    ///
    /// If it does not build or come up; its own words included.
    pub async fn start(config: &Value) -> Result<Self> {
        let program = parts::host()?;
        for _ in 0..ports::TRIES {
            let folder = tempfile::tempdir()?;
            let (listeners, admin) = (addresses(config)?, ports::free()?);
            fs::write(file(folder.path()), whole(config, &listeners, admin).to_string())?;
            let process = run(&program, folder.path())?;
            let mut proxy = Self { listeners, admin, process, folder };
            if proxy.is_up().await? {
                return Ok(proxy);
            }
            let log = proxy.process.log();
            // Somebody was faster; anything else would happen again.
            if !log.contains("in use") {
                bail!("the proxy ended at once:\n{log}");
            }
        }
        bail!("the proxy did not come up in {} tries", ports::TRIES)
    }

    /// Where its listeners serve, in the configuration's order.
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.listeners
    }

    /// Where its operator's pages are.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// What it has written to its standard output: the access log.
    pub fn out(&self) -> String {
        self.process.out()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    ///
    /// If the system does not know it.
    pub fn ended(&mut self) -> Result<Option<std::process::ExitStatus>> {
        self.process.ended()
    }

    /// Replaces its configuration file, for which it looks itself; the listeners stay. False
    /// if it is the same as before.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn rewrite(&self, config: &Value) -> Result<bool> {
        let (beside, file) = (self.folder.path().join("new"), file(self.folder.path()));
        let text = whole(config, &self.listeners, self.admin).to_string();
        if fs::read_to_string(&file)? == text {
            return Ok(false);
        }
        fs::write(&beside, text)?;
        fs::rename(beside, file)?;
        Ok(true)
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// False if it ended, as it does when a port was taken.
    async fn is_up(&mut self) -> Result<bool> {
        let admin = self.admin;
        wait::within(COMPILES_WITHIN, "the proxy to be ready", async || {
            if !matches!(self.process.ended(), Ok(None)) {
                return Some(false);
            }
            let mut client = Client::http1(admin).await.ok()?;
            let answer = client.send(client::get("/readyz")).await.ok()?;
            answer.status.is_success().then_some(true)
        })
        .await
    }
}

/// The program with a file, ready to be started; modules are kept in `folder`.
///
/// # Errors
///
/// [`parts::Missing`].
pub fn command(program: &Path, folder: &Path) -> Result<Command> {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    command.env("TIDEGATE_FILTER", parts::filter()?);
    command.args(["proxy", "--settings"]).arg(file(folder));
    command.arg("--cache").arg(cache()).current_dir(folder);
    Ok(command)
}

/// A configuration whose listeners are at `listeners`.
pub fn whole(config: &Value, listeners: &[SocketAddr], admin: SocketAddr) -> Value {
    let mut config = config.clone();
    config["admin"] = json!(admin.to_string());
    for (place, address) in listeners.iter().enumerate() {
        config["listeners"][place]["address"] = json!(address.to_string());
    }
    config
}

/// Where the configuration lies in a folder.
pub fn file(folder: &Path) -> PathBuf {
    folder.join("proxy.yaml")
}

fn run(program: &Path, folder: &Path) -> Result<Process> {
    Process::start("proxy", &mut command(program, folder)?, folder)
}

fn addresses(config: &Value) -> Result<Vec<SocketAddr>> {
    let listeners = config["listeners"].as_array().context("listeners")?;
    listeners.iter().map(|_| Ok(ports::free()?)).collect()
}

/// Compiled modules, shared by all tests: what it is for.
fn cache() -> PathBuf {
    parts::target().join("modules")
}
