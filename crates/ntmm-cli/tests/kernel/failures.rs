//! What is bad: too little memory, images that are none, programs that want too much or run
//! wild, disks that fail. The kernel goes on, or it stops and says why; it never hangs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ntmm_cli::boot::archive::Archive;
use ntmm_cli::boot::qemu::{self, Board, Counting, Ending, Machine};
use ntmm_cli::boot::report::{Line, Process};
use ntmm_pte::Bytes;

use crate::common::{argument, boot, directory, kernel, number, qemu_is_here};

/// Longer than any of these machines is silent on a busy host.
const PATIENCE: Duration = Duration::from_secs(180);

/// STATUS_IN_PAGE_ERROR.
const IN_PAGE_ERROR: u32 = 0xC000_0006;

/// An archive with these members, in a file.
fn archive(directory: &Path, members: &[(&str, &[u8])]) -> PathBuf {
    let mut archive = Archive::new();
    for (name, bytes) in members {
        archive.add(name, bytes).expect("names are good");
    }
    let path = directory.join("archive");
    fs::write(&path, archive.finish()).expect("temporary files can be written");
    path
}

/// An archive with `programs` as the list of processes, and all their images.
fn archive_of(directory: &Path, programs: &[&str]) -> PathBuf {
    let list: String = programs.iter().map(|line| format!("{line}\n")).collect();
    let mut names: Vec<&str> = programs.iter().filter_map(|line| line.split(' ').next()).collect();
    names.sort_unstable();
    names.dedup();
    let images: Vec<Vec<u8>> = names
        .iter()
        .map(|name| fs::read(kernel().with_file_name(name)).expect("the program is built"))
        .collect();
    let mut members = vec![("programs", list.as_bytes())];
    members.extend(names.iter().copied().zip(images.iter().map(Vec::as_slice)));
    archive(directory, &members)
}

fn machine(archive: PathBuf, mebibytes: u64) -> Machine {
    Machine {
        board: Board::Microvm,
        ram: Bytes::new(mebibytes << 20),
        cpus: 2,
        paging_file: None,
        disk_errors: None,
        counting: Counting::HostTime,
        kernel: kernel().to_owned(),
        initrd: Some(archive),
        words: Vec::new(),
    }
}

/// Runs a machine to its end; its console.
fn run(machine: &Machine) -> (Vec<String>, Ending) {
    let mut lines = Vec::new();
    let ending = qemu::run(machine, &mut |line| lines.push(line.to_owned()), PATIENCE);
    let ending = ending.unwrap_or_else(|error| panic!("{error}\n{}", lines.join("\n")));
    (lines, ending)
}

/// The processes that a console reports, by number.
fn processes(lines: &[String]) -> BTreeMap<u64, Process> {
    let reports = lines.iter().filter_map(|line| match Line::read(line) {
        Line::Process(process) => Some((process.id, process)),
        _ => None,
    });
    reports.collect()
}

#[test]
fn too_little_memory_is_said() {
    if !qemu_is_here() {
        return;
    }
    let directory = directory("little_memory");
    let programs = archive_of(&directory, &["verify pages=16"]);
    for (mebibytes, words) in [(2, &[][..]), (3, &[]), (16, &["ram=8"]), (16, &["ram=20"])] {
        let words = words.iter().map(|word: &&str| (*word).to_owned()).collect();
        let (lines, ending) = run(&Machine { words, ..machine(programs.clone(), mebibytes) });
        assert_eq!(ending, Ending::CouldNotBoot, "{mebibytes} MiB: {lines:?}");
        let last = lines.last().expect("a reason");
        assert!(last.contains("memory"), "{mebibytes} MiB: {lines:?}");
    }
}

#[test]
fn words_that_mean_nothing_are_refused() {
    if !qemu_is_here() {
        return;
    }
    for word in [
        "foo=bar",
        "foo",
        "ram=abc",
        "ram=-1",
        "ram=0",
        "ram",
        "balloon=",
        "squatter",
        "squatter=1",
        "seed=abc",
        "patience=0",
        "profile=xp",
        "selftest=nosuch",
        "pagefile=abc",
        "pagefile=0",
        "pagefile=100",
        "pagefile=1000:500",
        "pagefile=1000:1000000",
    ] {
        let run = boot(kernel(), &["--ram", "24M", "--program", "guard", "--word", word]);
        let name = word.split('=').next().unwrap_or_default();
        let complaint = run.complaint(2);
        assert!(complaint.starts_with("the kernel refuses the word "), "{word}: {complaint}");
        assert!(complaint.contains(name), "{word}: {complaint}");
    }
    let disk = ["--no-pagefile", "--word", "pagefile=1000", "--program", "guard"];
    assert!(boot(kernel(), &disk).complaint(2).contains("a paging disk"));
}

