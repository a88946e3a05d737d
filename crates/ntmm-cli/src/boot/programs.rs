//! The processes of a boot: the lines of the archive's file `programs`.

use ntmm_pte::{Bytes, PAGE_SIZE};

/// The name of the program in a line: its first word.
#[must_use]
pub fn name(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

/// The processes that are started when nobody says otherwise.
///
/// One verifies more memory than the machine has, if the paging disk lets it; two more verify
/// a little beside it, so that processes push one another out; the others try what else there is.
/// All together commit less than the machine can promise: memory less an eighth for the kernel
/// and the manager's own, and the paging disk.
#[must_use]
pub fn standard(ram: Bytes, paging_disk: Option<Bytes>) -> Vec<String> {
    let ram = ram.get();
    let disk = paging_disk.map_or(0, Bytes::get);
    let large =
        if disk >= ram / 4 { ram + (disk / 4).min(ram / 2) } else { (ram / 8 * 7 + disk) / 2 };
    let small = if disk >= ram / 4 { ram.min(disk) / 16 } else { ram / 16 };
    let verify = |bytes: u64, seed: u32| format!("verify pages={} seed={seed}", bytes / PAGE_SIZE);
    let [one, two, three] = [verify(large, 1), verify(small, 2), verify(small, 3)];
    vec![one, two, three, "guard".to_owned(), "reuse".to_owned()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MEBIBYTE: u64 = 1 << 20;

    /// Pages in a mebibyte.
    const PAGES: u64 = MEBIBYTE / PAGE_SIZE;

    /// Pages that the standard processes verify, the largest number first.
    fn verified(ram: u64, disk: Option<u64>) -> Vec<u64> {
        let bytes = |mebibytes: u64| Bytes::new(mebibytes * MEBIBYTE);
        let lines = standard(bytes(ram), disk.map(bytes));
        let verify = lines.iter().filter_map(|line| line.strip_prefix("verify pages="));
        let number = |rest: &str| rest.split(' ').next().and_then(|digits| digits.parse().ok());
        verify.map(|rest| number(rest).expect("a number of pages")).collect()
    }

    #[test]
    fn more_than_memory_is_verified_where_the_disk_allows_it_and_never_more_than_fits() {
        for ram in [16, 24, 32, 64, 256, 1024, 4096] {
            for disk in [None, Some(1), Some(4), Some(ram / 4), Some(64), Some(4096)] {
                let sizes = verified(ram, disk);
                let room = PAGES * (ram - ram / 8 + disk.unwrap_or(0));
                assert!(sizes.iter().sum::<u64>() < room, "{ram} {disk:?}: {sizes:?}");
                let enough = disk.is_some_and(|disk| disk >= ram / 4);
                assert_eq!(sizes[0] > PAGES * ram, enough, "{ram} {disk:?}: {sizes:?}");
            }
        }
    }

    #[test]
    fn the_name_of_a_program_is_its_first_word() {
        assert_eq!(name("verify 12M fast"), "verify");
        assert_eq!(name("guard"), "guard");
    }
}
