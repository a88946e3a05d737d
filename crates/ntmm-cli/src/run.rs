//! `ntmm run`: recorded programs on a machine with too little memory.
//!
//! | File | Holds |
//! |---|---|
//! | [`source`] | traces, bundled and in files |
//! | [`placement`] | where a trace's regions lie in its process |
//! | [`feed`] | reading ahead, slices for threads |
//! | [`shadow`] | what memory must hold: stamps and comparison |
//! | [`process`] | a process, and the verdict on the run |
//! | [`replay`], [`sweep`] | the simulated threads |
//! | [`paging_file`] | the file below, its size and errors |
//! | [`playback`] | the machine from boot to the last page given back |
//! | [`observer`], [`watch`], [`samples`] | what is seen meanwhile |
//! | [`figures`], [`summary`] | what came of it |

pub mod feed;
pub mod figures;
pub mod observer;
pub mod paging_file;
pub mod placement;
pub mod playback;
pub mod process;
pub mod progress;
pub mod replay;
pub mod samples;
pub mod shadow;
pub mod source;
pub mod summary;
pub mod sweep;
pub mod watch;

#[cfg(test)]
mod tests;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use ntmm_check::setup::Paging;
use ntmm_machine::{Clock, Hardware};
use ntmm_pte::{Amd64, I386, Pae, Va};

use crate::arguments::RunArguments;
use crate::failure::Failure;
use crate::output::{NewFile, print, print_json};
use crate::report;
use figures::Figures;
use observer::Observer;
use paging_file::FileSize;
use playback::{Playback, Setup};
use progress::{Bar, Visibility};
use samples::Samples;
use source::Source;
use watch::Watch;

/// Runs the command.
///
/// # Errors
/// Why the run did not succeed; nothing is left of its output files then.
pub fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let sources = sources(arguments)?;
    let outputs = Outputs::create(arguments)?;
    let setup = setup(arguments, &sources)?;
    match arguments.paging {
        Paging::Amd64 => run_in::<Amd64>(arguments, setup, &sources, outputs),
        Paging::Pae => run_in::<Pae>(arguments, setup, &sources, outputs),
        Paging::I386 => run_in::<I386>(arguments, setup, &sources, outputs),
    }
}

fn sources(arguments: &RunArguments) -> Result<Vec<Source>, Failure> {
    if arguments.traces.is_empty() {
        return Source::bundled();
    }
    let written = [&arguments.pagefile, &arguments.report, &arguments.events];
    for output in written.into_iter().flatten() {
        if arguments.traces.iter().any(|trace| same_file(trace, output)) {
            let problem = "is one of the traces; refusing to overwrite it".to_owned();
            return Err(Failure::Input { file: output.clone(), problem });
        }
    }
    arguments.traces.iter().map(|path| Source::file(path)).collect()
}

fn same_file(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn setup(arguments: &RunArguments, sources: &[Source]) -> Result<Setup, Failure> {
    let ram = arguments.ram.to_pages_rounded_down();
    let file = match arguments.pagefile_size {
        Some(size) => FileSize::asked(size)?,
        None => {
            let pages = sources.iter().map(|source| source.regions().spanned_pages()).sum();
            let regions = sources.iter().map(|source| source.regions().as_slice().len() as u64);
            FileSize::for_traces(pages, regions.sum())
        }
    };
    Ok(Setup {
        ram,
        cpus: arguments.cpus,
        threads: arguments.threads,
        paging: arguments.paging,
        file,
        seed: arguments.seed,
    })
}

/// The files that a run writes; they appear when it has succeeded.
struct Outputs {
    report: Option<NewFile>,
    events: Option<NewFile>,
}

impl Outputs {
    fn create(arguments: &RunArguments) -> Result<Self, Failure> {
        let create = |what, path: &Option<std::path::PathBuf>| {
            path.as_deref().map(|path| NewFile::create(what, path)).transpose()
        };
        Ok(Self {
            report: create("cannot write the report", &arguments.report)?,
            events: create("cannot write the events", &arguments.events)?,
        })
    }
}

fn run_in<M: Hardware>(
    arguments: &RunArguments,
    setup: Setup,
    sources: &[Source],
    outputs: Outputs,
) -> Result<(), Failure> {
    let mut bar = Bar::new(arguments.visibility());
    let clock = Clock::new();
    let observer = Observer::new(clock.clone(), outputs.events, arguments.watch)?;
    let disk = paging_file::create(arguments.pagefile.as_deref(), setup.file)?;
    let mut playback = Playback::<M>::boot(setup, clock, observer, disk)?;
    for source in sources {
        playback.load(source)?;
    }
    let mut watches = watches(&playback, arguments.watch)?;
    let mut look = |playback: &Playback<M>, bar: &mut Bar| {
        playback.observer().check()?;
        bar.step(|| playback.progress());
        let manager = playback.simulation().manager();
        for watch in &mut watches {
            let text = watch.look(manager);
            if !text.is_empty() {
                bar.beside(|| tell(arguments, &text))?;
            }
        }
        Ok(())
    };
    let mut samples = outputs.report.is_some().then(Samples::default);
    bar.begin("replay");
    let mut figures = playback.replay(&mut |playback| {
        if let Some(samples) = &mut samples {
            samples.look(playback.simulation().manager());
        }
        look(playback, &mut bar)
    })?;
    bar.begin("compare");
    playback.sweep(&mut figures, &mut |playback| look(playback, &mut bar))?;
    drop(bar);
    playback.unload()?;
    playback.observer().keep()?;
    if let (Some(mut file), Some(samples)) = (outputs.report, samples) {
        let page = report::page(&figures, &samples);
        file.write_all(page.as_bytes()).map_err(|error| file.failure(error))?;
        file.keep()?;
    }
    print_result(arguments, &figures)
}

/// The watches of `--watch`: one for each process that has memory there.
fn watches<M: Hardware>(playback: &Playback<M>, va: Option<Va>) -> Result<Vec<Watch>, Failure> {
    let Some(va) = va else {
        return Ok(Vec::new());
    };
    let processes = playback.processes().iter().map(|process| process.borrow());
    let having = processes.filter(|process| process.placement.contains(va));
    let watches: Vec<Watch> =
        having.map(|process| Watch::new(process.name.to_string(), process.space, va)).collect();
    if watches.is_empty() {
        return Err(Failure::Usage(format!(
            "--watch: no process has memory at {va}; `ntmm trace show` tells where a trace lies"
        )));
    }
    Ok(watches)
}

/// Prints lines of `--watch`: before the result, or out of the way of JSON.
fn tell(arguments: &RunArguments, text: &str) -> Result<(), Failure> {
    if !arguments.json {
        return print(text);
    }
    let written = io::stderr().write_all(text.as_bytes());
    let name = Path::new("standard error");
    written.map_err(|error| Failure::host("cannot write to", name, error))
}

fn print_result(arguments: &RunArguments, figures: &Figures) -> Result<(), Failure> {
    if arguments.json {
        return print_json(figures);
    }
    if arguments.quiet {
        return Ok(());
    }
    print(&summary::text(figures))
}

impl RunArguments {
    /// Whether there is a progress bar.
    const fn visibility(&self) -> Visibility {
        if self.quiet { Visibility::Hidden } else { Visibility::OnTerminal }
    }
}
