//! A run from switching the machine on to giving the last page back.
//!
//! [`Playback::boot`] builds the machine, [`Playback::load`] makes a process of each trace,
//! [`Playback::replay`] runs the traces, [`Playback::sweep`] compares every page, and
//! [`Playback::unload`] deletes the processes and sees that nothing stays committed.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use ntmm::operation::Operation;
use ntmm::paging_file::bitmap::SLOTS_LIMIT;
use ntmm::status::NtStatus;
use ntmm::virtual_memory::{Allocate, AllocationType, Placement as Place};
use ntmm::working_set::WorkingSetLimits;
use ntmm::{AddressSpaceId, BootError, DeleteAddressSpace};
use ntmm_check::setup::Paging;
use ntmm_machine::{Clock, Config, Disk, Hardware, Machine, Simulation};
use ntmm_pte::{Bytes, Pages, Protection, Va};
use ntmm_trace::{AddressWindow, Region, Regions};

use super::feed::{Feed, WHOLE};
use super::figures::{
    Figures, Lists, MachineFaults, MachineFigures, PagingFile, ProcessFigures, SweepFigures,
};
use super::observer::Observer;
use super::paging_file::{CheckedDisk, DiskErrors, FileSize, PagingDisk};
use super::placement::Placement;
use super::process::{Process, ProcessName, SharedProcess, Verdict};
use super::replay::Replayer;
use super::shadow::Shadow;
use super::source::Source;
use super::sweep::Sweep;
use crate::failure::Failure;

/// The machine to run on.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    /// Memory in frames.
    pub ram: Pages,
    /// Processors.
    pub cpus: u32,
    /// Threads of each process.
    pub threads: u32,
    /// Paging mode.
    pub paging: Paging,
    /// Size of the paging file.
    pub file: FileSize,
    /// What is left to chance follows from it.
    pub seed: u64,
}

/// The addresses a process has in a paging mode.
#[must_use]
pub const fn window(paging: Paging) -> AddressWindow {
    match paging {
        Paging::Amd64 => AddressWindow::AMD64,
        Paging::Pae | Paging::I386 => AddressWindow::X86,
    }
}

/// A machine with processes.
pub struct Playback<M: Hardware> {
    setup: Setup,
    simulation: Simulation<M, Observer>,
    processes: Vec<SharedProcess>,
    verdict: Verdict,
    disk: DiskErrors,
    /// Pages committed before there was a process.
    committed: Pages,
}

impl<M: Hardware> Playback<M> {
    /// Switches the machine on and gives it a paging file.
    ///
    /// # Errors
    /// There is too little memory, or the paging file has a size it cannot have.
    pub fn boot(
        setup: Setup,
        clock: Clock,
        observer: Observer,
        paging_disk: PagingDisk,
    ) -> Result<Self, Failure> {
        let config = Config { cpus: setup.cpus, seed: setup.seed, ..Config::plain(setup.ram) };
        let machine = Machine::<M, Observer>::new(config, clock, observer);
        let (disk, errors) = CheckedDisk::new(paging_disk.disk, paging_disk.name);
        let file = machine.attach(Box::new(disk) as Box<dyn Disk>);
        let simulation = Simulation::new(machine, ntmm::Config::default())
            .map_err(|error| boot_failure(error, setup.ram))?;
        let created =
            simulation.manager().create_paging_file(file, setup.file.minimum, setup.file.maximum);
        created.map_err(|status| paging_file_failure::<M>(status, setup.file))?;
        let committed = simulation.manager().memory_figures().committed;
        Ok(Self {
            setup,
            simulation,
            processes: Vec::new(),
            verdict: Verdict::default(),
            disk: errors,
            committed,
        })
    }

    /// The simulation.
    #[must_use]
    pub const fn simulation(&self) -> &Simulation<M, Observer> {
        &self.simulation
    }

    /// Who hears the manager's events.
    #[must_use]
    pub fn observer(&self) -> &Observer {
        self.simulation.machine().tracer()
    }

    /// The processes.
    #[must_use]
    pub fn processes(&self) -> &[SharedProcess] {
        &self.processes
    }

