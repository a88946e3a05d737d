//! The command line: what may be asked for, and how its values are written.
//!
//! Values are parsed here into the types the rest of the program works with; a value that means
//! nothing is refused before anything is opened or created.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use ntmm_check::setup::Paging;
use ntmm_conformance::Profile;
use ntmm_pte::{Bytes, Va};
use ntmm_trace::WindowPages;

/// The most memory a simulated machine may be given.
pub const MAXIMUM_RAM: Bytes = Bytes::new(4 << 30);

/// The least memory the kernel is booted with.
pub const MINIMUM_BOOT_RAM: Bytes = Bytes::new(16 << 20);

/// The emulated PC's memory comes in pieces of this many bytes.
const MEBIBYTE: u64 = 1 << 20;

/// The Windows NT memory manager on a simulated machine.
///
/// Without a command, `ntmm run` with its defaults.
///
/// Exit status: 0 everything was right; 1 the data a program read were wrong, a program failed, or
/// the machine stopped; 2 bad usage or input, something missing that is needed, or an output that
/// cannot be written; 3 a process could not be given memory, or a machine had too little to boot.
#[derive(Debug, Parser)]
#[command(name = "ntmm", version, max_term_width = 100)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Replay recorded programs as processes of a machine with too little memory, and prove every
    /// byte right.
    ///
    /// Each TRACE becomes a process. Its regions are reserved and committed through the manager,
    /// then its references go through the processor's translation buffer, the page tables and the
    /// manager's page faults. Every store writes bytes that tell it from every other store; every
    /// load, and at the end a sweep over every page of every process, compares all bytes with what
    /// was stored there last.
    ///
    /// The machine has a clock of its own: a memory reference takes 10 ns, a step of the manager
    /// 500 ns, a transfer of the paging disk 100 us and 20 us more for each page; the balance set
    /// manager wakes up once a second of that time. The same command makes the same run.
    Run(RunArguments),
    /// Convert traces and look at them.
    #[command(subcommand)]
    Trace(TraceCommand),
    /// Check the manager by random runs against an independent model and auditors.
    ///
    /// The first line of the output is the seed. When a run fails its list of operations is made as
    /// short as it can be and printed; kept in a file, it is run again by naming the file.
    Check(CheckArguments),
    /// Run conformance cases: facts that hold on real Windows, checked against the manager.
    ///
    /// Each case runs on a machine that is switched on for it alone. A case is skipped only for a
    /// reason that is printed: it is about another architecture or version, or needs calls that
    /// come later. The exit status is 1 when a case fails.
    Conformance(ConformanceArguments),
    /// Say how much of Windows NT's memory manager is here, row by row.
    Coverage(CoverageArguments),
    /// Boot the manager in a kernel of its own on a PC that QEMU emulates.
    ///
    /// The kernel and its programs come from the workspace `kernel`, where `cargo build --release`
    /// builds them; QEMU is Debian's package qemu-system-x86. This command builds and installs
    /// nothing, and says what is missing.
    ///
    /// What the kernel and the programs print on the serial console appears as it comes; at the
    /// end stands the table that `ntmm run` prints too.
    Boot(BootArguments),
    /// Measure.
    #[command(subcommand)]
    Bench(BenchCommand),
}

/// What `ntmm run` is asked for.
#[derive(Args, Debug)]
pub struct RunArguments {
    /// Traces: Valgrind lackey text (--trace-mem=yes), plain or gzipped, or ntmm's compact form.
    /// Without one the traces that come with ntmm run.
    pub traces: Vec<PathBuf>,

    /// Memory of the machine; bytes, or with a suffix K, M or G. At most 4G.
    #[arg(long, value_name = "SIZE", default_value = "16M", value_parser = ram_size)]
    pub ram: Bytes,

    /// Processors, 1 to 32.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=32))]
    pub cpus: u32,

    /// Threads of each process. They take the trace in turns, slice by slice.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,

    /// Paging mode. i386 and pae have 2 GiB of user space; the regions of a trace that does not
    /// lie there are moved, as docs/trace-format.md says.
    #[arg(long, value_parser = paging(), value_name = "MODE", default_value_t = Paging::Amd64)]
    pub paging: Paging,

