//! A connection of one's own to whoever has the log: made when it is needed, dropped when it is
//! of no more use, and never hurried.
//!
//! It goes where Sentinel or the cluster says that the log is, and from there to where a node
//! of the cluster sends it. If another is named meanwhile it is dropped at once, whatever is
//! under way on it: a master that was replaced goes on taking writes for ten seconds.

use super::HASH_TAG;
use crate::cluster::{Cluster, slot_of_tag};
use crate::dial::{self, How};
use crate::error::{Error, Refusal};
use crate::settings::{Address, Settings};
use crate::stats::Stats;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, Pipeline, RedisError, Value};
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

/// The first wait after a failed attempt to connect, half of it by chance; it doubles …
const BACKOFF_MIN: Duration = Duration::from_millis(20);

/// … to this one.
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// A connection that lasted so long was no failed attempt.
const PROVEN_AFTER: Duration = Duration::from_secs(2);

/// The shortest deadline for a reply. No request waits for the log, and an answer may be a
/// megabyte: what is late for an ask is not late here.
const REPLY_WITHIN_MIN: Duration = Duration::from_secs(1);

/// How often a command is sent on to another node, and after what pause: see `cluster`.
const REDIRECTS: [Duration; 5] = [
    Duration::ZERO,
    Duration::ZERO,
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(20),
];

/// Who says where the log is.
#[derive(Clone)]
pub(crate) enum Home {
    /// There is one server, if anybody knows which.
    One(watch::Receiver<Option<Address>>),
    /// It is in a slot of this cluster.
    Cluster(Arc<Cluster>),
}

/// A connection to the log's server, one command after the other.
pub(crate) struct Line {
    home: Home,
    settings: Arc<Settings>,
    stats: Arc<Stats>,
    up: Option<Up>,
    /// Where a node sent us, and whether that is about keys on their way.
    sent_to: Option<(Address, bool)>,
    backoff: Duration,
    not_before: Instant,
    trouble: Option<String>,
}

/// A connection that is there.
struct Up {
    connection: MultiplexedConnection,
    /// Who was named then; that somebody else is named now is the end of it.
    named: Option<Address>,
    address: Address,
    /// Whether each command wants `ASKING` before it.
    asking: bool,
    born: Instant,
    /// Replaced at this age, if any is set.
    lasts: Option<Duration>,
    driver: AbortHandle,
}

impl Home {
    fn named(&mut self) -> Option<Address> {
        match self {
            Self::One(target) => target.borrow_and_update().clone(),
            Self::Cluster(cluster) => cluster.owner(slot_of_tag(HASH_TAG)),
        }
    }

    /// Waits until it may be another. Of a cluster it is told by the node itself.
    async fn changed(&mut self) {
        if let Self::One(target) = self
            && target.changed().await.is_ok()
        {
            return;
        }
        pending().await
    }

    fn was_wrong(&self) {
        if let Self::Cluster(cluster) = self {
            cluster.look_again();
        }
    }
}

impl Line {
    pub(crate) fn new(home: Home, settings: Arc<Settings>, stats: Arc<Stats>) -> Self {
        Self {
            home,
            settings,
            stats,
            up: None,
            sent_to: None,
            backoff: BACKOFF_MIN,
            not_before: Instant::now(),
            trouble: Some("not connected yet".to_owned()),
        }
    }

    /// Why there is no connection; `None` if there is one.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// What the server says to each of these commands, all of which are about the log's slot
    /// or no key at all, and may be sent again if the first of them was refused.
    ///
    /// `blocks` is how long they may take by their own wish. Waits for a connection as long as
    /// that takes, or fails.
    ///
    /// # Errors
    ///
    /// [`Error`] if there is no reply to any; nothing is under way any more then.
    pub(crate) async fn ask(
        &mut self,
        commands: &[Cmd],
        blocks: Duration,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let within = blocks + self.settings.read_timeout.max(REPLY_WITHIN_MIN);
        for pause in REDIRECTS {
            let mut up = self.connected().await?;
            let replies = tokio::select! {
                replies = up.ask(commands, within) => replies,
                () = self.home.changed() => Err(replaced()),
            };
            // Dropped, with its connection, if there is anything wrong with it.
            let replies = replies.inspect_err(|error| {
                tracing::debug!(server = %up.address, %error, "log connection given up");
            })?;
            let refused = replies.iter().find_map(|reply| match reply {
                Err(Error::Refused(refusal, said)) => Some((*refusal, said.clone())),
                _ => None,
            });
            match refused {
                Some((refusal, said)) if refusal.is_redirect() => {
                    self.home.was_wrong();
                    self.sent_to = said
                        .redirect_node()
                        .and_then(|(node, _)| Address::parse(node))
                        .map(|node| (node, refusal == Refusal::Ask));
                    self.stats.redirect();
                    sleep(pause).await;
                }
                Some((refusal, _)) if refusal.wants_another_connection() => {
                    self.slow_down();
                    return Ok(replies);
                }
                _ => {
                    if up.born.elapsed() >= PROVEN_AFTER {
                        self.backoff = BACKOFF_MIN;
                    }
                    // What is asked for a key on its way is the source's again for others.
                    self.up = Some(up).filter(|up| !up.asking);
                    return Ok(replies);
                }
            }
        }
        Err(Error::Away)
    }

