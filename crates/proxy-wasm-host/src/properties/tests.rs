//! What Envoy 1.40 answered to the same questions about the same exchange, phase by phase.

use super::*;
use crate::exchange::{
    CertificateFacts, ConnectionFacts, Facts, ListenerFacts, TlsFacts, UpstreamFacts,
};
use crate::maps::HeaderMap;
use crate::plugin::Node;
use Status::{NotFound, SerializationFailure};
use proptest::prelude::*;
use std::rc::Rc;

/// The phases in which a stream's context asked.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    RequestHeaders,
    RequestBody,
    ResponseHeaders,
    ResponseBody,
    Log,
    Done,
}
use Phase::*;

const PHASES: [Phase; 6] = [RequestHeaders, RequestBody, ResponseHeaders, ResponseBody, Log, Done];

fn config() -> PluginConfig {
    PluginConfig {
        name: "plug".into(),
        root_id: "root".into(),
        vm_id: "vmid".into(),
        node: Node {
            id: "node-1".into(),
            cluster: "clu-1".into(),
            metadata: [("role".into(), "edge".into())].into(),
        },
        ..PluginConfig::default()
    }
}

fn listener() -> ListenerFacts {
    ListenerFacts {
        cluster_name: "up".into(),
        route_name: "route-1".into(),
        virtual_host_name: "vh-1".into(),
        filter_chain_name: "chain-1".into(),
        direction: 1,
    }
}

/// The exchange as it stands in a phase.
fn exchange(phase: Phase) -> Exchange {
    let at_least = |wanted| {
        PHASES.iter().position(|known| *known == phase)
            >= PHASES.iter().position(|known| *known == wanted)
    };
    let request = [
        (":authority", "127.0.0.1:19900"),
        (":path", "/p/a?q=1&r=2"),
        (":method", "POST"),
        (":scheme", "http"),
        ("user-agent", "agent"),
        ("x-two", "a"),
        ("x-two", "b"),
        ("referer", "ref"),
        ("content-length", "3"),
        ("x-request-id", "e74840b4"),
    ];
    let response = [(":status", "200"), ("x-up", "1"), ("x-up", "2"), ("content-length", "5")];
    let upstream = UpstreamFacts {
        address: Some("127.0.0.1:19901".parse().unwrap()),
        local_address: at_least(ResponseHeaders).then(|| "127.0.0.1:56484".parse().unwrap()),
        ready_ns: at_least(ResponseHeaders).then_some(1_500_000),
    };
    Exchange {
        request_headers: Some(request.into_iter().collect()),
        response_headers: at_least(ResponseHeaders).then(|| response.into_iter().collect()),
        facts: Facts {
            listener: Rc::new(listener()),
            connection: Rc::new(ConnectionFacts {
                id: 7,
                source: Some("127.0.0.1:60706".parse().unwrap()),
                destination: Some("127.0.0.1:19900".parse().unwrap()),
                tls: None,
            }),
            protocol: "HTTP/1.1",
            start_wall_ns: 1_795_321_208_000_000_123,
            duration_ns: at_least(Log).then_some(22_891_501),
            request_body_bytes: if at_least(RequestBody) { 3 } else { 0 },
            response_body_bytes: if at_least(Log) { 5 } else { 0 },
            response_code: at_least(ResponseHeaders).then_some(200),
            response_code_details: at_least(ResponseHeaders).then(|| "via_upstream".into()),
            upstream: at_least(RequestBody).then_some(upstream),
            backend_latency_ns: at_least(Log).then_some(15_124_573),
            ..Facts::default()
        },
        ..Exchange::default()
    }
}

fn seen(phase: Phase) -> Seen {
    match phase {
        RequestHeaders => Seen { request_headers: true, ..Seen::default() },
        ResponseHeaders => Seen { response_headers: true, ..Seen::default() },
        Log => Seen::ALL,
        RequestBody | ResponseBody | Done => Seen::default(),
    }
}

fn ask(exchange: &Exchange, seen: Seen, path: &str) -> Result<Vec<u8>, Status> {
    get(path.as_bytes(), &View { exchange: Some(exchange), config: &config(), seen })
}

fn ask_in(phase: Phase, path: &str) -> Result<Vec<u8>, Status> {
    ask(&exchange(phase), seen(phase), path)
}

fn ask_root(path: &str) -> Result<Vec<u8>, Status> {
    get(path.as_bytes(), &View { exchange: None, config: &config(), seen: Seen::default() })
}

