//! One request through the filter, to an origin that answers 200 to everything.

use super::case::{Protocol, Request, Verdict};
use super::clock::Clock;
use bytes::Bytes;
use proxy_wasm_host::exchange::{ConnectionFacts, Facts, ListenerFacts};
use proxy_wasm_host::http::{BUFFER_BYTES, HttpEvent, HttpStream};
use proxy_wasm_host::maps::HeaderMap;
use proxy_wasm_host::worker::Filter;
use std::net::SocketAddr;
use std::rc::Rc;

/// What became of a request.
pub(super) struct Seen {
    pub(super) verdict: Verdict,
    /// The limit that refused it.
    pub(super) limit: Option<Box<str>>,
    /// The response, without pseudo headers; trailers count as headers.
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Vec<u8>,
    /// Why the proxy says so: `response.code_details`.
    pub(super) details: Option<String>,
}

/// Sends a request. When the filter holds it, `release` is called to answer the filter's
/// calls, and says whether there were any.
pub(super) fn send(
    request: &Request,
    filter: &Filter,
    clock: &Clock,
    mut release: impl FnMut() -> bool,
) -> Seen {
    let stream = HttpStream::new(std::slice::from_ref(filter), facts(request, clock), BUFFER_BYTES);
    let is_bodiless = request.body.is_empty();
    stream.on_request_headers(request_headers(request), is_bodiless);
    if !is_bodiless {
        stream.on_request_data(Bytes::copy_from_slice(request.body.as_bytes()), true);
    }
    let mut response = Response::default();
    while !response.is_complete {
        match stream.next_event() {
            Some(event) => {
                if response.take(event) {
                    answer(request, &stream);
                }
            }
            None if release() => {}
            // Held, and nothing is under way that could let it go.
            None => break,
        }
    }
    let details = stream.exchange().facts.response_code_details.clone();
    response.seen(details)
}

fn facts(request: &Request, clock: &Clock) -> Facts {
    let listener = ListenerFacts {
        cluster_name: "origin".to_owned(),
        route_name: request.route.to_string(),
        direction: 1,
        ..ListenerFacts::default()
    };
    let connection = ConnectionFacts {
        source: Some(SocketAddr::new(request.client_ip, 50_000)),
        ..ConnectionFacts::default()
    };
    Facts {
        listener: Rc::new(listener),
        connection: Rc::new(connection),
        protocol: match request.protocol {
            Protocol::Http1 => "HTTP/1.1",
            Protocol::Http2 | Protocol::Grpc => "HTTP/2",
        },
        metadata: request.metadata.clone(),
        start_wall_ns: clock.wall_ns(),
        start_ns: clock.now_ns(),
        ..Facts::default()
    }
}

fn request_headers(request: &Request) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let mut add = |name: &str, value: &str| headers.add(name.to_owned(), value.to_owned());
    add(":method", &request.method);
    add(":path", &request.path);
    add(":authority", &request.host);
    add(":scheme", "http");
    if request.protocol == Protocol::Grpc {
        add("content-type", "application/grpc");
        add("te", "trailers");
    }
    for (name, value) in &request.headers {
        add(name, value);
    }
    headers
}

/// The origin.
fn answer(request: &Request, stream: &HttpStream) {
    let mut headers = HeaderMap::new();
    headers.add(":status", "200");
    if request.protocol != Protocol::Grpc {
        headers.add("content-length", "0");
        return stream.on_response_headers(headers, true);
    }
    headers.add("content-type", "application/grpc");
    stream.on_response_headers(headers, false);
    stream.on_response_trailers([("grpc-status", "0")].into_iter().collect());
}

#[derive(Default)]
struct Response {
    headers: HeaderMap,
    trailers: HeaderMap,
    body: Vec<u8>,
    has_reached_origin: bool,
    is_complete: bool,
}

impl Response {
    /// Takes what is to be sent on; whether that was the end of a request, for the origin.
    fn take(&mut self, event: HttpEvent) -> bool {
        match event {
            HttpEvent::RequestHeaders(_, is_end) | HttpEvent::RequestData(_, is_end) => {
                self.has_reached_origin |= is_end;
                return is_end;
            }
            HttpEvent::RequestTrailers(_) => {
                self.has_reached_origin = true;
                return true;
            }
            HttpEvent::ResponseHeaders(headers, is_end) => {
                self.headers = headers;
                self.is_complete = is_end;
            }
            HttpEvent::ResponseData(data, is_end) => {
                self.body.extend_from_slice(&data);
                self.is_complete = is_end;
            }
            HttpEvent::ResponseTrailers(trailers) => {
                self.trailers = trailers;
                self.is_complete = true;
            }
            HttpEvent::Reset => self.is_complete = true,
        }
        false
    }

    fn seen(self, details: Option<String>) -> Seen {
        let status =
            self.headers.get(b":status").and_then(|status| std::str::from_utf8(status).ok());
        let status = status.and_then(|status| status.parse().ok()).unwrap_or(0);
        let refusal = details.as_deref().and_then(refusal);
        let verdict = match refusal {
            Some((_, verdict)) => verdict,
            None if self.has_reached_origin && status == 200 => Verdict::Allowed,
            None => Verdict::Failed,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers.iter().chain(self.trailers.iter()) {
            if !name.starts_with(b":") {
                headers.add(name.clone(), value.clone());
            }
        }
        let limit = refusal.map(|(limit, _)| limit.into());
        Seen { verdict, limit, status, headers, body: self.body, details }
    }
}

/// Reads `tidegate{limit=NAME}` and `tidegate{limit=NAME,WHY}`.
fn refusal(details: &str) -> Option<(&str, Verdict)> {
    let told = details.strip_prefix("tidegate{limit=")?.strip_suffix('}')?;
    Some(match told.split_once(',') {
        Some((limit, "store")) => (limit, Verdict::Unavailable),
        Some((limit, _)) => (limit, Verdict::Limited),
        None => (told, Verdict::Limited),
    })
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name.as_bytes()).map(|value| &**value)
    }

    pub(super) fn grpc_status(&self) -> Option<u32> {
        std::str::from_utf8(self.header("grpc-status")?).ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_that_fired_is_read_from_what_core_writes() {
        assert_eq!(refusal("tidegate{limit=login}"), Some(("login", Verdict::Limited)));
        assert_eq!(refusal("tidegate{limit=login,cost}"), Some(("login", Verdict::Limited)));
        assert_eq!(refusal("tidegate{limit=login,store}"), Some(("login", Verdict::Unavailable)));
        assert_eq!(refusal("tidegate{bug}"), None);
        assert_eq!(refusal("via_upstream"), None);
    }
}
