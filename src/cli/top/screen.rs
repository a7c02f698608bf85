//! How a [`View`] looks: made for 80 columns and 24 lines, and better with more.

use super::sample::{Sample, View};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style, Stylize};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table, Widget};

/// Draws a view.
pub struct Screen<'v> {
    view: &'v View,
}

/// Nearer than this an expiry is shown as a warning, and as urgent, in seconds.
const SOON: i64 = 14 * 86_400;
const URGENT: i64 = 2 * 86_400;
/// A worker this busy has little left.
const BUSY: f64 = 0.8;
/// Columns of one worker at least: number, bar, share, connections.
const WORKER_WIDTH: u16 = 20;
/// Columns between panes.
const GAP: u16 = 2;

impl Screen<'_> {
    pub fn new(view: &View) -> Screen<'_> {
        Screen { view }
    }
}

impl Widget for Screen<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let view = self.view;
        // The two rows grow with the terminal, the list of clients most.
        let extra = area.height.saturating_sub(24) / 3;
        let rows = [
            Constraint::Length(2),
            Constraint::Length(7 + extra.min(4)),
            Constraint::Length(6 + extra.min(6)),
            Constraint::Min(3),
            Constraint::Length(1),
        ];
        let [head, upper, middle, lower, foot] = Layout::vertical(rows).areas(area);
        draw_head(view, head, buffer);
        // What the longest reasons need.
        let thirds = [Constraint::Length(22), Constraint::Length(34), Constraint::Min(WORKER_WIDTH)];
        let [handshakes, refusals, workers] = Layout::horizontal(thirds).spacing(GAP).areas(upper);
        draw_handshakes(view, handshakes, buffer);
        draw_refusals(view, refusals, buffer);
        draw_workers(view, workers, buffer);
        let [backends, expiries] =
            Layout::horizontal([Constraint::Fill(5), Constraint::Fill(4)]).spacing(GAP).areas(middle);
        draw_backends(&view.now, backends, buffer);
        draw_expiries(&view.now, expiries, buffer);
        draw_identities(view, lower, buffer);
        draw_foot(view, foot, buffer);
    }
}

fn draw_head(view: &View, area: Rect, buffer: &mut Buffer) {
    let now = &view.now;
    let (word, style) = match (&view.lost, &now.unready) {
        (Some(_), _) => ("no answer", Style::new().fg(Color::Red).bold()),
        (None, Some(why)) => (why.as_str(), Style::new().fg(Color::Yellow).bold()),
        (None, None) => (now.state.as_str(), Style::new().fg(Color::Green).bold()),
    };
    let file = now.config.file.as_deref().unwrap_or("the command line");
    let mut first = vec![
        Span::from(format!("countersign {} ", clean(&now.version))).bold(),
        Span::styled(clean(word), style),
        Span::from(format!("  up {}  pid {}  {}", uptime(now.uptime_seconds), now.pid, clean(file))),
    ];
    if !now.config.last_reload_ok {
        first.push(Span::from("  last reload failed").fg(Color::Red));
    }
    let in_flight: u64 = now.listeners.iter().map(|listener| listener.handshakes_in_flight).sum();
    let mut second = vec![
        Span::from(format!("{} connections", now.totals.connections)).bold(),
        Span::from(format!(
            "  +{}/s  {in_flight} in handshake  in {}/s  out {}/s",
            amount(view.rates.connections),
            bytes(view.rates.bytes_in),
            bytes(view.rates.bytes_out)
        )),
    ];
    if now.blocks > 0 {
        second.push(Span::from(format!("  {} blocks", now.blocks)));
    }
    if now.totals.audit_dropped_total > 0 {
        let lost = format!("  {} audit lines lost", now.totals.audit_dropped_total);
        second.push(Span::from(lost).fg(Color::Red).bold());
    }
    Paragraph::new(vec![Line::from(first), Line::from(second)]).render(area, buffer);
}

fn draw_handshakes(view: &View, area: Rect, buffer: &mut Buffer) {
    let (handshakes, rates) = (&view.now.handshakes, &view.rates);
    let lines = [
        ("full", rates.full, handshakes.full),
        ("resumed", rates.resumed, handshakes.resumed),
        ("retried", rates.hrr, handshakes.hrr),
        ("failed", rates.failed, view.now.totals.handshake_failures_total),
    ];
    let row = |(name, rate, total): (&str, f64, u64)| row_of_rate(name, rate, total);
    let table = Table::new(lines.map(row), [Constraint::Fill(1), Constraint::Length(5), Constraint::Length(7)]);
    table.header(heads(["", ">/s", ">total"])).block(pane("Handshakes")).render(area, buffer);
}

