//! Latency by percentile: both axes logarithmic, so that the tail has as much room as the middle.

use crate::load::latency::Point;
use crate::load::page::{Page, colour};

const WIDTH: f64 = 560.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 30.0;
/// Percentile 99.99, four nines.
const NINES_MAX: f64 = 4.0;

/// One line.
pub struct Line<'a> {
    pub name: &'a str,
    /// Of [`colour`].
    pub colour: usize,
    pub points: &'a [Point],
}

/// The plot with its legend; nothing where nothing was recorded.
pub fn curve(page: &mut Page, lines: &[Line<'_>]) {
    let values = || lines.iter().flat_map(|line| line.points).map(|point| (point.us.max(1)) as f64);
    let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
    if most <= 0.0 {
        return;
    }
    let (low, high) = (least.log10().floor(), most.log10().ceil().max(least.log10().floor() + 1.0));
    let y = |us: f64| HEIGHT - BOTTOM - (us.max(1.0).log10() - low) / (high - low) * (HEIGHT - TOP - BOTTOM);
    page.tags("<div>\n<p class=\"legend\">");
    for line in lines.iter().filter(|_| lines.len() > 1) {
        let colour = colour(line.colour);
        page.format(format_args!("<span><i style=\"background:{colour}\"></i>")).text(line.name).tags("</span>");
    }
    page.format(format_args!("</p>\n<svg class=\"curve\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n"));
    page.tags("<title>Latency by percentile</title>\n");
    grid(page, low, high, &y);
    for line in lines.iter().filter(|line| !line.points.is_empty()) {
        let stroke = colour(line.colour);
        page.format(format_args!("<path style=\"stroke:{stroke}\" d=\""));
        for (n, point) in line.points.iter().enumerate() {
            let command = if n == 0 { 'M' } else { 'L' };
            page.format(format_args!("{command}{:.1} {:.1}", x(point.percentile), y(point.us as f64)));
        }
        page.tags("\"><title>").text(line.name).tags("</title></path>\n");
    }
    page.tags("</svg>\n</div>\n");
}

/// Where a percentile stands: by how many nines it has.
fn x(percentile: f64) -> f64 {
    let nines = -(1.0 - percentile.min(99.9999) / 100.0).log10();
    LEFT + nines.min(NINES_MAX) / NINES_MAX * (WIDTH - LEFT - RIGHT)
}

fn grid(page: &mut Page, low: f64, high: f64, y: &dyn Fn(f64) -> f64) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    let mut decade = low;
    while decade <= high {
        let us = 10f64.powf(decade);
        let at = y(us);
        page.format(format_args!(
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\n"
        ));
        let (x, below) = (LEFT - 8.0, at + 5.0);
        page.format(format_args!("<text x=\"{x}\" y=\"{below:.1}\" text-anchor=\"end\">"))
            .text(&round(us))
            .tags("</text>\n");
        decade += 1.0;
    }
    for (percentile, name, anchor) in [
        (0.0, "", "start"),
        (50.0, "p50", "middle"),
        (90.0, "p90", "middle"),
        (99.0, "p99", "middle"),
        (99.9, "p99.9", "middle"),
        (99.99, "p99.99", "end"),
    ] {
        let at = x(percentile);
        page.format(format_args!(
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\n"
        ));
        let below = bottom + 20.0;
        page.format(format_args!("<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"{anchor}\">{name}</text>\n"));
    }
}

/// A power of ten of microseconds, without digits that say nothing.
fn round(us: f64) -> String {
    match us {
        us if us < 1e3 => format!("{us:.0} µs"),
        us if us < 1e6 => format!("{:.0} ms", us / 1e3),
        us => format!("{:.0} s", us / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_has_as_much_room_as_the_middle() {
        assert!((x(99.0) - x(90.0) - (x(90.0) - x(0.0))).abs() < 1e-9);
        assert!(x(100.0) <= WIDTH - RIGHT + 0.01);
    }

    #[test]
    fn a_line_is_drawn_within_the_plot_and_nothing_where_there_is_nothing() {
        let points = [Point { percentile: 0.0, us: 80 }, Point { percentile: 99.99, us: 123_456 }];
        let mut page = Page::default();
        curve(&mut page, &[Line { name: "<x>", colour: 0, points: &points }]);
        assert!(page.0.contains("M66.0") && page.0.contains("&lt;x&gt;") && page.0.contains("100 ms"), "{}", page.0);
        let mut empty = Page::default();
        curve(&mut empty, &[Line { name: "x", colour: 0, points: &[] }]);
        assert!(empty.0.is_empty());
    }
}
