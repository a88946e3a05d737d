//! The bundled traces: each is whole, and is what `traces/figures.tsv` (and so `traces/README.md`) says.

use std::fs;
use std::path::{Path, PathBuf};

use ntmm_trace::{AddressWindow, Relocation, TraceReader};

fn traces() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../traces")
}

/// The lines of the table: name, then fetches, loads, stores, modifies, records, pages, regions, bytes.
fn figures() -> Vec<(String, Vec<u64>)> {
    let table = fs::read_to_string(traces().join("figures.tsv")).unwrap();
    table
        .lines()
        .skip(1)
        .map(|line| {
            let mut fields = line.split('\t');
            let name = fields.next().unwrap().to_owned();
            (name, fields.map(|field| field.parse().unwrap()).collect())
        })
        .collect()
}

#[test]
fn every_trace_has_the_expected_figures() {
    for (name, expected) in figures() {
        let path = traces().join(format!("{name}.ntt"));
        let mut reader = TraceReader::open(&path).unwrap();
        let regions = reader.header().unwrap().regions.clone();
        let mut counts = [0; 4];
        let mut records = 0;
        let mut batch = Vec::new();
        while reader.read_batch(&mut batch).unwrap() > 0 {
            records += batch.len() as u64;
            for reference in &batch {
                counts[reference.kind as usize] += u64::from(reference.count);
                assert!(regions.find(reference.first_page()).is_some());
            }
        }
        let mut found = counts.to_vec();
        found.extend([
            records,
            regions.touched_pages(),
            regions.as_slice().len() as u64,
            fs::metadata(&path).unwrap().len(),
        ]);
        assert_eq!(found, expected, "{name}");
        assert!(counts.iter().sum::<u64>() >= 30_000_000, "{name}");
        assert!(regions.touched_pages() >= 1000, "{name}");
        Relocation::new(&regions, AddressWindow::AMD64).unwrap();
        Relocation::new(&regions, AddressWindow::X86).unwrap();
    }
}

#[test]
fn every_bundled_trace_is_in_the_table_and_small() {
    let mut bundled: Vec<(String, u64)> = fs::read_dir(traces())
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "ntt"))
        .map(|entry| {
            let name = entry.path().file_stem().unwrap().to_string_lossy().into_owned();
            (name, entry.metadata().unwrap().len())
        })
        .collect();
    bundled.sort();
    let mut named: Vec<String> = figures().into_iter().map(|(name, _)| name).collect();
    named.sort();
    let names: Vec<String> = bundled.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, named);
    assert!(names.len() >= 4);
    assert!(bundled.iter().all(|(_, bytes)| *bytes < 4_000_000));
    assert!(bundled.iter().map(|(_, bytes)| bytes).sum::<u64>() < 6_000_000);
}
