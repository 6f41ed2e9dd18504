//! From hyper's request to its response: who polls an exchange.
//!
//! One without a request body is polled by whoever takes its response: no task, no queue.
//! One with a body has a task of its own, so that the request goes on while nobody takes the
//! response, and the other way round.

use super::{Began, Beginning, Exchange, Part, bridge};
use crate::proxy::guard::{Admission, Fields};
use crate::proxy::headers::{self, Hop, Presented, Refusal};
use crate::proxy::lane::{Lane, Route};
use crate::proxy::listener::Visit;
use crate::proxy::path::{Normalized, normalize};
use crate::proxy::pipe::{self, CutOff, pipe};
use crate::proxy::time::wall_ns;
use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{HeaderValue, LOCATION};
use hyper::http::request;
use hyper::{Request, Response, StatusCode, Version};
use proxy_wasm_host::exchange::{ConnectionFacts, Facts};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;

/// What a client's connection is to its exchanges.
pub(in crate::proxy) struct Door {
    pub(in crate::proxy) lane: Rc<Lane>,
    pub(in crate::proxy) listener: usize,
    pub(in crate::proxy) peer: SocketAddr,
    pub(in crate::proxy) facts: Rc<ConnectionFacts>,
}

/// A response's body.
pub(in crate::proxy) enum ResponseBody {
    /// All of it.
    Whole(Option<Bytes>),
    /// The exchange itself, polled for it.
    Exchange(Box<Exchange>),
    /// Filled by the exchange's task.
    Pipe(pipe::Receiver),
}

/// Answers one request.
///
/// # Errors
///
/// [`CutOff`], if the exchange is to end without a response: its connection (or HTTP/2
/// stream) is then cut.
pub(in crate::proxy) async fn serve(
    door: Rc<Door>,
    visit: Visit,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, CutOff> {
    let Some(route) = door.lane.route(door.listener) else { return Err(CutOff) };
    let mut beginning = match begin(&door, &route, visit, request) {
        Ok(beginning) => beginning,
        Err(response) => return Ok(*response),
    };
    let admission = match &route.guard {
        Some(guard) => guard.admit(&mut beginning).await,
        None => Admission::Through(Fields::new()),
    };
    let exchange = Exchange::new(&door.lane, &route, beginning, admission);
    match exchange.is_simple() {
        true => here(Box::new(exchange)).await,
        false => apart(exchange).await,
    }
}

/// Looks a request over: what its exchange begins with, unless it is refused.
#[allow(clippy::result_large_err)] // the refusal is as large as any answer, and goes out at once
fn begin(
    door: &Rc<Door>,
    route: &Rc<Route>,
    visit: Visit,
    mut request: Request<Incoming>,
) -> Result<Beginning, Box<Response<ResponseBody>>> {
    let lane = &door.lane;
    let upgrade = hyper::upgrade::on(&mut request);
    let (mut head, body) = request.into_parts();
    let mut facts = Facts {
        listener: Rc::clone(&route.facts),
        connection: Rc::clone(&door.facts),
        protocol: protocol(head.version),
        start_wall_ns: wall_ns(),
        start_ns: lane.shared.monotonic_ns(),
        ..Facts::default()
    };
    let presented = match look_over(door, route, &mut head) {
        Ok(presented) => presented,
        Err(refused) => return Err(Box::new(refused.answer(lane, &head, facts))),
    };
    if presented.client != door.peer {
        let connection = ConnectionFacts::clone(&door.facts);
        facts.connection =
            Rc::new(ConnectionFacts { source: Some(presented.client), ..connection });
    }
    Ok(Beginning {
        headers: presented.headers,
        facts,
        body,
        version: head.version,
        upgrade: presented.is_upgrade.then_some(upgrade),
        visit,
        began: Began::new(lane),
    })
}

/// A request that no filter sees.
enum Refused {
    With(Refusal),
    /// To be asked for at another path.
    Elsewhere(String),
}

/// Makes of a request what filters see of it, its path in its one form.
fn look_over(door: &Door, route: &Route, head: &mut request::Parts) -> Result<Presented, Refused> {
    let settings = &route.plan.settings;
    let exchanges_max = settings.bounds.exchanges_max.div_ceil(settings.workers);
    if door.lane.counts.exchanges() >= exchanges_max {
        return Err(Refused::With(Refusal { status: 503, details: "overload" }));
    }
    let path = head.uri.path_and_query().filter(|_| route.normalize_path);
    match path.map(|path| normalize(path.as_str())) {
        None | Some(Normalized::Same) => {}
        Some(Normalized::Redirect(to)) => return Err(Refused::Elsewhere(to)),
        Some(Normalized::Path(path)) => {
            let mut uri = head.uri.clone().into_parts();
            uri.path_and_query = path.try_into().ok();
            let uri = hyper::Uri::from_parts(uri);
            let refusal = Refusal { status: 400, details: "path_normalization_failed" };
            head.uri = uri.map_err(|_| Refused::With(refusal))?;
        }
    }
    let hop = Hop {
        is_tls: door.facts.tls.is_some(),
        peer: door.peer,
        trusted_hops: route.trusted_hops,
        upgrades: &route.upgrades,
        headers_bytes_max: settings.bounds.headers_bytes,
    };
    headers::request(head, &hop, crate::proxy::ids::request_id).map_err(Refused::With)
}

impl Refused {
    /// The answer, which is counted and logged as any.
    fn answer(self, lane: &Lane, head: &request::Parts, facts: Facts) -> Response<ResponseBody> {
        let (status, details, location) = match self {
            Self::With(refusal) => (refusal.status, refusal.details, None),
            Self::Elsewhere(to) => (307, "path_normalization_redirect", Some(to)),
        };
        let body = (status == 503).then(|| Bytes::from_static(details.as_bytes()));
        let mut response = Response::new(ResponseBody::Whole(body));
        *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        if let Some(Ok(location)) = location.map(HeaderValue::try_from) {
            response.headers_mut().insert(LOCATION, location);
        }
        let path = head.uri.path_and_query().map_or("", |path| path.as_str());
        let method = head.method.as_str();
        let seen = [(":method", method), (":path", path)];
        let exchange = proxy_wasm_host::exchange::Exchange {
            request_headers: Some(
                seen.map(|(name, value)| (name, Bytes::copy_from_slice(value.as_bytes())))
                    .into_iter()
                    .collect(),
            ),
            facts: Facts {
                response_code: Some(status),
                response_code_details: Some(details.to_owned()),
                ..facts
            },
            ..Default::default()
        };
        lane.counts.exchange_ended(Some(status), Duration::ZERO);
        lane.log.add(&exchange, Duration::ZERO);
        response
    }
}

/// As `request.protocol` tells it.
fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}

