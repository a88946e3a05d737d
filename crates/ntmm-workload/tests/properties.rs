//! What holds of every workload, whatever its host answers.

use ntmm_workload::{
    Access, Exception, Information, JSON_LENGTH, MEM_COMMIT, MEM_FREE, MEM_RESERVE, Outcome,
    PAGE_GUARD, PAGE_NOACCESS, PAGE_READONLY, PAGE_READWRITE, Request, Response,
    STATUS_ACCESS_VIOLATION, STATUS_GUARD_PAGE_VIOLATION, STATUS_SUCCESS, Width, Workload, arena,
};
use proptest::prelude::*;

const STATUS_CONFLICTING_ADDRESSES: u32 = 0xC000_0018;

/// A host that answers by whim: the given numbers decide, over and over again.
fn whimsical(whims: &[u64]) -> impl FnMut(Request) -> Response {
    let mut next = whims.iter().copied().cycle();
    move |request| {
        let whim = next.next().unwrap_or(0);
        let status = if whim % 4 == 0 { STATUS_CONFLICTING_ADDRESSES } else { STATUS_SUCCESS };
        let pick = |from: [u32; 3]| from[(whim >> 8) as usize % 3];
        match request {
            Request::Allocate { base, size, .. } | Request::Free { base, size, .. } => {
                let page = arena::PAGE;
                Response::Range {
                    status,
                    base: base / page * page,
                    size: size.div_ceil(page) * page,
                }
            }
            Request::Protect { base, size, .. } => {
                let old_protect = pick([PAGE_READWRITE, PAGE_READONLY, PAGE_NOACCESS]);
                Response::Protected { status, base, size, old_protect }
            }
            Request::Query { address } => Response::Information {
                status,
                information: Information {
                    base: address,
                    allocation_base: whim,
                    allocation_protect: PAGE_READWRITE,
                    size: whim,
                    state: pick([MEM_COMMIT, MEM_RESERVE, MEM_FREE]),
                    protect: pick([PAGE_READWRITE, PAGE_READWRITE | PAGE_GUARD, PAGE_NOACCESS]),
                    kind: 0,
                },
            },
            Request::Load { address, .. } | Request::Store { address, .. } if whim % 4 == 1 => {
                let codes =
                    [STATUS_ACCESS_VIOLATION, STATUS_GUARD_PAGE_VIOLATION, STATUS_ACCESS_VIOLATION];
                let access = Access::from_parameter(whim >> 16 & 1);
                Response::Exception(Exception { code: pick(codes), access, address })
            }
            Request::Load { .. } => Response::Loaded { value: whim },
            Request::Store { .. } => Response::Stored,
            Request::EmptyWorkingSet => Response::Emptied { status },
        }
    }
}

fn requests(seed: u64, steps: u32, whims: &[u64]) -> Vec<Request> {
    let mut carry_out = whimsical(whims);
    let mut list = Vec::new();
    Workload::new(seed, steps).run(|request| {
        list.push(request);
        carry_out(request)
    });
    list
}

/// First address a request touches, and the one behind the last.
fn extent(request: Request) -> Option<(u64, u64)> {
    match request {
        Request::Allocate { base, size, .. }
        | Request::Free { base, size, .. }
        | Request::Protect { base, size, .. } => Some((base, base + size)),
        Request::Query { address } => Some((address, address + 1)),
        Request::Load { address, width } | Request::Store { address, width, .. } => {
            Some((address, address + width.bytes()))
        }
        Request::EmptyWorkingSet => None,
    }
}

/// Whether an address lies in the pages that may be committed, some of every part of the arena.
fn may_be_committed(address: u64) -> bool {
    let part = arena::SIZE * (64 + 2 * arena::MARGIN) / arena::MOST_PAGES;
    let pages = (64 + 2 * arena::MARGIN) * arena::PAGE;
    let within = (address - arena::START) % part;
    (part / 2 - pages / 2..part / 2 + pages / 2).contains(&within)
}

