//! What the repository says about itself is true: the coverage table names modules and tests that
//! exist, the glossary names things that do, `UNSAFE.md` lists every `unsafe`, the manager's crates
//! forbid it, the guide for authors of kernels quotes the kernel as it is, nothing is left
//! unfinished, and no file of the manager or of the kernel has outgrown one sitting.
//!
//! Source files are read as tokens, with comments and literals taken out, so that a word in a
//! comment or a string counts for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Rows of each part of the checklist (spec 15.1-15.4), by the part's number.
const PARTS: [(&str, u32); 4] = [("000", 83), ("001", 21), ("002", 103), ("003", 15)];

/// Lines a source file of the manager or of the kernel may have.
const LONGEST: usize = 700;

const MANAGER_CRATES: [&str; 3] = ["ntmm-pte", "ntmm-sync", "ntmm"];

/// The kernel's sources, and those of its programs.
const KERNEL: [&str; 2] = ["kernel/kernel/src", "kernel/user/src"];

/// Set to put the counts of `UNSAFE.md` right instead of complaining about them.
const UPDATE: &str = "NTMM_UPDATE";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust source below `directory`, by its path from the root of the repository.
fn sources_below(directory: &str) -> BTreeMap<String, String> {
    fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
        let entries = fs::read_dir(directory).expect("the directory can be read");
        for entry in entries.map(|entry| entry.expect("the entry can be read")) {
            let name = entry.file_name().into_string().expect("names are UTF-8");
            if name == "target" || name.starts_with('.') {
                continue;
            }
            let kind = entry.file_type().expect("the kind can be read");
            if kind.is_dir() {
                collect(&entry.path(), found);
            } else if name.ends_with(".rs") {
                found.push(entry.path());
            }
        }
    }
    let mut found = Vec::new();
    collect(&root().join(directory), &mut found);
    let relative = |path: &Path| {
        let parts = path.strip_prefix(root()).expect("it lies below the root").components();
        parts.map(|part| part.as_os_str().to_str().expect("UTF-8")).collect::<Vec<_>>().join("/")
    };
    found
        .iter()
        .map(|path| (relative(path), fs::read_to_string(path).expect("the file can be read")))
        .collect()
}

/// A Rust source as words and single punctuation marks; comments and literals are left out.
fn tokens(source: &str) -> Vec<&str> {
    let bytes = source.as_bytes();
    let is_word = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric() || byte >= 0x80;
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &source[at..];
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            at += length_of_comment(rest);
        } else if bytes[at] == b'"' {
            at += length_of_string(rest);
        } else if bytes[at] == b'\'' {
            at += length_of_quote(rest);
        } else if is_word(bytes[at]) {
            let length = rest.bytes().take_while(|&byte| is_word(byte)).count();
            let word = &rest[..length];
            let raw = matches!(word, "r" | "br" | "cr");
            match raw.then(|| length_of_raw_string(&rest[length..])).flatten() {
                Some(literal) => at += length + literal,
                None => {
                    tokens.push(word);
                    at += length;
                }
            }
        } else {
            if !bytes[at].is_ascii_whitespace() {
                tokens.push(&rest[..1]);
            }
            at += 1;
        }
    }
    tokens
}

fn length_of_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text.as_bytes()[at..];
        if rest.starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

