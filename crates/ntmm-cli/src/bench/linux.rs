//! Linux as the baseline: the kernel of Debian's package, the program that measures it, and a
//! machine for both.
//!
//! The program is the whole user space: its source is part of this program, the host's C compiler
//! builds it, and it is the first process of an archive that holds nothing else but the drivers of
//! its disks. Linux is measured at its best, without the protections against flaws of processors
//! that NT's design does not know either: `mitigations=off nopti`, pages are not zeroed twice
//! (`init_on_alloc=0`), and addresses are the same in each run (`nokaslr norandmaps`).

use std::env;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ntmm_pte::Bytes;

use super::package::{Package, output};
use crate::boot::archive::Archive;
use crate::boot::error::BootError;
use crate::boot::paging_disk::PagingDisk;
use crate::boot::qemu::{self, Board, Counting, Ending, Machine};
use crate::boot::report::Bench;
use crate::boot::temporary::TemporaryFile;
use crate::failure::Failure;

/// The program that measures, in C.
const PROGRAM: &str = include_str!("../../../../bench/linux/init.c");

/// Drivers the program loads, below `kernel/drivers` of the modules' directory. Without them it
/// leaves out what needs a disk.
const MODULES: [&str; 7] = [
    "block/brd",
    "block/virtio_blk",
    "virtio/virtio",
    "virtio/virtio_pci",
    "virtio/virtio_pci_legacy_dev",
    "virtio/virtio_pci_modern_dev",
    "virtio/virtio_ring",
];

/// Words of the kernel's command line.
const WORDS: [&str; 8] = [
    "console=ttyS0",
    "quiet",
    "panic=-1",
    "nopti",
    "mitigations=off",
    "init_on_alloc=0",
    "nokaslr",
    "norandmaps",
];

/// Memory of the machine; Linux does not boot in what ntmm's kernel is measured with.
const RAM: Bytes = Bytes::new(128 << 20);

/// The disk for its swap area: more than the program can fill.
const DISK: Bytes = Bytes::new(256 << 20);

/// How long the console may be silent; the program prints nothing before it has measured all.
const SILENCE: Duration = Duration::from_secs(600);

/// A Linux kernel that is ready to be measured.
#[derive(Debug)]
pub struct Linux {
    kernel: PathBuf,
    /// What the user knows it as.
    name: String,
    archive: TemporaryFile,
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// The figures.
    pub figures: Vec<Bench>,
    /// Why some are missing.
    pub remarks: Vec<String>,
}

impl fmt::Display for Linux {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Linux {
    /// The current kernel of the distribution.
    ///
    /// # Errors
    /// It cannot be fetched, or the program not be built.
    pub fn packaged() -> Result<Self, Failure> {
        let package = Package::current()?;
        let root = package.unpacked()?;
        let boot = root.join("boot");
        let refuse = |error| Failure::host("cannot find a kernel in", &boot, error);
        let files = fs::read_dir(&boot).map_err(refuse)?.flatten();
        let mut kernels =
            files.filter(|file| file.file_name().as_encoded_bytes().starts_with(b"vmlinuz-"));
        let kernel = kernels.next().ok_or_else(|| refuse(io::ErrorKind::NotFound.into()))?.path();
        Self::new(kernel, format!("{} {}", package.name, package.version))
    }

    /// The kernel at `path`.
    ///
    /// # Errors
    /// There is no file, or the program cannot be built.
    pub fn at(path: &Path) -> Result<Self, Failure> {
        let refuse = |error| Failure::host("cannot read the Linux kernel", path, error);
        if !fs::metadata(path).map_err(refuse)?.is_file() {
            return Err(refuse(io::Error::other("is not a regular file")));
        }
        Self::new(path.to_owned(), path.display().to_string())
    }

    fn new(kernel: PathBuf, name: String) -> Result<Self, Failure> {
        let mut archive = Archive::new();
        archive.add("init", &program()?).map_err(BootError::from)?;
        for (name, module) in modules(&kernel) {
            archive.add(&name, &module).map_err(BootError::from)?;
        }
        let archive = archive.finish();
        let archive = TemporaryFile::holding("cannot write the archive in", &archive)?;
        Ok(Self { kernel, name, archive })
    }

