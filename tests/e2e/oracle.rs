//! Judges admissions against a stated bound, in every window of every length.
//!
//! A client does not see when it was admitted, only that it was between sending its request
//! and having the answer. So requests that were sent within a span and answered within it
//! were certainly admitted within it; if those are too many, the bound is broken, whatever
//! the network did. The converse is not claimed.

use harness::client::Answer;
use std::time::Duration;

/// Fails if more requests were admitted in any span than `bound` allows for its length.
pub(crate) fn assert_never_above(answers: &[Answer], bound: impl Fn(Duration) -> f64) {
    let mut admitted: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    admitted.sort_by_key(|answer| answer.sent + answer.took);
    for first in &admitted {
        let within = admitted.iter().filter(|answer| answer.sent >= first.sent);
        for (before, last) in within.enumerate() {
            let span = (last.sent + last.took).duration_since(first.sent);
            let (count, most) = (before + 1, bound(span));
            assert!(count as f64 <= most, "{count} admitted within {span:?}, more than {most}");
        }
    }
}

/// What a token bucket may admit: `burst` and, since then, `rate` a second.
pub(crate) fn token_bucket(burst: u32, rate: f64) -> impl Fn(Duration) -> f64 {
    move |span| f64::from(burst) + rate * span.as_secs_f64()
}

/// What a token bucket has to admit of more requests than it has tokens: `burst` and, since the first
/// answer, `rate` a second. Where none came for so long that it was full, client or proxy stalled,
/// and what would have refilled beyond `burst` is lost.
pub(crate) fn possible(answers: &[Answer], burst: u32, rate: f64) -> f64 {
    let mut answered: Vec<_> = answers.iter().map(|answer| answer.sent + answer.took).collect();
    answered.sort_unstable();
    let refills = answered.windows(2).map(|pair| rate * (pair[1] - pair[0]).as_secs_f64());
    refills.fold(burst.into(), |sum, refill| sum + refill.min(burst.into()))
}

/// Fails if a request got 429 while fewer than `count` can have been in its way, where what was
/// admitted is in the way for `lasts` at most. A client or a proxy that stalls changes nothing.
pub(crate) fn assert_refused_only_when_full(answers: &[Answer], count: usize, lasts: Duration) {
    let admitted: Vec<_> = answers.iter().filter(|answer| answer.status == 200).collect();
    for refused in answers.iter().filter(|answer| answer.status == 429) {
        let answered = refused.sent + refused.took;
        let in_its_way = admitted.iter().filter(|other| {
            other.sent <= answered && other.sent + other.took + lasts >= refused.sent
        });
        let found = in_its_way.count();
        assert!(found >= count, "refused with {found} in its way, fewer than {count}");
    }
}

/// What a sliding window may admit: `count` in any window of one period.
pub(crate) fn sliding_window(count: u32, period: Duration) -> impl Fn(Duration) -> f64 {
    move |span| f64::from(count) * ((span.as_secs_f64() / period.as_secs_f64()).floor() + 1.0)
}

/// An oracle that never objects would make every test above it pass.
mod tests {
    use super::*;
    use hyper::StatusCode;
    use std::time::Instant;

    fn admitted_at(millis: &[u64]) -> Vec<Answer> {
        let zero = Instant::now();
        let answer = |ms: &u64| Answer {
            status: StatusCode::OK,
            headers: Default::default(),
            body: Default::default(),
            trailers: Default::default(),
            sent: zero + Duration::from_millis(*ms),
            took: Duration::from_millis(1),
        };
        millis.iter().map(answer).collect()
    }

    /// Those, and the last of them refused.
    fn refused_after(millis: &[u64]) -> Vec<Answer> {
        let mut answers = admitted_at(millis);
        if let Some(last) = answers.last_mut() {
            last.status = StatusCode::TOO_MANY_REQUESTS;
        }
        answers
    }

    #[test]
    fn it_lets_a_full_budget_pass() {
        assert_never_above(&admitted_at(&[0, 0, 0, 100, 200]), token_bucket(3, 10.0));
        assert_never_above(&admitted_at(&[0, 0, 999, 1000, 1001]), sliding_window(3, SECOND));
    }

    #[test]
    #[should_panic(expected = "4 admitted within")]
    fn it_objects_to_one_more_than_a_bucket_holds() {
        assert_never_above(&admitted_at(&[50, 50, 50, 100]), token_bucket(3, 10.0));
    }

    #[test]
    #[should_panic(expected = "4 admitted within")]
    fn it_objects_to_one_more_in_a_window_that_begins_anywhere() {
        assert_never_above(&admitted_at(&[0, 600, 900, 1200, 1598]), sliding_window(3, SECOND));
    }

    #[test]
    fn what_overflows_while_nobody_is_answered_is_not_asked_for() {
        let most = possible(&admitted_at(&[0, 100, 1_000]), 3, 10.0);
        assert!((most - 7.0).abs() < 1e-6, "{most}");
    }

    #[test]
    fn it_lets_a_refusal_by_a_full_budget_pass() {
        assert_refused_only_when_full(&refused_after(&[0, 500, 900, 1_001]), 3, SECOND);
    }

    #[test]
    #[should_panic(expected = "refused with 2 in its way")]
    fn it_objects_to_a_refusal_with_room() {
        assert_refused_only_when_full(&refused_after(&[0, 500, 900, 1_002]), 3, SECOND);
    }

    const SECOND: Duration = Duration::from_secs(1);
}
