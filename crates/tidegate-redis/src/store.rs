//! Asks in, batches out.
//!
//! One task gathers what is queued and sends it as one pipeline, so that a thousand asks at
//! once make some ten round trips. It never waits for company: a lone ask goes out alone,
//! and asks gather only while as many batches are under way as may be.

use crate::error::{Error, Refusal};
use crate::link::{self, Link, Live};
use crate::script;
use crate::settings::Settings;
use crate::stats::{BATCH_SIZES, Stats};
use redis::aio::ConnectionLike;
use redis::{Pipeline, RedisError, Value};
use std::sync::Arc;
use std::time::Duration;
use tidegate_core::ask::{Ask, Reply};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

/// The most asks in a batch.
const BATCH_MAX: usize = BATCH_SIZES[BATCH_SIZES.len() - 1];

/// The most items in a batch, but for an ask's own: some 30 KB out, and one to two
/// milliseconds of the server's time, for which every other client of it waits.
const BATCH_ITEMS_MAX: usize = 192;

/// Asks that may wait to be sent: far more than can be sent within `pool_timeout`.
const QUEUE_MAX: usize = 8_192;

/// A Redis server, as a store.
pub struct Store {
    queue: mpsc::Sender<Waiting>,
    link: Arc<Link>,
    pool_timeout: Duration,
    supervisor: AbortHandle,
}

/// An ask that waits to be sent.
struct Waiting {
    ask: Ask,
    now_us: u64,
    reply: oneshot::Sender<Result<Reply, Error>>,
    /// Too late to be sent after this.
    until: Instant,
}

impl Store {
    /// Starts to connect, and returns at once. Call within a tokio runtime.
    pub fn start(settings: Settings) -> Self {
        let link = Arc::new(Link::new(&settings));
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let pool_timeout = settings.pool_timeout;
        let sender = Sender {
            link: link.clone(),
            room: Arc::new(Semaphore::new(settings.pool_size)),
            max_retries: settings.max_retries,
        };
        tokio::spawn(gather(waiting, sender));
        let supervisor = tokio::spawn(link::supervise(settings, link.clone())).abort_handle();
        Self { queue, link, pool_timeout, supervisor }
    }

    /// Answers an ask by the server's clock, and charges if every item is admitted.
    ///
    /// # Errors
    ///
    /// [`Error`]; [`Error::may_have_run`] says whether it counts as charged. It comes at the
    /// latest after `pool_timeout` and, for each attempt, `read_timeout`; while there is no
    /// connection, at once.
    pub async fn answer(&self, ask: Ask) -> Result<Reply, Error> {
        self.answer_at(ask, 0).await
    }

    /// As [`Self::answer`], at `now_us` microseconds of the caller's clock, for simulations
    /// and tests. Zero is the server's clock.
    ///
    /// # Errors
    ///
    /// As [`Self::answer`].
    pub async fn answer_at(&self, ask: Ask, now_us: u64) -> Result<Reply, Error> {
        if !self.link.is_there() {
            return Err(Error::Away);
        }
        let (reply, replied) = oneshot::channel();
        let until = Instant::now() + self.pool_timeout;
        let waiting = Waiting { ask, now_us, reply, until };
        self.queue.try_send(waiting).map_err(|_| Error::Busy)?;
        // The gathering task answers everything it took, unless the runtime is ending.
        replied.await.unwrap_or(Err(Error::Away))
    }

    /// Why asks are not answered now, or may not be; `None` if all is well.
    pub fn trouble(&self) -> Option<String> {
        self.link.trouble()
    }

