//! A real Redis server of a test's own: on a free port, without a file on disk, killed when
//! dropped and when the test's thread ends. `sentinel` and `cluster` make whole sets of them.
//!
//! `TIDEGATE_REDIS_SERVER` names the program, otherwise the one on `PATH` is taken. Without any, a
//! test skips aloud, or fails if `TIDEGATE_REQUIRE_REAL=1`.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

pub mod cluster;
#[path = "../../../../tests/harness/ports.rs"]
mod ports;
pub mod sentinel;

use ports::TRIES;
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, kill_process, set_parent_process_death_signal, waitid,
};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The longest wait for a server to come up. Busy machines take a second.
const UP_MAX: Duration = Duration::from_secs(20);

/// The longest wait of a test for what must come.
pub const DEADLINE: Duration = Duration::from_secs(20);

pub struct Server {
    program: PathBuf,
    child: Option<Child>,
    pub port: u16,
    arguments: Vec<String>,
    password: Option<String>,
}

impl Server {
    /// An empty server, or `None` if there is no Redis here and the test is to be skipped.
    pub fn start() -> Option<Self> {
        Self::start_with(&[], None)
    }

    /// One with more arguments; `password` is the one to say, if they ask for any.
    pub fn start_with(arguments: &[&str], password: Option<&str>) -> Option<Self> {
        let program = program()?;
        for _ in 0..TRIES {
            let arguments = arguments.iter().map(|&argument| argument.into()).collect();
            let started = Self::start_as(program.clone(), free_port(), arguments, password);
            if started.is_some() {
                return started;
            }
        }
        panic!("redis-server did not start on any of {TRIES} ports");
    }

    /// One by a file that says all but the port for the test's own commands.
    pub fn start_with_file(file: &std::path::Path, arguments: &[&str]) -> Option<Self> {
        let program = program()?;
        let text = std::fs::read_to_string(file).unwrap();
        let mut all = vec![file.display().to_string()];
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        for _ in 0..TRIES {
            let port = free_port();
            std::fs::write(file, format!("port {port}\nbind 127.0.0.1\n{text}")).unwrap();
            if let Some(server) = Self::start_as(program.clone(), port, all.clone(), None) {
                return Some(server);
            }
        }
        panic!("redis-server did not start on any of {TRIES} ports");
    }

    /// One on that port; `None` if it ended by itself, as it does when the port was taken. A
    /// file among the arguments comes first, and says all.
    fn start_as(
        program: PathBuf,
        port: u16,
        arguments: Vec<String>,
        password: Option<&str>,
    ) -> Option<Self> {
        let password = password.map(str::to_owned);
        let mut server = Self { program, child: None, port, arguments, password };
        server.run().then_some(server)
    }

    /// What was said after an argument when it was started.
    pub fn argument(&self, name: &str) -> Option<&str> {
        let at = self.arguments.iter().position(|argument| argument == name)?;
        self.arguments.get(at + 1).map(String::as_str)
    }

