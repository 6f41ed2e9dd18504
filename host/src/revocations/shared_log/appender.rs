//! Takes what is accepted here to the log: whatever comes while one call is under way goes
//! together in the next.
//!
//! There are two of them, each on a connection of its own: whoever wants replicas to have what
//! was appended waits for these, and nobody else should.

use super::stage::{Situation, Stage};
use crate::revocations::{ENTRY_RECORDS_MAX, NotAccepted, Position, Record, Revocations};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tidegate_redis::log::{self, CALL_ENTRIES_MAX, Known, Log, Replicas, Writer};
use tidegate_redis::{Error, Refusal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How many calls may wait; more are told to come again.
const QUEUE_MAX: usize = 4_096;

/// How long replicas are waited for. One that follows acknowledges within a round trip; one that
/// does not is not worth a caller's patience.
const REPLICAS_WITHIN: Duration = Duration::from_millis(500);

/// How long the log may be away before callers are told so at once, and not at their deadline:
/// most fail-overs on demand are over by then.
const AWAY_MAX: Duration = Duration::from_millis(500);

/// The pause after a call that came to nothing.
const AGAIN_AFTER: Duration = Duration::from_millis(20);

/// Appends, for many callers at once.
#[derive(Clone)]
pub(super) struct Appender {
    plain: mpsc::Sender<Waiting>,
    replicated: mpsc::Sender<Waiting>,
}

/// Records that were appended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Appended {
    /// Of the entry that they are in.
    pub(super) position: Position,
    /// How many replicas have it, if that was asked.
    pub(super) replicas: u32,
}

/// A caller who waits.
struct Waiting {
    records: Vec<Record>,
    replicas: Option<u8>,
    /// Whether the log may have them.
    may_be_there: Arc<AtomicBool>,
    done: oneshot::Sender<Result<Appended, NotAccepted>>,
}

/// One of the two.
struct Hand {
    ledger: Weak<Revocations>,
    situation: Arc<Situation>,
    writer: Writer,
    queue: mpsc::Receiver<Waiting>,
    /// Taken from the queue, and without room in the last call.
    left: Option<Waiting>,
}

impl Appender {
    pub(super) fn start(
        tasks: &mut JoinSet<()>,
        ledger: &Weak<Revocations>,
        situation: &Arc<Situation>,
        log: &Log,
    ) -> Self {
        let mut hand = || {
            let (sender, queue) = mpsc::channel(QUEUE_MAX);
            let hand = Hand {
                ledger: ledger.clone(),
                situation: situation.clone(),
                writer: log.writer(),
                queue,
                left: None,
            };
            tasks.spawn(hand.run());
            sender
        };
        Self { plain: hand(), replicated: hand() }
    }

    /// Appends these, at most [`ENTRY_RECORDS_MAX`], to one entry.
    pub(super) async fn append(
        &self,
        records: Vec<Record>,
        replicas: Option<u8>,
        until: Instant,
    ) -> Result<Appended, NotAccepted> {
        let (done, told) = oneshot::channel();
        let may_be_there = Arc::new(AtomicBool::new(false));
        let waiting = Waiting { records, replicas, may_be_there: may_be_there.clone(), done };
        let queue = if replicas.is_some() { &self.replicated } else { &self.plain };
        queue.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                NotAccepted::Away(format!("{QUEUE_MAX} others wait for the shared log"))
            }
            mpsc::error::TrySendError::Closed(_) => NotAccepted::Ending,
        })?;
        let why = "the shared log did not answer in time".to_owned();
        match timeout_at(until, told).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) => Err(NotAccepted::Ending),
            Err(_) if may_be_there.load(Ordering::Relaxed) => Err(NotAccepted::Unknown(why)),
            Err(_) => Err(NotAccepted::Away(why)),
        }
    }
}

impl Hand {
    async fn run(mut self) {
        loop {
            let first = match self.left.take() {
                Some(left) => left,
                None => match self.queue.recv().await {
                    Some(first) => first,
                    None => return,
                },
            };
            let mut call = Call::of(first);
            while let Ok(next) = self.queue.try_recv() {
                if let Some(left) = call.add(next) {
                    self.left = Some(left);
                    break;
                }
            }
            self.append(call).await;
        }
    }

