//! `ntmm boot`: the kernel that the manager has on bare x86-64, on a PC that QEMU emulates.
//!
//! | File | Holds |
//! |---|---|
//! | [`image`] | where the kernel and its programs are |
//! | [`archive`] | the archive that the kernel boots from |
//! | [`programs`] | the processes it starts |
//! | [`paging_disk`] | the raw file under its paging disk |
//! | [`temporary`] | files that vanish with this program |
//! | [`qemu`] | the emulated PC, its console and its end |
//! | [`report`] | what kernel and programs report on the console |
//! | [`console`] | what came of it, as the figures of a run |
//! | [`error`] | what can go wrong |
//!
//! A boot is one run of [`boot`]: the images are read and put in an archive with the list of
//! processes, QEMU runs the kernel on them, text on the console passes through, and the reports
//! on it become the same [figures](crate::run::figures::Figures), and the same table, that a run
//! on the simulated machine ends with.

pub mod archive;
pub mod console;
pub mod error;
pub mod image;
pub mod paging_disk;
pub mod programs;
pub mod qemu;
pub mod report;
pub mod temporary;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use crate::arguments::BootArguments;
use crate::failure::Failure;
use crate::output::{print, print_json};
use crate::run::figures::Figures;
use crate::run::summary;
use archive::Archive;
use console::{Console, Stream};
use error::BootError;
use image::Images;
use paging_disk::PagingDisk;
use qemu::{Board, Counting, Machine};
use temporary::TemporaryFile;

/// Name of the list of processes in the archive.
const PROGRAMS: &str = "programs";

/// Runs the command.
///
/// # Errors
/// Something that is needed is missing, the kernel does not boot or stops, or a program fails.
pub fn boot(arguments: &BootArguments) -> Result<(), Failure> {
    let images = Images::find(arguments.kernel.as_deref()).map_err(BootError::from)?;
    let disk = disk(arguments)?;
    let paging = disk.as_ref().map(PagingDisk::size).transpose()?;
    let programs = match &arguments.programs[..] {
        [] => programs::standard(arguments.ram, paging),
        programs => programs.to_vec(),
    };
    let archive = pack(&images, &programs, &arguments.archive)?;
    let archive = TemporaryFile::holding("cannot write the archive in", &archive)?;
    let machine = Machine {
        board: Board::Microvm,
        ram: arguments.ram,
        cpus: arguments.cpus,
        paging_file: disk.as_ref().map(|disk| disk.path().to_owned()),
        disk_errors: None,
        counting: Counting::HostTime,
        kernel: images.kernel().to_owned(),
        initrd: Some(archive.path().to_owned()),
        words: arguments.words.clone(),
    };
    let mut console = Console::new(if arguments.json { Stream::Error } else { Stream::Output });
    let ending = qemu::run(&machine, &mut |line| console.line(line), arguments.timeout);
    let ending = ending.map_err(BootError::from)?;
    let (figures, result) = console.verdict(ending);
    if let Some(figures) = figures {
        print_figures(arguments, &figures)?;
    }
    result
}

fn disk(arguments: &BootArguments) -> Result<Option<PagingDisk>, Failure> {
    let size = arguments.pagefile_size.unwrap_or(paging_disk::USUAL_SIZE);
    match &arguments.pagefile {
        _ if arguments.no_pagefile => Ok(None),
        Some(path) => {
            let disk = PagingDisk::named(path, size)?;
            let found = disk.size()?;
            if arguments.pagefile_size.is_some() && found != size {
                let (path, found) = (path.display(), found.get() / 1024);
                // Whoever does not see a warning misses nothing else.
                let _ = writeln!(
                    io::stderr(),
                    "ntmm: {path} is there already and is used at its own size, {found}K; \
                     --pagefile-size says nothing then"
                );
            }
            Ok(Some(disk))
        }
        None => PagingDisk::temporary(size).map(Some),
    }
}

/// The archive: the list of processes, each of their programs, and the further files.
fn pack(
    images: &Images,
    programs: &[String],
    files: &[impl AsRef<Path>],
) -> Result<Vec<u8>, Failure> {
    let mut archive = Archive::new();
    let list: String = programs.iter().map(|program| format!("{program}\n")).collect();
    archive.add(PROGRAMS, list.as_bytes()).map_err(BootError::from)?;
    for program in programs {
        let name = programs::name(program);
        if !archive.has(name) || name == PROGRAMS {
            let image = images.program(name).map_err(BootError::from)?;
            archive.add(name, &image).map_err(BootError::from)?;
        }
    }
    for path in files {
        let path = path.as_ref();
        let refuse = |error| Failure::host("cannot read", path, error);
        let bytes = fs::read(path).map_err(refuse)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        archive.add(&name, &bytes).map_err(BootError::from)?;
    }
    Ok(archive.finish())
}

fn print_figures(arguments: &BootArguments, figures: &Figures) -> Result<(), Failure> {
    if arguments.json {
        return print_json(figures);
    }
    print(&format!("\n{}", summary::text(figures)))
}
