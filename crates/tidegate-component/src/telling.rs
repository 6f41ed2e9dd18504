//! Verdicts as the host is told them.

use crate::bindings::exports::tidegate::edge::guard::{
    Allowance, Reason, Refusal, Standing, Verdict,
};
use crate::bindings::tidegate::edge::types::Field;
use tidegate_core::headers::{self, Response};
use tidegate_core::policy::Policy;
use tidegate_core::time::Span;
use tidegate_core::verdict::{self, Denial, LimitIndex, LimitStanding, Rejection};

/// What the host is to do with a request.
pub(crate) fn told(policy: &Policy, verdict: verdict::Verdict) -> Verdict {
    match verdict {
        verdict::Verdict::Allow(standings) if standings.is_empty() => Verdict::Allow(None),
        verdict::Verdict::Allow(standings) => {
            let mut fields = Vec::new();
            headers::standing_fields(policy, &standings, &mut fields);
            let standings = standings_of(policy, &standings);
            Verdict::Allow(Some(Allowance { standings, fields: fields_of(fields) }))
        }
        verdict::Verdict::Deny(denial) => Verdict::Refuse(refused(policy, &denial)),
        verdict::Verdict::Reject(rejection) => Verdict::Refuse(rejected(policy, rejection)),
    }
}

fn refused(policy: &Policy, denial: &Denial) -> Refusal {
    let (reason, wait) = match denial.reason {
        verdict::Reason::Limited => (Reason::Limited, denial.retry_after),
        verdict::Reason::CostTooHigh => (Reason::CostTooHigh, None),
        verdict::Reason::StoreAway => (Reason::StoreAway, until_probed(policy)),
    };
    Refusal {
        limit: Some(name_of(policy, denial.limit)),
        retry_after: wait.map(|wait| wait.0),
        standings: standings_of(policy, &denial.standings),
        ..response(reason, headers::refusal(policy, denial))
    }
}

fn rejected(policy: &Policy, rejection: Rejection) -> Refusal {
    let (reason, wait) = match rejection {
        Rejection::Revoked => (Reason::Revoked, None),
        Rejection::Unfit => (Reason::Unfit, None),
        Rejection::NoToken => (Reason::NoToken, None),
        Rejection::Unknown => (Reason::Unknown, until_probed(policy)),
    };
    let retry_after = wait.map(|wait| wait.0);
    Refusal { retry_after, ..response(reason, headers::rejection(policy, rejection)) }
}

fn response(reason: Reason, response: Response) -> Refusal {
    let Response { status, grpc_status, fields, body, details } = response;
    let fields = fields_of(fields);
    let (limit, retry_after, standings) = (None, None, Vec::new());
    Refusal { reason, limit, retry_after, standings, status, grpc_status, fields, body, details }
}

/// Nobody knows when the store is back; before it is probed again, it is not.
fn until_probed(policy: &Policy) -> Option<Span> {
    policy.host.as_ref().map(|host| host.breaker)
}

fn standings_of(policy: &Policy, standings: &[LimitStanding]) -> Vec<Standing> {
    let told = |told: &LimitStanding| Standing {
        limit: name_of(policy, told.limit),
        burst: told.burst,
        window: told.window.0,
        remaining: told.standing.remaining,
        reset: told.standing.reset.0,
    };
    standings.iter().map(told).collect()
}

fn fields_of(fields: Vec<headers::Field>) -> Vec<Field> {
    fields.into_iter().map(|(name, value)| Field { name: name.to_owned(), value }).collect()
}

fn name_of(policy: &Policy, limit: LimitIndex) -> String {
    policy.limits.get(usize::from(limit.0)).map(|limit| limit.name.to_string()).unwrap_or_default()
}
