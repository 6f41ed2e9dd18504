//! A filter's gRPC calls and streams: messages over HTTP/2, each with its length before it.

use super::UnderWay;
use crate::proxy::headers::{self, back};
use crate::proxy::metrics::LaneCounts;
use crate::proxy::pipe::{Sender, pipe};
use crate::proxy::upstream::{Cluster, Failure, RequestBody};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::Incoming;
use proxy_wasm_host::maps::HeaderMap;
use proxy_wasm_host::outside::{CallToken, GrpcEvent, GrpcOpen};
use proxy_wasm_host::worker::Worker;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::AbortHandle;

/// gRPC's status numbers that are made here.
const INTERNAL: u32 = 13;
const UNAVAILABLE: u32 = 14;
const UNKNOWN: u32 = 2;

/// The longest message that is kept for a filter.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What stands before a message: a flag for compression and the length.
const PREFIX_BYTES: usize = 5;

/// What a filter may send on a stream ahead of the server's reading; then the stream ends.
const UNSENT_BYTES_MAX: usize = 4 << 20;

/// The calls under way.
#[derive(Default)]
pub(super) struct Streams(Rc<RefCell<HashMap<CallToken, Stream>>>);

struct Stream {
    task: AbortHandle,
    /// For a stream: where its messages go, until the last.
    to: Option<Sender>,
}

/// How a call ended: gRPC's status, and what was said about it.
type Ended = (u32, String);

impl Streams {
    /// Starts a call; its events go to `worker`.
    pub(super) fn open(
        &self,
        token: CallToken,
        call: GrpcOpen,
        cluster: Rc<Cluster>,
        worker: Weak<Worker>,
        counts: Arc<LaneCounts>,
        under_way: Option<UnderWay>,
    ) {
        let (to, body) = pipe();
        let is_stream = call.message.is_none();
        if let Some(message) = &call.message {
            to.data(framed(message));
            to.end();
        }
        let to = is_stream.then_some(to);
        let streams = Rc::clone(&self.0);
        let counted = Counted { counts, is_answered: false };
        let task = tokio::task::spawn_local(async move {
            let mut counted = counted;
            let mut told = Told { token, worker, is_stream, has_trailers: false };
            let timeout = call.timeout_ms.filter(|ms| *ms > 0 && !is_stream);
            let body = RequestBody::Pipe(body);
            let called = async {
                match under_way {
                    Some(_held) => talk(&mut told, &call, cluster, body).await,
                    None => (UNAVAILABLE, "too many calls under way".to_owned()),
                }
            };
            let ended = match timeout {
                None => called.await,
                Some(ms) => {
                    let max = Duration::from_millis(ms.into());
                    // As Envoy tells it: not DEADLINE_EXCEEDED.
                    let late = (UNAVAILABLE, "upstream request timeout".to_owned());
                    tokio::time::timeout(max, called).await.unwrap_or(late)
                }
            };
            streams.borrow_mut().remove(&token);
            counted.is_answered = ended.0 == 0;
            drop(counted);
            told.end(ended);
        });
        self.0.borrow_mut().insert(token, Stream { task: task.abort_handle(), to });
    }

    /// Sends a message on a stream.
    pub(super) fn send(&self, token: CallToken, message: &Bytes, is_last: bool) {
        let mut streams = self.0.borrow_mut();
        let Some(stream) = streams.get_mut(&token) else { return };
        let Some(to) = &stream.to else { return };
        if to.unsent_bytes() + message.len() > UNSENT_BYTES_MAX {
            // Cut off: the server sees a reset, the filter a close.
            stream.to = None;
            return;
        }
        to.data(framed(message));
        if is_last {
            to.end();
            stream.to = None;
        }
    }

    /// Ends a stream's own side: nothing more is sent on it.
    pub(super) fn close(&self, token: CallToken) {
        if let Some(to) = self.0.borrow_mut().get_mut(&token).and_then(|stream| stream.to.take()) {
            to.end();
        }
    }

    /// Ends a call at once.
    pub(super) fn cancel(&self, token: CallToken) {
        if let Some(stream) = self.0.borrow_mut().remove(&token) {
            stream.task.abort();
        }
    }
}

