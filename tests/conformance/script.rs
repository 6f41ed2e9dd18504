//! A file of cases: how the filters are set up, and for each case what the client sends and
//! which host calls the filters make.
//!
//! ```text
//! filter outer puppet            # a filter, by its name and its module; `puppet` alone if none
//! upstream http2
//!
//! case replacing                 # the client's lines come first
//!   send POST /path?status=201 x-colour=red
//!   data hello
//!   end
//! on outer.request_headers       # then the filters': which one may be left out if all do it
//!   replace_header 0 x-colour blue
//! ```
//!
//! A line `---` ends what one proxy is for; what follows begins anew, for another.
//!
//! What filters do is in their own language, see `tests/guests/puppet/src/lib.rs`.

use crate::client::unescaped;
use anyhow::{Context, bail};
use harness::{Result, parts};
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// A whole file.
pub(crate) struct Script {
    pub(crate) setup: Setup,
    pub(crate) cases: Vec<Case>,
}

/// What a proxy shall be like.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setup {
    pub(crate) filters: Vec<Filter>,
    pub(crate) is_upstream_http2: bool,
    /// A proxy of connections, not of HTTP.
    pub(crate) is_network: bool,
    /// The filters know of no cases: all that they log belongs to the one that is played, trace
    /// included.
    pub(crate) logs_all: bool,
    /// More clusters, by what the filters call them; those not at the origin are at nobody.
    pub(crate) clusters: Vec<(String, bool)>,
}

/// One filter of the chain.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) name: String,
    pub(crate) module: String,
    /// `name=value`, as written.
    pub(crate) options: Vec<(String, String)>,
    /// What it shall do.
    pub(crate) configuration: String,
}

/// One case.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// Where the client is: how filters of connections tell cases apart.
    pub(crate) address: Ipv4Addr,
    /// What the client does, line by line.
    pub(crate) client: Vec<String>,
}

impl Script {
    /// Reads a file of cases, proxy by proxy.
    ///
    /// # Errors
    ///
    /// A line that has no meaning where it stands.
    pub(crate) fn read(text: &str) -> Result<Vec<Self>> {
        text.split("\n---\n").map(Self::read_one).collect()
    }

    fn read_one(text: &str) -> Result<Self> {
        let mut script = Self { setup: Setup::default(), cases: Vec::new() };
        // The filters that the lines are for; empty as long as they are the client's.
        let mut players: Option<Vec<usize>> = None;
        let lines = text.lines().map(|line| line.split("  #").next().unwrap_or(line).trim());
        for line in lines.filter(|it| !it.is_empty() && !it.starts_with("# ")) {
            let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
            match (first, script.cases.last_mut(), &players) {
                ("case", _, _) => {
                    players = None;
                    script.setup.need_filter();
                    let client = Ipv4Addr::new(127, 0, 1, u8::try_from(script.cases.len())?);
                    script.setup.add_line(&format!("{line} {client}"), None);
                    let (name, lines) = (rest.to_owned(), Vec::new());
                    script.cases.push(Case { name, address: client, client: lines });
                }
                ("on", Some(_), _) => {
                    let (who, callback) = rest.rsplit_once('.').unwrap_or(("", rest));
                    let found = script.setup.named(who).with_context(|| line.to_owned())?;
                    script.setup.add_line(&format!("on {callback}"), Some(&found));
                    players = Some(found);
                }
                (_, Some(_), Some(players)) => script.setup.add_line(line, Some(players)),
                (_, Some(case), None) => case.client.push(line.to_owned()),
                (_, None, _) => script.setup.learn(first, rest)?,
            }
        }
        for filter in &mut script.setup.filters {
            if let Some(own) = filter.option("configuration").map(str::to_owned) {
                filter.configuration = own;
            }
        }
        // Roots play too, but nobody sends them anything.
        script.cases.retain(|case| case.name != "root");
        Ok(script)
    }
}

impl Setup {
    fn learn(&mut self, first: &str, rest: &str) -> Result<()> {
        match (first, rest) {
            ("filter", rest) => {
                let mut words = rest.split_whitespace();
                let name = words.next().context("a filter's name")?;
                let module = words.next().context("a filter's module")?;
                let option = |word: &str| {
                    let (name, value) = word.split_once('=').context("an option's value")?;
                    Ok((name.to_owned(), String::from_utf8(unescaped(value))?))
                };
                let options = words.map(option).collect::<Result<_>>()?;
                self.filters.push(Filter::new(name, module, options));
            }
            ("upstream", "http2") => self.is_upstream_http2 = true,
            ("network", "") => self.is_network = true,
            ("logs", "all") => self.logs_all = true,
            ("cluster", rest) => {
                let (name, who) = rest.split_once(' ').context("whom it leads to")?;
                self.clusters.push((name.to_owned(), who == "origin"));
            }
            (first, rest) => bail!("no sense in: {first} {rest}"),
        }
        Ok(())
    }

    fn need_filter(&mut self) {
        if self.filters.is_empty() {
            self.filters.push(Filter::new("one", "puppet", Vec::new()));
        }
    }

    fn named(&self, who: &str) -> Result<Vec<usize>> {
        let places = 0..self.filters.len();
        let found: Vec<_> =
            places.filter(|at| who.is_empty() || self.is_called(*at, who)).collect();
        if found.is_empty() { bail!("there is no filter {who}") } else { Ok(found) }
    }

    fn is_called(&self, place: usize, who: &str) -> bool {
        self.filters.get(place).is_some_and(|filter| filter.name == who)
    }

    fn add_line(&mut self, line: &str, places: Option<&[usize]>) {
        for (place, filter) in self.filters.iter_mut().enumerate() {
            if places.is_none_or(|places| places.contains(&place)) {
                filter.configuration.push_str(line);
                filter.configuration.push('\n');
            }
        }
    }
}

impl Filter {
    /// A filter of a module: a guest's name, or a path.
    pub(crate) fn new(name: &str, module: &str, options: Vec<(String, String)>) -> Self {
        let (name, module) = (name.to_owned(), module.to_owned());
        Self { name, module, options, configuration: String::new() }
    }

    /// The file of its module.
    pub(crate) fn file(&self) -> Result<PathBuf> {
        if self.module.contains('/') {
            Ok(self.module.clone().into())
        } else {
            parts::guest(&self.module)
        }
    }

    /// An option's value.
    pub(crate) fn option(&self, name: &str) -> Option<&str> {
        self.options.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
