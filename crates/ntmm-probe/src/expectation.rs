//! What the simulated walker says to each probe of a scene.
//!
//! Every probe starts from the scene as it was built: the walker makes the access on the
//! simulated memory, what it changed is written down, and the memory is put back.

use std::collections::BTreeMap;
use std::fmt;

use ntmm_machine::Hardware;
use ntmm_machine::ram::{FRAME_BYTES, Ram};
use ntmm_machine::walker::{PageFault, Privilege, Purpose, Table, Unwatched, WalkFault, walk};
use ntmm_pte::{AccessKind, I386, Pae, Pfn, Va};
use ntmm_sync::atomic::Ordering::Relaxed;
use ntmm_sync::frame::FrameWords;

use crate::image::{BREAKPOINT, Header, Probe, Ring, STORED, Structure, pack};
use crate::scene::{FIRST_FRAME, FRAMES, HOST_TABLE, Kind, Place, Scene};

/// A paging mode that exists outside long mode.
pub trait Legacy: Hardware {
    /// Its paging structure.
    const STRUCTURE: Structure;
}

impl Legacy for I386 {
    const STRUCTURE: Structure = Structure::TwoLevel;
}

impl Legacy for Pae {
    const STRUCTURE: Structure = Structure::Pae;
}

/// How an access ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is made; a read yields this value, others zero.
    Access {
        /// The value.
        value: u32,
    },
    /// A page fault.
    Fault {
        /// The error code.
        error: u32,
        /// The address in CR2.
        cr2: u32,
    },
    /// Another exception.
    Exception {
        /// Its vector.
        vector: u32,
    },
}

/// How a probe ends, and what it leaves behind.
#[derive(Clone, PartialEq, Eq)]
pub struct Observation {
    /// How the access ends.
    pub outcome: Outcome,
    /// The 64-bit words of the memory that are not what they were, by their physical addresses.
    pub changed: BTreeMap<u64, u64>,
}

impl fmt::Debug for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x?}, changed {:x?}", self.outcome, self.changed)
    }
}

/// A probe of a place, and what the simulated walker says to it.
#[derive(Clone, Debug)]
pub struct Expected {
    /// The place.
    pub place: Place,
    /// The probe.
    pub probe: Probe,
    /// What is to come of it.
    pub observation: Observation,
}

/// A scene ready to be probed.
#[derive(Debug)]
pub struct Script {
    /// The image for the machine that makes the probes.
    pub image: Vec<u8>,
    /// What the simulated walker says to each, in the image's order.
    pub expected: Vec<Expected>,
}

impl Script {
    /// Every access at every place of a scene.
    #[must_use]
    pub fn new<M: Legacy>(scene: &Scene<M>) -> Self {
        let walker = Walker::new(scene);
        let mut expected = Vec::new();
        for place in scene.places() {
            for ring in [Ring::Kernel, Ring::User] {
                let mut add = |address, access| {
                    let breakpoint = match access {
                        AccessKind::Execute => walker.physical(address),
                        AccessKind::Read | AccessKind::Write => None,
                    };
                    let probe = Probe { address, access, ring, breakpoint };
                    let observation = walker.make(probe);
                    expected.push(Expected { place: place.clone(), probe, observation });
                };
                let address = place.va.get() as u32;
                for access in AccessKind::ALL {
                    add(address, access);
                }
                if place.kind == Kind::Entry && M::STRUCTURE == Structure::Pae {
                    // The upper half of an entry. What a write would put there is a frame number
                    // of a memory that is not there.
                    add(address + 4, AccessKind::Read);
                }
            }
        }
        let header = Header {
            structure: M::STRUCTURE,
            root: scene.root().pa().get() as u32,
            first_frame: FIRST_FRAME,
            frames: FRAMES,
            host_table: HOST_TABLE,
        };
        let probes: Vec<_> = expected.iter().map(|expected| expected.probe).collect();
        Self { image: pack(header, &probes, &walker.contents()), expected }
    }
}

/// The simulated walker on a scene.
struct Walker<'a, M: Legacy> {
    scene: &'a Scene<M>,
    /// The words of all frames, as they were built.
    built: Vec<[u64; FRAME_BYTES / 8]>,
}

impl<'a, M: Legacy> Walker<'a, M> {
    fn new(scene: &'a Scene<M>) -> Self {
        let mut walker = Self { scene, built: Vec::new() };
        let words = |frame: &FrameWords| frame.each_ref().map(|word| word.load(Relaxed));
        walker.built = walker.frames().map(|(_, frame)| words(frame)).collect();
        walker
    }

