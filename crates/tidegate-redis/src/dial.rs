//! One connection to one server: files read, name resolved, socket tuned, TLS shaken,
//! signed in. All within one deadline, and each failure says at which step it came.
//!
//! The stream is our own, not the `redis` crate's: only so can a certificate bear another
//! name than the host that is connected to, and can the socket be tuned.

use crate::error::{Error, Refusal, chain};
use crate::settings::{Access, Address};
use crate::tls;
use redis::aio::{MultiplexedConnection, PubSub};
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, Value};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use std::error::Error as _;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

/// Sent on a connection that carries nothing, so that a silent death is noticed.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(15);

/// The most addresses of one name that are tried. Each gets its part of the deadline, so one
/// that swallows packets leaves time for the next.
const ADDRESSES_MAX: usize = 4;

/// A connection that is signed in.
pub(crate) struct Dialled {
    /// Answers only while the driver is polled.
    pub(crate) connection: MultiplexedConnection,
    /// Ends when the connection does; dropping it closes the connection.
    pub(crate) driver: Driver,
    /// Whom the name led to.
    pub(crate) peer: SocketAddr,
    /// What the server showed of itself, its own certificate first; none without TLS.
    pub(crate) certificates: Vec<CertificateDer<'static>>,
}

pub(crate) type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How to dial, whomever.
#[derive(Clone, Copy, Debug)]
pub(crate) struct How {
    /// Database number.
    pub(crate) db: u32,
    /// For all of it; afterwards it is the deadline of each reply.
    pub(crate) within: Duration,
    /// How long sent bytes may stay unacknowledged.
    pub(crate) unacknowledged: Duration,
}

/// Why there is no connection. It shows no secret.
#[derive(Clone, Debug)]
pub(crate) struct DialError {
    /// How far it came.
    pub(crate) step: Step,
    /// What happened there.
    pub(crate) text: String,
    /// Whether the server said that it does not let us in: trying again at once is no use.
    pub(crate) is_refused: bool,
}

/// The steps of dialling, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Reading the password's and the certificates' files.
    Files,
    /// Finding the host's address.
    Resolve,
    /// Connecting to it.
    Connect,
    /// Shaking hands over TLS.
    Tls,
    /// Saying who we are.
    SignIn,
    /// Loading the script and running it.
    Prepare,
}

/// Connects and signs in.
///
/// # Errors
///
/// [`DialError`], also if all of it took longer than `how.within`.
pub(crate) async fn dial(
    address: &Address,
    access: &Access,
    how: How,
) -> Result<Dialled, DialError> {
    let until = Instant::now() + how.within;
    let line = reach(address, access, how, until).await?;
    let patient = AsyncConnectionConfig::new().set_response_timeout(Some(how.within));
    let signed_in = MultiplexedConnection::new_with_config(&line.who, line.stream, patient);
    let (mut connection, driver) = signing_in(access, until, signed_in).await?;
    let mut driver: Driver = Box::pin(driver);
    if line.said_nothing {
        // A server that wants a password, or TLS, says so to the first command only.
        let ping = redis::cmd("PING");
        let pinged = async {
            tokio::select! {
                pong = ping.query_async::<Value>(&mut connection) => pong,
                () = &mut driver => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            }
        };
        let heard = async {
            match pinged.await {
                Err(error) if error.code().is_some_and(|code| code != "NOAUTH") => Ok(()),
                pinged => pinged.map(|_| ()),
            }
        };
        signing_in(access, until, heard).await?;
    }
    Ok(Dialled { connection, driver, peer: line.peer, certificates: line.certificates })
}

/// Connects, signs in, and leaves it to the caller what to subscribe to.
///
/// # Errors
///
/// As [`dial`].
pub(crate) async fn listen(
    address: &Address,
    access: &Access,
    how: How,
) -> Result<PubSub, DialError> {
    let until = Instant::now() + how.within;
    let line = reach(address, access, how, until).await?;
    signing_in(access, until, PubSub::new(&line.who, line.stream)).await
}

/// What goes over the wire, whatever is around it.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<W: AsyncRead + AsyncWrite + Send + Unpin> Wire for W {}

/// A stream to a server, and what to say on it first.
struct Line {
    stream: Box<dyn Wire>,
    peer: SocketAddr,
    certificates: Vec<CertificateDer<'static>>,
    who: RedisConnectionInfo,
    /// Whether signing in sends nothing at all.
    said_nothing: bool,
}

