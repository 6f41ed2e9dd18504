//! A real Redis of one's own, empty, on a free port, with a password.

use crate::process::Process;
use crate::{Result, parts, ports, wait};
use anyhow::{Context, bail};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

/// What clients must say to be heard.
pub const PASSWORD: &str = "a-secret-of-the-tests";

/// A running Redis; it is killed, and its data gone, when dropped.
pub struct Redis {
    program: PathBuf,
    address: SocketAddr,
    process: Process,
    // Dropped last: the process still writes its log there.
    folder: TempDir,
}

impl Redis {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    ///
    /// [`parts::Missing`], or if it does not come up.
    pub async fn start() -> Result<Self> {
        let program = parts::redis()?;
        for _ in 0..ports::TRIES {
            let folder = tempfile::tempdir()?;
            let address = ports::free()?;
            let process = run(&program, address, folder.path())?;
            let mut redis = Self { program: program.clone(), address, process, folder };
            if redis.is_up().await? {
                return Ok(redis);
            }
        }
        bail!("Redis did not come up in {} tries, each on another port", ports::TRIES)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal: `STOP` makes a Redis that accepts connections and says nothing.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Kills it, and its data with it.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again at the same place, empty, and waits until it answers.
    ///
    /// # Errors
    ///
    /// If it does not come up: somebody may have taken its port.
    pub async fn revive(&mut self) -> Result<()> {
        self.process = run(&self.program, self.address, self.folder.path())?;
        if !self.is_up().await? {
            bail!("Redis did not come up again:\n{}", self.process.log());
        }
        Ok(())
    }

    /// Runs one command; the reply's lines as Redis wrote them (`+OK`, `:3`, `$-1` …).
    ///
    /// # Errors
    ///
    /// If it cannot be reached.
    pub async fn command(&self, words: &[&str]) -> Result<Vec<String>> {
        self.command_as(PASSWORD, words).await
    }

    /// As [`Self::command`], where the password has become another.
    ///
    /// # Errors
    ///
    /// As [`Self::command`].
    pub async fn command_as(&self, password: &str, words: &[&str]) -> Result<Vec<String>> {
        let mut stream = BufStream::new(TcpStream::connect(self.address).await?);
        for words in [&["AUTH", password], words, &["QUIT"]] {
            stream.write_all(format!("*{}\r\n", words.len()).as_bytes()).await?;
            for word in words {
                let bulk = format!("${}\r\n{word}\r\n", word.len());
                stream.write_all(bulk.as_bytes()).await?;
            }
        }
        stream.flush().await?;
        let mut authenticated = String::new();
        stream.read_line(&mut authenticated).await?;
        if authenticated.trim() != "+OK" {
            bail!("Redis says {authenticated:?} to the password");
        }
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).await?;
        let reply = String::from_utf8_lossy(&reply);
        let reply = reply.strip_suffix("+OK\r\n").context("Redis's goodbye")?;
        Ok(reply.lines().map(str::to_owned).collect())
    }

    /// False if it ended, as it does when the port was taken.
    async fn is_up(&mut self) -> Result<bool> {
        let state = wait::until("Redis to answer PING", async || {
            if !matches!(self.process.ended(), Ok(None)) {
                return Some(false);
            }
            let reply = self.command(&["PING"]).await.ok()?;
            (reply == ["+PONG"]).then_some(true)
        });
        state.await
    }
}

fn run(program: &Path, address: SocketAddr, folder: &Path) -> Result<Process> {
    let mut command = Command::new(program);
    command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
    command.args(["--save", "", "--appendonly", "no", "--requirepass", PASSWORD]);
    command.arg("--dir").arg(folder).arg("--logfile").arg("");
    Process::start("redis", &mut command, folder)
}
