//! Reports as pages: one file, plots as inline SVG, nothing fetched from anywhere, readable on a phone and in the dark.

use std::fmt::{self, Write};

mod comparison;
mod curve;
mod single;
mod style;

pub use comparison::comparison;
pub use single::single;

/// A page that grows. Everything written through [`Page::text`] is escaped; tags are written by this module alone.
#[derive(Default)]
struct Page(String);

impl Page {
    fn open(title: &str) -> Page {
        let mut page = Page::default();
        page.tags("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        page.tags("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        page.tags("<meta name=\"color-scheme\" content=\"light dark\">\n<title>")
            .text(title)
            .tags("</title>\n<style>\n");
        page.tags(style::CSS).tags("</style>\n</head>\n<body>\n<main>\n");
        page
    }

    fn close(mut self) -> String {
        self.tags("</main>\n</body>\n</html>\n");
        self.0
    }

    /// Markup of ours.
    fn tags(&mut self, tags: &str) -> &mut Page {
        self.0.push_str(tags);
        self
    }

    /// What may come from anywhere.
    fn text(&mut self, text: &str) -> &mut Page {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c if c.is_control() => self.0.push(' '),
                c => self.0.push(c),
            }
        }
        self
    }

    /// Markup of ours with numbers in it.
    fn format(&mut self, arguments: fmt::Arguments<'_>) -> &mut Page {
        self.0.write_fmt(arguments).expect("writing to a string does not fail");
        self
    }

    /// `<tag class="class">text</tag>`
    fn element(&mut self, tag: &str, class: &str, text: &str) -> &mut Page {
        self.format(format_args!("<{tag} class=\"{class}\">")).text(text).format(format_args!("</{tag}>\n"))
    }

    fn notes(&mut self, notes: &[String]) {
        if notes.is_empty() {
            return;
        }
        self.tags("<ul class=\"notes\">\n");
        for note in notes {
            self.tags("<li>").text(note).tags("</li>\n");
        }
        self.tags("</ul>\n");
    }
}

/// The colour of the `n`th program, everywhere on a page.
fn colour(n: usize) -> String {
    format!("var(--c{})", n % style::COLOURS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_is_escaped() {
        let mut page = Page::open("<script>");
        page.text("a&b\"'\u{7}").element("p", "x", "</p>");
        let page = page.close();
        assert!(page.contains("&lt;script&gt;") && page.contains("a&amp;b&quot;&#39; ") && page.contains("&lt;/p&gt;"));
        assert!(!page.contains("<script"));
    }

    #[test]
    fn a_page_fetches_nothing() {
        let page = Page::open("x").close();
        for outside in ["http:", "https:", "url(", "@import", "<link", "src="] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
