//! `ntmm bench kernel`: the instructions of the kernel's operations, beside those of Linux.
//!
//! The kernel is booted twice, and a figure that is not the same both times is an error: counts of
//! instructions are exact, so a difference means that something was measured that is not there
//! every time.

use std::time::Duration;

use ntmm_pte::Bytes;

use super::linux::Linux;
use super::operations::{Comparison, differences};
use crate::arguments::BenchKernelArguments;
use crate::boot::archive::{Archive, ArchiveError};
use crate::boot::console::{Console, Stream};
use crate::boot::error::BootError;
use crate::boot::image::Images;
use crate::boot::paging_disk::PagingDisk;
use crate::boot::qemu::{self, Board, Counting, Machine};
use crate::boot::report::{Bench, Line};
use crate::boot::temporary::TemporaryFile;
use crate::failure::Failure;
use crate::output::{print, print_json};

/// The program that measures.
const PROGRAM: &str = "bench";

/// Memory of the machine.
const RAM: Bytes = Bytes::new(64 << 20);

/// The paging disk: more than the program can fill.
const DISK: Bytes = Bytes::new(256 << 20);

/// How long the console may be silent before the machine is taken to hang.
const SILENCE: Duration = Duration::from_secs(300);

/// Runs after which figures that still differ are a failure.
const RUNS: u32 = 6;

/// Measures until two runs in a row agree. Instructions are exact, but the disk completes when the
/// host gets to it: on a busy host the writer may have found a page more, or one less, to write at
/// once, and the mean over its pages differs by an instruction.
fn measure_exactly(images: &Images, archive: &TemporaryFile) -> Result<Vec<Bench>, Failure> {
    let mut figures = measure(images, archive)?;
    let mut differing = Vec::new();
    for _ in 1..RUNS {
        let again = measure(images, archive)?;
        differing = differences(&figures, &again);
        if differing.is_empty() {
            return Ok(figures);
        }
        figures = again;
    }
    Err(Failure::Check(format!("two runs differ, every time: {}", differing.join("; "))))
}

/// Runs the command.
///
/// # Errors
/// Something that is needed is missing, a kernel fails, or no two runs of ours in a row agree.
pub fn kernel(arguments: &BenchKernelArguments) -> Result<(), Failure> {
    let images = Images::find(arguments.kernel.as_deref()).map_err(BootError::from)?;
    let program = images.program(PROGRAM).map_err(BootError::from)?;
    let archive = pack(&program).map_err(BootError::from)?;
    let archive = TemporaryFile::holding("cannot write the archive in", &archive)?;
    // What is missing is said before anything is measured.
    qemu::installed().map_err(BootError::from)?;
    let linux = match &arguments.linux {
        _ if arguments.no_linux => None,
        Some(path) => Some(Linux::at(path)?),
        None => Some(Linux::packaged()?),
    };
    let figures = measure_exactly(&images, &archive)?;
    let measured = linux.as_ref().map(Linux::measure).transpose()?.unwrap_or_default();
    let comparison = Comparison::new(&figures, &measured.figures);
    if arguments.json {
        return print_json(&comparison);
    }
    print(&format!("{}\n{}", comparison.table(), footer(linux.as_ref(), &measured.remarks)))
}

/// What the figures are.
fn footer(linux: Option<&Linux>, remarks: &[String]) -> String {
    let mut text = "instructions in QEMU with one processor (qemu64); the same in two runs of \
                    ntmm's kernel\n"
        .to_owned();
    if let Some(linux) = linux {
        text.push_str(&format!("linux: {linux}\n"));
    }
    text.extend(remarks.iter().map(|remark| format!("linux: {remark}\n")));
    text
}

fn pack(program: &[u8]) -> Result<Vec<u8>, ArchiveError> {
    let mut archive = Archive::new();
    archive.add("programs", format!("{PROGRAM}\n").as_bytes())?;
    archive.add(PROGRAM, program)?;
    Ok(archive.finish())
}

/// Boots the kernel and has it measured.
fn measure(images: &Images, archive: &TemporaryFile) -> Result<Vec<Bench>, Failure> {
    let disk = PagingDisk::temporary(DISK)?;
    let machine = Machine {
        board: Board::Microvm,
        ram: RAM,
        cpus: 1,
        paging_file: Some(disk.path().to_owned()),
        disk_errors: None,
        counting: Counting::Instructions,
        kernel: images.kernel().to_owned(),
        initrd: Some(archive.path().to_owned()),
        words: Vec::new(),
    };
    let mut console = Console::new(Stream::Error);
    let mut figures = Vec::new();
    let mut on_line = |line: &str| match Line::read(line) {
        Line::Bench(figure) => figures.push(figure),
        _ => console.line(line),
    };
    let ending = qemu::run(&machine, &mut on_line, SILENCE).map_err(BootError::from)?;
    console.verdict(ending).1?;
    if figures.is_empty() {
        return Err(Failure::Check(format!("the program {PROGRAM} reported no figures")));
    }
    Ok(figures)
}
