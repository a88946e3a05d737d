//! What holds of every layout, whatever file it came from.

use core::fmt;

use ntmm_pte::{Bytes, Pages, Protection};

use crate::{ImageLayout, Mapping, SUBSECTIONS, Sharing};

/// An invariant that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// No subsections, too many, or more than one in a flat image.
    Count(usize),
    /// The subsection of this index does not start where the one before it ends.
    Gap(usize),
    /// It has no pages, or more used ones than pages.
    Pages(usize),
    /// Its data fills more pages than it uses.
    Data(usize),
    /// Its data ends beyond the file, or starts inside a sector.
    File(usize),
    /// The data of its pages, one by one, is not its data.
    PageData(usize),
    /// A protection no image page has.
    Protection(usize),
    /// A page of it is not found in it.
    Lookup(usize),
    /// The subsections do not end where the image does.
    End(Pages),
    /// More pages are charged for than there are.
    Commitment(Pages),
    /// A patch outside the headers.
    Patch(u32),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an invariant of image layouts is broken: {self:?}")
    }
}

impl core::error::Error for Broken {}

/// Checks a layout of a file of `file_size` bytes.
///
/// # Errors
/// The first invariant that does not hold.
pub fn check(layout: &ImageLayout, file_size: Bytes) -> Result<(), Broken> {
    let parts = layout.subsections();
    let most = match layout.mapping() {
        Mapping::BySection => SUBSECTIONS,
        Mapping::Flat => 1,
    };
    if parts.is_empty() || parts.len() > most {
        return Err(Broken::Count(parts.len()));
    }
    let mut next = Pages::ZERO;
    for (index, part) in parts.iter().enumerate() {
        if part.first_page() != next {
            return Err(Broken::Gap(index));
        }
        next = next.saturating_add(part.pages());
        if part.pages().is_zero() || part.used_pages() > part.pages() {
            return Err(Broken::Pages(index));
        }
        if part.file_pages() > part.used_pages() {
            return Err(Broken::Data(index));
        }
        let data = part.data();
        let end = data.offset().saturating_add(data.length());
        if end > file_size || data.offset().get() % 512 != 0 {
            return Err(Broken::File(index));
        }
        let sectors = u64::from(data.full_sectors()) * 512 + u64::from(data.sector_end_offset());
        if sectors != data.length().get() || !pages_add_up(part) {
            return Err(Broken::PageData(index));
        }
        let legal = match part.sharing() {
            Sharing::Private => {
                !part.protection().is_writable() || part.protection().is_write_copy()
            }
            Sharing::Shared => !part.protection().is_write_copy(),
        };
        if !legal || part.protection() == Protection::ZERO_ACCESS || part.protection().is_guard() {
            return Err(Broken::Protection(index));
        }
        let last = next.saturating_sub(Pages::ONE);
        if layout.subsection_of(part.first_page()) != Some(part)
            || layout.subsection_of(last) != Some(part)
        {
            return Err(Broken::Lookup(index));
        }
    }
    if next != layout.pages() || layout.subsection_of(next).is_some() {
        return Err(Broken::End(next));
    }
    let commitment = layout.commitment();
    if commitment > layout.pages() || layout.write_copy_pages() > commitment {
        return Err(Broken::Commitment(commitment));
    }
    for patch in layout.header_patches() {
        if u64::from(patch.rva()) + 4 > layout.pages().to_bytes().get() {
            return Err(Broken::Patch(patch.rva()));
        }
    }
    Ok(())
}

/// Whether the data of the first, the last and the next page is what the whole says.
fn pages_add_up(part: &crate::Subsection) -> bool {
    let length = part.data().length().get();
    let full = length / 4096;
    let in_page = |page| part.data_of_page(Pages::new(page));
    let first = in_page(0);
    let ending = in_page(full);
    let after = in_page(part.file_pages().get());
    first.length().get() == length.min(4096)
        && (first.length().is_zero() || first.offset() == part.data().offset())
        && ending.length().get() == length % 4096
        && after.length().is_zero()
}
