//! The log of revocations: how long it is, and whether we may do with it what hosts do.

use crate::error::chain;
use crate::settings::Settings;
use crate::store::Store;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a server that has the log is looked for: sentinels are asked first, and a cluster for
/// its slots.
const FOUND_WITHIN: Duration = Duration::from_secs(3);

/// The pause between two looks.
const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// The log, as it was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogSight {
    /// How many entries it has; 0 if there is none.
    pub entries: u64,
    /// Commands that hosts say, and that were refused, each with the server's words.
    pub refused: Vec<(&'static str, String)>,
}

/// Looks at the log of these settings' servers. Writes a key of its own, and takes it away.
///
/// # Errors
///
/// Why it cannot be looked at, in words, after three seconds.
pub async fn log(settings: &Settings) -> Result<LogSight, String> {
    let store = Store::start(settings.clone());
    let mut writer = store.log().writer();
    let end = Instant::now() + FOUND_WITHIN;
    let refused = loop {
        match writer.rehearse().await {
            Ok(refused) => break refused,
            Err(error) if Instant::now() >= end => {
                return Err(writer.trouble().map_or_else(|| chain(&error), str::to_owned));
            }
            Err(_) => sleep(AGAIN_AFTER).await,
        }
    };
    let refused: Vec<_> =
        refused.into_iter().map(|(command, error)| (command, chain(&error))).collect();
    if !refused.is_empty() {
        return Ok(LogSight { entries: 0, refused });
    }
    let mut reader = store.log().reader();
    let ends = async { Ok((reader.first().await?, reader.last().await?)) };
    let (first, last) = ends.await.map_err(|error: crate::Error| chain(&error))?;
    let entries = last.zip(first).map_or(0, |(last, first)| last.number - first.number + 1);
    Ok(LogSight { entries, refused })
}
