//! The translation buffer of an adversarial processor: it may use any translation it was ever
//! allowed to cache until that translation is flushed.
//!
//! Nothing is evicted for lack of room, and several translations of one address may be held at
//! once when the tables changed without a flush; which of them an access uses is drawn. Tables
//! on the way are held like pages, at every level. Entries carry the address space they belong
//! to and survive switches when the seed says so, as with process-context identifiers; they are
//! reachable while that space is active. Whoever deletes an address space flushes it.
//!
//! The holder counts, per frame, the translations that reach it ([`References`]), so that an
//! auditor can ask for each frame after each step.

use std::cell::Cell;
use std::collections::BTreeMap;

use ntmm_pte::{AccessKind, Va};

use crate::format::Level;
use crate::ram::FrameSlot;
use crate::walker::{Cleanness, PageSize, Privilege, Rights, Table, Translation};

/// An address space as the processor tells it apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpaceTag(pub u32);

/// For each frame, how many held translations reach it.
#[derive(Debug)]
pub struct References(Box<[Cell<u32>]>);

impl References {
    /// No references to any of so many frames.
    #[must_use]
    pub fn new(frames: usize) -> Self {
        Self((0..frames).map(|_| Cell::new(0)).collect())
    }

    /// How many held translations reach a frame.
    #[must_use]
    pub fn count(&self, slot: FrameSlot) -> u32 {
        self.0[slot.index()].get()
    }

    fn add(&self, slot: FrameSlot) {
        let count = &self.0[slot.index()];
        count.set(count.get() + 1);
    }

    fn remove(&self, slot: FrameSlot) {
        let count = &self.0[slot.index()];
        count.set(count.get() - 1);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    space: SpaceTag,
    /// Level of the table, or the number of levels for a page.
    level: u8,
    /// The address without the bits that the table or the page translates.
    prefix: u64,
    slot: FrameSlot,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    rights: Rights,
    cleanness: Cleanness,
    size: PageSize,
}

/// What the held translations say about an access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// These frames may be used.
    Granted(Vec<FrameSlot>),
    /// Translations are held and all deny the access.
    Denied,
    /// The tables have to be walked: nothing is held, or a Dirty bit has to be set.
    Nothing,
}

/// What an adversarial processor holds.
#[derive(Debug)]
pub struct Retained {
    levels: &'static [Level],
    held: BTreeMap<Key, Held>,
}

impl Retained {
    /// Nothing held, for paging structures of these levels.
    #[must_use]
    pub fn new(levels: &'static [Level]) -> Self {
        Self { levels, held: BTreeMap::new() }
    }

    fn page_level(&self) -> u8 {
        self.levels.len() as u8
    }

    /// Address bits below the prefix of an entry of this level.
    fn shift(&self, level: u8) -> u32 {
        self.levels[usize::from(level) - 1].shift
    }

    fn keys(&self, space: SpaceTag, level: u8, va: Va) -> impl Iterator<Item = (&Key, &Held)> {
        let prefix = va.get() >> self.shift(level);
        let key = |slot| Key { space, level, prefix, slot };
        self.held.range(key(FrameSlot::from_index(0))..=key(FrameSlot::from_index(u32::MAX)))
    }

    /// What is held for an access.
    #[must_use]
    pub fn find(&self, space: SpaceTag, va: Va, access: AccessKind, privilege: Privilege) -> Found {
        let mut granted = Vec::new();
        let mut denied = false;
        for (key, held) in self.keys(space, self.page_level(), va) {
            if !held.rights.allow(access, privilege) {
                denied = true;
            } else if access == AccessKind::Write && held.cleanness == Cleanness::Clean {
                return Found::Nothing;
            } else {
                granted.push(key.slot);
            }
        }
        match (granted.is_empty(), denied) {
            (false, _) => Found::Granted(granted),
            (true, true) => Found::Denied,
            (true, false) => Found::Nothing,
        }
    }

