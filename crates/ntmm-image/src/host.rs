//! The system that is asked to run an image: its processor, and the family of versions whose
//! rules hold where versions differ (spec API 0.1, 15.2).

/// The processor a system is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostMachine {
    /// 32-bit x86, with or without PAE. Runs i386 images.
    I386,
    /// 64-bit x86. Runs amd64 images, and takes i386 ones for the sake of 32-bit programs.
    Amd64,
}

/// A family of versions that behave alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Profile {
    /// NT 5: an optional header may end before its checksum, and only its own fields say whether
    /// an image contains code.
    #[default]
    Legacy,
    /// Windows 10 from 1903 on: the optional header has all its fields up to the directories,
    /// executable sections count as code, and images may prefer 32 bits.
    Modern,
}

/// The system an image is checked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Host {
    /// Its processor.
    pub machine: HostMachine,
    /// Its version's rules.
    pub profile: Profile,
}
