//! One case: proxies that start with it, and its steps on their clock.
//!
//! Each case has everything of its own: clock, store, proxies, and in each proxy a machine
//! with the filter in it. Only the compiled module is shared. A case ends at the first step
//! that is not as expected: what follows would be about another history.

use super::case::{Action, Case, CaseFile, Counts, Metric, Sending, Step, Verdict};
use super::clock::{self, Clock, METRICS_TOLD_WITHIN};
use super::exchange::{self, Seen};
use super::judge::{self, Line};
use super::store::Store;
use super::world::World;
use crate::plugins::Plugins;
use proxy_wasm_host::engine::Module;
use proxy_wasm_host::plugin::{Limits, PluginConfig};
use proxy_wasm_host::worker::{Filter, Process, StartError, Worker};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tidegate_core::time::{Instant, Span};
use tidegate_policy::text::Mark;
use tokio::runtime::Runtime;

/// The filter's names for its metrics.
const METRICS: &str = "wasm_filter.tidegate";

/// More ticks than matter between two steps: 9,004 for the longest breaker.
const TICKS_MAX: usize = 16_384;

/// What every case needs, made once.
pub(super) struct Kit {
    pub(super) module: Module,
    /// The service is written for one.
    pub(super) runtime: Runtime,
}

/// A case that went through.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passed {
    pub(super) requests: u64,
    /// How long it took by its own clock.
    pub(super) virtual_time: Span,
}

/// A step that was not as expected.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) mark: Mark,
    /// The step, in a few words.
    pub(super) step: String,
    pub(super) lines: Vec<Line>,
    /// What there was to see, line by line.
    pub(super) context: Vec<String>,
}

/// Runs a case.
///
/// # Errors
///
/// [`Failure`], for the first step that is not as expected.
pub(super) fn run(
    kit: &Kit,
    (file, plugins): (&CaseFile, &Plugins),
    case: &Case,
) -> Result<Passed, Box<Failure>> {
    let mut run = Run::start(kit, (file, plugins), case).map_err(|error| {
        Box::new(Failure {
            mark: case.mark,
            step: "start of the filter".to_owned(),
            lines: Vec::new(),
            context: vec![error.to_string()],
        })
    })?;
    for step in &case.steps {
        run.step(step)?;
    }
    let virtual_time = Span(run.clock.now_ns());
    Ok(Passed { requests: run.requests, virtual_time })
}

struct Run<'a> {
    clock: Clock,
    store: Store<'a>,
    proxies: BTreeMap<&'a str, Proxy>,
    /// When there was last a reason for ticks.
    active_at: Instant,
    /// How long ticks matter after that …
    rests_after: Span,
    /// … and while the filter holds the store for away.
    rests_after_outage: Span,
    requests: u64,
}

struct Proxy {
    world: Rc<World>,
    process: Arc<Process>,
    worker: Rc<Worker>,
    filter: Filter,
}

impl<'a> Run<'a> {
    fn start(
        kit: &'a Kit,
        (file, plugins): (&CaseFile, &Plugins),
        case: &'a Case,
    ) -> Result<Self, StartError> {
        let clock = Clock::default();
        let mut proxies = BTreeMap::new();
        for step in &case.steps {
            let Action::Send(sending) = &step.action else { continue };
            let name = &*sending.request.proxy;
            if !proxies.contains_key(name) {
                let seed = proxies.len() as u64;
                proxies.insert(name, Proxy::start(kit, file, clock.clone(), seed)?);
            }
        }
        let rests_after = clock::rests_after(&file.policy);
        let breaker = file.policy.host.as_ref().map_or(Span::ZERO, |host| host.breaker);
        Ok(Self {
            store: Store::new(&kit.runtime, clock.clone(), plugins.clone()),
            clock,
            proxies,
            active_at: Instant::default(),
            rests_after,
            rests_after_outage: clock::rests_after_outage(breaker, rests_after),
            requests: 0,
        })
    }

    fn step(&mut self, step: &Step) -> Result<(), Box<Failure>> {
        self.pass_to(step.at);
        let mut last = step.at;
        match &step.action {
            Action::Send(sending) => {
                last = step.at.after(sending.offset(sending.times - 1));
                self.send(step, sending)?;
            }
            Action::Store(change) => {
                self.store.change(*change);
                self.active_at = self.now();
            }
            Action::Look => {}
        }
        if step.metrics.is_empty() {
            return Ok(());
        }
        self.pass_to(last.after(METRICS_TOLD_WITHIN));
        self.look(step)
    }

