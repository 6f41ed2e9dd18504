//! What Envoy 1.40 answered to the same expressions over a like exchange.

use super::*;
use crate::exchange::{ConnectionFacts, Exchange, Facts, ListenerFacts};
use crate::foreign::Memory;
use crate::foreign::expressions::program::TEXT_BYTES_MAX;
use crate::foreign::tests::{call_in, config};
use crate::properties::{self, Seen, View};
use crate::protobuf::{put_bytes, put_true};
use proptest::prelude::*;
use std::rc::Rc;

fn exchange() -> Exchange {
    let headers = [
        (":path", "/p/a?q=1"),
        (":method", "POST"),
        (":authority", "shop.example:80"),
        ("x-two", "a"),
        ("x-two", "b"),
    ];
    let mut exchange = Exchange {
        request_headers: Some(headers.into_iter().collect()),
        facts: Facts {
            listener: Rc::new(ListenerFacts {
                cluster_name: "up".into(),
                direction: 1,
                ..ListenerFacts::default()
            }),
            connection: Rc::new(ConnectionFacts { id: 7, ..ConnectionFacts::default() }),
            protocol: "HTTP/1.1",
            start_wall_ns: 1_704_067_201_500_000_000,
            duration_ns: Some(2_000_000_000),
            request_body_bytes: 3,
            response_code: Some(200),
            ..Facts::default()
        },
        ..Exchange::default()
    };
    properties::set(&mut exchange, &Memory::default(), b"mine", b"val");
    exchange
}

/// Creates an expression and evaluates it.
fn evaluate(text: &str) -> Result<Vec<u8>, Status> {
    evaluate_in(Some(&mut exchange()), text)
}

fn evaluate_in(exchange: Option<&mut Exchange>, text: &str) -> Result<Vec<u8>, Status> {
    let mut memory = Memory::default();
    let token = call_in("expr_create", text.as_bytes(), None, &mut memory)?;
    assert_eq!(token, [0; 4]);
    call_in("expr_evaluate", &token, exchange, &mut memory)
}

#[track_caller]
fn all_true(expressions: &[&str]) {
    for text in expressions {
        assert_eq!(evaluate(text), Ok(vec![1]), "{text}");
    }
}

#[track_caller]
fn all_are(expressions: &[&str], wanted: Status) {
    for text in expressions {
        assert_eq!(evaluate(text), Err(wanted), "{text}");
    }
}

#[test]
fn results_are_encoded_as_properties_are() {
    for (text, wanted) in [
        ("1", 1_i64.to_le_bytes().to_vec()),
        ("-1", (-1_i64).to_le_bytes().to_vec()),
        ("1u", 1_i64.to_le_bytes().to_vec()),
        ("1.5", 1.5_f64.to_le_bytes().to_vec()),
        ("true", vec![1]),
        ("!true", vec![0]),
        ("'x'", b"x".to_vec()),
        ("b'x'", b"x".to_vec()),
        (r"'\u00e9'", "é".into()),
        ("duration('1.5s')", 1_500_000_000_i64.to_le_bytes().to_vec()),
        ("timestamp('2024-01-01T00:00:00Z')", 1_704_067_200_000_000_000_i64.to_le_bytes().to_vec()),
        (
            "[1, 'a']",
            [
                &[2, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0][..],
                &[1, 0, 0, 0, 0, 0, 0, 0],
                &[0, 0],
                b"a\0\0",
            ]
            .concat(),
        ),
        (
            "{'b': 'y', 'a': 'x'}",
            [&[2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0][..], b"a\0x\0b\0y\0"]
                .concat(),
        ),
        ("request.time", 1_704_067_201_500_000_000_i64.to_le_bytes().to_vec()),
        ("string(request.size)", b"3".to_vec()),
        ("request.path.startsWith('/p') ? 'yes' : 'no'", b"yes".to_vec()),
        ("'a' + 'b'", b"ab".to_vec()),
    ] {
        assert_eq!(evaluate(text), Ok(wanted), "{text}");
    }
    all_are(&["null", "[null]", "{'a': null}"], Status::SerializationFailure);
}

