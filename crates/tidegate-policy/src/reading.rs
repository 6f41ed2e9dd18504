//! Where we are in a document's tree, and the reading of single values there.
//!
//! Whoever reads documents of one kind (policies, tests of policies) is a [`Reader`]. Each
//! reading returns `None` after it has told an error, so that the caller can go on wherever
//! going on can find more.

use crate::diagnostic::{DIAGNOSTICS_MAX, Diagnostic, Severity, found, hinted, quoted};
use crate::spelling::{self, NoNetwork};
use crate::text::{Document, Field, Mark, Node, Value};
use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use tidegate_core::policy::{Cidr, NAME_BYTES_MAX, TEXT_BYTES_MAX};
use tidegate_core::time::Span;

/// The most fields of one map: more than any has, so that looking for duplicates one by
/// one stays cheap.
const FIELDS_MAX: usize = 64;

/// A value and the way to it. Ways are linked through the stack and written out only for
/// a diagnostic.
#[derive(Clone, Copy)]
pub struct Spot<'a> {
    /// The value.
    pub node: &'a Node,
    mark: Option<Mark>,
    above: Option<(&'a Spot<'a>, Step<'a>)>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Field(&'a str),
    Item(usize),
}

impl<'a> Spot<'a> {
    /// A document's outermost value.
    pub fn root(document: &'a Document) -> Self {
        Self { node: &document.root, mark: document.root.mark, above: None }
    }

    /// A field of the map that is here; of duplicates the first.
    pub fn field(&'a self, name: &str) -> Option<Self> {
        let Value::Map(fields) = &self.node.value else { return None };
        fields.iter().find(|field| *field.name == *name).map(|field| self.held_by(field))
    }

    /// The text that is here, if it is one.
    pub fn text(&self) -> Option<&'a str> {
        match &self.node.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Where it stood, or what holds it, if the document's reader knew.
    pub fn mark(&self) -> Option<Mark> {
        self.mark
    }

    fn held_by(&'a self, field: &'a Field) -> Self {
        let mark = field.node.mark.or(field.mark);
        Self { node: &field.node, mark, above: Some((self, Step::Field(&field.name))) }
    }

    fn item(&'a self, index: usize, node: &'a Node) -> Self {
        Self { node, mark: node.mark.or(self.mark), above: Some((self, Step::Item(index))) }
    }

    fn path(&self) -> String {
        let Some((above, step)) = self.above else { return String::new() };
        let mut path = above.path();
        match step {
            Step::Item(index) => path.push_str(&format!("[{index}]")),
            Step::Field(name) => push_field(&mut path, name),
        }
        path
    }
}

/// Adds `.name`, or `["na me"]` for a name that would read as something else.
fn push_field(path: &mut String, name: &str) {
    if !spelling::is_token(name) || name.contains(['.', '`', '|', '\'']) || name.len() > 64 {
        path.push('[');
        path.push_str(&quoted(name));
        path.push(']');
        return;
    }
    if !path.is_empty() {
        path.push('.');
    }
    path.push_str(name);
}

/// Whoever reads documents of one kind, and tells what is wrong with them.
///
/// All but [`Reader::diagnostics`] is given.
pub trait Reader: Sized {
    /// Where diagnostics are gathered.
    fn diagnostics(&mut self) -> &mut Vec<Diagnostic>;

    /// An error about the value at `spot`.
    fn wrong(&mut self, spot: &Spot<'_>, wanted: fmt::Arguments<'_>) {
        self.wrong_found(spot, &found(spot.node), wanted, None);
    }

    /// An error, with words for what was found and perhaps a hint.
    fn wrong_found(
        &mut self,
        spot: &Spot<'_>,
        found: &str,
        wanted: fmt::Arguments<'_>,
        hint: Option<String>,
    ) {
        tell(self, Severity::Error, spot.path(), spot.mark, found, wanted, hint);
    }

    /// A warning.
    fn doubt(
        &mut self,
        spot: &Spot<'_>,
        found: &str,
        wanted: fmt::Arguments<'_>,
        hint: Option<String>,
    ) {
        tell(self, Severity::Warning, spot.path(), spot.mark, found, wanted, hint);
    }