    /// Boots the kernel and has it measured.
    ///
    /// # Errors
    /// It does not boot, or reports nothing.
    pub fn measure(&self) -> Result<Measured, Failure> {
        let disk = PagingDisk::temporary(DISK)?;
        let machine = Machine {
            board: Board::Pc,
            ram: RAM,
            cpus: 1,
            paging_file: Some(disk.path().to_owned()),
            disk_errors: None,
            counting: Counting::Instructions,
            kernel: self.kernel.clone(),
            initrd: Some(self.archive.path().to_owned()),
            words: WORDS.map(str::to_owned).into(),
        };
        let mut measured = Measured::default();
        let mut last = String::new();
        let mut on_line = |line: &str| {
            measured.line(line);
            line.clone_into(&mut last);
        };
        let ending = qemu::run(&machine, &mut on_line, SILENCE).map_err(BootError::from)?;
        if ending != Ending::Good || measured.figures.is_empty() {
            return Err(Failure::Check(format!("Linux reported no figures, but {last:?}")));
        }
        Ok(measured)
    }
}

impl Measured {
    /// Takes a line of the console: `NAME INSTRUCTIONS`, or `#` and a remark. Others are Linux's.
    fn line(&mut self, line: &str) {
        if let Some(remark) = line.strip_prefix("# ") {
            self.remarks.push(remark.to_owned());
        } else if let Some((name, digits)) = line.split_once(' ')
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || b"_0123456789".contains(&byte))
            && let Ok(instructions) = digits.parse()
        {
            self.figures.push(Bench { name: name.to_owned(), instructions });
        }
    }
}

/// The modules that belong to a kernel, as its package lays them out: `boot/vmlinuz-RELEASE`
/// beside `lib/modules/RELEASE`.
fn modules(kernel: &Path) -> Vec<(String, Vec<u8>)> {
    let name = kernel.file_name().unwrap_or_default().to_string_lossy();
    let release = name.strip_prefix("vmlinuz-").unwrap_or_default();
    let root = kernel.parent().and_then(Path::parent).unwrap_or(Path::new(""));
    let drivers = root.join("lib/modules").join(release).join("kernel/drivers");
    let module = |path: &str| {
        let name = path.rsplit('/').next().unwrap_or(path);
        // What is not there is the program's to remark.
        let bytes = fs::read(drivers.join(format!("{path}.ko"))).ok()?;
        Some((format!("{name}.ko"), bytes))
    };
    MODULES.into_iter().filter_map(module).collect()
}

/// Builds the program.
fn program() -> Result<Vec<u8>, Failure> {
    let directory = env::temp_dir().join(format!("ntmm-bench-{}", std::process::id()));
    let refuse = |error| Failure::host("cannot build the Linux program in", &directory, error);
    let build = || {
        fs::create_dir_all(&directory).map_err(refuse)?;
        fs::write(directory.join("init.c"), PROGRAM).map_err(refuse)?;
        let arguments = ["-O2", "-static", "-o", "init", "init.c"];
        output("cc", arguments, &directory).map_err(|problem| {
            Failure::Usage(format!(
                "cannot build the program that measures Linux: {problem}; it needs a C compiler \
                 with the static C library, Debian's packages gcc and libc6-dev, or leave Linux \
                 out with --no-linux"
            ))
        })?;
        fs::read(directory.join("init")).map_err(refuse)
    };
    let built = build();
    // A directory that cannot be removed is no reason to measure nothing.
    let _ = fs::remove_dir_all(&directory);
    built
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_and_remarks_are_told_from_what_linux_says() {
        let mut measured = Measured::default();
        for line in [
            "[    2.340780] virtio_blk virtio0: 1/0/0 default/read/poll queues",
            "null_system_call 331",
            "reserve_commit_free_64k 11673",
            "# no disk",
            "Loading 5",
            "warning 5 of 6",
            "nothing",
            "",
        ] {
            measured.line(line);
        }
        let figures = [("null_system_call", 331), ("reserve_commit_free_64k", 11673)];
        let figures = figures.map(|(name, instructions)| Bench { name: name.into(), instructions });
        assert_eq!(measured.figures, figures);
        assert_eq!(measured.remarks, ["no disk"]);
    }

    #[test]
    fn modules_belong_to_the_release_of_the_kernel() {
        let root = env::temp_dir().join(format!("ntmm-modules-{}", std::process::id()));
        let drivers = root.join("lib/modules/6.1-x/kernel/drivers");
        for module in ["block", "virtio"] {
            fs::create_dir_all(drivers.join(module)).expect("a temporary directory");
        }
        for module in ["block/brd.ko", "virtio/virtio.ko", "virtio/other.ko"] {
            fs::write(drivers.join(module), module).expect("a temporary file");
        }
        let named = |kernel: &str| modules(&root.join("boot").join(kernel));
        let expected = [("brd.ko", "block/brd.ko"), ("virtio.ko", "virtio/virtio.ko")];
        let expected = expected.map(|(name, bytes)| (name.to_owned(), bytes.as_bytes().to_vec()));
        assert_eq!(named("vmlinuz-6.1-x"), expected);
        assert_eq!(named("vmlinuz-6.2"), []);
        assert_eq!(named("bzImage"), []);
        fs::remove_dir_all(root).expect("the directory is there");
    }
}
