//! Walks the parsed TOML: each value knows its dotted key and its line, and says itself what is wrong with it.
//!
//! A reader answers `None` where it has reported a fault; the caller goes on with a default, so that one run finds
//! all faults. Nothing here knows what a key means.

use super::fault::Fault;
use super::keys::{self, Keys};
use super::report::{Problem, Report};
use super::{forms, nearest};
use std::path::PathBuf;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Where something stands in the file.
#[derive(Clone)]
pub(super) struct Place<'a> {
    report: &'a Report,
    key: String,
    line: usize,
}

/// A value and its place.
#[derive(Clone)]
pub(super) struct Value<'a> {
    pub place: Place<'a>,
    value: &'a DeValue<'a>,
}

/// A table whose keys are all known ones.
#[derive(Clone)]
pub(super) struct Table<'a> {
    pub place: Place<'a>,
    keys: Keys,
    entries: &'a DeTable<'a>,
}

/// Whether a duration may be nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Zero {
    /// With what it means, or why it is harmless.
    Allowed,
    Refused,
}

impl<'a> Place<'a> {
    /// The file as a whole.
    pub fn file(report: &'a Report) -> Place<'a> {
        Place { report, key: String::new(), line: 1 }
    }

    pub fn key(&self) -> &str {
        &self.key
    }

    pub fn line(&self) -> usize {
        self.line
    }

    pub fn fault(&self, message: impl AsRef<str>, help: impl AsRef<str>) {
        self.report.push(Fault::config(&self.key, message.as_ref(), help.as_ref()).on_line(self.known_line()));
    }

    pub fn warn(&self, message: impl AsRef<str>, help: impl AsRef<str>) {
        self.report.push(Fault::warning(&self.key, message.as_ref(), help.as_ref()).on_line(self.known_line()));
    }

    /// The place of a key that is not there: it is missed on the line of its table.
    pub fn missing(&self, key: &str) -> Place<'a> {
        Place { key: self.join(key), ..self.clone() }
    }

    /// The same key on the line of something below it.
    pub fn on_line(&self, line: Option<usize>) -> Place<'a> {
        Place { line: line.unwrap_or(self.line), ..self.clone() }
    }

    /// Where relative paths start.
    pub fn base(&self) -> &'a std::path::Path {
        self.report.base()
    }

    /// The path of a file that stands here, made absolute; what is wrong with the file is later said here.
    pub fn resolve(&self, path: &str) -> PathBuf {
        let path = self.report.base().join(path);
        self.report.note_path(&path, &self.key, self.line);
        path
    }

    pub fn has_fault_below(&self) -> bool {
        self.report.has_fault_under(&self.key)
    }

    fn join(&self, key: &str) -> String {
        if self.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.key) }
    }

    /// The file as a whole has no line.
    fn known_line(&self) -> Option<usize> {
        Some(self.line).filter(|_| !self.key.is_empty())
    }
}