    /// Makes a process of a trace.
    ///
    /// # Errors
    /// The trace does not fit into the address space or cannot be read, or the manager refuses
    /// memory.
    pub fn load(&mut self, source: &Source) -> Result<(), Failure> {
        let threads = self.setup.threads;
        self.add_process(source.program(), source.name(), source.regions(), |placement| {
            Ok(Feed::start(source.open()?, Arc::clone(placement), threads))
        })
    }

    /// Makes a process: an address space with the given regions reserved and committed, and
    /// the references that `feed` yields for them.
    ///
    /// # Errors
    /// As [`Playback::load`].
    pub fn add_process(
        &mut self,
        program: &str,
        trace: &str,
        regions: &Regions,
        feed: impl FnOnce(&Arc<Placement>) -> Result<Feed, Failure>,
    ) -> Result<(), Failure> {
        let name = ProcessName { number: self.processes.len() + 1, program: program.to_owned() };
        let placement = Placement::new(regions, window(self.setup.paging));
        let placement = Arc::new(
            placement
                .map_err(|problem| Failure::DoesNotFit { trace: trace.to_owned(), problem })?,
        );
        let refused =
            |what: String, status| Failure::Refused { process: name.to_string(), what, status };
        let limits = WorkingSetLimits::for_memory(self.setup.ram.get() as u32);
        let space = self.simulation.manager().create_address_space(limits);
        let space =
            space.map_err(|status| refused("cannot create an address space".to_owned(), status))?;
        self.observer().add_space(space);
        for region in placement.regions() {
            self.commit(space, region)?.map_err(|status| {
                let (start, end) = (region.start(), region.end());
                refused(format!("cannot commit {start:#x} to {end:#x}"), status)
            })?;
        }
        let process = Process {
            trace: trace.to_owned(),
            space,
            shadow: Shadow::new(placement.pages(), name.number as u64),
            feed: feed(&placement)?,
            name,
            placement,
            references: 0,
            records: 0,
            verdict: self.verdict.clone(),
        };
        self.processes.push(Rc::new(RefCell::new(process)));
        Ok(())
    }

    /// Reserves and commits a region: address space in whole 64 KiB blocks, memory in pages.
    fn commit(
        &mut self,
        space: AddressSpaceId,
        region: &Region,
    ) -> Result<Result<(), NtStatus>, Failure> {
        let protection = if region.kinds.is_executed() {
            Protection::EXECUTE_READWRITE
        } else {
            Protection::READWRITE
        };
        for kind in [AllocationType::Reserve, AllocationType::Commit] {
            let at = Place::At(Va::new(region.start()));
            let size = Bytes::new(region.bytes());
            let mut allocate = Allocate::new(space, at, size, kind, protection);
            if let Err(status) = self.complete(&mut allocate)? {
                return Ok(Err(status));
            }
        }
        Ok(Ok(()))
    }

    fn complete<O: Operation<Machine<M, Observer>>>(
        &mut self,
        operation: &mut O,
    ) -> Result<Result<O::Output, NtStatus>, Failure> {
        let outcome = self.simulation.complete(operation);
        self.check_disk()?;
        Ok(outcome?)
    }

    /// Replays the traces of all processes. `follow` is called after each step.
    ///
    /// # Errors
    /// Wrong data, a trace that cannot be read on, memory that cannot be had, or what `follow`
    /// returns.
    pub fn replay(
        &mut self,
        follow: &mut dyn FnMut(&Self) -> Result<(), Failure>,
    ) -> Result<Figures, Failure> {
        for _ in 0..self.setup.threads {
            for process in &self.processes {
                let thread = Replayer::new(process.clone());
                let space = process.borrow().space;
                self.simulation.spawn(Some(space), Box::new(thread));
            }
        }
        let start = Instant::now();
        self.run(follow)?;
        Ok(self.figures(start.elapsed().as_secs_f64()))
    }

    /// Compares every page of every process and adds what came of it to the figures.
    ///
    /// # Errors
    /// As [`Playback::replay`].
    pub fn sweep(
        &mut self,
        figures: &mut Figures,
        follow: &mut dyn FnMut(&Self) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for process in &self.processes {
            let thread = Sweep::new(process.clone());
            let space = process.borrow().space;
            self.simulation.spawn(Some(space), Box::new(thread));
        }
        self.run(follow)?;
        let pages_read = self.simulation.manager().counters().pages_read.get();
        figures.sweep = Some(SweepFigures {
            pages: figures.processes.iter().map(|process| process.pages).sum(),
            pages_read: pages_read - figures.paging_file.pages_read,
        });
        for (figures, process) in figures.processes.iter_mut().zip(&self.processes) {
            figures.verified = process.borrow().shadow.verified();
        }
        figures.verified = figures.processes.iter().map(|process| process.verified).sum();
        Ok(())
    }