    /// Paging file. It is created, and an existing file of this name is overwritten; it stays
    /// afterwards. Without this option a temporary file is used and deleted.
    #[arg(long, value_name = "PATH")]
    pub pagefile: Option<PathBuf>,

    /// Size of the paging file, at least 1M; the second number is the size it may grow to.
    /// Without this option it has room for everything the traces commit.
    #[arg(long, value_name = "MIN[:MAX]", value_parser = paging_file_size)]
    pub pagefile_size: Option<PagingFileSize>,

    /// What the machine leaves to chance follows from this number.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub seed: u64,

    /// Print the result as one JSON object.
    #[arg(long)]
    pub json: bool,

    /// Write a report to this file: one HTML page that needs nothing else.
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,

    /// Write every fault, every move of a frame between lists and every transfer to this file.
    #[arg(long, value_name = "FILE.csv")]
    pub events: Option<PathBuf>,

    /// Print the life of the page at this address (hexadecimal, where the trace's regions have
    /// been moved to; `ntmm trace show` tells), state by state.
    #[arg(long, value_name = "VA", value_parser = address)]
    pub watch: Option<Va>,

    /// No progress bar and no table.
    #[arg(long)]
    pub quiet: bool,
}

/// Commands for traces.
#[derive(Debug, Subcommand)]
pub enum TraceCommand {
    /// Turn a trace of any form into ntmm's compact form.
    Convert {
        /// The trace to read.
        input: PathBuf,
        /// The file to write; it appears when it is complete.
        output: PathBuf,
        /// Pages over which references are merged, 2 to 256: paging policies with at least so
        /// many pages see the same faults.
        #[arg(long, value_name = "PAGES", value_parser = window)]
        window: Option<WindowPages>,
    },
    /// Read a trace through and say what it holds.
    Show {
        /// The trace.
        file: PathBuf,
        /// Show the regions where they come to lie in this paging mode.
        #[arg(long, value_parser = paging(), value_name = "MODE", default_value_t = Paging::Amd64)]
        paging: Paging,
    },
}

/// What `ntmm check` is asked for.
#[derive(Args, Debug)]
pub struct CheckArguments {
    /// Lists of operations to run instead of random ones.
    #[arg(conflicts_with_all = ["calls", "seed", "steps", "paging", "minutes"])]
    pub lists: Vec<PathBuf>,

    /// Make single calls instead, and compare each answer with a plain model of the rules.
    #[arg(long)]
    pub calls: bool,

    /// First seed; without one it is drawn.
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,

    /// Steps, or calls, after which no run begins. When --minutes is not given either, two million
    /// steps or ten million calls.
    #[arg(long, value_name = "N")]
    pub steps: Option<u64>,

    /// The paging mode; all of them in turn without one.
    #[arg(long, value_parser = paging(), value_name = "MODE")]
    pub paging: Option<Paging>,

    /// Minutes after which no run begins.
    #[arg(long, value_name = "T", value_parser = minutes)]
    pub minutes: Option<f64>,
}

/// What `ntmm coverage` is asked for.
#[derive(Args, Debug)]
pub struct CoverageArguments {
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// What `ntmm conformance` is asked for.
#[derive(Args, Debug)]
pub struct ConformanceArguments {
    /// Files of cases, one JSON object to a line. Without one the cases that come with ntmm.
    pub cases: Vec<PathBuf>,

    /// Paging mode of the machines; all of them in turn without one.
    #[arg(long, value_parser = paging(), value_name = "MODE")]
    pub paging: Option<Paging>,

    /// Version of Windows to behave as.
    #[arg(long, value_parser = profile(), value_name = "PROFILE", default_value_t = Profile::Legacy)]
    pub profile: Profile,

    /// Only cases whose id or call holds this text.
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,

    /// Print one JSON object with every case.
    #[arg(long)]
    pub json: bool,
}

/// What `ntmm boot` is asked for.
#[derive(Args, Debug)]
pub struct BootArguments {
    /// Memory of the machine, 16M to 4G. Sizes are bytes, or have a suffix K, M or G.
    #[arg(long, value_name = "SIZE", default_value = "32M", value_parser = boot_ram_size)]
    pub ram: Bytes,

    /// Processors, 1 to 4.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=4))]
    pub cpus: u32,

