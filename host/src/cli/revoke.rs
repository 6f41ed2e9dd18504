//! To revoke, and to lift.

use super::client::{Client, FORM, JSON};
use super::thing::{self, Times};
use super::{Failure, Found, secret, server, shown};
use hyper::Method;
use serde_json::Value;
use std::io::Write;
use std::path::Path;

/// `tidegate revocations lift`.
#[derive(clap::Args)]
pub(super) struct LiftArguments {
    #[command(flatten)]
    server: server::Arguments,
    #[command(flatten)]
    thing: thing::Arguments,
}

/// Revokes what is named, or the token of a file.
pub(super) async fn run(
    server: &server::Arguments,
    thing: &thing::Arguments,
    times: &Times,
    token_file: Option<&Path>,
    out: &mut dyn Write,
) -> Result<Found, Failure> {
    let (path, kind, body) = match token_file {
        Some(file) => ("/v1/revoke", FORM, token_form(file)?),
        None => {
            let mut fields = thing.to_json()?;
            times.add_to(&mut fields);
            ("/v1/revocations", JSON, Value::Object(fields).to_string().into_bytes())
        }
    };
    let mut client = Client::connect(&server.server()?).await?;
    let path = format!("{path}{}", thing.query());
    let answer = client.ask(Method::POST, &path, Some((kind, body))).await?;
    let told = if server.json { shown::json(&answer, out) } else { shown::changed(&answer, out) };
    told.map_err(|error| Failure::output(&error))?;
    Ok(Found::Well)
}

/// Lifts what is named.
pub(super) async fn lift(arguments: &LiftArguments, out: &mut dyn Write) -> Result<Found, Failure> {
    let LiftArguments { server, thing } = arguments;
    let body = Value::Object(thing.to_json()?).to_string().into_bytes();
    let mut client = Client::connect(&server.server()?).await?;
    let path = format!("/v1/revocations/lift{}", thing.query());
    let answer = client.ask(Method::POST, &path, Some((JSON, body))).await?;
    let told = if server.json { shown::json(&answer, out) } else { shown::changed(&answer, out) };
    told.map_err(|error| Failure::output(&error))?;
    Ok(match answer["results"][0]["outcome"].as_str() {
        Some("lifted") => Found::Well,
        _ => Found::Something,
    })
}

/// A token of a file as RFC 7009 has it.
pub(super) fn token_form(file: &Path) -> Result<Vec<u8>, Failure> {
    let token = secret::read(file)?;
    let mut form = b"token=".to_vec();
    form_urlencoded::byte_serialize(&token).for_each(|part| form.extend(part.as_bytes()));
    Ok(form)
}
