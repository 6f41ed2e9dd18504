//! One sentinel: kept connected to, twice, since a subscription carries nothing else.
//!
//! Connections that are old, as set, are replaced, their successors being ready first.

use super::judge::View;
use crate::dial::{self, DialError, Driver, How, Step};
use crate::error::{Error, chain};
use crate::settings::{Access, Address, Settings};
use arc_swap::ArcSwapOption;
use futures_util::{Stream, StreamExt};
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{FromRedisValue, Msg, Pipeline, Value};
use std::collections::HashMap;
use std::future::pending;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

/// The longest wait for an answer.
const ANSWER_WITHIN: Duration = Duration::from_millis(300);

/// So many answers in a row that did not come, and it is connected to anew.
const MISSES_MAX: u32 = 3;

/// The first wait after it could not be reached, half of it by chance; it doubles …
const BACKOFF_MIN: Duration = Duration::from_millis(50);

/// … to this one. The others are there meanwhile.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// The wait after old connections could not be replaced, half of it by chance.
const RENEW_AGAIN: Duration = Duration::from_secs(10);

/// What a switch is called.
const SWITCHED: &str = "+switch-master";

/// One sentinel.
pub(super) struct Sentinel {
    pub(super) address: Address,
    access: Access,
    master_name: String,
    how: How,
    max_age: Option<Duration>,
    connection: ArcSwapOption<MultiplexedConnection>,
    /// What is wrong with it; at first that nothing is known yet.
    trouble: Mutex<Option<String>>,
    /// Answers in a row that did not come.
    misses: AtomicU32,
    /// Rings when they were too many.
    lost: Notify,
    /// Whether the first attempt to reach it is over.
    is_tried: watch::Sender<bool>,
    /// Rings when it has something to say.
    news: Arc<Notify>,
}

/// Both connections to it.
struct Lines {
    questions: MultiplexedConnection,
    driver: Driver,
    news: Pin<Box<dyn Stream<Item = Msg> + Send>>,
}

impl Sentinel {
    pub(super) fn new(
        settings: &Settings,
        master_name: &str,
        address: Address,
        access: Access,
        news: Arc<Notify>,
    ) -> Self {
        Self {
            address,
            access,
            master_name: master_name.to_owned(),
            how: How {
                db: 0,
                within: settings.dial_timeout,
                unacknowledged: settings.write_timeout,
            },
            max_age: settings.max_conn_age,
            connection: ArcSwapOption::empty(),
            trouble: Mutex::new(Some("not connected yet".to_owned())),
            misses: AtomicU32::new(0),
            lost: Notify::new(),
            is_tried: watch::Sender::new(false),
            news,
        }
    }

    /// Why it cannot be asked, or what it does not know.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until it has been reached, or was found not to be there.
    pub(super) async fn first_attempt(&self) {
        let _ = self.is_tried.subscribe().wait_for(|is_tried| *is_tried).await;
    }

