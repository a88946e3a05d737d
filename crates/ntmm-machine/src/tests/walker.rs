//! The page walker against hand-built tables.

use ntmm_pte::{AccessKind, Va};
use proptest::prelude::*;

use super::tables::{
    A, AMD64, D, FIRST, I386, NX, P, PAE, PS, Shape, Tables, U, VA, W, memory, snapshot,
};
use crate::format::Hardware;
use crate::ram::Ram;
use crate::walker::{
    Cleanness, PageFault, PageSize, Privilege, Purpose, Reach, Table, Translation, Unwatched,
    WalkFault, WalkHook, guess, walk,
};

const ACCESSES: [AccessKind; 3] = AccessKind::ALL;
const PRIVILEGES: [Privilege; 2] = [Privilege::User, Privilege::Supervisor];

fn go<H: Hardware>(
    tables: &Tables<'_>,
    va: Va,
    purpose: Purpose,
) -> Result<Translation, WalkFault> {
    walk::<H>(tables.ram, Table::root(tables.slot(0)), va, purpose, &mut Unwatched)
}

fn code(result: Result<Translation, WalkFault>) -> Option<u8> {
    match result {
        Ok(_) => None,
        Err(WalkFault::Page(PageFault { code, .. })) => Some(code.bits()),
        Err(WalkFault::NoMemory { .. }) => Some(0xFF),
    }
}

/// The error-code bits an access brings along, by the manual.
fn wanted(access: AccessKind, privilege: Privilege, nx: bool) -> u8 {
    let access = match access {
        AccessKind::Read => 0,
        AccessKind::Write => 2,
        AccessKind::Execute => {
            if nx {
                16
            } else {
                0
            }
        }
    };
    access | if privilege == Privilege::User { 4 } else { 0 }
}

/// Flags at every level (`None` where the level's entries have no rights) against every access.
fn check_permissions<H: Hardware>(shape: Shape, nx: bool, rightless_root: bool) {
    let levels = shape.shifts.len();
    let checked = levels - usize::from(rightless_root);
    let kinds: Vec<u64> = (0..if nx { 8 } else { 4 })
        .map(|bits| {
            (if bits & 1 != 0 { W } else { 0 })
                | (if bits & 2 != 0 { U } else { 0 })
                | (if bits & 4 != 0 { NX } else { 0 })
        })
        .collect();
    let all = kinds.len().pow(checked as u32);
    for combination in 0..all {
        let mut flags = vec![P; levels];
        let mut rest = combination;
        for flag in &mut flags[levels - checked..] {
            *flag |= kinds[rest % kinds.len()];
            rest /= kinds.len();
        }
        let rights = &flags[levels - checked..];
        for access in ACCESSES {
            for privilege in PRIVILEGES {
                let ram = Ram::new(&[memory()]);
                let tables = Tables::new(&ram, shape);
                tables.map(VA.get(), &flags, 9);
                let allowed = (access != AccessKind::Write || rights.iter().all(|f| f & W != 0))
                    && (privilege != Privilege::User || rights.iter().all(|f| f & U != 0))
                    && (access != AccessKind::Execute || rights.iter().all(|f| f & NX == 0));
                let result = go::<H>(&tables, VA, Purpose::Access(access, privilege));
                let expected = if allowed { None } else { Some(1 | wanted(access, privilege, nx)) };
                assert_eq!(code(result), expected, "{flags:x?} {access:?} {privilege:?}");

                // Accessed on the way, Dirty on the leaf of a write, nothing else.
                let mut after = flags.clone();
                for (level, flag) in after.iter_mut().enumerate() {
                    let leaf = level + 1 == levels;
                    if level < levels - checked || (leaf && !allowed) {
                        continue;
                    }
                    *flag |= A;
                    if leaf && access == AccessKind::Write {
                        *flag |= D;
                    }
                }
                let got: Vec<u64> =
                    tables.entries(VA.get()).iter().map(|entry| entry & (NX | 0xFFF)).collect();
                assert_eq!(got, after, "{access:?} {privilege:?}");
                if let Ok(translation) = result {
                    assert_eq!(translation.slot, tables.slot(9));
                    assert_eq!(translation.size, PageSize::Small);
                    let dirty = access == AccessKind::Write;
                    assert_eq!(translation.cleanness == Cleanness::Dirty, dirty);
                }
            }
        }
    }
}