#[test]
fn expressions_are_over_properties() {
    all_true(&[
        "request.path == '/p/a?q=1'",
        "request['path'] == request.path",
        "request.headers['x-two'] == 'a,b'",
        "'x-two' in request.headers",
        "size(request.headers) == 4 && request.headers.size() == 4",
        "request.headers.exists(h, h == 'x-two')",
        "request.size == 3u && request.size > 2",
        "request.size + 1 == 4",
        "response.code == 200",
        "request.time > timestamp('2024-01-01T00:00:00Z')",
        "request.time.getFullYear() == 2024 && request.time.getMilliseconds() == 500",
        "request.time - duration('1s') < request.time",
        "request.duration > duration('1s')",
        "connection.id == 7u && !connection.mtls",
        "has(request.path) && !has(request.headers.none) && !has(request.nonsense)",
        "!has(connection.tls_version)",
        "request.host.endsWith(':80')",
        "xds.node.id == 'node-1' && xds.node.metadata.role == 'edge'",
        "has(xds.node.metadata.role) && !has(xds.node.metadata.none)",
        "xds.node.locality.zone == ''",
        "xds.cluster_name == 'up' && xds.listener_direction == 1",
        "upstream.num_endpoints == 1u",
        "size(metadata.filter_metadata) == 0",
        "plugin_name == 'plug'",
        "mine == b'val' && mine != 'val' && string(mine) == 'val' && size(mine) == 3",
        "filter_state['wasm.mine'] == b'val' && !has(filter_state.nonsense)",
        "nonsense || true",
        "request.nonsense == 1 || true",
        "true || request.nonsense",
    ]);
}

#[test]
fn one_name_a_thousand_times_is_one_value() {
    let value = "v".repeat(1000);
    let mut exchange = exchange();
    let fields = (0..1000).map(|_| ("name", value.clone()));
    exchange.request_headers = Some(fields.collect());
    assert_eq!(
        evaluate_in(Some(&mut exchange), "size(request.headers['name'])"),
        Ok(1_000_999_i64.to_le_bytes().into())
    );
}

#[test]
fn a_bare_path_is_the_property() {
    let view = View { exchange: Some(&exchange()), config: &config(), seen: Seen::ALL };
    for path in ["request.headers", "xds.node", "mine", "request.path", "metadata"] {
        let wanted = properties::get(path.replace('.', "\0").as_bytes(), &view);
        assert_eq!(evaluate(path), wanted, "{path}");
        assert!(wanted.is_ok(), "{path}");
    }
    all_are(&["request", "source", "xds"], Status::SerializationFailure);
    all_are(&["nonsense", "request.nonsense", "connection.tls_version"], Status::InternalFailure);
}

#[test]
fn operators_and_functions_are_the_standards() {
    all_true(&[
        "1 == 1.0 && 1 < 2.5 && 'a' < 'b'",
        "5 % 3 == 2 && -5 / 2 == -2",
        "1 in [1] && 1 in {1: 2} && 'é'.size() == 1",
        "[1] + [2] == [1, 2] && b'a' + b'b' == b'ab'",
        "{'a': {'b': 'c'}}.a.b == 'c' && {'a': 1} == {'a': 1}",
        "int('5') == 5 && uint('3') == 3u && double('1.5') == 1.5 && int(1.9) == 1",
        "int(timestamp('2024-01-01T00:00:00Z')) == 1704067200",
        "bytes('a') == b'a' && string(b'a') == 'a' && string(1.5) == '1.5' && string(true) == 'true'",
        "duration('1m') > duration('1s') && string(duration('1s')) == '1s'",
        "string(timestamp('2024-01-01T00:00:00Z')) == '2024-01-01T00:00:00Z'",
        "timestamp('2024-01-01T00:00:00Z').getHours('-08:00') == 16",
        "timestamp('2024-01-01T00:00:00Z').getHours('America/New_York') == 19",
        "[1, 2, 3].all(x, x > 0) && [1, 2].exists(x, x == 2) && [1, 2].exists_one(x, x == 2)",
        "'abc'.matches('a.c') && matches('abc', '^ab') && !'abc'.matches('^b')",
        "'abc'.contains('b') && type(1) == int && dyn(1) == 1",
    ]);
}