/// The same in every phase of a stream.
#[track_caller]
fn always(path: &str, wanted: Result<&[u8], Status>) {
    for phase in PHASES {
        let found = ask_in(phase, path);
        assert_eq!(found.as_deref().map_err(|status| *status), wanted, "{path:?} in {phase:?}");
    }
}

/// There in some phases, absent in the others and in a root context.
#[track_caller]
fn only_in(phases: &[Phase], path: &str, wanted: impl AsRef<[u8]>) {
    assert_eq!(ask_root(path), Err(NotFound), "{path:?} in a root context");
    for phase in PHASES {
        let wanted =
            if phases.contains(&phase) { Ok(wanted.as_ref().to_vec()) } else { Err(NotFound) };
        assert_eq!(ask_in(phase, path), wanted, "{path:?} in {phase:?}");
    }
}

fn int(number: i64) -> [u8; 8] {
    number.to_le_bytes()
}

#[test]
fn a_plugin_knows_itself_everywhere() {
    for (path, wanted) in [
        ("plugin_name", "plug"),
        ("plugin_name\0", "plug"),
        ("plugin_root_id", "root"),
        ("plugin_vm_id", "vmid"),
    ] {
        always(path, Ok(wanted.as_bytes()));
        assert_eq!(ask_root(path).unwrap(), wanted.as_bytes());
    }
    always("plugin_name\0x", Err(NotFound));
}

#[test]
fn a_whole_group_has_no_encoding() {
    for group in ["request", "response", "connection", "upstream", "source", "destination"] {
        always(group, Err(SerializationFailure));
        always(&format!("{group}\0"), Err(SerializationFailure));
        assert_eq!(ask_root(group), Err(NotFound));
    }
    always("xds", Err(SerializationFailure));
    always("filter_state", Err(SerializationFailure));
    assert_eq!(ask_root("xds"), Err(SerializationFailure));
    assert_eq!(ask_in(RequestBody, "upstream_filter_state"), Err(NotFound));
    assert_eq!(ask_in(Log, "upstream_filter_state"), Err(SerializationFailure));
}

#[test]
fn connections() {
    only_in(&PHASES, "connection_id", int(7));
    only_in(&PHASES, "connection\0id", int(7));
    only_in(&PHASES, "connection\0mtls", [0]);
    only_in(&PHASES, "connection\0requested_server_name", "");
    only_in(&PHASES, "source\0address", "127.0.0.1:60706");
    only_in(&PHASES, "source\0port", int(60706));
    only_in(&PHASES, "destination\0address", "127.0.0.1:19900");
    only_in(&PHASES, "destination\0port", int(19900));
    for path in ["tls_version", "subject_peer_certificate", "termination_details", "nonsense"] {
        always(&format!("connection\0{path}"), Err(NotFound));
    }
}

#[test]
fn encrypted_connections() {
    let mut exchange = exchange(Log);
    let tls = TlsFacts {
        version: "TLSv1.3".into(),
        server_name: "a.example".into(),
        peer: Some(CertificateFacts {
            subject: "CN=b".into(),
            dns_san: Some("b.example".into()),
            uri_san: None,
            sha256: "ab12".into(),
        }),
    };
    let connection =
        ConnectionFacts { tls: Some(tls), source: "[::1]:5".parse().ok(), ..Default::default() };
    exchange.facts.connection = Rc::new(connection);
    let absent = self::ask(&exchange, Seen::ALL, "connection\0uri_san_peer_certificate");
    assert_eq!(absent, Err(NotFound));
    let ask = |path| ask(&exchange, Seen::ALL, path).unwrap();
    assert_eq!(ask("connection\0dns_san_peer_certificate"), b"b.example");
    assert_eq!(ask("connection\0sha256_peer_certificate_digest"), b"ab12");
    assert_eq!(ask("connection\0tls_version"), b"TLSv1.3");
    assert_eq!(ask("connection\0requested_server_name"), b"a.example");
    assert_eq!(ask("connection\0mtls"), [1]);
    assert_eq!(ask("connection\0subject_peer_certificate"), b"CN=b");
    assert_eq!(ask("source\0address"), b"[::1]:5");
}

