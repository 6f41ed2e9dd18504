use super::*;
use alloc::string::ToString;

#[test]
fn durations_read_as_they_are_written() {
    for (text, nanos) in [
        ("20ms", 20_000_000),
        ("1s", 1_000_000_000),
        ("5m", 300_000_000_000),
        ("1h30m", 5_400_000_000_000),
        ("1d", 86_400_000_000_000),
        ("0s", 0),
        ("7us", 7_000),
        ("1d2h3m4s5ms6us", 93_784_005_006_000),
    ] {
        assert_eq!(duration(text), Some(Span(nanos)), "{text}");
    }
}

#[test]
fn near_durations_are_no_durations() {
    for text in [
        "",
        "1",
        "s",
        "1 s",
        " 1s",
        "1s ",
        "1.5s",
        "-1s",
        "+1s",
        "1m1h",
        "1s1s",
        "1S",
        "1min",
        "99999999999999d",
        "18446744073709551616us",
        "1ß",
        "ß1s",
    ] {
        assert_eq!(duration(text), None, "{text}");
    }
}

#[test]
fn rates_read_as_they_are_written() {
    assert_eq!(rate("100/1m"), Some((100, Span::from_secs(60))));
    assert_eq!(rate("5/s"), Some((5, Span::from_secs(1))));
    assert_eq!(rate("10/30s"), Some((10, Span::from_secs(30))));
    assert_eq!(rate("4294967295/1d"), Some((u32::MAX, Span::from_secs(86_400))));
    for text in ["", "/", "5", "5/", "/s", "+5/s", "5 /s", "5/s/s", "4294967296/s", "5/1", "5/ms5"]
    {
        assert_eq!(rate(text), None, "{text}");
    }
}

#[test]
fn what_is_nearly_a_rate_or_a_duration_is_guessed_exactly() {
    for (typed, guess) in [
        ("1 min", "1m"),
        ("100/min", "100/m"),
        ("100 per minute", "100/m"),
        ("100 requests per minute", "100/m"),
        ("100rpm", "100/m"),
        ("10r/s", "10/s"),
        ("1_000 / 1 hour", "1000/1h"),
        ("5 each 30 Seconds", "5/30s"),
        ("20 MS", "20ms"),
    ] {
        assert_eq!(meant(typed).as_deref(), Some(guess), "{typed}");
    }
    for typed in ["", "often", "5 per fortnight", "1.5s", "ß"] {
        assert_eq!(meant(typed), None, "{typed}");
    }
}

#[test]
fn networks_hold_what_they_say() {
    let holds = |network: &str, address: &str| {
        self::network(network).unwrap().contains(address.parse().unwrap())
    };
    assert!(holds("10.0.0.0/8", "10.255.0.1"));
    assert!(!holds("10.0.0.0/8", "11.0.0.0"));
    assert!(holds("0.0.0.0/0", "255.255.255.255"));
    assert!(!holds("0.0.0.0/0", "::1"));
    assert!(holds("2001:db8::/32", "2001:db8:ffff::1"));
    assert!(!holds("2001:db8::/32", "2001:db9::"));
    assert!(holds("::/0", "ffff::"));
    assert!(holds("::ffff:10.0.0.0/104", "10.255.0.1"));
}

#[test]
fn networks_are_written_in_one_way() {
    for (typed, network) in [
        ("192.0.2.7", "192.0.2.7/32"),
        ("2001:DB8::7", "2001:db8::7/128"),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        ("::/0", "::/0"),
    ] {
        assert_eq!(self::network(typed).unwrap().to_string(), network, "{typed}");
    }
}

#[test]
fn what_is_no_network_is_refused() {
    let within = Cidr { network: "10.0.0.0".parse().unwrap(), bits: 8 };
    assert_eq!(network("10.1.2.3/8"), Err(NoNetwork::HostBits(within)));
    for text in [
        "",
        "/",
        "10.0.0.0/",
        "10.0.0.0/33",
        "10.0.0.0/+8",
        "10/8",
        "::/129",
        "10.0.0.0/8/8",
        "a/8",
    ] {
        assert_eq!(network(text), Err(NoNetwork::Unreadable), "{text}");
    }
}

#[test]
fn patterns_are_sorted_by_where_their_stars_are() {
    assert_eq!(pattern("/a"), Some(Pattern::Exact("/a".into())));
    assert_eq!(pattern(""), Some(Pattern::Exact("".into())));
    assert_eq!(pattern("/a*"), Some(Pattern::Prefix("/a".into())));
    assert_eq!(pattern("*"), Some(Pattern::Prefix("".into())));
    assert_eq!(pattern("*.js"), Some(Pattern::Suffix(".js".into())));
    assert_eq!(pattern("/a*b"), Some(Pattern::Glob(["/a".into(), "b".into()].into())));
    assert_eq!(pattern("*a*"), Some(Pattern::Glob(["".into(), "a".into(), "".into()].into())));
    assert!(pattern(&"*".repeat(STARS_MAX)).is_some());
    assert_eq!(pattern(&"*".repeat(STARS_MAX + 1)), None);
}

#[test]
fn a_guess_is_near_or_none() {
    let known = ["name", "rate", "burst", "algorithm", "key"];
    assert_eq!(nearest("brust", &known), Some("burst"));
    assert_eq!(nearest("bursts", &known), Some("burst"));
    assert_eq!(nearest("algoritm", &known), Some("algorithm"));
    assert_eq!(nearest("rat", &known), Some("rate"));
    assert_eq!(nearest("kye", &known), Some("key"));
    assert_eq!(nearest("x", &known), None);
    assert_eq!(nearest("", &known), None);
    assert_eq!(nearest("unit", &known), None);
}
