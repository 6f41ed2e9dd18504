//! Doors: sockets, the connections that they let in, and how those end.
//!
//! Each lane has a socket of its own at the same address (`SO_REUSEPORT`), so the kernel
//! hands out connections. HTTP/1.1 and HTTP/2 are told apart by a connection's first bytes,
//! or by TLS. Every wait has an end: see [`watch`].

mod connection;
mod watch;

pub(super) use connection::Visit;

use super::lane::Lane;
use super::lane::Route;
use super::settings::Protocol;
use super::tcp;
use crate::tls::certificate;
use proxy_wasm_host::exchange::{ConnectionFacts, TlsFacts};
use rustls::ServerConfig;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Connections that the kernel keeps while a lane is busy.
const BACKLOG: u32 = 1_024;

/// After a failure to accept (no file descriptors left) others get time to close theirs.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that listens, not yet of any lane.
pub(super) struct Socket {
    listener: std::net::TcpListener,
}

/// As many sockets at one address as there are lanes. Within a runtime; port 0 is one that
/// is free.
///
/// # Errors
///
/// If the address cannot be had.
pub(super) fn sockets(address: SocketAddr, lanes: usize) -> io::Result<Vec<Socket>> {
    if address.port() != 0 {
        // Where another process listens that shares its address too, this would join it and
        // get a part of its connections: alone it cannot.
        drop(std::net::TcpListener::bind(address)?);
    }
    let mut sockets: Vec<Socket> = Vec::with_capacity(lanes);
    for _ in 0..lanes {
        let address = match sockets.first() {
            Some(first) => first.listener.local_addr()?,
            None => address,
        };
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        if lanes > 1 {
            socket.set_reuseport(true)?;
        }
        socket.bind(address)?;
        sockets.push(Socket { listener: socket.listen(BACKLOG)?.into_std()? });
    }
    Ok(sockets)
}

impl Socket {
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Lets connections in until the lane stops.
pub(super) async fn accept(lane: Rc<Lane>, listener: usize, socket: Socket) {
    let Ok(socket) = TcpListener::from_std(socket.listener) else { return };
    let mut stop = lane.stop();
    let Some(route) = lane.route(listener) else { return };
    let settings = &route.plan.settings;
    let room = settings.bounds.connections_max.div_ceil(settings.workers);
    let room = Arc::new(Semaphore::new(room));
    drop(route);
    loop {
        // No room: whoever comes waits in the kernel's queue.
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (socket.accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            accepted = accepted => accepted,
            _ = stop.wait_for(|stops| *stops) => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (lane, guest) = (Rc::clone(&lane), lane.guest());
                tokio::task::spawn_local(async move {
                    let counts = Arc::clone(&lane.counts);
                    let _counted = counts.connection();
                    let _here = (permit, guest);
                    greet(&lane, listener, stream, peer).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Sees to a new connection, until it ends.
async fn greet(lane: &Rc<Lane>, listener: usize, stream: TcpStream, peer: SocketAddr) {
    // Small messages both ways: waiting to fill a segment costs 40 ms.
    let _ = stream.set_nodelay(true);
    let Some(route) = lane.route(listener) else { return };
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let facts = ConnectionFacts {
        id: lane.shared.connection_id(),
        source: Some(peer),
        destination: stream.local_addr().ok(),
        tls: None,
    };
    let is_http = route.plan.settings.listeners.get(listener).map(|listener| listener.protocol)
        == Some(Protocol::Http);
    match &route.tls {
        None if is_http => connection::serve(lane, &route, listener, stream, peer, facts).await,
        None => tcp::serve(lane, &route, stream, facts).await,
        Some(tls) => {
            let Some((stream, tls)) = shake(&route, tls, stream).await else { return };
            let facts = ConnectionFacts { tls: Some(tls), ..facts };
            match is_http {
                true => connection::serve(lane, &route, listener, stream, peer, facts).await,
                false => tcp::serve(lane, &route, stream, facts).await,
            }
        }
    }
}

async fn shake(
    route: &Route,
    tls: &Arc<ServerConfig>,
    stream: TcpStream,
) -> Option<(TlsStream<TcpStream>, TlsFacts)> {
    let shaking = TlsAcceptor::from(Arc::clone(tls)).accept(stream);
    let max = route.plan.settings.timeouts.request_headers;
    let stream = match tokio::time::timeout(max, shaking).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            return None;
        }
        Err(_) => {
            tracing::debug!("a TLS handshake took too long");
            return None;
        }
    };
    let (_, session) = stream.get_ref();
    let version = match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "",
    };
    let facts = TlsFacts {
        version: version.to_owned(),
        server_name: session.server_name().unwrap_or_default().to_owned(),
        peer: session.peer_certificates().and_then(|shown| certificate::facts(shown.first()?)),
    };
    Some((stream, facts))
}
