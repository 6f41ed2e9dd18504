//! A rate limit service that says yes to everything: the least that Envoy's own filter can ask.
//!
//! It reads a request and answers with a constant, on one thread. What decides, counts and keeps
//! comes on top of that in any real one.

use anyhow::Context;
use bytes::Bytes;
use harness::process::Process;
use harness::{Result, wait};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// What this program is called with to be that service.
pub(crate) const ARGUMENT: &str = "always-yes";

/// A message of two bytes that is not compressed: `RateLimitResponse { overall_code: OK }`.
const YES: [u8; 7] = [0, 0, 0, 0, 2, 0x08, 1];

/// That service as a process of its own.
pub(crate) struct Yes {
    process: Process,
    address: SocketAddr,
    _folder: TempDir,
}

impl Yes {
    pub(crate) async fn start() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(std::env::current_exe()?);
        let process = Process::start("yes", command.arg(ARGUMENT), folder.path())?;
        let address = wait::until("the service that says yes", async || {
            process.out().strip_suffix('\n')?.parse().ok()
        });
        let address = address.await?;
        Ok(Self { process, address, _folder: folder })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

/// Serves until it is killed.
pub(crate) async fn serve() -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await.context("a connection")?;
        stream.set_nodelay(true)?;
        let serving = http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service_fn(say_yes));
        tokio::spawn(serving);
    }
}

async fn say_yes(
    request: Request<Incoming>,
) -> std::result::Result<
    Response<impl Body<Data = Bytes, Error = std::convert::Infallible>>,
    hyper::Error,
> {
    request.into_body().collect().await?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(Bytes::from_static(&YES));
    let mut response = Response::new(body.with_trailers(std::future::ready(Some(Ok(trailers)))));
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}
