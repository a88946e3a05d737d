//! Lackey text: what is read, what is skipped, what is refused and how the message reads.

use crate::common::{pages, read, trace};
use ntmm_trace::{AccessKind, Problem, Reference, TraceReader};
use proptest::prelude::*;

fn line(reference: &Reference) -> String {
    let mark = ["I ", " L", " S", " M"][reference.kind as usize];
    format!("{mark} {:08x},{}\n", reference.va, reference.size)
}

proptest! {
    #[test]
    fn what_lackey_would_write_is_read_back(trace in trace()) {
        let text: String = trace.iter().map(line).collect();
        prop_assert_eq!(read(text.as_bytes()).unwrap(), trace);
    }

    #[test]
    fn every_chunking_of_the_input_reads_the_same(trace in trace(), chunk in 1..50usize) {
        struct Chunks(Vec<u8>, usize, usize);
        impl std::io::Read for Chunks {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let bytes = self.2.min(self.0.len() - self.1).min(buffer.len());
                buffer[..bytes].copy_from_slice(&self.0[self.1..self.1 + bytes]);
                self.1 += bytes;
                Ok(bytes)
            }
        }
        let text: String = trace.iter().map(line).collect();
        let reader = TraceReader::from_reader("chunks", Chunks(text.into_bytes(), 0, chunk)).unwrap();
        prop_assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap(), trace);
    }
}

#[test]
fn all_four_kinds_and_valgrinds_own_lines() {
    let text = "==7== Lackey, an example Valgrind tool\n==7== Command: /usr/bin/sort -n a.txt\n==7== \n\
                I  04001000,3\n L 1ffefffe7c,8\n\n--7-- verbose\n**7** client\n S 00000010,16\r\n M ff,1";
    let mut reader = TraceReader::from_reader("t", text.as_bytes()).unwrap();
    let mut batch = Vec::new();
    assert_eq!(reader.read_batch(&mut batch).unwrap(), 4);
    let expected = [
        (AccessKind::Fetch, 0x0400_1000, 3),
        (AccessKind::Load, 0x1f_feff_fe7c, 8),
        (AccessKind::Store, 0x10, 16),
        (AccessKind::Modify, 0xff, 1),
    ]
    .map(|(kind, va, size)| Reference { va, size, count: 1, kind });
    assert_eq!(batch, expected);
    let program = reader.program().unwrap();
    assert_eq!(
        (program.name.as_str(), program.command.as_str()),
        ("sort", "/usr/bin/sort -n a.txt")
    );
    assert_eq!(reader.read_batch(&mut batch).unwrap(), 0);
}

#[test]
fn page_crossing_references_stay_whole() {
    let trace = read(b" S 00001ffc,8\n").unwrap();
    assert_eq!(pages(&trace), [1, 2]);
    assert_eq!(trace.len(), 1);
}

#[test]
fn faulty_lines_are_named() {
    let message = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
    let head = "==1== x\nI  1000,4\n";
    for (line, expected) in [
        ("garbage", "bytes:3: not a lackey line: \"garbage\" (expected"),
        ("I 1000,4", "bytes:3: not a lackey line: \"I 1000,4\" (expected"),
        (" L 1000", "bytes:3: not a lackey line: \" L 1000\" (expected"),
        (" L 10g0,4", "bytes:3: not a lackey line: \" L 10g0,4\" (expected"),
        (" L 1000,4 ", ""),
        (" L 1000,0", "bytes:3: size out of range in \" L 1000,0\" (1 to 4096 bytes)"),
        (" L 1000,4097", "bytes:3: size out of range in \" L 1000,4097\" (1 to 4096 bytes)"),
        (
            " L 1000,99999999999",
            "bytes:3: size out of range in \" L 1000,99999999999\" (1 to 4096 bytes)",
        ),
        (" S ffffffffffffffff,4", "bytes:3: address out of range in \" S ffffffffffffffff,4\""),
        (" S 11112222333344445,4", "bytes:3: address out of range in \" S 11112222333344445,4\""),
    ] {
        let text = format!("{head}{line}\nI  1004,4\n");
        if expected.is_empty() {
            assert!(read(text.as_bytes()).is_err(), "{line:?}");
        } else {
            let message = message(&text);
            assert!(message.starts_with(expected), "{message}");
        }
    }
}

#[test]
fn text_without_references_is_empty() {
    for text in ["", "\n\n", "==1== Command: true\n"] {
        let error = read(text.as_bytes()).unwrap_err();
        assert!(matches!(error.problem, Problem::Empty), "{text:?}: {error}");
    }
}

#[test]
fn a_file_without_line_ends_is_refused_without_reading_it_all() {
    let mut reader = TraceReader::from_reader("zeros", std::io::repeat(b'0')).unwrap();
    let error = reader.read_batch(&mut Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "zeros:1: line too long; not a lackey trace");
}
