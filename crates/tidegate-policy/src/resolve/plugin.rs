//! `plugins`: what computes keys, tiers and costs that no rule can say. And the outputs of them
//! that rules refer to, as `plugin: NAME.OUTPUT`.
//!
//! ```yaml
//! plugins:
//!   tiers:                           # whose file the host service, or the proxy, is told
//!     # raw facts, in the order in which the plugin says that it wants them
//!     wants: [{ header: x-api-key }, client_ip, path]
//!     # its outputs that are used here, and what holds without an answer: text, or null for none
//!     defaults: { tier: free, cost: 1 }
//! ```

use super::Resolver;
use super::matcher::{PATH_ELEMENTS_MAX, metadata_path};
use crate::diagnostic::{found, quoted};
use crate::reading::{Reader, Spot, did_you_mean};
use crate::spelling;
use crate::text::Value;
use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;
use tidegate_core::facts::{Want, WantId};
use tidegate_core::plugin::{FACTS_MAX, OUTPUT_BYTES_MAX, OUTPUTS_MAX, PLUGINS_MAX, form};
use tidegate_core::policy::{NAME_BYTES_MAX, Output, Plugin};

/// Facts that stand for themselves: headers by these names, the address, the route.
const PLAIN: &[(&str, Plain)] = &[
    ("path", Plain::Header(":path")),
    ("method", Plain::Header(":method")),
    ("host", Plain::Header(":authority")),
    ("client_ip", Plain::ClientAddress),
    ("route", Plain::Route),
];

/// A want that a constant can hold.
#[derive(Clone, Copy)]
enum Plain {
    Header(&'static str),
    ClientAddress,
    Route,
}

const NAMED: &[&str] = &["header", "sole_header", "jwt", "metadata"];

impl Resolver {
    pub(super) fn plugins(&mut self, spot: &Spot<'_>) -> Option<()> {
        let entries = self.entries(spot, "a map of plugins by name")?;
        if entries.len() > PLUGINS_MAX {
            let found = format!("{} of them", entries.len());
            self.wrong_found(spot, &found, format_args!("at most {PLUGINS_MAX} plugins"), None);
            return None;
        }
        for (name, at) in entries {
            // One that cannot be read is known all the same, so that what uses it is not told too.
            let name = self.plugin_name(name, &at).unwrap_or_default();
            let (wants, outputs) = (Vec::new(), Vec::new());
            self.policy.plugins.push(Plugin { name, wants, outputs, form: 0 });
            self.plugin(&at);
        }
        Some(())
    }

    fn plugin(&mut self, spot: &Spot<'_>) -> Option<()> {
        self.fields(spot, &["wants", "defaults"])?;
        let wants = self.optional(spot, "wants", Vec::new(), |this, at| {
            let items = this.one_or_more(at, FACTS_MAX, "facts")?;
            this.every(&items, Self::plugin_want)
        });
        let outputs = self.required(spot, "defaults", "its outputs' defaults", Self::outputs);
        let wants = wants.unwrap_or_default();
        let form = form(wants.iter().filter_map(|id| self.policy.want(*id)));
        let plugin = self.policy.plugins.last_mut()?;
        (plugin.wants, plugin.form, plugin.outputs) = (wants, form, outputs?);
        Some(())
    }

    fn plugin_want(&mut self, spot: &Spot<'_>) -> Option<WantId> {
        if !matches!(spot.node.value, Value::Map(_)) {
            let want = match self.choice(spot, PLAIN)? {
                Plain::Header(name) => Want::Header(name.into()),
                Plain::ClientAddress => Want::ClientAddress,
                Plain::Route => Want::Route,
            };
            return self.want(spot, want);
        }
        self.fields(spot, NAMED)?;
        let mut kinds = NAMED.iter().filter_map(|name| Some((*name, spot.field(name)?)));
        let (Some((kind, at)), None) = (kinds.next(), kinds.next()) else {
            self.wrong(spot, format_args!("a map of one field, the kind of fact"));
            return None;
        };
        let mut path = match kind {
            "header" => {
                let name = self.header_name(&at)?;
                return self.want(spot, Want::Header(name));
            }
            "sole_header" => {
                let name = self.header_name(&at)?;
                return self.want(spot, Want::SoleHeader(name));
            }
            "jwt" => self.claims_path(),
            _ => metadata_path(),
        };
        let items = self.one_or_more(&at, PATH_ELEMENTS_MAX - path.len(), "names")?;
        path.extend(self.every(&items, Self::element)?);
        self.want(spot, Want::Property(path))
    }

