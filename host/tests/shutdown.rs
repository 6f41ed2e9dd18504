//! Told to stop: what is in flight is finished, what comes is turned away, and it ends with 0.

mod common;

use bytes::Bytes;
use common::{DEADLINE, Host, ask_request, await_some, one};
use http_body_util::BodyExt;
use hyper::Request;
use hyper::body::{Body, Frame};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustix::process::Signal;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;
use tidegate_core::wire;
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// The sending end of a body that comes piece by piece.
type Parts = mpsc::UnboundedSender<Bytes>;

/// The receiving end.
struct Pieces(mpsc::UnboundedReceiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

/// An ask whose body is still to come.
fn slow_ask() -> (Request<Pieces>, Parts) {
    let (parts, body) = mpsc::unbounded_channel();
    let (head, _) = ask_request(Bytes::new()).into_parts();
    (Request::from_parts(head, Pieces(body)), parts)
}

#[tokio::test]
async fn an_ask_in_flight_is_finished_and_then_it_ends() {
    let mut host = Host::serve("http: { request_timeout: 60s }\ndrain_timeout: 60s\n");
    let stream = TcpStream::connect(host.asks).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let ask = wire::encode_ask(&one(1, 3));
    let (request, parts) = slow_ask();
    let reply = tokio::spawn(sender.send_request(request));
    parts.send(Bytes::copy_from_slice(&ask[..10])).unwrap();
    in_flight(&host, 1).await;

    host.signal(Signal::TERM);
    ready(&host, 503, "draining").await;
    await_refusal(&host).await;
    assert_eq!(host.admin("/healthz").await.0, 200, "alive, though not ready");

    parts.send(Bytes::copy_from_slice(&ask[10..])).unwrap();
    drop(parts);
    let reply = tokio::time::timeout(DEADLINE, reply).await.unwrap().unwrap().unwrap();
    assert_eq!(reply.status(), 200);
    let reply = wire::decode_reply(&reply.collect().await.unwrap().to_bytes()).unwrap();
    assert!(reply.admits());
    // The GOAWAY ends the connection from here; nobody closed it on this side.
    tokio::time::timeout(DEADLINE, connection).await.unwrap().unwrap().unwrap();
    assert!(host.ended().await.success());
    host.logs().line_with(&["\"drained\""]);
}

#[tokio::test]
async fn idle_connections_of_every_kind_are_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("asks.sock");
    let mut host = Host::serve(&format!("unix_socket: {}\n", socket.display()));
    let (mut first, mut second) = (host.http1().await, host.http2().await);
    first.reply(&one(1, 3)).await;
    second.reply(&one(1, 3)).await;
    let _silent = TcpStream::connect(host.asks).await.unwrap();
    let _admin = TcpStream::connect(host.admin).await.unwrap();
    host.signal(Signal::INT);
    assert!(host.ended().await.success());
    assert!(!socket.exists(), "the socket's file goes with the door");
}

#[tokio::test]
async fn a_drain_has_an_end() {
    let mut host = Host::serve("http: { request_timeout: 60s }\ndrain_timeout: 50ms\n");
    let _stuck = stuck(&host).await;
    host.signal(Signal::TERM);
    assert!(host.ended().await.success());
    host.logs().line_with(&["drain timeout", "\"asks_in_flight\":1"]);
}

#[tokio::test]
async fn told_twice_it_ends_at_once() {
    let mut host = Host::serve("http: { request_timeout: 60s }\ndrain_timeout: 600s\n");
    let _stuck = stuck(&host).await;
    host.signal(Signal::TERM);
    ready(&host, 503, "draining").await;
    host.signal(Signal::TERM);
    assert!(host.ended().await.success());
    host.logs().line_with(&["told twice"]);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let host = Host::serve("http: { request_timeout: 100ms }\n");
    let stream = TcpStream::connect(host.asks).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (request, _parts) = slow_ask();
    let reply = tokio::time::timeout(DEADLINE, sender.send_request(request)).await.unwrap();
    assert_eq!(reply.unwrap().status(), 408);
    assert_eq!(host.metric("tidegate_asks_total{outcome=\"incomplete\"}").await, 1.0);
}

#[tokio::test]
async fn more_asks_than_may_be_in_flight_get_503_at_once() {
    let host = Host::serve("http: { request_timeout: 60s, in_flight_max: 1 }\n");
    let _stuck = stuck(&host).await;
    let mut other = host.http2().await;
    let start = Instant::now();
    let (head, body) = other.ask(wire::encode_ask(&one(1, 3))).await;
    assert_eq!((head.status().as_u16(), &body[..]), (503, &b"too many asks in flight\n"[..]));
    assert_eq!(head.headers()["x-tidegate"], "1");
    assert!(start.elapsed().as_secs() < 5);
}

#[tokio::test]
async fn more_connections_than_may_be_wait_their_turn() {
    let host = Host::serve("http: { connections_max: 1 }\n");
    let mut first = host.http2().await;
    first.reply(&one(1, 3)).await;
    // The kernel accepts; the service does not until there is room.
    let mut second = host.http1().await;
    let ask = wire::encode_ask(&one(1, 3));
    let mut waiting = tokio::spawn(async move { second.ask(ask).await.0.status() });
    first.reply(&one(1, 3)).await;
    assert!(
        tokio::time::timeout(std::time::Duration::from_millis(100), &mut waiting).await.is_err()
    );
    drop(first);
    assert_eq!(tokio::time::timeout(DEADLINE, waiting).await.unwrap().unwrap(), 200);
}

/// A connection with an ask in flight that never ends.
async fn stuck(host: &Host) -> (Parts, impl Sized + use<>) {
    let stream = TcpStream::connect(host.asks).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let (request, parts) = slow_ask();
    let reply = tokio::spawn(sender.send_request(request));
    in_flight(host, 1).await;
    (parts, (sender, reply))
}

async fn in_flight(host: &Host, asks: u32) {
    let end = Instant::now() + DEADLINE;
    while host.metric("tidegate_asks_in_flight").await != f64::from(asks) {
        assert!(Instant::now() < end);
    }
}

async fn ready(host: &Host, status: u16, reason: &str) {
    let end = Instant::now() + DEADLINE;
    loop {
        let (found, body) = host.admin("/readyz").await;
        if found == status && body.contains(reason) {
            return;
        }
        assert!(Instant::now() < end, "{found} {body}");
    }
}

/// Waits until nobody listens for asks any more.
async fn await_refusal(host: &Host) {
    let connect = || std::net::TcpStream::connect(host.asks).err();
    await_some("a closed door", connect).await;
}
