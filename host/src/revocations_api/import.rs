//! Any number of revocations, one a line, as they come: JSON as for one, or as an export has it.
//!
//! Memory is bounded by a line, a piece of the body and some batches under way; these share syncs
//! of the disk. What came of it is told in lines, too, while it goes on: errors by their line,
//! progress about once a second, and at the end a line with `done`. An import that broke off is
//! sent again from its beginning: what is in force already is passed over.

use super::Api;
use super::asked;
use super::audit::Call;
use super::batches::Batches;
use super::body;
use super::fields::{Field, Fields};
use super::in_force::{Over, Said};
use super::query::{OnError, Query};
use super::reply::{self, Reply, durability, later, position};
use super::splitter::Splitter;
use super::wrong::Wrong;
use crate::revocations::NotAccepted;
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::StatusCode;
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tidegate_core::revoke::Record;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Errors that are told; beyond them they are counted.
const ERRORS_TOLD_MAX: u64 = 100;

/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// Lines that may wait for a caller who does not read them while it sends. Progress is told only
/// while there is room beside all errors, and the end.
const UNREAD_MAX: usize = 256;
const UNREAD_ROOM: usize = ERRORS_TOLD_MAX as usize + 2;

/// A body of which nothing comes for so long has broken off.
const QUIET_MAX: Duration = Duration::from_secs(30);

/// A host that knew everything so lately knows whatever has been lifted.
const FRESH: Duration = Duration::from_secs(5);

/// An import under way.
struct Import {
    api: Arc<Api>,
    call: Call,
    query: Query,
    tell: mpsc::Sender<Bytes>,
    batches: Batches,
    /// Whether what this host knows is worth asking.
    is_fresh: bool,
    count: Count,
    told: Instant,
    _permit: OwnedSemaphorePermit,
}

/// How many lines there were of what.
#[derive(Default)]
struct Count {
    lines: u64,
    /// What they ask for was in force already.
    known: u64,
    /// What they revoke was over before.
    over: u64,
    errors: u64,
}

/// Why an import stopped before the end of its body.
enum Stop {
    Wrong(u64, Wrong),
    NotAccepted(NotAccepted),
    Broken,
    Quiet,
    /// Nobody listens.
    Gone,
}

/// Takes a body in, and tells of it.
pub(super) fn start(api: &Arc<Api>, call: &Call, query: Query, body: Incoming) -> Reply {
    let Ok(permit) = api.imports.clone().try_acquire_owned() else {
        let what = "as many imports as may be are under way: revocations.api.imports_max";
        return later(StatusCode::SERVICE_UNAVAILABLE, what, Duration::from_secs(5));
    };
    let (tell, told) = mpsc::channel(UNREAD_MAX);
    let import = Import {
        api: api.clone(),
        call: call.clone(),
        query,
        tell,
        batches: Batches::new(api.revocations.clone(), query.durability),
        is_fresh: false,
        count: Count::default(),
        told: Instant::now(),
        _permit: permit,
    };
    tokio::spawn(import.run(body));
    let frames = stream::unfold(told, |mut told| async {
        let text: Bytes = told.recv().await?;
        Some((Ok::<_, Infallible>(Frame::data(text)), told))
    });
    let body = StreamBody::new(frames).map_err(|never: Infallible| -> io::Error { match never {} });
    reply::lines(body.boxed_unsync())
}

impl Import {
    async fn run(mut self, mut body: Incoming) {
        self.call.many("import", "begun", 0);
        let read = self.read(&mut body).await;
        let ended = self.batches.finish().await.map_err(Stop::NotAccepted);
        // A wrong line is the better reason, for what came before it is in force.
        let ended = read.and(ended);
        let outcome = if ended.is_ok() { "done" } else { "stopped" };
        self.call.many("import", outcome, self.batches.accepted());
        self.end(ended.err());
        let Self { tell, .. } = self;
        drop(tell);
        body::forget(body).await;
    }

    async fn read(&mut self, body: &mut Incoming) -> Result<(), Stop> {
        let mut splitter = Splitter::default();
        loop {
            let next = tokio::time::timeout(QUIET_MAX, body.frame()).await;
            let Some(frame) = next.map_err(|_| Stop::Quiet)? else { break };
            let frame = frame.map_err(|_| Stop::Broken)?;
            let Some(data) = frame.data_ref() else { continue };
            let terms = self.api.terms();
            self.is_fresh = self.api.revocations.stats().age.is_some_and(|age| age < FRESH);
            splitter.feed(data, |line| self.line(line, &terms))?;
            self.batches.send().await.map_err(Stop::NotAccepted)?;
            self.progress()?;
        }
        let terms = self.api.terms();
        splitter.rest(|line| self.line(line, &terms))
    }

