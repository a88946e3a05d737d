//! What a section was asked for beside its size and protection (the SEC_ flags, API 1.3, 11.4).

bitflags::bitflags! {
    /// Attributes of a section, with NT's values.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct SectionAttributes: u32 {
        /// SEC_BASED: its views lie at one address in every process.
        const BASED = 0x20_0000;
        /// SEC_NO_CHANGE: the protection of its views cannot be changed.
        const NO_CHANGE = 0x40_0000;
        /// SEC_FILE: it is of a file. Told, never asked for.
        const FILE = 0x80_0000;
        /// SEC_IMAGE: it is of an image.
        const IMAGE = 0x100_0000;
        /// SEC_RESERVE: its pages are committed through views.
        const RESERVE = 0x400_0000;
        /// SEC_COMMIT: all its pages are committed.
        const COMMIT = 0x800_0000;
        /// SEC_NOCACHE: the processor does not cache its views.
        const NO_CACHE = 0x1000_0000;
        /// SEC_WRITECOMBINE: the processor combines writes to its views.
        const WRITE_COMBINE = 0x4000_0000;
        /// SEC_LARGE_PAGES: it consists of large pages.
        const LARGE_PAGES = 0x8000_0000;
    }
}
