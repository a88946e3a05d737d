//! The calls of the Linux host that do what the manager's do.
//!
//! Nothing here makes a reference into the memory that is mapped: it is written through its
//! address alone, and whoever maps it gives it back.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;

use ntmm_pte::PAGE_SIZE;

const PAGE: usize = PAGE_SIZE as usize;

/// Whole pages of private memory that nobody else uses; they are unmapped at the end.
pub struct Mapping {
    start: *mut libc::c_void,
    bytes: usize,
}

/// What a page may be used for.
#[derive(Clone, Copy)]
pub enum Rights {
    /// Nothing.
    None,
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
}

impl Rights {
    const fn bits(self) -> i32 {
        match self {
            Self::None => libc::PROT_NONE,
            Self::Read => libc::PROT_READ,
            Self::Write => libc::PROT_READ | libc::PROT_WRITE,
        }
    }
}

impl Mapping {
    /// mmap.
    pub fn new(bytes: usize, rights: Rights) -> Self {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: the kernel chooses the address, so no memory in use changes.
        #[expect(unsafe_code)]
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, rights.bits(), flags, -1, 0) };
        assert!(start != libc::MAP_FAILED, "memory");
        Self { start, bytes }
    }

    /// Address of a page.
    pub fn page(&self, number: usize) -> *mut libc::c_void {
        assert!((number + 1) * PAGE <= self.bytes, "a page of the mapping");
        self.start.wrapping_byte_add(number * PAGE)
    }

    /// mprotect of one page.
    pub fn protect(&self, page: usize, rights: Rights) {
        // SAFETY: the page is the mapping's own, and there are no references into it.
        #[expect(unsafe_code)]
        let result = unsafe { libc::mprotect(self.page(page), PAGE, rights.bits()) };
        assert_eq!(result, 0, "a page that can be protected");
    }

    /// madvise of one page with MADV_DONTNEED.
    pub fn forget(&self, page: usize) {
        // SAFETY: as for protecting it; what it holds is used by nobody.
        #[expect(unsafe_code)]
        let result = unsafe { libc::madvise(self.page(page), PAGE, libc::MADV_DONTNEED) };
        assert_eq!(result, 0, "a page that can be forgotten");
    }

    /// Writes to a page, which must be writable.
    pub fn touch(&self, page: usize) {
        // SAFETY: the page is the mapping's own and aligned, and no reference to it exists. Were
        // it not writable the program would be ended by a signal.
        #[expect(unsafe_code)]
        unsafe {
            self.page(page).cast::<u64>().write_volatile(1);
        }
    }
}

impl Drop for Mapping {
    /// munmap.
    fn drop(&mut self) {
        // SAFETY: the range is the one that was mapped, and there are no references into it.
        #[expect(unsafe_code)]
        let result = unsafe { libc::munmap(self.start, self.bytes) };
        assert_eq!(result, 0, "a mapping");
    }
}

/// Asks the kernel which region an address lies in.
pub enum RegionQuery {
    /// PROCMAP_QUERY, which Linux has since 6.11.
    Ioctl(File),
    /// Reading /proc/self/maps up to the region.
    Text,
}

/// struct procmap_query.
#[repr(C)]
#[derive(Default)]
struct ProcmapQuery {
    size: u64,
    query_flags: u64,
    query_addr: u64,
    vma_start: u64,
    vma_end: u64,
    vma_flags: u64,
    vma_page_size: u64,
    vma_offset: u64,
    inode: u64,
    dev_major: u32,
    dev_minor: u32,
    vma_name_size: u32,
    build_id_size: u32,
    vma_name_addr: u64,
    build_id_addr: u64,
}

/// _IOWR('f', 17, struct procmap_query).
const PROCMAP_QUERY: libc::Ioctl =
    (3 << 30 | (size_of::<ProcmapQuery>() << 16) | (b'f' as usize) << 8 | 17) as libc::Ioctl;

impl RegionQuery {
    /// The best way this kernel has.
    pub fn new() -> Self {
        let file = File::open("/proc/self/maps").expect("procfs");
        let known = &raw const file as u64;
        let query = Self::Ioctl(file);
        match query.region(known) {
            Some(_) => query,
            None => Self::Text,
        }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Ioctl(_) => "PROCMAP_QUERY",
            Self::Text => "reading /proc/self/maps",
        }
    }

    /// First address of the region of `address` and the first one behind it.
    pub fn region(&self, address: u64) -> Option<(u64, u64)> {
        match self {
            Self::Ioctl(file) => {
                let size = size_of::<ProcmapQuery>() as u64;
                let mut query =
                    ProcmapQuery { size, query_addr: address, ..ProcmapQuery::default() };
                // SAFETY: the structure is the one the request is for and says its own size; with
                // no room for names given the kernel writes to nothing else.
                #[expect(unsafe_code)]
                let result =
                    unsafe { libc::ioctl(file.as_raw_fd(), PROCMAP_QUERY, &raw mut query) };
                (result == 0).then_some((query.vma_start, query.vma_end))
            }
            Self::Text => {
                let file = File::open("/proc/self/maps").ok()?;
                BufReader::new(file).lines().find_map(|line| {
                    let line = line.ok()?;
                    let (start, end) = line.split(' ').next()?.split_once('-')?;
                    let number = |text| u64::from_str_radix(text, 16).ok();
                    let region = (number(start)?, number(end)?);
                    (region.0..region.1).contains(&address).then_some(region)
                })
            }
        }
    }
}
