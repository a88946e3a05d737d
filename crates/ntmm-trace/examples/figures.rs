//! Prints the table `traces/figures.tsv` for the compact traces named: `figures TRACE...`.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use ntmm_trace::{Problem, TraceError, TraceReader};

/// One line of the table, from the header.
fn line(path: &Path) -> Result<String, TraceError> {
    let reader = TraceReader::open(path)?;
    let failed = |problem| TraceError {
        file: path.display().to_string(),
        place: ntmm_trace::Place::Whole,
        problem,
    };
    let header = reader.header().ok_or_else(|| failed(Problem::Header("not a compact trace")))?;
    let length = fs::metadata(path).map_err(|error| failed(Problem::Io(error)))?.len();
    let mut fields = header.totals.by_kind.to_vec();
    fields.extend([
        header.totals.records,
        header.regions.touched_pages(),
        header.regions.as_slice().len() as u64,
        length,
    ]);
    let fields: Vec<String> = fields.iter().map(u64::to_string).collect();
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    Ok(format!("{name}\t{}", fields.join("\t")))
}

fn main() -> ExitCode {
    println!("name\tfetches\tloads\tstores\tmodifications\trecords\tpages\tregions\tbytes");
    for path in std::env::args().skip(1) {
        match line(Path::new(&path)) {
            Ok(line) => println!("{line}"),
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(2);
            }
        }
    }
    ExitCode::SUCCESS
}