fn draw_refusals(view: &View, area: Rect, buffer: &mut Buffer) {
    let rate = |reason: &str| view.rates.refusals.get(reason).copied().unwrap_or(0.0);
    let mut refusals: Vec<_> = view.now.refusals.iter().collect();
    // What happens now comes before what happened often.
    refusals.sort_by(|one, other| {
        rate(&other.reason).total_cmp(&rate(&one.reason)).then_with(|| other.total.cmp(&one.total))
    });
    let rows = refusals.iter().map(|one| row_of_rate(&one.reason, rate(&one.reason), one.total));
    let table = Table::new(rows, [Constraint::Fill(1), Constraint::Length(5), Constraint::Length(6)]);
    table.header(heads(["", ">/s", ">total"])).block(pane("Refused")).render(area, buffer);
}

fn row_of_rate<'a>(name: &str, rate: f64, total: u64) -> Row<'a> {
    let style = if rate > 0.0 { Style::new() } else { Style::new().add_modifier(Modifier::DIM) };
    let right = |text: String| Cell::from(Line::from(text).right_aligned());
    Row::new([Cell::from(clean(name)), right(amount(rate)), right(count(total))]).style(style)
}

/// As many columns of workers as fit; those that do not are summed up.
fn draw_workers(view: &View, area: Rect, buffer: &mut Buffer) {
    let workers = &view.now.workers;
    let block = pane("Workers");
    let inner = block.inner(area);
    block.render(area, buffer);
    let (lines, columns) = (usize::from(inner.height), usize::from((inner.width / WORKER_WIDTH).max(1)));
    let room = lines * columns;
    let shown = if workers.len() > room { room.saturating_sub(1) } else { workers.len() };
    let width = inner.width / columns as u16;
    for (i, worker) in workers.iter().enumerate().take(shown) {
        let cell = Rect { x: inner.x + (i / lines) as u16 * width, y: inner.y + (i % lines) as u16, width, height: 1 };
        let busy = view.rates.busy.get(i).copied().unwrap_or(0.0);
        let bar = usize::from(width.saturating_sub(15));
        let full = (busy * bar as f64).round() as usize;
        let style = if busy >= BUSY { Style::new().fg(Color::Red) } else { Style::new().fg(Color::Green) };
        let line = Line::from(vec![
            Span::from(format!("{i:>2} ")),
            Span::styled("█".repeat(full), style),
            Span::from("·".repeat(bar - full)).dim(),
            Span::from(format!("{:>4.0}%{:>6} ", busy * 100.0, count(worker.connections))),
        ]);
        line.render(cell, buffer);
    }
    if shown < workers.len() && lines > 0 {
        let rest = &view.rates.busy[shown.min(view.rates.busy.len())..];
        let busiest = rest.iter().copied().fold(0.0, f64::max);
        let text = format!(" +{} more ≤{:.0}%", workers.len() - shown, busiest * 100.0);
        let cell =
            Rect { x: inner.x + (shown / lines) as u16 * width, y: inner.y + (shown % lines) as u16, width, height: 1 };
        Line::from(text).render(cell, buffer);
    }
}

fn draw_backends(now: &Sample, area: Rect, buffer: &mut Buffer) {
    let mut servers: Vec<_> =
        now.backends.iter().flat_map(|backend| backend.servers.iter().map(move |server| (backend, server))).collect();
    // Those that are down, or about to leave, must not be below the edge.
    servers.sort_by_key(|(_, server)| (server.up, server.state != "drain"));
    let longest = now.backends.iter().map(|backend| backend.name.chars().count()).max().unwrap_or(0);
    let names = u16::try_from(longest).unwrap_or(u16::MAX).clamp(7, (area.width / 4).max(7));
    let rows = servers.into_iter().map(|(backend, server)| {
        let (word, style) = match (server.state.as_str(), server.up) {
            ("down", _) => ("off", Style::new().fg(Color::Yellow)),
            ("drain", true) => ("drain", Style::new().fg(Color::Yellow)),
            (_, true) => ("up", Style::new().fg(Color::Green)),
            (_, false) => ("down", Style::new().fg(Color::Red).bold()),
        };
        let right = |number: u64| Cell::from(Line::from(count(number)).right_aligned());
        Row::new([
            Cell::from(clean(&backend.name)),
            Cell::from(ends_of(&server.address, area.width.saturating_sub(names + 19))),
            Cell::from(word).style(style),
            right(server.connections),
            right(server.connect_failures_total),
        ])
    });
    let widths = [
        Constraint::Length(names),
        Constraint::Fill(1),
        Constraint::Length(5),
        Constraint::Length(5),
        Constraint::Length(5),
    ];
    let table = Table::new(rows, widths).header(heads(["backend", "server", "", ">open", ">fails"]));
    table.block(pane("Backends")).render(area, buffer);
}

