//! The listener, its connections, and the bounds on both.
//!
//! HTTP/1.1 and HTTP/2, told apart by TLS or by the first bytes. Every wait has an end: a
//! handshake, a head, a body, the quiet between requests.

use super::{Api, routes};
use crate::tls::certificate;
use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use proxy_wasm_host::exchange::CertificateFacts;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// For a TLS handshake.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// For a request's head on HTTP/1, and for the quiet before the next one.
const QUIET_MAX: Duration = Duration::from_secs(60);

/// A peer on HTTP/2 that says nothing for so long is asked whether it is there …
const PING_AFTER: Duration = Duration::from_secs(20);

/// … and given up after this.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// All of a request's headers, a bearer token among them.
const HEAD_BYTES_MAX: u32 = 16 << 10;

/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 100;

/// After a failure to accept (no file descriptors left) others get time to close theirs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection.
pub(super) struct Guest {
    pub(super) peer: IpAddr,
    /// What its certificate says, if it has shown one; TLS has verified it.
    pub(super) certificate: Option<CertificateFacts>,
}

/// The listener while it lets connections in.
pub(crate) struct Door {
    tasks: JoinSet<()>,
    graceful: Arc<GracefulShutdown>,
}

impl Door {
    /// Listens, and answers whoever may come in.
    ///
    /// # Errors
    ///
    /// Why it cannot listen there.
    pub(crate) fn open(address: SocketAddr, api: Arc<Api>) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        tracing::info!(door = "revocations", %address, tls = api.callers.tls().is_some(), "listening");
        let graceful = Arc::new(GracefulShutdown::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, api.clone(), graceful.clone()));
        tasks.spawn({
            let api = api.clone();
            async move { api.callers.look().await }
        });
        tasks.spawn(async move { api.receivers.look().await });
        Ok(Self { tasks, graceful })
    }

    /// Lets nobody in any more, and waits until all are gone.
    pub(crate) async fn drain(mut self) {
        self.tasks.shutdown().await;
        if let Ok(graceful) = Arc::try_unwrap(self.graceful) {
            graceful.shutdown().await;
        }
    }
}

async fn accept(listener: TcpListener, api: Arc<Api>, graceful: Arc<GracefulShutdown>) {
    let room = Arc::new(Semaphore::new(api.connections_max));
    loop {
        // No room: whoever comes waits in the kernel's queue.
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, peer)) => {
                // Small messages both ways: waiting to fill a segment costs 40 ms.
                let _ = stream.set_nodelay(true);
                let (api, watcher) = (api.clone(), graceful.watcher());
                tokio::spawn(welcome(api, stream, peer.ip(), watcher, permit));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn welcome(
    api: Arc<Api>,
    stream: TcpStream,
    peer: IpAddr,
    watcher: Watcher,
    _room: OwnedSemaphorePermit,
) {
    let Some(config) = api.callers.tls() else {
        return serve(&api, stream, Guest { peer, certificate: None }, watcher).await;
    };
    let accepting = TlsAcceptor::from(config).accept(stream);
    match tokio::time::timeout(HANDSHAKE_MAX, accepting).await {
        Ok(Ok(stream)) => {
            let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
            let certificate = shown.and_then(certificate::facts);
            serve(&api, stream, Guest { peer, certificate }, watcher).await;
        }
        Ok(Err(error)) => api.no_handshake(peer, &error.to_string()),
        Err(_) => api.no_handshake(peer, "it took too long"),
    }
}

async fn serve<S>(api: &Arc<Api>, stream: S, guest: Guest, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let guest = Arc::new(guest);
    let service = service_fn(|request: Request<Incoming>| {
        let (api, guest) = (api.clone(), guest.clone());
        async move { Ok::<_, Infallible>(routes::answer(&api, &guest, request).await) }
    });
    let http = protocol();
    let connection = watcher.watch(http.serve_connection(TokioIo::new(stream), service));
    if let Err(error) = connection.await {
        tracing::debug!(error, "a connection ended badly");
    }
}

fn protocol() -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(QUIET_MAX)
        .max_buf_size(HEAD_BYTES_MAX as usize);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_header_list_size(HEAD_BYTES_MAX)
        .max_concurrent_streams(STREAMS_MAX);
    http
}
