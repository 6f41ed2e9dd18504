//! Whether a plugin of policies could be loaded, and with how much to spare.

use super::finding::Finding;
use crate::plugins::Settings;
use crate::plugins::examine::examine;

/// Of the memory that an instance may have, the part that it may take before its first call.
const MEMORY_TAKEN_MAX: f64 = 0.75;

const CHECK: &str = "plugin";

pub(super) fn finding(name: &str, settings: &Settings) -> Finding {
    let examined = match examine(name, settings) {
        Ok(examined) => examined,
        Err(why) => {
            return Finding::critical(CHECK, name, why).remedy(
                "the service does not start with it; take it out, and the defaults of policies hold",
            );
        }
    };
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    let (memory, most) = (mib(examined.memory_bytes), mib(settings.memory_max));
    let found = format!(
        "{}; {memory:.1} of {most:.0} MiB at its start, after {} ms",
        examined.summary(),
        examined.took.as_millis()
    );
    if memory > most * MEMORY_TAKEN_MAX {
        return Finding::warning(CHECK, name, found)
            .remedy("what it needs for a request may be more than is left: raise memory_max");
    }
    Finding::ok(CHECK, name, found)
}