#[test]
fn what_comes_from_request_headers_is_there_while_they_are_seen() {
    for (path, wanted) in [
        ("path", "/p/a?q=1&r=2"),
        ("path\0", "/p/a?q=1&r=2"),
        ("url_path", "/p/a"),
        ("query", "q=1&r=2"),
        ("host", "127.0.0.1:19900"),
        ("scheme", "http"),
        ("method", "POST"),
        ("referer", "ref"),
        ("useragent", "agent"),
        ("id", "e74840b4"),
        ("headers\0x-two", "a,b"),
        ("headers\0X-Two", "a,b"),
    ] {
        only_in(&[RequestHeaders, Log], &format!("request\0{path}"), wanted);
    }
    always("request\0path\0x", Err(NotFound));
    always("request\0headers\0none", Err(NotFound));
    always("request\0nonsense", Err(NotFound));
}

#[test]
fn what_is_counted_is_there_always() {
    only_in(&PHASES, "request\0time", int(1_795_321_208_000_000_123));
    only_in(&PHASES, "request\0protocol", "HTTP/1.1");
    only_in(&[Log, Done], "request\0duration", int(22_891_501));
    only_in(&[Log, Done], "response\0backend_latency", int(15_124_573));
    only_in(&PHASES, "response\0flags", int(0));
    let headers = exchange(Log).request_headers.unwrap().bytes() as i64;
    let sizes = |path| PHASES.map(|phase| ask_in(phase, path).unwrap());
    // By the header where that is seen, otherwise by what came.
    assert_eq!(sizes("request\0size"), [3, 3, 3, 3, 3, 3].map(int).map(Vec::from));
    let (first, last) = (headers, headers + 3);
    assert_eq!(sizes("request\0total_size"), [first, 3, 3, 3, last, 3].map(int).map(Vec::from));
    assert_eq!(
        sizes("request\0headers_bytes"),
        [headers, 0, 0, 0, headers, 0].map(int).map(Vec::from)
    );
    let headers = exchange(Log).response_headers.unwrap().bytes() as i64;
    assert_eq!(sizes("response\0size"), [0, 0, 0, 0, 5, 5].map(int).map(Vec::from));
    assert_eq!(
        sizes("response\0total_size"),
        [0, 0, headers, 0, headers + 5, 5].map(int).map(Vec::from)
    );
}

#[test]
fn header_maps_are_encoded_with_all_values_of_a_name() {
    let fields: HeaderMap =
        [(":status", "200"), ("x-up", "1,2"), ("x-up", "1,2"), ("content-length", "5")]
            .into_iter()
            .collect();
    let (mut wanted, none) = (Vec::new(), vec![0; 4]);
    fields.encode(&mut wanted);
    let found = PHASES.map(|phase| ask_in(phase, "response\0headers").unwrap());
    assert_eq!(found, [&none, &none, &wanted, &none, &wanted, &none].map(Clone::clone));
    only_in(&[ResponseHeaders, Log], "response\0headers\0x-up", "1,2");
    only_in(&PHASES, "response\0trailers", &none);
}

#[test]
fn responses() {
    let late = [ResponseHeaders, ResponseBody, Log, Done];
    only_in(&late, "response\0code", int(200));
    only_in(&late, "response\0code_details", "via_upstream");
    // No gRPC at all, and still a status.
    only_in(&late, "response\0grpc_status", int(2));
}

#[test]
fn grpc_status_is_what_was_said_last() {
    let mut exchange = exchange(Log);
    let status = |exchange: &Exchange| {
        ask(exchange, Seen::ALL, "response\0grpc_status")
            .map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()))
    };
    for (code, wanted) in
        [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (504, 14), (500, 2)]
    {
        exchange.facts.response_code = Some(code);
        assert_eq!(status(&exchange), Ok(wanted), "{code}");
    }
    exchange.response_headers.as_mut().unwrap().add("grpc-status", "5");
    assert_eq!(status(&exchange), Ok(5));
    exchange.response_trailers = Some([("grpc-status", "17")].into_iter().collect());
    assert_eq!(status(&exchange), Ok(-1));
    exchange.facts.grpc_status = Some(3);
    assert_eq!(status(&exchange), Ok(3));
}

#[test]
fn upstreams() {
    let chosen = [RequestBody, ResponseHeaders, ResponseBody, Log, Done];
    only_in(&chosen, "upstream\0address", "127.0.0.1:19901");
    only_in(&chosen, "upstream\0port", int(19901));
    only_in(&chosen, "upstream\0transport_failure_reason", "");
    only_in(&chosen[1..], "upstream\0cx_pool_ready_duration", int(1_500_000));
    only_in(&chosen, "upstream\0locality", "");
    only_in(&chosen, "upstream\0locality\0region", "");
    only_in(&chosen[1..], "upstream\0local_address", "127.0.0.1:56484");
    only_in(&PHASES, "upstream\0num_endpoints", int(1));
    let attempts = PHASES.map(|phase| ask_in(phase, "upstream\0request_attempt_count").unwrap());
    assert_eq!(attempts, [0, 1, 1, 1, 1, 1].map(int).map(Vec::from));
}

