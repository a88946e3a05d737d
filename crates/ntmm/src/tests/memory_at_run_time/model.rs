//! Any order of lending, taking back and using memory, against a model.

use super::*;
use proptest::prelude::*;

/// Something that happens to a machine.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Write(u64),
    Read(u64),
    Decommit(u64),
    Add(u32, u32),
    Remove(u32, u32),
    Step,
    Abandon,
    Settle,
    Hold(bool),
    Second,
}

const PAGES: u64 = 80;

fn happening() -> impl Strategy<Value = Happening> {
    let span = || (0..LENT + WITHHELD, 1..40_u32);
    prop_oneof![
        6 => (0..PAGES).prop_map(Happening::Write),
        4 => (0..PAGES).prop_map(Happening::Read),
        1 => (0..PAGES).prop_map(Happening::Decommit),
        2 => span().prop_map(|(first, count)| Happening::Add(first, count)),
        3 => span().prop_map(|(first, count)| Happening::Remove(first, count)),
        4 => Just(Happening::Step),
        1 => Just(Happening::Abandon),
        2 => Just(Happening::Settle),
        1 => any::<bool>().prop_map(Happening::Hold),
        1 => Just(Happening::Second),
    ]
}

/// Which frames are the host's, by the model.
fn absent_by_model(absent: &mut [bool], range: FrameRange, is_absent: bool) {
    for pfn in range.frames() {
        absent[(pfn.get() - FIRST) as usize] = is_absent;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn contents_and_counts_survive_memory_that_comes_and_goes(
        happenings in prop::collection::vec(happening(), 1..80),
    ) {
        let host = host::<ntmm_pte::Amd64>();
        let mut absent = std::vec![false; (LENT + WITHHELD) as usize];
        absent_by_model(&mut absent, withheld(), true);
        let space = host.space();
        let va = host.allocate(space, PAGES);
        let mut values = std::vec![0; PAGES as usize];
        let mut removal: Option<(RemoveMemory, FrameRange)> = None;
        let mut started = false;
        let base = figures(&host).commit_limit.get();
        for happening in happenings {
            match happening {
                Happening::Write(page) => {
                    values[page as usize] += page + 1;
                    if host
                        .commit(space, page_at(va, page), 1, ntmm_pte::Protection::READWRITE)
                        .is_ok()
                    {
                        host.write(space, page_at(va, page), values[page as usize]);
                    }
                }
                Happening::Read(page) => {
                    if host
                        .commit(space, page_at(va, page), 1, ntmm_pte::Protection::READWRITE)
                        .is_ok()
                    {
                        let read = host.read(space, page_at(va, page));
                        prop_assert_eq!(read, values[page as usize]);
                    }
                }
                Happening::Decommit(page) => {
                    host.free(space, page_at(va, page), 1, FreeType::Decommit).expect("decommitted");
                    values[page as usize] = 0;
                }
                Happening::Add(first, count) => {
                    let range = range(FIRST + first, count.min(LENT + WITHHELD - first));
                    let all = range.frames().all(|pfn| absent[(pfn.get() - FIRST) as usize]);
                    if all {
                        host.machine().set_lent(range, true);
                    }
                    let outcome = host.manager.add_memory(range);
                    prop_assert_eq!(outcome.is_ok(), all && !started);
                    if outcome.is_ok() {
                        absent_by_model(&mut absent, range, false);
                    } else if all {
                        host.machine().set_lent(range, false);
                    }
                }
                Happening::Remove(first, count) if removal.is_none() => {
                    let range = range(FIRST + first, count.min(LENT + WITHHELD - first));
                    removal = Some((RemoveMemory::new(range), range));
                }
                Happening::Remove(..) => {}
                Happening::Step => {
                    if let Some((operation, range)) = &mut removal {
                        let step = host.step(operation);
                        started = matches!(step, Step::Wait(_));
                        if let Step::Done(Ok(())) = step {
                            host.machine().set_lent(*range, false);
                            absent_by_model(&mut absent, *range, true);
                        }
                        if !started {
                            removal = None;
                        }
                    }
                }
                Happening::Abandon => {
                    if let Some((operation, _)) = removal.take() {
                        host.abandon(operation);
                    }
                    started = false;
                }
                Happening::Settle => host.settle(),
                Happening::Hold(hold) => host.machine().hold_flushes.set(hold),
                Happening::Second => host.machine().advance(PERIOD.0),
            }
            host.audit();
            for (number, &is_absent) in absent.iter().enumerate() {
                let view = host.view(Pfn::new(FIRST + number as u32));
                prop_assert_eq!(view.usage == FrameUse::Absent, is_absent, "{:?}", view);
            }
            let gone = absent.iter().filter(|&&is_absent| is_absent).count() as u64;
            let now = figures(&host);
            let limit = base + u64::from(WITHHELD) - gone - u64::from(now.leaving);
            prop_assert_eq!(now.commit_limit.get(), limit);
        }
    }
}
