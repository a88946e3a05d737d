//! Secured ranges (spec 7.8).

use ntmm_pte::{Modifier, PagingMode, Protection, Va};
use std::vec::Vec;

use super::host::{Host, page_at};
use crate::vad::{SECURED_RANGES_LIMIT, Secured, SecuredAccess, SecuredHandle};
use crate::virtual_memory::{
    Allocate, AllocationType, ChangePlaceholder, FreeType, MemoryUse, PlaceholderChange, Placement,
    SecureMemory, UnsecureMemory,
};
use crate::{AddressSpaceId, NtStatus};

const REFUSED: NtStatus = NtStatus::INVALID_PAGE_PROTECTION;

fn guarded(protection: Protection) -> Protection {
    Protection::new(protection.access(), Modifier::Guard)
}

fn bytes(pages: u64) -> ntmm_pte::Bytes {
    ntmm_pte::Pages::new(pages).to_bytes()
}

impl<M: PagingMode> Host<M> {
    fn secure(
        &self,
        space: AddressSpaceId,
        at: Va,
        pages: u64,
        access: SecuredAccess,
    ) -> Result<SecuredHandle, NtStatus> {
        self.run(SecureMemory::new(space, at, bytes(pages), access))
    }

    fn unsecure(&self, space: AddressSpaceId, handle: SecuredHandle) -> Result<(), NtStatus> {
        self.run(UnsecureMemory::new(space, handle))
    }

    fn secured(&self, space: AddressSpaceId, at: Va) -> Secured {
        self.locked(space, |set| set.find_vad(at.vpn()).expect("allocated").attributes.secured)
    }
}

