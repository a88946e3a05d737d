//! The emulator with the least kernel there can be: endings, hangs, refusals, nothing left
//! running.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use ntmm_cli::boot::qemu::{self, Board, Counting, Ending, Machine, QemuError};
use ntmm_pte::Bytes;

use crate::common::{argument, boot, boot_command, directory, qemu_is_here};
use crate::stub::{self, End};

/// Longer than QEMU needs to start on a busy host.
const PATIENCE: Duration = Duration::from_secs(120);

fn machine(kernel: &Path) -> Machine {
    Machine {
        board: Board::Microvm,
        ram: Bytes::new(16 << 20),
        cpus: 1,
        paging_file: None,
        disk_errors: None,
        counting: Counting::HostTime,
        kernel: kernel.to_owned(),
        initrd: None,
        words: Vec::new(),
    }
}

/// Runs a machine; its lines.
fn run(machine: &Machine, silence: Duration) -> (Vec<String>, Result<Ending, QemuError>) {
    let mut lines = Vec::new();
    let ending = qemu::run(machine, &mut |line| lines.push(line.to_owned()), silence);
    (lines, ending)
}

#[test]
fn a_guest_says_its_lines_and_chooses_its_end() {
    if !qemu_is_here() {
        return;
    }
    let directory = directory("endings");
    let endings = [
        (0x10, Ending::Good),
        (0x11, Ending::ProgramFailed),
        (0x12, Ending::BugCheck),
        (0x13, Ending::CouldNotBoot),
        (0x14, Ending::BadWord),
    ];
    for (number, expected) in endings {
        let kernel = stub::write(&directory, "one\r\ntwo\n\nno end", End::Exit(number));
        for (board, counting) in [
            (Board::Microvm, Counting::HostTime),
            (Board::Microvm, Counting::Instructions),
            (Board::Pc, Counting::Instructions),
        ] {
            let machine = Machine { board, counting, ..machine(&kernel) };
            let (lines, ending) = run(&machine, PATIENCE);
            assert_eq!(ending.expect("it ends by itself"), expected);
            assert_eq!(lines, ["one", "two", "", "no end"]);
        }
    }
}

#[test]
fn an_end_that_means_nothing_is_an_error() {
    if !qemu_is_here() {
        return;
    }
    let directory = directory("no_endings");
    let kernel = stub::write(&directory, "", End::Exit(0x20));
    let (_, ending) = run(&machine(&kernel), PATIENCE);
    let error = ending.expect_err("no ending");
    assert!(matches!(error, QemuError::Ended { .. }), "{error}");
    assert!(error.to_string().contains("65"), "{error}");
    let kernel = stub::write(&directory, "last words\n", End::Fault);
    let (lines, ending) = run(&machine(&kernel), PATIENCE);
    assert!(matches!(ending, Err(QemuError::Reset)), "{ending:?}");
    assert_eq!(lines, ["last words"]);
}

#[test]
fn silence_is_a_hang() {
    if !qemu_is_here() {
        return;
    }
    let directory = directory("silence");
    let kernel = stub::write(&directory, "words\nand no more", End::Hang);
    let (lines, ending) = run(&machine(&kernel), Duration::from_secs(5));
    let error = ending.expect_err("it hangs");
    assert!(matches!(error, QemuError::Silent { .. }), "{error}");
    assert_eq!(lines, ["words", "and no more"]);
    let boot = boot(&kernel, &["--program", "stub", "--timeout", "5"]);
    let complaint = boot.complaint(1);
    let silence = "no line on the machine's console for 5 seconds: it hangs, or is busy";
    assert_eq!(complaint, format!("{silence} (see --timeout)"));
    assert_eq!(boot.stdout, "words\nand no more\n");
}

#[test]
fn what_qemu_refuses_is_passed_on() {
    if !qemu_is_here() {
        return;
    }
    let directory = directory("refused");
    let kernel = stub::write(&directory, "", End::Exit(0x10));
    let file = directory.join("no,such:file");
    let machine = Machine { paging_file: Some(file.clone()), ..machine(&kernel) };
    let (_, ending) = run(&machine, PATIENCE);
    let error = ending.expect_err("there is no such file");
    assert!(matches!(error, QemuError::Refused { .. }), "{error}");
    assert!(error.to_string().contains(argument(&file)), "{error}");
    fs::write(&kernel, "\x7fELF and nothing else").expect("temporary file");
    boot(&kernel, &["--no-pagefile", "--program", "stub"]).complaint(2);
}

#[test]
fn a_disk_with_an_awkward_name_is_used() {
    if !qemu_is_here() {
        return;
    }
    let directory = directory("awkward");
    let kernel = stub::write(&directory, "", End::Exit(0x10));
    let file = directory.join("a,b:c d.img");
    fs::write(&file, vec![0; 1 << 20]).expect("temporary file");
    let machine = Machine { paging_file: Some(file), ..machine(&kernel) };
    assert_eq!(run(&machine, PATIENCE).1.expect("it ends by itself"), Ending::Good);
    let rules = directory.join("rules,1");
    fs::write(&rules, "[inject-error]\nevent = \"none\"\niotype = \"read\"\nerrno = \"5\"\n")
        .expect("a file");
    let machine = Machine { disk_errors: Some(rules), ..machine };
    assert_eq!(run(&machine, PATIENCE).1.expect("it ends by itself"), Ending::Good);
}

/// The processes of this system that run QEMU with this kernel, by number.
fn emulators_of(kernel: &Path) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("there are processes").flatten();
    let of_kernel = entries.filter(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut words = command.split(|byte| *byte == 0);
        let program = words.next().unwrap_or_default();
        program.ends_with(b"qemu-system-x86_64")
            && words.any(|word| word == argument(kernel).as_bytes())
    });
    of_kernel.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn no_emulator_outlives_the_program() {
    if !qemu_is_here() {
        return;
    }
    let directory = directory("outlive");
    let kernel = stub::write(&directory, "begun\n", End::Hang);
    let mut command = boot_command(&kernel, &["--program", "stub", "--no-pagefile"]);
    let mut program = command.stdout(Stdio::piped()).spawn().expect("the program starts");
    let stdout = program.stdout.take().expect("a pipe");
    let mut lines = BufReader::new(stdout).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "begun");
    assert_eq!(emulators_of(&kernel).len(), 1);
    program.kill().expect("it runs");
    program.wait().expect("it ends");
    // The system kills the emulator on its own time.
    for _ in 0..20_000 {
        if emulators_of(&kernel).is_empty() {
            return;
        }
        std::thread::yield_now();
    }
    panic!("the emulator still runs");
}

#[test]
fn an_emulator_that_is_ended_from_outside_has_not_reset() {
    if !qemu_is_here() {
        return;
    }
    let directory = directory("terminated");
    let kernel = stub::write(&directory, "begun\n", End::Hang);
    let mut terminate = |line: &str| {
        assert_eq!(line, "begun");
        let killed = Command::new("kill").args(emulators_of(&kernel)).status();
        assert!(killed.expect("kill starts").success());
    };
    let ending = qemu::run(&machine(&kernel), &mut terminate, PATIENCE);
    let error = ending.expect_err("it does not end by itself");
    assert!(matches!(error, QemuError::Terminated { .. }), "{error}");
    assert!(error.to_string().contains("signal 15"), "{error}");
}