#[test]
fn where_it_runs() {
    only_in(&PHASES, "xds\0cluster_name", "up");
    only_in(&PHASES, "xds\0route_name", "route-1");
    only_in(&PHASES, "xds\0virtual_host_name", "vh-1");
    only_in(&PHASES, "xds\0filter_chain_name", "chain-1");
    only_in(&PHASES, "xds\0listener_direction", int(1));
    only_in(&PHASES, "xds\0listener_metadata", "");
    only_in(&PHASES, "xds\0route_metadata\0filter_metadata", [0; 4]);
    always("xds\0nonsense", Err(NotFound));
    assert_eq!(ask_in(RequestHeaders, "xds\0upstream_host_metadata"), Err(NotFound));
    assert_eq!(ask_in(RequestBody, "xds\0upstream_host_metadata"), Err(SerializationFailure));
    always("xds\0upstream_host_metadata\0filter_metadata", Err(NotFound));
}

#[test]
fn a_node_is_a_message() {
    let node = b"\n\x06node-1\x12\x05clu-1\x1a\x10\n\x0e\n\x04role\x12\x06\x1a\x04edge";
    always("xds\0node", Ok(node));
    always("xds\0node\0id", Ok(b"node-1"));
    always("xds\0node\0cluster", Ok(b"clu-1"));
    always("xds\0node\0metadata\0role", Ok(b"edge"));
    always("xds\0node\0metadata", Ok(b"\x01\0\0\0\x04\0\0\0\x04\0\0\0role\0edge\0"));
    always("xds\0node\0metadata\0none", Err(NotFound));
    always("xds\0node\0locality", Ok(b""));
    always("xds\0node\0locality\0zone", Ok(b""));
    always("xds\0node\0client_features", Ok(&[0; 4]));
    always("xds\0node\0nonsense", Err(NotFound));
    assert_eq!(ask_root("xds\0node\0id").unwrap(), b"node-1");
}

#[test]
fn dynamic_metadata_is_there_and_empty() {
    only_in(&PHASES, "metadata", "");
    only_in(&PHASES, "metadata\0filter_metadata", [0; 4]);
    always("metadata\0filter_metadata\0m", Err(NotFound));
    always("metadata\0nonsense", Err(NotFound));
}

#[test]
fn names_that_envoy_gave_up_lead_where_they_led() {
    always("node\0id", Ok(b"node-1"));
    only_in(&PHASES, "cluster_name", "up");
    only_in(&PHASES, "route_name", "route-1");
    only_in(&PHASES, "listener_direction", int(1));
    only_in(&PHASES, "cluster_metadata\0filter_metadata", [0; 4]);
}

#[test]
fn what_is_no_path_leads_nowhere() {
    for path in ["nonsense", "\0", "\0request", "request.path", "Request\0path", "request\0\0path"]
    {
        always(path, Err(NotFound));
        assert_eq!(ask_root(path), Err(NotFound), "{path:?}");
    }
    always("", Err(SerializationFailure));
}

#[test]
fn filters_read_what_they_set() {
    let (mut exchange, memory) = (exchange(Log), Memory::default());
    let mut put =
        |path: &str, value: &str| set(&mut exchange, &memory, path.as_bytes(), value.as_bytes());
    for path in ["mine", "two\0parts", "tail\0", "request\0path", "plugin_name", "wasm.q", "node"] {
        assert_eq!(put(path, "val"), Status::Ok, "{path:?}");
    }
    assert_eq!(put("empty", ""), Status::Ok);
    assert_eq!(put("mine", "new"), Status::Ok);
    let ask = |path| ask(&exchange, Seen::ALL, path);
    assert_eq!(ask("mine").unwrap(), b"new");
    assert_eq!(ask("mine\0").unwrap(), b"new");
    assert_eq!(ask("mine\0x"), Err(NotFound));
    assert_eq!(ask("empty").unwrap(), b"");
    assert_eq!(ask("filter_state\0wasm.mine").unwrap(), b"new");
    assert_eq!(ask("filter_state\0mine"), Err(NotFound));
    assert_eq!(ask("wasm.mine"), Err(NotFound));
    assert_eq!(ask("wasm.q").unwrap(), b"val");
    assert_eq!(ask("filter_state\0wasm.wasm.q").unwrap(), b"val");
    // Kept, but with no way to them.
    for path in ["two\0parts", "two", "tail\0", "tail"] {
        assert_eq!(ask(path), Err(NotFound), "{path:?}");
    }
    // What the proxy knows is not covered; what it no longer has to know is.
    assert_eq!(ask("request\0path").unwrap(), b"/p/a?q=1&r=2");
    assert_eq!(ask("plugin_name").unwrap(), b"plug");
    assert_eq!(ask("node").unwrap(), b"val");
    assert_eq!(exchange.filter_state.value("wasm.mine"), Some(&b"new"[..]));
}

