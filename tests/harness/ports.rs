//! Ports for processes that cannot pick their own.

use crate::Result;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// An address on loopback that was free a moment ago.
///
/// Somebody else may take it before it is used: whoever starts a process on it must
/// try again with another ([`TRIES`]). Envoy needs none, it binds port 0 and says which.
///
/// # Errors
///
/// If the machine has no port left.
pub fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// How often to try again after losing the race for a port. Losing once is rare.
pub const TRIES: usize = 5;

/// Where nobody listens: connecting is refused at once. Port 1 (tcpmux) needs privileges
/// to bind and is not used anywhere.
pub const REFUSED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
