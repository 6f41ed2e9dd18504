//! The one thread that writes the file.
//!
//! Whatever was asked for while the disk was busy is written together and is durable with one
//! sync: a thousand callers at once wait hardly longer than one.

use super::ledger::Change;
use super::tail::{Line, Tail};
use super::{ENTRY_RECORDS_MAX, Entry, Fault, HELD_MAX, NotAccepted, NotApplied, Problem, Shared};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Instant, SystemTime};
use tidegate_core::revoke::record::RECORD_BYTES;
use tidegate_core::revoke::{Id, Position, Record};
use tokio::sync::{mpsc, oneshot};

/// How many calls may wait for the scribe; more wait to be let wait.
const JOBS_MAX: usize = 256;

/// How many records are written at once. More would only make those wait that came first.
const TOGETHER_MAX: usize = 65_536;

/// Something to write, and whom to tell.
pub(super) struct Job {
    pub(super) task: Task,
    pub(super) done: oneshot::Sender<Result<Position, NotDone>>,
}

/// Something to write.
pub(super) enum Task {
    /// One more entry of this host's own log.
    Append(Vec<Record>),
    /// Entries of the shared log.
    Apply(Vec<Entry>),
    /// Records that wait for the shared log.
    Hold(Vec<Record>),
    /// Another log, or the same one less far.
    BeginAnew(Position),
    /// The shared log lacks nothing.
    Settle,
    /// Records that nothing can be alive of any more.
    Forget(Vec<Record>),
}

/// Why it was not written.
#[derive(Clone, Debug)]
pub(super) enum NotDone {
    Gap,
    HeldMax,
    Fault(Fault),
    Ending,
}

/// How whoever wants something written reaches who writes.
pub(super) enum Hands {
    /// On a thread of its own, for the disk is slow.
    Thread(Thread),
    /// Memory is not: right here.
    Here(Mutex<Scribe>),
}

/// The thread, which ends with this.
pub(super) struct Thread {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// Who writes.
pub(super) struct Scribe {
    shared: Arc<Shared>,
}

impl Hands {
    pub(super) async fn take(&self, job: Job) -> Result<(), NotDone> {
        match self {
            Self::Thread(thread) => {
                let jobs = thread.jobs.as_ref().ok_or(NotDone::Ending)?;
                jobs.send(job).await.map_err(|_| NotDone::Ending)
            }
            Self::Here(scribe) => {
                scribe.lock().unwrap_or_else(PoisonError::into_inner).write(vec![job]);
                Ok(())
            }
        }
    }
}

impl Drop for Thread {
    /// Returns when all is written that was asked for, and the file is closed.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Scribe {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    pub(super) fn right_here(self) -> Hands {
        Hands::Here(Mutex::new(self))
    }

    /// Writes until nobody can ask for it any more.
    pub(super) fn on_a_thread(self) -> Result<Hands, Problem> {
        let (jobs, waiting) = mpsc::channel(JOBS_MAX);
        let thread = thread::Builder::new().name("tidegate-ledger".to_owned());
        let thread = thread.spawn(move || self.run(waiting)).map_err(|e| Problem::thread(&e))?;
        Ok(Hands::Thread(Thread { jobs: Some(jobs), thread: Some(thread) }))
    }

    fn run(mut self, mut waiting: mpsc::Receiver<Job>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut together = first.task.len();
            let mut jobs = vec![first];
            while together < TOGETHER_MAX
                && let Ok(next) = waiting.try_recv()
            {
                together += next.task.len();
                jobs.push(next);
            }
            self.write(jobs);
        }
    }

    /// Does all of these, and then tells whoever waits for them.
    fn write(&mut self, jobs: Vec<Job>) {
        let (standing, held) = {
            let now = self.shared.now();
            (now.standing.clone(), now.held.clone())
        };
        let mut standing = standing;
        let mut draft =
            Draft { position: standing.position, held, lines: Vec::new(), anew: None, owes: None };
        let mut ends = Vec::with_capacity(jobs.len());
        let written = self.shared.ledger.change(&mut standing, |change| {
            for Job { task, .. } in &jobs {
                ends.push(draft.add(change, task)?);
            }
            Ok(())
        });
        match written {
            Ok(()) => {
                let mut now = self.shared.now();
                now.standing = standing;
                now.held = draft.held;
                now.owes = draft.owes.unwrap_or(now.owes);
                now.fault = None;
                if let Some(position) = draft.anew {
                    now.tail = Tail::new(position);
                }
                draft.lines.into_iter().for_each(|line| now.tail.push(line));
                drop(now);
                let _ = self.shared.changed.send(());
                for (job, end) in jobs.into_iter().zip(ends) {
                    let _ = job.done.send(end);
                }
            }
            Err(fault) => self.failed(jobs, fault),
        }
    }

    fn failed(&mut self, jobs: Vec<Job>, fault: Fault) {
        tracing::error!(%fault, "revocations cannot be written: none is accepted");
        let standing = {
            let mut now = self.shared.now();
            now.fault = Some(fault.clone());
            now.standing.clone()
        };
        for job in jobs {
            let _ = job.done.send(Err(NotDone::Fault(fault.clone())));
        }
        if let Err(fault) = self.shared.ledger.reopen(&standing) {
            tracing::error!(%fault, "revocations cannot be read either");
        }
    }
}