/// A call, counted however it ends.
struct Counted {
    counts: Arc<LaneCounts>,
    is_answered: bool,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counts.callout_ended(self.is_answered);
    }
}

/// Who is told what happens.
struct Told {
    token: CallToken,
    worker: Weak<Worker>,
    is_stream: bool,
    /// Whether a stream's trailers were told.
    has_trailers: bool,
}

impl Told {
    fn tell(&self, event: GrpcEvent) {
        if let Some(worker) = self.worker.upgrade() {
            worker.on_grpc(self.token, event);
        }
    }

    /// The filter hears of a stream's headers and messages at once; of a unary call's, when
    /// it has succeeded.
    fn tell_of_stream(&self, event: impl FnOnce() -> GrpcEvent) {
        if self.is_stream {
            self.tell(event());
        }
    }

    fn trailers(&mut self, trailers: HeaderMap) {
        self.has_trailers = true;
        self.tell_of_stream(|| GrpcEvent::TrailingMetadata(trailers));
    }

    /// A head that is the end too: as Envoy tells it, no headers, and trailers.
    fn trailers_alone(&mut self, trailers: HeaderMap) {
        self.tell_of_stream(|| GrpcEvent::InitialMetadata(HeaderMap::new()));
        self.trailers(trailers);
    }

    fn end(&mut self, (status, message): Ended) {
        if !self.has_trailers {
            self.trailers(HeaderMap::new());
        }
        // A unary call that succeeded has told its message, and that was its end.
        if self.is_stream || status != 0 {
            self.tell(GrpcEvent::Close(status, message));
        }
    }
}

/// Sends the request and tells what comes, up to the end.
async fn talk(told: &mut Told, call: &GrpcOpen, cluster: Rc<Cluster>, body: RequestBody) -> Ended {
    let Some(request) = request(call, &cluster, body) else {
        return (INTERNAL, "the call's metadata make no request".to_owned());
    };
    let answer = match cluster.send(request).await {
        Ok(answer) => answer,
        Err(failure) => {
            let ended = unavailable(&failure);
            told.trailers_alone(answer_to(&ended));
            return ended;
        }
    };
    let (head, mut body) = answer.response.into_parts();
    let metadata = headers::response(&head);
    if let Some(ended) = ended(&metadata) {
        // Trailers alone: a call that failed at once.
        told.trailers_alone(metadata);
        return ended;
    }
    told.tell_of_stream(|| GrpcEvent::InitialMetadata(metadata));
    if !head.status.is_success() {
        return (of_http(head.status.as_u16()), format!("HTTP status {}", head.status.as_u16()));
    }
    let read = read(told, &mut body).await;
    answer.lease.give_back();
    read
}

fn unavailable(failure: &Failure) -> Ended {
    let why = failure.words();
    let what = "upstream connect error or disconnect/reset before headers. reset reason:";
    (UNAVAILABLE, format!("{what} {why}"))
}

/// The answer that a stream gets where there is no server to give one.
fn answer_to((status, message): &Ended) -> HeaderMap {
    let mut answer = HeaderMap::new();
    answer.add(":status", "200");
    answer.add("content-type", "application/grpc");
    answer.add("grpc-status", status.to_string());
    answer.add("grpc-message", message.clone());
    answer
}

async fn read(told: &mut Told, body: &mut Incoming) -> Ended {
    let (mut buffer, mut only) = (BytesMut::new(), None);
    loop {
        match body.frame().await {
            None => return (UNKNOWN, "the server sent no status".to_owned()),
            Some(Err(_)) => return (UNAVAILABLE, "the stream broke off".to_owned()),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    buffer.extend_from_slice(&data);
                    loop {
                        match message(&mut buffer) {
                            Ok(None) => break,
                            Ok(Some(message)) if told.is_stream => {
                                told.tell(GrpcEvent::Message(message));
                            }
                            Ok(Some(message)) => only = Some(message),
                            Err(ended) => return ended,
                        }
                    }
                }
                Err(frame) => {
                    let trailers = frame.trailers_ref().map(headers::trailers).unwrap_or_default();
                    let ended = ended(&trailers);
                    told.trailers(trailers);
                    let ended = ended.unwrap_or((UNKNOWN, "the server sent no status".to_owned()));
                    return match (told.is_stream, ended.0, only) {
                        (false, 0, Some(message)) => {
                            told.tell(GrpcEvent::Message(message));
                            ended
                        }
                        (false, 0, None) => (INTERNAL, "the server sent no message".to_owned()),
                        _ => ended,
                    };
                }
            },
        }
    }
}

