//! The flag words of the memory services, one type each (API 1.1, 1.2).
//!
//! Every word can be made, valid or not, since programs also test what the kernel says to
//! nonsense. The numbers are the manager's own.

use core::fmt;
use core::ops::BitOr;

use ntmm::nt::constants;
use ntmm_pte::protection;

macro_rules! flags {
    (
        $(#[$doc:meta])* $type:ident from $numbers:ident {
            $($(#[$constant_doc:meta])* $name:ident;)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        #[repr(transparent)]
        pub struct $type(pub u32);

        $($(#[$constant_doc])* pub const $name: $type = $type($numbers::$name);)*

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
    Protection from protection {
        /// Nothing.
        PAGE_NOACCESS;
        /// Reading.
        PAGE_READONLY;
        /// Reading and writing.
        PAGE_READWRITE;
        /// Reading, and writing to a private copy; for views only.
        PAGE_WRITECOPY;
        /// Executing.
        PAGE_EXECUTE;
        /// Executing and reading.
        PAGE_EXECUTE_READ;
        /// Everything.
        PAGE_EXECUTE_READWRITE;
        /// Executing, reading, and writing to a private copy; for views only.
        PAGE_EXECUTE_WRITECOPY;
        /// The first access raises an alarm and removes this modifier.
        PAGE_GUARD;
        /// Not cached by the processor.
        PAGE_NOCACHE;
        /// Writes may be combined.
        PAGE_WRITECOMBINE;
    }
}

flags! {
    /// `MEM_*` of allocating and freeing, and the states and types a query reports.
    MemoryFlags from constants {
        /// Give pages of a range memory.
        MEM_COMMIT;
        /// Take a range of addresses.
        MEM_RESERVE;
        /// Take the memory of pages away; the range stays reserved.
        MEM_DECOMMIT;
        /// Give the range itself back.
        MEM_RELEASE;
        /// State: nobody's.
        MEM_FREE;
        /// Type: memory of the process's own.
        MEM_PRIVATE;
        /// Type: a view of a section.
        MEM_MAPPED;
        /// Take a range of addresses for allocations to come.
        MEM_RESERVE_PLACEHOLDER;
        /// Put an allocation where a placeholder is.
        MEM_REPLACE_PLACEHOLDER;
        /// Leave a placeholder where an allocation was.
        MEM_PRESERVE_PLACEHOLDER;
        /// The contents are of no further interest.
        MEM_RESET;
        /// The highest hole instead of the lowest.
        MEM_TOP_DOWN;
        /// Keep account of written pages.
        MEM_WRITE_WATCH;
        /// A window for physical pages.
        MEM_PHYSICAL;
        /// Pages of 2 MiB.
        MEM_LARGE_PAGES;
    }
}

flags! {
    /// `MAP_*`: where memory is locked.
    MapType from constants {
        /// In the working set.
        MAP_PROCESS;
        /// In memory.
        MAP_SYSTEM;
    }
}

flags! {
    /// `WRITE_WATCH_FLAG_*`.
    WatchFlags from constants {
        /// The pages that are reported count as not written from now on.
        WRITE_WATCH_FLAG_RESET;
    }
}
