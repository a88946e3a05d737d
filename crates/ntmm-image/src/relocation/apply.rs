//! Changing the bytes of a page.
//!
//! A place that lies in two pages is computed from the bytes the file has for both, and each page
//! gets its share whenever its turn comes.

use ntmm_pte::{PAGE_SHIFT, PAGE_SIZE, Pages};

use super::{BlockPosition, Relocation, RelocationError, RelocationKind, RelocationTable, WIDEST};

/// What relocating a page came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RelocatedPage {
    /// Places that were changed, wholly or in part.
    pub places: u32,
    /// Where to start looking for this page or one above it.
    pub position: BlockPosition,
}

impl RelocationKind {
    /// The little-endian value in the first [`width`](Self::width) bytes, moved by `delta`.
    fn relocate(self, bytes: [u8; WIDEST], delta: u64) -> [u8; WIDEST] {
        let value = u64::from_le_bytes(bytes);
        let moved = match self {
            Self::High => value.wrapping_add(delta >> 16),
            Self::Low | Self::HighLow | Self::Dir64 => value.wrapping_add(delta),
        };
        moved.to_le_bytes()
    }
}

impl RelocationTable {
    /// Relocates a page: adds `delta`, the actual base minus the preferred one, modulo 2^64, to
    /// every place of the table that has bytes in the page.
    ///
    /// `bytes` is what the file has for the page, and zeros. `read` fills a buffer with the bytes
    /// of the image as it is in the file, as in [`survey`](Self::survey); it is asked for the table
    /// and for places that lie in two pages. `from` says where to start looking.
    ///
    /// # Errors
    /// What `read` fails with, or a defect, if the table is not any more what it was when it was
    /// surveyed. The page may have been changed in part then: start over from the file's bytes.
    pub fn relocate_page<E, R>(
        &self,
        page: Pages,
        delta: u64,
        from: BlockPosition,
        bytes: &mut [u8; PAGE_SIZE as usize],
        read: R,
    ) -> Result<RelocatedPage, RelocationError<E>>
    where
        R: FnMut(u32, &mut [u8]) -> Result<(), E>,
    {
        let start = page.get() << PAGE_SHIFT;
        let mut relocations = self.relocations_of_page(page, from, read);
        let mut places = 0;
        while let Some(relocation) = relocations.next().transpose()? {
            let Relocation { rva, kind } = relocation;
            let width = kind.width() as usize;
            let inside = u64::from(rva).checked_sub(start).map(|inside| inside as usize);
            let whole = inside.and_then(|inside| bytes.get_mut(inside..inside + width));
            let mut value = [0; WIDEST];
            if let Some(whole) = whole {
                for (to, from) in value.iter_mut().zip(&*whole) {
                    *to = *from;
                }
                let moved = kind.relocate(value, delta);
                for (to, from) in whole.iter_mut().zip(moved) {
                    *to = from;
                }
            } else {
                let (original, _) = value.split_at_mut(width);
                relocations.read_image(rva, original)?;
                let moved = kind.relocate(value, delta);
                for (at, byte) in relocation.bytes().zip(moved) {
                    let inside = at.checked_sub(start).and_then(|at| bytes.get_mut(at as usize));
                    if let Some(to) = inside {
                        *to = byte;
                    }
                }
            }
            places += 1;
        }
        Ok(RelocatedPage { places, position: relocations.position() })
    }
}