    /// Appends, again and again, until it is done or nobody waits for it any more.
    async fn append(&mut self, mut call: Call) {
        let mut stage = self.situation.stage();
        loop {
            call.retain_waiting();
            if call.entries.is_empty() {
                return;
            }
            let followed = |stage: &Stage| matches!(stage, Stage::Followed { .. });
            match timeout(AWAY_MAX, stage.wait_for(followed)).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return,
                Err(_) => {
                    let why = self.situation.trouble().unwrap_or_default();
                    return call.tell_not(&NotAccepted::Away(why));
                }
            }
            let epoch = stage.borrow_and_update().clone();
            let Some(ledger) = self.ledger.upgrade() else { return };
            let known = ledger.position();
            drop(ledger);
            let records: Vec<_> = call.entries.iter().map(Entry::records).collect();
            let entries: Vec<_> = records.iter().map(Vec::as_slice).collect();
            match self.writer.append(Known::Position(known), &entries, call.replicas()).await {
                Ok(log::Appended::Done { positions, replicas }) => {
                    let count = records.iter().map(Vec::len).sum::<usize>();
                    self.situation.counts.add_appended(count as u64);
                    return call.tell(&positions, replicas.unwrap_or(0));
                }
                Ok(why @ (log::Appended::Lost | log::Appended::Damaged)) => {
                    self.situation.counts.add_not_appended(1);
                    if why == log::Appended::Damaged {
                        self.situation.set_damaged(known.log);
                    }
                    // The follower looks four times a second, and finds it too. Or it is ahead
                    // by now, where this was rolled back: then it may be tried again as well.
                    let changed = stage.wait_for(|stage| *stage != epoch);
                    let _ = timeout(AWAY_MAX, changed).await;
                }
                Err(error) => {
                    self.situation.counts.add_not_appended(1);
                    tracing::debug!(%error, "not appended to the shared log");
                    if error.may_have_run() {
                        call.may_be_there();
                    }
                    if let Some(why) = lasting(&error) {
                        return call.tell_not(&NotAccepted::Away(why));
                    }
                    sleep(AGAIN_AFTER).await;
                }
            }
        }
    }
}

/// Why it would be refused again, if it would.
fn lasting(error: &Error) -> Option<String> {
    use Refusal::{NoWrites, NotAllowed, OutOfMemory};
    let remedy = match error {
        Error::Refused(OutOfMemory, _) => "the log's server is out of memory",
        Error::Refused(NoWrites, _) => {
            "the log's server takes no writes: see its disk and replicas"
        }
        Error::Refused(NotAllowed, _) => "the log's server does not let this host write it",
        _ => return None,
    };
    let said = std::error::Error::source(error).map_or(String::new(), |said| format!(": {said}"));
    Some(format!("{remedy}{said}"))
}

/// Callers whose records go in one call.
struct Call {
    entries: Vec<Entry>,
}

/// Callers whose records go in one entry.
struct Entry {
    callers: Vec<Waiting>,
    records: usize,
}

impl Call {
    fn of(first: Waiting) -> Self {
        Self { entries: vec![Entry::of(first)] }
    }

    /// Takes in one more; gives it back if there is no room.
    fn add(&mut self, next: Waiting) -> Option<Waiting> {
        if let Some(last) = self.entries.last_mut()
            && last.records + next.records.len() <= ENTRY_RECORDS_MAX
        {
            last.records += next.records.len();
            last.callers.push(next);
        } else if self.entries.len() < CALL_ENTRIES_MAX {
            self.entries.push(Entry::of(next));
        } else {
            return Some(next);
        }
        None
    }

    /// Forgets those who wait no longer.
    fn retain_waiting(&mut self) {
        for entry in &mut self.entries {
            entry.callers.retain(|caller| !caller.done.is_closed());
        }
        self.entries.retain(|entry| !entry.callers.is_empty());
    }

    /// As many as the one who wants most.
    fn replicas(&self) -> Option<Replicas> {
        let callers = self.entries.iter().flat_map(|entry| &entry.callers);
        let count = callers.filter_map(|caller| caller.replicas).max()?;
        Some(Replicas { count: count.into(), within: REPLICAS_WITHIN })
    }

    fn may_be_there(&self) {
        let callers = self.entries.iter().flat_map(|entry| &entry.callers);
        callers.for_each(|caller| caller.may_be_there.store(true, Ordering::Relaxed));
    }

    fn tell(self, positions: &[Position], replicas: u32) {
        for (entry, position) in self.entries.into_iter().zip(positions) {
            let appended = Appended { position: *position, replicas };
            entry.callers.into_iter().for_each(|caller| caller.tell(Ok(appended)));
        }
    }

    fn tell_not(self, why: &NotAccepted) {
        for caller in self.entries.into_iter().flat_map(|entry| entry.callers) {
            let why = match why {
                NotAccepted::Away(why) if caller.may_be_there.load(Ordering::Relaxed) => {
                    NotAccepted::Unknown(why.clone())
                }
                why => why.clone(),
            };
            caller.tell(Err(why));
        }
    }
}

impl Entry {
    fn of(first: Waiting) -> Self {
        Self { records: first.records.len(), callers: vec![first] }
    }

    fn records(&self) -> Vec<Record> {
        self.callers.iter().flat_map(|caller| &caller.records).copied().collect()
    }
}

impl Waiting {
    /// Whoever asked may have gone meanwhile: that is no error.
    fn tell(self, appended: Result<Appended, NotAccepted>) {
        let _ = self.done.send(appended);
    }
}
