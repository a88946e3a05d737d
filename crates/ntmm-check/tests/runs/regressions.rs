//! Lists that once failed.

use std::fs;
use std::path::Path;

use ntmm_check::replay;

#[test]
fn every_kept_list_passes() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut lists: Vec<_> = fs::read_dir(&directory)
        .expect("the directory of kept lists")
        .map(|entry| entry.expect("an entry of it").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "ops"))
        .collect();
    lists.sort();
    assert!(!lists.is_empty());
    for path in lists {
        let name = path.display();
        let text = fs::read_to_string(&path).expect("a text file");
        let report = replay(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        if let Some(failure) = report.failure {
            panic!("{name}: {failure}");
        }
    }
}
