//! Page colours (MmSecondaryColors, MmFreePagesByColor, spec 3.6).
//!
//! The colour of a frame is the low bits of its number: frames of different colours do not
//! compete for the same lines of the second-level cache. Each free or zeroed frame is on the
//! chain of its colour besides the global one. The heads lie on frames set aside at boot, two
//! words each.

use ntmm_pte::Pfn;
use ntmm_sync::frame::{WordIndex, word};

use super::entry::{Links, PageLocation};
use super::lists::Chain;
use crate::manager::Manager;
use crate::platform::Platform;

/// Number of page colours: a power of two from 8 to 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Colors(u32);

impl Colors {
    /// NT's clamping of what the machine reports: anything below 8 or not a power of two means
    /// 64, more than 1024 means 1024.
    #[must_use]
    pub const fn clamped(reported: u32) -> Self {
        if reported > 1024 {
            Self(1024)
        } else if reported < 8 || !reported.is_power_of_two() {
            Self(64)
        } else {
            Self(reported)
        }
    }

    /// How many there are.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.0
    }

    /// The colour of a frame.
    #[must_use]
    pub const fn of(self, pfn: Pfn) -> Color {
        Color(pfn.get() & (self.0 - 1))
    }

    /// The colour a running number stands for.
    #[must_use]
    pub const fn wrapping(self, number: u32) -> Color {
        Color(number & (self.0 - 1))
    }

    /// Frames the heads of the colour chains take: two words for each colour and list.
    #[must_use]
    pub const fn head_frames(self) -> u32 {
        (self.0 * 4).div_ceil(512)
    }
}

/// A page colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Color(u32);

impl Color {
    /// Its number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl<P: Platform> Manager<P> {
    /// The colour chain a frame on the list of `location` belongs to; none for lists that are
    /// not kept by colour.
    pub(super) fn color_chain(&self, location: PageLocation, pfn: Pfn) -> Option<Chain<'_>> {
        self.chain_of_color(location, self.colors.of(pfn))
    }

    /// The first frame of a colour chain: a hint, unless the list's lock is held.
    pub(crate) fn first_of_color(&self, location: PageLocation, color: Color) -> Option<Pfn> {
        self.chain_of_color(location, color).and_then(Chain::first)
    }

    /// Empties every colour chain, at boot.
    pub(crate) fn clear_color_heads(&self) {
        for location in [PageLocation::Zeroed, PageLocation::Free] {
            for color in 0..self.colors.count() {
                if let Some(chain) = self.chain_of_color(location, Color(color)) {
                    chain.clear();
                }
            }
        }
    }

    /// The chain of frames of `color` on the zeroed or free list.
    pub(super) fn chain_of_color(&self, location: PageLocation, color: Color) -> Option<Chain<'_>> {
        let list = match location {
            PageLocation::Zeroed => 0,
            PageLocation::Free => 1,
            _ => return None,
        };
        let first_word = (list * self.colors.count() + color.get()) * 2;
        let frame = self.platform().frame(Pfn::new(self.color_heads.get() + first_word / 512));
        let index = WordIndex::wrapping(first_word as usize);
        let next = WordIndex::wrapping(first_word as usize + 1);
        Some(Chain { ends: word(frame, index), total: word(frame, next), links: Links::Color })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_clamped_as_nt_does() {
        let count = |reported| Colors::clamped(reported).count();
        assert_eq!([count(0), count(7), count(8), count(100)], [64, 64, 8, 64]);
        assert_eq!([count(256), count(1024), count(2048)], [256, 1024, 1024]);
    }
}
