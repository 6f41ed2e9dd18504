//! Runs one test, and tells a missing part from a broken promise.

use crate::{Result, parts::Missing};
use anyhow::anyhow;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;

/// What a test shows is one home's alone, and this is the other: why. It passes, aloud.
#[derive(Clone, Copy, Debug)]
pub struct NotHere(pub &'static str);

impl fmt::Display for NotHere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not in this home: {}", self.0)
    }
}

impl std::error::Error for NotHere {}

thread_local! {
    /// What the stage's processes left when they ended: their logs, and what they did wrong.
    static LEFT: RefCell<Left> = RefCell::default();
}

#[derive(Default)]
struct Left {
    logs: Vec<String>,
    wrongs: Vec<String>,
}

/// Runs a test on a runtime of its own, as [`perform`] does, unless a part of it is missing.
///
/// # Errors
///
/// As [`perform`], except for a [`Missing`] part, which is printed and passes unless
/// `TIDEGATE_REQUIRE_REAL=1`, and for what is [`NotHere`], which is printed and passes.
pub fn stage(play: impl Future<Output = Result<()>>) -> Result<()> {
    match perform(play) {
        Err(error) if error.is::<Missing>() && !required() => {
            eprintln!("SKIPPED: {error:#}");
            Ok(())
        }
        Err(error) if error.is::<NotHere>() => {
            eprintln!("SKIPPED: {error:#}");
            Ok(())
        }
        outcome => outcome,
    }
}

/// Runs `play` on a runtime of its own.
///
/// The runtime has one thread, the caller's: processes are told to die with the thread
/// that started them, and that one lives as long as the play.
///
/// # Errors
///
/// Whatever `play` fails with, and whatever its processes were seen to do wrong. Their logs
/// are printed first.
pub fn perform(play: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LEFT.take();
    let mut outcome = runtime.block_on(play);
    let left = LEFT.take();
    if outcome.is_ok() && !left.wrongs.is_empty() {
        outcome = Err(anyhow!(left.wrongs.join("; ")));
    }
    if outcome.as_ref().is_err_and(|error| !error.is::<Missing>()) {
        left.logs.iter().for_each(|log| eprintln!("{log}"));
    }
    outcome
}

/// Plays once in an Envoy of one worker and once in one of four.
///
/// # Errors
///
/// As [`stage`], naming the number of workers.
pub fn stage_for_workers<F>(mut play: impl FnMut(u32) -> F) -> Result<()>
where
    F: Future<Output = Result<()>>,
{
    for workers in [1, 4] {
        let named = |error: anyhow::Error| match error {
            skip if skip.is::<Missing>() || skip.is::<NotHere>() => skip,
            error => error.context(format!("with {workers} workers")),
        };
        stage(async { play(workers).await.map_err(named) })?;
    }
    Ok(())
}

/// Keeps the end of a process's log, to be printed if the test fails.
pub(crate) fn leave_log(log: String) {
    if std::thread::panicking() {
        eprintln!("{log}");
    } else {
        LEFT.with_borrow_mut(|left| left.logs.push(log));
    }
}

/// Fails the test, though it may have finished: for what is noticed while cleaning up,
/// where nothing can be returned.
pub(crate) fn leave_wrong(wrong: String) {
    LEFT.with_borrow_mut(|left| left.wrongs.push(wrong));
}

fn required() -> bool {
    std::env::var_os("TIDEGATE_REQUIRE_REAL").is_some_and(|value| value == "1")
}
