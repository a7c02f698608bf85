//! The page of a comparison: the ratios at a glance, then a card a scenario with bars, ranges and latency curves.

use crate::load::compare::report::{Comparison, Entry, Row};
use crate::load::compare::scenario::Unit;
use crate::load::page::curve::{Line, curve};
use crate::load::page::{Page, colour};
use crate::load::units::{self, three_digits};

/// The page of a comparison.
pub fn comparison(comparison: &Comparison) -> String {
    let names: Vec<&str> = comparison.peers.iter().map(|peer| peer.name.as_str()).collect();
    let mut page = Page::open(&format!("{} side by side", names.join(", ")));
    head(&mut page, comparison);
    glance(&mut page, comparison, &names);
    for row in &comparison.scenarios {
        card(&mut page, row, &names);
    }
    foot(&mut page, comparison);
    page.close()
}

fn head(page: &mut Page, comparison: &Comparison) {
    let (machine, settings) = (&comparison.machine, &comparison.settings);
    page.element("h1", "", "CPU per operation, side by side");
    let named = |p: &crate::load::compare::peer::Peer| format!("{} {}", p.name, p.version).trim_end().to_owned();
    page.element("p", "", &comparison.peers.iter().map(named).collect::<Vec<_>>().join(" · "));
    let kind = if machine.virtual_machine { "a virtual machine" } else { "bare metal" };
    let line = format!(
        "{}, {} CPUs, {kind}, Linux {}; servers on CPU {}, generator and backend on {:?}; {}",
        machine.cpu, machine.cpus, machine.kernel, machine.server_cpu, machine.generator_cpus, comparison.at
    );
    page.element("p", "soft", &line);
    let line = format!(
        "One worker each, TLS {} {} {}, {}; tickets on, logs off. Slices of {} s took turns; a figure is their median, the \
         whisker goes from the least to the most.",
        settings.tls, settings.cipher, settings.group, settings.certificates, settings.slice_seconds
    );
    page.element("p", "soft", &line);
    page.notes(&comparison.notes);
}

/// Scenarios by programs.
fn glance(page: &mut Page, comparison: &Comparison, names: &[&str]) {
    let base = names.first().copied().unwrap_or_default();
    page.tags("<section class=\"card\">\n<h2>").text(&format!("Cost as a multiple of {base}")).tags("</h2>\n");
    page.element("p", "unit", "Median of the ratios of slices of the same round. Above 1 it costs more.");
    page.tags("<div class=\"scroll\"><table>\n<thead><tr><th></th>");
    for name in names {
        page.tags("<th>").text(name).tags("</th>");
    }
    page.tags("</tr></thead>\n<tbody>\n");
    for row in &comparison.scenarios {
        page.tags("<tr><td>").text(row.name).tags("</td>");
        for name in names {
            match row.entries.iter().find(|entry| entry.peer == *name) {
                None => page.tags("<td class=\"soft\">–</td>"),
                Some(entry) => cell(page, row, entry),
            };
        }
        page.tags("</tr>\n");
    }
    page.tags("</tbody></table></div>\n</section>\n");
}

fn cell<'a>(page: &'a mut Page, row: &Row, entry: &Entry) -> &'a mut Page {
    match entry.ratio {
        Some(ratio) => {
            // Ahead only where no slice says otherwise.
            let class = if ratio.max < 1.0 { "ahead" } else { "" };
            let range = format!("{:.2} to {:.2}", ratio.min, ratio.max);
            page.format(format_args!("<td class=\"{class}\">{:.2} ×<small>{range}</small></td>", ratio.median))
        }
        None => {
            let unit = match row.unit {
                Unit::MicrosPerOperation => "µs",
                Unit::MillisPerGib => "ms/GiB",
                Unit::KibPerConnection => "KiB",
            };
            page.format(format_args!("<td>1<small>{} {unit}</small></td>", three_digits(entry.figure.median)))
        }
    }
}