/// What the files hold now.
struct Papers {
    password: Option<String>,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

async fn reach(
    address: &Address,
    access: &Access,
    how: How,
    until: Instant,
) -> Result<Line, DialError> {
    let papers = papers(address, access, until).await?;
    let stream = connect(address, until).await?;
    tune(&stream, how).map_err(|error| Step::Connect.failed(&error))?;
    let peer = stream.peer_addr().map_err(|error| Step::Connect.failed(&error))?;
    let (stream, certificates): (Box<dyn Wire>, _) = match papers.tls {
        None => (Box::new(stream), Vec::new()),
        Some((config, name)) => {
            let shaken = TlsConnector::from(config).connect(name, stream);
            let stream = within(until, Step::Tls, shaken).await?.map_err(|error| {
                let hint = tls::hint(&error).map_or(String::new(), |hint| format!(" ({hint})"));
                Step::Tls.said(format!("{}{hint}", chain(&error)))
            })?;
            let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let shown = shown.iter().map(|certificate| certificate.clone().into_owned()).collect();
            (Box::new(stream), shown)
        }
    };
    let said_nothing = papers.password.is_none() && how.db == 0;
    let who = who(access, papers.password, how.db);
    Ok(Line { stream, peer, certificates, who, said_nothing })
}

async fn papers(address: &Address, access: &Access, until: Instant) -> Result<Papers, DialError> {
    let (access, host) = (access.clone(), address.host.clone());
    let reading = tokio::task::spawn_blocking(move || {
        let password = access.credentials.password.read();
        let password = password.map_err(|error| format!("password file: {error}"))?;
        let tls = match &access.tls {
            None => None,
            Some(tls) => Some((Arc::new(tls::client(tls)?), tls::server_name(tls, &host)?)),
        };
        Ok(Papers { password, tls })
    });
    match within(until, Step::Files, reading).await? {
        Ok(papers) => papers.map_err(|text| Step::Files.said(text)),
        Err(gone) => Err(Step::Files.failed(&gone)),
    }
}

async fn connect(address: &Address, until: Instant) -> Result<TcpStream, DialError> {
    let found = lookup_host((address.host.as_str(), address.port));
    let found = within(until, Step::Resolve, found).await?;
    let found: Vec<SocketAddr> =
        found.map_err(|error| Step::Resolve.failed(&error))?.take(ADDRESSES_MAX).collect();
    let mut error = Step::Resolve.said(format!("{} has no address", address.host));
    for (tried, peer) in found.iter().enumerate() {
        let left = until.saturating_duration_since(Instant::now());
        let part = left / u32::try_from(found.len() - tried).unwrap_or(1);
        match within(Instant::now() + part, Step::Connect, TcpStream::connect(peer)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(refused)) => error = Step::Connect.said(format!("{peer}: {refused}")),
            Err(late) => error = late,
        }
    }
    Err(error)
}

fn tune(stream: &TcpStream, how: How) -> io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    // Batches are whole messages: waiting to fill a segment would only delay them.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&socket2::TcpKeepalive::new().with_time(KEEPALIVE_AFTER))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(how.unacknowledged))?;
    Ok(())
}

/// RESP2, and nothing about the client library: a user with few rights may not say that.
fn who(access: &Access, password: Option<String>, db: u32) -> RedisConnectionInfo {
    let mut who = RedisConnectionInfo::default().set_skip_set_lib_name().set_db(db.into());
    if let Some(username) = &access.credentials.username {
        who = who.set_username(username);
    }
    if let Some(password) = password {
        who = who.set_password(password);
    }
    who
}

/// Waits for the server's word on who we are.
async fn signing_in<T>(
    access: &Access,
    until: Instant,
    signed_in: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, DialError> {
    let failed = |error: RedisError| {
        let hint = match &access.tls {
            None if error.is_connection_dropped() => Some("does this port want TLS?"),
            // Over TLS 1.3 a server says what it thinks of our certificate only now.
            _ => io_error(&error).and_then(tls::hint),
        };
        let hint = hint.map_or(String::new(), |hint| format!(" ({hint})"));
        match Error::of(error) {
            Error::Unknown(cause) => Step::SignIn.said(format!("{}{hint}", chain(&cause))),
            error => DialError {
                is_refused: matches!(error, Error::Refused(Refusal::NotAllowed, _)),
                ..Step::SignIn.said(chain(&error))
            },
        }
    };
    within(until, Step::SignIn, signed_in).await?.map_err(failed)
}

/// The error of the stream below, if it is one.
fn io_error(error: &RedisError) -> Option<&io::Error> {
    let below = error.source()?.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>()?;
    below.downcast_ref()
}

async fn within<T>(
    until: Instant,
    step: Step,
    work: impl Future<Output = T>,
) -> Result<T, DialError> {
    timeout_at(until, work).await.map_err(|_| {
        step.said(match step {
            Step::Tls => "no handshake in time (does this port speak TLS?)".to_owned(),
            _ => "not in time".to_owned(),
        })
    })
}

impl Step {
    /// A failure at this step.
    pub(crate) const fn said(self, text: String) -> DialError {
        DialError { step: self, text, is_refused: false }
    }

    fn failed(self, error: &dyn std::error::Error) -> DialError {
        self.said(chain(error))
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::SignIn => "sign in",
            Self::Prepare => "run the script",
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step.name(), self.text)
    }
}

impl std::error::Error for DialError {}
