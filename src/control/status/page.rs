//! `/status` as a page for people: no script, nothing from elsewhere, light and dark, wide and narrow. Every text in it
//! is escaped, whoever chose it.

use super::{BackendStatus, Expiry, Status, in_days};
use std::fmt::{self, Display, Write};
use std::time::Duration;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8884;--soft:#8882;--bad:#c22;--good:#283}\
@media(prefers-color-scheme:dark){:root{--bad:#f77;--good:#7c8}}\
body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;padding:1rem;max-width:72rem}\
h1{font-size:1.3rem;margin:0 0 .2rem}h2{font-size:1rem;margin:1.4rem 0 .4rem}\
p{margin:.2rem 0}.bad{color:var(--bad);font-weight:600}.good{color:var(--good);font-weight:600}\
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.5rem;margin:1rem 0}\
.tiles div{background:var(--soft);border-radius:.4rem;padding:.5rem .7rem}.tiles b{display:block;font-size:1.25rem}\
.cols{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,30rem),1fr));gap:0 2rem}\
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%}\
th,td{text-align:left;padding:.25rem .8rem .25rem 0;border-bottom:1px solid var(--line);vertical-align:top}\
th{font-weight:600;white-space:nowrap}td{white-space:nowrap}.t{white-space:normal;overflow-wrap:anywhere;min-width:11rem}\
.n{text-align:right;font-variant-numeric:tabular-nums}\
meter{width:6rem}code{font-size:.9em;overflow-wrap:anywhere}footer{margin-top:2rem;opacity:.75;font-size:.85rem}";

/// Seconds after which a browser asks again.
const REFRESH_SECONDS: u32 = 5;
/// Identities shown; the JSON has more.
const IDENTITIES_SHOWN: usize = 15;

/// The whole page.
pub fn html(status: &Status<'_>) -> String {
    let mut page = String::with_capacity(16 << 10);
    // Writing to a string cannot fail.
    let _ = write_page(status, &mut page);
    page
}

fn write_page(status: &Status<'_>, out: &mut String) -> fmt::Result {
    write!(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta http-equiv=\"refresh\" content=\"{REFRESH_SECONDS}\"><title>{} · countersign</title>\
         <style>{STYLE}</style></head><body>",
        Text(status.unready.unwrap_or(status.state))
    )?;
    head(status, out)?;
    tiles(status, out)?;
    listeners(status, out)?;
    out.push_str("<div class=\"cols\"><section>");
    refusals(status, out)?;
    out.push_str("</section><section>");
    expiries(status, out)?;
    out.push_str("</section></div><div class=\"cols\"><section>");
    backends(status, out)?;
    out.push_str("</section><section>");
    workers(status, out)?;
    out.push_str("</section></div>");
    identities(status, out)?;
    write!(
        out,
        "<footer>configuration sha256 <code>{}</code> · this page asks again every {REFRESH_SECONDS} s · as JSON: \
         <code>curl</code> this address · numbers over time: <a href=\"/metrics\">/metrics</a></footer></body></html>",
        Text(&status.config.sha256)
    )
}

fn head(status: &Status<'_>, out: &mut String) -> fmt::Result {
    let (class, word) = match status.unready {
        None => ("good", status.state),
        Some(why) => ("bad", why),
    };
    let up = Duration::from_secs(status.uptime_seconds);
    write!(
        out,
        "<h1>countersign {} <span class=\"{class}\">{}</span></h1><p>pid {}, up {}</p>",
        Text(status.version),
        Text(word),
        status.pid,
        Text(&format_uptime(up))
    )?;
    let config = &status.config;
    let file = config.file.as_deref().unwrap_or("the command line");
    write!(out, "<p>configuration of <code>{}</code>, in force since {}</p>", Text(file), Text(&config.since))?;
    if !config.last_reload_ok
        && let Some(at) = &config.last_reload
    {
        write!(
            out,
            "<p class=\"bad\">the last reload failed, at {}: the log says why; the value before still serves</p>",
            Text(at)
        )?;
    }
    if status.totals.audit_dropped_total > 0 {
        write!(
            out,
            "<p class=\"bad\">{} audit lines are lost: look at the disk's space and at the log</p>",
            status.totals.audit_dropped_total
        )?;
    }
    Ok(())
}

fn tiles(status: &Status<'_>, out: &mut String) -> fmt::Result {
    let in_flight: u64 = status.listeners.iter().map(|listener| listener.handshakes_in_flight).sum();
    let totals = &status.totals;
    let tiles: [(&str, String); 8] = [
        ("connections", totals.connections.to_string()),
        ("in handshake", in_flight.to_string()),
        ("full handshakes", (status.handshakes.full + status.handshakes.hrr).to_string()),
        ("resumed", status.handshakes.resumed.to_string()),
        ("refused or failed", totals.handshake_failures_total.to_string()),
        ("from clients", bytes(totals.bytes_in_total)),
        ("to clients", bytes(totals.bytes_out_total)),
        ("blocks", status.blocks.to_string()),
    ];
    out.push_str("<div class=\"tiles\">");
    for (name, value) in tiles {
        write!(out, "<div><b>{value}</b>{name}</div>")?;
    }
    out.push_str("</div>");
    Ok(())
}