    /// Keeps connected to it, for as long as this is polled.
    pub(super) async fn attend(&self) {
        let mut backoff = BACKOFF_MIN;
        loop {
            let start = Instant::now();
            let why = self.listen().await.unwrap_or_else(|why| why.to_string());
            self.connection.store(None);
            if self.set_trouble(Some(&why)) {
                tracing::warn!(sentinel = %self.address, why, "sentinel is away");
            }
            self.is_tried.send_replace(true);
            if start.elapsed() >= BACKOFF_MAX {
                backoff = BACKOFF_MIN;
            }
            sleep(backoff.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Whom it takes for the master; `None` if it does not answer, or knows none.
    pub(super) async fn ask(&self) -> Option<View> {
        let mut connection = self.connection.load().as_deref()?.clone();
        let mut both = Pipeline::new();
        // The address by one command and the epoch by another: while it leads a fail-over,
        // MASTER still gives the old address with the new epoch.
        both.cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(&self.master_name);
        both.cmd("SENTINEL").arg("MASTER").arg(&self.master_name);
        let answer = connection.req_packed_commands(&both, 0, both.len()).await;
        let values = match answer {
            Ok(values) => values,
            Err(error) => {
                if error.is_timeout()
                    && self.misses.fetch_add(1, Ordering::Relaxed) + 1 >= MISSES_MAX
                {
                    self.lost.notify_one();
                }
                return None;
            }
        };
        self.misses.store(0, Ordering::Relaxed);
        let view = View::of(&values);
        let unknown = format!("it knows no master named {:?}", self.master_name);
        let trouble = match (&view, &values[..]) {
            (Some(_), _) => None,
            (None, [Value::ServerError(error), ..]) if error.code() != "ERR" => {
                Some(format!("{}: {}", error.code(), error.details().unwrap_or_default()))
            }
            (None, _) => Some(unknown),
        };
        if self.set_trouble(trouble.as_deref())
            && let Some(why) = trouble
        {
            tracing::warn!(sentinel = %self.address, why, "sentinel does not help");
        }
        view
    }

    /// Connects, and listens to it until that ends. Returns why it has.
    async fn listen(&self) -> Result<String, DialError> {
        let mut lines = self.connect().await?;
        self.set_trouble(None);
        self.is_tried.send_replace(true);
        loop {
            self.misses.store(0, Ordering::Relaxed);
            self.connection.store(Some(Arc::new(lines.questions.clone())));
            // What was said while nobody listened is asked for.
            self.news.notify_one();
            tokio::select! {
                why = self.hear(&mut lines) => return Ok(why),
                next = self.successors() => lines = next,
            }
        }
    }

    async fn connect(&self) -> Result<Lines, DialError> {
        let mut dialled = dial::dial(&self.address, &self.access, self.how).await?;
        let mut news = dial::listen(&self.address, &self.access, self.how).await?;
        match timeout(self.how.within, news.subscribe(SWITCHED)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Step::Prepare.said(chain(&Error::of(error)))),
            Err(_) => return Err(Step::Prepare.said("no subscription in time".to_owned())),
        }
        dialled.connection.set_response_timeout(ANSWER_WITHIN);
        let news = Box::pin(news.into_on_message());
        Ok(Lines { questions: dialled.connection, driver: dialled.driver, news })
    }

    /// Connections to take the place of those made now, once these are old. While there are
    /// none the old ones stay: they work.
    async fn successors(&self) -> Lines {
        let Some(max_age) = self.max_age else { return pending().await };
        // Not all of a fleet's at once.
        sleep(max_age.mul_f64(0.9 + 0.1 * fastrand::f64())).await;
        loop {
            match self.connect().await {
                Ok(lines) => return lines,
                Err(why) => {
                    tracing::warn!(sentinel = %self.address, %why, "cannot renew a connection");
                    sleep(RENEW_AGAIN.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
                }
            }
        }
    }

    /// Listens until one of the connections ends, or is of no use. Returns which.
    async fn hear(&self, lines: &mut Lines) -> String {
        loop {
            tokio::select! {
                () = &mut lines.driver => return "the connection was closed".to_owned(),
                () = self.lost.notified() => return "no replies".to_owned(),
                message = lines.news.next() => {
                    let Some(message) = message else {
                        return "the subscription was closed".to_owned();
                    };
                    let switch: String = message.get_payload().unwrap_or_default();
                    if switch.split(' ').next() == Some(&self.master_name) {
                        tracing::info!(sentinel = %self.address, switch, "redis master switched");
                        self.news.notify_one();
                    }
                }
            }
        }
    }

    /// True if that was not known before.
    fn set_trouble(&self, trouble: Option<&str>) -> bool {
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = known.as_deref() != trouble;
        *known = trouble.map(str::to_owned);
        is_new
    }
}

impl View {
    /// From the answers to `GET-MASTER-ADDR-BY-NAME` and `MASTER`.
    fn of(values: &[Value]) -> Option<Self> {
        let [address, master] = values else { return None };
        let (host, port): (String, u16) = FromRedisValue::from_redis_value_ref(address).ok()?;
        let master: HashMap<String, String> = FromRedisValue::from_redis_value_ref(master).ok()?;
        let epoch = master.get("config-epoch")?.parse().ok()?;
        Some(Self { epoch, master: Address::new(host, port) })
    }
}
