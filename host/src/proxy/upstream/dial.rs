//! New connections.

use super::{Failure, RequestBody};
use crate::proxy::plan::Peer;
use crate::proxy::settings::Url;
use crate::proxy::tcp::Stream;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use proxy_wasm_host::exchange::UpstreamFacts;
use std::future::Future;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// A peer that says nothing for so long, with exchanges under way, is asked whether it is
/// there, and given up after as long again.
const PING: Duration = Duration::from_secs(20);

/// What a response's head may take at most, in bytes; Envoy's bound.
const HEAD_BYTES_MAX: usize = 60 << 10;

/// What one exchange may send ahead of its reader, and all of a connection.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;

/// A connection for one exchange at a time.
pub(in crate::proxy) struct Http1 {
    pub(super) sender: http1::SendRequest<RequestBody>,
    pub(super) facts: UpstreamFacts,
}

/// A connection for many.
#[derive(Clone)]
pub(in crate::proxy) struct Http2 {
    pub(super) sender: http2::SendRequest<RequestBody>,
    pub(super) facts: UpstreamFacts,
}

/// hyper's tasks stay on this thread, for bodies do.
#[derive(Clone, Copy)]
pub(in crate::proxy) struct HereOnly;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for HereOnly {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

pub(super) async fn http1(peer: &Peer) -> Result<Http1, Failure> {
    let (stream, facts) = plain(peer).await?;
    let sender = match stream {
        Plain::Unix(stream) => shake_http1(stream).await,
        Plain::Tcp(stream) => match &peer.tls {
            Some(_) => shake_http1(encrypted(peer, stream).await?).await,
            None => shake_http1(stream).await,
        },
    }?;
    Ok(Http1 { sender, facts })
}

pub(super) async fn http2(peer: &Peer) -> Result<Http2, Failure> {
    let (stream, facts) = plain(peer).await?;
    let sender = match stream {
        Plain::Unix(stream) => shake_http2(stream).await,
        Plain::Tcp(stream) => match &peer.tls {
            Some(_) => shake_http2(encrypted(peer, stream).await?).await,
            None => shake_http2(stream).await,
        },
    }?;
    Ok(Http2 { sender, facts })
}

pub(super) async fn bytes(peer: &Peer) -> Result<(Box<dyn Stream>, UpstreamFacts), Failure> {
    let (stream, facts) = plain(peer).await?;
    let stream: Box<dyn Stream> = match stream {
        Plain::Unix(stream) => Box::new(stream),
        Plain::Tcp(stream) if peer.tls.is_some() => Box::new(encrypted(peer, stream).await?),
        Plain::Tcp(stream) => Box::new(stream),
    };
    Ok((stream, facts))
}

/// A connection without TLS yet.
enum Plain {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Connects, to the first of a name's addresses that answers.
async fn plain(peer: &Peer) -> Result<(Plain, UpstreamFacts), Failure> {
    match &peer.upstream.url {
        Url::Unix(path) => {
            let stream = UnixStream::connect(path).await.map_err(|error| refused(&error))?;
            Ok((Plain::Unix(stream), UpstreamFacts::default()))
        }
        Url::Tcp { host, port, .. } => {
            let stream = TcpStream::connect((host.as_str(), *port))
                .await
                .map_err(|error| refused(&error))?;
            // Small messages both ways: waiting to fill a segment costs 40 ms.
            let _ = stream.set_nodelay(true);
            let facts = UpstreamFacts {
                address: stream.peer_addr().ok(),
                local_address: stream.local_addr().ok(),
                ready_ns: None,
            };
            Ok((Plain::Tcp(stream), facts))
        }
    }
}

/// TLS over a connection, if the peer wants it.
async fn encrypted(
    peer: &Peer,
    stream: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Failure> {
    let Some((config, name)) = &peer.tls else {
        return Err(Failure::Connect("this upstream speaks no TLS".to_owned()));
    };
    let connector = TlsConnector::from(config.clone());
    let connected = connector.connect(name.clone(), stream).await;
    connected.map_err(|error| Failure::Connect(format!("TLS error: {error}")))
}

fn refused(error: &io::Error) -> Failure {
    let why = match error.kind() {
        io::ErrorKind::ConnectionRefused => "Connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "Connection reset by peer".to_owned(),
        _ => error.to_string(),
    };
    Failure::Connect(format!("delayed connect error: {why}"))
}

async fn shake_http1<S>(stream: S) -> Result<http1::SendRequest<RequestBody>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    builder.max_header_size(HEAD_BYTES_MAX);
    let shook = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shook.map_err(|error| Failure::of(&error))?;
    tokio::task::spawn_local(connection.with_upgrades());
    Ok(sender)
}

async fn shake_http2<S>(stream: S) -> Result<http2::SendRequest<RequestBody>, Failure>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut builder = http2::Builder::new(HereOnly);
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
    let shook = builder.handshake(TokioIo::new(stream)).await;
    let (sender, connection) = shook.map_err(|error| Failure::of(&error))?;
    tokio::task::spawn_local(connection);
    Ok(sender)
}