    /// A raw file for the paging disk. An existing one is used at its own size, at least 1M and
    /// whole pages; otherwise it is created. It stays afterwards. Without this option a temporary
    /// file is used and deleted.
    #[arg(long, value_name = "PATH", conflicts_with = "no_pagefile")]
    pub pagefile: Option<PathBuf>,

    /// Size of a paging file that is created, at least 1M and whole pages; 64M without this
    /// option.
    #[arg(long, value_name = "SIZE", value_parser = paging_disk_size, conflicts_with = "no_pagefile")]
    pub pagefile_size: Option<Bytes>,

    /// No paging disk.
    #[arg(long)]
    pub no_pagefile: bool,

    /// A program to run, with its arguments after its name; give this option once for every
    /// process. Without one: verify, with a little more memory than the machine has when there is
    /// a paging disk, guard, reuse, and two smaller processes of verify, all at once.
    #[arg(long = "program", value_name = "NAME [ARGUMENTS]", value_parser = program)]
    pub programs: Vec<String>,

    /// The kernel image, or the directory that it is in; its programs lie beside it. Without this option NTMM_KERNEL names it,
    /// or it is where `cargo build --release` in the folder `kernel` puts it.
    #[arg(long, value_name = "PATH")]
    pub kernel: Option<PathBuf>,

    /// Print the result as one JSON object; the console goes to standard error.
    #[arg(long)]
    pub json: bool,

    /// Stop the machine after so many seconds without a line on its console.
    #[arg(long, value_name = "SECONDS", default_value = "120", value_parser = seconds)]
    pub timeout: Duration,

    /// A word of the kernel's command line, such as ram=3000; give this option once for every
    /// word. docs/your-own-kernel.md has the table of them.
    #[arg(long = "word", value_name = "WORD", value_parser = word)]
    pub words: Vec<String>,

    /// A further file for the archive that the kernel boots from, where programs read it by its
    /// name; give this option once for every file.
    #[arg(long = "archive", value_name = "FILE")]
    pub archive: Vec<PathBuf>,
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Count the instructions of the kernel's operations, beside those of Linux in the same QEMU.
    Kernel(BenchKernelArguments),
}

/// What `ntmm bench kernel` is asked for.
#[derive(Args, Debug)]
pub struct BenchKernelArguments {
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,

    /// The kernel image, or the directory that it is in; its programs lie beside it. Without this option NTMM_KERNEL names it,
    /// or it is where `cargo build --release` in the folder `kernel` puts it.
    #[arg(long, value_name = "PATH")]
    pub kernel: Option<PathBuf>,

    /// The Linux kernel (a vmlinuz) to measure, instead of one fetched by the package client.
    #[arg(long, value_name = "PATH", conflicts_with = "no_linux")]
    pub linux: Option<PathBuf>,

    /// Do not measure Linux.
    #[arg(long)]
    pub no_linux: bool,
}

/// Paging modes by name.
fn paging() -> impl TypedValueParser<Value = Paging> {
    let described = [
        (Paging::Amd64, "Four levels of 8-byte entries"),
        (Paging::Pae, "Three levels of 8-byte entries, 32-bit addresses"),
        (Paging::I386, "Two levels of 4-byte entries, 32-bit addresses"),
    ];
    let names = described.map(|(paging, help)| PossibleValue::new(paging.name()).help(help));
    PossibleValuesParser::new(names).try_map(|name| name.parse::<Paging>())
}

/// Versions of Windows by name.
fn profile() -> impl TypedValueParser<Value = Profile> {
    let described = [
        (Profile::Legacy, "Windows Server 2003 (NT 5.2)"),
        (Profile::Modern, "Windows 10 and later"),
    ];
    let names = described.map(|(profile, help)| PossibleValue::new(profile.name()).help(help));
    let known =
        |name: String| Profile::from_name(&name).ok_or("the profiles are legacy and modern");
    PossibleValuesParser::new(names).try_map(known)
}

/// The sizes of a paging file; the minimum is not above the maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PagingFileSize {
    /// The size it is created with.
    pub minimum: Bytes,
    /// The size it may grow to.
    pub maximum: Bytes,
}

