//! A bad way to the host service: what it answers may arrive changed.

use crate::Result;
use crate::client::{Client, call};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The way; it is gone when dropped.
pub struct Way {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

type Change = dyn Fn(&mut Vec<u8>) + Send + Sync;

impl Way {
    /// Leads to this host, and has every answer's body changed.
    ///
    /// # Errors
    ///
    /// If it cannot listen.
    pub async fn to(
        host: SocketAddr,
        change: impl Fn(&mut Vec<u8>) + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let serving = tokio::spawn(serve(listener, host, Arc::new(change)));
        Ok(Self { address, serving })
    }

    /// Where it begins.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, host: SocketAddr, change: Arc<Change>) {
    while let Ok((stream, _)) = listener.accept().await {
        let change = Arc::clone(&change);
        tokio::spawn(async move {
            let carry = service_fn(move |request| carry(request, host, Arc::clone(&change)));
            let server = auto::Builder::new(TokioExecutor::new());
            // A proxy that hangs up has its reasons.
            let _ = server.serve_connection(TokioIo::new(stream), carry).await;
        });
    }
}

async fn carry(
    request: Request<Incoming>,
    host: SocketAddr,
    change: Arc<Change>,
) -> Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let mut sent = call(parts.method, parts.uri.path()).body(body.collect().await?.to_bytes());
    for (name, value) in &parts.headers {
        sent = sent.header(name.as_str(), value);
    }
    let answer = Client::http1(host).await?.send(sent).await?;
    let mut body = answer.body.to_vec();
    change(&mut body);
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    // What it was before.
    response.headers_mut().remove(hyper::header::CONTENT_LENGTH);
    Ok(response)
}
