//! What a workload has seen: a digest of everything, and counts for people.

use core::fmt;

use crate::random::mix;
use crate::request::{
    Exception, MEM_COMMIT, MEM_FREE, Request, Response, STATUS_ACCESS_VIOLATION,
    STATUS_GUARD_PAGE_VIOLATION, STATUS_SUCCESS,
};

/// Digests an outcome keeps on the way.
pub const CHECKPOINTS: usize = 64;

/// Most bytes of an outcome written as JSON.
pub const JSON_LENGTH: usize = 2048;

/// Least steps from one kept digest to the next.
const INTERVAL: u32 = 64;

/// What a workload has seen so far. [`Display`](fmt::Display) writes it as one JSON object on one
/// line, at most [`JSON_LENGTH`] bytes long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// Requests that were answered.
    pub steps: u32,
    /// Digest of these requests and what came of them.
    pub digest: u64,
    /// How many of which kind they were.
    pub counts: Counts,
    interval: u32,
    checkpoints: [u64; CHECKPOINTS],
}

/// Counts requests and what came of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Allocation calls.
    pub allocate: u32,
    /// Free calls.
    pub free: u32,
    /// Protect calls.
    pub protect: u32,
    /// Queries.
    pub query: u32,
    /// Loads.
    pub load: u32,
    /// Stores.
    pub store: u32,
    /// Times the working set was emptied.
    pub empty: u32,
    /// Calls that failed.
    pub failed: u32,
    /// Loads and stores that were access violations.
    pub access_violations: u32,
    /// Loads and stores that met a guard page.
    pub guard_pages: u32,
    /// Loads and stores that raised anything else.
    pub other_exceptions: u32,
    /// Loads of something else than zero.
    pub nonzero_loads: u32,
}

impl Counts {
    fn add(&mut self, request: Request, response: Response) {
        *match request {
            Request::Allocate { .. } => &mut self.allocate,
            Request::Free { .. } => &mut self.free,
            Request::Protect { .. } => &mut self.protect,
            Request::Query { .. } => &mut self.query,
            Request::Load { .. } => &mut self.load,
            Request::Store { .. } => &mut self.store,
            Request::EmptyWorkingSet => &mut self.empty,
        } += 1;
        match response {
            Response::Exception(Exception { code, .. }) => {
                *match code {
                    STATUS_ACCESS_VIOLATION => &mut self.access_violations,
                    STATUS_GUARD_PAGE_VIOLATION => &mut self.guard_pages,
                    _ => &mut self.other_exceptions,
                } += 1;
            }
            Response::Loaded { value } => self.nonzero_loads += u32::from(value != 0),
            response => {
                let failed = response.status().is_some_and(|status| status != STATUS_SUCCESS);
                self.failed += u32::from(failed);
            }
        }
    }
}

impl Outcome {
    /// Nothing seen yet of a workload of so many steps.
    pub(crate) fn new(seed: u64, steps: u32) -> Self {
        Self {
            seed,
            steps: 0,
            digest: mix(seed),
            counts: Counts::default(),
            interval: INTERVAL * steps.div_ceil(INTERVAL * CHECKPOINTS as u32).max(1),
            checkpoints: [0; CHECKPOINTS],
        }
    }

    /// Steps from one kept digest to the next: 64, or more in workloads of more than 4,096.
    #[must_use]
    pub const fn interval(&self) -> u32 {
        self.interval
    }

    /// The digests kept after each interval.
    #[must_use]
    pub fn checkpoints(&self) -> &[u64] {
        self.checkpoints.get(..(self.steps / self.interval) as usize).unwrap_or(&self.checkpoints)
    }

    /// Up to how many steps two outcomes of one seed agree for certain.
    #[must_use]
    pub fn agreed_steps(&self, other: &Self) -> u32 {
        if self == other {
            return self.steps;
        }
        if self.seed != other.seed || self.interval != other.interval {
            return 0;
        }
        let pairs = self.checkpoints().iter().zip(other.checkpoints());
        pairs.take_while(|(a, b)| a == b).count() as u32 * self.interval
    }

