//! The page of one run: the figures, the latency curve, what failed, what to know.

use crate::load::page::Page;
use crate::load::page::curve::{Line, curve};
use crate::load::report::Report;
use crate::load::units::{self, three_digits};

/// The page of a single run.
pub fn single(report: &Report) -> String {
    let mut page = Page::open(&format!("{} to {}", report.scenario, report.target));
    page.element("h1", "", &format!("{} to {}", report.scenario, report.target));
    let tls = report
        .negotiated
        .as_ref()
        .map_or_else(String::new, |n| format!("TLS {} {} {}", n.version, n.cipher, n.group.as_deref().unwrap_or("-")));
    page.element("p", "soft", &tls);
    let settings = &report.settings;
    let pace = match settings.rate_per_second {
        Some(rate) => format!("open loop at {} /s, latency from the intended start", three_digits(rate)),
        None if settings.closed_loop => "closed loop".to_owned(),
        None => "held".to_owned(),
    };
    let line = format!(
        "{pace}; {} connections, {} {}, {:.2} s",
        settings.connections,
        settings.threads,
        if settings.threads == 1 { "thread" } else { "threads" },
        report.elapsed_seconds
    );
    page.element("p", "soft", &line);
    page.notes(&report.notes);
    facts(&mut page, report);
    latency(&mut page, report);
    kinds(&mut page, report);
    failures(&mut page, report);
    page.tags("<footer>").element("p", "", &format!("{} {}", report.program, report.version)).tags("</footer>\n");
    page.close()
}

fn fact(page: &mut Page, value: &str, name: &str) {
    page.tags("<div><b>").text(value).tags("</b><span>").text(name).tags("</span></div>\n");
}

fn facts(page: &mut Page, report: &Report) {
    page.tags("<section class=\"card facts\">\n");
    fact(page, &units::count(report.operations), report.operation);
    if report.settings.closed_loop || report.settings.rate_per_second.is_some() {
        fact(page, &three_digits(report.operations_per_second), "a second");
    }
    fact(page, &units::count(report.errors), "errors");
    if report.resumed > 0 {
        fact(page, &units::count(report.resumed), "resumed");
    }
    let seconds = report.elapsed_seconds.max(1e-9);
    for (bytes, name) in [(report.bytes_in, "in a second"), (report.bytes_out, "out a second")] {
        if bytes > 0 {
            fact(page, &units::bytes(bytes as f64 / seconds), name);
        }
    }
    if let Some(server) = &report.server {
        if let Some(cost) = &server.cpu_us_per_operation {
            let split = format!(
                "µs of the server's CPU each (user {}, system {})",
                three_digits(cost.user),
                three_digits(cost.system)
            );
            fact(page, &three_digits(cost.total), &split);
        }
        if let Some(cost) = server.cpu_seconds_per_gib {
            fact(page, &format!("{cost:.2} s"), "of the server's CPU a GiB");
        }
        if let Some(each) = &server.memory_per_connection {
            fact(page, &units::bytes(each.rss as f64), "of the server's memory a connection");
        }
        fact(page, &format!("{:.2}", server.usage.cores), "cores that the server used");
    }
    if let Some(paths) = report.paths {
        fact(page, &paths.words(), "path of the server's bytes");
    }
    let busy = format!("{:.0} %", 100.0 * report.harness.busiest_thread_share);
    fact(page, &busy, "of a CPU, the harness's busiest thread");
    page.tags("</section>\n");
}

fn latency(page: &mut Page, report: &Report) {
    let Some(l) = &report.latency_us else { return };
    page.tags("<section class=\"card\">\n<h2>Latency</h2>\n<div class=\"split\">\n");
    curve(page, &[Line { name: &report.scenario, colour: 0, points: &report.latency_curve }]);
    page.tags("<table>\n<tbody>\n");
    for (name, value) in l.rows() {
        page.tags("<tr><td>").text(name).tags("</td><td>").text(&units::micros(value)).tags("</td></tr>\n");
    }
    page.tags("</tbody>\n</table>\n</div>\n</section>\n");
}

fn kinds(page: &mut Page, report: &Report) {
    if report.clients.is_empty() {
        return;
    }
    page.tags(
        "<section class=\"card\">\n<h2>Clients</h2>\n<div class=\"scroll\"><table>\n<thead><tr><th></th><th>done</th>",
    );
    page.tags("<th>p50</th><th>p99</th><th>ended or failed</th></tr></thead>\n<tbody>\n");
    for kind in &report.clients {
        page.tags("<tr><td>").text(kind.kind).tags("</td><td>").text(&units::count(kind.operations));
        for us in [kind.latency_us.map(|l| l.p50), kind.latency_us.map(|l| l.p99)] {
            page.tags("</td><td>").text(&us.map(|us| units::micros(us as f64)).unwrap_or_default());
        }
        let ends = kind.endings.iter().chain(&kind.errors_by_kind);
        let ends: Vec<String> = ends.map(|(name, n)| format!("{name} {}", units::count(*n))).collect();
        page.tags("</td><td>").text(&ends.join(", ")).tags("</td></tr>\n");
    }
    page.tags("</tbody></table></div>\n</section>\n");
}

fn failures(page: &mut Page, report: &Report) {
    let rows: Vec<(String, u64)> = report
        .errors_by_kind
        .iter()
        .map(|(kind, n)| (kind.clone(), *n))
        .chain(report.prepare_errors_by_kind.iter().map(|(kind, n)| (format!("{kind} (while connecting)"), *n)))
        .collect();
    if rows.is_empty() {
        return;
    }
    page.tags("<section class=\"card\">\n<h2>Errors</h2>\n<table>\n<tbody>\n");
    for (kind, n) in rows {
        page.tags("<tr><td>").text(&kind).tags("</td><td>").text(&units::count(n)).tags("</td></tr>\n");
    }
    page.tags("</tbody>\n</table>\n");
    if let Some(example) = &report.error_example {
        page.element("p", "soft", &format!("e.g. {example}"));
    }
    page.tags("</section>\n");
}