#[test]
fn words_reach_the_kernel() {
    if !qemu_is_here() {
        return;
    }
    let words = ["--word", "ram=3000", "--word", "pagefile=1000:2000", "--word", "seed=7"];
    let figures = boot(kernel(), &[&words[..], &["--program", "guard", "--json"]].concat()).json(0);
    assert_eq!(number(&figures, "/paging_file/slots"), 999, "{figures}");
    assert!(number(&figures, "/machine/kernel") > 5000, "{figures}");
    let run = boot(kernel(), &["--word", "ram=20", "--program", "guard"]);
    assert!(run.complaint(3).contains(": 80 KiB of memory are too little"), "{}", run.stderr);
}

#[test]
fn an_archive_larger_than_memory_is_no_hang() {
    if !qemu_is_here() {
        return;
    }
    let directory = directory("large_archive");
    let large = directory.join("large");
    fs::write(&large, vec![1; 20 << 20]).expect("temporary files can be written");
    let arguments = ["--ram", "16M", "--program", "verify", "--archive", argument(&large)];
    let run = boot(kernel(), &arguments);
    assert!([2, 3].contains(&run.code), "{run:?}");
    assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
}

#[test]
fn archives_that_hold_no_programs_are_refused() {
    if !qemu_is_here() {
        return;
    }
    let directory = directory("bad_archives");
    let verify = fs::read(kernel().with_file_name("verify")).expect("the program is built");
    let mut wrong_machine = verify.clone();
    wrong_machine[18] = 3;
    let members: [&[(&str, &[u8])]; 8] = [
        &[],
        &[("programs", b"")],
        &[("programs", b"verify\n"), ("verify", &verify[..5000])],
        &[("verify", &verify)],
        &[("programs", b"verify\n")],
        &[("programs", b"\xff\xfe\n"), ("verify", &verify)],
        &[("programs", b"verify\n"), ("verify", b"\x7fELF")],
        &[("programs", b"verify\n"), ("verify", &wrong_machine)],
    ];
    for members in members {
        let (lines, ending) = run(&machine(archive(&directory, members), 24));
        assert_eq!(ending, Ending::CouldNotBoot, "{lines:?}");
        assert!(!lines.last().expect("a reason").is_empty());
    }
    for bytes in [&b""[..], b"x", b"070701", &[0xFF; 5000]] {
        let path = directory.join("archive");
        fs::write(&path, bytes).expect("temporary files can be written");
        // QEMU may refuse a file of nothing itself.
        let mut lines = Vec::new();
        let machine = machine(path, 24);
        let ending = qemu::run(&machine, &mut |line| lines.push(line.to_owned()), PATIENCE);
        if !bytes.is_empty() {
            assert_eq!(ending.expect("it ends"), Ending::CouldNotBoot, "{lines:?}");
        }
    }
}

#[test]
fn more_than_can_be_promised_is_refused_and_nothing_else_suffers() {
    if !qemu_is_here() {
        return;
    }
    let programs = ["--program", "verify pages=40000", "--program", "verify pages=500"];
    let disk = ["--ram", "24M", "--pagefile-size", "1M", "--json"];
    let run = boot(kernel(), &[&programs[..], &disk[..]].concat());
    assert!(run.complaint(3).starts_with("process 1 (verify) ended with "), "{}", run.stderr);
    assert!(run.complaint(3).contains("STATUS_COMMITMENT_LIMIT"), "{}", run.stderr);
    let figures = run.json(3);
    assert_eq!(figures["processes"][0]["status_name"], "STATUS_COMMITMENT_LIMIT");
    assert_eq!(number(&figures, "/processes/1/status"), 0);
    assert!(number(&figures, "/processes/1/verified") > 0);
}

#[test]
fn overrunning_the_commit_limit_is_survived() {
    if !qemu_is_here() {
        return;
    }
    for paging in [&["--no-pagefile"][..], &["--pagefile-size", "16M"]] {
        let programs = ["--program", "overrun", "--program", "verify pages=300", "--json"];
        let run = boot(kernel(), &[&["--ram", "24M"], paging, &programs[..]].concat());
        assert!(run.stderr.contains("overrun: right"), "{}", run.stderr);
        let figures = run.json(0);
        assert!(number(&figures, "/processes/0/pages") > 1000, "{figures}");
        assert!(number(&figures, "/processes/1/verified") > 0, "{figures}");
    }
}

#[test]
fn threads_share_what_they_fault_in() {
    if !qemu_is_here() {
        return;
    }
    for cpus in ["1", "4"] {
        let programs = ["--program", "threads", "--program", "verify pages=6000 rounds=1"];
        let run =
            boot(kernel(), &[&["--ram", "24M", "--cpus", cpus, "--json"], &programs[..]].concat());
        assert!(run.stderr.contains("threads: right"), "{}", run.stderr);
        assert!(number(&run.json(0), "/processes/0/verified") > 0);
    }
}

#[test]
fn what_a_handler_survives_is_survived() {
    if !qemu_is_here() {
        return;
    }
    let programs = ["--program", "wild", "--program", "verify pages=2000"];
    let run = boot(kernel(), &[&["--ram", "24M", "--json"], &programs[..]].concat());
    assert!(run.stderr.contains("verify: right"), "{}", run.stderr);
    assert_eq!(number(&run.json(0), "/processes/0/status"), 0);
}

