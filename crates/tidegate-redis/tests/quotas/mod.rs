//! Quotas, made up.

use tidegate_core::limit::{Algorithm, Quota};
use tidegate_core::time::Span;

/// Four quotas that can exist and are wanted: small, odd, huge, of each algorithm; short periods
/// go up to `short_ms`.
pub(crate) fn quotas(
    dice: &mut fastrand::Rng,
    algorithms: &[Algorithm],
    short_ms: u64,
    is_wanted: impl Fn(&Quota) -> bool,
) -> Vec<Quota> {
    let mut quotas = Vec::new();
    while quotas.len() < 4 {
        let algorithm = algorithms[dice.usize(..algorithms.len())];
        let count = match dice.u8(..4) {
            0 => dice.u32(1..=5),
            1 => dice.u32(1..=1_000),
            2 => [7, 97, 9_973, 999_983][dice.usize(..4)],
            _ => dice.u32(1..=u32::MAX),
        };
        let millis = match dice.u8(..4) {
            0 => dice.u64(1..=short_ms),
            1 => [1_000, 60_000, 3_600_000, 86_400_000][dice.usize(..4)],
            2 => dice.u64(1..=100_000),
            _ => dice.u64(1..=366 * 86_400_000),
        };
        let burst = if dice.bool() { count } else { dice.u32(1..=count.saturating_mul(2)) };
        let quota = Quota::new(algorithm, count, Span::from_millis(millis), burst).ok();
        quotas.extend(quota.filter(&is_wanted));
    }
    quotas
}