    /// The connection, taken out: it is put back when it has proved good.
    async fn connected(&mut self) -> Result<Up, Error> {
        let named = self.home.named();
        if self.sent_to.is_none()
            && let Some(up) = self.up.take()
            && up.is_of(named.as_ref())
        {
            return Ok(up);
        }
        self.up = None;
        sleep_until(self.not_before).await;
        let sent_to = self.sent_to.take();
        let (address, asking) = match (sent_to, &named) {
            (Some(sent_to), _) => sent_to,
            (None, Some(address)) => (address.clone(), false),
            (None, None) => {
                self.failed("nobody names the server that has it");
                return Err(Error::Away);
            }
        };
        let settings = &self.settings;
        let how = How {
            db: settings.db,
            within: settings.dial_timeout,
            unacknowledged: settings.write_timeout,
        };
        let dialled = dial::dial(&address, &settings.access, how).await;
        self.stats.dial(dialled.is_ok());
        let dialled = match dialled {
            Ok(dialled) => dialled,
            Err(why) => {
                self.failed(&format!("{address}: {why}"));
                return Err(Error::Away);
            }
        };
        self.trouble = None;
        let driver = tokio::spawn(dialled.driver).abort_handle();
        let spread = 0.9 + 0.1 * fastrand::f64();
        let lasts = self.settings.max_conn_age.map(|age| age.mul_f64(spread));
        let (connection, born) = (dialled.connection, Instant::now());
        Ok(Up { connection, named, address, asking, born, lasts, driver })
    }

    fn failed(&mut self, why: &str) {
        self.home.was_wrong();
        self.slow_down();
        if self.trouble.as_deref() != Some(why) {
            tracing::warn!(why, "the log of revocations cannot be reached");
            self.trouble = Some(why.to_owned());
        }
    }

    fn slow_down(&mut self) {
        let wait = self.backoff.mul_f64(0.5 + 0.5 * fastrand::f64());
        self.not_before = Instant::now() + wait;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
    }
}

impl Up {
    /// Whether it may still be used, where this is who is named.
    fn is_of(&self, named: Option<&Address>) -> bool {
        let is_old = self.lasts.is_some_and(|lasts| self.born.elapsed() >= lasts);
        !is_old && !self.driver.is_finished() && self.named.as_ref() == named
    }

    async fn ask(
        &mut self,
        commands: &[Cmd],
        within: Duration,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let mut pipeline = Pipeline::new();
        for command in commands {
            if self.asking {
                pipeline.cmd("ASKING");
            }
            pipeline.add_command(command.clone());
        }
        self.connection.set_response_timeout(within);
        let sent = self.connection.req_packed_commands(&pipeline, 0, pipeline.len()).await;
        let values = sent.map_err(Error::of)?;
        let each = if self.asking { 2 } else { 1 };
        if values.len() != commands.len() * each {
            return Err(Error::Garbled("another number of replies"));
        }
        let said = values.into_iter().skip(each - 1).step_by(each);
        Ok(said
            .map(|value| match value {
                Value::ServerError(error) => Err(Error::of(RedisError::from(error))),
                value => Ok(value),
            })
            .collect())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// What was under way may have been done, by somebody who is not the one to ask.
fn replaced() -> Error {
    let why = "its server is no longer the one to ask";
    Error::Unknown(Arc::new(io::Error::new(io::ErrorKind::ConnectionAborted, why).into()))
}
