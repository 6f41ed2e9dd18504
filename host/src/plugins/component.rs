//! A plugin's file, compiled and looked over: it must be a component of the world `policy-plugin`.
//!
//! What tools for other languages bring along of WASI is there, and granted nothing: no files, no
//! network, no environment; what is printed goes to the log.

use super::bindings::{PolicyPluginPre, tidegate::edge::types};
use super::engine::Engine;
use super::instance::Guest;
use proxy_wasm_host::engine::one_line;
use tidegate_core::facts::Want;
use tidegate_core::plugin::{FACTS_MAX, OUTPUTS_MAX, form};
use tidegate_policy::spelling::is_name;
use wasmtime::component::{Component, HasSelf, Linker};

/// What a plugin must export, and the package of what else of ours it may import.
const EXPORT: &str = "tidegate:edge/policy@0.1.0";
const PACKAGE: &str = "tidegate:edge/";
const VERSION: &str = "@0.1.0";

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
        looks_like_a_component(bytes)?;
        let component = Component::from_binary(&engine.wasm, bytes)
            .map_err(|error| format!("does not compile: {}", one_line(&error)))?;
        look_over(engine, &component)?;
        let told = |error| one_line(&error);
        let mut linker = Linker::<Guest>::new(&engine.wasm);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker).map_err(told)?;
        super::bindings::PolicyPlugin::add_to_linker::<_, HasSelf<_>>(&mut linker, |guest| guest)
            .map_err(told)?;
        let ready = linker.instantiate_pre(&component).map_err(|error| {
            format!("not a plugin of tidegate:edge@0.1.0: {}", one_line(&error))
        })?;
        let ready = PolicyPluginPre::new(ready).map_err(|error| {
            format!("its {EXPORT} is not what it should be: {}", one_line(&error))
        })?;
        Ok(Self { engine: engine.clone(), ready })
    }
}

fn looks_like_a_component(bytes: &[u8]) -> Result<(), String> {
    match bytes {
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Err("it is a core module; wanted a component of \
             the world policy-plugin\n  hint: a language's component tooling makes it one"
            .to_owned()),
        _ => Err("it is not WebAssembly; wanted a component of the world policy-plugin".to_owned()),
    }
}

/// Names the export that is missing, or the import that nobody here has, and the versions.
fn look_over(engine: &Engine, component: &Component) -> Result<(), String> {
    let kind = component.component_type();
    let exports: Vec<&str> = kind.exports(&engine.wasm).map(|(name, _)| name).collect();
    if !exports.contains(&EXPORT) {
        let ours = exports.iter().find(|name| name.starts_with(PACKAGE));
        let found = match ours {
            Some(other) => format!("it exports {other}"),
            None if exports.is_empty() => "it exports nothing".to_owned(),
            None => format!("it exports {}", exports.join(", ")),
        };
        return Err(format!("{found}; wanted {EXPORT}, of the world policy-plugin"));
    }
    for (name, _) in kind.imports(&engine.wasm) {
        let is_ours = ["tidegate:edge/log", "tidegate:edge/types"]
            .iter()
            .any(|known| name.strip_prefix(known) == Some(VERSION));
        if !is_ours && !name.starts_with("wasi:") {
            return Err(format!(
                "it imports {name}, which no plugin is given; wanted tidegate:edge/log{VERSION} \
                 and WASI at most"
            ));
        }
    }
    Ok(())
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
