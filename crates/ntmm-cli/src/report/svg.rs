//! Elements of a drawing, written one after the other.

use std::fmt::Write;

/// Text as it stands in HTML and SVG.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            _ => safe.push(letter),
        }
    }
    safe
}

/// Which end of a text its place names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Its left end.
    Start,
    /// Its middle.
    Middle,
    /// Its right end.
    End,
}

/// A drawing. Units are those of the screen; y goes down.
#[derive(Debug)]
pub struct Drawing {
    width: f64,
    height: f64,
    label: String,
    body: String,
}

impl Drawing {
    /// An empty drawing; `label` says what it shows to those who cannot see it.
    #[must_use]
    pub fn new(width: f64, height: f64, label: &str) -> Self {
        Self { width, height, label: escaped(label), body: String::new() }
    }

    /// Adds a path of the given class; `data` is in SVG's path language.
    pub fn path(&mut self, class: &str, data: &str) {
        // Writing to a string does not fail.
        let _ = writeln!(self.body, "<path class=\"{class}\" d=\"{data}\"/>");
    }

    /// Adds a path of a class that is drawn with a pen of a given width.
    pub fn strokes(&mut self, class: &str, width: f64, data: &str) {
        let _ =
            writeln!(self.body, "<path class=\"{class}\" stroke-width=\"{width}\" d=\"{data}\"/>");
    }

    /// Adds text.
    pub fn text(&mut self, x: f64, y: f64, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        );
    }

    /// The drawing as an element of a page.
    #[must_use]
    pub fn finish(self) -> String {
        let Self { width, height, label, body } = self;
        format!(
            "<svg viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
             role=\"img\" aria-label=\"{label}\">\n{body}</svg>\n"
        )
    }
}
