//! `tidegate test`: policies are tried on a virtual clock, against the shipped filter.
//!
//! A file of cases names a policy and tells histories: requests at given times, and what is
//! expected of each ([`read`] has the spelling). A case's proxies run the very module that
//! Envoy runs, in this process; time passes only where a case says so ([`clock`]), and limits
//! that are kept in the store are answered by the host service's own code ([`store`]). So
//! a month of traffic takes milliseconds, and comes out the same each time. Plugins that a file
//! names are asked as the service asks them; only their time is this machine's.
//!
//! What a case cannot see: several workers of one proxy, asks that take time (they are
//! answered at once, or refused at once), and requests under way at the same moment.
//!
//! - [`files`], [`read`], [`case`]: what is to be run
//! - [`run`], [`exchange`], [`clock`], [`world`], [`store`]: running it
//! - [`judge`], [`report`]: what came of it

mod case;
mod clock;
mod exchange;
mod files;
mod judge;
mod read;
mod report;
mod run;
mod store;
mod world;

use crate::plugins::Plugins;
use crate::shipped::Build;
use case::CaseFile;
use proxy_wasm_host::engine::Engine;
use report::{FileOutcome, Outcome, Summary};
use run::Kit;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

/// What to run, and how.
#[derive(Debug, Default)]
pub struct Options {
    /// Files of cases, and folders to search for them.
    pub paths: Vec<PathBuf>,
    /// Only cases whose name contains this.
    pub only: Option<String>,
    /// Names the cases and runs none.
    pub list: bool,
    /// Where to write a report for build servers.
    pub junit: Option<PathBuf>,
    /// Another filter than the shipped one.
    pub filter_file: Option<PathBuf>,
    /// Where compiled modules are kept.
    pub cache: Option<PathBuf>,
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every case went through.
    Passed,
    /// A case failed.
    Failed,
    /// Nothing was run: a file cannot be used, or there is nothing to run.
    Unusable,
}

/// Runs cases: the report goes to `out`, what keeps them from being run to `err`.
///
/// # Errors
///
/// Only of writing.
pub fn run(options: &Options, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<Ended> {
    let files = match load(options) {
        Ok(files) => files,
        Err(told) => {
            for line in told {
                writeln!(err, "{line}")?;
            }
            return Ok(Ended::Unusable);
        }
    };
    if options.list {
        for (file, case) in
            files.iter().flat_map(|file| file.cases.iter().map(move |it| (file, it)))
        {
            writeln!(out, "{}:{}: {}", file.path.display(), case.mark.line, case.name)?;
        }
        return Ok(Ended::Passed);
    }
    let kits = match kits(options, &files) {
        Ok(kits) => kits,
        Err(why) => {
            writeln!(err, "tidegate: {why}")?;
            return Ok(Ended::Unusable);
        }
    };
    let plugins = match files.iter().map(|file| plugins(options, file)).collect() {
        Ok::<Vec<_>, String>(plugins) => plugins,
        Err(why) => {
            writeln!(err, "tidegate: {why}")?;
            return Ok(Ended::Unusable);
        }
    };
    let started = Instant::now();
    let (mut summary, mut outcomes) = (Summary::default(), Vec::new());
    for (file, plugins) in files.iter().zip(&plugins) {
        let Some(kit) = kits.get(&Build::of(&file.policy)) else { continue };
        let outcome = run_file(kit, file, plugins);
        report::write(&outcome, out)?;
        summary.add(&outcome);
        outcomes.push(outcome);
    }
    summary.write(started.elapsed(), out)?;
    if let Some(path) = &options.junit
        && let Err(error) = std::fs::write(path, report::junit::xml(&outcomes))
    {
        writeln!(err, "tidegate: {}: cannot be written: {error}", path.display())?;
        return Ok(Ended::Unusable);
    }
    Ok(if summary.failed == 0 { Ended::Passed } else { Ended::Failed })
}

/// Every file that is to be run, with the cases that are.
fn load(options: &Options) -> Result<Vec<CaseFile>, Vec<String>> {
    let paths = files::find(&options.paths).map_err(|why| vec![format!("tidegate: {why}")])?;
    let (mut files, mut told) = (Vec::new(), Vec::new());
    for path in paths {
        match read::read(&path) {
            Ok(file) => files.push(file),
            Err(lines) => told.extend(lines),
        }
    }
    if !told.is_empty() {
        return Err(told);
    }
    if let Some(only) = &options.only {
        for file in &mut files {
            file.cases.retain(|case| case.name.contains(only.as_str()));
        }
        files.retain(|file| !file.cases.is_empty());
        if files.is_empty() {
            return Err(vec![format!("tidegate: no case has {only:?} in its name")]);
        }
    }
    Ok(files)
}

/// For each of the filter's builds that a policy needs: compiled once, or not even that.
fn kits(options: &Options, files: &[CaseFile]) -> Result<BTreeMap<Build, Kit>, String> {
    let mut kits = BTreeMap::new();
    let engine = Engine::new(options.cache.clone()).map_err(|error| error.to_string())?;
    for build in files.iter().map(|file| Build::of(&file.policy)) {
        if kits.contains_key(&build) {
            continue;
        }
        let code = build.find(options.filter_file.as_deref())?.code()?;
        let module = engine.load(&code).map_err(|error| error.to_string())?;
        // Its timers keep the service's bounds, which no case comes near.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        kits.insert(build, Kit { module, runtime });
    }
    Ok(kits)
}

/// The plugins that a file names, which its policy must be able to use.
fn plugins(options: &Options, file: &CaseFile) -> Result<Plugins, String> {
    let told = |why: String| format!("{}: {why}", file.path.display());
    let plugins = Plugins::load(&file.plugins, options.cache.clone()).map_err(told)?;
    match plugins.differs(&file.policy) {
        Some(why) => Err(told(why)),
        None => Ok(plugins),
    }
}

fn run_file<'a>(kit: &Kit, file: &'a CaseFile, plugins: &Plugins) -> FileOutcome<'a> {
    let outcome = |case| {
        let started = Instant::now();
        let result = run::run(kit, (file, plugins), case);
        Outcome { case, result, took: started.elapsed() }
    };
    FileOutcome { file, cases: file.cases.iter().map(outcome).collect() }
}