/// What will be known when the change is durable.
struct Draft {
    position: Position,
    held: Vec<Record>,
    lines: Vec<Line>,
    anew: Option<Position>,
    owes: Option<bool>,
}

impl Draft {
    /// Adds a task to the change. What is wrong with one task alone is its own end.
    fn add(
        &mut self,
        change: &mut Change<'_>,
        task: &Task,
    ) -> Result<Result<Position, NotDone>, Fault> {
        match task {
            Task::Append(records) => {
                let position = self.position.then(&bytes(records));
                self.entry(change, position, records)?;
            }
            Task::Apply(entries) if !self.goes_on(entries) => return Ok(Err(NotDone::Gap)),
            Task::Apply(entries) => {
                for Entry { position, records } in entries {
                    self.entry(change, *position, records)?;
                    self.release(change, records)?;
                }
            }
            Task::Hold(records) => {
                if self.held.len() + records.len() > HELD_MAX {
                    return Ok(Err(NotDone::HeldMax));
                }
                change.take(records)?;
                self.hold(change, records)?;
            }
            Task::BeginAnew(position) => {
                change.begin_anew(*position)?;
                self.position = *position;
                self.lines.clear();
                self.anew = Some(*position);
                self.owes = Some(true);
            }
            Task::Settle => {
                change.settle()?;
                self.owes = Some(false);
            }
            Task::Forget(records) => {
                for record in records {
                    change.forget(record)?;
                }
            }
        }
        Ok(Ok(self.position))
    }

    fn goes_on(&self, entries: &[Entry]) -> bool {
        let mut last = self.position;
        entries.iter().all(|Entry { position, records }| {
            let follows = (position.log, position.number) == (last.log, last.number + 1);
            last = *position;
            follows && records.len() <= ENTRY_RECORDS_MAX
        })
    }

    fn entry(
        &mut self,
        change: &mut Change<'_>,
        position: Position,
        records: &[Record],
    ) -> Result<(), Fault> {
        let told = change.take(records)?;
        change.log(position, records)?;
        self.lines.push(Line { position, told, known: Instant::now(), age_ms: age_ms(records) });
        self.position = position;
        Ok(())
    }

    fn hold(&mut self, change: &mut Change<'_>, records: &[Record]) -> Result<(), Fault> {
        for record in records {
            let held = match self.held.binary_search_by_key(&record.id, |held| held.id) {
                Ok(at) => {
                    self.held[at] = self.held[at].and(record);
                    self.held[at]
                }
                Err(at) => {
                    self.held.insert(at, *record);
                    *record
                }
            };
            change.hold(&held)?;
        }
        Ok(())
    }

    /// What is held and adds nothing to these is held no more.
    fn release(&mut self, change: &mut Change<'_>, records: &[Record]) -> Result<(), Fault> {
        for record in records {
            if let Ok(at) = self.held.binary_search_by_key(&record.id, |held| held.id)
                && record.and(&self.held[at]) == *record
            {
                let gone: Id = self.held.remove(at).id;
                change.release(gone)?;
            }
        }
        Ok(())
    }
}

impl Task {
    /// How many records it has.
    fn len(&self) -> usize {
        match self {
            Self::Append(records) | Self::Hold(records) | Self::Forget(records) => records.len(),
            Self::Apply(entries) => entries.iter().map(|entry| entry.records.len()).sum(),
            Self::BeginAnew(_) | Self::Settle => 1,
        }
    }
}

impl From<NotDone> for NotAccepted {
    fn from(not: NotDone) -> Self {
        match not {
            NotDone::HeldMax => Self::HeldMax,
            NotDone::Fault(fault) => Self::Fault(fault),
            // Nothing that is accepted has to follow on anything.
            NotDone::Gap | NotDone::Ending => Self::Ending,
        }
    }
}

impl From<NotDone> for NotApplied {
    fn from(not: NotDone) -> Self {
        match not {
            NotDone::Gap => Self::Gap,
            NotDone::Fault(fault) => Self::Fault(fault),
            // Nothing that is applied is held.
            NotDone::HeldMax | NotDone::Ending => Self::Ending,
        }
    }
}

/// An entry of this host's own log, as it is chained.
fn bytes(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(records.len() * RECORD_BYTES);
    records.iter().for_each(|record| bytes.extend(record.to_bytes()));
    bytes
}

/// How long ago the newest of these was made, by this machine's clock.
fn age_ms(records: &[Record]) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let newest = records.iter().map(|record| record.at_ms).max().unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX).saturating_sub(newest)
}