    fn send(&mut self, step: &Step, sending: &Sending) -> Result<(), Box<Failure>> {
        let mut counts = Counts::default();
        let mut contrary: Option<(u32, Vec<Line>, Seen)> = None;
        for number in 0..sending.times {
            self.pass_to(step.at.after(sending.offset(number)));
            let Some(seen) = self.exchange(sending) else { continue };
            counts.note(seen.verdict);
            if contrary.is_some() {
                continue;
            }
            let is_surplus = sending.expect.counts.is_some_and(|wanted| exceeds(&counts, &wanted));
            let lines = match sending.expect.counts {
                Some(Counts { allowed, .. })
                    if allowed < sending.times && seen.verdict == Verdict::Allowed =>
                {
                    Vec::new()
                }
                _ => judge::each(&sending.expect.each, &seen),
            };
            if is_surplus || lines.iter().any(|line| !line.is_met) {
                contrary = Some((number, lines, seen));
            }
        }
        let Some((number, mut lines, seen)) = contrary else { return Ok(()) };
        if let Some(wanted) = &sending.expect.counts {
            lines.splice(0..0, count_lines(sending.times, wanted, &counts));
        }
        let mut context = vec![answered(step, sending, number)];
        context.extend(response(&seen));
        context.extend(self.logged());
        Err(Box::new(Failure { mark: step.mark, step: told(step, sending), lines, context }))
    }

    fn exchange(&mut self, sending: &Sending) -> Option<Seen> {
        let Self { clock, store, proxies, .. } = self;
        let proxy = proxies.get(&*sending.request.proxy)?;
        let seen =
            exchange::send(&sending.request, &proxy.filter, clock, || proxy.answer_calls(store));
        // Questions that hold no request: those of limits that only look on.
        proxy.answer_calls(store);
        self.active_at = self.now();
        self.requests += 1;
        Some(seen)
    }

    fn look(&self, step: &Step) -> Result<(), Box<Failure>> {
        let line = |metric: &Metric| {
            let Metric { limit, outcome, count } = metric;
            let name = format!("{METRICS}.limit.{limit}.{outcome}");
            let told = self.proxies.values().filter_map(|proxy| proxy.process.metric(&name));
            let told: i64 = told.sum();
            Line::equal(&format!("metrics.{limit}.{outcome}"), &i64::from(*count), Some(&told))
        };
        let lines: Vec<Line> = step.metrics.iter().map(line).collect();
        if lines.iter().all(|line| line.is_met) {
            return Ok(());
        }
        let step_told = format!("metrics at {}", time(self.now()));
        Err(Box::new(Failure { mark: step.mark, step: step_told, lines, context: self.logged() }))
    }

    /// Lets time pass, with the ticks that can matter.
    fn pass_to(&mut self, then: Instant) {
        for _ in 0..TICKS_MAX {
            let due = self.proxies.values().filter_map(|proxy| proxy.worker.due_ns()).min();
            let Some(due) = due.filter(|due| *due <= then.0) else { break };
            let skips = due > self.rests_at().0;
            self.clock.pass_to(if skips { clock::last_tick_ns(due, then.0) } else { due });
            self.tick();
        }
        self.clock.pass_to(then.0);
    }

    /// From when on ticks have no effect.
    fn rests_at(&self) -> Instant {
        let is_away = self.is_held_for_away();
        self.active_at.after(if is_away { self.rests_after_outage } else { self.rests_after })
    }

    fn is_held_for_away(&self) -> bool {
        self.proxies.values().any(Proxy::holds_store_for_away)
    }

    fn tick(&mut self) {
        let was_away = self.is_held_for_away();
        for proxy in self.proxies.values() {
            proxy.worker.run_due();
            proxy.answer_calls(&mut self.store);
        }
        // Whoever finds the store back tells it, with the next tick, what was used meanwhile.
        if was_away && !self.is_held_for_away() {
            self.active_at = self.now();
        }
    }

    fn now(&self) -> Instant {
        Instant(self.clock.now_ns())
    }

    fn logged(&self) -> Vec<String> {
        let lines = self.proxies.values().flat_map(|proxy| proxy.world.lines());
        lines.map(|line| format!("the filter logged: {line}")).collect()
    }
}

