//! What proxies ask of plugins of policies.

use super::Site;
use super::outcome::Outcome;
use std::time::Duration;
use tidegate_core::plugin::Unresolved;
use tidegate_core::wire::plugin::decode_resolve;
use tokio::sync::oneshot;

/// Answers in time, whatever becomes of the plugin: who is told that there is no answer has the
/// rest of the deadline for its limits.
pub(super) async fn outcome(site: &Site, body: &[u8], patience: Option<Duration>) -> Outcome {
    let ask = match decode_resolve(body) {
        Ok(ask) => ask,
        Err(malformed) => return Outcome::Malformed(malformed),
    };
    let within = site.plugins.patience(&ask.plugin);
    // Who asks on another clock than this machine's waits on that one.
    let patience = patience.filter(|_| site.clock.goes_by_itself());
    let within = patience.map_or(within, |patience| within.min(patience));
    let (to, answer) = oneshot::channel();
    site.plugins.ask(ask, move |resolved| {
        // Who has given up hears nothing.
        let _ = to.send(resolved);
    });
    let answer = tokio::time::timeout(within, answer).await;
    let resolved = answer.ok().and_then(Result::ok).unwrap_or(Err(Unresolved::Failed));
    Outcome::Resolved(resolved, site.is_embedded)
}
