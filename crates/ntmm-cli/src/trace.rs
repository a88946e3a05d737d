//! `ntmm trace`: converting traces and looking at them.

use std::fmt::Write;
use std::path::Path;

use ntmm_check::setup::Paging;
use ntmm_trace::{
    AccessKind, ConvertOptions, KindSet, Program, TraceFormat, TraceReader, WindowPages, convert,
};

use crate::arguments::TraceCommand;
use crate::failure::Failure;
use crate::output::print;
use crate::run::placement::Placement;
use crate::run::playback::window;
use crate::run::progress::{Bar, Visibility};
use crate::run::source::Source;
use crate::table::{Table, grouped};

/// Runs the command.
///
/// # Errors
/// A trace cannot be read or written.
pub fn trace(command: &TraceCommand) -> Result<(), Failure> {
    match command {
        TraceCommand::Convert { input, output, window } => convert_file(input, output, *window),
        TraceCommand::Show { file, paging } => show(file, *paging),
    }
}

fn convert_file(input: &Path, output: &Path, window: Option<WindowPages>) -> Result<(), Failure> {
    let mut bar = Bar::new(Visibility::OnTerminal);
    bar.begin("convert");
    let options = ConvertOptions { window, program: None };
    let converted = convert(input, output, &options, |progress| {
        bar.step(|| (progress.consumed, progress.total.unwrap_or(progress.consumed)));
    })?;
    drop(bar);
    let totals = converted.header.totals;
    print(&format!(
        "{}: {} references in {} records, {} bytes\n",
        output.display(),
        grouped(totals.references()),
        grouped(totals.records),
        grouped(converted.bytes)
    ))
}

/// What a trace holds, counted.
#[derive(Default)]
struct Contents {
    by_kind: [u64; 4],
    records: u64,
    program: Option<Program>,
}

fn read(mut reader: TraceReader) -> Result<Contents, Failure> {
    let mut contents = Contents::default();
    let mut batch = Vec::new();
    while reader.read_batch(&mut batch)? > 0 {
        for reference in &batch {
            contents.by_kind[reference.kind as usize] += u64::from(reference.count);
        }
        contents.records += batch.len() as u64;
    }
    contents.program = reader.program();
    Ok(contents)
}

fn show(file: &Path, paging: Paging) -> Result<(), Failure> {
    let source = Source::file(file)?;
    let reader = source.open()?;
    let form = match (reader.format(), reader.header()) {
        (TraceFormat::Compact, Some(header)) => {
            format!("compact, merged over {} pages", header.window.pages())
        }
        _ => "Valgrind lackey text".to_owned(),
    };
    let contents = read(reader)?;
    let command = contents.program.map(|program| program.command).unwrap_or_default();
    let placement = Placement::new(source.regions(), window(paging));
    let placement = placement
        .map_err(|problem| Failure::DoesNotFit { trace: source.name().to_owned(), problem })?;

    let mut text = String::new();
    let references = contents.by_kind.iter().sum();
    let kinds = AccessKind::ALL.map(|kind| grouped(contents.by_kind[kind as usize]));
    let [fetches, loads, stores, modifications] = kinds;
    // Writing to a string does not fail.
    let _ = writeln!(text, "file        {}", source.name());
    let _ = writeln!(text, "form        {form}");
    let _ = writeln!(text, "program     {}", source.program());
    let _ = writeln!(text, "command     {command}");
    let _ = writeln!(
        text,
        "references  {}: {fetches} fetches, {loads} loads, {stores} stores, {modifications} modifications",
        grouped(references)
    );
    let _ = writeln!(text, "records     {}", grouped(contents.records));
    let _ = writeln!(
        text,
        "pages       {} touched, {} in regions",
        grouped(source.regions().touched_pages()),
        grouped(source.regions().spanned_pages())
    );
    let mut table = Table::new(["recorded at", "runs at", "pages", "touched", "access"]);
    for (recorded, placed) in source.regions().as_slice().iter().zip(placement.regions()) {
        table.row([
            format!("{:#x}", recorded.start()),
            format!("{:#x}", placed.start()),
            grouped(recorded.pages),
            grouped(recorded.touched),
            access(recorded.kinds),
        ]);
    }
    let _ = write!(text, "\nregions under {}:\n{table}", paging.name());
    print(&text)
}

/// What is ever done in a region, in the manner of `ls`.
fn access(kinds: KindSet) -> String {
    let reads = kinds.contains(AccessKind::Load) || kinds.contains(AccessKind::Modify);
    let letter = |is: bool, letter: char| if is { letter } else { '-' };
    [letter(reads, 'r'), letter(kinds.is_written(), 'w'), letter(kinds.is_executed(), 'x')]
        .into_iter()
        .collect()
}
