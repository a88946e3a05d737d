//! Output to the console, a line at a time.
//!
//! A line is formatted into a buffer on the stack and handed over in one call, so that lines of
//! several threads and processes do not mix.

use core::fmt::{self, Write};

use crate::services::NtDisplayString;

/// Bytes in the longest line of [`print!`](crate::print) and [`println!`](crate::println); what
/// exceeds them is cut off.
pub const LONGEST_LINE: usize = 512;

/// A line of at most `N` bytes being formatted. Its last byte is kept for the line end.
#[derive(Clone, Debug)]
pub struct Line<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Line<N> {
    /// An empty line.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    /// Adds what fits of `text`, in whole characters, when `spare` bytes are to stay free.
    fn push(&mut self, text: &str, spare: usize) {
        let room = N.saturating_sub(self.length + spare);
        let fitting = text.floor_char_boundary(room.min(text.len()));
        let end = self.length + fitting;
        if let (Some(to), Some(from)) =
            (self.bytes.get_mut(self.length..end), text.as_bytes().get(..fitting))
        {
            to.copy_from_slice(from);
            self.length = end;
        }
    }

    /// Writes the line as it is.
    pub fn show(&self) {
        let bytes = self.bytes.get(..self.length).unwrap_or_default();
        let _ = NtDisplayString(str::from_utf8(bytes).unwrap_or_default());
    }

    /// Writes the line and a line end.
    pub fn show_line(mut self) {
        self.push("\n", 0);
        self.show();
    }
}

impl<const N: usize> Default for Line<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Write for Line<N> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text, 1);
        Ok(())
    }
}

/// Formats a line. It fails only when a value's own formatter does; then what there is is shown.
fn format(text: fmt::Arguments<'_>) -> Line<LONGEST_LINE> {
    let mut line = Line::new();
    let _ = line.write_fmt(text);
    line
}

/// Writes what [`format_args!`] describes.
pub fn print(text: fmt::Arguments<'_>) {
    format(text).show();
}

/// Writes what [`format_args!`] describes, and a line end.
pub fn print_line(text: fmt::Arguments<'_>) {
    format(text).show_line();
}

/// Writes formatted text to the console.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::console::print(format_args!($($argument)*)) };
}

/// Writes formatted text and a line end to the console.
#[macro_export]
macro_rules! println {
    ($($argument:tt)*) => { $crate::console::print_line(format_args!($($argument)*)) };
}