fn length_of_string(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

/// Length of what follows the `r` of a raw string; none when it is something else, such as a
/// word that is called `r` or a raw identifier.
fn length_of_raw_string(text: &str) -> Option<usize> {
    let hashes = text.bytes().take_while(|&byte| byte == b'#').count();
    let body = text[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = body.find(&close).unwrap_or(body.len());
    Some((hashes + 1 + end + close.len()).min(text.len()))
}

/// Length of a character literal, or one for the quote of a lifetime.
fn length_of_quote(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => {
            let escaped = characters.nth(1).map_or(text.len(), |(at, _)| at);
            text[escaped..].find('\'').map_or(text.len(), |end| escaped + end + 1)
        }
        Some(_) => match characters.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
        None => 1,
    }
}

/// Whether the tokens define a test called `name`: a function with `#[test]`, or a check that a
/// macro turns into tests, one for each paging mode, because it is written or named, not called,
/// inside the macro's braces.
fn defines_test(tokens: &[&str], name: &str) -> bool {
    let in_macro = inside_macros(tokens);
    let defined = |at: usize| {
        tokens[at..].starts_with(&["fn", name])
            && (in_macro[at] || has_test_attribute(before_modifiers(&tokens[..at])))
    };
    let named = |at: usize| {
        in_macro[at] && tokens[at] == name && tokens.get(at + 1).is_some_and(|&next| next != "(")
    };
    let is_function = tokens.windows(2).any(|pair| pair == ["fn", name]);
    is_function && (0..tokens.len()).any(|at| defined(at) || named(at))
}

/// For each token, whether it lies inside the braces of a macro's invocation.
fn inside_macros(tokens: &[&str]) -> Vec<bool> {
    let mut depth = 0_usize;
    let mut macros = Vec::new();
    let mut inside = Vec::with_capacity(tokens.len());
    for (at, &token) in tokens.iter().enumerate() {
        if token == "{" {
            if at >= 2 && tokens[at - 1] == "!" {
                macros.push(depth);
            }
            depth += 1;
        } else if token == "}" {
            depth = depth.saturating_sub(1);
            if macros.last() == Some(&depth) {
                macros.pop();
            }
        }
        inside.push(!macros.is_empty());
    }
    inside
}

/// What comes before the visibility and the `const` of a function.
fn before_modifiers<'a, 'b>(mut before: &'a [&'b str]) -> &'a [&'b str] {
    while let [rest @ .., "pub" | "const"] = before {
        before = rest;
    }
    before
}

/// Whether the attributes at the end of `before` include `#[test]`.
fn has_test_attribute(mut before: &[&str]) -> bool {
    while let [rest @ .., "]"] = before {
        let Some(open) = rest.iter().rposition(|&token| token == "[") else { return false };
        if rest[open + 1..] == ["test"] {
            return true;
        }
        let [rest @ .., "#"] = &rest[..open] else { return false };
        before = rest;
    }
    false
}

fn words<'a>(row: &'a toml::Table, key: &str) -> Vec<&'a str> {
    let values = row.get(key).and_then(toml::Value::as_array);
    let values = values.unwrap_or_else(|| panic!("`{key}` is missing in {row:?}"));
    values.iter().map(|value| value.as_str().expect("a string")).collect()
}

fn word<'a>(row: &'a toml::Table, key: &str) -> &'a str {
    let value = row.get(key).and_then(toml::Value::as_str);
    value.unwrap_or_else(|| panic!("`{key}` is missing in {row:?}"))
}

fn coverage() -> Vec<toml::Table> {
    let document: toml::Table = read("docs/coverage.toml").parse().expect("it is TOML");
    let rows = document.get("row").and_then(toml::Value::as_array).expect("it has rows");
    rows.iter().map(|row| row.as_table().expect("a row is a table").clone()).collect()
}

#[test]
fn coverage_lists_every_row_once() {
    let listed = coverage().iter().map(|row| word(row, "id").to_owned()).collect::<Vec<_>>();
    let expected = PARTS
        .iter()
        .flat_map(|(part, rows)| (1..=*rows).map(move |row| format!("{part}-{row}")))
        .collect::<Vec<_>>();
    assert_eq!(expected.len(), 222);
    assert_eq!(listed, expected);
}

