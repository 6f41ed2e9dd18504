//! Keeps a connection in a link: to the server that is the one to ask, for as long as it works.
//!
//! The keeper dials where it is told to (`target`); when that changes, the old connection is
//! closed at once, before the new one is there. A connection counts as there once the server
//! has said that it is a master and the script has run on it and written something, which is
//! what asks will do. The same probe runs every [`PROBE_EVERY`], so trouble is known before an
//! ask meets it. One that is old or idle, as set, is replaced, its successor being ready first.
//!
//! ## No storm on a server that is coming back
//!
//! After a failed attempt the keeper waits, first [`BACKOFF_MIN`], then twice as long each
//! time, up to [`BACKOFF_MAX`], half of it by chance. So one host makes no more than seven
//! attempts in the first second and then two a second at most to each server, however many
//! asks there are, and many hosts do not come in one moment. Where the server does not let us
//! in, more haste would only fill its log: then it is [`REFUSED_AGAIN`].

use crate::dial::{self, DialError, Dialled, How, Step};
use crate::error::{Error, chain};
use crate::lineage::{Histories, History};
use crate::link::{Link, Live, State};
use crate::probe::{Probe, Probed};
use crate::settings::{Address, Servers, Settings};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

/// How often an established connection is probed.
const PROBE_EVERY: Duration = Duration::from_secs(1);

/// How often it is probed while its server is known not to answer asks.
const PROBE_OPEN_EVERY: Duration = Duration::from_millis(200);

/// The first wait after a failed attempt; it doubles …
const BACKOFF_MIN: Duration = Duration::from_millis(20);

/// … to this one. A server that is back is so found within a second.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// The wait after the server did not let us in, half of it by chance.
const REFUSED_AGAIN: Duration = Duration::from_secs(4);

/// A connection that lasted so long was no failed attempt.
const PROVEN_AFTER: Duration = Duration::from_secs(2);

/// Keeps the connection of one link.
pub(crate) struct Keeper {
    pub(crate) settings: Arc<Settings>,
    pub(crate) link: Arc<Link>,
    pub(crate) probe: Arc<Probe>,
    pub(crate) histories: Arc<Histories>,
}

/// The connection's own task, ended with what holds this.
struct Driven(AbortHandle);

impl Keeper {
    /// Keeps a connection to `target`, the server to ask if anybody knows, for as long as this
    /// is polled and somebody may name one.
    pub(crate) async fn run(self, mut target: watch::Receiver<Option<Address>>) {
        let mut backoff = BACKOFF_MIN;
        let mut history = None;
        loop {
            let Some(address) = target.borrow_and_update().clone() else {
                if target.changed().await.is_err() {
                    return;
                }
                backoff = BACKOFF_MIN;
                continue;
            };
            let dialled = tokio::select! {
                dialled = self.dial(&address, history.as_ref()) => dialled,
                // Somebody else is the one to ask: whoever hangs is not waited for.
                changed = target.changed() => match changed {
                    Ok(()) => {
                        backoff = BACKOFF_MIN;
                        continue;
                    }
                    Err(_) => return,
                },
            };
            self.link.stats.dial(dialled.is_ok());
            let wait = match dialled {
                Ok((live, trouble)) => {
                    history = live.history.clone().or(history);
                    if self.link.put(&live, trouble) {
                        tracing::info!(server = %address, "redis connected");
                    }
                    self.tend(&live, &mut target).await;
                    if live.born.elapsed() >= PROVEN_AFTER {
                        backoff = BACKOFF_MIN;
                        continue;
                    }
                    backoff
                }
                Err(why) => {
                    self.failed(&address, &why);
                    if why.is_refused { REFUSED_AGAIN } else { backoff }
                }
            };
            backoff = (backoff * 2).min(BACKOFF_MAX);
            tokio::select! {
                () = sleep(wait.mul_f64(0.5 + 0.5 * fastrand::f64())) => {}
                changed = target.changed() => match changed {
                    Ok(()) => backoff = BACKOFF_MIN,
                    Err(_) => return,
                },
            }
        }
    }

