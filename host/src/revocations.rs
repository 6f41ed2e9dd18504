//! What is revoked, as this host knows it: durable here, the same in all hosts, told to proxies.
//!
//! - [`record`](tidegate_core::revoke::record) says what a revocation is, and how any two go
//!   together; [`log`](tidegate_core::revoke::log) in which order all of them stand
//! - [`acceptance`]: how durable a revocation has to be; [`stats`]: how it is with all of them
//! - [`ledger`]: all live records and the newest entries of the log, in a file that survives
//!   whatever happens to this process; [`fault`]: what can go wrong with it, and what to do then
//! - [`scribe`]: the one thread that writes it, and whoever waits for it shares one sync of the
//!   disk; [`draft`]: what will be known then; [`hands`]: the way to it
//! - [`tail`]: what came last, in memory, as proxies are told of it
//! - [`shared_log`]: the log that hosts share, in Redis; [`follow`]: what it does here
//! - [`cuts`]: where in the log images are made; [`images`]: of what; [`maker`]: by whom;
//!   [`shelf`]: where they are fetched
//! - [`news`]: what proxies are told
//! - [`id_keys`]: by which secrets become ids; [`wall`]: the time of day; [`meters`]: what is
//!   counted
//!
//! Whose the log is: without Redis this host's own, and whatever is accepted is an entry of it
//! at once. With Redis all hosts share one, and this host follows it: see [`Follow`] and
//! [`Revocations::apply`].

mod acceptance;
mod cuts;
mod draft;
mod fault;
mod follow;
mod hands;
mod id_keys;
mod images;
mod ledger;
mod maker;
mod meters;
mod news;
mod scribe;
mod shared_log;
mod shelf;
mod stats;
mod tail;
mod wall;

pub use acceptance::{Accepted, Durability, NotAccepted, Reach};
pub use fault::{Fault, Problem};
pub use follow::{Accepting, Entry, Follow, NotApplied};
pub use news::Unready;
pub use shared_log::{Counts, SharedLog};
pub use stats::{Generation, Images, Page, Stats};
pub use wall::Wall;

use draft::Step;
use hands::Hands;
use id_keys::IdKeys;
use ledger::{Ledger, Standing, Told};
use meters::Meters;
use prometheus_client::registry::Registry;
use scribe::Task;
use shelf::Shelf;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tail::{Line, Tail};
use tidegate_core::revoke::id::IdKey;
use tidegate_core::revoke::message::{Checked, Form};
use tidegate_core::revoke::{Id, Kind, Position, Record};
use tokio::sync::watch;

/// The most records of one entry of the log, and of one call of [`Revocations::accept`]: 34 KiB.
pub const ENTRY_RECORDS_MAX: usize = 1_024;

/// The most records that may wait for the shared log: proxies are told of all of them with each
/// answer, and an answer has room for twice as many.
pub const HELD_MAX: usize = 1_024;

/// The most records of a [`Page`].
pub const PAGE_RECORDS_MAX: usize = 1_024;

/// The most records that are looked at for one page: a list of a rare kind comes in pages that
/// may be empty, none of which takes long.
const PAGE_LOOKS_MAX: usize = 65_536;

/// All that is revoked, as one process knows it. There is one for each process.
///
/// Every method that is not `async` returns at once, or after one look into the file (some
/// microseconds): only [`Self::page`] and those that say so read more. Nothing here panics
/// because a disk fails.
pub struct Revocations {
    shared: Arc<Shared>,
    hands: Hands,
    follow: OnceLock<Arc<dyn Follow>>,
}

/// Where and how revocations are kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the ledger is.
    pub home: Home,
    /// Whether hosts share the log: then nothing is accepted before [`Revocations::follow`].
    pub is_shared: bool,
    /// How long a generation of tokens is, in seconds, 1 or more: those that end within it have
    /// an image together.
    pub span_secs: u32,
    /// How long after its end a token may still be taken for alive, in seconds.
    pub leeway_secs: u64,
    /// Where the keys are of ids whose parts are secret: at most two files, the one in use first.
    pub id_key_files: Vec<PathBuf>,
    /// By which records end.
    pub wall: Wall,
}

impl Settings {
    /// As long as this process lives, and for nobody else.
    pub(crate) const fn in_memory(wall: Wall) -> Self {
        Self {
            home: Home::Memory,
            is_shared: false,
            span_secs: 7_200,
            leeway_secs: 60,
            id_key_files: Vec::new(),
            wall,
        }
    }
}

/// Where the ledger is.
#[derive(Clone, Debug)]
pub enum Home {
    /// A file in this folder, which is made if it is not there.
    Folder(PathBuf),
    /// This process's memory, until it ends: for proxies that run the filter themselves, and for
    /// tests of policies.
    Memory,
}