#[test]
fn coverage_names_modules_and_tests_that_exist() {
    let mut sources: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut wrong = BTreeSet::new();
    for row in coverage() {
        let (id, module, tests) = (word(&row, "id"), word(&row, "module"), words(&row, "tests"));
        let mut complain = |what: String| wrong.insert(format!("{id}: {what}"));
        if word(&row, "name").is_empty() {
            complain("no name".into());
        }
        if row.len() != 5 {
            complain("it has other fields than id, name, status, module, tests".into());
        }
        match word(&row, "status") {
            "todo" if module.is_empty() && tests.is_empty() => {}
            "todo" => {
                complain("a row to do names a module or tests".into());
            }
            "partial" | "done" if !root().join(module).is_file() => {
                complain(format!("there is no module `{module}`"));
            }
            "partial" => {}
            "done" if tests.is_empty() => {
                complain("done, and no test shows it".into());
            }
            "done" => {}
            other => {
                complain(format!("no such status: {other}"));
            }
        }
        for test in tests {
            let (path, name) = test.rsplit_once("::").expect("file::function");
            let source = sources
                .entry(path.to_owned())
                .or_insert_with(|| fs::read_to_string(root().join(path)).ok());
            if !source.as_deref().is_some_and(|source| defines_test(&tokens(source), name)) {
                complain(format!("there is no test `{test}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "docs/coverage.toml:\n{wrong:#?}");
}

#[test]
fn glossary_names_things_that_exist() {
    let glossary = read("docs/GLOSSARY.md");
    let mut wrong = Vec::new();
    let mut rows = 0;
    for line in glossary.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = line.split('|').skip(1);
        let names = cells.next().expect("a cell");
        let link = cells.next().and_then(|cell| cell.split_once("](../")?.1.split_once(')'));
        let Some((path, _)) = link else { continue };
        rows += 1;
        let Ok(source) = fs::read_to_string(root().join(path)) else {
            wrong.push(format!("there is no file {path}"));
            continue;
        };
        let tokens = tokens(&source);
        for name in names.split('`').skip(1).step_by(2) {
            let last = name.rsplit("::").next().expect("a part").trim_end_matches('!');
            if !tokens.contains(&last) {
                wrong.push(format!("there is no `{name}` in {path}"));
            }
        }
    }
    assert!(rows > 100, "{rows} rows were understood");
    assert!(wrong.is_empty(), "docs/GLOSSARY.md:\n{wrong:#?}");
}

/// The file and the count of a row of `UNSAFE.md`.
fn unsafe_row(line: &str) -> Option<(&str, usize)> {
    let mut cells = line.split('|').map(str::trim).skip(1);
    let path = cells.next()?.strip_prefix('`')?.strip_suffix('`')?;
    let count = cells.next().and_then(|cell| cell.parse().ok());
    Some((path, count.unwrap_or_else(|| panic!("UNSAFE.md: no count for {path}"))))
}

#[test]
fn unsafe_md_lists_every_unsafe() {
    let found = sources_below(".")
        .into_iter()
        .map(|(path, source)| {
            let count = tokens(&source).iter().filter(|&&token| token == "unsafe").count();
            (path, count)
        })
        .filter(|(_, count)| *count > 0)
        .collect::<BTreeMap<_, _>>();
    let mut table = read("UNSAFE.md");
    if env::var_os(UPDATE).is_some() {
        let counted = |line: &str| match unsafe_row(line) {
            Some((path, count)) => {
                let right = found.get(path).unwrap_or(&count);
                line.replacen(&format!("| {count} |"), &format!("| {right} |"), 1) + "\n"
            }
            None => line.to_owned() + "\n",
        };
        table = table.lines().map(counted).collect();
        fs::write(root().join("UNSAFE.md"), &table).expect("UNSAFE.md can be written");
    }
    let mut listed = BTreeMap::new();
    for (path, count) in table.lines().filter_map(unsafe_row) {
        assert_eq!(listed.insert(path.to_owned(), count), None, "UNSAFE.md: {path} twice");
    }
    let mut wrong = Vec::new();
    for path in found.keys().chain(listed.keys()).collect::<BTreeSet<_>>() {
        let (is, says) = (found.get(path).unwrap_or(&0), listed.get(path).unwrap_or(&0));
        if is != says {
            wrong.push(format!("{path}: {is}, listed {says}"));
        }
    }
    assert!(wrong.is_empty(), "UNSAFE.md is out of date ({UPDATE}=1 mends counts):\n{wrong:#?}");
}

#[test]
fn guide_for_kernels_quotes_the_kernel() {
    let guide = read("docs/your-own-kernel.md");
    let directory = KERNEL[0];
    let sources = sources_below(directory);
    let lines = sources.values().flat_map(|source| source.lines().map(str::trim));
    let lines = lines.collect::<BTreeSet<_>>();
    let mut wrong = Vec::new();
    let mut quoted = 0;
    for block in guide.split("```rust\n").skip(1) {
        let (block, _) = block.split_once("```").expect("a block ends");
        for line in block.lines().map(str::trim).filter(|line| !matches!(*line, "" | "...")) {
            quoted += 1;
            if !lines.contains(line) {
                wrong.push(format!("the kernel has no line `{line}`"));
            }
        }
    }
    for name in guide.split('`').skip(1).step_by(2) {
        let is_file = name.ends_with(".rs") || name.ends_with(".s");
        let [here, at_root] = [format!("{directory}/{name}"), name.to_owned()];
        if is_file && !root().join(here).is_file() && !root().join(at_root).is_file() {
            wrong.push(format!("there is no file {name}"));
        }
    }
    assert!(quoted > 30, "{quoted} lines of the kernel were understood");
    assert!(wrong.is_empty(), "docs/your-own-kernel.md:\n{wrong:#?}");
}

#[test]
fn nothing_is_left_unfinished() {
    let mut found = Vec::new();
    for (path, source) in ["crates", "kernel"].into_iter().flat_map(sources_below) {
        for pair in tokens(&source).windows(2) {
            if let [name @ ("todo" | "unimplemented" | "dbg"), "!"] = *pair {
                found.push(format!("{path}: {name}!"));
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn manager_and_checks_forbid_unsafe() {
    for name in MANAGER_CRATES.into_iter().chain(["ntmm-check", "ntmm-probe", "ntmm-workload"]) {
        let path = format!("crates/{name}/src/lib.rs");
        let source = read(&path);
        let forbids = tokens(&source)
            .windows(8)
            .any(|window| window == ["#", "!", "[", "forbid", "(", "unsafe_code", ")", "]"]);
        assert!(forbids, "{path} does not forbid unsafe code");
    }
}

#[test]
fn files_of_manager_and_kernel_stay_short() {
    let mut long = Vec::new();
    let manager = MANAGER_CRATES.map(|name| format!("crates/{name}/src"));
    for directory in manager.into_iter().chain(KERNEL.map(str::to_owned)) {
        for (path, source) in sources_below(&directory) {
            let lines = source.lines().count();
            if lines > LONGEST {
                long.push(format!("{path}: {lines} lines"));
            }
        }
    }
    assert!(long.is_empty(), "{long:#?}");
}

#[test]
fn tokens_leave_comments_and_literals_out() {
    let source = r####"
        // unsafe
        /* unsafe /* unsafe */ unsafe */
        fn f<'a>(s: &'a str) -> char { unsafe { g("unsafe \" unsafe", 'u', '"', '\'', b"unsafe") } }
        const R: &str = r##"unsafe "# unsafe"##; const unsafe_code: u8 = b'\x7f';
    "####;
    let tokens = tokens(source);
    assert_eq!(tokens.iter().filter(|&&token| token == "unsafe").count(), 1);
    assert!(tokens.windows(2).any(|pair| pair == ["unsafe", "{"]));
    assert!(tokens.windows(4).any(|window| window == ["const", "R", ":", "&"]));
    assert!(tokens.contains(&"unsafe_code"));
    assert!(!tokens.contains(&"x7f"));
}

#[test]
fn tests_are_told_from_other_functions() {
    let source = "#[test] #[ignore] fn a() {} fn b() { c(); } fn c() {} #[cfg(test)] fn d() {}
        each! { x => e; fn f<M>() { g(); } } fn e() {} fn g() {} #[test] const fn h() {}
        fn i() { match y { z => i; } }";
    let tokens = tokens(source);
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    let tests = names.into_iter().filter(|name| defines_test(&tokens, name)).collect::<Vec<_>>();
    assert_eq!(tests, ["a", "e", "f", "h"]);
}