fn draw_expiries(now: &Sample, area: Rect, buffer: &mut Buffer) {
    let rows = now.expiries.iter().map(|expiry| {
        let left = expiry.at.saturating_sub(now.time);
        let when = Line::from(left_text(left)).right_aligned();
        // What the other columns and the gaps leave.
        let name = ends_of(&expiry.name, area.width.saturating_sub(17));
        Row::new([Cell::from(clean(&expiry.kind)), Cell::from(name), Cell::from(when)]).style(urgency(left))
    });
    let table = Table::new(rows, [Constraint::Length(6), Constraint::Fill(1), Constraint::Length(9)]);
    table.block(pane("Runs out first")).render(area, buffer);
}

fn draw_identities(view: &View, area: Rect, buffer: &mut Buffer) {
    let now = &view.now;
    let rows = now.identities.iter().skip(view.scrolled).map(|client| {
        let rate = view.rates.identities.get(&client.identity).copied().unwrap_or(0.0);
        let left = client.expires.saturating_sub(now.time);
        let right = |text: String| Cell::from(Line::from(text).right_aligned());
        Row::new([
            Cell::from(ends_of(&client.identity, area.width.saturating_sub(43))),
            right(amount(rate)),
            right(count(client.handshakes_total)),
            right(bytes(client.bytes_in_total as f64)),
            right(bytes(client.bytes_out_total as f64)),
            right(left_text(left)).style(urgency(left)),
        ])
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(6),
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(9),
    ];
    let heads = heads(["client", ">/s", ">total", ">in", ">out", ">cert ends"]);
    Table::new(rows, widths).header(heads).block(pane("Busiest clients of late, by handshakes")).render(area, buffer);
}

fn draw_foot(view: &View, area: Rect, buffer: &mut Buffer) {
    let line = match (&view.lost, view.paused) {
        (Some(why), _) => Line::from(clean(why)).fg(Color::Red),
        (None, true) => Line::from("paused: p goes on, q quits").fg(Color::Yellow),
        (None, false) => Line::from("q quits  p pauses  arrows move through the clients").dim(),
    };
    line.render(area, buffer);
}

fn pane(title: &str) -> Block<'_> {
    Block::new().borders(Borders::TOP).title(title.bold()).border_style(Style::new().add_modifier(Modifier::DIM))
}

/// Names of columns; those of numbers begin with `>`.
fn heads<const N: usize>(names: [&str; N]) -> Row<'_> {
    let cells = names.map(|name| match name.strip_prefix('>') {
        Some(name) => Cell::from(Line::from(name).right_aligned()),
        None => Cell::from(name),
    });
    Row::new(cells).style(Style::new().add_modifier(Modifier::DIM))
}

fn urgency(left: i64) -> Style {
    match left {
        ..URGENT => Style::new().fg(Color::Red).bold(),
        URGENT..SOON => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    }
}

/// `12 d`, `5 h`, `3 min`, `over` what ran out.
fn left_text(left: i64) -> String {
    match left {
        ..0 => "ran out".to_owned(),
        0..7200 => format!("{} min", left / 60),
        7200..172_800 => format!("{} h", left / 3600),
        _ => format!("{} d", left / 86_400),
    }
}

fn uptime(seconds: u64) -> String {
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match seconds / 86_400 {
        0 => clock,
        days => format!("{days}d {clock}"),
    }
}

/// A rate with as many digits as tell something.
fn amount(rate: f64) -> String {
    match rate {
        rate if rate >= 10_000.0 => format!("{:.0}k", rate / 1000.0),
        rate if rate >= 10.0 || rate == 0.0 => format!("{rate:.0}"),
        rate => format!("{rate:.1}"),
    }
}

/// A number in at most six characters.
fn count(number: u64) -> String {
    match number {
        0..1_000_000 => number.to_string(),
        1_000_000..1_000_000_000 => format!("{:.1}M", number as f64 / 1e6),
        _ => format!("{:.1}G", number as f64 / 1e9),
    }
}

fn bytes(number: f64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let (mut value, mut unit) = (number, 0);
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{value:.0} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// A text in so many columns: of a longer one the beginning and more of the end, for names of one CA begin alike.
fn ends_of(text: &str, columns: u16) -> String {
    let (text, columns) = (clean(text), usize::from(columns));
    let length = text.chars().count();
    if length <= columns || columns < 8 {
        return text;
    }
    let head = columns / 3;
    let beginning: String = text.chars().take(head).collect();
    let end: String = text.chars().skip(length - (columns - head - 1)).collect();
    format!("{beginning}…{end}")
}

/// Nothing that moves the cursor or turns the direction of the text.
fn clean(text: &str) -> String {
    let steers = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}
