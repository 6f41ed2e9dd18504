//! Who plays: contexts, the cases they are in and what they remember.

use crate::script::Script;
use crate::verbs::{self, say};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The case that roots play.
const ROOT: &str = "root";

/// The case of streams until they name theirs.
const UNNAMED: &str = "unnamed";

/// Everything that this machine knows.
#[derive(Default)]
pub(crate) struct Stage {
    /// By root context.
    scripts: BTreeMap<u32, Script>,
    /// Those that are gone too: answers to their calls still come.
    actors: BTreeMap<u32, Actor>,
    /// Calls that were started, by the host's token, HTTP's apart from gRPC's.
    pub(crate) calls: BTreeMap<(Protocol, u32), Call>,
    /// Numbers that the host gave: gRPC calls, queues, metrics, versions of shared data, by a
    /// name.
    pub(crate) numbers: BTreeMap<String, u32>,
    /// Contexts by the case they last played.
    pub(crate) places: BTreeMap<String, u32>,
}

/// One context.
struct Actor {
    root: u32,
    case: String,
    /// How often each callback came.
    turns: BTreeMap<&'static str, u32>,
}

/// What a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Protocol {
    Http,
    Grpc,
}

/// A call that was started.
#[derive(Clone)]
pub(crate) struct Call {
    /// As the script calls it.
    pub(crate) name: String,
    /// The context that started it.
    pub(crate) actor: u32,
}

/// One callback being played.
pub(crate) struct Part<'a> {
    pub(crate) stage: &'a mut Stage,
    /// Whose callback it is.
    pub(crate) actor: u32,
    pub(crate) case: String,
    /// What the callback returns.
    pub(crate) returns: u32,
}

thread_local! {
    static STAGE: RefCell<Stage> = RefCell::default();
}

/// A new context; roots have no parent.
pub(crate) fn enter(id: u32, parent: u32) {
    STAGE.with_borrow_mut(|stage| {
        let (root, case) = if parent == 0 { (id, ROOT) } else { (parent, UNNAMED) };
        let actor = Actor { root, case: case.to_owned(), turns: BTreeMap::new() };
        stage.actors.insert(id, actor);
    });
}

/// Gives a root its script; whether it could be read.
pub(crate) fn learn(root: u32, text: &[u8]) -> bool {
    match Script::read(&String::from_utf8_lossy(text)) {
        Ok(script) => {
            STAGE.with_borrow_mut(|stage| stage.scripts.insert(root, script));
            true
        }
        Err(line) => {
            say(ROOT, &format!("no sense in: {line}"));
            false
        }
    }
}

/// Gives a stream its case.
pub(crate) fn cast(id: u32, case: &[u8]) {
    STAGE.with_borrow_mut(|stage| {
        if let Some(actor) = stage.actors.get_mut(&id) {
            actor.case = String::from_utf8_lossy(case).into_owned();
            stage.places.insert(actor.case.clone(), id);
        }
    });
}

/// Gives a connection its case, by its client's address.
pub(crate) fn cast_client(id: u32, address: &[u8]) {
    let address = String::from_utf8_lossy(address);
    let case = STAGE.with_borrow(|stage| {
        let script = stage.scripts.get(&stage.actors.get(&id)?.root)?;
        script.case_of(&address).map(str::to_owned)
    });
    if let Some(case) = case {
        cast(id, case.as_bytes());
    }
}

/// The call that has this token.
pub(crate) fn call(protocol: Protocol, token: u32) -> Option<Call> {
    STAGE.with_borrow(|stage| stage.calls.get(&(protocol, token)).cloned())
}

/// Plays a callback of a context: logs it, makes the host calls of its script, and returns
/// what the script says, else `returns`.
pub(crate) fn play(id: u32, callback: &'static str, details: &str, returns: u32) -> u32 {
    STAGE.with_borrow_mut(|stage| {
        let (case, lines) = stage.lines(id, callback);
        say(&case, format!("{callback} {details}").trim_end());
        let mut part = Part { stage, actor: id, case, returns };
        for line in lines {
            verbs::play(&mut part, &line);
        }
        part.returns
    })
}

impl Stage {
    fn lines(&mut self, id: u32, callback: &'static str) -> (String, Vec<String>) {
        let Some(actor) = self.actors.get_mut(&id) else {
            return (format!("nobody({id})"), Vec::new());
        };
        let turn = actor.turns.entry(callback).or_default();
        *turn += 1;
        let script = self.scripts.get(&actor.root);
        let lines = script.map(|script| script.lines(&actor.case, callback, *turn));
        (actor.case.clone(), lines.unwrap_or_default())
    }
}