    /// Takes up a request and what came of it.
    pub(crate) fn add(&mut self, request: Request, response: Response) {
        self.steps += 1;
        self.counts.add(request, response);
        self.fold_request(request);
        self.fold_response(response);
        let digest = self.digest;
        if self.steps.is_multiple_of(self.interval)
            && let Some(place) = self.checkpoints.get_mut((self.steps / self.interval) as usize - 1)
        {
            *place = digest;
        }
    }

    fn fold(&mut self, words: &[u64]) {
        for word in words {
            self.digest = mix(self.digest.rotate_left(5) ^ word);
        }
    }

    fn fold_request(&mut self, request: Request) {
        match request {
            Request::Allocate { base, size, allocation_type, protect } => {
                self.fold(&[1, base, size, u64::from(allocation_type), u64::from(protect)]);
            }
            Request::Free { base, size, free_type } => {
                self.fold(&[2, base, size, u64::from(free_type)]);
            }
            Request::Protect { base, size, protect } => {
                self.fold(&[3, base, size, u64::from(protect)]);
            }
            Request::Query { address } => self.fold(&[4, address]),
            Request::Load { address, width } => self.fold(&[5, address, width.bytes()]),
            Request::Store { address, width, value } => {
                self.fold(&[6, address, width.bytes(), value]);
            }
            Request::EmptyWorkingSet => self.fold(&[7]),
        }
    }

    fn fold_response(&mut self, response: Response) {
        self.fold(&[response.status().map_or(u64::MAX, u64::from)]);
        match response {
            Response::Range { status: STATUS_SUCCESS, base, size } => self.fold(&[base, size]),
            Response::Protected { status: STATUS_SUCCESS, base, size, old_protect } => {
                self.fold(&[base, size, u64::from(old_protect)]);
            }
            Response::Information { status: STATUS_SUCCESS, information: found } => {
                self.fold(&[found.base, found.size, u64::from(found.state)]);
                if found.state == MEM_COMMIT {
                    self.fold(&[u64::from(found.protect)]);
                }
                if found.state != MEM_FREE {
                    let words = [found.allocation_protect, found.kind].map(u64::from);
                    self.fold(&[found.allocation_base]);
                    self.fold(&words);
                }
            }
            Response::Loaded { value } => self.fold(&[value]),
            Response::Exception(Exception { access, address, .. }) => {
                self.fold(&[access as u64, address]);
            }
            Response::Range { .. }
            | Response::Protected { .. }
            | Response::Information { .. }
            | Response::Stored
            | Response::Emptied { .. } => {}
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { allocate, free, protect, query, load, store, empty, .. } = self;
        write!(f, r#"{{"allocate":{allocate},"free":{free},"protect":{protect},"query":{query},"#)?;
        write!(f, r#""load":{load},"store":{store},"empty":{empty},"#)?;
        let Self { failed, access_violations, guard_pages, other_exceptions, .. } = self;
        write!(f, r#""failed":{failed},"access_violations":{access_violations},"#)?;
        write!(f, r#""guard_pages":{guard_pages},"other_exceptions":{other_exceptions},"#)?;
        write!(f, r#""nonzero_loads":{}}}"#, self.nonzero_loads)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, steps, digest, counts, interval, .. } = self;
        // Readers of JSON may take numbers for floating-point ones: 64 bits are written as text.
        write!(f, r#"{{"seed":"{seed}","steps":{steps},"digest":"{digest:016x}","#)?;
        write!(f, r#""counts":{counts},"interval":{interval},"checkpoints":["#)?;
        for (number, digest) in self.checkpoints().iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            write!(f, r#"{comma}"{digest:016x}""#)?;
        }
        f.write_str("]}")
    }
}