#[test]
fn rights_of_all_levels_combine_i386() {
    check_permissions::<ntmm_pte::I386>(I386, false, false);
}

#[test]
fn rights_of_all_levels_combine_pae() {
    check_permissions::<ntmm_pte::Pae>(PAE, true, true);
}

#[test]
fn rights_of_all_levels_combine_amd64() {
    check_permissions::<ntmm_pte::Amd64>(AMD64, true, false);
}

fn check_not_present<H: Hardware>(shape: Shape, nx: bool) {
    let levels = shape.shifts.len();
    for missing in 0..levels {
        for access in ACCESSES {
            for privilege in PRIVILEGES {
                let ram = Ram::new(&[memory()]);
                let tables = Tables::new(&ram, shape);
                let mut flags = vec![P; levels];
                for flag in &mut flags[usize::from(shape.root_entries == 4)..] {
                    *flag |= W | U;
                }
                // All other bits say yes: only the present bit counts.
                flags[missing] = W | U | A | D;
                tables.map(VA.get(), &flags, 9);
                let result = go::<H>(&tables, VA, Purpose::Access(access, privilege));
                assert_eq!(code(result), Some(wanted(access, privilege, nx)));
                assert_eq!(tables.entries(VA.get())[missing] & 0xFFF, W | U | A | D);
            }
        }
    }
}

#[test]
fn a_missing_level_is_a_fault_without_the_protection_bit() {
    check_not_present::<ntmm_pte::I386>(I386, false);
    check_not_present::<ntmm_pte::Pae>(PAE, true);
    check_not_present::<ntmm_pte::Amd64>(AMD64, true);
}

/// Sets each bit alone at a level of an otherwise good walk; says which are reserved.
fn reserved_bits<H: Hardware>(shape: Shape, level: usize, base: &[u64]) -> Vec<u32> {
    (1..shape.entry as u32 * 8)
        .filter(|bit| {
            let ram = Ram::new(&[memory()]);
            let tables = Tables::new(&ram, shape);
            tables.map(VA.get(), base, 9);
            let entry = tables.entries(VA.get())[level];
            tables.set(level as u32, level, VA.get(), entry | 1 << bit);
            let result =
                go::<H>(&tables, VA, Purpose::Access(AccessKind::Read, Privilege::Supervisor));
            match code(result) {
                Some(9) => true,
                None | Some(0xFF) | Some(0) => false,
                Some(other) => panic!("bit {bit} of level {level} gives code {other:#x}"),
            }
        })
        .collect()
}

fn run(from: u32, to: u32) -> impl Iterator<Item = u32> {
    from..=to
}

#[test]
fn reserved_bits_are_the_manuals() {
    let small = |levels: usize| vec![P; levels];
    assert!(reserved_bits::<ntmm_pte::I386>(I386, 1, &small(2)).is_empty());
    assert!(
        !reserved_bits::<ntmm_pte::I386>(I386, 0, &[P, P]).iter().any(|bit| *bit != 7),
        "only a large page brings reserved bits"
    );

    let pointers: Vec<u32> = run(1, 2).chain(run(5, 8)).chain(run(36, 63)).collect();
    assert_eq!(reserved_bits::<ntmm_pte::Pae>(PAE, 0, &small(3)), pointers);
    let high: Vec<u32> = run(36, 62).collect();
    assert_eq!(reserved_bits::<ntmm_pte::Pae>(PAE, 2, &small(3)), high);

    let top: Vec<u32> = std::iter::once(7).chain(run(40, 51)).collect();
    assert_eq!(reserved_bits::<ntmm_pte::Amd64>(AMD64, 0, &small(4)), top);
    assert_eq!(reserved_bits::<ntmm_pte::Amd64>(AMD64, 1, &small(4)), top);
    let high: Vec<u32> = run(40, 51).collect();
    assert_eq!(reserved_bits::<ntmm_pte::Amd64>(AMD64, 3, &small(4)), high);
}

