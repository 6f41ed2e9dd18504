//! Doors: listeners, the connections they let in, and how those end.
//!
//! HTTP/1.1 and HTTP/2 are told apart by a connection's first bytes. Every wait has an end:
//! a connection that sends no request, a slow head, a peer that is gone without a word.

use super::together::{Begun, Together};
use super::{Failure, Site, routes};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;

/// A connection that has sent no whole request by then is closed. Proxies connect when they
/// have something to ask.
const FIRST_REQUEST_MAX: Duration = Duration::from_secs(10);

/// For a request's head on HTTP/1, and for the quiet before the next one: longer than the
/// pools of proxies commonly keep an idle connection, so that they close it, not we.
const HTTP1_QUIET_MAX: Duration = Duration::from_secs(3_700);

/// A peer that says nothing for so long is asked whether it is there …
const HTTP2_PING_AFTER: Duration = Duration::from_secs(20);

/// … and given up after this.
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// All of a request's headers. An ask has a dozen.
const HEAD_BYTES_MAX: u32 = 16 * 1024;

/// After a failure to accept (no file descriptors left) others get time to close theirs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Whose door it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// Proxies ask here.
    Asks,
    /// The operator looks here.
    Admin,
}

/// A listener that nobody was let in by yet.
pub(super) struct Door {
    listener: Listener,
    used_for: Use,
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "it is there to be dropped")] SocketFile),
}

/// The file of a Unix socket; removed with its door.
struct SocketFile(PathBuf);

/// Doors that let connections in, until drained.
pub(super) struct Open {
    accepting: JoinSet<()>,
    graceful: Arc<GracefulShutdown>,
}

impl Door {
    /// Listens on a TCP address; port 0 is one that is free.
    pub(super) fn tcp(address: SocketAddr, used_for: Use) -> Result<Self, Failure> {
        let listen = || {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        let failed = |source| Failure { what: format!("cannot listen on {address}"), source };
        let listener = listen().map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        tracing::info!(door = used_for.name(), %address, "listening");
        Ok(Self { listener: Listener::Tcp(listener), used_for })
    }

    /// Listens on a Unix socket, in place of one that a process left behind.
    pub(super) fn unix(path: &Path) -> Result<Self, Failure> {
        let listen = || {
            if std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket()) {
                if std::os::unix::net::UnixStream::connect(path).is_ok() {
                    return Err(io::Error::other("another process listens there"));
                }
                std::fs::remove_file(path)?;
            }
            let listener = UnixListener::bind(path)?;
            // The group may ask (a proxy in the same pod), others may not.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
            Ok(listener)
        };
        let listener = listen().map_err(|source| Failure {
            what: format!("cannot listen on {}", path.display()),
            source,
        })?;
        tracing::info!(door = "asks", path = %path.display(), "listening");
        let listener = Listener::Unix(listener, SocketFile(path.to_owned()));
        Ok(Self { listener, used_for: Use::Asks })
    }

    /// Lets connections in for as long as this is polled.
    async fn accept(self, site: Arc<Site>, room: Arc<Semaphore>, graceful: Arc<GracefulShutdown>) {
        loop {
            // No room: whoever comes waits in the kernel's queue.
            let Ok(permit) = room.clone().acquire_owned().await else { return };
            let guest = Guest { site: site.clone(), used_for: self.used_for, _room: permit };
            let watcher = graceful.watcher();
            let accepted = match &self.listener {
                Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| {
                    // Small messages both ways: waiting to fill a segment costs 40 ms.
                    let _ = stream.set_nodelay(true);
                    tokio::spawn(guest.serve::<TcpStream>(stream, watcher));
                }),
                Listener::Unix(listener, _) => listener.accept().await.map(|(stream, _)| {
                    tokio::spawn(guest.serve::<UnixStream>(stream, watcher));
                }),
            };
            if let Err(error) = accepted {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Use {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Asks => "asks",
            Self::Admin => "admin",
        }
    }
}

impl Open {
    /// Lets at most `connections_max` in at once, through all these doors together.
    pub(super) fn new(doors: Vec<Door>, site: &Arc<Site>, connections_max: usize) -> Self {
        let room = Arc::new(Semaphore::new(connections_max));
        let graceful = Arc::new(GracefulShutdown::new());
        let mut accepting = JoinSet::new();
        for door in doors {
            accepting.spawn(door.accept(site.clone(), room.clone(), graceful.clone()));
        }
        Self { accepting, graceful }
    }

    /// Closes the doors and returns when the last connection has ended.
    pub(super) async fn drain(mut self) {
        self.accepting.shutdown().await;
        // The doors held the other references, and are gone.
        if let Some(graceful) = Arc::into_inner(self.graceful) {
            graceful.shutdown().await;
        }
    }
}

/// A connection that was let in.
struct Guest {
    site: Arc<Site>,
    used_for: Use,
    _room: OwnedSemaphorePermit,
}

impl Guest {
    async fn serve<S>(self, stream: S, watcher: Watcher)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let _counted = self.site.metrics.connection(self.used_for);
        let has_asked = AtomicBool::new(false);
        let service = service_fn(|request| {
            has_asked.store(true, Ordering::Relaxed);
            let site = self.site.clone();
            async move { Ok::<_, Infallible>(routes::answer(&site, self.used_for, request).await) }
        });
        let begun = Begun::default();
        let http = protocol(&self.site, begun.clone());
        let connection = watcher.watch(http.serve_connection(TokioIo::new(stream), service));
        let mut connection = pin!(Together::new(connection, begun));
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = tokio::time::sleep(FIRST_REQUEST_MAX) => {
                if !has_asked.load(Ordering::Relaxed) {
                    tracing::debug!("closed a connection that asked nothing");
                    return;
                }
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended badly");
        }
    }
}

fn protocol(site: &Site, begun: Begun) -> Builder<Begun> {
    let mut http = Builder::new(begun);
    http.http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP1_QUIET_MAX)
        .max_buf_size(HEAD_BYTES_MAX as usize);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(HTTP2_PING_AFTER)
        .keep_alive_timeout(HTTP2_PING_TIMEOUT)
        .max_header_list_size(HEAD_BYTES_MAX)
        .max_concurrent_streams(site.bounds.streams_max);
    http
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
