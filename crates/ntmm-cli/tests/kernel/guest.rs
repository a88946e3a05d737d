//! The kernel without `ntmm boot` around it: its console, line by line, and how it ends.

use std::fs;
use std::time::Duration;

use ntmm_cli::boot::archive::Archive;
use ntmm_cli::boot::qemu::{self, Board, Counting, Ending, Machine};
use ntmm_pte::Bytes;

use crate::common::{directory, kernel};

/// Longer than the kernel is silent on a busy host.
const PATIENCE: Duration = Duration::from_secs(120);

/// A machine to boot.
#[derive(Clone, Debug)]
pub struct Guest {
    pub ram: Bytes,
    pub cpus: u32,
    /// Size of the paging disk; 0 for none.
    pub disk: u64,
    /// Words of the command line.
    pub words: Vec<String>,
    /// Processes, a line each.
    pub programs: Vec<String>,
}

impl Guest {
    /// Boots: the lines of the console, and the end. `test` is a name no other test has.
    pub fn boot(&self, test: &str) -> (Vec<String>, Ending) {
        let directory = directory(test);
        let mut archive = Archive::new();
        let list: String = self.programs.iter().map(|line| format!("{line}\n")).collect();
        archive.add("programs", list.as_bytes()).expect("an archive takes a list");
        for line in &self.programs {
            let name = line.split(' ').next().unwrap_or_default();
            if !archive.has(name) {
                let image = fs::read(kernel().with_file_name(name)).expect("the program is built");
                archive.add(name, &image).expect("an archive takes a program");
            }
        }
        let initrd = directory.join("archive");
        fs::write(&initrd, archive.finish()).expect("the test's directory can be written");
        let paging_file = (self.disk > 0).then(|| {
            let path = directory.join("disk");
            let file = fs::File::create(&path).expect("the test's directory can be written");
            file.set_len(self.disk).expect("a disk of zeroes takes no room");
            path
        });
        let machine = Machine {
            board: Board::Microvm,
            ram: self.ram,
            cpus: self.cpus,
            paging_file,
            disk_errors: None,
            counting: Counting::HostTime,
            kernel: kernel().to_owned(),
            initrd: Some(initrd),
            words: self.words.clone(),
        };
        let mut lines = Vec::new();
        let ending = qemu::run(&machine, &mut |line| lines.push(line.to_owned()), PATIENCE);
        match ending {
            Ok(ending) => (lines, ending),
            Err(error) => panic!("{error} after {lines:#?}"),
        }
    }
}