fn card(page: &mut Page, row: &Row, names: &[&str]) {
    page.tags("<section class=\"card\">\n<h2>").text(&format!("{}: {}", row.name, row.title)).tags("</h2>\n");
    let floor = row.floor_figure.map(|f| format!("; dashed: the floor, {} ({})", three_digits(f), row.floor_of));
    let split = if row.unit == Unit::KibPerConnection { "" } else { ", full colour in user mode, pale in the kernel" };
    page.element("p", "unit", &format!("{}{split}{}", row.unit.label(), floor.unwrap_or_default()));
    page.tags("<div class=\"split\">\n<div class=\"bars\">\n");
    let most = row.entries.iter().map(|entry| entry.figure.max).fold(0.0, f64::max).max(1e-9);
    for entry in &row.entries {
        let index = names.iter().position(|name| *name == entry.peer).unwrap_or(0);
        bar(page, row, entry, most, index);
    }
    for left in &row.left_out {
        page.element("span", "name", &left.name);
        page.tags("<span class=\"wide\">").text(&format!("left out: {}", left.why)).tags("</span>\n");
    }
    page.tags("</div>\n");
    let lines: Vec<Line<'_>> = row
        .entries
        .iter()
        .map(|entry| Line {
            name: &entry.peer,
            colour: names.iter().position(|name| *name == entry.peer).unwrap_or(0),
            points: &entry.latency_curve,
        })
        .collect();
    // How long a MiB or a connection among a thousand took says little of a program.
    if row.unit == Unit::MicrosPerOperation {
        curve(page, &lines);
    }
    page.tags("</div>\n</section>\n");
}

/// A row of three cells: name, bar, figures.
fn bar(page: &mut Page, row: &Row, entry: &Entry, most: f64, index: usize) {
    page.element("span", "name", &entry.peer);
    let (figure, fill) = (&entry.figure, colour(index));
    let at = |value: f64| 100.0 * value / most;
    // User and system are medians of their own: the bar's length is the figure's, their share divides it.
    let total = entry.user + entry.system;
    let user = if total > 0.0 { at(figure.median) * entry.user / total } else { at(figure.median) };
    let system = at(figure.median) - user;
    page.tags("<svg viewBox=\"0 0 100 24\" preserveAspectRatio=\"none\" role=\"img\"><title>");
    page.text(&format!("{} {} {}", entry.peer, three_digits(figure.median), row.unit.label())).tags("</title>");
    page.format(format_args!(
        "<rect class=\"user\" x=\"0\" y=\"3\" width=\"{user:.2}\" height=\"18\" style=\"fill:{fill}\"/>\
         <rect class=\"system\" x=\"{user:.2}\" y=\"3\" width=\"{system:.2}\" height=\"18\" style=\"fill:{fill}\"/>"
    ));
    let (low, high) = (at(figure.min), at(figure.max));
    page.format(format_args!("<path class=\"whisker\" d=\"M{low:.2} 12H{high:.2}M{low:.2} 7V17M{high:.2} 7V17\"/>"));
    if let Some(floor) = row.floor_figure.map(at).filter(|floor| *floor <= 100.0) {
        page.format(format_args!("<path class=\"floor\" d=\"M{floor:.2} 0V24\"/>"));
    }
    page.tags("</svg>\n<span class=\"value\">").text(&three_digits(figure.median)).tags("<small>");
    let beside = match (entry.ratio, entry.of_floor) {
        (Some(ratio), _) => format!("{:.2} ×", ratio.median),
        (None, Some(of_floor)) => format!("{of_floor:.1} × floor"),
        (None, None) => String::new(),
    };
    page.text(&beside).tags("</small></span>\n");
    let cores = format!("{:.2} cores, generator {:.2}", entry.server_cores, entry.generator_cores);
    let rate = match row.unit {
        Unit::MicrosPerOperation => format!("{} /s, {cores}", units::count(entry.operations_per_second as u64)),
        Unit::MillisPerGib => format!("{} /s, {cores}", units::bytes(entry.bytes_per_second)),
        Unit::KibPerConnection => String::new(),
    };
    let told: Vec<&str> = std::iter::once(rate.as_str()).chain(entry.notes.iter().map(String::as_str)).collect();
    let told = told.into_iter().filter(|t| !t.is_empty()).collect::<Vec<_>>().join("; ");
    if !told.is_empty() {
        page.element("span", "wide", &told);
    }
}

fn foot(page: &mut Page, comparison: &Comparison) {
    page.tags("<footer>\n");
    for missing in &comparison.missing {
        page.element("p", "", &format!("Without {}: {}", missing.name, missing.why));
    }
    page.element(
        "p",
        "",
        "CPU time is the scheduler's count of the server's processes over what the generator counted. Latencies of a closed loop \
         are little more than the reciprocal of the throughput; those of the open loop count from the intended start.",
    );
    page.element("p", "", &format!("{} {}", comparison.program, comparison.version));
    page.tags("</footer>\n");
}