fn listeners(status: &Status<'_>, out: &mut String) -> fmt::Result {
    open(out, "Listeners", &["name", "addresses", "#open", "#in handshake", "#accepted", "#handshakes"])?;
    for listener in &status.listeners {
        let addresses: Vec<String> = listener.addresses.iter().map(ToString::to_string).collect();
        write!(out, "<tr><td>{}</td><td class=\"t\">{}</td>", Text(listener.name), Text(&addresses.join(" ")))?;
        numbers(
            out,
            &[
                listener.connections,
                listener.handshakes_in_flight,
                listener.connections_total,
                listener.handshakes_total,
            ],
        )?;
    }
    close(out);
    Ok(())
}

fn refusals(status: &Status<'_>, out: &mut String) -> fmt::Result {
    if status.refusals.is_empty() {
        out.push_str("<h2>Refused</h2><p>nobody since the start</p>");
        return Ok(());
    }
    open(out, "Refused, by reason", &["reason", "#since the start"])?;
    for refusal in &status.refusals {
        write!(out, "<tr><td>{}</td>", Text(refusal.reason))?;
        numbers(out, &[refusal.total])?;
    }
    close(out);
    out.push_str("<p><code>countersign ctl refusals</code> says whom, why, and what to do</p>");
    Ok(())
}

fn expiries(status: &Status<'_>, out: &mut String) -> fmt::Result {
    const SOON_DAYS: u64 = 14;
    open(out, "Runs out first", &["what", "whose", "when"])?;
    for Expiry { kind, name, at } in &status.expiries {
        let soon = at.saturating_sub_unsigned(status.time) < (SOON_DAYS * 86_400) as i64;
        let class = if soon { " class=\"bad\"" } else { "" };
        let when = in_days(*at, status.time);
        write!(out, "<tr><td>{kind}</td><td class=\"t\">{}</td><td{class}>{when}</td></tr>", Text(name))?;
    }
    close(out);
    Ok(())
}

fn backends(status: &Status<'_>, out: &mut String) -> fmt::Result {
    open(out, "Backends", &["name", "server", "state", "#open", "#total", "#failed"])?;
    for BackendStatus { name, servers } in &status.backends {
        for server in servers {
            let word = server.word();
            let class = if word == "up" { "good" } else { "bad" };
            write!(
                out,
                "<tr><td>{}</td><td class=\"t\">{}</td><td class=\"{class}\">{word}</td>",
                Text(name),
                Text(&server.address)
            )?;
            numbers(out, &[server.connections, server.connections_total, server.connect_failures_total])?;
        }
    }
    close(out);
    Ok(())
}

fn workers(status: &Status<'_>, out: &mut String) -> fmt::Result {
    open(out, "Workers", &["worker", "busy", "#connections"])?;
    for worker in &status.workers {
        write!(
            out,
            "<tr><td>{}</td><td><meter max=\"1\" high=\"0.8\" value=\"{:.3}\"></meter> {:.0} %</td>",
            worker.worker,
            worker.busy_ratio,
            worker.busy_ratio * 100.0
        )?;
        numbers(out, &[worker.connections])?;
    }
    close(out);
    Ok(())
}

fn identities(status: &Status<'_>, out: &mut String) -> fmt::Result {
    if status.identities.is_empty() {
        return Ok(());
    }
    let heads = ["client", "#handshakes", "#from", "#to", "last seen", "certificate ends"];
    open(out, "Busiest clients of late", &heads)?;
    for client in status.identities.iter().take(IDENTITIES_SHOWN) {
        write!(
            out,
            "<tr><td class=\"t\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{}</td><td>{}</td></tr>",
            Text(&client.identity),
            client.handshakes_total,
            bytes(client.bytes_in_total),
            bytes(client.bytes_out_total),
            Text(&client.last_seen),
            in_days(client.expires, status.time)
        )?;
    }
    close(out);
    Ok(())
}

/// Begins a table; columns of numbers have a `#` before their name.
fn open(out: &mut String, title: &str, heads: &[&str]) -> fmt::Result {
    write!(out, "<h2>{title}</h2><div class=\"wide\"><table><tr>")?;
    for head in heads {
        match head.strip_prefix('#') {
            Some(head) => write!(out, "<th class=\"n\">{head}</th>")?,
            None => write!(out, "<th>{head}</th>")?,
        }
    }
    out.push_str("</tr>");
    Ok(())
}

fn close(out: &mut String) {
    out.push_str("</table></div>");
}

/// The numbers that end a row.
fn numbers(out: &mut String, numbers: &[u64]) -> fmt::Result {
    numbers.iter().try_for_each(|number| write!(out, "<td class=\"n\">{number}</td>"))?;
    out.push_str("</tr>");
    Ok(())
}

fn format_uptime(up: Duration) -> String {
    let seconds = up.as_secs();
    match seconds / 86_400 {
        0 => format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60),
        days => format!("{days} days {:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60),
    }
}

/// With a decimal unit.
fn bytes(number: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let mut value = number as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{number} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A text of anybody's choosing as HTML text or attribute: no markup, no control characters, and nothing that turns the
/// direction of what follows it.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                    f.write_char('\u{fffd}')?
                }
                c if c.is_control() => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