/// What the methods, the threads and answers to proxies share.
struct Shared {
    ledger: Ledger,
    now: Mutex<Now>,
    /// Told whenever there is something that a proxy might want to know.
    changed: watch::Sender<()>,
    is_shared: bool,
    span_secs: u32,
    leeway_secs: u64,
    id_keys: IdKeys,
    wall: Wall,
    meters: Meters,
    /// What takes long may stop.
    is_ending: AtomicBool,
}

/// What is known now. Of the log, and of what is held, what stands here is durable.
struct Now {
    standing: Standing,
    /// What waits for the shared log, in the order of ids.
    held: Vec<Held>,
    /// How often that changed.
    holds: u64,
    tail: Tail,
    shelf: Shelf,
    /// When this host last knew that it knew all of the shared log.
    fresh: Option<Instant>,
    /// Why nothing can be written, since the last try.
    fault: Option<Fault>,
    /// What was found not to be as it was written, since this process began.
    damage: Option<Fault>,
}

/// A record that waits for the shared log.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Held {
    record: Record,
    /// What its id is revoked with, or 0.
    before_secs: u64,
}

impl Revocations {
    /// Opens the ledger, or begins one. Reads all of it once, which takes about a second for
    /// each million records, and so blocks.
    ///
    /// # Errors
    ///
    /// [`Problem`] if the folder or the file cannot be used, or if the file is not as it was
    /// written: as a message to print, with what to do.
    pub fn open(settings: &Settings) -> Result<Arc<Self>, Problem> {
        let id_keys = IdKeys::read(&settings.id_key_files).map_err(Problem::id_key)?;
        let opened = Ledger::open(&settings.home)?;
        let shared = Arc::new(Shared {
            now: Mutex::new(Now::of(opened.standing, opened.held, opened.recent)),
            ledger: opened.ledger,
            changed: watch::Sender::new(()),
            is_shared: settings.is_shared,
            span_secs: settings.span_secs.max(1),
            leeway_secs: settings.leeway_secs,
            id_keys,
            wall: settings.wall.clone(),
            meters: Meters::new(),
            is_ending: AtomicBool::new(false),
        });
        let hands = match settings.home {
            Home::Folder(_) => Hands::threads(shared.clone())?,
            Home::Memory => Hands::here(shared.clone()),
        };
        Ok(Arc::new(Self { shared, hands, follow: OnceLock::new() }))
    }

    /// Revokes, or lifts: 1 to [`ENTRY_RECORDS_MAX`] records, all or none of them. Returns when
    /// they are as durable as `wanted`; calls at the same time share one sync of the disk, so
    /// whoever has many sends some dozens of calls at once.
    ///
    /// Whether a record makes sense (its kind, its times) is not looked at here.
    ///
    /// # Errors
    ///
    /// [`NotAccepted`].
    pub async fn accept(
        &self,
        records: Vec<Record>,
        wanted: Durability,
    ) -> Result<Accepted, NotAccepted> {
        let began = Instant::now();
        let end = self.take(records, wanted).await;
        self.shared.meters.accepted(&end, began.elapsed());
        end
    }

    async fn take(
        &self,
        records: Vec<Record>,
        wanted: Durability,
    ) -> Result<Accepted, NotAccepted> {
        if records.is_empty() || records.len() > ENTRY_RECORDS_MAX {
            return Err(NotAccepted::Count(records.len()));
        }
        if self.shared.is_shared {
            let not_yet = || NotAccepted::Away("this host is only just starting".to_owned());
            return self.follow.get().ok_or_else(not_yet)?.accept(records, wanted).await;
        }
        if matches!(wanted, Durability::Replicas(_)) {
            return Err(NotAccepted::NoReplicas);
        }
        let position = self.hands.write(Task::One(Step::Append(records))).await?;
        Ok(Accepted { position, reach: Reach::ThisHost })
    }

    /// What is known of one id, be it lifted or past its `until`.
    ///
    /// # Errors
    ///
    /// [`Fault`] if the file cannot be read.
    pub fn get(&self, id: Id) -> Result<Option<Record>, Fault> {
        self.shared.ledger.get(id)
    }

    /// What is known of these ids, as a proxy is told.
    ///
    /// # Errors
    ///
    /// [`Fault`] if the file cannot be read.
    pub fn checked(&self, ids: &[Id]) -> Result<Checked, Fault> {
        // The position first: what is read may be newer than it says, and never older.
        let (position, age_ms) = {
            let now = self.shared.now();
            (now.standing.position, now.age_ms(self.shared.is_shared))
        };
        let before_secs = self.shared.ledger.before(ids.iter().copied())?;
        Ok(Checked { position, age_ms, before_secs })
    }

