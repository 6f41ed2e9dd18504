//! The real binary as a child process, and callers of it. Nothing here sleeps: everything
//! waits for a condition, with a deadline.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use tidegate_core::ask::{Ask, Item, LimitTag};
use tidegate_core::key::Key;
use tidegate_core::limit::{Algorithm, Quota};
use tidegate_core::time::Span;
use tokio::io::{AsyncRead, AsyncWrite};

/// The longest wait for anything. Generous: machines that test are busy.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A `tidegate serve` that is killed when this is dropped.
pub struct Host {
    child: Child,
    logs: Logs,
    pub asks: SocketAddr,
    pub admin: SocketAddr,
}

/// Everything that a process wrote to its standard error, growing.
#[derive(Clone, Default)]
pub struct Logs(Arc<(Mutex<Written>, Condvar)>);

#[derive(Default)]
struct Written {
    text: String,
    ended: bool,
}

/// `tidegate`, with no more of this environment than it is given.
pub fn tidegate() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.env_clear().stdin(Stdio::null());
    command
}

impl Host {
    /// One on the Redis of that port; `more` are lines of the section `redis`, and then of the
    /// whole.
    pub fn on_redis(port: u16, more: &str) -> Self {
        Self::serve(&format!("redis:\n  addresses: [127.0.0.1:{port}]\n{more}"))
    }

    pub async fn until_ready(&self) {
        self.until(200, "\"ready\":true").await;
    }

    pub async fn until_away(&self) {
        self.until(503, "\"reason\":").await;
    }

    /// Until `/readyz` has this status, and says that.
    pub async fn until(&self, status: u16, says: &str) {
        let end = Instant::now() + DEADLINE;
        loop {
            let (found, body) = self.admin("/readyz").await;
            if found == status && body.contains(says) {
                return;
            }
            assert!(Instant::now() < end, "{found} {body}");
        }
    }

    /// Serves `yaml`, on free ports unless it says which.
    pub fn serve(yaml: &str) -> Self {
        Self::serve_with(yaml, &[])
    }

    pub fn serve_with(yaml: &str, environment: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tidegate.yaml");
        let ports = "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\n";
        std::fs::write(&file, format!("{ports}{yaml}")).unwrap();
        let mut command = tidegate();
        command.arg("serve").arg("--config").arg(&file).envs(environment.iter().copied());
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let logs = Logs::of(child.stderr.take().unwrap());
        let port = |door: &str| {
            let line =
                logs.line_with(&["\"listening\"", &format!("\"door\":\"{door}\",\"address\"")]);
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            line["address"].as_str().unwrap().parse().unwrap()
        };
        Self { asks: port("asks"), admin: port("admin"), logs, child }
    }

    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// The most memory that it ever had, in bytes.
    pub fn peak_rss_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Waits for its end by itself. Callers' connections go on meanwhile: they have to
    /// answer its goodbyes.
    pub async fn ended(&mut self) -> ExitStatus {
        await_some("the host's end", || self.child.try_wait().unwrap()).await
    }

    /// GETs a path from the operator's door, on a connection of its own.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        let stream = tokio::net::TcpStream::connect(self.admin).await.unwrap();
        let mut caller = Caller::http1(stream).await;
        let request = Request::get(path).header("host", "t").body(Full::default()).unwrap();
        let (head, body) = caller.send(request).await;
        (head.status().as_u16(), String::from_utf8(body.to_vec()).unwrap())
    }

    /// The value of one series on the metrics page; 0 if it is not there (yet).
    pub async fn metric(&self, series: &str) -> f64 {
        let (_, page) = self.admin("/metrics").await;
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    pub async fn http1(&self) -> Caller {
        Caller::http1(self.stream().await).await
    }

    pub async fn http2(&self) -> Caller {
        Caller::http2(self.stream().await).await
    }

    /// As Envoy connects: what is written is sent, or head and body would wait for each other.
    async fn stream(&self) -> tokio::net::TcpStream {
        let stream = tokio::net::TcpStream::connect(self.asks).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- logs of the host:\n{}", self.logs.text());
        }
    }
}

