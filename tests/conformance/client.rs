//! The client: does what a case's lines say, in step with what the filters log.
//!
//! `send METHOD PATH [FIELDS]` begins a request; `data TEXT`, `trailers FIELDS` and `end` go on
//! with it, without them it ends at once; `await TEXT` waits until a line of the case's log has
//! that text; `hang_up` gives up on the request. `http2` chooses the protocol, and
//! `sizes vary` that parts of bodies come as they come, `origin varies` that what reaches the
//! origin is chance, `with roots` that what roots logged belongs to the transcript, `pass MS` lets
//! time pass, and `until TEXT` says which line is the case's last, if not the deletion of the contexts, of which
//! there are `contexts N`, if not as many as filters.

use crate::home::Home;
use crate::transcript;
use anyhow::{Context as _, bail};
use bytes::Bytes;
use harness::{Result, wait};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

/// The longest that an answer may take. A request that hangs longer is said to.
pub(crate) const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// The longest that a line of the log may take. One that comes later does not come.
pub(crate) const LOG_DEADLINE: Duration = Duration::from_secs(8);

/// What a client got that did not get all.
const BROKEN: &str = "client: broken off";

/// A context's last line.
pub(crate) const DELETED: &str = "delete";

/// The most fields that an answer may have.
const FIELDS_MAX: usize = 4096;

/// Plays the client's part of a case; what it got, as a transcript shows it.
pub(crate) async fn play(home: &Home, case: &str, lines: &[String]) -> Result<Vec<String>> {
    let mut client = Client {
        home,
        case,
        is_http2: false,
        until: None,
        contexts: home.contexts(),
        request: None,
        got: Vec::new(),
    };
    for line in lines {
        client.act(line).await.with_context(|| line.clone())?;
    }
    client.finish().await?;
    match client.until {
        Some(line) => client.wait(line, 1).await?,
        None => client.wait(DELETED, client.contexts).await?,
    }
    Ok(client.got)
}

/// The status that a plain request gets.
pub(crate) async fn status(home: &Home) -> Result<u16> {
    let mut client = harness::client::Client::http1(home.address).await?;
    Ok(client.send(harness::client::get("/")).await?.status.as_u16())
}

struct Client<'a> {
    home: &'a Home,
    case: &'a str,
    is_http2: bool,
    until: Option<&'a str>,
    contexts: usize,
    request: Option<Running>,
    got: Vec<String>,
}

/// A request on its way.
struct Running {
    frames: Option<UnboundedSender<Frame<Bytes>>>,
    answer: JoinHandle<String>,
}

impl<'a> Client<'a> {
    async fn act(&mut self, line: &'a str) -> Result<()> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "http2" => self.is_http2 = true,
            // For others.
            "envoy" | "origin" | "sizes" | "with" => {}
            "pass" => wait::pass(Duration::from_millis(rest.parse()?)).await,
            "until" => self.until = Some(rest),
            "contexts" => self.contexts = rest.parse()?,
            "send" => {
                self.finish().await?;
                self.request = Some(self.send(rest).await?);
            }
            "data" => self.frame(Frame::data(unescaped(rest).into()))?,
            "trailers" => self.frame(Frame::trailers(fields(rest)?))?,
            "end" => self.end(),
            "await" => self.wait(rest, 1).await?,
            "hang_up" => {
                if let Some(request) = self.request.take() {
                    request.answer.abort();
                    self.got.push("client hung up".to_owned());
                }
            }
            _ => bail!("no such line for a client"),
        }
        Ok(())
    }

    async fn wait(&mut self, line: &str, times: usize) -> Result<()> {
        let seen = self.home.await_line(self.case, line, times);
        if tokio::time::timeout(LOG_DEADLINE, seen).await.is_err() {
            self.got.push(format!("never logged: {}", line.trim()));
        }
        Ok(())
    }

    async fn send(&self, rest: &str) -> Result<Running> {
        let mut words = rest.split_whitespace();
        let method = words.next().context("a method")?;
        let path = words.next().context("a path")?;
        // What proxies add where it is not there: so none does.
        let usual = "x-request-id=id&x-forwarded-for=10.1.2.3&x-forwarded-proto=http";
        let mut fields = fields(&format!("{usual}&{}", words.next().unwrap_or_default()))?;
        fields.insert("x-case", HeaderValue::from_str(self.case)?);
        let is_whole = matches!(method, "GET" | "HEAD" | "DELETE");
        let (frames, body) = if is_whole { (None, None) } else { channel() };
        let mut request = Request::new(Frames(body));
        *request.method_mut() = method.parse()?;
        *request.headers_mut() = fields;
        let sending = sender(self.home.address, self.is_http2, path, request).await?;
        let answer = tokio::spawn(async move {
            match tokio::time::timeout(ANSWER_DEADLINE, sending).await {
                Ok(answer) => answer,
                Err(_) => "client: no answer".to_owned(),
            }
        });
        Ok(Running { frames, answer })
    }

    fn frame(&self, frame: Frame<Bytes>) -> Result<()> {
        let request = self.request.as_ref().context("send comes first")?;
        let frames = request.frames.as_ref().context("a method with a body")?;
        // A proxy that answered early reads no more.
        let _ = frames.send(frame);
        Ok(())
    }

    fn end(&mut self) {
        if let Some(request) = &mut self.request {
            request.frames = None;
        }
    }

    async fn finish(&mut self) -> Result<()> {
        self.end();
        if let Some(request) = self.request.take() {
            self.got.push(request.answer.await?);
        }
        Ok(())
    }
}

