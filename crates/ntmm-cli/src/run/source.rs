//! Where traces come from: files, and the ones that are part of this program.

use std::fs;
use std::io::Cursor;
use std::path::{Path, PathBuf};

use ntmm_trace::{Header, Regions, TraceError, TraceReader, scan_regions};

use crate::failure::Failure;

/// The traces that come with the program; `traces/README.md` says how they were recorded.
const BUNDLED: [(&str, &[u8]); 4] = [
    ("sqlite.ntt", include_bytes!("../../../../traces/sqlite.ntt")),
    ("python.ntt", include_bytes!("../../../../traces/python.ntt")),
    ("sort.ntt", include_bytes!("../../../../traces/sort.ntt")),
    ("cc1.ntt", include_bytes!("../../../../traces/cc1.ntt")),
];

/// Where a trace's bytes are.
#[derive(Clone, Debug)]
enum Origin {
    File(PathBuf),
    Bundled(&'static [u8]),
}

/// A trace to be replayed.
#[derive(Clone, Debug)]
pub struct Source {
    name: String,
    origin: Origin,
    /// Name of the recorded program.
    program: String,
    regions: Regions,
    /// References of the trace, when its header says how many there are.
    references: Option<u64>,
}

impl Source {
    /// The traces that come with the program.
    ///
    /// # Errors
    /// None, unless the program itself is damaged.
    pub fn bundled() -> Result<Vec<Self>, Failure> {
        let open = |(name, bytes): &(&str, &'static [u8])| {
            let reader = TraceReader::from_reader(name, Cursor::new(*bytes))?;
            let header = reader.header().cloned().ok_or_else(|| Failure::Input {
                file: (*name).into(),
                problem: "is not in the compact form".to_owned(),
            })?;
            Ok(Self::compact((*name).to_owned(), Origin::Bundled(bytes), header))
        };
        BUNDLED.iter().map(open).collect()
    }

    /// A trace in a file. Of a text trace every line is read.
    ///
    /// # Errors
    /// The file cannot be read or is no trace.
    pub fn file(path: &Path) -> Result<Self, Failure> {
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            let problem = "not a regular file, and a trace is read twice; \
                           `ntmm trace convert` reads it once"
                .to_owned();
            return Err(Failure::Input { file: path.to_owned(), problem });
        }
        let mut reader = TraceReader::open(path)?;
        let (name, origin) = (path.display().to_string(), Origin::File(path.to_owned()));
        if let Some(header) = reader.header().cloned() {
            return Ok(Self::compact(name, origin, header));
        }
        // What Valgrind says of the program stands before the first reference.
        reader.read_batch(&mut Vec::new())?;
        let program = reader.program().map(|program| program.name).unwrap_or_default();
        Ok(Self {
            program: program_or_stem(program, &name),
            name,
            origin,
            references: None,
            regions: scan_regions(path)?,
        })
    }

    fn compact(name: String, origin: Origin, header: Header) -> Self {
        Self {
            program: program_or_stem(header.program.name, &name),
            name,
            origin,
            references: Some(header.totals.references()),
            regions: header.regions,
        }
    }

    /// Opens the trace at its beginning.
    ///
    /// # Errors
    /// The file cannot be read any more.
    pub fn open(&self) -> Result<TraceReader, TraceError> {
        match &self.origin {
            Origin::File(path) => TraceReader::open(path),
            Origin::Bundled(bytes) => TraceReader::from_reader(&self.name, Cursor::new(*bytes)),
        }
    }

    /// The file's path, or the name of a bundled trace.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name of the recorded program.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// The pages it touches, where they were recorded.
    #[must_use]
    pub const fn regions(&self) -> &Regions {
        &self.regions
    }

    /// References of the trace, when its header says how many there are.
    #[must_use]
    pub const fn references(&self) -> Option<u64> {
        self.references
    }
}

/// The name of a program, or of its trace if it has none.
fn program_or_stem(program: String, trace: &str) -> String {
    if !program.is_empty() {
        return program;
    }
    Path::new(trace).file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