    /// What has been counted so far.
    pub fn stats(&self) -> &Stats {
        &self.link.stats
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

/// What a batch needs to be sent.
struct Sender {
    link: Arc<Link>,
    room: Arc<Semaphore>,
    max_retries: u16,
}

/// Takes what waits and sends it, until the store is gone.
async fn gather(mut queue: mpsc::Receiver<Waiting>, sender: Sender) {
    while let Some(first) = queue.recv().await {
        let Some((first, room)) = with_room(first, &sender.room).await else { continue };
        let mut items = first.ask.items.len();
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX
            && items < BATCH_ITEMS_MAX
            && let Ok(next) = queue.try_recv()
        {
            items += next.ask.items.len();
            batch.push(next);
        }
        let now = Instant::now();
        // Whoever no longer waits was never charged; whoever waited too long is told so.
        batch.retain(|waiting| !waiting.reply.is_closed());
        let (batch, late): (Vec<_>, _) = batch.into_iter().partition(|w| w.until >= now);
        late.into_iter().for_each(|waiting| waiting.tell(Err(Error::Busy)));
        match sender.link.live() {
            Some(live) if !batch.is_empty() => {
                live.carried_an_ask();
                tokio::spawn(send(batch, live, sender.link.clone(), sender.max_retries, room));
            }
            Some(_) => {}
            None => batch.into_iter().for_each(|waiting| waiting.tell(Err(Error::Away))),
        }
    }
}

/// Waits until another batch may be sent, or `first` has waited too long.
async fn with_room(
    first: Waiting,
    room: &Arc<Semaphore>,
) -> Option<(Waiting, OwnedSemaphorePermit)> {
    match timeout_at(first.until, room.clone().acquire_owned()).await {
        Ok(Ok(permit)) => Some((first, permit)),
        Ok(Err(_)) | Err(_) => {
            first.tell(Err(Error::Busy));
            None
        }
    }
}

/// Sends a batch, and again those of it that provably did not run.
async fn send(
    mut batch: Vec<Waiting>,
    live: Arc<Live>,
    link: Arc<Link>,
    max_retries: u16,
    _room: OwnedSemaphorePermit,
) {
    for attempt in 0..=max_retries {
        link.stats.batch(batch.len());
        let values = match round_trip(&batch, &live, attempt > 0).await {
            Ok(values) => values,
            Err(error) => {
                link.note(&live, Err(&error));
                batch.into_iter().for_each(|waiting| waiting.tell(Err(error.clone())));
                return;
            }
        };
        link.note(&live, Ok(()));
        let mut again = Vec::new();
        for (waiting, value) in batch.into_iter().zip(values) {
            let answer = read(&waiting.ask, value);
            if let Err(error) = &answer {
                link.note(&live, Err(error));
            }
            match answer {
                Err(Error::Refused(Refusal::NoScript, _)) if attempt < max_retries => {
                    again.push(waiting);
                }
                answer => waiting.tell(answer),
            }
        }
        if again.is_empty() {
            return;
        }
        link.stats.retry(again.len());
        batch = again;
    }
}

/// One pipeline there and back; on a second attempt the script goes ahead of its calls.
async fn round_trip(
    batch: &[Waiting],
    live: &Live,
    load: bool,
) -> Result<impl Iterator<Item = Value> + use<>, Error> {
    let mut pipeline = Pipeline::with_capacity(batch.len() + 1);
    if load {
        pipeline.add_command(script::load());
    }
    for waiting in batch {
        pipeline.add_command(script::call(&waiting.ask, waiting.now_us));
    }
    let count = pipeline.len();
    let sent = live.connection().req_packed_commands(&pipeline, 0, count).await;
    let values = sent.map_err(Error::of)?;
    if values.len() != count {
        return Err(Error::Garbled("another number of replies"));
    }
    Ok(values.into_iter().skip(usize::from(load)))
}

fn read(ask: &Ask, value: Value) -> Result<Reply, Error> {
    match value {
        Value::ServerError(error) => Err(Error::of(RedisError::from(error))),
        value => script::reply(ask, &value),
    }
}

impl Waiting {
    /// Whoever asked may have gone meanwhile: that is no error.
    fn tell(self, answer: Result<Reply, Error>) {
        let _ = self.reply.send(answer);
    }
}