impl Logs {
    pub fn of(from: impl Read + Send + 'static) -> Self {
        let logs = Self::default();
        let shared = logs.clone();
        std::thread::spawn(move || {
            let mut from = BufReader::new(from);
            let mut line = Vec::new();
            while from.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let (written, changed) = &*shared.0;
                written.lock().unwrap().text.push_str(&String::from_utf8_lossy(&line));
                changed.notify_all();
                line.clear();
            }
            let (written, changed) = &*shared.0;
            written.lock().unwrap().ended = true;
            changed.notify_all();
        });
        logs
    }

    pub fn text(&self) -> String {
        self.0.0.lock().unwrap().text.clone()
    }

    /// Waits for a line that has all these parts.
    pub fn line_with(&self, parts: &[&str]) -> String {
        let (written, changed) = &*self.0;
        let end = Instant::now() + DEADLINE;
        let mut written = written.lock().unwrap();
        loop {
            let found = written.text.lines().find(|line| parts.iter().all(|p| line.contains(p)));
            if let Some(line) = found {
                return line.to_owned();
            }
            let left = end.saturating_duration_since(Instant::now());
            let over = written.ended || left.is_zero();
            assert!(!over, "no line with {parts:?} in:\n{}", written.text);
            written = changed.wait_timeout(written, left).unwrap().0;
        }
    }

    /// All that was written until its end.
    pub fn to_end(&self) -> String {
        let (written, changed) = &*self.0;
        let end = Instant::now() + DEADLINE;
        let mut written = written.lock().unwrap();
        while !written.ended {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no end of:\n{}", written.text);
            written = changed.wait_timeout(written, left).unwrap().0;
        }
        written.text.clone()
    }
}

/// One HTTP connection to the host.
pub enum Caller {
    Http1(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    Http2(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
}

impl Caller {
    pub async fn http1<S>(stream: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let shook = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = shook.unwrap();
        tokio::spawn(connection);
        Self::Http1(sender)
    }

    /// HTTP/2 with prior knowledge.
    pub async fn http2<S>(stream: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let executor = TokioExecutor::new();
        let shook = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream)).await;
        let (sender, connection) = shook.unwrap();
        tokio::spawn(connection);
        Self::Http2(sender)
    }

    pub async fn unix(path: &Path) -> Self {
        Self::http2(tokio::net::UnixStream::connect(path).await.unwrap()).await
    }

    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> (Response<()>, Bytes) {
        let answered = async {
            let response = match self {
                Self::Http1(sender) => {
                    sender.ready().await.unwrap();
                    sender.send_request(request).await
                }
                Self::Http2(sender) => {
                    sender.ready().await.unwrap();
                    sender.send_request(request).await
                }
            };
            let (head, body) = response.unwrap().into_parts();
            (Response::from_parts(head, ()), body.collect().await.unwrap().to_bytes())
        };
        tokio::time::timeout(DEADLINE, answered).await.expect("an answer in time")
    }

    /// Sends an ask's bytes as a proxy does.
    pub async fn ask(&mut self, body: impl Into<Bytes>) -> (Response<()>, Bytes) {
        self.send(ask_request(body)).await
    }

    /// Asks, and reads the reply.
    pub async fn reply(&mut self, ask: &Ask) -> tidegate_core::ask::Reply {
        let (head, body) = self.ask(tidegate_core::wire::encode_ask(ask)).await;
        assert_eq!(
            (head.status().as_u16(), &head.headers()["x-tidegate"]),
            (200, &"1".parse().unwrap())
        );
        tidegate_core::wire::decode_reply(&body).unwrap()
    }
}

pub fn ask_request(body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post("http://tidegate/v1/ask")
        .header("content-type", "application/x-tidegate")
        .header("x-tidegate-proxy", "proxy-1")
        .body(Full::new(body.into()))
        .unwrap()
}

/// An ask for one unit of a small bucket of `burst`, for key number `key`.
pub fn one(key: u8, burst: u32) -> Ask {
    let quota = Quota::new(Algorithm::TokenBucket, burst, Span::from_secs(3600), burst).unwrap();
    let item = Item { key: Key([key; 16]), limit: LimitTag(key.into()), quota, cost: 1, owed: 0 };
    Ask { items: vec![item] }
}

/// Looks until there is something, or the deadline passes.
pub async fn await_some<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what} did not come in time");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A process that does not outlive its test.
pub struct Killed(pub std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
