//! A host with the API, in a folder of its own, and callers of it.

use crate::common::{Caller, DEADLINE, Host, tidegate};
use base64ct::{Base64UrlUnpadded, Encoding as _};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::HeaderMap;
use hyper::{Method, Request};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::net::TcpStream;

/// The token that tests show.
pub const TOKEN: &str = "0123456789abcdefghij";

/// A key for secrets.
pub const ID_KEY: [u8; 32] = [7; 32];

pub struct Home {
    pub host: Host,
    pub api: SocketAddr,
    folder: tempfile::TempDir,
}

/// What came of a request.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Home {
    /// One that knows [`TOKEN`] and [`ID_KEY`].
    pub fn new() -> Self {
        Self::with("api: { listen: 127.0.0.1:0, token_file: FOLDER/tokens }", "")
    }

    /// One whose section `revocations` says this beside its folder and its key. `FOLDER` is where
    /// `prepare` may put files.
    pub fn with(section: &str, whole: &str) -> Self {
        Self::prepared(section, whole, |_| {})
    }

    pub fn prepared(section: &str, whole: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokens"), format!("tests:{TOKEN}\n")).unwrap();
        std::fs::write(folder.path().join("key"), "07".repeat(32)).unwrap();
        prepare(folder.path());
        Self::serve(folder, section, whole)
    }

    fn serve(folder: tempfile::TempDir, section: &str, whole: &str) -> Self {
        let key = if section.contains("id_key_files") { "" } else { "id_key_files: [FOLDER/key]" };
        let section = format!(
            "revocations:\n  data_dir: FOLDER/data\n  retention_max: 3660d\n  {key}\n  \
             {section}\n{whole}"
        );
        let host = Host::serve(&section.replace("FOLDER", folder.path().to_str().unwrap()));
        let line = host.logs().line_with(&["\"listening\"", "\"door\":\"revocations\""]);
        let line: Value = serde_json::from_str(&line).unwrap();
        let api = line["address"].as_str().unwrap().parse().unwrap();
        Self { host, api, folder }
    }

    /// The same folder with another process, once this one was killed.
    pub fn killed_and_served_again(self) -> Self {
        let Self { host, folder, .. } = self;
        drop(host);
        Self::serve(folder, "api: { listen: 127.0.0.1:0, token_file: FOLDER/tokens }", "")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, json: &str) -> Answer {
        self.send(Method::POST, path, Some(("application/json", json.as_bytes()))).await
    }

    pub async fn form(&self, path: &str, token: &str) -> Answer {
        let form: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("token", token)
            .append_pair("token_type_hint", "access_token")
            .finish();
        let kind = "application/x-www-form-urlencoded";
        self.send(Method::POST, path, Some((kind, form.as_bytes()))).await
    }

    pub async fn send(&self, method: Method, path: &str, body: Option<(&str, &[u8])>) -> Answer {
        self.send_as(Some(TOKEN), method, path, body).await
    }

    pub async fn send_as(
        &self,
        token: Option<&str>,
        method: Method,
        path: &str,
        body: Option<(&str, &[u8])>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "t");
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some((kind, _)) = body {
            request = request.header("content-type", kind);
        }
        let body = Bytes::copy_from_slice(body.map_or(&[], |(_, body)| body));
        self.request(request.body(Full::new(body)).unwrap()).await
    }

    /// On a connection of its own.
    pub async fn request(&self, request: Request<Full<Bytes>>) -> Answer {
        let stream = TcpStream::connect(self.api).await.unwrap();
        let (head, body) = Caller::http1(stream).await.send(request).await;
        Answer {
            status: head.status().as_u16(),
            headers: head.headers().clone(),
            text: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    /// The command line, for this host.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = tidegate();
        command.args(arguments).current_dir(self.folder.path());
        command.env("TIDEGATE_API", format!("http://{}", self.api));
        command.env("TIDEGATE_API_TOKEN_FILE", self.path("tokens"));
        command
    }

    /// Runs it where it may take its time.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        let run = tokio::task::spawn_blocking(move || command.output().unwrap());
        tokio::time::timeout(6 * DEADLINE, run).await.expect("an end in time").unwrap()
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// What is wrong, in words.
    pub fn detail(&self) -> String {
        let page = self.json();
        page["detail"].as_str().unwrap_or_else(|| panic!("{self:?}")).to_owned()
    }
}

pub fn now_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// As the parts of a token are written.
pub fn base64(bytes: &[u8]) -> String {
    let mut text = vec![0; Base64UrlUnpadded::encoded_len(bytes)];
    Base64UrlUnpadded::encode(bytes, &mut text).unwrap().to_owned()
}
