//! The proxy under test, and callers of it.

use crate::common::{DEADLINE, Logs, await_some, tidegate};
use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// A body of any kind.
pub type Any = BoxBody<Bytes, std::io::Error>;

/// A `tidegate proxy` that is killed when this is dropped.
pub struct Proxy {
    child: Child,
    logs: Logs,
    out: Logs,
    folder: TempDir,
    pub address: SocketAddr,
    pub admin: SocketAddr,
}

impl Proxy {
    /// Serves by these settings; a listener and the operator's door get free ports. `yaml`
    /// may use `FOLDER`, which stands for its folder; there lies `proxy.yaml` too.
    pub fn serve(yaml: &str) -> Self {
        Self::serve_with(yaml, |_| {})
    }

    /// As [`Proxy::serve`], with files put into its folder before.
    pub fn serve_with(yaml: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        prepare(folder.path());
        write(folder.path(), yaml);
        let mut command = tidegate();
        command.arg("proxy").arg("--settings").arg(folder.path().join("proxy.yaml"));
        command.arg("--cache").arg(modules()).current_dir(folder.path());
        command.stderr(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let logs = Logs::of(child.stderr.take().unwrap());
        let out = Logs::of(child.stdout.take().unwrap());
        let door = |parts: &[&str]| {
            let line: serde_json::Value =
                serde_json::from_str(&logs.line_with(parts)).expect("a line of JSON");
            line["address"].as_str().unwrap().parse().unwrap()
        };
        logs.line_with(&["\"serving\""]);
        let admin = door(&["\"listening\"", "\"door\":\"admin\""]);
        let address = door(&["\"listening\"", "\"tls\":"]);
        Self { child, logs, out, folder, address, admin }
    }

    pub fn logs(&self) -> &Logs {
        &self.logs
    }

    /// Its standard output: the access log.
    pub fn out(&self) -> &Logs {
        &self.out
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts other settings in place, as an editor does: beside, and then over it.
    pub fn rewrite(&self, yaml: &str) {
        write(self.folder(), yaml);
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn child(&self) -> &Child {
        &self.child
    }

    /// Waits for its end by itself.
    pub async fn ended(&mut self) -> ExitStatus {
        await_some("the proxy's end", || self.child.try_wait().unwrap()).await
    }

    /// A page of the operator's door.
    pub async fn page(&self, path: &str) -> (u16, String) {
        let answer = Client::http1(self.admin).await.send(get(path)).await;
        (answer.status, answer.text())
    }

    /// The value of one series on the metrics page; 0 if it is not there (yet).
    pub async fn metric(&self, series: &str) -> f64 {
        let (_, page) = self.page("/metrics").await;
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Waits until a series has a value.
    pub async fn await_metric(&self, series: &str, value: f64) {
        let end = std::time::Instant::now() + DEADLINE;
        while self.metric(series).await != value {
            assert!(std::time::Instant::now() < end, "{series} did not become {value}");
            tokio::task::yield_now().await;
        }
    }

    /// One request on an HTTP/1 connection of its own.
    pub async fn get(&self, path: &str) -> Answer {
        Client::http1(self.address).await.send(get(path)).await
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let log = self.logs.text();
        if std::thread::panicking() {
            eprintln!("--- logs of the proxy:\n{log}");
        } else {
            assert!(!log.contains("panicked"), "{log}");
        }
    }
}

/// Writes the settings. Doors that they do not name are at free ports.
fn write(folder: &Path, yaml: &str) {
    let listeners = "listeners: [{ address: 127.0.0.1:0 }]\n";
    let listeners = if yaml.contains("listeners:") { "" } else { listeners };
    let yaml = yaml.replace("FOLDER", &folder.display().to_string());
    let workers = if yaml.contains("workers:") { "" } else { "workers: 2\n" };
    let whole = format!("{listeners}{workers}admin: 127.0.0.1:0\nlog_format: json\n{yaml}");
    std::fs::write(folder.join("next.yaml"), whole).unwrap();
    std::fs::rename(folder.join("next.yaml"), folder.join("proxy.yaml")).unwrap();
}

/// Whether a process has a thread of this name now.
pub fn has_thread(child: &Child, name: &str) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap();
    let mut names = threads.flatten().map(|it| std::fs::read_to_string(it.path().join("comm")));
    names.any(|found| found.is_ok_and(|found| found.trim_end() == name))
}

/// Compiled modules, for all tests of this run: what the folder is for.
pub fn modules() -> PathBuf {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER.get_or_init(|| tempfile::tempdir().unwrap()).path().to_owned()
}

/// One connection to a proxy or an origin.
pub enum Client {
    Http1(http1::SendRequest<Any>),
    Http2(http2::SendRequest<Any>),
}

/// A whole response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: hyper::HeaderMap,
    pub body: Bytes,
}

impl Client {
    pub async fn http1(address: SocketAddr) -> Self {
        Self::http1_over(TcpStream::connect(address).await.unwrap()).await
    }

    pub async fn http1_over<S>(stream: S) -> Self
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        Self::Http1(sender)
    }

    /// HTTP/2 with prior knowledge.
    pub async fn http2(address: SocketAddr) -> Self {
        Self::http2_over(TcpStream::connect(address).await.unwrap()).await
    }

    pub async fn http2_over<S>(stream: S) -> Self
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let executor = TokioExecutor::new();
        let shook = http2::handshake(executor, TokioIo::new(stream)).await;
        let (sender, connection) = shook.unwrap();
        tokio::spawn(connection);
        Self::Http2(sender)
    }

    /// Sends a request; the response as it begins.
    pub async fn begin(&mut self, request: Request<Any>) -> hyper::Result<Response<Incoming>> {
        let answered = async {
            match self {
                Self::Http1(sender) => {
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Self::Http2(sender) => {
                    sender.ready().await?;
                    let (mut head, body) = request.into_parts();
                    if head.uri.authority().is_none() {
                        let path = head.uri.path_and_query().unwrap().as_str();
                        head.uri = format!("http://shop{path}").parse().unwrap();
                        head.headers.remove("host");
                    }
                    sender.send_request(Request::from_parts(head, body)).await
                }
            }
        };
        tokio::time::timeout(DEADLINE, answered).await.expect("an answer in time")
    }

    /// Sends a request; the whole response.
    pub async fn send(&mut self, request: Request<Any>) -> Answer {
        Answer::of(self.begin(request).await.unwrap()).await
    }
}

impl Answer {
    pub async fn of(response: Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let body = tokio::time::timeout(DEADLINE, body.collect()).await.expect("a body in time");
        let body = body.unwrap();
        Self { status: head.status.as_u16(), headers: head.headers, body: body.to_bytes() }
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    /// A header's value; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// A GET of a path.
pub fn get(path: &str) -> Request<Any> {
    Request::get(path).header("host", "shop").body(empty()).unwrap()
}

/// A POST of a body to a path.
pub fn post(path: &str, body: impl Into<Bytes>) -> Request<Any> {
    Request::post(path).header("host", "shop").body(whole(body)).unwrap()
}

pub fn empty() -> Any {
    Empty::new().map_err(|never| match never {}).boxed()
}

pub fn whole(body: impl Into<Bytes>) -> Any {
    Full::new(body.into()).map_err(|never| match never {}).boxed()
}