    /// From now on `restart` starts it with these arguments.
    pub fn set_arguments(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|&argument| argument.into()).collect();
    }

    /// From now on commands say this password.
    pub fn set_password(&mut self, password: &str) {
        self.password = Some(password.to_owned());
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts it again on its port, empty.
    pub fn restart(&mut self) {
        self.kill();
        assert!(self.run(), "redis-server did not start again");
    }

    /// SIGSTOP: it accepts connections and says nothing, from when this returns. SIGCONT: it
    /// goes on.
    pub fn signal(&self, signal: Signal) {
        let process = Pid::from_child(self.child.as_ref().unwrap());
        kill_process(process, signal).unwrap();
        if signal == Signal::STOP {
            waitid(WaitId::Pid(process), WaitIdOptions::STOPPED).unwrap();
        }
    }

    /// Runs one command; the reply as on the wire, a bulk string's text without its length,
    /// an array's elements a line each.
    pub fn command(&self, words: &[&str]) -> String {
        self.try_command(words).unwrap()
    }

    /// As [`Self::command`], for a server that may not answer.
    pub fn try_command(&self, words: &[&str]) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(UP_MAX))?;
        let mut stream = BufReader::new(&mut stream);
        if let Some(password) = &self.password {
            let said = say(&mut stream, &["AUTH", password])?;
            assert_eq!(said, "+OK", "the password of the test");
        }
        say(&mut stream, words)
    }

    /// A field of `INFO`.
    pub fn info(&self, field: &str) -> String {
        let info = self.command(&["INFO", "all"]);
        let line = info.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {field} in {info}")).trim().to_owned()
    }

    /// Starts it; false if it ended by itself, as it does when its port was taken.
    fn run(&mut self) -> bool {
        let mut command = Command::new(&self.program);
        // A configuration file comes first; it then says all of this itself.
        if self.arguments.first().is_none_or(|first| first.starts_with("--")) {
            command
                .args(["--bind", "127.0.0.1", "--port", &self.port.to_string()])
                .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
                .args(["--enable-debug-command", "local"]);
        }
        command
            .args(&self.arguments)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // SAFETY: between fork and exec only prctl(2) runs, which is async-signal-safe.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let mut child = command.spawn().expect("redis-server starts");
        let end = Instant::now() + UP_MAX;
        loop {
            if child.try_wait().unwrap().is_some() {
                return false;
            }
            let pong = TcpStream::connect(("127.0.0.1", self.port)).and_then(|mut stream| {
                stream.set_read_timeout(Some(Duration::from_secs(1)))?;
                say(&mut BufReader::new(&mut stream), &["PING"])
            });
            if pong.is_ok_and(|pong| pong == "+PONG" || pong.starts_with("-NOAUTH")) {
                self.child = Some(child);
                return true;
            }
            assert!(Instant::now() < end, "redis-server does not answer");
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn say(stream: &mut BufReader<&mut TcpStream>, words: &[&str]) -> std::io::Result<String> {
    let mut request = format!("*{}\r\n", words.len());
    for word in words {
        request += &format!("${}\r\n{word}\r\n", word.len());
    }
    stream.get_mut().write_all(request.as_bytes())?;
    hear(stream)
}

fn hear(stream: &mut BufReader<&mut TcpStream>) -> std::io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let line = line.trim_end().to_owned();
    let count = |mark: char| line.strip_prefix(mark).map(|count| count.parse::<usize>());
    match (count('$'), count('*')) {
        (Some(Ok(length)), _) => {
            let mut bulk = vec![0; length + 2];
            stream.read_exact(&mut bulk)?;
            Ok(String::from_utf8_lossy(&bulk[..length]).into_owned())
        }
        (_, Some(Ok(count))) => {
            let lines: std::io::Result<Vec<_>> = (0..count).map(|_| hear(stream)).collect();
            Ok(lines?.join("\n"))
        }
        _ => Ok(line),
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    ports::free().unwrap().port()
}

/// Waits until `condition` is so, and says what was waited for if that does not come.
pub fn wait(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + UP_MAX;
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn program() -> Option<PathBuf> {
    let named = std::env::var_os("TIDEGATE_REDIS_SERVER").map(PathBuf::from);
    let found = named.or_else(|| {
        let folders = std::env::var_os("PATH")?;
        std::env::split_paths(&folders).map(|dir| dir.join("redis-server")).find(|p| p.is_file())
    });
    if found.is_none() {
        let must = std::env::var("TIDEGATE_REQUIRE_REAL").is_ok_and(|value| value == "1");
        assert!(!must, "no redis-server: install it, or set TIDEGATE_REDIS_SERVER");
        eprintln!("SKIPPED: no redis-server here; install it, or set TIDEGATE_REDIS_SERVER");
    }
    found
}

/// Waits until it is so; fails if that does not come.
pub async fn until(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "it did not come in time");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