fn request(call: &GrpcOpen, cluster: &Cluster, body: RequestBody) -> Option<Request<RequestBody>> {
    let mut headers = HeaderMap::new();
    headers.add(":authority", call.cluster.clone());
    headers.add(":path", format!("/{}/{}", call.service, call.method));
    headers.add(":method", "POST");
    headers.add(":scheme", if cluster.is_tls() { "https" } else { "http" });
    headers.add("content-type", "application/grpc");
    headers.add("te", "trailers");
    if let Some(ms) = call.timeout_ms.filter(|ms| *ms > 0) {
        headers.add("grpc-timeout", format!("{ms}m"));
    }
    for (name, value) in call.metadata.iter().filter(|(name, _)| !name.starts_with(b":")) {
        headers.add(name.clone(), value.clone());
    }
    let head = back::request(&headers, cluster.is_http2(), cluster.is_tls(), false).ok()?;
    Some(head.map(|()| body))
}

/// gRPC's status in headers or trailers, if it is there.
fn ended(fields: &HeaderMap) -> Option<Ended> {
    let status = std::str::from_utf8(fields.get(b"grpc-status")?).ok()?.parse().unwrap_or(UNKNOWN);
    let message = fields.get(b"grpc-message").map(|text| unescaped(text)).unwrap_or_default();
    Some((status, message))
}

/// `grpc-message` is percent-encoded.
fn unescaped(text: &[u8]) -> String {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
    while let Some(byte) = text.get(at) {
        let escaped = (*byte == b'%')
            .then(|| Some(digit(text.get(at + 1))? * 16 + digit(text.get(at + 2))?))
            .flatten();
        out.push(escaped.and_then(|value| u8::try_from(value).ok()).unwrap_or(*byte));
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// gRPC's "HTTP to gRPC Status Code Mapping".
const fn of_http(status: u16) -> u32 {
    match status {
        400 => INTERNAL,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

/// A message as it is sent: not compressed.
fn framed(message: &Bytes) -> Bytes {
    let mut framed = BytesMut::with_capacity(PREFIX_BYTES + message.len());
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.extend_from_slice(message);
    framed.freeze()
}

/// The first message of what has come, if it is whole.
fn message(from: &mut BytesMut) -> Result<Option<Bytes>, Ended> {
    let Some((prefix, _)) = from.split_first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let [flag, length @ ..] = *prefix;
    let length = u32::from_be_bytes(length) as usize;
    if flag != 0 {
        return Err((INTERNAL, "the server sent a compressed message".to_owned()));
    }
    if length > MESSAGE_BYTES_MAX {
        return Err((8, format!("the server sent a message of {length} bytes")));
    }
    if from.len() < PREFIX_BYTES + length {
        return Ok(None);
    }
    from.advance(PREFIX_BYTES);
    Ok(Some(from.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_wherever_they_are_cut() {
        let both = [framed(&Bytes::from_static(b"one")), framed(&Bytes::new())].concat();
        let (mut buffer, mut found) = (BytesMut::new(), Vec::new());
        for byte in both {
            buffer.put_u8(byte);
            found.extend(message(&mut buffer).unwrap());
        }
        assert_eq!(found, [&b"one"[..], b""]);
    }

    #[test]
    fn what_cannot_be_read_ends_the_call() {
        let mut compressed = BytesMut::from(&[1, 0, 0, 0, 0][..]);
        assert_eq!(message(&mut compressed).unwrap_err().0, INTERNAL);
        let mut endless = BytesMut::from(&[0, 0xff, 0xff, 0xff, 0xff][..]);
        assert_eq!(message(&mut endless).unwrap_err().0, 8);
    }

    #[test]
    fn what_the_server_says_is_unescaped() {
        assert_eq!(unescaped(b"50%25 %e2%82%ac %zz %4"), "50% \u{20ac} %zz %4");
    }
}