    /// An error about a field that the map at `spot` lacks.
    fn missing(
        &mut self,
        spot: &Spot<'_>,
        name: &str,
        wanted: fmt::Arguments<'_>,
        hint: Option<String>,
    ) {
        let mut path = spot.path();
        push_field(&mut path, name);
        tell(self, Severity::Error, path, spot.mark, "nothing", wanted, hint);
    }

    /// Checks that a map is here and that it has only `known` fields, each once. Unknown
    /// ones are told, and reading can go on.
    fn fields(&mut self, spot: &Spot<'_>, known: &[&str]) -> Option<()> {
        let Value::Map(fields) = &spot.node.value else {
            self.wrong(spot, format_args!("a map of {}", known.join(", ")));
            return None;
        };
        for field in distinct(self, spot, fields)? {
            if !known.contains(&&*field.name) {
                let mut here = spot.held_by(field);
                here.mark = field.mark;
                let hint = did_you_mean(spelling::nearest(&field.name, known));
                let wanted = format_args!("one of {}", known.join(", "));
                self.wrong_found(&here, "a field that is not known here", wanted, hint);
            }
        }
        Some(())
    }

    /// The fields of a map whose names are the document's own, by name: maps have no order,
    /// and what writes JSON or a protobuf in between may change it.
    fn entries<'s>(
        &mut self,
        spot: &'s Spot<'s>,
        wanted: &str,
    ) -> Option<Vec<(&'s str, Spot<'s>)>> {
        let Value::Map(fields) = &spot.node.value else {
            self.wrong(spot, format_args!("{wanted}"));
            return None;
        };
        let mut entries: Vec<(&str, Spot<'_>)> = Vec::new();
        for field in distinct(self, spot, fields)? {
            let later = entries.iter().position(|(name, _)| **name > *field.name);
            entries.insert(later.unwrap_or(entries.len()), (&field.name, spot.held_by(field)));
        }
        Some(entries)
    }

    /// The items of a list.
    fn items<'s>(&mut self, spot: &'s Spot<'s>, most: usize, what: &str) -> Option<Vec<Spot<'s>>> {
        let Value::List(nodes) = &spot.node.value else {
            self.wrong(spot, format_args!("a list of {what}"));
            return None;
        };
        if nodes.len() > most {
            let found = format!("{} of them", nodes.len());
            self.wrong_found(spot, &found, format_args!("at most {most} {what}"), None);
            return None;
        }
        Some(nodes.iter().enumerate().map(|(index, node)| spot.item(index, node)).collect())
    }

    /// The items of a list, or the one value that stands for a list of it.
    fn one_or_more<'s>(
        &mut self,
        spot: &'s Spot<'s>,
        most: usize,
        what: &str,
    ) -> Option<Vec<Spot<'s>>> {
        match spot.node.value {
            Value::List(_) => self.items(spot, most, what),
            _ => Some(alloc::vec![*spot]),
        }
    }

    /// Reads each of the spots; all of them, so that every error is told.
    fn every<T>(
        &mut self,
        spots: &[Spot<'_>],
        mut read: impl FnMut(&mut Self, &Spot<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let mut all = Vec::new();
        for spot in spots {
            all.extend(read(self, spot));
        }
        (all.len() == spots.len()).then_some(all)
    }

    /// Reads a field that may be left out.
    fn optional<T>(
        &mut self,
        spot: &Spot<'_>,
        name: &str,
        default: T,
        read: impl FnOnce(&mut Self, &Spot<'_>) -> Option<T>,
    ) -> Option<T> {
        match spot.field(name) {
            Some(inner) => read(self, &inner),
            None => Some(default),
        }
    }

    /// Reads a field that may not be left out.
    fn required<T>(
        &mut self,
        spot: &Spot<'_>,
        name: &str,
        wanted: &str,
        read: impl FnOnce(&mut Self, &Spot<'_>) -> Option<T>,
    ) -> Option<T> {
        match spot.field(name) {
            Some(inner) => read(self, &inner),
            None => {
                self.missing(spot, name, format_args!("{wanted}"), None);
                None
            }
        }
    }

    /// `true` or `false`.
    fn flag(&mut self, spot: &Spot<'_>) -> Option<bool> {
        if let Value::Bool(flag) = spot.node.value {
            return Some(flag);
        }
        self.wrong(spot, format_args!("true or false"));
        None
    }

    /// A whole number within bounds, both included.
    fn whole(&mut self, spot: &Spot<'_>, (least, most): (u32, u32)) -> Option<u32> {
        if let Value::Whole(number) = spot.node.value
            && let Ok(number) = u32::try_from(number)
            && (least..=most).contains(&number)
        {
            return Some(number);
        }
        self.wrong(spot, format_args!("a whole number from {least} to {most}"));
        None
    }

    /// One of several words.
    fn choice<T: Copy>(&mut self, spot: &Spot<'_>, of: &[(&str, T)]) -> Option<T> {
        let place = self.word(spot, &mut of.iter().map(|(word, _)| *word))?;
        of.get(place).map(|(_, meant)| *meant)
    }

    /// The place of the word that is here among `words`.
    fn word(&mut self, spot: &Spot<'_>, words: &mut dyn Iterator<Item = &str>) -> Option<usize> {
        let words: Vec<&str> = words.collect();
        let typed = spot.text().unwrap_or_default();
        let place = words.iter().position(|word| *word == typed);
        if place.is_none() {
            let hint = did_you_mean(spelling::nearest(typed, &words));
            let wanted = format_args!("one of {}", words.join(", "));
            self.wrong_found(spot, &found(spot.node), wanted, hint);
        }
        place
    }

    /// A text of at most [`TEXT_BYTES_MAX`] bytes without control characters, which no
    /// header, cookie or property path can hold.
    fn text<'s>(&mut self, spot: &Spot<'s>, wanted: &str) -> Option<&'s str> {
        let Some(text) = spot.text() else {
            let quote =
                matches!(spot.node.value, Value::Bool(_) | Value::Whole(_) | Value::Fraction(_));
            let hint = quote.then(|| "put it in quotes to make it a text".into());
            self.wrong_found(spot, &found(spot.node), format_args!("{wanted}"), hint);
            return None;
        };
        if text.len() > TEXT_BYTES_MAX {
            let wanted = format_args!("at most {TEXT_BYTES_MAX} bytes of text");
            self.wrong(spot, wanted);
            return None;
        }
        if text.chars().any(char::is_control) {
            self.wrong(spot, format_args!("text without control characters"));
            return None;
        }
        Some(text)
    }

    /// A text that is not empty: a cluster's name, an element of a property's path.
    fn element(&mut self, spot: &Spot<'_>) -> Option<Box<str>> {
        let text = self.text(spot, "a text")?;
        if text.is_empty() {
            self.wrong(spot, format_args!("a text that is not empty"));
            return None;
        }
        Some(text.into())
    }

    /// The name of a limit or of the domain.
    fn name(&mut self, spot: &Spot<'_>) -> Option<Box<str>> {
        let text = self.text(spot, "a name")?;
        if spelling::is_name(text) {
            return Some(text.into());
        }
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
        let meant: String = text.to_ascii_lowercase().chars().map(plain).collect();
        let meant = meant.trim_matches('-');
        let hint = spelling::is_name(meant).then(|| format!("write {meant}"));
        let wanted = format_args!("a name: 1 to {NAME_BYTES_MAX} of a-z, 0-9, _ and -");
        self.wrong_found(spot, &found(spot.node), wanted, hint);
        None
    }

    /// A header's name, lower-cased.
    fn header_name(&mut self, spot: &Spot<'_>) -> Option<Box<str>> {
        let text = self.text(spot, "a header's name")?;
        self.header_named(text, spot)
    }

    /// The same for a name that is a map's field.
    fn header_named(&mut self, name: &str, spot: &Spot<'_>) -> Option<Box<str>> {
        if spelling::is_token(name) && name.len() <= TEXT_BYTES_MAX {
            return Some(name.to_ascii_lowercase().into());
        }
        let hint = match name {
            ":path" => Some("path has a word of its own: path".into()),
            ":method" => Some("the method has a word of its own: method".into()),
            ":authority" => Some("the host has a word of its own: host".into()),
            _ => None,
        };
        self.wrong_found(spot, &quoted(name), format_args!("a header's name, as x-tenant"), hint);
        None
    }

    /// A cookie's name.
    fn cookie_named(&mut self, name: &str, spot: &Spot<'_>) -> Option<Box<str>> {
        if spelling::is_token(name) && name.len() <= TEXT_BYTES_MAX {
            return Some(name.into());
        }
        self.wrong_found(spot, &quoted(name), format_args!("a cookie's name, as session"), None);
        None
    }

    /// A network.
    fn network(&mut self, spot: &Spot<'_>) -> Option<Cidr> {
        const WANTED: &str = "a network such as 10.0.0.0/8 or 2001:db8::/32, or an address";
        let text = self.text(spot, WANTED)?;
        let hint = match spelling::network(text) {
            Ok(network) => return Some(network),
            Err(NoNetwork::Unreadable) => None,
            Err(NoNetwork::HostBits(network)) => Some(format!("the network is {network}")),
        };
        self.wrong_found(spot, &found(spot.node), format_args!("{WANTED}"), hint);
        None
    }

    /// A duration within bounds, both included.
    fn duration(&mut self, spot: &Spot<'_>, (least, most): (Span, Span)) -> Option<Span> {
        let typed = spot.text().unwrap_or_default();
        if let Some(span) = spelling::duration(typed)
            && (least..=most).contains(&span)
        {
            return Some(span);
        }
        let hint = match spot.node.value {
            Value::Whole(number) => Some(format!("write {number}ms or {number}s")),
            _ => spelling::meant(typed)
                .filter(|meant| meant != typed)
                .map(|it| format!("write {it}")),
        };
        let wanted = format_args!("a duration from {least} to {most}, such as 20ms, 1s or 1h30m");
        self.wrong_found(spot, &found(spot.node), wanted, hint);
        None
    }
}

/// A hint at what is near to what was typed.
pub fn did_you_mean(near: Option<&str>) -> Option<String> {
    near.map(|near| format!("did you mean {near}?"))
}

fn tell(
    reader: &mut impl Reader,
    severity: Severity,
    path: String,
    mark: Option<Mark>,
    found: &str,
    wanted: fmt::Arguments<'_>,
    hint: Option<String>,
) {
    let diagnostics = reader.diagnostics();
    // Each severity has a bound of its own, so warnings cannot hide an error.
    if told(diagnostics, severity) < DIAGNOSTICS_MAX {
        let (found, wanted) = (found.into(), alloc::fmt::format(wanted));
        let hint = hint.as_deref().and_then(hinted);
        diagnostics.push(Diagnostic { severity, path, mark, found, wanted, hint });
    }
}

/// How many of this severity were told.
pub fn told(diagnostics: &[Diagnostic], severity: Severity) -> usize {
    diagnostics.iter().filter(|told| told.severity == severity).count()
}

/// The fields of a map without those that repeat a name, which are told.
fn distinct<'s>(
    reader: &mut impl Reader,
    spot: &Spot<'s>,
    fields: &'s [Field],
) -> Option<Vec<&'s Field>> {
    if fields.len() > FIELDS_MAX {
        let found = format!("{} fields", fields.len());
        reader.wrong_found(spot, &found, format_args!("at most {FIELDS_MAX}"), None);
        return None;
    }
    let mut distinct: Vec<&Field> = Vec::new();
    for field in fields {
        if distinct.iter().any(|other| other.name == field.name) {
            let mut here = spot.held_by(field);
            here.mark = field.mark;
            reader.wrong_found(&here, "the field a second time", format_args!("it once"), None);
        } else {
            distinct.push(field);
        }
    }
    Some(distinct)
}
