//! How answers are told: a few lines for people, or as they came.

use crate::revocations_api::when;
use serde_json::Value;
use std::io::{self, Write};

/// As it came, in one line.
pub(super) fn json(page: &Value, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{page}")
}

/// What became of what was to be revoked or lifted.
pub(super) fn changed(page: &Value, out: &mut dyn Write) -> io::Result<()> {
    for became in page["results"].as_array().into_iter().flatten() {
        let (outcome, kind, id) = (&became["outcome"], &became["kind"], &became["id"]);
        let what = format!("{} {}", text(kind), text(id));
        match text(outcome) {
            "revoked" => match became["before"].as_str() {
                Some("ever") => writeln!(out, "revoked {what}, until {}", end(became))?,
                _ => {
                    let before = time(&became["before"]);
                    let end = end(became);
                    writeln!(out, "revoked {what}, issued at or before {before}, until {end}")?;
                }
            },
            "over" => writeln!(out, "nothing to do: {what} was over at {}", end(became))?,
            "not_revoked" => writeln!(out, "nothing to do: {what} is not revoked")?,
            outcome => writeln!(out, "{outcome} {what}")?,
        }
    }
    if page["nothing_to_do"] == "over" {
        writeln!(out, "nothing to do: the token has expired")?;
    }
    match page.get("durability") {
        None => Ok(()),
        Some(durability) => writeln!(out, "durable {}", durable(durability)),
    }
}

/// Where it is durable.
pub(super) fn durable(durability: &Value) -> String {
    let replicas = durability["replicas"].as_u64().unwrap_or_default();
    match (durability["shared"] == true, durability["waits_for_shared"] == true) {
        (true, _) if replicas > 0 => {
            format!("on this host, in the shared log, and on {replicas} of its replicas")
        }
        (true, _) => "on this host and in the shared log".to_owned(),
        (false, true) => "on this host; the shared log is away, and gets it on return".to_owned(),
        (false, false) => "on this host".to_owned(),
    }
}

/// One of a list.
pub(super) fn record(record: &Value, is_first: bool, out: &mut dyn Write) -> io::Result<()> {
    if is_first {
        writeln!(out, "{:<10} {:<32} {:<20} UNTIL", "KIND", "ID", "ISSUED BEFORE")?;
    }
    let before = match record["lifted"] == true {
        true => "(lifted)".to_owned(),
        false => time(&record["before"]),
    };
    let (kind, id) = (text(&record["kind"]), text(&record["id"]));
    writeln!(out, "{kind:<10} {id:<32} {before:<20} {}", end(record))
}

/// How many there are.
pub(super) fn stats(page: &Value, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "revoked        {}", page["revoked"])?;
    for (kind, count) in page["by_kind"].as_object().into_iter().flatten() {
        if *count != 0 {
            writeln!(out, "  {kind:<12} {count}")?;
        }
    }
    writeln!(out, "lifted         {}", page["lifted"])?;
    let log = match text(&page["log"]) {
        "shared" => "shared by all hosts",
        _ => "this host's own",
    };
    writeln!(out, "log            {log}, at {}", page["position"]["number"])?;
    if page["log"] == "shared" {
        match page["age_seconds"].as_f64() {
            Some(age) => writeln!(out, "known          all of it, {age:.1} s ago")?,
            None => writeln!(out, "known          not all of it yet")?,
        }
        writeln!(out, "held           {} wait for the shared log", page["waits_for_shared"])?;
    }
    writeln!(out, "file           {} bytes", page["file_bytes"])?;
    match page["trouble"].as_str() {
        Some(trouble) => writeln!(out, "TROUBLE        {trouble}"),
        None => Ok(()),
    }
}

/// Whether a token is revoked, and by what.
pub(super) fn checked(page: &Value, out: &mut dyn Write) -> io::Result<()> {
    let is_revoked = page["revoked"] == true;
    writeln!(out, "{}", if is_revoked { "revoked" } else { "not revoked" })?;
    for id in page["ids"].as_array().into_iter().flatten() {
        let what = format!("{:<10} {}", text(&id["kind"]), text(&id["id"]));
        match (id["revoked"] == true, id["since_ms"].as_u64()) {
            (false, Some(_)) if id.get("other_exp").is_some() => {
                let exp = time(&id["other_exp"]);
                writeln!(
                    out,
                    "  {what} revoked with another exp, {exp}: proxies lose sight of it"
                )?;
            }
            (true, Some(since)) => {
                writeln!(out, "  {what} revoked at {}", when::shown(since / 1_000))?;
            }
            (false, Some(_)) => {
                let before = time(&id["before"]);
                writeln!(out, "  {what} issued after what is revoked, {before}")?;
            }
            _ => writeln!(out, "  {what} not revoked")?,
        }
    }
    Ok(())
}

/// Until when a record is kept.
fn end(record: &Value) -> String {
    time(record.get("exp").unwrap_or(&record["until"]))
}

fn time(value: &Value) -> String {
    value.as_u64().map_or_else(|| text(value).to_owned(), when::shown)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}