in_every_mode! {
    fn secured_pages_keep_their_access<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        let base = host.allocate(space, 16);
        host.write(space, page_at(base, 5), 7);
        let handle = host.secure(space, page_at(base, 4), 4, SecuredAccess::ReadWrite);
        let handle = handle.expect("secured");
        assert_eq!(host.secured(space, base), Secured::One);
        let inside = page_at(base, 5);
        for refused in [
            Protection::READONLY,
            Protection::NO_ACCESS,
            Protection::EXECUTE_READ,
            guarded(Protection::READWRITE),
        ] {
            assert_eq!(host.protect(space, inside, 1, refused), Err(REFUSED), "{refused:?}");
            assert_eq!(host.commit(space, inside, 1, refused), Err(REFUSED), "{refused:?}");
            assert_eq!(host.protect(space, base, 5, refused), Err(REFUSED), "{refused:?}");
        }
        for allowed in [Protection::EXECUTE_READWRITE, Protection::READWRITE] {
            assert!(host.protect(space, inside, 1, allowed).is_ok(), "{allowed:?}");
            assert!(host.commit(space, inside, 1, allowed).is_ok(), "{allowed:?}");
        }
        assert!(host.protect(space, base, 4, Protection::NO_ACCESS).is_ok(), "in front of it");
        assert!(host.protect(space, page_at(base, 8), 8, Protection::READONLY).is_ok(), "behind");
        host.audit_at_rest();
        assert_eq!(host.unsecure(space, handle), Ok(()));
        assert_eq!(host.secured(space, base), Secured::No);
        assert_eq!(host.unsecure(space, handle), Err(NtStatus::INVALID_HANDLE));
        assert!(host.protect(space, inside, 1, Protection::NO_ACCESS).is_ok());
        host.audit_at_rest();
    }

    fn pages_secured_for_reading_may_lose_write_access<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        let base = host.allocate(space, 4);
        host.secure(space, base, 4, SecuredAccess::Read).expect("secured");
        for allowed in [Protection::READONLY, Protection::EXECUTE_READ, Protection::READWRITE] {
            assert!(host.protect(space, base, 4, allowed).is_ok(), "{allowed:?}");
        }
        for refused in [Protection::NO_ACCESS, guarded(Protection::READONLY)] {
            assert_eq!(host.protect(space, base, 4, refused), Err(REFUSED), "{refused:?}");
        }
    }

    fn secured_pages_cannot_be_freed<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        let base = host.allocate(space, 16);
        let handle = host.secure(space, page_at(base, 6), 4, SecuredAccess::Read);
        for kind in [FreeType::Decommit, FreeType::Release] {
            assert_eq!(host.free(space, base, 0, kind), Err(REFUSED));
            assert_eq!(host.free(space, page_at(base, 9), 1, kind), Err(REFUSED));
            assert_eq!(host.free(space, base, 7, kind), Err(REFUSED));
        }
        host.audit_at_rest();
        // What lies beside may go, and the rest stays secured.
        assert!(host.free(space, page_at(base, 12), 2, FreeType::Release).is_ok());
        assert!(host.free(space, base, 2, FreeType::Release).is_ok());
        assert_eq!(host.secured(space, page_at(base, 8)), Secured::One);
        assert_eq!(host.secured(space, page_at(base, 14)), Secured::No);
        assert_eq!(host.free(space, page_at(base, 2), 0, FreeType::Release), Err(REFUSED));
        assert!(host.free(space, page_at(base, 14), 0, FreeType::Release).is_ok());
        host.unsecure(space, handle.expect("secured")).expect("it is");
        assert!(host.free(space, page_at(base, 2), 0, FreeType::Release).is_ok());
        host.audit_at_rest();
    }

    fn a_split_divides_the_ranges<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        let base = host.allocate(space, 24);
        let at = |page| page_at(base, page);
        let secure = |page| host.secure(space, at(page), 2, SecuredAccess::Read).expect("secured");
        let handles = [0, 1, 10, 20, 20].map(secure);
        assert_eq!(host.secured(space, base), Secured::Multiple);
        assert!(host.free(space, at(4), 2, FreeType::Release).is_ok());
        assert!(host.free(space, at(16), 2, FreeType::Release).is_ok());
        assert_eq!([0, 8, 20].map(|page| host.secured(space, at(page))),
            [Secured::Multiple, Secured::One, Secured::Multiple]);
        host.unsecure(space, handles[0]).expect("it is");
        host.unsecure(space, handles[4]).expect("it is");
        assert_eq!([0, 8, 20].map(|page| host.secured(space, at(page))), [Secured::One; 3]);
        assert_eq!(host.free(space, at(1), 1, FreeType::Decommit), Err(REFUSED));
        host.audit_at_rest();
    }

    fn only_accessible_memory_is_secured<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        let violation = Err(NtStatus::ACCESS_VIOLATION);
        let conflict = Err(NtStatus::CONFLICTING_ADDRESSES);
        let base = host.allocate(space, 16);
        let (read, write) = (SecuredAccess::Read, SecuredAccess::ReadWrite);
        host.protect(space, page_at(base, 1), 1, Protection::READONLY).expect("protected");
        host.protect(space, page_at(base, 2), 1, Protection::NO_ACCESS).expect("protected");
        let guard = guarded(Protection::READWRITE);
        host.protect(space, page_at(base, 3), 1, guard).expect("protected");
        host.free(space, page_at(base, 4), 1, FreeType::Decommit).expect("decommitted");
        assert!(host.secure(space, base, 2, read).is_ok());
        assert_eq!(host.secure(space, base, 2, write), violation);
        for page in 2..5 {
            assert_eq!(host.secure(space, page_at(base, page), 1, read), violation, "{page}");
        }
        assert_eq!(host.secure(space, page_at(base, 15), 2, read), conflict);
        assert_eq!(host.secure(space, Va::new(0x1000), 1, read), conflict);
        let invalid = Err(NtStatus::INVALID_PARAMETER);
        assert_eq!(host.secure(space, base, 0, read), invalid);
        assert_eq!(host.secure(space, Va::new(u64::MAX), 1, read), invalid);
        assert_eq!(host.secure(space, base, 1 << 50, read), invalid);
        for handle in [0, 2, u64::MAX] {
            let handle = SecuredHandle::new(handle);
            assert_eq!(host.unsecure(space, handle), Err(NtStatus::INVALID_HANDLE));
        }
        let window = Allocate::new(space, Placement::Lowest, bytes(4), AllocationType::Reserve,
            Protection::READWRITE);
        let window = host.run(window.of(MemoryUse::AddressWindow)).expect("reserved").base;
        assert_eq!(host.secure(space, window, 1, read), conflict);
        host.audit_at_rest();
    }

    fn there_may_be_many_and_all_go_with_the_space<M>() {
        let host = Host::<M>::new(160);
        let space = host.space();
        let base = host.allocate(space, 64);
        host.write(space, base, 1);
        let before = host.manager.memory_figures().committed;
        let secure = |page: u64| host.secure(space, page_at(base, page % 64), 1, SecuredAccess::Read);
        let handles: Vec<_> = (0..400).map(|page| secure(page).expect("secured")).collect();
        assert_eq!(host.manager.memory_figures().committed.get(), before.get() + 3);
        host.audit_at_rest();
        for &handle in &handles[..390] {
            host.unsecure(space, handle).expect("it is");
        }
        assert_eq!(host.manager.memory_figures().committed.get(), before.get() + 1);
        assert_eq!(host.secured(space, base), Secured::Multiple);
        host.audit_at_rest();
        host.delete(space);
        host.audit_at_rest();
        assert_eq!(host.manager.memory_figures().committed.get(), 2, "the paging file's");
    }

    fn a_space_has_so_many_ranges_and_no_more<M>() {
        let host = Host::<M>::new(160);
        let space = host.space();
        let base = host.allocate(space, 64);
        let secure = || host.secure(space, base, 1, SecuredAccess::Read);
        let first = secure().expect("secured");
        for _ in 1..SECURED_RANGES_LIMIT {
            secure().expect("secured");
        }
        assert_eq!(secure(), Err(NtStatus::INSUFFICIENT_RESOURCES));
        assert_eq!(host.unsecure(space, first), Ok(()));
        assert!(secure().is_ok());
        assert_eq!(secure(), Err(NtStatus::INSUFFICIENT_RESOURCES));
        let other = host.space();
        let base = host.allocate(other, 1);
        assert!(host.secure(other, base, 1, SecuredAccess::Read).is_ok());
        host.audit_at_rest();
        host.delete(space);
        host.audit_at_rest();
    }

    fn what_replaced_a_placeholder_stays_while_it_is_secured<M>() {
        let host = Host::<M>::new(128);
        let space = host.space();
        let (at, kind) = (Va::new(0x10_0000), AllocationType::Reserve);
        let placeholder =
            Allocate::new(space, Placement::At(at), bytes(16), kind, Protection::NO_ACCESS);
        host.run(placeholder.of(MemoryUse::Placeholder)).expect("reserved");
        assert_eq!(host.secure(space, at, 1, SecuredAccess::Read),
            Err(NtStatus::CONFLICTING_ADDRESSES));
        let (to, kind) = (Placement::Replacing(at), AllocationType::ReserveAndCommit);
        host.run(Allocate::new(space, to, bytes(16), kind, Protection::READWRITE)).expect("replaced");
        let handle = host.secure(space, at, 1, SecuredAccess::Read).expect("secured");
        let preserve =
            || ChangePlaceholder::new(space, at, bytes(16), PlaceholderChange::Preserve);
        assert_eq!(host.run(preserve()), Err(REFUSED));
        host.unsecure(space, handle).expect("it is");
        assert!(host.run(preserve()).is_ok());
        host.audit_at_rest();
    }
}
