//! What a file of cases says, as meant.

use crate::plugins;
use proxy_wasm_host::exchange::Noted;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use tidegate_core::policy::{Pattern, Policy};
use tidegate_core::time::{Instant, Span};
use tidegate_policy::text::Mark;

/// A file of cases, and the policy that they try.
#[derive(Debug)]
pub(super) struct CaseFile {
    pub(super) path: PathBuf,
    pub(super) policy: Policy,
    /// The policy as the filter is given it: JSON.
    pub(super) configuration: Vec<u8>,
    /// The policy's plugins that run, by name; of the others the defaults hold.
    pub(super) plugins: BTreeMap<String, plugins::Settings>,
    pub(super) cases: Vec<Case>,
}

/// One history of requests, from a proxy's start.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: Box<str>,
    pub(super) mark: Mark,
    pub(super) steps: Vec<Step>,
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) mark: Mark,
    /// Counted from the case's start.
    pub(super) at: Instant,
    pub(super) action: Action,
    /// What the proxies' counters must say afterwards.
    pub(super) metrics: Vec<Metric>,
}

#[derive(Debug)]
pub(super) enum Action {
    Send(Box<Sending>),
    Store(StoreChange),
    /// Only looks at the counters.
    Look,
}

/// One request, or the same one several times.
#[derive(Debug)]
pub(super) struct Sending {
    pub(super) request: Request,
    pub(super) times: u32,
    pub(super) every: Span,
    pub(super) expect: Expect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StoreChange {
    /// Connections to it are refused.
    Away,
    /// It is back, and remembers, as Redis does.
    Back,
    /// It is back and begins anew, as a memory that was restarted.
    BackEmpty,
}

/// A request, complete.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: Box<str>,
    pub(super) path: Box<str>,
    pub(super) host: Box<str>,
    /// Names lower-case, in order; pseudo headers are not among them.
    pub(super) headers: Vec<(Box<str>, Box<str>)>,
    pub(super) client_ip: IpAddr,
    pub(super) body: Box<str>,
    pub(super) protocol: Protocol,
    /// The proxy's name of the route.
    pub(super) route: Box<str>,
    /// What other parts of the proxy noted of it, by namespace.
    pub(super) metadata: BTreeMap<String, Noted>,
    /// Through which proxy it goes.
    pub(super) proxy: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
    Grpc,
}

/// What became of a request, as its sender sees it and the access log tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The origin answered it.
    Allowed,
    /// A limit refused it.
    Limited,
    /// A limit refused it because the store is away.
    Unavailable,
    /// Anything else: the filter failed.
    Failed,
}

/// What is expected of a step's requests.
#[derive(Debug, Default)]
pub(super) struct Expect {
    /// How many of them get which verdict; if given, they sum to all.
    pub(super) counts: Option<Counts>,
    pub(super) each: Each,
}

/// What is expected of each response; beside counts, of each that is a refusal.
#[derive(Debug, Default)]
pub(super) struct Each {
    pub(super) status: Option<u16>,
    pub(super) grpc_status: Option<u32>,
    /// The limit that fired.
    pub(super) limit: Option<Box<str>>,
    pub(super) remaining: Vec<Remaining>,
    pub(super) retry_after: Option<RetryAfter>,
    pub(super) headers: Vec<(Box<str>, HeaderWanted)>,
    pub(super) body: Option<Wanted>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) allowed: u32,
    pub(super) limited: u32,
    pub(super) unavailable: u32,
    /// Nobody expects these.
    pub(super) failed: u32,
}

/// Units left.
#[derive(Debug)]
pub(super) struct Remaining {
    /// Of this limit; `None`: the least of all limits told.
    pub(super) limit: Option<Box<str>>,
    pub(super) units: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetryAfter {
    /// The field is not there.
    Absent,
    Seconds(u64),
}

#[derive(Debug)]
pub(super) enum HeaderWanted {
    Present(bool),
    Like(Wanted),
}

/// A pattern, and how it was written.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) typed: Box<str>,
    pub(super) pattern: Pattern,
}

/// What one counter must say, summed over all proxies since the case began.
#[derive(Debug)]
pub(super) struct Metric {
    pub(super) limit: Box<str>,
    pub(super) outcome: &'static str,
    pub(super) count: u32,
}

impl Counts {
    pub(super) fn note(&mut self, verdict: Verdict) {
        *match verdict {
            Verdict::Allowed => &mut self.allowed,
            Verdict::Limited => &mut self.limited,
            Verdict::Unavailable => &mut self.unavailable,
            Verdict::Failed => &mut self.failed,
        } += 1;
    }

    /// Saturates: more than are ever sent.
    pub(super) fn sum(&self) -> u32 {
        [self.allowed, self.limited, self.unavailable, self.failed]
            .into_iter()
            .fold(0, u32::saturating_add)
    }
}

impl Verdict {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Limited => "limited",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
        }
    }
}

impl Sending {
    /// When the request of this number is sent, counted from the step's own time.
    pub(super) const fn offset(&self, number: u32) -> Span {
        Span(self.every.0.saturating_mul(number as u64))
    }
}
