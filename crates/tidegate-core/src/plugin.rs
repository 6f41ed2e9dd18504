//! Plugins of a policy: what one is asked of a request, what it answers, and how its outputs
//! become facts like any others.
//!
//! A plugin computes what no rule can say: a tier, a cost, a key. The policy says which raw facts
//! it is to have and what holds where it gives no answer; whoever runs it compares that with what
//! it says of itself ([`form`]). A plan that comes to an output nobody has asked for yet notes it
//! ([`WithOutputs`]), so a request to which no such rule applies asks nobody.
//!
//! Nothing that a plugin answered is remembered: each request that needs it asks.

use crate::facts::{Facts, Want, WantId};
use crate::policy::Policy;
use alloc::boxed::Box;
use alloc::vec::Vec;
use sha2::Digest as _;

/// The most plugins that one policy may use.
pub const PLUGINS_MAX: usize = 8;

/// The most facts that one plugin may want.
pub const FACTS_MAX: usize = 32;

/// The most outputs of one plugin.
pub const OUTPUTS_MAX: usize = 16;

/// The longest output, in bytes.
pub const OUTPUT_BYTES_MAX: usize = 256;

/// The most bytes of facts that are held of a request, or handed to a plugin. Of one that has more
/// the policy's defaults hold.
pub const FACTS_BYTES_MAX: usize = 64 * 1024;

/// What a plugin is to say of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolve {
    /// Which plugin, by the name that the policy has for it.
    pub plugin: Box<str>,
    /// The [`form`] of what it wants, as the policy has it.
    pub form: u64,
    /// The names of its outputs, one to [`OUTPUTS_MAX`], in the order in which they are answered.
    pub outputs: Vec<Box<str>>,
    /// At most [`FACTS_MAX`], and [`FACTS_BYTES_MAX`] of bytes in all, in the policy's order.
    pub facts: Vec<Option<Vec<u8>>>,
}

/// What it says: text of at most [`OUTPUT_BYTES_MAX`] for each output, `None` where there is
/// nothing to give.
pub type Resolved = Result<Vec<Option<Box<str>>>, Unresolved>;

/// Why whoever runs plugins has no answer of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unresolved {
    /// It has no plugin of this name.
    Unknown,
    /// The plugin wants other facts than the policy says, or lacks an output.
    Mismatch,
    /// It could not tell, took too long or too much memory, broke down, or answered nonsense.
    Failed,
    /// As many calls as may be are under way, or it is at rest after failures.
    Busy,
}

/// What tells lists of wants apart: 64 bits of a hash of all of them in order.
pub fn form<'a>(wants: impl Iterator<Item = &'a Want>) -> u64 {
    let mut hasher = sha2::Sha256::new();
    let mut write = |kind: u8, parts: &[&str]| {
        hasher.update([kind]);
        hasher.update((parts.len() as u32).to_le_bytes());
        for part in parts {
            hasher.update((part.len() as u32).to_le_bytes());
            hasher.update(part.as_bytes());
        }
    };
    for want in wants {
        match want {
            Want::Header(name) => write(1, &[name]),
            Want::SoleHeader(name) => write(2, &[name]),
            Want::ClientAddress => write(3, &[]),
            Want::Route => write(4, &[]),
            Want::Property(path) => write(5, &path.iter().map(|it| &**it).collect::<Vec<_>>()),
            // No plugin can want these.
            Want::Claim { .. } | Want::Output { .. } => write(0, &[]),
        }
    }
    let mut form = [0; 8];
    form.iter_mut().zip(hasher.finalize()).for_each(|(to, from)| *to = from);
    u64::from_le_bytes(form)
}

/// The outputs of a policy's plugins for one request, as far as they are known.
#[derive(Clone, Debug, Default)]
pub struct Outputs(Vec<Option<Vec<Option<Box<str>>>>>);

impl Outputs {
    /// Notes what a plugin gives.
    pub fn set(&mut self, plugin: u8, values: Vec<Option<Box<str>>>) {
        let place = usize::from(plugin);
        if self.0.len() <= place {
            self.0.resize(place + 1, None);
        }
        if let Some(known) = self.0.get_mut(place) {
            *known = Some(values);
        }
    }

    fn of(&self, plugin: u8) -> Option<&[Option<Box<str>>]> {
        self.0.get(usize::from(plugin))?.as_deref()
    }
}

/// A request's facts, and outputs of plugins among them.
pub struct WithOutputs<'a> {
    facts: &'a mut dyn Facts,
    outputs: &'a Outputs,
    touched: u8,
}

impl<'a> WithOutputs<'a> {
    /// Adds these outputs to those facts.
    pub fn new(facts: &'a mut dyn Facts, outputs: &'a Outputs) -> Self {
        Self { facts, outputs, touched: 0 }
    }

    /// Which plugins were looked at whose outputs are not known yet: a bit for each.
    pub const fn touched(&self) -> u8 {
        self.touched
    }
}

impl Facts for WithOutputs<'_> {
    fn read(&mut self, id: WantId, want: &Want) -> Option<&[u8]> {
        let Want::Output { plugin, output } = *want else { return self.facts.read(id, want) };
        let Some(values) = self.outputs.of(plugin) else {
            self.touched |= 1_u8.checked_shl(plugin.into()).unwrap_or(0);
            return None;
        };
        values.get(usize::from(output))?.as_deref().map(str::as_bytes)
    }
}

/// All facts that a policy may want of one request, while it waits.
#[derive(Debug)]
pub struct HeldFacts {
    bytes: Vec<u8>,
    /// By want: where its bytes are.
    places: Vec<Option<(u32, u32)>>,
}

impl HeldFacts {
    /// Reads them; `None` if they are more than [`FACTS_BYTES_MAX`] bytes.
    pub fn of(policy: &Policy, facts: &mut dyn Facts) -> Option<Self> {
        let mut held = Self { bytes: Vec::new(), places: Vec::with_capacity(policy.wants.len()) };
        for (id, want) in policy.wants.iter().enumerate() {
            let fact = match want {
                Want::Output { .. } => None,
                _ => facts.read(WantId(u16::try_from(id).ok()?), want),
            };
            let place = fact.map(|fact| (held.bytes.len() as u32, fact.len() as u32));
            held.bytes.extend_from_slice(fact.unwrap_or_default());
            held.places.push(place);
            if held.bytes.len() > FACTS_BYTES_MAX {
                return None;
            }
        }
        Some(held)
    }

    /// What a plugin of the policy is asked of this request; `None` if the facts are too many.
    pub fn ask(&self, policy: &Policy, plugin: u8) -> Option<Resolve> {
        let plugin = policy.plugins.get(usize::from(plugin))?;
        let facts: Vec<_> = plugin.wants.iter().map(|id| self.get(*id).map(Vec::from)).collect();
        let bytes = facts.iter().flatten().map(Vec::len).sum::<usize>();
        (bytes <= FACTS_BYTES_MAX).then(|| Resolve {
            plugin: plugin.name.clone(),
            form: plugin.form,
            outputs: plugin.outputs.iter().map(|output| output.name.clone()).collect(),
            facts,
        })
    }

    fn get(&self, id: WantId) -> Option<&[u8]> {
        let (start, len) = (*self.places.get(usize::from(id.0))?)?;
        self.bytes.get(start as usize..)?.get(..len as usize)
    }
}

impl Facts for HeldFacts {
    fn read(&mut self, id: WantId, _: &Want) -> Option<&[u8]> {
        self.get(id)
    }
}