    fn outputs(&mut self, spot: &Spot<'_>) -> Option<Vec<Output>> {
        let entries = self.entries(spot, "a map of outputs and their defaults")?;
        if entries.is_empty() || entries.len() > OUTPUTS_MAX {
            let found = format!("{} outputs", entries.len());
            self.wrong_found(spot, &found, format_args!("1 to {OUTPUTS_MAX}"), None);
            return None;
        }
        let mut outputs = Vec::new();
        for (name, at) in &entries {
            let (name, default) = (self.plugin_name(name, at), self.output_default(at));
            outputs.extend(name.zip(default).map(|(name, default)| Output {
                name,
                default,
                is_cost: false,
            }));
        }
        (outputs.len() == entries.len()).then_some(outputs)
    }

    fn output_default(&mut self, spot: &Spot<'_>) -> Option<Option<Box<str>>> {
        if spot.node.value == Value::Null {
            return Some(None);
        }
        let text = self.value(spot, true)?;
        if text.len() > OUTPUT_BYTES_MAX {
            self.wrong(spot, format_args!("at most {OUTPUT_BYTES_MAX} bytes of text"));
            return None;
        }
        Some(Some(text.into()))
    }

    fn plugin_name(&mut self, name: &str, spot: &Spot<'_>) -> Option<Box<str>> {
        if spelling::is_name(name) {
            return Some(name.into());
        }
        let wanted = format_args!("a name: 1 to {NAME_BYTES_MAX} of a-z, 0-9, _ and -");
        self.wrong_found(spot, &quoted(name), wanted, None);
        None
    }

    /// The output that a rule names, as a fact.
    pub(super) fn output_fact(&mut self, name: &str, spot: &Spot<'_>) -> Option<WantId> {
        if self.precedes_plugins {
            let wanted = format_args!("no plugin: a request that shows what is revoked asks none");
            self.wrong_found(spot, &quoted(name), wanted, None);
            return None;
        }
        let (plugin, output) = self.output_named(name, spot)?;
        self.want(spot, Want::Output { plugin, output })
    }

    /// The output that a cost is read from, as a fact, and its default.
    pub(super) fn cost_output(&mut self, spot: &Spot<'_>) -> Option<(WantId, Option<u32>)> {
        let name = self.text(spot, "an output, as NAME.OUTPUT")?;
        let (plugin, output) = self.output_named(name, spot)?;
        let known = self.policy.plugins.get_mut(usize::from(plugin))?;
        let known = known.outputs.get_mut(usize::from(output))?;
        known.is_cost = true;
        let default = known.default.as_deref().map(|text| text.parse().ok());
        if default == Some(None) {
            let wanted = format_args!("an output whose default is a number, or null");
            self.wrong_found(spot, &found(spot.node), wanted, None);
            return None;
        }
        Some((self.want(spot, Want::Output { plugin, output })?, default.flatten()))
    }

    fn output_named(&mut self, name: &str, spot: &Spot<'_>) -> Option<(u8, u8)> {
        let (plugin, output) = name.split_once('.').unwrap_or((name, ""));
        let plugins = &self.policy.plugins;
        let Some(place) = plugins.iter().position(|known| *known.name == *plugin) else {
            let names: Vec<&str> = plugins.iter().map(|known| &*known.name).collect();
            let hint = did_you_mean(spelling::nearest(plugin, &names)).or_else(|| {
                names.is_empty().then(|| "plugins: { NAME: { wants: [], defaults: {} } }".into())
            });
            let wanted = format_args!("NAME.OUTPUT of a plugin that `plugins` names");
            self.wrong_found(spot, &quoted(name), wanted, hint);
            return None;
        };
        let outputs = &plugins.get(place)?.outputs;
        let Some(at) = outputs.iter().position(|known| *known.name == *output) else {
            let names: Vec<&str> = outputs.iter().map(|known| &*known.name).collect();
            if names.is_empty() {
                return None; // what is wrong with the plugin was told
            }
            let hint = did_you_mean(spelling::nearest(output, &names));
            let all = names.join(", ");
            let wanted = format_args!("{plugin}. and one of its defaults: {all}");
            self.wrong_found(spot, &quoted(name), wanted, hint);
            return None;
        };
        u8::try_from(place).ok().zip(u8::try_from(at).ok())
    }
}