fn check_large<H: Hardware>(shape: Shape, level: usize, reserved: &[u32]) {
    let ram = Ram::new(&[memory()]);
    let tables = Tables::new(&ram, shape);
    let mut flags = vec![P; shape.shifts.len()];
    for flag in &mut flags[usize::from(shape.root_entries == 4)..] {
        *flag |= W | U;
    }
    tables.map(VA.get(), &flags, 9);
    // The large page starts at frame 0, so that the frame is the page's offset in it.
    tables.set(level as u32, level, VA.get(), P | W | U | PS);
    let page = u64::from(FIRST) + 3;
    let va = VA.get() >> shape.shifts[level] << shape.shifts[level] | page << 12;
    let result = go::<H>(&tables, Va::new(va), Purpose::Access(AccessKind::Write, Privilege::User))
        .expect("mapped");
    assert_eq!(result.slot, tables.slot(3));
    assert_eq!((result.size, result.cleanness), (PageSize::Large, Cleanness::Dirty));
    assert_eq!(tables.get(level as u32, level, va), P | W | U | PS | A | D);
    for bit in reserved {
        tables.set(level as u32, level, va, P | PS | 1 << bit);
        let read = Purpose::Access(AccessKind::Read, Privilege::Supervisor);
        assert_eq!(code(go::<H>(&tables, Va::new(va), read)), Some(9), "bit {bit}");
    }
}

#[test]
fn large_pages_map_at_the_directory() {
    check_large::<ntmm_pte::I386>(I386, 0, &run(13, 21).collect::<Vec<_>>());
    check_large::<ntmm_pte::Pae>(PAE, 1, &run(13, 20).chain(run(36, 62)).collect::<Vec<_>>());
    check_large::<ntmm_pte::Amd64>(AMD64, 2, &run(13, 20).chain(run(40, 51)).collect::<Vec<_>>());
}

#[test]
fn addresses_the_mode_does_not_have_are_not_present() {
    let ram = Ram::new(&[memory()]);
    let read = Purpose::Access(AccessKind::Read, Privilege::User);
    let tables = Tables::new(&ram, AMD64);
    tables.map(VA.get(), &[P | U; 4], 9);
    let high = Va::new(VA.get() | 1 << 48);
    assert_eq!(code(go::<ntmm_pte::Amd64>(&tables, high, read)), Some(4));
    assert_eq!(code(go::<ntmm_pte::Amd64>(&tables, VA, read)), None);
    let ram = Ram::new(&[memory()]);
    let tables = Tables::new(&ram, I386);
    tables.map(VA.get(), &[P | U; 2], 9);
    let high = Va::new(VA.get() | 1 << 32);
    assert_eq!(code(go::<ntmm_pte::I386>(&tables, high, read)), Some(4));
}

#[test]
fn tables_outside_memory_are_reported() {
    let ram = Ram::new(&[memory()]);
    let tables = Tables::new(&ram, I386);
    tables.set(0, 0, VA.get(), P | 0x9_9999 << 12);
    let read = Purpose::Access(AccessKind::Read, Privilege::Supervisor);
    assert_eq!(
        go::<ntmm_pte::I386>(&tables, VA, read),
        Err(WalkFault::NoMemory { va: VA, frame: 0x9_9999 })
    );
}

