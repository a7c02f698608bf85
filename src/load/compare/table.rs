//! A comparison for the terminal.

use std::fmt::Write;

use crate::load::compare::report::{Comparison, Entry, Row};
use crate::load::compare::scenario::Unit;
use crate::load::units::{self, three_digits};

/// One block a scenario.
pub fn table(comparison: &Comparison) -> String {
    let mut text = String::new();
    let machine = &comparison.machine;
    let settings = &comparison.settings;
    line(
        &mut text,
        &format!(
            "{}, Linux {}; servers on CPU {}, generator and backend on {:?}",
            machine.cpu, machine.kernel, machine.server_cpu, machine.generator_cpus
        ),
    );
    line(&mut text, &format!("TLS {} {} {}, {}", settings.tls, settings.cipher, settings.group, settings.certificates));
    for row in &comparison.scenarios {
        text.push('\n');
        scenario(&mut text, row);
    }
    for missing in &comparison.missing {
        line(&mut text, &format!("\nwithout {}: {}", missing.name, missing.why));
    }
    if !comparison.notes.is_empty() {
        text.push('\n');
    }
    for note in &comparison.notes {
        line(&mut text, &format!("note: {note}"));
    }
    text
}

fn scenario(text: &mut String, row: &Row) {
    let floor = row.floor_figure.map(|f| format!("; floor {} ({})", three_digits(f), row.floor_of)).unwrap_or_default();
    line(text, &format!("{}: {}; {}{floor}", row.name, row.title, row.unit.label()));
    let base = row.entries.first().map_or("", |entry| entry.peer.as_str());
    if !row.entries.is_empty() {
        let beside = if row.unit == Unit::KibPerConnection { "" } else { "user / system" };
        line(
            text,
            &format!(
                "  {:<14}{:>9}  {:<20}{:<18}{:>8}  {:<24}{:>12}{:>10}  {}",
                "",
                "median",
                "least to most",
                beside,
                "× floor",
                format!("× {base}"),
                rate_name(row.unit),
                "p99",
                "server / generator"
            ),
        );
    }
    for entry in &row.entries {
        self::entry(text, row, entry);
    }
    for left in &row.left_out {
        line(text, &format!("  {:<14}left out: {}", left.name, left.why));
    }
}

fn entry(text: &mut String, row: &Row, entry: &Entry) {
    let range = format!("{} to {}", three_digits(entry.figure.min), three_digits(entry.figure.max));
    let split = match row.unit {
        Unit::KibPerConnection => String::new(),
        _ => format!("{} / {}", three_digits(entry.user), three_digits(entry.system)),
    };
    let floor = entry.of_floor.map(|of| format!("{of:.2}")).unwrap_or_default();
    let ratio = entry.ratio.map_or("1".to_owned(), |r| format!("{:.2} ({:.2} to {:.2})", r.median, r.min, r.max));
    let cores = format!("{:.2} / {:.2} cores", entry.server_cores, entry.generator_cores);
    let line_text = format!(
        "  {:<14}{:>9}  {range:<20}{split:<18}{floor:>8}  {ratio:<24}{:>12}{:>10}  {cores}",
        entry.peer,
        three_digits(entry.figure.median),
        rate(row.unit, entry),
        units::micros(entry.p99_us as f64),
    );
    line(text, &line_text);
    for note in &entry.notes {
        line(text, &format!("  {:<14}{note}", ""));
    }
}

fn rate_name(unit: Unit) -> &'static str {
    match unit {
        Unit::MicrosPerOperation => "a second",
        Unit::MillisPerGib => "bytes/s",
        Unit::KibPerConnection => "",
    }
}

/// Throughput, which says least of all.
fn rate(unit: Unit, entry: &Entry) -> String {
    match unit {
        Unit::MicrosPerOperation => units::count(entry.operations_per_second as u64),
        Unit::MillisPerGib => units::bytes(entry.bytes_per_second),
        Unit::KibPerConnection => String::new(),
    }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{}", line.trim_end()).expect("writing to a string does not fail");
}
