//! Merging must not change what a paging policy sees: independent LRU and OPT over the pages before and after.

use std::collections::{BTreeMap, HashMap};

use crate::common::{compact, pages, read, trace};
use ntmm_trace::{AccessKind, Reference};
use proptest::prelude::*;

/// The pages that fault under LRU, in order.
fn lru_faults(pages: &[u64], memory: usize) -> Vec<u64> {
    let mut resident: Vec<u64> = Vec::new();
    let mut faults = Vec::new();
    for &page in pages {
        match resident.iter().position(|&other| other == page) {
            Some(index) => {
                resident.remove(index);
            }
            None => {
                faults.push(page);
                if resident.len() == memory {
                    resident.remove(0);
                }
            }
        }
        resident.push(page);
    }
    faults
}

/// How many faults the best possible policy has (evict what is used again last).
fn opt_faults(pages: &[u64], memory: usize) -> usize {
    let mut next_use = vec![usize::MAX; pages.len()];
    let mut seen: HashMap<u64, usize> = HashMap::new();
    for (index, &page) in pages.iter().enumerate().rev() {
        if let Some(next) = seen.insert(page, index) {
            next_use[index] = next;
        }
    }
    let mut resident: HashMap<u64, usize> = HashMap::new();
    let mut faults = 0;
    for (index, &page) in pages.iter().enumerate() {
        if resident.insert(page, next_use[index]).is_none() {
            faults += 1;
            if resident.len() > memory {
                let victim = resident
                    .iter()
                    .filter(|(other, _)| **other != page)
                    .max_by_key(|(_, next)| **next)
                    .map(|(other, _)| *other);
                resident.remove(&victim.expect("memory holds at least two pages"));
            }
        }
    }
    faults
}

/// For every page and kind: the hull of the bytes touched.
fn hulls(trace: &[Reference]) -> BTreeMap<(u64, AccessKind), (u64, u64)> {
    let mut hulls = BTreeMap::new();
    for reference in trace {
        let end = reference.va + u64::from(reference.size);
        for page in reference.first_page()..=reference.last_page() {
            let low = reference.va.max(page * 4096);
            let high = end.min((page + 1) * 4096);
            let hull = hulls.entry((page, reference.kind)).or_insert((low, high));
            *hull = (hull.0.min(low), hull.1.max(high));
        }
    }
    hulls
}

fn counts(trace: &[Reference]) -> [u64; 4] {
    let mut counts = [0; 4];
    for reference in trace {
        counts[reference.kind as usize] += u64::from(reference.count);
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn lru_faults_on_the_same_pages_in_the_same_order(trace in trace(), window in 2..12u16, more in 0..12usize) {
        let merged = read(&compact(&trace, window)).unwrap();
        let memory = usize::from(window) + more;
        prop_assert_eq!(lru_faults(&pages(&trace), memory), lru_faults(&pages(&merged), memory));
    }

    #[test]
    fn opt_faults_as_often(trace in trace(), window in 2..12u16, more in 0..12usize) {
        let merged = read(&compact(&trace, window)).unwrap();
        let memory = usize::from(window) + more;
        prop_assert_eq!(opt_faults(&pages(&trace), memory), opt_faults(&pages(&merged), memory));
    }

    #[test]
    fn counts_pages_kinds_and_hulls_are_preserved(trace in trace(), window in 2..40u16) {
        let merged = read(&compact(&trace, window)).unwrap();
        prop_assert_eq!(counts(&trace), counts(&merged));
        prop_assert_eq!(hulls(&trace), hulls(&merged));
        prop_assert!(merged.iter().all(|reference| reference.first_page() == reference.last_page()));
    }

    #[test]
    fn merging_never_lengthens_a_trace(trace in trace(), window in 2..40u16) {
        let merged = read(&compact(&trace, window)).unwrap();
        prop_assert!(merged.len() <= pages(&trace).len());
    }
}

#[test]
fn a_loop_that_fits_the_window_becomes_one_record_a_page_and_one_more() {
    let touch =
        |page: u64| Reference { va: page * 4096, size: 8, count: 1, kind: AccessKind::Load };
    let trace: Vec<_> = (0..10_000).map(|step| touch(100 + step % 6)).collect();
    let merged = read(&compact(&trace, 8)).unwrap();
    assert_eq!(merged.len(), 12, "first and last visit of each page");
    assert_eq!(counts(&merged)[AccessKind::Load as usize], 10_000);
}

#[test]
fn a_loop_larger_than_the_window_is_kept_whole() {
    let touch =
        |page: u64| Reference { va: page * 4096, size: 8, count: 1, kind: AccessKind::Load };
    let trace: Vec<_> = (0..900).map(|step| touch(100 + step % 9)).collect();
    assert_eq!(read(&compact(&trace, 8)).unwrap(), trace);
}