/// Each kind of misbehaviour with the statuses it may end with, as the program itself says.
fn kinds() -> BTreeMap<String, Vec<u32>> {
    let run = boot(kernel(), &["--program", "wild kind=names"]);
    assert_eq!(run.code, 0, "{run:?}");
    let mut kinds: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    for line in run.stdout.lines() {
        let promise =
            line.strip_prefix("wild: ").and_then(|line| line.split_once(" must end with "));
        let Some((name, status)) = promise else { continue };
        let (_, code) = status.split_once("0x").expect("a code");
        let code = u32::from_str_radix(code.trim_end_matches(')'), 16).expect("hexadecimal");
        kinds.entry(name.to_owned()).or_default().push(code);
    }
    assert!(kinds.len() > 50, "{}", run.stdout);
    kinds
}

#[test]
fn every_wild_program_ends_as_it_must_and_alone() {
    if !qemu_is_here() {
        return;
    }
    let directory = directory("wild");
    let kinds: Vec<(String, Vec<u32>)> = kinds().into_iter().collect();
    for some in kinds.chunks(10) {
        let lines: Vec<String> = some.iter().map(|(name, _)| format!("wild kind={name}")).collect();
        let mut programs: Vec<&str> = lines.iter().map(String::as_str).collect();
        programs.push("verify pages=1000");
        let (console, _) = run(&machine(archive_of(&directory, &programs), 32));
        let processes = processes(&console);
        assert_eq!(processes.len(), programs.len(), "{}", console.join("\n"));
        for (process, (name, ends)) in processes.values().zip(some) {
            assert!(ends.contains(&process.status), "{name}: {:#x}", process.status);
        }
        let verify = processes.values().last().expect("there are processes");
        assert_eq!((verify.name.as_str(), verify.status), ("verify", 0), "{console:?}");
        assert!(verify.verified > 0);
    }
}

/// How often a disk fails.
#[derive(Clone, Copy)]
enum Times {
    Once,
    Always,
}

/// Rules of QEMU's driver blkdebug for a disk that answers `kind` of request with an error.
fn rules(kind: &str, errno: u32, times: Times) -> String {
    let once = match times {
        Times::Once => "on",
        Times::Always => "off",
    };
    format!(
        "[inject-error]\nevent = \"none\"\niotype = \"{kind}\"\nerrno = \"{errno}\"\n\
         once = \"{once}\"\n"
    )
}

/// A machine whose programs need the disk, and the disk's errors.
fn failing(test: &str, rules: &str) -> Machine {
    let directory = directory(test);
    let programs = archive_of(&directory, &["verify pages=7000", "verify pages=300 seed=2"]);
    let (disk, errors) = (directory.join("page.img"), directory.join("rules"));
    fs::File::create(&disk).and_then(|file| file.set_len(64 << 20)).expect("a file");
    fs::write(&errors, rules).expect("temporary files can be written");
    Machine { paging_file: Some(disk), disk_errors: Some(errors), ..machine(programs, 24) }
}

#[test]
fn a_disk_that_cannot_be_read_is_an_in_page_error() {
    if !qemu_is_here() {
        return;
    }
    let machine = failing("unreadable", &rules("read", 5, Times::Always));
    let (lines, ending) = run(&machine);
    assert_eq!(ending, Ending::ProgramFailed, "{lines:?}");
    let processes = processes(&lines);
    assert_eq!(processes.len(), 2, "{lines:?}");
    assert_eq!(processes[&1].status, IN_PAGE_ERROR, "{lines:?}");
}

#[test]
fn a_disk_that_cannot_be_written_is_no_hang() {
    if !qemu_is_here() {
        return;
    }
    for (errno, test) in [(5, "unwritable"), (28, "full")] {
        let (lines, ending) = run(&failing(test, &rules("write", errno, Times::Always)));
        match ending {
            Ending::BugCheck => assert!(
                lines.iter().any(|line| matches!(Line::read(line), Line::BugCheck(_))),
                "{lines:?}"
            ),
            Ending::ProgramFailed => assert_eq!(processes(&lines).len(), 2, "{lines:?}"),
            Ending::Good | Ending::CouldNotBoot | Ending::BadWord => {
                panic!("{ending:?}: {lines:?}")
            }
        }
    }
}

#[test]
fn a_disk_that_fails_once_fails_no_more_than_once() {
    if !qemu_is_here() {
        return;
    }
    let (lines, ending) = run(&failing("write_once", &rules("write", 5, Times::Once)));
    assert_eq!(ending, Ending::Good, "what cannot be written stays in memory: {lines:?}");
    let (lines, _) = run(&failing("read_once", &rules("read", 5, Times::Once)));
    let failed = processes(&lines).into_values().filter(|process| process.status != 0);
    let failed: Vec<u32> = failed.map(|process| process.status).collect();
    assert!(failed.is_empty() || failed == [IN_PAGE_ERROR], "{lines:?}");
}