impl<'a> Value<'a> {
    /// A string without control characters: they have no place in any name, path or pattern, and would forge lines
    /// of logs.
    pub fn text(&self, wanted: &str) -> Option<&'a str> {
        let DeValue::String(text) = self.value else { return self.wrong_type("a string", wanted) };
        if text.contains(char::is_control) {
            self.place.fault("has a control character", format!("write {wanted}"));
            return None;
        }
        Some(text)
    }

    /// A string of a certain form.
    pub fn parse<T>(&self, wanted: &str, parser: impl FnOnce(&'a str) -> Result<T, Problem>) -> Option<T> {
        let text = self.text(wanted)?;
        parser(text).map_err(|problem| self.complain(problem, wanted)).ok()
    }

    /// One of these words.
    pub fn word<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let wanted = words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(" or ");
        self.parse(&wanted, |text| match choices.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => Ok(*value),
            None => Err(Problem {
                message: format!("{text:?} is not known"),
                help: nearest::nearest(text, words.iter().copied()).map(|near| format!("did you mean {near:?}?")),
            }),
        })
    }

    pub fn boolean(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(value) => Some(*value),
            _ => self.wrong_type("true or false", "true or false, without quotes"),
        }
    }

    /// For keys that take more than one type.
    pub fn is_boolean(&self) -> bool {
        self.value.is_bool()
    }

    pub fn is_integer(&self) -> bool {
        self.value.is_integer()
    }

    pub fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// The text of a string, whatever it is.
    pub fn as_text(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    /// A whole number within these bounds.
    pub fn number(&self, min: u32, max: u32) -> Option<u32> {
        let wanted = format!("a whole number from {min} to {max}, without quotes");
        let DeValue::Integer(integer) = self.value else { return self.wrong_type("a whole number", &wanted) };
        let digits = integer.as_str();
        match i64::from_str_radix(digits, integer.radix()).ok().and_then(|value| u32::try_from(value).ok()) {
            Some(value) if (min..=max).contains(&value) => Some(value),
            _ => {
                self.place.fault(format!("{integer} is out of range"), format!("write {wanted}"));
                None
            }
        }
    }

    pub fn duration(&self, zero: Zero) -> Option<Duration> {
        let duration = self.parse("a duration in quotes, such as \"500ms\", \"10m\" or \"1h30m\"", forms::duration)?;
        if duration.is_zero() && zero == Zero::Refused {
            self.place.fault("may not be zero", "write a duration above zero, such as \"10s\"");
            return None;
        }
        Some(duration)
    }

    /// A number of bytes within these bounds.
    pub fn size(&self, min: u64, max: u64) -> Option<u64> {
        let size = self.parse("a size in quotes, such as \"64KiB\", \"1MiB\" or \"4096\"", forms::size)?;
        if !(min..=max).contains(&size) {
            let help = format!("write a size from {min} to {max} bytes");
            self.place.fault(format!("{size} bytes is out of range"), help);
            return None;
        }
        Some(size)
    }

    /// A path, made absolute from the directory of the file.
    pub fn path(&self) -> Option<PathBuf> {
        self.parse("a path in quotes", |text| {
            if text.is_empty() {
                return Err(Problem::from("is empty"));
            }
            Ok(self.place.resolve(text))
        })
    }

    /// Paths. One alone may stand without brackets.
    pub fn paths(&self) -> Option<Vec<PathBuf>> {
        let values = self.texts("a list of paths, such as [\"ca.pem\"]")?;
        values.iter().map(Value::path).collect()
    }

    /// A list of strings; one alone may stand without brackets.
    pub fn texts(&self, wanted: &str) -> Option<Vec<Value<'a>>> {
        if self.value.is_str() {
            return Some(vec![self.clone()]);
        }
        self.list(wanted)
    }

    pub fn list(&self, wanted: &str) -> Option<Vec<Value<'a>>> {
        match self.value {
            DeValue::Array(values) => Some(self.elements(values.iter(), Numbered::Always)),
            _ => self.wrong_type("a list", wanted),
        }
    }

    pub fn table(&self, keys: Keys) -> Option<Table<'a>> {
        match self.value {
            DeValue::Table(entries) => Some(Table::open(self.place.clone(), keys, entries)),
            _ => self.wrong_type("a table", &format!("[{}] and its keys below it", keys.0)),
        }
    }

    /// A table in braces, an element of a list.
    pub fn inline(&self, keys: Keys, wanted: &str) -> Option<Table<'a>> {
        match self.value {
            DeValue::Table(entries) => Some(Table::open(self.place.clone(), keys, entries)),
            _ => self.wrong_type("a table in braces", wanted),
        }
    }

    /// An array of tables; a lone one needs no number in its key.
    pub fn tables(&self, keys: Keys) -> Option<Vec<Table<'a>>> {
        let header = format!("[[{}]], with two brackets, and its keys below it", keys.0);
        let DeValue::Array(values) = self.value else { return self.wrong_type("an array of tables", &header) };
        Some(self.elements(values.iter(), Numbered::Several).iter().filter_map(|element| element.table(keys)).collect())
    }

    pub fn complain(&self, problem: Problem, wanted: &str) {
        self.place.fault(problem.message, problem.help.unwrap_or_else(|| format!("write {wanted}")));
    }

    /// The values below this one at a path of keys, through every element of arrays on the way.
    fn find(self, path: &[&str], found: &mut Vec<Value<'a>>) {
        let Some((key, rest)) = path.split_first() else { return found.push(self) };
        match self.value {
            DeValue::Table(entries) => {
                if let Some((name, value)) = entries.get_key_value(*key) {
                    entry(&self.place, name, value).find(rest, found);
                }
            }
            DeValue::Array(values) => {
                for element in self.elements(values.iter(), Numbered::Several) {
                    element.find(path, found);
                }
            }
            _ => {}
        }
    }

    fn wrong_type<T>(&self, should: &str, wanted: &str) -> Option<T> {
        let is = match self.value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a fraction",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.place.fault(format!("is {is}, and should be {should}"), format!("write {wanted}"));
        None
    }

    fn elements(
        &self,
        values: impl ExactSizeIterator<Item = &'a Spanned<DeValue<'a>>>,
        numbered: Numbered,
    ) -> Vec<Value<'a>> {
        let count = values.len();
        values
            .enumerate()
            .map(|(index, spanned)| {
                let key = match numbered {
                    Numbered::Several if count == 1 => self.place.key.clone(),
                    _ => format!("{}[{index}]", self.place.key),
                };
                let line = self.place.report.line_of(spanned.span().start);
                Value { place: Place { report: self.place.report, key, line }, value: spanned.get_ref() }
            })
            .collect()
    }
}

