//! Files: every form is found out and converted, outputs appear complete or not at all.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::common::{compact, read};
use flate2::Compression;
use flate2::write::GzEncoder;
use ntmm_trace::{
    AccessKind, ConvertOptions, Problem, Reference, TraceFormat, TraceReader, WindowPages, convert,
    scan_regions,
};

/// A directory of its own for each test, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ntmm-trace-{test}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Directory(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const TEXT: &str =
    "==9== Command: toy --fast\nI  00400000,4\n S 1fff000ffc,8\n L 00600010,8\nI  00400004,2\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

fn to_compact(
    input: &Path,
    output: &Path,
) -> Result<ntmm_trace::Converted, ntmm_trace::TraceError> {
    convert(input, output, &ConvertOptions::default(), |_| {})
}

#[test]
fn text_gzip_and_compact_convert_to_the_same_trace() {
    let directory = Directory::new("forms");
    let text = directory.file("t.txt", TEXT.as_bytes());
    let packed = directory.file("t.txt.gz", &gzip(TEXT.as_bytes()));
    let (one, two, three) =
        (directory.0.join("1.ntt"), directory.0.join("2.ntt"), directory.0.join("3.ntt"));
    let converted = to_compact(&text, &one).unwrap();
    to_compact(&packed, &two).unwrap();
    to_compact(&one, &three).unwrap();
    assert_eq!(fs::read(&one).unwrap(), fs::read(&two).unwrap());
    assert_eq!(fs::read(&one).unwrap(), fs::read(&three).unwrap());
    assert_eq!(converted.bytes, fs::metadata(&one).unwrap().len());
    assert_eq!(converted.header.totals.by_kind, [2, 1, 1, 0]);
    assert_eq!(converted.header.program.command, "toy --fast");
    assert_eq!(converted.header.program.name, "toy");
    let reader = TraceReader::open(&one).unwrap();
    assert_eq!(reader.format(), TraceFormat::Compact);
    assert_eq!(reader.header(), Some(&converted.header));
}

#[test]
fn regions_are_the_same_from_text_and_from_the_header() {
    let directory = Directory::new("regions");
    let text = directory.file("t.txt", TEXT.as_bytes());
    let output = directory.0.join("t.ntt");
    to_compact(&text, &output).unwrap();
    let regions = scan_regions(&text).unwrap();
    assert_eq!(regions, scan_regions(&output).unwrap());
    let shapes: Vec<_> = regions
        .as_slice()
        .iter()
        .map(|region| (region.first_page, region.pages, region.kinds.is_written()))
        .collect();
    assert_eq!(shapes, [(0x400, 1, false), (0x600, 1, false), (0x1ff_f000, 2, true)]);
}

#[test]
fn a_failed_conversion_leaves_the_old_output_and_nothing_else() {
    let directory = Directory::new("failed");
    let input = directory.file("bad.txt", b"I  1000,4\nrubbish\n");
    let output = directory.file("out.ntt", b"old");
    let error = to_compact(&input, &output).unwrap_err();
    assert!(error.to_string().contains("bad.txt:2: not a lackey line"), "{error}");
    assert_eq!(fs::read(&output).unwrap(), b"old");
    assert_eq!(directory.names(), ["bad.txt", "out.ntt"]);
}

#[test]
fn an_empty_input_makes_no_output() {
    let directory = Directory::new("empty");
    let input = directory.file("empty.txt", b"==1== nothing\n");
    let error = to_compact(&input, &directory.0.join("out.ntt")).unwrap_err();
    assert!(matches!(error.problem, Problem::Empty), "{error}");
    assert_eq!(directory.names(), ["empty.txt"]);
}

#[test]
fn devices_are_not_replaced() {
    let directory = Directory::new("device");
    let input = directory.file("t.txt", TEXT.as_bytes());
    let error = to_compact(&input, Path::new("/dev/null")).unwrap_err();
    assert!(matches!(error.problem, Problem::NotRegular), "{error}");
}

#[test]
fn missing_files_and_directories_are_named() {
    let directory = Directory::new("missing");
    let error = to_compact(&directory.0.join("none"), &directory.0.join("out")).unwrap_err();
    assert!(error.to_string().contains("none: No such file"), "{error}");
    let input = directory.file("t.txt", TEXT.as_bytes());
    let error = to_compact(&input, &directory.0.join("no/out")).unwrap_err();
    assert!(error.to_string().contains("no/out: No such file"), "{error}");
}

#[test]
fn a_larger_window_merges_more() {
    let trace: Vec<_> = (0..4000)
        .map(|step: u64| Reference {
            va: step % 20 * 4096,
            size: 4,
            count: 1,
            kind: AccessKind::Load,
        })
        .collect();
    assert_eq!(read(&compact(&trace, 20)).unwrap().len(), 4000);
    assert_eq!(read(&compact(&trace, 21)).unwrap().len(), 40);
    assert_eq!(WindowPages::new(1), None);
    assert_eq!(WindowPages::new(257), None);
}