    /// Deletes all processes.
    ///
    /// # Errors
    /// Pages stay committed.
    pub fn unload(&mut self) -> Result<(), Failure> {
        for process in std::mem::take(&mut self.processes) {
            let space = process.borrow().space;
            let deleted = self.complete(&mut DeleteAddressSpace::new(space))?;
            deleted.map_err(|status| Failure::Refused {
                process: process.borrow().name.to_string(),
                what: "cannot be deleted".to_owned(),
                status,
            })?;
        }
        let committed = self.simulation.manager().memory_figures().committed;
        match committed.get().abs_diff(self.committed.get()) {
            0 => Ok(()),
            pages => Err(Failure::Leaked(pages)),
        }
    }

    /// How much of the traces has been read, and how much there is.
    #[must_use]
    pub fn progress(&self) -> (u64, u64) {
        let done = self.processes.iter().map(|process| process.borrow().feed.progress()).sum();
        (done, WHOLE * self.processes.len() as u64)
    }

    fn run(&mut self, follow: &mut dyn FnMut(&Self) -> Result<(), Failure>) -> Result<(), Failure> {
        loop {
            let progress = self.simulation.step();
            if self.verdict.has_failed() {
                self.check_disk()?;
                return self.verdict.clone().into_result();
            }
            self.check_disk()?;
            progress?;
            follow(self)?;
            // What is left to do then, zeroing free frames above all, is nobody's business.
            if self.simulation.live_threads() == 0 {
                return Ok(());
            }
        }
    }

    fn check_disk(&self) -> Result<(), Failure> {
        self.disk.first().map_or(Ok(()), |error| Err(Failure::PagingDisk(error)))
    }

    fn figures(&self, seconds: f64) -> Figures {
        let manager = self.simulation.manager();
        let processes: Vec<ProcessFigures> = self
            .processes
            .iter()
            .map(|process| ProcessFigures::of(manager, &process.borrow()))
            .collect();
        let memory = manager.memory_figures();
        Figures {
            references: processes.iter().map(|process| process.references).sum(),
            seconds,
            virtual_seconds: Some(self.simulation.machine().clock().nanoseconds().0 as f64 / 1e9),
            verified: processes.iter().map(|process| process.verified).sum(),
            faults: MachineFaults::of(manager),
            paging_file: PagingFile::of(manager),
            machine: MachineFigures {
                paging: self.setup.paging.name().into(),
                cpus: self.setup.cpus,
                threads: Some(self.setup.threads),
                seed: Some(self.setup.seed),
                frames: self.setup.ram.get(),
                lists: Lists::of(manager),
                kernel: 0,
                committed: memory.committed.get(),
                commit_limit: memory.commit_limit.get(),
            },
            sweep: None,
            processes,
        }
    }
}

fn boot_failure(error: BootError, ram: Pages) -> Failure {
    Failure::Usage(match error {
        BootError::InstallMoreMemory { needed, .. } => format!(
            "--ram: the machine does not boot with {} KiB; the minimum is {} KiB",
            ram.get() * 4,
            u64::from(needed) * 4
        ),
        other => format!("--ram: {other}"),
    })
}

fn paging_file_failure<M: Hardware>(status: NtStatus, size: FileSize) -> Failure {
    let kibibytes = |pages: Pages| pages.get() * 4;
    Failure::Usage(match status {
        NtStatus::INVALID_PARAMETER_2 | NtStatus::INVALID_PARAMETER_3 => format!(
            "--pagefile-size: {} to {} KiB is no size a paging file can have with this kind of \
             page tables ({status}); the largest has {} KiB",
            kibibytes(size.minimum),
            kibibytes(size.maximum),
            u64::from(M::MAX_PAGE_FILE_OFFSET.min(SLOTS_LIMIT)) * 4
        ),
        _ => format!(
            "--ram: there is no memory for the bitmap of a paging file of {} KiB: {status}",
            kibibytes(size.maximum)
        ),
    })
}