    /// The tables from which a walk for an address may start, besides the root.
    #[must_use]
    pub fn tables(&self, space: SpaceTag, va: Va) -> Vec<Table> {
        (1..self.page_level())
            .flat_map(|level| {
                self.keys(space, level, va).map(|(key, held)| Table {
                    level: key.level,
                    slot: key.slot,
                    rights: held.rights,
                })
            })
            .collect()
    }

    /// Holds a table that a walk for `va` went through.
    pub fn hold_table(&mut self, space: SpaceTag, va: Va, table: Table, references: &References) {
        let prefix = va.get() >> self.shift(table.level);
        let key = Key { space, level: table.level, prefix, slot: table.slot };
        let held =
            Held { rights: table.rights, cleanness: Cleanness::Clean, size: PageSize::Small };
        self.hold(key, held, references);
    }

    /// Holds what a walk for `va` yielded.
    pub fn hold_page(
        &mut self,
        space: SpaceTag,
        va: Va,
        translation: &Translation,
        references: &References,
    ) {
        let key =
            Key { space, level: self.page_level(), prefix: va.get() >> 12, slot: translation.slot };
        let held = Held {
            rights: translation.rights,
            cleanness: translation.cleanness,
            size: translation.size,
        };
        self.hold(key, held, references);
    }

    fn hold(&mut self, key: Key, new: Held, references: &References) {
        let held = self.held.entry(key).or_insert_with(|| {
            references.add(key.slot);
            new
        });
        // What was allowed before stays allowed until it is flushed.
        held.rights = held.rights.union(new.rights);
        if new.cleanness == Cleanness::Dirty {
            held.cleanness = Cleanness::Dirty;
        }
        held.size = new.size;
    }

    /// Forgets the page of an address, all of it when it is large, and the tables on the way.
    pub fn flush_page(&mut self, space: SpaceTag, va: Va, references: &References) {
        let leaf = self.page_level();
        let region = va.get() >> self.shift(leaf - 1);
        let width = self.shift(leaf - 1) - 12;
        let (first, last) = (region << width, (region + 1) << width);
        let page = va.get() >> 12;
        let ends = |prefix| Key { space, level: leaf, prefix, slot: FrameSlot::from_index(0) };
        let mut gone: Vec<Key> = self
            .held
            .range(ends(first)..ends(last))
            .filter(|(key, held)| key.prefix == page || held.size == PageSize::Large)
            .map(|(key, _)| *key)
            .collect();
        for level in 1..leaf {
            gone.extend(self.keys(space, level, va).map(|(key, _)| *key));
        }
        self.forget(&gone, references);
    }

    /// Forgets everything of an address space.
    pub fn flush_space(&mut self, space: SpaceTag, references: &References) {
        let gone: Vec<Key> = self.of_space(space).copied().collect();
        self.forget(&gone, references);
    }

    fn of_space(&self, space: SpaceTag) -> impl Iterator<Item = &Key> {
        let ends = |space| Key { space, level: 0, prefix: 0, slot: FrameSlot::from_index(0) };
        self.held.range(ends(space)..ends(SpaceTag(space.0 + 1))).map(|(key, _)| key)
    }

    fn forget(&mut self, keys: &[Key], references: &References) {
        for key in keys {
            if self.held.remove(key).is_some() {
                references.remove(key.slot);
            }
        }
    }

    /// Whether anything of an address space is held.
    #[must_use]
    pub fn holds(&self, space: SpaceTag) -> bool {
        self.of_space(space).next().is_some()
    }

    /// The addresses, and their spaces, whose held translation or table lies in a frame. A
    /// search.
    pub fn addresses_of(&self, slot: FrameSlot) -> impl Iterator<Item = (SpaceTag, Va)> {
        self.held
            .keys()
            .filter(move |key| key.slot == slot)
            .map(|key| (key.space, Va::new(key.prefix << self.shift(key.level))))
    }
}