    /// Connects, signs in, and has the script run; says what is wrong there all the same.
    async fn dial(
        &self,
        address: &Address,
        before: Option<&Arc<History>>,
    ) -> Result<(Arc<Live>, Option<String>), DialError> {
        let settings = &self.settings;
        let until = Instant::now() + settings.dial_timeout;
        let how = How {
            db: settings.db,
            within: settings.dial_timeout,
            unacknowledged: settings.write_timeout,
        };
        let Dialled { mut connection, driver, peer, .. } =
            dial::dial(address, &settings.access, how).await?;
        tracing::debug!(server = %address, %peer, "signed in to redis");
        let driver = tokio::spawn(driver);
        let driven = Driven(driver.abort_handle());
        let probed = timeout_at(until, self.probe.run(&mut connection)).await;
        let probed = probed
            .map_err(|_| Step::Prepare.said("not in time".to_owned()))?
            .map_err(|error| Step::Prepare.said(chain(&error)))?;
        let amiss = prepared(&probed)?;
        match amiss.as_ref().filter(|error| error.is_lasting()) {
            Some(error) => self.link.breaker.open(error.clone()),
            None => self.link.breaker.close(),
        };
        let trouble = amiss.and_then(|error| self.trouble(&error));
        connection.set_response_timeout(settings.read_timeout);
        let stats = &self.link.stats;
        let history = probed.lineage.map(|lineage| self.histories.enter(&lineage, before, stats));
        let live = Live::new(connection, driven.into_live(), address.clone(), history);
        let live = Arc::new(live);
        let (link, end) = (Arc::downgrade(&self.link), Arc::downgrade(&live));
        tokio::spawn(async move {
            let _ = driver.await;
            if let (Some(link), Some(live)) = (link.upgrade(), end.upgrade()) {
                link.give_up(&live, "the connection was closed");
            }
        });
        Ok((live, trouble))
    }

    /// Probes the connection until it is lost or due to be replaced.
    async fn tend(&self, live: &Arc<Live>, target: &mut watch::Receiver<Option<Address>>) {
        while self.link.holds(live) && !live.is_due(&self.settings) {
            // Once silent, it is probed without a pause: it is broken, or back.
            let pause = match (live.is_silent(), self.link.breaker.is_open()) {
                (true, _) => Duration::ZERO,
                (false, true) => PROBE_OPEN_EVERY,
                (false, false) => PROBE_EVERY,
            };
            tokio::select! {
                () = self.link.until(State::Away) => {}
                // To be probed sooner.
                () = self.link.breaker.opened() => {}
                _ = target.changed() => {
                    let named = target.borrow_and_update().clone();
                    if named.as_ref() != Some(&live.address) {
                        self.link.give_up(live, "its server is no longer the one to ask");
                        // For the next attempt to see it as changed.
                        target.mark_changed();
                    }
                }
                () = sleep(pause) => self.probe_once(live).await,
            }
        }
    }

    async fn probe_once(&self, live: &Arc<Live>) {
        let acknowledged = live.history.as_ref().map(|history| history.acknowledged());
        let probed = self.probe.run(&mut live.connection()).await;
        let failure = match &probed {
            Ok(probed) => probed.script.as_ref().err(),
            Err(error) => Some(error),
        };
        self.link.note(live, failure.map_or(Ok(()), Err));
        let (works, trouble) = (failure.is_none(), failure.and_then(|error| self.trouble(error)));
        let lineage = probed.ok().and_then(|probed| probed.lineage);
        if lineage.as_ref().is_some_and(|lineage| !lineage.is_master) {
            self.link.give_up(live, "it has become a replica");
        }
        if let (Some(history), Some(lineage), Some(acknowledged)) =
            (&live.history, &lineage, acknowledged)
        {
            history.mark(lineage, acknowledged);
        }
        if self.link.holds(live) {
            if works {
                self.link.proved(live);
            }
            self.link.set_trouble(trouble.as_deref());
        }
    }

    /// What is wrong, if that is not how a cluster works.
    fn trouble(&self, error: &Error) -> Option<String> {
        let is_cluster = matches!(self.settings.servers, Servers::Cluster { .. });
        match error {
            Error::Refused(refusal, _) if refusal.is_redirect() => (!is_cluster)
                .then(|| format!("{} (is this a cluster? set cluster_mode)", chain(error))),
            _ => Some(error.with_remedy()),
        }
    }

    fn failed(&self, address: &Address, why: &DialError) {
        self.link.failed();
        // A connection that was only to be replaced is still there, and stays.
        if !self.link.is_up() && self.link.set_trouble(Some(&why.to_string())) {
            match why.is_refused {
                true => tracing::error!(server = %address, %why, "redis does not let us in"),
                false => tracing::warn!(server = %address, %why, "cannot connect to redis"),
            }
        }
    }
}

/// What is wrong with a server that may be asked all the same; an error if it may not.
fn prepared(probed: &Probed) -> Result<Option<Error>, DialError> {
    if probed.lineage.as_ref().is_some_and(|lineage| !lineage.is_master) {
        return Err(Step::Prepare.said("this server is a replica".to_owned()));
    }
    match &probed.script {
        Ok(()) => Ok(None),
        Err(error @ Error::Refused(refusal, _)) if refusal.wants_another_connection() => {
            let is_refused = *refusal == crate::Refusal::NotAllowed;
            Err(DialError { is_refused, ..Step::Prepare.said(chain(error)) })
        }
        Err(error @ Error::Refused(..)) => Ok(Some(error.clone())),
        Err(error) => Err(Step::Prepare.said(chain(error))),
    }
}

impl Driven {
    /// From now on a [`Live`] ends it.
    fn into_live(self) -> AbortHandle {
        let handle = self.0.clone();
        std::mem::forget(self);
        handle
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.0.abort();
    }
}
