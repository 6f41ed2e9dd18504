//! `tidegate doctor`: is what this configuration names fit for limits: the Redis, and plugins?
//!
//! Facts are gathered ([`tidegate_redis::inspect`]), judged (`judge`: facts in, findings out,
//! nothing asked) and printed (`print`). What the server does not let us ask is a finding of
//! its own, and changes nothing: managed services forbid much.

mod finding;
mod judge;
mod plugins;
mod print;

pub use finding::{Finding, Level};

use crate::config::{Config, Provider};
use judge::Situation;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};
use tidegate_redis::inspect;

/// The longest that all of it takes. What has not answered by then is frozen.
const EXAMINATION_MAX: Duration = Duration::from_secs(30);

/// How findings are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A table, for people.
    Table,
    /// One JSON object.
    Json,
}

/// Looks at everything, judges it, and writes what was found. `warnings` are what was odd about
/// the configuration.
///
/// Returns the worst level that was found.
///
/// # Errors
///
/// If `out` cannot be written to, or there are no threads to be had.
pub fn run(
    config: &Config,
    warnings: &[String],
    form: Form,
    out: &mut dyn Write,
) -> io::Result<Level> {
    let findings = examine(config, warnings)?;
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    match form {
        Form::Table => print::table(&judge::title(config), &findings, worst, out)?,
        Form::Json => print::json(&judge::title(config), &findings, worst, out)?,
    }
    Ok(worst)
}

fn examine(config: &Config, warnings: &[String]) -> io::Result<Vec<Finding>> {
    let mut findings: Vec<Finding> = warnings
        .iter()
        .map(|warning| {
            Finding::warning("configuration", "", warning.clone())
                .remedy("see where it is set; what is of no use is better taken out")
        })
        .collect();
    findings.extend(config.plugins.iter().map(|(name, settings)| plugins::finding(name, settings)));
    let settings = match &config.provider {
        Provider::Memory { keys_max } => {
            findings.extend(judge::memory(*keys_max, memory_of_this_machine()));
            return Ok(findings);
        }
        Provider::Redis(settings) => settings,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let looking = async {
        let sight = inspect::inspect(settings).await;
        let log = match &config.revocations {
            Some(_) => Some(inspect::log(settings).await),
            None => None,
        };
        (sight, log)
    };
    let seen = runtime.block_on(async { tokio::time::timeout(EXAMINATION_MAX, looking).await });
    // A name that is still being resolved would be waited for.
    runtime.shutdown_background();
    match seen {
        Ok((sight, log)) => {
            let situation = Situation { settings, sight: &sight, now: SystemTime::now() };
            findings.extend(judge::redis(&situation));
            findings.extend(log.iter().flat_map(|log| judge::shared_log(&sight, log)));
        }
        Err(_) => findings.push(
            Finding::critical("reach", "", format!("no end after {EXAMINATION_MAX:?}"))
                .remedy("look at the machines and the network between"),
        ),
    }
    Ok(findings)
}

/// In bytes; `None` where the system does not tell.
fn memory_of_this_machine() -> Option<u64> {
    let told = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = told.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}
