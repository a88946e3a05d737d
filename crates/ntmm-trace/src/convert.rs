//! Turning a trace of any form into a compact one: the body of `ntmm trace convert`.

use std::path::Path;

use crate::compact::{CompactWriter, Header, Program, WindowPages};
use crate::error::{Place, TraceError};
use crate::input::Progress;
use crate::reader::TraceReader;

/// How to convert.
#[derive(Debug, Clone, Default)]
pub struct ConvertOptions {
    /// The window to merge over; [`WindowPages::DEFAULT`] if not given.
    pub window: Option<WindowPages>,
    /// The program to name in the header; what the input says of itself if not given.
    pub program: Option<Program>,
}

/// What a conversion made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Converted {
    /// The header of the new file.
    pub header: Header,
    /// Length of the new file in bytes.
    pub bytes: u64,
}

/// Converts `input` to the compact form. `output` appears (or replaces an older file) only when it is complete.
/// `observe` is told of the progress now and then.
///
/// # Errors
/// Whatever is wrong with the input; the output cannot be written. No output is left then.
pub fn convert(
    input: &Path,
    output: &Path,
    options: &ConvertOptions,
    mut observe: impl FnMut(Progress),
) -> Result<Converted, TraceError> {
    let mut reader = TraceReader::open(input)?;
    let mut writer = CompactWriter::new(options.window.unwrap_or(WindowPages::DEFAULT));
    let mut batch = Vec::new();
    while reader.read_batch(&mut batch)? > 0 {
        for reference in &batch {
            writer.push(reference).map_err(|problem| TraceError {
                file: reader.file().to_owned(),
                place: Place::Whole,
                problem,
            })?;
        }
        observe(reader.progress());
    }
    let program = options.program.clone().or_else(|| reader.program());
    let (header, bytes) = writer.save(output, program.unwrap_or_default())?;
    Ok(Converted { header, bytes })
}
