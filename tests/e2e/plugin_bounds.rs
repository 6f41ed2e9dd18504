//! What a plugin may take of its host: each bound, and what becomes of who asks meanwhile.

use anyhow::{Context, anyhow, ensure};
use harness::{Result, plugin, wait};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;
use tidegate::plugins::{Plugins, Settings};
use tidegate_core::facts::Want;
use tidegate_core::plugin::{Resolve, Resolved, Unresolved, form};

/// The deadline of a call; generous, for a busy machine.
const DEADLINE: Duration = Duration::from_secs(1);

/// A process with one plugin, of one instance, that may have 64 MiB.
struct Asked {
    plugins: Plugins,
    folder: TempDir,
}

impl Asked {
    fn of(component: &[u8]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("tiers.wasm");
        plugin::write_bytes(&file, component)?;
        let settings = Settings { deadline: DEADLINE, ..Settings::of(file) };
        let settings = [("tiers".to_owned(), settings)].into();
        let plugins = Plugins::load(&settings, None).map_err(|why| anyhow!(why))?;
        Ok(Self { plugins, folder })
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("tiers.wasm")
    }

    /// Puts a question: its answer may be there already.
    fn put(&self, does: &str) -> Receiver<Resolved> {
        let (to, answer) = sync_channel(1);
        let ask = Resolve {
            plugin: "tiers".into(),
            form: form([Want::Header("x-do".into())].iter()),
            outputs: vec!["tier".into()],
            facts: vec![Some(does.into())],
        };
        self.plugins.ask(ask, move |resolved| {
            let _ = to.send(resolved);
        });
        answer
    }

    fn answer(&self, does: &str) -> Result<Resolved> {
        self.put(does).recv_timeout(wait::PATIENCE).context("an answer")
    }

    /// Whether who asks hears at once that nobody has time; or else waits, as one who needs it does.
    fn is_busy_at_once(&self) -> bool {
        let answer = self.put("a");
        let is_told = answer.try_recv() == Ok(Err(Unresolved::Busy));
        is_told || answer.recv_timeout(DEADLINE).is_ok_and(|_| false)
    }
}

/// Whether it is that a plugin gave nothing, which is an answer.
fn is_answered(resolved: &Resolved) -> bool {
    matches!(resolved, Ok(outputs) if outputs.iter().all(Option::is_none))
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !is_so() {
        ensure!(start.elapsed() < wait::PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

#[test]
fn what_the_host_does_for_a_plugin_at_once_is_little() -> Result<()> {
    let asked = Asked::of(&plugin::toilsome()?)?;
    for (does, told) in [("R", true), ("RR", false), ("P", true), ("PP", false)] {
        let answer = asked.answer(does)?;
        ensure!(is_answered(&answer) == told, "{does}: {answer:?}");
    }
    Ok(())
}

#[test]
fn memory_that_a_plugin_forbids_itself_does_not_count() -> Result<()> {
    let asked = Asked::of(&plugin::forgetful(1)?)?;
    let answer = asked.answer("a")?;
    ensure!(is_answered(&answer), "{answer:?}");
    Ok(())
}

#[test]
fn a_plugin_of_very_many_memories_is_not_loaded() -> Result<()> {
    let Err(refused) = Asked::of(&plugin::forgetful(64)?) else { anyhow::bail!("it was") };
    ensure!(refused.to_string().contains("memory count too high at 65"), "{refused}");
    Ok(())
}

/// It can be made at first, and then not any more: whoever asks is answered at once all the same.
#[test]
fn a_plugin_that_cannot_start_again_holds_nobody_up() -> Result<()> {
    let fades = SystemTime::now() + Duration::from_secs(4);
    let asked = Asked::of(&plugin::fading(fades.duration_since(UNIX_EPOCH)?.as_secs())?)?;
    std::thread::sleep(fades.duration_since(SystemTime::now()).unwrap_or_default());
    ensure!(asked.answer("a")? == Err(Unresolved::Failed));
    // A thread makes another now, and that never ends by itself.
    until("asks to be answered at once", || asked.is_busy_at_once())?;
    for _ in 0..100 {
        ensure!(asked.is_busy_at_once());
    }
    // What is put in its place is taken at once.
    plugin::write(&asked.file(), "2.0")?;
    until("the next version", || matches!(asked.answer("a"), Ok(Ok(_))))
}