#[test]
fn the_other_half_of_a_word_is_left_alone() {
    let ram = Ram::new(&[memory()]);
    let tables = Tables::new(&ram, I386);
    tables.map(VA.get(), &[P | W, P | W], 9);
    let neighbour = VA.get() ^ 0x1000;
    tables.set(1, 1, neighbour, 0xDEAD_BEEE);
    let write = Purpose::Access(AccessKind::Write, Privilege::Supervisor);
    assert!(go::<ntmm_pte::I386>(&tables, VA, write).is_ok());
    assert_eq!(tables.get(1, 1, neighbour), 0xDEAD_BEEE);
}

#[test]
fn speculation_sets_accessed_and_never_dirty() {
    let ram = Ram::new(&[memory()]);
    let tables = Tables::new(&ram, AMD64);
    tables.map(VA.get(), &[P, P, P, P | W | U | NX], 9);
    let translation = go::<ntmm_pte::Amd64>(&tables, VA, Purpose::Speculation).expect("present");
    assert!(!translation.rights.allow(AccessKind::Read, Privilege::User));
    let flags: Vec<u64> = tables.entries(VA.get()).iter().map(|entry| entry & 0xFFF).collect();
    assert_eq!(flags, [P | A, P | A, P | A, P | W | U | A]);
}

/// Changes the leaf between the walker's load and its compare-and-swap.
struct Meddler<'a> {
    tables: &'a Tables<'a>,
    pauses: u32,
    at: u32,
    entry: u64,
}

impl WalkHook for Meddler<'_> {
    fn pause(&mut self) {
        self.pauses += 1;
        if self.pauses == self.at {
            self.tables.set(1, 1, VA.get(), self.entry);
        }
    }
}

#[test]
fn an_entry_that_changes_under_the_walker_is_looked_at_anew() {
    let other = u64::from(FIRST + 10) << 12;
    for (entry, expected) in [(0, Some(2)), (P | other, Some(3)), (P | W | other, None)] {
        let ram = Ram::new(&[memory()]);
        let tables = Tables::new(&ram, I386);
        // The directory is accessed already: pauses are before its load, before the leaf's
        // load and before the leaf's change.
        tables.map(VA.get(), &[P | W | A, P | W], 9);
        let mut hook = Meddler { tables: &tables, pauses: 0, at: 3, entry };
        let write = Purpose::Access(AccessKind::Write, Privilege::Supervisor);
        let root = Table::root(tables.slot(0));
        let result = walk::<ntmm_pte::I386>(&ram, root, VA, write, &mut hook);
        assert_eq!(code(result), expected);
        match expected {
            None => {
                assert_eq!(result.map(|t| t.slot), Ok(tables.slot(10)));
                assert_eq!(tables.get(1, 1, VA.get()), entry | A | D);
            }
            Some(_) => assert_eq!(tables.get(1, 1, VA.get()), entry, "no bit lands in it"),
        }
    }
}

proptest! {
    /// Whatever the tables hold, guessing touches nothing, and a guess that can be walked is a
    /// page that an ordinary access finds too.
    #[test]
    fn guesses_are_translations(words in prop::collection::vec((0_usize..2, 0_usize..1024, any::<u32>()), 0..60), picks in prop::collection::vec(any::<usize>(), 4)) {
        let ram = Ram::new(&[memory()]);
        let tables = Tables::new(&ram, I386);
        for (table, entry, word) in words {
            let frame = if table == 0 { FIRST + 1 } else { FIRST + word % 64 };
            let entry_word = u64::from(frame) << 12 | u64::from(word & 0x7) | u64::from(word & 0x60);
            ram.store(tables.slot(table as u32), entry * 4, 4, entry_word);
        }
        let before = snapshot(&ram);
        let mut picks = picks.into_iter();
        let guessed = guess::<ntmm_pte::I386>(&ram, tables.slot(0), Reach::UserHalf, |limit| {
            picks.next().unwrap_or(0) % limit
        });
        prop_assert_eq!(&snapshot(&ram), &before);
        if let Some(va) = guessed {
            prop_assert!(va.get() < 0x8000_0000);
            prop_assert!(go::<ntmm_pte::I386>(&tables, va, Purpose::Speculation).is_ok());
        }
    }
}
