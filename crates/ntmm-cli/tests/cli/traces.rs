//! `ntmm trace`.

use std::fs;

use crate::common::{argument, directory, files, ntmm, small_trace};

#[test]
fn a_converted_trace_says_the_same_as_the_text() {
    let directory = directory("convert");
    let trace = small_trace();
    let text = trace.write(&directory);
    let compact = directory.join("demo.ntt");
    let run = ntmm(["trace", "convert", argument(&text), argument(&compact), "--window", "16"]);
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert_eq!(files(&directory), ["demo.lk", "demo.ntt"]);

    let show = |path| {
        let run = ntmm(["trace", "show", argument(path)]);
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.stdout
    };
    let (of_text, of_compact) = (show(&text), show(&compact));
    let line = |text: &str, name: &str| {
        text.lines().find(|line| line.starts_with(name)).map(str::to_owned)
    };
    for same in ["program", "command", "references", "pages"] {
        assert!(line(&of_text, same).is_some(), "{of_text}");
        assert_eq!(line(&of_text, same), line(&of_compact, same));
    }
    assert!(of_compact.contains("merged over 16 pages"), "{of_compact}");
    let regions = |text: &str| text.split_once("\n\n").map(|(_, regions)| regions.to_owned());
    assert_eq!(regions(&of_text), regions(&of_compact));
}

#[test]
fn regions_are_shown_where_they_run() {
    let directory = directory("show");
    let trace = small_trace().write(&directory);
    for (mode, place) in [("amd64", "0x30000"), ("i386", "0x30000"), ("pae", "0x30000")] {
        let run = ntmm(["trace", "show", argument(&trace), "--paging", mode]);
        let data = run.stdout.lines().find(|line| line.starts_with("0x7fff00000000"));
        let data = data.expect("the data region").split_whitespace().collect::<Vec<_>>();
        assert_eq!(data, ["0x7fff00000000", place, "300", "300", "rw-"]);
        let code = run.stdout.lines().find(|line| line.starts_with("0x401000"));
        assert!(code.is_some_and(|line| line.ends_with("--x")), "{}", run.stdout);
    }
}

#[test]
fn damage_is_found_by_showing() {
    let directory = directory("damage");
    let text = small_trace().write(&directory);
    let compact = directory.join("demo.ntt");
    ntmm(["trace", "convert", argument(&text), argument(&compact)]);
    let mut bytes = fs::read(&compact).expect("the converted trace");
    let middle = bytes.len() * 3 / 4;
    bytes[middle] ^= 0x10;
    fs::write(&compact, bytes).expect("temporary file");
    let run = ntmm(["trace", "show", argument(&compact)]);
    assert!(run.complaint(2).starts_with(argument(&compact)), "{}", run.stderr);
}