/// Whether an element's key carries its index, counted from 0.
#[derive(Clone, Copy)]
enum Numbered {
    Always,
    Several,
}

impl<'a> Table<'a> {
    /// The whole file.
    pub fn root(report: &'a Report, entries: &'a DeTable<'a>) -> Table<'a> {
        Table::open(Place::file(report), keys::ROOT, entries)
    }

    /// The value of a key that this table may have.
    pub fn get(&self, key: &str) -> Option<Value<'a>> {
        debug_assert!(self.keys.1.contains(&key), "{key} stands in keys.rs");
        let (name, value) = self.entries.get_key_value(key)?;
        Some(entry(&self.place, name, value))
    }

    /// Where a key stands, or would stand. The key may be a dotted path into tables below.
    pub fn place_of(&self, path: &str) -> Place<'a> {
        self.find(path).pop().map_or_else(|| self.place.missing(path), |value| value.place)
    }

    /// Puts what a key says into `field`, which holds its default.
    pub fn set<T>(&self, field: &mut T, key: &str, read: impl FnOnce(Value<'a>) -> Option<T>) {
        if let Some(value) = self.get(key).and_then(read) {
            *field = value;
        }
    }

    /// The value of a key that must be there.
    pub fn demand(&self, key: &str, help: &str) -> Option<Value<'a>> {
        let value = self.get(key);
        if value.is_none() {
            self.place.missing(key).fault("is missing", help);
        }
        value
    }

    /// The tables below a key, none if it is absent.
    pub fn tables(&self, key: &str, keys: Keys) -> Vec<Table<'a>> {
        self.get(key).and_then(|value| value.tables(keys)).unwrap_or_default()
    }

    /// Every value at a dotted path without indices, for checks that know no meaning.
    pub fn find(&self, path: &str) -> Vec<Value<'a>> {
        let path: Vec<&str> = path.split('.').collect();
        let mut found = Vec::new();
        if let Some((name, value)) = self.entries.get_key_value(path[0]) {
            entry(&self.place, name, value).find(&path[1..], &mut found);
        }
        found
    }

    fn open(place: Place<'a>, keys: Keys, entries: &'a DeTable<'a>) -> Table<'a> {
        for (name, value) in entries {
            if !keys.1.contains(&name.get_ref().as_ref()) {
                let unknown = entry(&place, name, value);
                unknown.place.fault("is not a known key", keys::advice_for(name.get_ref(), keys));
            }
        }
        Table { place, keys, entries }
    }
}

fn entry<'a>(
    table: &Place<'a>,
    name: &'a Spanned<std::borrow::Cow<'a, str>>,
    value: &'a Spanned<DeValue<'a>>,
) -> Value<'a> {
    let report = table.report;
    let key = table.join(&name.get_ref().escape_debug().to_string());
    Value { place: Place { report, key, line: report.line_of(name.span().start) }, value: value.get_ref() }
}
