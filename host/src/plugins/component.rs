//! A plugin's file, compiled and looked over: it must be a component of the world `policy-plugin`.
//!
//! What tools for other languages bring along of WASI is there, and granted nothing: no files, no
//! network, no environment; what is printed goes to the log.

use super::bindings::{PolicyPlugin, PolicyPluginPre, tidegate::edge::types};
use super::instance::Guest;
use crate::component::Engine;
use crate::component::package::POLICY_PLUGIN;
use proxy_wasm_host::engine::one_line;
use tidegate_core::facts::Want;
use tidegate_core::plugin::{FACTS_MAX, OUTPUTS_MAX, form};
use tidegate_core::policy::Plugin;
use tidegate_policy::spelling::is_name;
use wasmtime::component::{HasSelf, Linker};

/// A plugin's code.
pub(super) struct Code {
    pub(super) engine: Engine,
    pub(super) ready: PolicyPluginPre<Guest>,
}

/// What a plugin says that it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Description {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) wants: Vec<Want>,
    pub(super) gives: Vec<String>,
    /// Of its wants, as the policy has it.
    pub(super) form: u64,
}

impl Code {
    /// Compiles a component: some seconds for one of many megabytes.
    ///
    /// # Errors
    ///
    /// One line: what was found, what was wanted.
    pub(super) fn compile(engine: &Engine, bytes: &[u8]) -> Result<Self, String> {
        let component = engine.compile(&POLICY_PLUGIN, bytes)?;
        let misfit = |error: wasmtime::Error| POLICY_PLUGIN.misfit(&one_line(&error));
        let mut linker = Linker::<Guest>::new(engine.wasm());
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(misfit)?;
        PolicyPlugin::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest| guest).map_err(misfit)?;
        let ready = linker.instantiate_pre(&component).map_err(misfit)?;
        let ready = PolicyPluginPre::new(ready).map_err(misfit)?;
        Ok(Self { engine: engine.clone(), ready })
    }
}

impl Description {
    /// What a plugin said, held against its bounds.
    ///
    /// # Errors
    ///
    /// One line: what was found, what was wanted.
    pub(super) fn of(
        told: super::bindings::exports::tidegate::edge::policy::Description,
    ) -> Result<Self, String> {
        let name = |what: &str, name: &str| match is_name(name) {
            true => Ok(()),
            false => {
                let shown: String = name.chars().take(64).collect();
                Err(format!("describe: {what} {shown:?}; wanted 1 to 64 of a-z 0-9 _ -"))
            }
        };
        name("the name", &told.name)?;
        told.gives.iter().try_for_each(|output| name("an output", output))?;
        if told.gives.is_empty() || told.gives.len() > OUTPUTS_MAX {
            let count = told.gives.len();
            return Err(format!("describe: it gives {count} outputs; wanted 1 to {OUTPUTS_MAX}"));
        }
        if told.wants.len() > FACTS_MAX {
            let count = told.wants.len();
            return Err(format!("describe: it wants {count} facts; wanted at most {FACTS_MAX}"));
        }
        let wants: Vec<Want> = told.wants.into_iter().map(want).collect();
        let form = form(wants.iter());
        let version = told.version.chars().filter(|c| !c.is_control()).take(64).collect();
        Ok(Self { name: told.name, version, wants, gives: told.gives, form })
    }

    /// Why a policy that hands over so many facts of this form and uses these outputs is not
    /// answered, if that is so.
    pub(super) fn differs<'a>(
        &self,
        (form, facts): (u64, usize),
        mut outputs: impl Iterator<Item = &'a str>,
    ) -> Option<String> {
        if let Some(strange) = outputs.find(|name| !self.gives.iter().any(|given| given == name)) {
            return Some(format!("the policy uses {strange}; it gives {}", self.gives.join(", ")));
        }
        let is_so = form == self.form && facts == self.wants.len();
        (!is_so).then(|| format!("the policy hands over other facts; it {}", self.spelled()))
    }

    /// The same of a policy's plugin as a whole.
    pub(super) fn differs_from(&self, plugin: &Plugin) -> Option<String> {
        let outputs = plugin.outputs.iter().map(|output| &*output.name);
        self.differs((plugin.form, plugin.wants.len()), outputs)
    }

    /// Its wants as a policy writes them.
    pub(super) fn spelled(&self) -> String {
        let spell = |want: &Want| match want {
            Want::Header(name) => match &**name {
                ":path" => "path".to_owned(),
                ":method" => "method".to_owned(),
                ":authority" => "host".to_owned(),
                name => format!("{{ header: {name} }}"),
            },
            Want::SoleHeader(name) => format!("{{ sole_header: {name} }}"),
            Want::ClientAddress => "client_ip".to_owned(),
            Want::Property(path) => {
                let path = path.strip_prefix(&["metadata".into(), "filter_metadata".into()][..]);
                format!("{{ metadata: [{}] }}", path.unwrap_or_default().join(", "))
            }
            Want::Route | Want::Claim { .. } | Want::Output { .. } => "route".to_owned(),
        };
        format!("wants: [{}]", self.wants.iter().map(spell).collect::<Vec<_>>().join(", "))
    }
}

fn want(want: types::Want) -> Want {
    match want {
        types::Want::Header(name) => Want::Header(name.to_ascii_lowercase().into()),
        types::Want::SoleHeader(name) => Want::SoleHeader(name.to_ascii_lowercase().into()),
        types::Want::ClientAddress => Want::ClientAddress,
        types::Want::Route => Want::Route,
        types::Want::Property(path) => {
            Want::Property(path.into_iter().map(String::into_boxed_str).collect())
        }
    }
}
