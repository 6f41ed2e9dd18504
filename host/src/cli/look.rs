//! To list, to count, and to check a token.

use super::client::{Client, FORM};
use super::revoke::token_form;
use super::{Failure, Found, server, shown};
use hyper::Method;
use std::io::Write;
use std::path::PathBuf;

/// The most of one page.
const PAGE: u64 = 1_000;

/// `tidegate revocations list`.
#[derive(clap::Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    server: server::Arguments,
    /// Only of this kind
    #[arg(long)]
    kind: Option<String>,
    /// Only what comes after this id
    #[arg(long, value_name = "ID")]
    after: Option<String>,
    /// At most so many; 0 is all of them
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    limit: u64,
}

/// `tidegate revocations check`.
#[derive(clap::Args)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    server: server::Arguments,
    /// A file that holds the token, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(super) async fn list(arguments: &ListArguments, out: &mut dyn Write) -> Result<Found, Failure> {
    let ListArguments { server, kind, after, limit } = arguments;
    let mut client = Client::connect(&server.server()?).await?;
    let (mut after, mut count) = (after.clone(), 0);
    let left = |count: u64| if *limit == 0 { PAGE } else { PAGE.min(limit - count) };
    loop {
        let mut query = form_urlencoded::Serializer::new("/v1/revocations?".to_owned());
        query.append_pair("limit", &left(count).to_string());
        for (name, value) in [("kind", kind), ("after", &after)] {
            value.as_ref().inspect(|value| {
                query.append_pair(name, value);
            });
        }
        let page = client.ask(Method::GET, &query.finish(), None).await?;
        for record in page["revocations"].as_array().into_iter().flatten() {
            let told = match server.json {
                true => shown::json(record, out),
                false => shown::record(record, count == 0, out),
            };
            told.map_err(|error| Failure::output(&error))?;
            count += 1;
        }
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() || (*limit > 0 && count >= *limit) {
            return Ok(Found::Well);
        }
    }
}

pub(super) async fn stats(
    server: &server::Arguments,
    out: &mut dyn Write,
) -> Result<Found, Failure> {
    let mut client = Client::connect(&server.server()?).await?;
    let page = client.ask(Method::GET, "/v1/revocations/stats", None).await?;
    let told = if server.json { shown::json(&page, out) } else { shown::stats(&page, out) };
    told.map_err(|error| Failure::output(&error))?;
    Ok(Found::Well)
}

pub(super) async fn check(
    arguments: &CheckArguments,
    out: &mut dyn Write,
) -> Result<Found, Failure> {
    let CheckArguments { server, file } = arguments;
    let form = token_form(file)?;
    let mut client = Client::connect(&server.server()?).await?;
    let page = client.ask(Method::POST, "/v1/revocations/check", Some((FORM, form))).await?;
    let told = if server.json { shown::json(&page, out) } else { shown::checked(&page, out) };
    told.map_err(|error| Failure::output(&error))?;
    Ok(if page["revoked"] == true { Found::Something } else { Found::Well })
}