impl Proxy {
    fn start(kit: &Kit, file: &CaseFile, clock: Clock, seed: u64) -> Result<Self, StartError> {
        let cluster = file.policy.host.as_ref().map(|host| host.cluster.clone());
        let world = Rc::new(World::new(clock, seed, cluster));
        let process = Process::new();
        let worker = Worker::new(&process, world.clone(), Arc::new(|| {}));
        let config = PluginConfig {
            name: "tidegate".to_owned(),
            vm_id: "tidegate".to_owned(),
            configuration: file.configuration.clone(),
            // Real time: a busy machine must not fail a case.
            limits: Limits { callback: Duration::from_secs(30), ..Limits::default() },
            ..PluginConfig::default()
        };
        let started = worker.start(&kit.module, &config);
        let filter = started.map_err(|error| {
            let lines = world.lines();
            StartError([vec![error.to_string()], lines].concat().join("\n"))
        })?;
        Ok(Self { world, process, worker, filter })
    }

    /// Answers what the filter asks; whether it asked anything.
    fn answer_calls(&self, store: &mut Store<'_>) -> bool {
        let mut asked = false;
        while let Some((token, call)) = self.world.take_call() {
            asked = true;
            self.worker.on_http_response(token, store.answer(call));
        }
        asked
    }

    fn holds_store_for_away(&self) -> bool {
        self.process.metric(&format!("{METRICS}.workers_store_away")).is_some_and(|it| it > 0)
    }
}

/// Whether there are more of a verdict than wanted.
fn exceeds(counts: &Counts, wanted: &Counts) -> bool {
    counts.allowed > wanted.allowed
        || counts.limited > wanted.limited
        || counts.unavailable > wanted.unavailable
        || counts.failed > wanted.failed
}

fn count_lines(times: u32, wanted: &Counts, got: &Counts) -> Vec<Line> {
    if times == 1 {
        let verdict = |counts: &Counts| {
            let verdicts = [
                (counts.allowed, Verdict::Allowed),
                (counts.limited, Verdict::Limited),
                (counts.unavailable, Verdict::Unavailable),
            ];
            let one = verdicts.into_iter().find(|(count, _)| *count > 0);
            one.map_or(Verdict::Failed, |(_, verdict)| verdict).name()
        };
        return vec![Line::equal("verdict", &verdict(wanted), Some(&verdict(got)))];
    }
    let verdicts = [
        (Verdict::Allowed, wanted.allowed, got.allowed),
        (Verdict::Limited, wanted.limited, got.limited),
        (Verdict::Unavailable, wanted.unavailable, got.unavailable),
        (Verdict::Failed, wanted.failed, got.failed),
    ];
    let told = verdicts.into_iter().filter(|(_, wanted, got)| wanted + got > 0);
    told.map(|(verdict, wanted, got)| Line::equal(verdict.name(), &wanted, Some(&got))).collect()
}

/// The most headers of a request that its step is told with.
const HEADERS_TOLD: usize = 4;

/// As a case says it, which for the start is `0s`.
fn time(at: Instant) -> String {
    if at == Instant::default() { "0s".to_owned() } else { Span(at.0).to_string() }
}

/// A step that sends, in a few words.
fn told(step: &Step, Sending { request, times, every, .. }: &Sending) -> String {
    let at = time(step.at);
    let mut told = if *times == 1 { format!("at {at}: ") } else { format!("at {at}: {times} × ") };
    told.push_str(&format!("{} {} from {}", request.method, request.path, request.client_ip));
    for (name, value) in request.headers.iter().take(HEADERS_TOLD) {
        told.push_str(&format!(", {name}: {value}"));
    }
    if *every > Span::ZERO {
        told.push_str(&format!(", one every {every}"));
    }
    told
}

fn answered(step: &Step, sending: &Sending, number: u32) -> String {
    if sending.times == 1 {
        return "the response:".to_owned();
    }
    let at = time(step.at.after(sending.offset(number)));
    format!("the response to number {} of {}, at {at}:", number + 1, sending.times)
}

fn response(seen: &Seen) -> Vec<String> {
    let details = seen.details.as_ref().map(|details| format!(" ({details})"));
    let mut lines = vec![format!("  {}{}", seen.status, details.unwrap_or_default())];
    lines.extend(
        seen.headers
            .iter()
            .map(|(name, value)| format!("  {}: {}", judge::shown(name), judge::shown(value))),
    );
    if !seen.body.is_empty() {
        lines.extend([String::new(), format!("  {}", judge::shown(&seen.body))]);
    }
    lines
}

#[cfg(test)]
mod tests;