    /// One line, without its end; an empty one is none.
    fn line(&mut self, line: Result<&[u8], Wrong>, terms: &asked::Terms) -> Result<(), Stop> {
        self.count.lines += 1;
        let wish = match line {
            Ok(line) if line.trim_ascii().is_empty() => return Ok(()),
            Ok(line) => serde_json::from_slice::<Fields<'_>>(line)
                .map_err(|error| Wrong::of_line(&error))
                .and_then(|fields| {
                    // What does not say when it was made is meant now.
                    let is_now = fields.at(Field::At).is_none();
                    let over = if is_now { Over::Any } else { Over::Older };
                    asked::wish(&fields, terms).map(|wish| (wish, over))
                }),
            Err(wrong) => Err(wrong),
        };
        match wish {
            Ok((wish, _)) if wish.is_over => self.count.over += 1,
            Ok((wish, over)) => {
                let records = [Some(wish.record.id), wish.also].into_iter().flatten();
                for id in records {
                    self.put(Said { record: Record { id, ..wish.record }, over })?;
                }
            }
            Err(wrong) => self.wrong(wrong)?,
        }
        Ok(())
    }

    fn put(&mut self, mut said: Said) -> Result<(), Stop> {
        let fault = |fault| Stop::NotAccepted(NotAccepted::Fault(fault));
        let known = self.api.revocations.get(said.record.id).map_err(fault)?;
        said.outlast(known);
        match known.is_some_and(|known| self.is_in_force(&known, &said.record)) {
            true => self.count.known += 1,
            false => self.batches.put(said),
        }
        Ok(())
    }

    /// Whether it is in force already, and so would change nothing. A host that does not hear of
    /// others may know of a revocation and not that it was lifted: there nothing is known.
    fn is_in_force(&self, known: &Record, record: &Record) -> bool {
        let both = known.and(record);
        self.is_fresh
            && Record { at_ms: known.at_ms, ..both } == *known
            && (both.at_ms == known.at_ms || !known.lifts)
    }

    fn wrong(&mut self, wrong: Wrong) -> Result<(), Stop> {
        let line = self.count.lines;
        self.count.errors += 1;
        if self.query.on_error == OnError::Stop {
            return Err(Stop::Wrong(line, wrong));
        }
        if self.count.errors <= ERRORS_TOLD_MAX {
            self.say(&json!({ "line": line, "error": wrong.to_string() }))?;
        }
        Ok(())
    }

    fn progress(&mut self) -> Result<(), Stop> {
        if self.told.elapsed() < PROGRESS_EVERY {
            return Ok(());
        }
        self.told = Instant::now();
        if self.tell.is_closed() {
            return Err(Stop::Gone);
        }
        match self.tell.capacity() > UNREAD_ROOM {
            true => self.say(&self.page()),
            false => Ok(()),
        }
    }

    fn end(&self, stop: Option<Stop>) {
        let mut page = self.page();
        page["done"] = stop.is_none().into();
        if let Some(stop) = stop {
            page["stopped"] = stop.to_string().into();
        }
        if let Some(accepted) = self.batches.last() {
            page["position"] = position(&accepted.position);
            page["durability"] = durability(accepted.reach);
        }
        let _ = self.say(&page);
    }

    fn page(&self) -> Value {
        let Count { lines, known, over, errors } = self.count;
        json!({
            "lines": lines,
            "accepted": self.batches.accepted(),
            "known": known,
            "over": over,
            "errors": errors,
        })
    }

    fn say(&self, page: &Value) -> Result<(), Stop> {
        let text = page.to_string() + "\n";
        self.tell.try_send(text.into()).map_err(|_| Stop::Gone)
    }
}

impl std::fmt::Display for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Wrong(line, wrong) => write!(f, "line {line}: {wrong}"),
            Self::NotAccepted(why) => f.write_str(&reply::why(why)),
            Self::Broken => f.write_str("the body ends too early"),
            Self::Quiet => write!(f, "nothing came for {} s", QUIET_MAX.as_secs()),
            Self::Gone => f.write_str("nobody listens"),
        }
    }
}