    /// Records of one kind, or of all, liftings too, in the order of their ids: at most `limit`
    /// (and [`PAGE_RECORDS_MAX`]) of those after `after`. Reads up to 65,536 records, some
    /// milliseconds.
    ///
    /// All pages one after the other hold every record that was there all the time.
    ///
    /// # Errors
    ///
    /// [`Fault`] if the file cannot be read.
    pub fn page(&self, kind: Option<Kind>, after: Option<Id>, limit: usize) -> Result<Page, Fault> {
        let limit = limit.clamp(1, PAGE_RECORDS_MAX);
        self.shared.page(after, limit, |record| kind.is_none_or(|kind| kind == record.kind))
    }

    /// All records, page by page, in bounded memory. Each step blocks for some milliseconds.
    pub fn export(self: &Arc<Self>) -> impl Iterator<Item = Result<Vec<Record>, Fault>> + use<> {
        let this = self.clone();
        let mut after = Some(None);
        std::iter::from_fn(move || {
            let page = this.page(None, after.take()?, PAGE_RECORDS_MAX);
            if let Ok(page) = &page {
                after = page.next.map(Some);
            }
            Some(page.map(|page| page.records))
        })
    }

    /// Puts what is counted here on a page of metrics.
    pub(crate) fn register(&self, registry: &mut Registry) {
        self.shared.meters.register(registry);
    }

    /// How it is.
    pub fn stats(&self) -> Stats {
        let now = self.shared.now();
        let counts = &now.standing.tally;
        Stats {
            records: Kind::ALL.map(|kind| counts.of(kind)),
            lifted: counts.lifted(),
            held: now.held.len(),
            position: now.standing.position,
            is_shared: self.shared.is_shared,
            age: now.age(self.shared.is_shared),
            file_bytes: self.shared.ledger.bytes(),
            fault: now.trouble(),
            images: now.shelf.set(Form::Fuse).map(|set| set.stats()),
        }
    }

    /// Why nothing can be accepted here at the moment, or what is damaged; `None` if all is well.
    pub fn trouble(&self) -> Option<Fault> {
        self.shared.now().trouble()
    }

    /// The keys of ids whose parts are secret, the one in use first.
    pub fn id_keys(&self) -> Vec<IdKey> {
        self.shared.id_keys.all()
    }
}

impl fmt::Debug for Revocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revocations").field("position", &self.position()).finish_non_exhaustive()
    }
}

impl Shared {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// There may be something new for proxies.
    fn tell(&self) {
        self.changed.send_replace(());
    }

    /// Records that are wanted after `after`, of the next [`PAGE_LOOKS_MAX`]: at most `limit`.
    fn page(
        &self,
        after: Option<Id>,
        limit: usize,
        mut wants: impl FnMut(&Record) -> bool,
    ) -> Result<Page, Fault> {
        let mut page = Page::default();
        let mut looks = 0;
        self.ledger.scan(after, |record| {
            if wants(record) {
                page.records.push(*record);
            }
            looks += 1;
            let is_full = page.records.len() == limit || looks == PAGE_LOOKS_MAX;
            page.next = is_full.then_some(record.id);
            !is_full
        })?;
        Ok(page)
    }
}

impl Now {
    /// As it stands in a file that was opened.
    fn of(standing: Standing, held: Vec<Held>, recent: Vec<Told>) -> Self {
        // Of the first one that is kept only the position is known, unless it began the log.
        let (start, first) = match recent.first() {
            Some((entry, _)) if entry.position.number == 1 => {
                (Position::start(entry.position.log), 0)
            }
            Some((entry, _)) => (entry.position, 1),
            None => (standing.position, 0),
        };
        let mut tail = Tail::new(start);
        for (entry, told) in recent.into_iter().skip(first) {
            let accepted_ms = entry.records.iter().map(|record| record.at_ms).max();
            let accepted_ms = accepted_ms.unwrap_or_default();
            tail.push(Line { position: entry.position, told, accepted_ms });
        }
        let shelf = Shelf::default();
        Self { standing, held, holds: 0, tail, shelf, fresh: None, fault: None, damage: None }
    }

    /// How long ago this host last knew that it knew everything; `None` if it never did.
    fn age(&self, is_shared: bool) -> Option<Duration> {
        match is_shared {
            false => Some(Duration::ZERO),
            true => self.fresh.map(|fresh| fresh.elapsed()),
        }
    }

    fn trouble(&self) -> Option<Fault> {
        self.fault.clone().or_else(|| self.damage.clone())
    }

    fn age_ms(&self, is_shared: bool) -> u32 {
        let millis = |age: Duration| u32::try_from(age.as_millis()).unwrap_or(u32::MAX);
        self.age(is_shared).map_or(u32::MAX, millis)
    }
}
