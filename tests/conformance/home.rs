//! Where filters run: a real Envoy, or our own host; both started with the same setup.

mod bundled;
mod envoy;

use crate::client::DELETED;
use crate::script::Setup;
use harness::bundled::Bundled;
use harness::process::Process;
use harness::{Result, wait};
use std::cell::Cell;
use std::net::SocketAddr;
use tempfile::TempDir;

/// The case that roots play.
pub(crate) const ROOT: &str = "root";

/// Fields that each proxy adds when it likes, in its own words.
const FIELDS_NOT_SHOWN: [&str; 3] = ["date", "server", "x-forwarded-for"];

/// Which home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The real Envoy: what it does is what is right.
    Envoy,
    /// Ours.
    Bundled,
}

/// What runs.
enum Running {
    Envoy { process: Process, _folder: TempDir },
    Bundled(Bundled),
}

/// A running proxy; it is killed when dropped.
pub(crate) struct Home {
    /// Where it serves.
    pub(crate) address: SocketAddr,
    running: Running,
    filters: Vec<String>,
    logs_all: bool,
    lines_before: Cell<usize>,
    root_lines_told: Cell<usize>,
}

/// A line that a filter logged.
pub(crate) struct Line {
    /// Of the thread that logged it: a process has several machines, and one at work.
    thread: String,
    level: String,
    filter: String,
    text: String,
}

impl Home {
    /// Starts one, and waits until it serves.
    pub(crate) async fn start(kind: Kind, setup: &Setup, origin: SocketAddr) -> Result<Self> {
        let (address, running) = match kind {
            Kind::Envoy => {
                let (address, process, folder) = envoy::start(setup, origin).await?;
                (address, Running::Envoy { process, _folder: folder })
            }
            Kind::Bundled => {
                let (address, proxy) = bundled::start(setup, origin).await?;
                (address, Running::Bundled(proxy))
            }
        };
        let filters = setup.filters.iter().map(|filter| filter.name.clone()).collect();
        let (root_lines_told, lines_before) = (Cell::new(0), Cell::new(0));
        let logs_all = setup.logs_all;
        Ok(Self { address, running, filters, logs_all, lines_before, root_lines_told })
    }

    /// Says that the next case begins.
    pub(crate) fn begin(&self) {
        self.lines_before.set(self.lines().len());
    }

    /// How many contexts tell of their end, for each stream.
    pub(crate) fn contexts(&self) -> usize {
        if self.logs_all { 0 } else { self.filters.len() }
    }

    /// What the filters logged of a case, as a transcript shows it.
    pub(crate) fn log(&self, case: &str) -> Vec<String> {
        let lines = self.lines();
        let mine = lines.iter().skip(self.lines_before.get());
        let mine = mine.filter_map(|line| Some((line, self.of_case(case, line)?)));
        mine.map(|(line, text)| self.shown(line, text)).collect()
    }

    /// What a line says of a case, if it is about that.
    fn of_case<'a>(&self, case: &str, line: &'a Line) -> Option<&'a str> {
        if self.logs_all && case != ROOT {
            return Some(&line.text);
        }
        line.text.strip_prefix(case)?.strip_prefix("> ")
    }

    /// What roots logged since this was last asked, on the thread that plays streams.
    pub(crate) fn root_log(&self) -> Vec<String> {
        let head = format!("{ROOT}> ");
        let lines = self.lines();
        let stream = lines.iter().find(|line| !line.text.starts_with(&head));
        let thread = stream.map(|line| line.thread.clone()).unwrap_or_default();
        let roots = lines.iter().filter(|line| line.thread == thread);
        let roots = roots.filter_map(|line| Some((line, line.text.strip_prefix(&head)?)));
        let new: Vec<_> = roots.skip(self.root_lines_told.get()).collect();
        self.root_lines_told.set(self.root_lines_told.get() + new.len());
        new.into_iter().map(|(line, text)| self.shown(line, text)).collect()
    }

    /// Waits until the log of a case, or of roots (`root: TEXT`), has a line with a text so
    /// many times.
    pub(crate) async fn await_line(&self, case: &str, text: &str, times: usize) -> Result<()> {
        let (case, text) = text.strip_prefix("root: ").map_or((case, text), |text| (ROOT, text));
        let is_it =
            |said: &str| if text == DELETED { said == DELETED } else { said.contains(text) };
        let what = format!("{text:?} in the log of {case}");
        let seen = wait::until(&what, async || {
            let lines = self.lines();
            let new = lines.iter().skip(if case == ROOT { 0 } else { self.lines_before.get() });
            let said = new.filter_map(|line| self.of_case(case, line));
            (said.filter(|said| is_it(said)).count() >= times).then_some(())
        });
        seen.await
    }

    fn lines(&self) -> Vec<Line> {
        let (log, read): (_, fn(&str) -> Option<Line>) = match &self.running {
            Running::Envoy { process, .. } => (process.log(), envoy::line),
            Running::Bundled(proxy) => (proxy.log(), bundled::line),
        };
        // A last line without its end is still being written.
        let whole = log.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().filter_map(read).collect()
    }

    /// With the filter's name where there are several, and the level where it is another
    /// than usual.
    fn shown(&self, line: &Line, text: &str) -> String {
        let mut shown = String::new();
        if self.filters.len() > 1 {
            shown = format!("[{}] ", line.filter);
        }
        // Not all homes tell these two apart.
        let level = if line.level == "critical" { "error" } else { &line.level };
        if level != "info" {
            shown = format!("{shown}({level}) ");
        }
        // Lines of other people's filters.
        let ends = ["x-forwarded-for: ", "panicked at "];
        let end = ends.iter().find_map(|end| Some((text.split_once(end)?.0, end)));
        let text = end.map_or(text.to_owned(), |(before, end)| format!("{before}{end}..."));
        shown + &FIELDS_NOT_SHOWN.iter().fold(text, |text, name| without(&text, name))
    }
}

/// Takes a field out of a map that a filter logged.
fn without(text: &str, name: &str) -> String {
    let Some((before, rest)) = text.split_once(&format!(" {name}=")) else {
        return text.to_owned();
    };
    // Values have blanks in them; the next field has a `=` behind its name.
    let words = rest.split(' ').skip(1);
    let after = words.skip_while(|word| !word.contains('=') && *word != "}");
    format!("{before} {}", after.collect::<Vec<_>>().join(" "))
}
