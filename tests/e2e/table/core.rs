//! Core as it is: its gate, driven here, with what it asks put to a real host.

use super::Seen;
use super::rows::Asked;
use anyhow::{Context, anyhow, bail};
use harness::client::{Client, post};
use harness::ground::Alone;
use harness::{Result, wait};
use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tidegate_core::ask::NoAnswer;
use tidegate_core::facts::{Facts, Want, WantId};
use tidegate_core::gate::{Answered, Gate, Question, QuestionId, Step, Ticket};
use tidegate_core::headers;
use tidegate_core::lease::HolderId;
use tidegate_core::verdict::Verdict;
use tidegate_core::wire;
use tidegate_policy::{resolve::resolve, text};
use tokio::task::JoinSet;

/// How often a gate that leases wants its ticks.
const TICK: Duration = Duration::from_millis(25);

/// A gate, and the questions on their way.
pub(super) struct Core {
    gate: Gate,
    ground: Alone,
    host: Option<SocketAddr>,
    asking: JoinSet<(QuestionId, Answers)>,
}

/// What came of a question.
type Answers = std::result::Result<Answered, NoAnswer>;

/// A request's facts.
struct Told<'a>(HashMap<&'a str, &'a [u8]>);

impl Core {
    /// One with a policy; its questions go to `host`.
    pub(super) fn start(policy: &Value, host: Option<SocketAddr>) -> Result<Self> {
        let document = text::from_json(policy.to_string().as_bytes())?;
        let resolved = resolve(&document);
        let told = || resolved.diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>();
        let policy = resolved.policy.as_ref().ok_or_else(|| anyhow!(told().join("\n")))?;
        let me = HolderId::new(std::process::id().into(), 0);
        let gate = Gate::new(policy.clone(), &[7; 16], me);
        Ok(Self { gate, ground: Alone::default(), host, asking: JoinSet::new() })
    }

    /// Until it knows what is revoked.
    pub(super) async fn learn(&mut self) -> Result<()> {
        let begun = Instant::now();
        while !self.gate.revocation_state().is_some_and(|state| state.is_fresh) {
            if begun.elapsed() > wait::PATIENCE {
                bail!("core never learns what is revoked");
            }
            self.go_on().await;
        }
        Ok(())
    }

    /// Sends one request to it, and waits for what becomes of it.
    pub(super) async fn ask(&mut self, asked: &Asked) -> Result<Seen> {
        let mut facts = Told(HashMap::from([
            (":path", asked.path.as_bytes()),
            (":method", &b"GET"[..]),
            (":authority", &b"shop.example"[..]),
        ]));
        facts.0.extend(asked.headers.iter().map(|(name, value)| (*name, value.as_bytes())));
        match self.gate.on_request(&mut self.ground, &mut facts) {
            Step::Answer(verdict) => Ok(self.seen(&verdict)),
            Step::Hold(ticket) => self.held(ticket).await,
        }
    }

    async fn held(&mut self, ticket: Ticket) -> Result<Seen> {
        let begun = Instant::now();
        loop {
            self.put();
            let decided = self.gate.take_decided();
            if let Some((_, verdict)) = decided.into_iter().find(|(it, _)| *it == ticket) {
                return Ok(self.seen(&verdict));
            }
            if begun.elapsed() > wait::PATIENCE {
                bail!("core never decides");
            }
            self.go_on().await;
        }
    }

    /// Sends what there is to ask, and hears an answer, or lets a tick go by.
    async fn go_on(&mut self) {
        self.put();
        let next = async {
            match self.asking.join_next().await {
                Some(answer) => answer.ok(),
                None => std::future::pending().await,
            }
        };
        match tokio::time::timeout(TICK, next).await {
            Ok(Some((id, reply))) => {
                self.gate.on_reply(&mut self.ground, id, reply, &mut |_| true);
            }
            Ok(None) => {}
            Err(_) => {
                self.gate.on_tick(&mut self.ground);
            }
        }
    }

    fn put(&mut self) {
        while self.gate.has_questions() {
            for question in self.gate.take_questions() {
                let host = self.host;
                self.asking.spawn(async move {
                    let answer = answer(host, &question).await;
                    (question.id, answer)
                });
            }
        }
    }

    fn seen(&self, verdict: &Verdict) -> Seen {
        let policy = self.gate.policy();
        let mut fields = Vec::new();
        let status = match verdict {
            Verdict::Allow(standings) => {
                headers::standing_fields(policy, standings, &mut fields);
                200
            }
            Verdict::Deny(denial) => {
                let refusal = headers::refusal(policy, denial);
                fields = refusal.fields;
                refusal.status
            }
            Verdict::Reject(rejection) => {
                let refusal = headers::rejection(policy, *rejection);
                fields = refusal.fields;
                refusal.status
            }
        };
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
        Seen { status, fields: fields.collect() }
    }
}

/// What the host says to a question.
async fn answer(host: Option<SocketAddr>, question: &Question) -> Answers {
    let (body, kind) = question.ask.encode();
    let waits = Duration::from_nanos(question.waits.0);
    let call = post("/v1/ask", body)
        .header("content-type", wire::ASK_TYPE)
        .header(wire::PROXY, "core")
        .header(wire::WAITS_MS, waits.as_millis().to_string());
    let asked = async {
        let host = host.context("there is none")?;
        Client::http2(host).await?.send(call).await
    };
    let answer = tokio::time::timeout(waits, asked).await;
    let Ok(Ok(answer)) = answer else { return Err(NoAnswer::Unreachable) };
    if answer.status != 200 {
        return Err(NoAnswer::Unreachable);
    }
    Answered::decode(kind, answer.body.to_vec()).map_err(|_| NoAnswer::Unreachable)
}

impl Facts for Told<'_> {
    fn read(&mut self, _: WantId, want: &Want) -> Option<&[u8]> {
        match want {
            Want::Header(name) | Want::SoleHeader(name) => self.0.get(&**name).copied(),
            Want::ClientAddress => Some(b"127.0.0.1:1"),
            _ => None,
        }
    }
}
