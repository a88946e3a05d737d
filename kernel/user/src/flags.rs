//! The flag words of the memory services, one type each (API 1.1, 1.2).
//!
//! Every word can be made, valid or not, since programs also test what the kernel says to
//! nonsense.

use core::fmt;
use core::ops::BitOr;

macro_rules! flags {
    ($(#[$doc:meta])* $type:ident { $($(#[$constant_doc:meta])* $name:ident = $value:expr;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[repr(transparent)]
        pub struct $type(pub u32);

        $($(#[$constant_doc])* pub const $name: $type = $type($value);)*

        impl BitOr for $type {
            type Output = Self;

            fn bitor(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "0x{:X}", self.0)
            }
        }
    };
}

flags! {
    /// `PAGE_*`: what may be done with a page.
    Protection {
        /// Nothing.
        PAGE_NOACCESS = 0x01;
        /// Reading.
        PAGE_READONLY = 0x02;
        /// Reading and writing.
        PAGE_READWRITE = 0x04;
        /// Reading, and writing to a private copy; for views only.
        PAGE_WRITECOPY = 0x08;
        /// Executing.
        PAGE_EXECUTE = 0x10;
        /// Executing and reading.
        PAGE_EXECUTE_READ = 0x20;
        /// Everything.
        PAGE_EXECUTE_READWRITE = 0x40;
        /// Executing, reading, and writing to a private copy; for views only.
        PAGE_EXECUTE_WRITECOPY = 0x80;
        /// The first access raises an alarm and removes this modifier.
        PAGE_GUARD = 0x100;
        /// Not cached by the processor.
        PAGE_NOCACHE = 0x200;
        /// Writes may be combined.
        PAGE_WRITECOMBINE = 0x400;
    }
}

flags! {
    /// `MEM_*` of allocating and freeing, and the states and types a query reports.
    MemoryFlags {
        /// Give pages of a range memory.
        MEM_COMMIT = 0x1000;
        /// Take a range of addresses.
        MEM_RESERVE = 0x2000;
        /// Take the memory of pages away; the range stays reserved.
        MEM_DECOMMIT = 0x4000;
        /// Give the range itself back.
        MEM_RELEASE = 0x8000;
        /// State: nobody's.
        MEM_FREE = 0x1_0000;
        /// Type: memory of the process's own.
        MEM_PRIVATE = 0x2_0000;
        /// Type: a view of a section.
        MEM_MAPPED = 0x4_0000;
        /// The contents are of no further interest.
        MEM_RESET = 0x8_0000;
        /// The highest hole instead of the lowest.
        MEM_TOP_DOWN = 0x10_0000;
        /// Keep account of written pages.
        MEM_WRITE_WATCH = 0x20_0000;
        /// A window for physical pages.
        MEM_PHYSICAL = 0x40_0000;
        /// Pages of 2 MiB.
        MEM_LARGE_PAGES = 0x2000_0000;
    }
}
