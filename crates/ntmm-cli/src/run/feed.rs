//! The references of a trace on their way to the threads that replay them.
//!
//! A thread of the host reads ahead: it unpacks the trace and finds for each reference its page
//! in the process, so that the simulated processor is left with the reference itself. The
//! simulated threads take slices of the trace in turns, in the order of the trace.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use ntmm_pte::Va;
use ntmm_trace::{AccessKind, BATCH, PAGE_SIZE, Place, Problem, TraceError, TraceReader};

use super::placement::{Finder, Placement};

/// Batches read ahead.
const AHEAD: usize = 8;

/// Records in a slice when several threads share a trace: few enough that the threads meet at
/// the same pages.
const SHARED_SLICE: usize = 256;

/// A record of a trace, placed.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Address of the first byte.
    pub va: Va,
    /// Number of its page in the placement.
    pub page: u32,
    /// References it stands for.
    pub count: u32,
    /// Bytes, at most [`ntmm_trace::MAX_SIZE`].
    pub size: u16,
    /// What was done.
    pub kind: AccessKind,
}

#[derive(Debug)]
enum Message {
    Steps(Vec<Step>),
    End,
}

/// Some records that follow one another.
#[derive(Debug, Default)]
pub struct Slice {
    steps: Rc<Vec<Step>>,
    range: Range<usize>,
}

impl Slice {
    /// The records that are left.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps[self.range.clone()]
    }

    /// The first `count` records are done.
    pub const fn advance(&mut self, count: usize) {
        self.range.start += count;
    }
}

/// Where records come from once those at hand are used up.
#[derive(Debug)]
enum Supply {
    /// A thread that reads the trace of this name.
    Reading { name: String, receiver: Receiver<Result<Message, TraceError>> },
    /// There are no more.
    Ended,
}

/// The references of a trace.
#[derive(Debug)]
pub struct Feed {
    supply: Supply,
    batch: Rc<Vec<Step>>,
    /// Records of the batch that were handed out.
    taken: usize,
    slice: usize,
    thousandths: Arc<AtomicU64>,
}

/// All of a trace, as [`Feed::progress`] counts it.
pub const WHOLE: u64 = 1000;

impl Feed {
    /// Begins to read a trace for so many threads.
    #[must_use]
    pub fn start(reader: TraceReader, placement: Arc<Placement>, threads: u32) -> Self {
        let name = reader.file().to_owned();
        let (sender, receiver) = sync_channel(AHEAD);
        let thousandths = Arc::new(AtomicU64::new(0));
        let progress = Arc::clone(&thousandths);
        thread::spawn(move || {
            // When nobody listens any more there is nothing left to do.
            if let Err(error) = read(reader, &placement, &sender, &progress) {
                let _ = sender.send(Err(error));
            }
        });
        let slice = if threads > 1 { SHARED_SLICE } else { BATCH };
        let supply = Supply::Reading { name, receiver };
        Self { supply, batch: Rc::default(), taken: 0, slice, thousandths }
    }

    /// Records that are in memory already.
    #[must_use]
    pub fn ready(steps: Vec<Step>) -> Self {
        Self {
            supply: Supply::Ended,
            batch: Rc::new(steps),
            taken: 0,
            slice: SHARED_SLICE,
            thousandths: Arc::default(),
        }
    }

    /// The next slice; none at the end.
    ///
    /// # Errors
    /// The trace cannot be read on.
    pub fn next_slice(&mut self) -> Result<Option<Slice>, TraceError> {
        if self.taken == self.batch.len() && !self.next_batch()? {
            return Ok(None);
        }
        let end = self.batch.len().min(self.taken + self.slice);
        let range = self.taken..end;
        self.taken = end;
        Ok(Some(Slice { steps: Rc::clone(&self.batch), range }))
    }

    /// How much of the trace has been read, in parts of [`WHOLE`].
    #[must_use]
    pub fn progress(&self) -> u64 {
        self.thousandths.load(Ordering::Relaxed)
    }

    fn next_batch(&mut self) -> Result<bool, TraceError> {
        let Supply::Reading { name, receiver } = &self.supply else {
            return Ok(false);
        };
        match receiver.recv() {
            Ok(Ok(Message::Steps(steps))) => {
                self.batch = Rc::new(steps);
                self.taken = 0;
                Ok(true)
            }
            Ok(Ok(Message::End)) => {
                self.supply = Supply::Ended;
                Ok(false)
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(not_readable(name, "reading stopped before the end")),
        }
    }
}

fn not_readable(file: &str, why: &'static str) -> TraceError {
    TraceError {
        file: file.to_owned(),
        place: Place::Whole,
        problem: Problem::Io(std::io::Error::other(why)),
    }
}

/// Reads a trace to its end and sends it; stops when nobody receives.
fn read(
    mut reader: TraceReader,
    placement: &Placement,
    sender: &SyncSender<Result<Message, TraceError>>,
    thousandths: &AtomicU64,
) -> Result<(), TraceError> {
    let mut finder = Finder::new(placement);
    let mut batch = Vec::new();
    let all = reader.header().map(|header| header.totals.records);
    let mut records = 0;
    while reader.read_batch(&mut batch)? > 0 {
        let mut steps = Vec::with_capacity(batch.len());
        for reference in &batch {
            let (first, last) = (reference.first_page(), reference.last_page());
            let placed = finder.find(first);
            let whole = first == last || finder.find(last).is_some();
            let Some(placed) = placed.filter(|_| whole) else {
                return Err(not_readable(reader.file(), "the file was changed while it was read"));
            };
            steps.push(Step {
                va: Va::new(placed.page * PAGE_SIZE + reference.va % PAGE_SIZE),
                page: placed.index,
                count: reference.count,
                size: reference.size as u16,
                kind: reference.kind,
            });
        }
        records += steps.len() as u64;
        let bytes = reader.progress();
        let (done, all) = match all {
            Some(all) => (records, all),
            None => (bytes.consumed, bytes.total.unwrap_or(bytes.consumed)),
        };
        thousandths.store(done.saturating_mul(WHOLE) / all.max(1), Ordering::Relaxed);
        if sender.send(Ok(Message::Steps(steps))).is_err() {
            return Ok(());
        }
    }
    let _ = sender.send(Ok(Message::End));
    Ok(())
}
