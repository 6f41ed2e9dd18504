//! Waiting for a condition, with a deadline and a name.

use crate::Result;
use anyhow::bail;
use std::time::{Duration, Instant};

/// How long anything local may take to become true. Generous: a loaded machine is
/// slow, and a condition that holds is seen within one [`PAUSE`].
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until `look` finds something.
///
/// # Errors
///
/// After [`PATIENCE`], names `what` did not come.
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    within(PATIENCE, what, look).await
}

/// The same, for what may take longer.
///
/// # Errors
///
/// After `patience`, names `what` did not come.
pub async fn within<T>(
    patience: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look().await {
            return Ok(found);
        }
        if Instant::now() > deadline {
            bail!("waited {patience:?} in vain for {what}");
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Lets `span` pass: for promises about time itself ("after a period, a new budget").
pub async fn pass(span: Duration) {
    tokio::time::sleep(span).await;
}
