//! The way to one server: calls in, batches out.
//!
//! One task gathers what is queued and sends it as one pipeline, so that a thousand calls at
//! once make some ten round trips. What a request waits for never waits for company: it goes
//! out alone, and calls gather only while as many batches are under way as may be. What no
//! request waits for, as when proxies tell what they spent, gathers for a millisecond.

use crate::call::{Call, Script};
use crate::error::Error;
use crate::link::{Link, Live, State};
use crate::settings::Settings;
use crate::stats::BATCH_SIZES;
use redis::aio::ConnectionLike;
use redis::{Pipeline, RedisError, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

/// The most calls in a batch.
const BATCH_MAX: usize = BATCH_SIZES[BATCH_SIZES.len() - 1];

/// The most keys in a batch, but for a call's own: some 30 KB out, of leases 60, and one to
/// three milliseconds of the server's time, for which every other client of it waits.
const BATCH_KEYS_MAX: usize = 192;

/// How long calls that no request waits for gather, if no other comes. Timers count whole
/// milliseconds, so it may be almost two.
const LINGER: Duration = Duration::from_millis(1);

/// Calls that may wait to be sent: far more than can be sent within `pool_timeout`.
const QUEUE_MAX: usize = 8_192;

/// The way to one server.
pub(crate) struct Lane {
    queue: mpsc::Sender<Waiting>,
    pub(crate) link: Arc<Link>,
    pool_timeout: Duration,
    keeper: AbortHandle,
}

/// A call that waits to be sent.
struct Waiting {
    call: Call,
    reply: oneshot::Sender<Result<Value, Error>>,
    /// Too late to be sent after this.
    until: Instant,
}

impl Lane {
    /// A lane over `link`, which is looked after by the task `keeper`; that ends with the lane.
    pub(crate) fn new(settings: &Settings, link: Arc<Link>, keeper: AbortHandle) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        let sender = Sender {
            link: link.clone(),
            room: Arc::new(Semaphore::new(settings.pool_size)),
            max_retries: settings.max_retries,
        };
        tokio::spawn(gather(waiting, sender));
        Self { queue, link, pool_timeout: settings.pool_timeout, keeper }
    }

    /// What the server says to a call.
    ///
    /// # Errors
    ///
    /// [`Error`]; no later than `pool_timeout` and `read_timeout` together, nor than the call
    /// says, and at once while there is no connection, or the server is known not to answer.
    pub(crate) async fn send(&self, call: Call) -> Result<Value, Error> {
        if let Some(why) = self.link.breaker.why() {
            return Err(why);
        }
        let (reply, replied) = oneshot::channel();
        let (now, of_use_until) = (Instant::now(), call.until);
        let until = now + self.pool_timeout;
        self.queue.try_send(Waiting { call, reply, until }).map_err(|_| Error::Busy)?;
        let replied = match of_use_until {
            Some(until) => timeout_at(until, replied).await,
            None => Ok(replied.await),
        };
        match replied {
            // The gathering task answers everything it took, unless the runtime is ending.
            Ok(replied) => replied.unwrap_or(Err(Error::Away)),
            Err(_) => {
                self.link.late(now);
                Err(Error::Late)
            }
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Calls that go out together.
struct Batch {
    calls: Vec<Waiting>,
    keys: usize,
}

/// What a batch needs to be sent.
struct Sender {
    link: Arc<Link>,
    room: Arc<Semaphore>,
    max_retries: u16,
}

/// Takes what waits and sends it, until the lane is gone.
async fn gather(mut queue: mpsc::Receiver<Waiting>, sender: Sender) {
    while let Some(first) = queue.recv().await {
        sender.first_attempt(first.until).await;
        let Some((first, room)) = with_room(first, &sender.room).await else { continue };
        let mut batch = Batch::of(first);
        batch.fill(&mut queue);
        batch.linger(&mut queue).await;
        let mut batch = batch.calls;
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

impl Batch {
    fn of(first: Waiting) -> Self {
        let keys = first.call.weight();
        Self { calls: vec![first], keys }
    }

    /// Takes what waits already.
    fn fill(&mut self, queue: &mut mpsc::Receiver<Waiting>) {
        while self.has_room()
            && let Ok(next) = queue.try_recv()
        {
            self.push(next);
        }
    }

    /// While nobody is in a hurry, takes what comes within [`LINGER`].
    async fn linger(&mut self, queue: &mut mpsc::Receiver<Waiting>) {
        let until = Instant::now() + LINGER;
        while self.has_room() && !self.calls.iter().any(|waiting| waiting.call.hurries) {
            let Ok(Some(next)) = timeout_at(until, queue.recv()).await else { return };
            self.push(next);
            self.fill(queue);
        }
    }

    fn push(&mut self, next: Waiting) {
        self.keys += next.call.weight();
        self.calls.push(next);
    }

    const fn has_room(&self) -> bool {
        self.calls.len() < BATCH_MAX && self.keys < BATCH_KEYS_MAX
    }
}

impl Sender {
    /// Waits for the first attempt to connect, but for no other. It takes milliseconds and
    /// mostly succeeds, where slots have moved to a node that had none before, say.
    async fn first_attempt(&self, until: Instant) {
        if self.link.state() == State::New {
            let _ = timeout_at(until, self.link.until_tried()).await;
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

/// Sends a batch, and again those of it that were only without their script.
async fn send(
    mut batch: Vec<Waiting>,
    live: Arc<Live>,
    link: Arc<Link>,
    max_retries: u16,
    _room: OwnedSemaphorePermit,
) {
    for attempt in 0..=max_retries {
        link.stats.batch(batch.len());
        let answers = match round_trip(&batch, &live, attempt > 0).await {
            Ok(answers) => answers,
            Err(error) => {
                link.note(&live, Err(&error));
                batch.into_iter().for_each(|waiting| waiting.tell(Err(error.clone())));
                return;
            }
        };
        link.note(&live, Ok(()));
        if let Some(history) = &live.history {
            history.acknowledge(answers.iter().filter(|answer| answer.is_ok()).count());
        }
        let mut again = Vec::new();
        for (waiting, answer) in batch.into_iter().zip(answers) {
            if let Err(error) = &answer {
                link.note(&live, Err(error));
            }
            match answer {
                Err(error) if error.is_no_script() && attempt < max_retries => again.push(waiting),
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

/// One pipeline there and back; on a second attempt the scripts go ahead of their calls.
async fn round_trip(
    batch: &[Waiting],
    live: &Live,
    load: bool,
) -> Result<Vec<Result<Value, Error>>, Error> {
    let used = |script: &Script| load && batch.iter().any(|w| w.call.script() == *script);
    let loads: Vec<_> = Script::OF_ASKS.into_iter().filter(used).map(Script::load).collect();
    let loaded = loads.len();
    let mut pipeline = Pipeline::with_capacity(batch.len() + loaded);
    for load in loads {
        pipeline.add_command(load);
    }
    for waiting in batch {
        if waiting.call.asking {
            // It holds for the next command on the connection, and nothing comes in between.
            pipeline.cmd("ASKING");
        }
        pipeline.add_command(waiting.call.command(live.history.as_deref()));
    }
    let count = pipeline.len();
    let sent = live.connection().req_packed_commands(&pipeline, 0, count).await;
    let values = sent.map_err(Error::of)?;
    if values.len() != count {
        return Err(Error::Garbled("another number of replies"));
    }
    let mut values = values.into_iter().skip(loaded);
    let answer = |waiting: &Waiting| {
        let value = values.nth(usize::from(waiting.call.asking));
        match value.ok_or(Error::Garbled("another number of replies"))? {
            Value::ServerError(error) => Err(Error::of(RedisError::from(error))),
            value => Ok(value),
        }
    };
    Ok(batch.iter().map(answer).collect())
}

impl Waiting {
    /// Whoever asked may have gone meanwhile: that is no error.
    fn tell(self, answer: Result<Value, Error>) {
        let _ = self.reply.send(answer);
    }
}
