use super::*;
use hyper::Request;

fn hop(upgrades: &BTreeSet<String>) -> Hop<'_> {
    Hop {
        is_tls: false,
        peer: "10.0.0.9:5".parse().unwrap(),
        trusted_hops: 0,
        upgrades,
        headers_bytes_max: 1024,
    }
}

fn parts(request: request::Builder) -> request::Parts {
    request.body(()).unwrap().into_parts().0
}

fn present(request: request::Builder) -> Result<Presented, Refusal> {
    let upgrades = BTreeSet::from(["websocket".to_owned()]);
    super::request(&parts(request), &hop(&upgrades), || "id".to_owned())
}

fn shown(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    headers.iter().map(|(name, value)| (text(name), text(value))).collect()
}

fn fields(request: request::Builder) -> Vec<(String, String)> {
    shown(&present(request).unwrap().headers)
}

fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
    fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn refused(request: request::Builder) -> &'static str {
    present(request).unwrap_err().details
}

#[test]
fn pseudo_headers_stand_first_and_the_proxys_own_last() {
    let request = Request::get("/a?b").header("host", "shop").header("b", "1").header("A", "2");
    let wanted = [
        (":authority", "shop"),
        (":path", "/a?b"),
        (":method", "GET"),
        (":scheme", "http"),
        ("b", "1"),
        ("a", "2"),
        ("x-forwarded-for", "10.0.0.9"),
        ("x-forwarded-proto", "http"),
        ("x-request-id", "id"),
    ];
    assert_eq!(fields(request), owned(&wanted));
}

#[test]
fn what_hops_said_is_added_to_in_its_place() {
    let request = Request::get("http://shop/")
        .header("x-forwarded-for", "1.1.1.1")
        .header("x-request-id", "mine")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-for", "2.2.2.2");
    let wanted = [
        ("x-forwarded-for", "1.1.1.1,2.2.2.2,10.0.0.9"),
        ("x-request-id", "mine"),
        ("x-forwarded-proto", "http"),
    ];
    assert_eq!(fields(request)[4..], owned(&wanted));
}

#[test]
fn a_trusted_hop_says_who_the_client_is_and_how_it_came() {
    let head = parts(
        Request::get("/")
            .header("host", "shop")
            .header("x-forwarded-for", "6.6.6.6, 1.1.1.1")
            .header("x-forwarded-proto", "https"),
    );
    let upgrades = BTreeSet::new();
    let hop = Hop { trusted_hops: 1, ..hop(&upgrades) };
    let presented = super::request(&head, &hop, String::new).unwrap();
    assert_eq!(presented.client, "1.1.1.1:0".parse().unwrap());
    assert_eq!(presented.headers.get(b":scheme").unwrap(), "https");
}

#[test]
fn fields_for_one_hop_go_no_further() {
    let request = Request::get("http://shop/")
        .header("connection", "close, x-mine , TE")
        .header("x-mine", "1")
        .header("keep-alive", "5")
        .header("proxy-connection", "close")
        .header("te", "gzip, trailers;q=1")
        .header("transfer-encoding", "chunked")
        .header("upgrade", "h2c")
        .header("http2-settings", "x")
        .header("expect", "100-continue");
    assert_eq!(fields(request)[4], ("te".to_owned(), "trailers".to_owned()));
    let many = "a,".repeat(NOMINATED_MAX);
    for named in ["x-forwarded-for", "Host", ":path", &many] {
        let request = Request::get("http://shop/").header("connection", named);
        assert_eq!(refused(request), "connection_header_rejected", "{named}");
    }
}

#[test]
fn headers_have_a_bound() {
    let request = |length: usize| Request::get("http://shop/").header("x", "x".repeat(length));
    assert!(present(request(1022)).is_ok());
    assert_eq!(present(request(1023)).unwrap_err().status, 431);
}

#[test]
fn cookies_are_one_field() {
    let request = Request::get("http://shop/").header("cookie", "a=1").header("cookie", "b=2");
    assert_eq!(fields(request)[4], ("cookie".to_owned(), "a=1; b=2".to_owned()));
}