#[test]
fn what_goes_wrong_is_an_internal_failure() {
    all_are(
        &[
            "1/0",
            "1 + 1u",
            "9223372036854775807 + 1",
            "[1][5]",
            "{'a': 1}.b",
            "'a'.b",
            "false || 1",
            "request.headers['none']",
            "request.nonsense == 1",
            "'a'.matches('(')",
            "'a'.matches('(a{1000}){1000}')",
        ],
        Status::InternalFailure,
    );
}

#[test]
fn what_is_no_expression_is_refused() {
    all_are(
        &[
            "",
            "rz+",
            "1 +",
            "(((",
            "a.b(",
            "1 1",
            "\"unclosed",
            "request.path == ",
            "@",
            "[1,2].map(x)",
            "x.exists(1,2)",
            "nonsense(1)",
            "'a'.nonsense()",
            "lower('A')",
            "'A'.lowerAscii()",
            "'a,b'.split(',')",
            "math.greatest(1,2)",
            "optional.of(1)",
            "cel.bind(x, 1, x)",
        ],
        Status::BadArgument,
    );
    let mut memory = Memory::default();
    assert_eq!(call_in("expr_create", b"'\xff'", None, &mut memory), Err(Status::BadArgument));
}

#[test]
fn a_root_context_has_little_to_go_by() {
    let evaluate = |text| evaluate_in(None, text);
    assert_eq!(evaluate("plugin_name + '!'"), Ok(b"plug!".to_vec()));
    assert_eq!(evaluate("xds.node.id == 'node-1'"), Ok(vec![1]));
    assert_eq!(evaluate("request.path == ''"), Err(Status::InternalFailure));
    assert_eq!(evaluate("request.path"), Err(Status::InternalFailure));
}

#[test]
fn declared_text_is_text() {
    let (mut memory, mut exchange) = (Memory::default(), exchange());
    let mut declaration = Vec::new();
    put_bytes(1, b"said", &mut declaration);
    put_true(3, &mut declaration);
    call_in("declare_property", &declaration, None, &mut memory).unwrap();
    properties::set(&mut exchange, &memory, b"said", b"val");
    let token = call_in("expr_create", b"said == 'val'", None, &mut memory).unwrap();
    assert_eq!(call_in("expr_evaluate", &token, Some(&mut exchange), &mut memory), Ok(vec![1]));
}

#[test]
fn numbers_count_up_and_are_forgotten() {
    let mut memory = Memory::default();
    let mut call = |name: &str, arguments: &[u8]| call_in(name, arguments, None, &mut memory);
    assert_eq!(call("expr_create", b"1"), Ok(vec![0, 0, 0, 0]));
    assert_eq!(call("expr_create", b"'two'"), Ok(vec![1, 0, 0, 0]));
    assert_eq!(call("expr_evaluate", &[1, 0, 0, 0]), Ok(b"two".to_vec()));
    assert_eq!(call("expr_delete", &[1, 0, 0, 0]), Ok(Vec::new()));
    assert_eq!(call("expr_delete", &[1, 0, 0, 0]), Ok(Vec::new()));
    assert_eq!(call("expr_evaluate", &[1, 0, 0, 0]), Err(Status::NotFound));
    assert_eq!(call("expr_create", b"3"), Ok(vec![2, 0, 0, 0]));
    for wrong in [&b""[..], &[0], &[0; 5]] {
        assert_eq!(call("expr_evaluate", wrong), Err(Status::BadArgument));
        assert_eq!(call("expr_delete", wrong), Err(Status::BadArgument));
    }
}

