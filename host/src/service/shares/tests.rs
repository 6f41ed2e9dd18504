//! What one host makes of what it is asked.

use super::*;
use proptest::prelude::*;

const LIMIT: LimitTag = LimitTag(7);

fn after(now: Instant, seconds: u64) -> Instant {
    now + Duration::from_secs(seconds)
}

#[test]
fn one_proxy_has_it_all() {
    let (mut shares, now) = (Shares::new(), Instant::now());
    for cost in [0, 1, 1_000_000] {
        assert_eq!(shares.record(LIMIT, b"a", cost, now), SHARE_WHOLE_PPM);
    }
}

#[test]
fn shares_follow_demand() {
    let (mut shares, now) = (Shares::new(), Instant::now());
    shares.record(LIMIT, b"a", 300, now);
    assert_eq!(shares.record(LIMIT, b"b", 100, now), 275_000, "a quarter of 90 %, half of 10 %");
    assert_eq!(shares.record(LIMIT, b"a", 0, now), 725_000);
}

#[test]
fn limits_do_not_share() {
    let (mut shares, now) = (Shares::new(), Instant::now());
    shares.record(LIMIT, b"a", 300, now);
    assert_eq!(shares.record(LimitTag(8), b"b", 1, now), SHARE_WHOLE_PPM);
}

#[test]
fn a_new_proxy_among_busy_ones_has_a_share_at_once() {
    let (mut shares, now) = (Shares::new(), Instant::now());
    for proxy in 0..9_u8 {
        shares.record(LIMIT, &[proxy], 1_000_000, now);
    }
    assert_eq!(shares.record(LIMIT, b"new", 1, now), 10_000, "a tenth of the even tenth");
}

#[test]
fn old_demand_fades_and_is_then_forgotten() {
    let (mut shares, start) = (Shares::new(), Instant::now());
    shares.record(LIMIT, b"a", 1_000, start);
    let fading = shares.record(LIMIT, b"b", 1_000, after(start, 10));
    assert_eq!(fading, 600_000 + 50_000, "b's 1000 against a's 500");
    assert_eq!(shares.record(LIMIT, b"b", 1, after(start, 75)), SHARE_WHOLE_PPM);
}

#[test]
fn bounds_hold_and_the_stalest_goes() {
    let (mut shares, start) = (Shares::new(), Instant::now());
    for n in 0..=LIMITS_MAX as u64 {
        shares.record(LimitTag(n), b"a", 1, start + Duration::from_micros(n));
    }
    assert_eq!(shares.limits.len(), LIMITS_MAX);
    assert!(!shares.limits.contains_key(&LimitTag(0)));
    for n in 0..=PROXIES_MAX as u64 {
        let now = start + Duration::from_millis(10 + n);
        shares.record(LimitTag(5), &n.to_le_bytes(), 1, now);
    }
    assert_eq!(shares.limits[&LimitTag(5)].proxies.len(), PROXIES_MAX);
}

proptest! {
    #[test]
    fn all_shares_together_are_never_more_than_the_whole(
        asks in prop::collection::vec((0..40_u8, 0..1_000_000_u32, 0..20_000_u64), 1..200)
    ) {
        let (mut shares, mut now) = (Shares::new(), Instant::now());
        for (proxy, cost, millis) in asks {
            now += Duration::from_millis(millis);
            shares.record(LIMIT, &[proxy], cost, now);
        }
        let limit = &shares.limits[&LIMIT];
        let total = limit.total.units_at(now);
        let sum: u64 = limit
            .proxies
            .values()
            .map(|demand| u64::from(share(demand.units_at(now), total, limit.proxies.len())))
            .sum();
        prop_assert!(sum <= u64::from(SHARE_WHOLE_PPM), "{sum}");
    }
}