#[test]
fn upgrades_are_told_as_such_if_they_are_allowed() {
    let wants =
        |to| Request::get("http://s/").header("connection", "Upgrade").header("upgrade", to);
    let presented = present(wants("WebSocket")).unwrap();
    assert!(presented.is_upgrade);
    assert_eq!(presented.headers.get(b"connection").unwrap(), "upgrade");
    assert_eq!(presented.headers.get(b"upgrade").unwrap(), "WebSocket");
    assert!(!present(wants("h2c")).unwrap().is_upgrade);
    assert_eq!(refused(wants("tls/1.0")), "upgrade_failed");
    let alone = Request::get("http://s/").header("upgrade", "websocket");
    assert!(!present(alone).unwrap().is_upgrade);
}

#[test]
fn a_request_is_for_exactly_one_host() {
    assert_eq!(refused(Request::get("/")), "missing_host_header");
    assert_eq!(
        refused(Request::get("/").header("host", "a").header("host", "b")),
        "duplicate_host_header"
    );
    let old = Request::get("/").version(Version::HTTP_10);
    assert_eq!(fields(old)[0], (":authority".to_owned(), String::new()));
    let absolute = Request::get("http://a/").header("host", "b");
    assert_eq!(fields(absolute)[0].1, "a");
    let bare = fields(Request::get("http://a?b").header("host", "b"));
    assert_eq!([&bare[0].1, &bare[1].1], ["a", "/?b"]);
}

fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    fields.iter().copied().collect()
}

const TARGET: [(&str, &str); 4] =
    [(":authority", "shop"), (":path", "/a?b"), (":method", "POST"), (":scheme", "http")];

fn wire(more: &[(&'static str, &'static str)], is_http2: bool) -> Request<()> {
    let fields = map(&[&TARGET[..], more].concat());
    back::request(&fields, is_http2, false, false).unwrap()
}

#[test]
fn requests_go_back_to_the_wire() {
    let http1 = wire(&[("x-a", "1")], false);
    assert_eq!(
        (http1.uri().to_string().as_str(), &http1.headers()["host"]),
        ("/a?b", &"shop".parse().unwrap())
    );
    let http2 = wire(&[("x-a", "1")], true);
    assert_eq!(http2.uri(), "http://shop/a?b");
    assert!(http2.headers().get("host").is_none());
    for request in [http1, http2] {
        assert_eq!(
            (request.method(), &request.headers()["x-a"]),
            (&Method::POST, &"1".parse().unwrap())
        );
    }
}

#[test]
fn what_filters_wrote_cannot_break_the_frame() {
    let request = wire(
        &[("transfer-encoding", "chunked"), ("connection", "close"), ("x-d", "\u{e9}")],
        false,
    );
    let names = |headers: &WireHeaders| {
        headers.keys().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(request.headers()), ["host", "x-d"]);

    let unfit = [("x\n", "1"), ("x-b", "1\r\nx-c: 2"), ("x-d", "2")];
    for (fields, why) in
        [(&unfit[..], "invalid header name: x\\n"), (&unfit[1..], "invalid header value for: x-b")]
    {
        let refused = back::request(&map(&[&TARGET[..], fields].concat()), false, false, false);
        assert_eq!(refused.unwrap_err(), back::NoRequest::Malformed(why.to_owned()));
    }
    let response = back::response(&map(&[&[(":status", "200")], &unfit[..]].concat()), true, true);
    assert_eq!(names(response.headers()), ["x-d", "server"]);

    let fields = map(&[(":status", "200"), ("content-length", "5")]);
    let is_kept = |is_end, is_head| {
        back::response(&fields, is_end, is_head).headers().contains_key("content-length")
    };
    assert!(!is_kept(true, false), "nobody waits for a body that does not come");
    assert!(is_kept(true, true) && is_kept(false, false));
}

#[test]
fn a_pseudo_header_that_is_gone_is_named() {
    for (index, name) in [":authority", ":path", ":method"].into_iter().enumerate() {
        let mut fields = TARGET.to_vec();
        fields.remove(index);
        let wanted = match name {
            ":path" => back::NoRequest::Nowhere,
            name => back::NoRequest::Malformed(format!("missing required header: {name}")),
        };
        assert_eq!(back::request(&map(&fields), false, false, true).unwrap_err(), wanted);
    }
}

#[test]
fn responses_say_who_served_them_unless_the_origin_did() {
    let server = |fields: &[(&'static str, &'static str)]| {
        back::response(&map(fields), true, false).headers()["server"].clone()
    };
    assert_eq!(server(&[(":status", "200")]), "tidegate");
    assert_eq!(server(&[(":status", "200"), ("server", "nginx")]), "nginx");
    assert_eq!(back::response(&map(&[(":status", "x")]), true, false).status(), 500);
}
