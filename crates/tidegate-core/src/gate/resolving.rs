//! Requests whose plan needs to know what a plugin says of them.
//!
//! Planning comes first and finds out whether any rule of the request looks at a plugin. If so its
//! facts are held, the plugins are asked, and it is planned anew by their answers, or by the
//! policy's defaults where there are none. A request that shows something revoked asks no plugin;
//! one that must be looked up first does so before. An answer may take half of the time that the
//! request has left, so that its limits can still be asked for: all questions together never take
//! longer than one may.

use super::question::{Answered, Asked, Purpose};
use super::revocations::Resumed;
use super::{Gate, Ground, Step, Ticket, WAITING_MAX, Waiting};
use crate::ask::NoAnswer;
use crate::facts::Facts;
use crate::plan::{Applied, Planner};
use crate::plugin::{HeldFacts, Outputs, Unresolved, WithOutputs};
use crate::policy::{Plugin, Policy};
use crate::time::{Instant, Span};
use crate::token::WithClaims;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The most questions to plugins of one worker that may be on their way at once; for what comes on
/// top the defaults hold. Each holds the facts of its request: a kilobyte as a rule, 64 KiB at most.
pub const RESOLVING_MAX: usize = 1_024;

/// How often each thing came of a plugin's being needed, since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PluginTally {
    /// It answered.
    pub answered: u64,
    /// The defaults held: nobody could be asked, or no answer came.
    pub defaulted: u64,
    /// Of those: nobody has the plugin, or it wants or gives other than the policy says.
    pub mismatched: u64,
    /// An output that is used as a cost was no decimal number: its default held.
    pub nonsense: u64,
}

#[derive(Default)]
pub(super) struct Plugins {
    /// By plugin.
    tallies: Vec<PluginTally>,
    asking: usize,
    run_in: Place,
}

/// Where plugins run: learnt from answers.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Unknown,
    /// In this very process: whether the host service is away is nothing to them, and their answers
    /// say nothing of it.
    OwnProxy,
    Host,
}

/// A request that is not planned yet.
pub(super) struct Open {
    facts: HeldFacts,
    outputs: Outputs,
    /// Which plugins are needed next, and which were asked: a bit for each.
    needs: u8,
    pending: u8,
    until: Instant,
}

impl Plugins {
    pub(super) fn new(policy: &Policy) -> Self {
        let tallies = alloc::vec![PluginTally::default(); policy.plugins.len()];
        Self { tallies, ..Self::default() }
    }

    fn count(&mut self, plugin: u8, add: impl FnOnce(&mut PluginTally)) {
        if let Some(tally) = self.tallies.get_mut(usize::from(plugin)) {
            add(tally);
        }
    }

    /// What holds of a plugin without an answer.
    fn go_by_defaults(&mut self, policy: &Policy, plugin: u8, outputs: &mut Outputs) {
        self.count(plugin, |tally| tally.defaulted += 1);
        let defaults = policy
            .plugins
            .get(usize::from(plugin))
            .map(|plugin| plugin.outputs.iter().map(|output| output.default.clone()).collect());
        outputs.set(plugin, defaults.unwrap_or_default());
    }
}

impl Gate {
    /// Plans a request; or says what it takes to do so, if that needs a plugin.
    pub(super) fn plan<F: Facts>(
        &mut self,
        facts: &mut F,
        plan: &mut Vec<Applied>,
    ) -> Option<Box<Open>> {
        let Self { policy, planner, reading, plugins, .. } = self;
        let mut facts = WithClaims::new(facts, reading, policy);
        if policy.plugins.is_empty() {
            planner.plan(policy, &mut facts, plan);
            return None;
        }
        let mut outputs = Outputs::default();
        loop {
            let needs = plan_by(planner, policy, &mut facts, &outputs, plan);
            if needs == 0 {
                return None;
            }
            if let Some(facts) = HeldFacts::of(policy, &mut facts) {
                let (pending, until) = (0, Instant::default());
                return Some(Box::new(Open { facts, outputs, needs, pending, until }));
            }
            // More than anybody holds. Each round knows of one plugin more.
            each(needs).for_each(|plugin| plugins.go_by_defaults(policy, plugin, &mut outputs));
        }
    }

    /// Goes on with a request, planned or not.
    pub(super) fn proceed<G: Ground>(
        &mut self,
        ground: &mut G,
        plan: &[Applied],
        open: Option<Box<Open>>,
    ) -> Step {
        match open {
            Some(open) => self.resolve(ground, open),
            None => self.decide(ground, plan),
        }
    }

    /// Asks the plugins that a request needs; or plans it by their defaults, where that cannot be.
    #[inline(never)]
    fn resolve<G: Ground>(&mut self, ground: &mut G, mut open: Box<Open>) -> Step {
        let (resumed, now) = (self.resumed, ground.now());
        open.until = resumed.map_or_else(|| now.after(self.deadline()), |it| it.until);
        let left = open.until.since(now);
        let Self { policy, plugins, .. } = self;
        let mut asks = Vec::new();
        for plugin in each(core::mem::take(&mut open.needs)) {
            match open.facts.ask(policy, plugin) {
                Some(ask) => asks.push((plugin, ask)),
                None => plugins.go_by_defaults(policy, plugin, &mut open.outputs),
            }
        }
        if !self.may_resolve(left, asks.len()) {
            let Self { policy, plugins, .. } = self;
            for (plugin, _) in asks.drain(..) {
                plugins.go_by_defaults(policy, plugin, &mut open.outputs);
            }
        }
        if asks.is_empty() {
            return self.plan_anew(ground, open);
        }
        let ticket = resumed.map_or_else(|| Ticket(self.number()), |it| it.ticket);
        for (plugin, ask) in asks {
            open.pending |= bit(plugin);
            self.plugins.asking += 1;
            let purpose = Purpose::Resolve(ticket, plugin);
            self.put_for(Asked::Resolve(ask), purpose, Span(left.0 / 2), resumed.is_none());
        }
        self.waiting.insert(ticket.0, Waiting::Resolving(open));
        Step::Hold(ticket)
    }

