//! Converts a trace to the compact form: `convert INPUT OUTPUT [WINDOW]`.

use std::path::Path;
use std::process::ExitCode;

use ntmm_trace::{ConvertOptions, WindowPages, convert};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (input, output, window) = match arguments.as_slice() {
        [input, output] => (input, output, Some(WindowPages::DEFAULT)),
        [input, output, window] => {
            let window = window.parse().ok().and_then(WindowPages::new);
            (input, output, window)
        }
        _ => {
            eprintln!("usage: convert INPUT OUTPUT [WINDOW]");
            return ExitCode::from(2);
        }
    };
    let Some(window) = window else {
        eprintln!("the window is 2 to 256 pages");
        return ExitCode::from(2);
    };
    let options = ConvertOptions { window: Some(window), program: None };
    match convert(Path::new(input), Path::new(output), &options, |_| {}) {
        Ok(converted) => {
            let header = &converted.header;
            println!(
                "{}: {} references, {} records, {} pages in {} regions, {} bytes",
                header.program.name,
                header.totals.references(),
                header.totals.records,
                header.regions.touched_pages(),
                header.regions.as_slice().len(),
                converted.bytes
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