type Sent = (Option<UnboundedSender<Frame<Bytes>>>, Option<UnboundedReceiver<Frame<Bytes>>>);

fn channel() -> Sent {
    let (sender, receiver) = unbounded_channel();
    (Some(sender), Some(receiver))
}

/// Connects; what then remains is to send the request and to read the answer.
async fn sender(
    address: SocketAddr,
    is_http2: bool,
    path: &str,
    mut request: Request<Frames>,
) -> Result<Pin<Box<dyn Future<Output = String> + Send>>> {
    let stream = TokioIo::new(TcpStream::connect(address).await?);
    if is_http2 {
        *request.uri_mut() = format!("http://shop.example{path}").parse()?;
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
        tokio::spawn(connection);
        return Ok(Box::pin(async move { got(sender.send_request(request).await).await }));
    }
    *request.uri_mut() = path.parse()?;
    request.headers_mut().entry("host").or_insert(HeaderValue::from_static("shop.example"));
    let (mut sender, connection) =
        http1::Builder::new().max_headers(FIELDS_MAX).handshake(stream).await?;
    tokio::spawn(connection);
    Ok(Box::pin(async move { got(sender.send_request(request).await).await }))
}

/// The answer as a transcript shows it.
async fn got(answer: hyper::Result<Response<Incoming>>) -> String {
    let Ok(response) = answer else { return BROKEN.to_owned() };
    let (parts, mut body) = response.into_parts();
    let (mut content, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                content.extend(frame.data_ref().into_iter().flatten());
                trailers.extend(frame.into_trailers().unwrap_or_default());
            }
            // How much of it came is chance.
            Err(_) => return BROKEN.to_owned(),
        }
    }
    let what = format!("client: {}", parts.status.as_u16());
    transcript::message(&what, &parts.headers, &content, &trailers)
}

/// A body whose frames come when the case says so; the end, when their sender is dropped.
struct Frames(Option<UnboundedReceiver<Frame<Bytes>>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            Some(frames) => frames.poll_recv(cx).map(|frame| frame.map(Ok)),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

/// `name=value&name=value`, with `%2e` for a byte by its hex number.
fn fields(text: &str) -> Result<HeaderMap> {
    let pairs = text.split('&').filter(|it| !it.is_empty());
    let mut fields = HeaderMap::new();
    for pair in pairs {
        let (times, pair) = match pair.split_once('*') {
            Some((times, pair)) => (times.parse()?, pair),
            None => (1, pair),
        };
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        for place in 0..times {
            let name = name.replace('#', &place.to_string());
            let value = HeaderValue::from_bytes(&unescaped(value))?;
            fields.append(HeaderName::try_from(name)?, value);
        }
    }
    Ok(fields)
}

/// `N*TEXT` is a text N times.
pub(crate) fn unescaped(text: &str) -> Vec<u8> {
    if let Some((times, text)) = text.split_once('*')
        && let Ok(times) = times.parse()
    {
        return unescaped(text).repeat(times);
    }
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    bytes
}
