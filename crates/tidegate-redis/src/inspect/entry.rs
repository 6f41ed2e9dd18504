//! Getting in: how far one comes, how long that takes, and the certificate that is shown.

use super::Asking;
use crate::dial::{self, DialError, Dialled, How, Step};
use crate::settings::Address;
use redis::aio::MultiplexedConnection;
use std::time::{Duration, Instant, SystemTime};
use tokio::task::AbortHandle;
use x509_parser::prelude::{FromDer, X509Certificate};

/// We got in.
#[derive(Clone, Debug)]
pub struct Entry {
    /// To resolve, connect, shake hands and sign in.
    pub took: Duration,
    /// What the server showed of itself, if TLS is spoken.
    pub certificate: Option<Certificate>,
}

/// How long a certificate is good; of a chain, its shortest-lived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// From then on it is worth nothing.
    pub expires: SystemTime,
}

/// We did not get in.
#[derive(Clone, Debug)]
pub struct NoEntry {
    /// How far we came.
    pub stage: Stage,
    /// What happened there. It shows no secret.
    pub text: String,
}

/// The steps of getting in, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading the files of passwords and certificates.
    Files,
    /// Finding the host's address.
    Resolve,
    /// Connecting to it.
    Connect,
    /// Shaking hands over TLS.
    Tls,
    /// Saying who we are, and being heard.
    SignIn,
    /// Being refused because of who we say we are.
    Refused,
}

/// A connection for questions. It is closed when this is dropped.
pub(super) struct Line {
    pub(super) connection: MultiplexedConnection,
    driver: AbortHandle,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Gets in.
pub(super) async fn enter(address: &Address, asking: &Asking) -> Result<(Entry, Line), NoEntry> {
    let start = Instant::now();
    let Dialled { connection, driver, certificates, .. } =
        dial::dial(address, &asking.access, how(asking)).await?;
    let entry = Entry {
        took: start.elapsed(),
        certificate: certificates
            .iter()
            .filter_map(|certificate| expires(certificate))
            .min()
            .map(|expires| Certificate { expires }),
    };
    let driver = tokio::spawn(driver).abort_handle();
    Ok((entry, Line { connection, driver }))
}

/// As for asks, but with more patience.
pub(super) const fn how(asking: &Asking) -> How {
    How { db: asking.db, within: asking.within, unacknowledged: asking.unacknowledged }
}

/// When a certificate, as it was sent, ends.
fn expires(certificate: &[u8]) -> Option<SystemTime> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let seconds = certificate.validity().not_after.timestamp();
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}

impl From<DialError> for NoEntry {
    fn from(error: DialError) -> Self {
        let stage = match error.step {
            _ if error.is_refused => Stage::Refused,
            Step::Files => Stage::Files,
            Step::Resolve => Stage::Resolve,
            Step::Connect => Stage::Connect,
            Step::Tls => Stage::Tls,
            Step::SignIn | Step::Prepare => Stage::SignIn,
        };
        Self { stage, text: error.to_string() }
    }
}
