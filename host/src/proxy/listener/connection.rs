//! One client's HTTP connection.

use super::watch::{Activity, Watched};
use crate::proxy::exchange::serve::{self, Door};
use crate::proxy::lane::{Lane, Route};
use crate::proxy::upstream::HereOnly;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use proxy_wasm_host::exchange::ConnectionFacts;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// A peer that says nothing for so long is asked whether it is there …
const PING_AFTER: Duration = Duration::from_secs(30);

/// … and given up after this.
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// What one exchange may send ahead of its reader, and all of a connection.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;

/// An exchange on a connection; it is at work while this is kept.
pub(in crate::proxy) struct Visit {
    activity: Arc<Activity>,
    /// Connections that became something else are the lane's guests until they end.
    _guest: crate::proxy::lane::Guest,
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.activity.exchange_ended();
    }
}

/// Answers a connection's requests until it ends.
pub(super) async fn serve<S>(
    lane: &Rc<Lane>,
    route: &Route,
    listener: usize,
    stream: S,
    peer: SocketAddr,
    facts: ConnectionFacts,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let settings = &route.plan.settings;
    let activity = Arc::new(Activity::new(&settings.timeouts));
    let door = Rc::new(Door { lane: Rc::clone(lane), listener, peer, facts: Rc::new(facts) });
    let service = service_fn(|request: Request<Incoming>| {
        activity.exchange_began(request.version() == Version::HTTP_2);
        let visit = Visit { activity: Arc::clone(&activity), _guest: lane.guest() };
        serve::serve(Rc::clone(&door), visit, request)
    });
    let http = protocol(route);
    let io = TokioIo::new(Watched::new(stream, &activity));
    let mut connection = pin!(http.serve_connection_with_upgrades(io, service));
    let mut stop = lane.stop();
    let mut stop = pin!(stop.wait_for(|stops| *stops));
    let mut is_stopping = false;
    let mut watch = pin!(activity.watch());
    poll_fn(|cx| {
        if !is_stopping && stop.as_mut().poll(cx).is_ready() {
            // HTTP/1 says `connection: close` with its next response, HTTP/2 GOAWAY.
            is_stopping = true;
            connection.as_mut().graceful_shutdown();
        }
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            if let Err(error) = ended {
                tracing::debug!(error, "a connection ended badly");
            }
            return Poll::Ready(());
        }
        // Behind the connection: what it has just read counts.
        watch.as_mut().poll(cx)
    })
    .await;
}

fn protocol(route: &Route) -> Builder<HereOnly> {
    let bounds = &route.plan.settings.bounds;
    let mut http = Builder::new(HereOnly);
    // Times are watched for both protocols alike: see `watch`.
    http.http1().header_read_timeout(None).max_buf_size(bounds.headers_bytes);
    http.http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_AFTER)
        .keep_alive_timeout(PING_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(u32::try_from(bounds.headers_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(bounds.streams_max);
    http
}