async fn here(exchange: Box<Exchange>) -> Result<Response<ResponseBody>, CutOff> {
    let mut exchange = Some(exchange);
    poll_fn(|cx| {
        let Some(polled) = &mut exchange else { return Poll::Pending };
        let Poll::Ready(part) = polled.poll(cx, true) else { return Poll::Pending };
        Poll::Ready(match (part, exchange.take()) {
            (Part::Head(head, false), Some(exchange)) => {
                Ok(head.map(|()| ResponseBody::Exchange(exchange)))
            }
            (Part::Head(head, _), _) => Ok(head.map(|()| ResponseBody::Whole(None))),
            _ => Err(CutOff),
        })
    })
    .await
}

async fn apart(exchange: Exchange) -> Result<Response<ResponseBody>, CutOff> {
    let (told, head) = oneshot::channel();
    tokio::task::spawn_local(run(exchange, told));
    head.await.unwrap_or(Err(CutOff))
}

type Told = oneshot::Sender<Result<Response<ResponseBody>, CutOff>>;

/// Sees an exchange to its end, or to its client's.
async fn run(mut exchange: Exchange, told: Told) {
    let mut told = Some(told);
    let head = poll_fn(|cx| {
        if told.as_mut().is_some_and(|told| told.poll_closed(cx).is_ready()) {
            return Poll::Ready(None);
        }
        exchange.poll(cx, true).map(Some)
    });
    let (head, is_end) = match head.await {
        Some(Part::Head(head, is_end)) => (head, is_end),
        _ => return,
    };
    let Some(told) = told else { return };
    if head.status() == StatusCode::SWITCHING_PROTOCOLS {
        let _ = told.send(Ok(head.map(|()| ResponseBody::Whole(None))));
        return bridge::run(exchange).await;
    }
    let (sender, body) = pipe();
    if is_end {
        sender.end();
        let _ = told.send(Ok(head.map(|()| ResponseBody::Whole(None))));
        return;
    }
    if told.send(Ok(head.map(|()| ResponseBody::Pipe(body)))).is_err() {
        return;
    }
    poll_fn(|cx| {
        loop {
            let has_room = sender.poll_room(cx);
            if sender.is_unwanted() {
                return Poll::Ready(());
            }
            match exchange.poll(cx, has_room) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Part::Data(data)) => sender.data(data),
                Poll::Ready(Part::Trailers(trailers)) => {
                    sender.trailers(trailers);
                    return Poll::Ready(());
                }
                Poll::Ready(Part::End) => {
                    sender.end();
                    return Poll::Ready(());
                }
                Poll::Ready(Part::Reset | Part::Head(..)) => return Poll::Ready(()),
            }
        }
    })
    .await;
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = CutOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOff>>> {
        match &mut *self {
            Self::Whole(data) => Poll::Ready(data.take().map(|data| Ok(Frame::data(data)))),
            Self::Pipe(body) => Pin::new(body).poll_frame(cx),
            Self::Exchange(exchange) => {
                let Poll::Ready(part) = exchange.poll(cx, true) else { return Poll::Pending };
                let frame = match part {
                    Part::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Part::Trailers(trailers) => Some(Ok(Frame::trailers(trailers))),
                    Part::End => None,
                    Part::Reset | Part::Head(..) => Some(Err(CutOff)),
                };
                // The end: what the exchange held is let go now, not with the connection.
                *self = Self::Whole(None);
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(data) => data.is_none(),
            Self::Exchange(exchange) => exchange.is_at_end(),
            Self::Pipe(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(data) => SizeHint::with_exact(data.as_ref().map_or(0, Bytes::len) as u64),
            Self::Exchange(_) => SizeHint::default(),
            Self::Pipe(body) => body.size_hint(),
        }
    }
}