fn whims() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(any::<u64>(), 1..50)
}

proptest! {
    #[test]
    fn equal_seeds_and_answers_make_equal_workloads(
        seed: u64, steps in 0..600_u32, whims in whims(),
    ) {
        let one = Workload::new(seed, steps).run(whimsical(&whims));
        let other = Workload::new(seed, steps).run(whimsical(&whims));
        prop_assert_eq!(&one, &other);
        prop_assert_eq!(one.steps, steps);
        prop_assert_eq!(one.agreed_steps(&other), steps);
        let Outcome { counts, .. } = one;
        let calls = counts.allocate + counts.free + counts.protect + counts.query + counts.empty;
        prop_assert_eq!(calls + counts.load + counts.store, steps);
    }

    #[test]
    fn fewer_steps_are_the_beginning_of_more(seed: u64, steps in 1..300_u32, whims in whims()) {
        let all = requests(seed, 300, &whims);
        prop_assert_eq!(&all[..steps as usize], requests(seed, steps, &whims));
    }

    #[test]
    fn requests_stay_where_nobody_else_is(seed: u64, whims in whims()) {
        let list = requests(seed, 400, &whims);
        let fence = (arena::FENCE, arena::FENCE + arena::FENCE_SIZE);
        prop_assert_eq!(list.first().and_then(|request| extent(*request)), Some(fence));
        for request in &list[1..] {
            let Some((first, end)) = extent(*request) else { continue };
            if end <= arena::START {
                prop_assert!(first > 0 && end <= 0x1_0000, "{request:x?}");
                prop_assert!(!matches!(request, Request::Query { .. }), "{request:x?}");
                continue;
            }
            prop_assert!(first >= arena::START && end <= arena::FENCE, "{request:x?}");
            // What a call rounds to 64 KiB.
            let rounded = first & !0xFFFF;
            prop_assert!(may_be_committed(rounded) && may_be_committed(end - 1), "{request:x?}");
        }
    }

    #[test]
    fn numbers_are_such_as_the_calls_take(seed: u64, whims in whims()) {
        for request in requests(seed, 400, &whims) {
            match request {
                Request::Allocate { base, size, protect, .. } => {
                    prop_assert!(base > 0 && size > 0);
                    prop_assert_eq!((protect & 0xFF).count_ones(), 1);
                }
                Request::Protect { size, protect, .. } => {
                    prop_assert!(size > 0);
                    prop_assert!(protect != PAGE_NOACCESS | PAGE_GUARD);
                }
                Request::Store { width: Width::Byte, value, .. } => prop_assert!(value < 256),
                _ => {}
            }
        }
    }

    #[test]
    fn every_visible_difference_changes_the_digest(
        seed: u64, place in 1..200_u32, whims in whims(),
    ) {
        let mut carry_out = whimsical(&whims);
        let same = Workload::new(seed, 256).run(&mut carry_out);
        let mut carry_out = whimsical(&whims);
        let mut step = 0;
        let other = Workload::new(seed, 256).run(|request| {
            step += 1;
            let response = carry_out(request);
            if step == place { different(response) } else { response }
        });
        prop_assert_ne!(same.digest, other.digest);
        let agreed = same.agreed_steps(&other);
        prop_assert!(agreed < place && place <= agreed + same.interval());
    }

    #[test]
    fn what_nt_leaves_undefined_changes_nothing(seed: u64, whims in whims()) {
        let mut carry_out = whimsical(&whims);
        let same = Workload::new(seed, 256).run(&mut carry_out);
        let mut carry_out = whimsical(&whims);
        let other = Workload::new(seed, 256).run(|request| garbled(carry_out(request)));
        prop_assert_eq!(same, other);
    }

    #[test]
    fn an_outcome_is_one_line_of_json(seed: u64, steps in 0..10_000_u32, whims in whims()) {
        let outcome = Workload::new(seed, steps).run(whimsical(&whims));
        let text = outcome.to_string();
        prop_assert!(text.len() <= JSON_LENGTH && !text.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        prop_assert_eq!(&value["seed"], &serde_json::json!(seed.to_string()));
        prop_assert_eq!(&value["steps"], &serde_json::json!(steps));
        prop_assert_eq!(&value["digest"], &serde_json::json!(format!("{:016x}", outcome.digest)));
        prop_assert_eq!(&value["counts"]["load"], &serde_json::json!(outcome.counts.load));
        let kept = outcome.checkpoints().iter().map(|digest| format!("{digest:016x}"));
        prop_assert_eq!(&value["checkpoints"], &serde_json::json!(kept.collect::<Vec<_>>()));
        prop_assert_eq!(outcome.checkpoints().len() as u32, steps / outcome.interval());
    }
}

/// The response with one visible thing changed.
fn different(response: Response) -> Response {
    match response {
        Response::Range { status: STATUS_SUCCESS, base, size } => {
            Response::Range { status: STATUS_SUCCESS, base, size: size + arena::PAGE }
        }
        Response::Range { status, base, size } => {
            Response::Range { status: status + 1, base, size }
        }
        Response::Protected { status: STATUS_SUCCESS, base, size, old_protect } => {
            let old_protect = old_protect ^ PAGE_GUARD;
            Response::Protected { status: STATUS_SUCCESS, base, size, old_protect }
        }
        Response::Protected { status, base, size, old_protect } => {
            Response::Protected { status: status + 1, base, size, old_protect }
        }
        Response::Information { status: STATUS_SUCCESS, information } => {
            let information = Information { size: information.size ^ 1, ..information };
            Response::Information { status: STATUS_SUCCESS, information }
        }
        Response::Information { status, information } => {
            Response::Information { status: status + 1, information }
        }
        Response::Loaded { value } => Response::Loaded { value: value ^ 1 << 63 },
        Response::Stored => Response::Exception(Exception {
            code: STATUS_ACCESS_VIOLATION,
            access: Access::Write,
            address: 0,
        }),
        Response::Exception(exception) => {
            Response::Exception(Exception { address: exception.address ^ 1, ..exception })
        }
        Response::Emptied { status } => Response::Emptied { status: status + 1 },
    }
}

/// The response with everything changed that a host may leave as it likes.
fn garbled(response: Response) -> Response {
    match response {
        Response::Range { status, base, size } if status != STATUS_SUCCESS => {
            Response::Range { status, base: !base, size: !size }
        }
        Response::Protected { status, base, size, .. } if status != STATUS_SUCCESS => {
            Response::Protected { status, base: !base, size: !size, old_protect: !0 }
        }
        Response::Information { status, information } => {
            let mut garbled = information;
            if information.state != MEM_COMMIT || status != STATUS_SUCCESS {
                garbled.protect = !information.protect;
            }
            if information.state == MEM_FREE || status != STATUS_SUCCESS {
                garbled.allocation_base = !information.allocation_base;
                garbled.allocation_protect = !information.allocation_protect;
                garbled.kind = !information.kind;
            }
            Response::Information { status, information: garbled }
        }
        response => response,
    }
}

#[test]
fn a_request_stands_until_it_is_answered() {
    let mut workload = Workload::new(3, 2);
    let first = workload.request();
    assert_eq!(first, workload.request());
    assert_eq!(workload.outcome().steps, 0);
    let answer = Response::Range { status: STATUS_SUCCESS, base: 0, size: 0 };
    workload.answer(answer);
    let heard = workload.outcome().clone();
    workload.answer(answer);
    assert_eq!(&heard, workload.outcome());
    assert!(workload.request().is_some());
    workload.answer(Response::Stored);
    assert_eq!(workload.request(), None);
    assert_eq!(workload.outcome().steps, 2);
}

#[test]
fn a_workload_fits_on_a_small_stack() {
    assert!(size_of::<Workload>() + size_of::<Outcome>() <= 4096);
}
