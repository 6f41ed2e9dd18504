//! One TCP connection, through filters of connections (L4).

use super::lane::{Lane, Route, Target};
use super::side::Side;
use super::upstream::{Cluster, Failure};
use bytes::Bytes;
use proxy_wasm_host::exchange::{ConnectionFacts, Facts, UpstreamFacts};
use proxy_wasm_host::tcp::{Peer, TcpEvent, TcpStream};
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Sleep, sleep_until};

/// A connection of any kind, to be read and written.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// Carries a client's bytes upstream and back, as the filters allow, until a side is gone or
/// nothing moves for `timeouts.stream_idle`.
pub(super) async fn serve<S: Stream>(
    lane: &Rc<Lane>,
    route: &Rc<Route>,
    stream: S,
    connection: ConnectionFacts,
) {
    let Target::Cluster(cluster) = &route.target else { return };
    let settings = &route.plan.settings;
    let facts = Facts {
        listener: Rc::clone(&route.facts),
        connection: Rc::new(connection),
        start_wall_ns: super::time::wall_ns(),
        start_ns: lane.shared.monotonic_ns(),
        ..Facts::default()
    };
    let mut relay = Relay {
        filters: TcpStream::new(&route.filters, facts),
        client: Side::new(stream),
        cluster: Rc::clone(cluster),
        upstream: Up::Idle,
        buffer_bytes: settings.bounds.buffer_bytes,
        is_closing: false,
        closed_by: Peer::Local,
        idle: settings.timeouts.stream_idle.map(Idle::new),
    };
    poll_fn(|cx| relay.poll(cx)).await;
    relay.filters.on_downstream_close(relay.closed_by);
}

struct Relay<S> {
    filters: TcpStream,
    client: Side<S>,
    cluster: Rc<Cluster>,
    upstream: Up,
    buffer_bytes: usize,
    /// Ends when what is unsent is sent.
    is_closing: bool,
    /// Who closes the client's connection: the client, if it is the last to end its side.
    closed_by: Peer,
    idle: Option<Idle>,
}

type Dial = Pin<Box<dyn Future<Output = Result<(Box<dyn Stream>, UpstreamFacts), Failure>>>>;

enum Up {
    Idle,
    /// With what is to be sent when it is there.
    Dialing(Dial, Vec<(Bytes, bool)>),
    Open(Side<Box<dyn Stream>>),
}

impl<S: Stream> Relay<S> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            while let Poll::Ready(event) = self.filters.poll_event(cx) {
                self.apply(event);
            }
            let Ok(mut has_moved) = self.write(cx) else { return Poll::Ready(()) };
            if self.is_over() {
                return Poll::Ready(());
            }
            match self.dial(cx).and_then(|dialled| Ok(dialled | self.read(cx)?)) {
                Ok(moved) => has_moved |= moved,
                Err(_) => return Poll::Ready(()),
            }
            if let Some(idle) = &mut self.idle {
                if has_moved {
                    idle.last_moved = Instant::now();
                } else if idle.poll(cx).is_ready() {
                    return Poll::Ready(());
                }
            }
            if !has_moved {
                return Poll::Pending;
            }
        }
    }

    fn apply(&mut self, event: TcpEvent) {
        match event {
            TcpEvent::Connect => {
                let dial = Rc::clone(&self.cluster).dial();
                self.upstream = Up::Dialing(Box::pin(dial), Vec::new());
            }
            TcpEvent::ToUpstream(data, is_end) => match &mut self.upstream {
                Up::Open(upstream) => upstream.push(data, is_end),
                Up::Dialing(_, waiting) => waiting.push((data, is_end)),
                Up::Idle => {}
            },
            TcpEvent::ToDownstream(data, is_end) => self.client.push(data, is_end),
            TcpEvent::Close => {
                self.is_closing = true;
                self.client.push(Bytes::new(), true);
                if let Up::Open(upstream) = &mut self.upstream {
                    upstream.push(Bytes::new(), true);
                }
            }
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let has_moved = self.client.poll_write(cx)?;
        match &mut self.upstream {
            Up::Open(upstream) => Ok(upstream.poll_write(cx)? | has_moved),
            _ => Ok(has_moved),
        }
    }

    fn is_over(&self) -> bool {
        match &self.upstream {
            Up::Open(upstream) => self.client.is_shut() && upstream.is_shut(),
            // Nobody there, or not to be reached any more.
            _ => self.client.is_shut() && self.is_closing,
        }
    }

    const fn has_upstream_ended(&self) -> bool {
        matches!(&self.upstream, Up::Open(upstream) if upstream.has_ended())
    }

    fn dial(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let Up::Dialing(dial, waiting) = &mut self.upstream else { return Ok(false) };
        let Poll::Ready(dialled) = dial.as_mut().poll(cx) else { return Ok(false) };
        let waiting = std::mem::take(waiting);
        match dialled {
            Ok((stream, facts)) => {
                self.filters.exchange().facts.upstream = Some(facts);
                let mut upstream = Side::new(stream);
                for (data, is_end) in waiting {
                    upstream.push(data, is_end);
                }
                self.upstream = Up::Open(upstream);
                Ok(true)
            }
            Err(failure) => Err(io::Error::other(failure.reason())),
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut has_moved = false;
        let has_room = match &self.upstream {
            Up::Open(upstream) => upstream.has_room(),
            // As in Envoy, filters see no data before there is somebody to send it to.
            Up::Dialing(..) => false,
            Up::Idle => true,
        };
        let is_wanted = has_room && self.filters.waiting_from_downstream() < self.buffer_bytes;
        if is_wanted && let Poll::Ready(data) = self.client.poll_read(cx) {
            if self.client.has_ended() && self.has_upstream_ended() {
                self.closed_by = Peer::Remote;
            }
            self.filters.on_downstream_data(data?, self.client.has_ended());
            has_moved = true;
        }
        let is_wanted =
            self.client.has_room() && self.filters.waiting_from_upstream() < self.buffer_bytes;
        if let Up::Open(upstream) = &mut self.upstream
            && is_wanted
            && let Poll::Ready(data) = upstream.poll_read(cx)
        {
            self.filters.on_upstream_data(data?, upstream.has_ended());
            has_moved = true;
        }
        Ok(has_moved)
    }
}

/// One timer, set again when it fires too early.
struct Idle {
    max: Duration,
    last_moved: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Idle {
    fn new(max: Duration) -> Self {
        Self { max, last_moved: Instant::now(), timer: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let deadline = self.last_moved + self.max;
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline.into())));
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer = None;
        }
    }
}
