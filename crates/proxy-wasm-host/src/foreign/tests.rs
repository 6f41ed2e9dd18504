use super::*;
use crate::plugin::Node;

/// Calls a function in a root context.
pub(super) fn call(name: &str, arguments: &[u8]) -> Result<Vec<u8>, Status> {
    call_in(name, arguments, None, &mut Memory::default())
}

/// Calls a function in a context whose maps are all to be seen.
pub(super) fn call_in(
    name: &str,
    arguments: &[u8],
    exchange: Option<&mut Exchange>,
    memory: &mut Memory,
) -> Result<Vec<u8>, Status> {
    let config = config();
    let mut caller = Caller { exchange, config: &config, seen: Seen::ALL, memory };
    let functions = Functions::with_envoys();
    functions.get(name).ok_or(Status::NotFound)?.call(&mut caller, arguments)
}

pub(super) fn config() -> PluginConfig {
    let node = Node {
        id: "node-1".into(),
        metadata: [("role".into(), "edge".into())].into(),
        ..Node::default()
    };
    PluginConfig { name: "plug".into(), node, ..PluginConfig::default() }
}

#[test]
fn a_name_that_nobody_has_is_not_found() {
    assert_eq!(call("nonsense", b""), Err(Status::NotFound));
    assert!(Functions::none().get("compress").is_none());
}

#[test]
fn functions_of_ones_own_take_part() {
    struct Shout;
    impl ForeignFunction for Shout {
        fn call(&self, caller: &mut Caller<'_>, arguments: &[u8]) -> Result<Vec<u8>, Status> {
            caller.set_property(b"shouted", arguments)?;
            Ok([&*caller.property(b"plugin_name")?, b": ", arguments].concat().to_ascii_uppercase())
        }
    }
    let mut functions = Functions::with_envoys();
    functions.add("shout", Box::new(Shout));
    let (mut exchange, mut memory) = (Exchange::default(), Memory::default());
    let config = config();
    let mut caller = Caller {
        exchange: Some(&mut exchange),
        config: &config,
        seen: Seen::ALL,
        memory: &mut memory,
    };
    let shout = functions.get("shout").unwrap();
    assert_eq!(shout.call(&mut caller, b"hey").unwrap(), b"PLUG: HEY");
    assert_eq!(exchange.filter_state.value("wasm.shouted"), Some(&b"hey"[..]));
    let mut root = Caller { exchange: None, config: &config, seen: Seen::ALL, memory: &mut memory };
    assert_eq!(shout.call(&mut root, b"hey"), Err(Status::NotFound));
}