    fn ram(&self) -> &'a Ram {
        self.scene.ram()
    }

    /// All frames with their numbers.
    fn frames(&self) -> impl Iterator<Item = (u32, &'a FrameWords)> + use<'a, M> {
        let ram = self.ram();
        (FIRST_FRAME..FIRST_FRAME + FRAMES).map(move |number| {
            let slot = ram.slot(Pfn::new(number)).expect("a frame of the machine");
            (number, ram.words(slot))
        })
    }

    /// Puts back what was built, and says what was different.
    fn restore(&self) -> BTreeMap<u64, u64> {
        let mut changed = BTreeMap::new();
        for ((number, frame), built) in self.frames().zip(&self.built) {
            let start = Pfn::new(number).pa().get();
            for ((address, word), built) in (start..).step_by(8).zip(frame).zip(built) {
                let value = word.load(Relaxed);
                if value != *built {
                    changed.insert(address, value);
                    word.store(*built, Relaxed);
                }
            }
        }
        changed
    }

    /// What was built at a physical address, a multiple of 8.
    fn built_at(&self, address: u64) -> u64 {
        let offset = (address - Pfn::new(FIRST_FRAME).pa().get()) as usize;
        self.built[offset / FRAME_BYTES][offset % FRAME_BYTES / 8]
    }

    fn store(&self, address: u64, size: usize, value: u64) {
        let frame = Pfn::new((address / FRAME_BYTES as u64) as u32);
        let slot = self.ram().slot(frame).expect("a frame of the machine");
        self.ram().store(slot, address as usize % FRAME_BYTES, size, value);
    }

    fn walk(
        &self,
        address: u32,
        purpose: Purpose,
    ) -> Result<ntmm_machine::walker::Translation, PageFault> {
        let root = self.ram().slot(self.scene.root()).expect("a frame of the machine");
        let va = Va::new(address.into());
        match walk::<M>(self.ram(), Table::root(root), va, purpose, &mut Unwatched) {
            Ok(translation) => Ok(translation),
            Err(WalkFault::Page(fault)) => Err(fault),
            Err(WalkFault::NoMemory { frame, .. }) => {
                panic!("the tables name frame {frame:#x} for {va}, which is not there")
            }
        }
    }

    /// Where an address is in memory, whoever may use it.
    fn physical(&self, address: u32) -> Option<u32> {
        let translation = self.walk(address, Purpose::Speculation);
        self.restore();
        let frame = self.ram().pfn(translation.ok()?.slot);
        Some(frame.pa().get() as u32 + address % FRAME_BYTES as u32)
    }

    fn make(&self, probe: Probe) -> Observation {
        let offset = probe.address as usize % FRAME_BYTES;
        let privilege = match probe.ring {
            Ring::Kernel => Privilege::Supervisor,
            Ring::User => Privilege::User,
        };
        if let Some(place) = probe.breakpoint {
            self.store(place.into(), 1, BREAKPOINT.into());
        }
        let outcome = match self.walk(probe.address, Purpose::Access(probe.access, privilege)) {
            Err(fault) => {
                Outcome::Fault { error: fault.code.bits().into(), cr2: fault.va.get() as u32 }
            }
            Ok(translation) => {
                let value = match probe.access {
                    AccessKind::Read => self.ram().load(translation.slot, offset, 4) as u32,
                    AccessKind::Write => {
                        self.ram().store(translation.slot, offset, 4, STORED.into());
                        0
                    }
                    AccessKind::Execute => 0,
                };
                Outcome::Access { value }
            }
        };
        let mut changed = self.restore();
        // The breakpoint was there before the probe.
        if let Some(place) = probe.breakpoint.map(u64::from) {
            let address = place & !7;
            let mut bytes = self.built_at(address).to_le_bytes();
            bytes[(place % 8) as usize] = BREAKPOINT;
            let before = u64::from_le_bytes(bytes);
            match changed.get(&address) {
                Some(word) if *word == before => drop(changed.remove(&address)),
                _ => {}
            }
        }
        Observation { outcome, changed }
    }

    /// The frames that are not all zeroes.
    fn contents(&self) -> Vec<(u32, Box<[u8; FRAME_BYTES]>)> {
        (FIRST_FRAME..)
            .zip(&self.built)
            .filter(|(_, words)| words.iter().any(|word| *word != 0))
            .map(|(number, words)| {
                let mut bytes = Box::new([0; FRAME_BYTES]);
                for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
                    *to = word.to_le_bytes();
                }
                (number, bytes)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// The error codes that come up, and whether the self-map shows the tables.
    fn check<M: Legacy>(errors: &[u32]) {
        let scene = Scene::<M>::new();
        let script = Script::new(&scene);
        let before: Vec<_> = Walker::new(&scene).built;
        let mut found = BTreeSet::new();
        let mut shown = 0;
        for Expected { place, probe, observation } in &script.expected {
            match observation.outcome {
                Outcome::Fault { error, cr2 } => {
                    found.insert(error);
                    assert_eq!(cr2, probe.address);
                }
                Outcome::Access { value } => {
                    let is_read = probe.access == AccessKind::Read;
                    if place.kind == Kind::Entry && is_read {
                        let entry = scene.entry_at(place.va).expect("the window shows a table");
                        let shift = 8 * (probe.address as usize % M::ENTRY_BYTES);
                        // The window is walked through, so an entry may show its own use.
                        let accessed = if shift == 0 { 1 << 5 } else { 0 };
                        assert_eq!(
                            value | accessed,
                            (entry >> shift) as u32 | accessed,
                            "{place:?}"
                        );
                        shown += 1;
                    }
                }
                Outcome::Exception { .. } => panic!("the walker raises page faults only"),
            }
            assert!(observation.changed.len() < 8, "{observation:?}");
        }
        assert_eq!(found.into_iter().collect::<Vec<_>>(), errors);
        assert!(shown > 80, "{shown} entries are shown");
        assert_eq!(Walker::new(&scene).built, before, "the scene is put back");
    }

    #[test]
    fn every_error_comes_up_in_i386() {
        check::<I386>(&[0, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn every_error_comes_up_in_pae() {
        // With fetches (16) and reserved bits (8).
        let errors = [0, 2, 3, 4, 5, 6, 7, 9, 11, 13, 15, 16, 17, 20, 21, 25, 29];
        check::<Pae>(&errors);
    }
}
