//! What came of the cases, for a person.

pub(super) mod junit;

use super::case::{Case, CaseFile};
use super::judge::Line;
use super::run::{Failure, Passed};
use std::io::{self, Write};
use std::time::Duration;
use tidegate_core::time::Span;

/// What came of one case.
pub(super) struct Outcome<'a> {
    pub(super) case: &'a Case,
    pub(super) result: Result<Passed, Box<Failure>>,
    pub(super) took: Duration,
}

/// What came of a file's cases.
pub(super) struct FileOutcome<'a> {
    pub(super) file: &'a CaseFile,
    pub(super) cases: Vec<Outcome<'a>>,
}

/// Sums over all cases.
#[derive(Default)]
pub(super) struct Summary {
    pub(super) passed: usize,
    pub(super) failed: usize,
    requests: u64,
    virtual_time: Span,
    files: usize,
}

impl FileOutcome<'_> {
    pub(super) fn took(&self) -> Duration {
        self.cases.iter().map(|case| case.took).sum()
    }

    fn failures(&self) -> usize {
        self.cases.iter().filter(|case| case.result.is_err()).count()
    }
}

impl Summary {
    pub(super) fn add(&mut self, outcome: &FileOutcome<'_>) {
        self.files += 1;
        self.failed += outcome.failures();
        self.passed += outcome.cases.len() - outcome.failures();
        for passed in outcome.cases.iter().filter_map(|case| case.result.as_ref().ok()) {
            self.requests += passed.requests;
            self.virtual_time.0 = self.virtual_time.0.saturating_add(passed.virtual_time.0);
        }
    }

    /// The last line.
    pub(super) fn write(&self, took: Duration, out: &mut dyn Write) -> io::Result<()> {
        let Self { passed, failed, requests, virtual_time, files } = self;
        let verdict = match failed {
            0 => {
                let (requests, time) = (counted(*requests, "request"), rounded(*virtual_time));
                format!("all passed; {requests} over {time}")
            }
            _ => format!("{failed} FAILED, {passed} passed"),
        };
        let (cases, files) = (counted(passed + failed, "case"), counted(*files, "file"));
        writeln!(out, "{cases} in {files}: {verdict}; {} ms", took.as_millis())
    }
}

/// One file's cases: a line if all went through, otherwise each failure.
pub(super) fn write(outcome: &FileOutcome<'_>, out: &mut dyn Write) -> io::Result<()> {
    let path = outcome.file.path.display();
    let (cases, ms) = (outcome.cases.len(), outcome.took().as_secs_f64() * 1e3);
    match outcome.failures() {
        0 => writeln!(out, "ok     {path}: {}, {ms:.1} ms", counted(cases, "case"))?,
        failed => writeln!(out, "FAILED {path}: {failed} of {}", counted(cases, "case"))?,
    }
    for Outcome { case, result, .. } in &outcome.cases {
        if let Err(failure) = result {
            writeln!(out)?;
            writeln!(out, "{path}:{}: {}", failure.mark.line, case.name)?;
            for line in told(failure) {
                writeln!(out, "{}", format!("  {line}").trim_end())?;
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

/// A failure: the step, what was expected beside what there was, and all there was to see.
fn told(failure: &Failure) -> Vec<String> {
    let mut told = vec![failure.step.clone()];
    for Line { name, wanted, got, is_met } in &failure.lines {
        if *is_met {
            told.push(format!("    {name}: {wanted}"));
        } else {
            told.push(format!("  - {name}: {wanted}"));
            told.push(format!("  + {name}: {got}"));
        }
    }
    told.extend(failure.context.iter().flat_map(|text| text.split('\n').map(str::to_owned)));
    told
}

fn counted(count: impl Into<Count>, what: &str) -> String {
    let Count(count) = count.into();
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

struct Count(u64);

impl From<u64> for Count {
    fn from(count: u64) -> Self {
        Self(count)
    }
}

impl From<usize> for Count {
    fn from(count: usize) -> Self {
        Self(count as u64)
    }
}

/// A long time without its smaller units.
fn rounded(span: Span) -> String {
    let seconds = span.0 / 1_000_000_000;
    match (seconds / 86_400, seconds / 3_600, seconds / 60) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} minutes"),
        (0, hours, _) => format!("{hours} hours"),
        (days, ..) => format!("{days} days"),
    }
}