/// A number of bytes: decimal digits, then nothing, K, M or G.
fn byte_size(text: &str) -> Result<Bytes, String> {
    let explain =
        || "expected a number, alone or with one of the units K, M and G, such as 16M".to_owned();
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        _ => (text, 0),
    };
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(explain());
    }
    let number: u64 = digits.parse().map_err(|_| "too large".to_owned())?;
    number.checked_mul(1 << shift).map(Bytes::new).ok_or_else(|| "too large".to_owned())
}

fn ram_size(text: &str) -> Result<Bytes, String> {
    let size = byte_size(text)?;
    if size > MAXIMUM_RAM {
        return Err("a machine has at most 4G".to_owned());
    }
    Ok(size)
}

fn boot_ram_size(text: &str) -> Result<Bytes, String> {
    let size = ram_size(text)?;
    if size < MINIMUM_BOOT_RAM {
        return Err("the kernel needs at least 16M".to_owned());
    }
    if !size.get().is_multiple_of(MEBIBYTE) {
        return Err("expected whole mebibytes, such as 32M".to_owned());
    }
    Ok(size)
}

fn paging_disk_size(text: &str) -> Result<Bytes, String> {
    let size = byte_size(text)?;
    crate::boot::paging_disk::check_size(size)?;
    Ok(size)
}

/// A line of the archive's list of programs.
fn program(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() {
        return Err("expected the name of a program, and arguments after it".to_owned());
    }
    if text.contains(['\n', '\r']) {
        return Err("a program and its arguments are one line".to_owned());
    }
    Ok(text.to_owned())
}

/// A word of the kernel's command line, which has blanks between words.
fn word(text: &str) -> Result<String, String> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("expected one word without blanks, such as ram=3000".to_owned());
    }
    Ok(text.to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (1..=86_400).contains(seconds));
    let seconds = seconds.ok_or_else(|| "expected a number of seconds, 1 to 86400".to_owned())?;
    Ok(Duration::from_secs(seconds))
}

fn paging_file_size(text: &str) -> Result<PagingFileSize, String> {
    let (minimum, maximum) = match text.split_once(':') {
        Some((minimum, maximum)) => (byte_size(minimum)?, byte_size(maximum)?),
        None => (byte_size(text)?, byte_size(text)?),
    };
    if maximum < minimum {
        return Err("the size it may grow to is below the size it begins with".to_owned());
    }
    Ok(PagingFileSize { minimum, maximum })
}

fn address(text: &str) -> Result<Va, String> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err("expected a hexadecimal address, such as 0x7ff0a000".to_owned());
    }
    u64::from_str_radix(digits, 16).map(Va::new).map_err(|_| "too large".to_owned())
}

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().ok().filter(|minutes: &f64| (0.0..=1e6).contains(minutes));
    minutes.ok_or_else(|| "expected a number of minutes, such as 0.5".to_owned())
}

fn window(text: &str) -> Result<WindowPages, String> {
    let pages = text.parse().ok().and_then(WindowPages::new);
    pages.ok_or_else(|| "expected a number from 2 to 256".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_suffixes() {
        assert_eq!(byte_size("4096"), Ok(Bytes::new(4096)));
        assert_eq!(byte_size("3k"), Ok(Bytes::new(3 * 1024)));
        assert_eq!(byte_size("16M"), Ok(Bytes::new(16 << 20)));
        assert_eq!(byte_size("2G"), Ok(Bytes::new(2 << 30)));
        for wrong in
            ["", "M", "-1", "1.5M", "1T", "+4", "99999999999999999999", "17179869184G", "µ"]
        {
            assert!(byte_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_paging_file_has_one_size_or_two() {
        let size = |minimum, maximum| PagingFileSize {
            minimum: Bytes::new(minimum),
            maximum: Bytes::new(maximum),
        };
        assert_eq!(paging_file_size("2M"), Ok(size(2 << 20, 2 << 20)));
        assert_eq!(paging_file_size("1M:3M"), Ok(size(1 << 20, 3 << 20)));
        assert!(paging_file_size("3M:1M").is_err());
        assert!(paging_file_size("1M:").is_err());
    }

    #[test]
    fn addresses_are_hexadecimal() {
        assert_eq!(address("0x7ff0a000"), Ok(Va::new(0x7ff0_a000)));
        assert_eq!(address("10000"), Ok(Va::new(0x1_0000)));
        assert!(address("0x").is_err());
        assert!(address("12g").is_err());
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