#[test]
fn filters_keep_only_so_much() {
    let (mut exchange, memory) = (exchange(Log), Memory::default());
    let large = vec![b'x'; 600_000];
    let mut put = |path: &[u8], value: &[u8]| set(&mut exchange, &memory, path, value);
    assert_eq!(put(b"a", &large), Status::Ok);
    assert_eq!(put(b"b", &large), Status::InternalFailure);
    assert_eq!(put(b"b", b"1"), Status::Ok);
    assert_eq!(put(b"b", &large), Status::InternalFailure);
    assert_eq!(put(b"a", b""), Status::Ok);
    assert_eq!(put(b"b", &large), Status::Ok);
    let mut number = 0_u32;
    while put(&number.to_le_bytes(), b"") == Status::Ok {
        number += 1;
    }
    assert!(number < 10_000, "{number} empty values were kept");
    assert_eq!(ask(&exchange, Seen::ALL, "a").unwrap(), b"");
}

#[test]
fn a_tcp_connection_has_no_request() {
    let mut exchange = exchange(RequestHeaders);
    exchange.request_headers = None;
    exchange.facts.protocol = "";
    let ask = |path| ask(&exchange, Seen::default(), path);
    assert_eq!(ask("request\0path"), Err(NotFound));
    assert_eq!(ask("request\0protocol"), Err(NotFound));
    assert_eq!(ask("xds\0route_name"), Err(NotFound));
    assert_eq!(ask("source\0address").unwrap(), b"127.0.0.1:60706");
    assert_eq!(ask("xds\0cluster_name"), Err(NotFound));
    exchange.facts.upstream = Some(UpstreamFacts::default());
    let cluster = super::tests::ask(&exchange, Seen::default(), "xds\0cluster_name");
    assert_eq!(cluster.unwrap(), b"up");
}

#[test]
fn every_name_of_a_group_leads_to_something_at_the_end() {
    let exchange = exchange(Log);
    let config = config();
    let view = View { exchange: Some(&exchange), config: &config, seen: Seen::ALL };
    for group in ["request", "response", "upstream", "source", "destination", "xds"] {
        let group = Group::named(group.as_bytes()).unwrap();
        for name in group.names() {
            assert!(group.part(name.as_bytes(), &view).is_some(), "{group:?} {name}");
        }
    }
}

proptest! {
    #[test]
    fn no_path_does_harm(path: Vec<u8>, parts in proptest::collection::vec("[a-z_]{0,12}", 0..5)) {
        let (config, exchange) = (config(), exchange(Log));
        for view in [
            View { exchange: Some(&exchange), config: &config, seen: Seen::ALL },
            View { exchange: None, config: &config, seen: Seen::ALL },
        ] {
            let _ = get(&path, &view);
            let _ = get(parts.join("\0").as_bytes(), &view);
        }
    }

    #[test]
    fn what_is_set_by_one_part_is_read_back(name in "[a-z.]{1,20}", value: Vec<u8>) {
        let (mut exchange, memory) = (exchange(Log), Memory::default());
        prop_assume!(ask(&exchange, Seen::ALL, &name) == Err(NotFound));
        prop_assert_eq!(set(&mut exchange, &memory, name.as_bytes(), &value), Status::Ok);
        prop_assert_eq!(ask(&exchange, Seen::ALL, &name), Ok(value));
    }
}

#[test]
fn a_map_of_one_name_a_thousand_times_is_refused() {
    let value = "v".repeat(1000);
    let map = |fields: usize| (0..fields).map(|_| ("name", value.clone())).collect();
    let encoded = |fields: usize| {
        let headers: crate::maps::HeaderMap = map(fields);
        let mut bytes = Vec::new();
        super::Value::Headers(Some(&headers)).encode(&mut bytes).map(|()| bytes.len())
    };
    assert_eq!(encoded(2), Ok(4 + 2 * (8 + 5 + 2001 + 1)));
    assert_eq!(encoded(1000), Err(Status::SerializationFailure));
}