    /// Plans a request by what is known of its plugins by now, and goes on with it: each time one
    /// of them more is known.
    fn plan_anew<G: Ground>(&mut self, ground: &mut G, mut open: Box<Open>) -> Step {
        let mut plan = core::mem::take(&mut self.plan);
        let Self { policy, planner, .. } = self;
        let Open { facts, outputs, needs, .. } = &mut *open;
        *needs = plan_by(planner, policy, facts, outputs, &mut plan);
        let open = (open.needs != 0).then_some(open);
        let step = self.proceed(ground, &plan, open);
        self.plan = plan;
        step
    }

    /// Goes on with a request of which a plugin was asked.
    pub(super) fn conclude_resolve<G: Ground>(
        &mut self,
        ground: &mut G,
        (ticket, plugin): (Ticket, u8),
        reply: Result<Answered, NoAnswer>,
        is_there: &mut dyn FnMut(Ticket) -> bool,
    ) {
        let Self { policy, plugins, waiting, .. } = self;
        plugins.asking = plugins.asking.saturating_sub(1);
        let Some(Waiting::Resolving(open)) = waiting.get_mut(ticket.0) else { return };
        match policy.plugins.get(usize::from(plugin)).zip(values(reply, plugins, plugin)) {
            Some((known, mut values)) if values.len() == known.outputs.len() => {
                plugins.count(plugin, |tally| tally.answered += 1);
                if !keep_costs(known, &mut values) {
                    plugins.count(plugin, |tally| tally.nonsense += 1);
                }
                open.outputs.set(plugin, values);
            }
            _ => plugins.go_by_defaults(policy, plugin, &mut open.outputs),
        }
        open.pending &= !bit(plugin);
        if open.pending != 0 {
            return;
        }
        let Some(Waiting::Resolving(open)) = waiting.remove(ticket.0) else { return };
        if !is_there(ticket) {
            return;
        }
        self.resumed = Some(Resumed { ticket, until: open.until });
        if let Step::Answer(verdict) = self.plan_anew(ground, open) {
            self.decided.push((ticket, verdict));
        }
        self.resumed = None;
    }

    /// Whether so many more questions may be put to plugins, by a request with so much time.
    fn may_resolve(&self, left: Span, count: usize) -> bool {
        (self.plugins.run_in != Place::Host || !self.breaker.is_open())
            && self.waiting.len() < WAITING_MAX
            && self.plugins.asking + count <= RESOLVING_MAX
            && self.is_worth_asking(left)
    }

    /// Whether this answer comes from the proxy itself, and says nothing of the host service; learns
    /// from it where plugins run.
    pub(super) fn is_of_own_proxy(
        &mut self,
        purpose: &Purpose,
        reply: &Result<Answered, NoAnswer>,
    ) -> bool {
        let Purpose::Resolve(..) = purpose else { return false };
        let place = &mut self.plugins.run_in;
        *place = match (reply, *place) {
            (Ok(Answered::Resolved { is_own: true, .. }), _) => Place::OwnProxy,
            // It was late.
            (Err(NoAnswer::Unreachable), Place::OwnProxy) => Place::OwnProxy,
            _ => Place::Host,
        };
        *place == Place::OwnProxy
    }

    /// What came of each plugin since the last call, in the policy's order.
    pub fn take_plugin_tallies(&mut self) -> impl Iterator<Item = (&Plugin, PluginTally)> {
        let tallies = self.plugins.tallies.iter_mut().map(core::mem::take);
        self.policy.plugins.iter().zip(tallies)
    }
}

/// Plans by these facts and outputs; returns which plugins were needed that are not known.
fn plan_by(
    planner: &mut Planner,
    policy: &Policy,
    facts: &mut dyn Facts,
    outputs: &Outputs,
    plan: &mut Vec<Applied>,
) -> u8 {
    let mut facts = WithOutputs::new(facts, outputs);
    planner.plan(policy, &mut facts, plan);
    facts.touched()
}

/// What a plugin answered, if it did.
fn values(
    reply: Result<Answered, NoAnswer>,
    plugins: &mut Plugins,
    plugin: u8,
) -> Option<Vec<Option<Box<str>>>> {
    let Ok(Answered::Resolved { said, .. }) = reply else { return None };
    if let Err(Unresolved::Unknown | Unresolved::Mismatch) = said {
        plugins.count(plugin, |tally| tally.mismatched += 1);
    }
    said.ok()
}

/// Puts the default in the place of each cost that is no number; `false` if there was one.
fn keep_costs(plugin: &Plugin, values: &mut [Option<Box<str>>]) -> bool {
    let mut are_numbers = true;
    for (output, value) in plugin.outputs.iter().zip(values) {
        let is_number =
            |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if output.is_cost && value.as_deref().is_some_and(|text| !is_number(text)) {
            value.clone_from(&output.default);
            are_numbers = false;
        }
    }
    are_numbers
}

fn bit(plugin: u8) -> u8 {
    1_u8.checked_shl(plugin.into()).unwrap_or(0)
}

fn each(plugins: u8) -> impl Iterator<Item = u8> {
    (0..8).filter(move |plugin| plugins & bit(*plugin) != 0)
}