#[test]
fn there_are_only_so_many_expressions() {
    let mut expressions = Expressions::default();
    for number in 0..EXPRESSIONS_MAX {
        assert_eq!(expressions.add(Expression::Path(Vec::new())), Ok(number as u32));
    }
    assert_eq!(expressions.add(Expression::Path(Vec::new())), Err(Status::InternalFailure));
    expressions.by_token.remove(&5);
    expressions.next_token = u32::MAX;
    assert_eq!(expressions.add(Expression::Path(Vec::new())), Ok(u32::MAX));
    expressions.by_token.remove(&6);
    assert_eq!(expressions.add(Expression::Path(Vec::new())), Ok(5));
}

#[test]
fn what_could_take_long_or_much_is_refused() {
    let long = format!("'{}'", "x".repeat(4096));
    let list = format!("[{}]", vec!["1"; 1000].join(","));
    all_are(
        &[
            &long,
            "[1, 2].map(x, x + 1)",
            "[1, 2].filter(x, x > 1)",
            "request.headers.exists(a, request.headers.exists(b, a == b && a != 'x'))",
            "request.headers.all(a, a.matches('x') && a.matches('y'))",
            &format!("{list}.exists(a, {list}.exists(b, a == b))"),
        ],
        Status::BadArgument,
    );
    all_true(&[
        "request.headers.all(a, !a.matches('none'))",
        "[1, 2].exists(a, [2, 3].exists(b, a == b))",
        &format!("{list}.all(a, a == 1)"),
    ]);
}

#[test]
fn what_is_deep_is_refused_and_what_is_not_fits_a_workers_stack() {
    let shapes: [(&str, &str, &str); 9] = [
        ("", "1+", "1"),
        ("", "true||", "true"),
        ("", "true?1:", "1"),
        ("", "(1+", "1"),
        ("", "[", "1"),
        ("", "{1:", "1"),
        ("a", ".a", ""),
        ("[1]", "[0]", ""),
        ("", "- ", "1"),
    ];
    let closing = |step: &str| match step.as_bytes().first() {
        Some(b'(') => ")",
        Some(b'[') if step == "[" => "]",
        Some(b'{') => "}",
        _ => "",
    };
    for (head, step, tail) in shapes {
        let deep = |times: usize| {
            format!("{head}{}{tail}{}", step.repeat(times), closing(step).repeat(times))
        };
        let most = (TEXT_BYTES_MAX - 8) / (step.len() + closing(step).len());
        // Far more than the stack of this thread could take.
        let _ = evaluate(&deep(most));
        // The deepest that is let in runs on a quarter of a thread's usual stack.
        let fits = (1..most).take_while(|times| Program::read(deep(*times).as_bytes()).is_ok());
        let fits = deep(fits.take(64).last().unwrap_or(1));
        let thread = std::thread::Builder::new().stack_size(1 << 19);
        thread.spawn(move || drop(evaluate(&fits))).unwrap().join().unwrap();
    }
    all_are(&[&format!("{}1", "1+".repeat(500)), &"(".repeat(4000)], Status::BadArgument);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_text_does_harm(words in proptest::collection::vec(prop_oneof![
        Just("("), Just(")"), Just("["), Just("]"), Just("{"), Just("}"), Just("."), Just(","),
        Just(":"), Just("?"), Just("+"), Just("-"), Just("!"), Just("=="), Just("&&"), Just("||"),
        Just("in "), Just("1"), Just("1u"), Just("'a'"), Just("b'\\xff'"), Just("request"),
        Just("headers"), Just("exists(x,"), Just("all(x,"), Just("x"), Just("has("), Just("size("),
        Just("matches("), Just("duration("), Just("timestamp("), Just("\\"), Just("\""), Just("é"),
    ], 0..24)) {
        let _ = evaluate(&words.concat());
    }
}
