//! The host service as an operator runs it: `tidegate serve`, set by its environment.

use crate::process::Process;
use crate::redis::{PASSWORD, Redis};
use crate::{Result, client, parts, ports, wait};
use anyhow::{bail, ensure};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::str::FromStr;
use std::time::Duration;
use tempfile::TempDir;

/// A running host service; it is killed when dropped.
pub struct Host {
    program: PathBuf,
    asks: SocketAddr,
    admin: SocketAddr,
    environment: Environment,
    config: String,
    process: Process,
    folder: TempDir,
}

/// Variables, `TIDEGATE_…`, and their values.
pub type Environment = Vec<(&'static str, String)>;

impl Host {
    /// Starts one that keeps the truth in its own memory, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// If it does not build or come up.
    pub async fn on_memory() -> Result<Self> {
        Self::with(vec![("TIDEGATE_PROVIDER", "memory".to_owned())]).await
    }

    /// Starts one that keeps the truth in `redis`, and waits until it is ready. It is more
    /// patient with Redis than by default, so that a busy machine is not taken for a fault.
    ///
    /// # Errors
    ///
    /// If it does not build or come up.
    pub async fn on_redis(redis: &Redis) -> Result<Self> {
        Self::with(patient(redis)).await
    }

    /// As [`Self::on_redis`], with the default timeouts: for tests about them.
    ///
    /// # Errors
    ///
    /// If it does not build or come up.
    pub async fn on_redis_by_default(redis: &Redis) -> Result<Self> {
        Self::with(of(redis)).await
    }

    /// Starts one that is set like this, and waits until it is ready. Nothing else of
    /// `TIDEGATE_…` is set, but where it listens.
    ///
    /// # Errors
    ///
    /// If it does not build or come up.
    pub async fn with(environment: Environment) -> Result<Self> {
        Self::with_file(environment, "").await
    }

    /// The same with a configuration file of this text, unless it is empty.
    ///
    /// # Errors
    ///
    /// If it does not build or come up.
    pub async fn with_file(environment: Environment, config: &str) -> Result<Self> {
        Self::with_file_within(wait::PATIENCE, environment, config).await
    }

    /// The same of one that has much to do before it is ready.
    ///
    /// # Errors
    ///
    /// If it does not build, or come up in this time.
    pub async fn with_file_within(
        patience: Duration,
        environment: Environment,
        config: &str,
    ) -> Result<Self> {
        let program = parts::host()?;
        for _ in 0..ports::TRIES {
            let folder = tempfile::tempdir()?;
            let (asks, admin) = (ports::free()?, ports::free()?);
            let process = serve(&program, asks, admin, (&environment, config), &folder)?;
            let (program, environment) = (program.clone(), environment.clone());
            let config = config.to_owned();
            let mut host = Self { program, asks, admin, environment, config, process, folder };
            if host.is_up(patience).await? {
                return Ok(host);
            }
        }
        bail!("the host service did not come up in {} tries", ports::TRIES)
    }

    /// Where asks go.
    pub fn address(&self) -> SocketAddr {
        self.asks
    }

    /// Where `/metrics` and `/readyz` are.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// A series of its metrics, as it is written there; 0 if it is not there.
    ///
    /// # Errors
    ///
    /// If it cannot be reached.
    pub async fn metric(&self, series: &str) -> Result<u64> {
        self.number(series).await
    }

    /// The same of one that need not be whole.
    ///
    /// # Errors
    ///
    /// If it cannot be reached.
    pub async fn seconds(&self, series: &str) -> Result<f64> {
        self.number(series).await
    }

    async fn number<T>(&self, series: &str) -> Result<T>
    where
        T: FromStr<Err: std::error::Error + Send + Sync + 'static> + Default,
    {
        let page = client::Client::http1(self.admin).await?.send(client::get("/metrics")).await?;
        let page = String::from_utf8(page.body.to_vec())?;
        let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(value.map_or(Ok(T::default()), str::parse)?)
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Sends a signal: `STOP` makes a host that accepts connections and says nothing.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Kills it; connecting is refused from now on.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Has it end in its own time, as whoever deploys it does, and waits until it has.
    ///
    /// # Errors
    ///
    /// If it does not, or says that something went wrong.
    pub async fn end(&mut self) -> Result<()> {
        self.process.signal(Signal::TERM)?;
        let process = &mut self.process;
        let status = wait::until("the host service to end", async || process.ended().transpose());
        let status = status.await??;
        ensure!(status.success(), "the host service ended with {status}");
        Ok(())
    }

    /// Starts it again on the same addresses, after [`Self::kill`] or [`Self::end`], and waits
    /// until it is ready.
    ///
    /// # Errors
    ///
    /// If it does not come up.
    pub async fn revive(&mut self) -> Result<()> {
        self.revive_within(wait::PATIENCE).await
    }

    /// The same of one that has much to read.
    ///
    /// # Errors
    ///
    /// If it does not come up in this time.
    pub async fn revive_within(&mut self, patience: Duration) -> Result<()> {
        self.process = serve(
            &self.program,
            self.asks,
            self.admin,
            (&self.environment, &self.config),
            &self.folder,
        )?;
        if self.is_up(patience).await? {
            return Ok(());
        }
        bail!("the host service did not come back")
    }

    /// False if it ended, as it does when a port was taken.
    async fn is_up(&mut self, patience: Duration) -> Result<bool> {
        let admin = self.admin;
        let state = wait::within(patience, "the host service to be ready", async || {
            if !matches!(self.process.ended(), Ok(None)) {
                return Some(false);
            }
            let mut client = client::Client::http1(admin).await.ok()?;
            let answer = client.send(client::get("/readyz")).await.ok()?;
            answer.status.is_success().then_some(true)
        });
        state.await
    }
}

/// What a host is told of a Redis under sentinels, which listen on these ports of this machine;
/// passwords are the servers' and theirs.
pub fn of_sentinels(
    ports: impl Iterator<Item = u16>,
    master: &str,
    [password, sentinel_password]: [&str; 2],
) -> Environment {
    let sentinels = ports.map(|port| format!("127.0.0.1:{port}"));
    vec![
        ("TIDEGATE_PROVIDER", "redis".to_owned()),
        ("TIDEGATE_REDIS_SENTINEL_HOSTS", sentinels.collect::<Vec<_>>().join(",")),
        ("TIDEGATE_REDIS_SENTINEL_MASTER", master.to_owned()),
        ("TIDEGATE_REDIS_SENTINEL_PASSWORD", sentinel_password.to_owned()),
        ("TIDEGATE_REDIS_PASSWORD", password.to_owned()),
    ]
}

/// What a host is told of a Redis with which it is patient.
pub fn patient(redis: &Redis) -> Environment {
    let patience = ["TIDEGATE_REDIS_READ_TIMEOUT", "TIDEGATE_REDIS_POOL_TIMEOUT"];
    let patience = patience.map(|name| (name, "30s".to_owned()));
    [of(redis), patience.to_vec()].concat()
}

/// What a host is told of a Redis.
fn of(redis: &Redis) -> Environment {
    vec![
        ("TIDEGATE_PROVIDER", "redis".to_owned()),
        ("TIDEGATE_REDIS_ADDRESSES", redis.address().to_string()),
        ("TIDEGATE_REDIS_PASSWORD", PASSWORD.to_owned()),
    ]
}

fn serve(
    program: &PathBuf,
    asks: SocketAddr,
    admin: SocketAddr,
    (environment, config): (&Environment, &str),
    folder: &TempDir,
) -> Result<Process> {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TIDEGATE_") {
            command.env_remove(name);
        }
    }
    command.arg("serve").current_dir(folder.path());
    if !config.is_empty() {
        std::fs::write(folder.path().join("tidegate.yaml"), config)?;
        command.args(["--config", "tidegate.yaml"]);
    }
    command.env("TIDEGATE_LISTEN", asks.to_string()).env("TIDEGATE_ADMIN", admin.to_string());
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    Process::start("tidegate", &mut command, folder.path())
}
