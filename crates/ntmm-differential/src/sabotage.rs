//! What may be broken on purpose, to prove that the comparison notices.

/// A way in which the answering machine does not do what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// The last page of a decommitted range is committed again, silently.
    KeptPage,
    /// A guard that was hit is put back.
    StickyGuard,
    /// A write is forgotten by the watch.
    LostWrite,
    /// The back part of an allocation that is cut in two is released too.
    LostBack,
    /// FREE_VM_NOT_AT_BASE is answered as UNABLE_TO_FREE_VM.
    WrongStatus,
    /// What a failing protect call stores as old protection is not stored.
    ForgottenOldProtection,
    /// A byte that was stored is zero.
    LostStore,
    /// A page that was locked is not.
    LostLock,
    /// The first allocation a process releases leaves an empty process behind, which no call can
    /// see: only an audit notices.
    LeakedProcess,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::KeptPage,
        Self::StickyGuard,
        Self::LostWrite,
        Self::LostBack,
        Self::WrongStatus,
        Self::ForgottenOldProtection,
        Self::LostStore,
        Self::LostLock,
        Self::LeakedProcess,
    ];
}
