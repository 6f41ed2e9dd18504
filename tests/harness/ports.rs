//! Ports for processes that cannot pick their own.
//!
//! They are below those that the system gives to outgoing connections, so none of the many
//! connections of a test run takes one between the look and the start, or while a server is
//! down for a moment. And tests go round in them together, whatever processes they run in, so
//! two that look at the same moment find different ones. What is left is a stranger's server.

use std::io::{Error, Result, Seek, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

/// An address on loopback that was free a moment ago.
///
/// Somebody else may take it before it is used: whoever starts a process on it must
/// try again with another ([`TRIES`]). Envoy needs none, it binds port 0 and says which.
///
/// # Errors
///
/// If the machine has no port left, or if where the tests have got to cannot be kept.
pub fn free() -> Result<SocketAddr> {
    let ports = below_connections();
    let mut turn = Turn::open()?;
    for _ in ports.clone() {
        let further = turn.next()? % ports.len() as u64;
        let port = ports.start + u16::try_from(further).map_err(Error::other)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(Error::other(format!("no port of {ports:?} is free")))
}

/// How often to try again after losing the race for a port. Losing once is rare.
pub const TRIES: usize = 5;

/// Where nobody listens: connecting is refused at once. Port 1 (tcpmux) needs privileges
/// to bind and is not used anywhere.
pub const REFUSED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

/// The ports below those of outgoing connections, or above them where they begin low. Redis
/// Cluster's own default adds 10,000 for its bus, which these leave room for.
fn below_connections() -> Range<u16> {
    let said = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let mut ends = said.iter().flat_map(|said| said.split_whitespace()).map(str::parse::<u16>);
    match (ends.next(), ends.next()) {
        (Some(Ok(first)), _) if first > 20_000 => 10_000..first,
        (Some(Ok(_)), Some(Ok(last))) if last < 60_000 => last + 1..u16::MAX,
        // Linux's default.
        _ => 10_000..32_768,
    }
}

/// Where the tests of this user have got to: a file's length. Bytes appended at once by several
/// processes come one after another, and each is told where its own ended (`O_APPEND`).
struct Turn(std::fs::File);

impl Turn {
    fn open() -> Result<Self> {
        let user = std::fs::metadata("/proc/self")?.uid();
        let path = std::env::temp_dir().join(format!("tidegate-test-ports-{user}"));
        std::fs::File::options().append(true).create(true).open(path).map(Self)
    }

    fn next(&mut self) -> Result<u64> {
        self.0.write_all(b".")?;
        self.0.stream_position()
    }
}
