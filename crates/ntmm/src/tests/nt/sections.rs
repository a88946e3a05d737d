//! The calls on sections (API 11 to 14).

use std::vec::Vec;

use super::{BAD_POINTER, Program, SUCCESS};
use crate::NtStatus;
use crate::nt::section::{
    AreMappedFilesTheSame, CreateSectionCall, CreateSectionOutcome, CreateSectionParameters,
    ExtendSectionCall, File, FileAccess, FileTarget, HandleVariable, LetterCase, MapViewOfSection,
    MapViewParameters, MappedRange, Named, Namespace, ObjectAttributes, ObjectName, Place,
    QuerySection, QuerySectionParameters, Section, SectionAccess, SectionTarget,
    UnmapViewOfSection, name_section, open_section,
};
use crate::nt::{Captured, Profile};
use crate::platform::FileId;
use crate::section::SectionId;
use ntmm_pte::PagingMode;

const COMMIT: u32 = 0x800_0000;
const RESERVE: u32 = 0x400_0000;
const IMAGE: u32 = 0x100_0000;
const BASED: u32 = 0x20_0000;
const NO_CHANGE: u32 = 0x40_0000;
const LARGE: u32 = 0x8000_0000;
const READWRITE: u32 = 4;
const FILE: u32 = 7;

const P4: u32 = 0xC000_00F2;
const P6: u32 = 0xC000_00F4;
const ACCESS_DENIED: u32 = 0xC000_0022;
const BAD_PROTECTION: u32 = 0xC000_0045;

impl<M: PagingMode> Program<M> {
    fn create(&self, parameters: CreateSectionParameters) -> CreateSectionOutcome {
        let call = CreateSectionCall::new(self.caller, parameters);
        self.host.run(call).expect("such calls never raise")
    }

    fn created(&self, size: u64, protection: u32, attributes: u32) -> CreateSectionOutcome {
        self.create(CreateSectionParameters {
            handle: Ok(()),
            maximum_size: Ok(Some(size)),
            protection,
            attributes,
            file: None,
        })
    }

    fn section_with(&self, size: u64, protection: u32, attributes: u32) -> SectionId {
        self.created(size, protection, attributes).section.expect("a section")
    }

    fn map_view_with(&self, parameters: MapViewParameters) -> (u32, Option<MappedRange>) {
        let call = MapViewOfSection::new(self.caller, parameters);
        let outcome = self.host.run(call).expect("such calls never raise");
        (outcome.status.code(), outcome.output)
    }

    fn view_of(&self, section: SectionId, protection: u32) -> MapViewParameters {
        MapViewParameters {
            section: all_access(section),
            process: self.process(),
            base: Ok(0),
            zero_bits: 0,
            commit_size: 0,
            offset: Ok(None),
            view_size: Ok(0),
            inherit: 1,
            kind: 0,
            protection,
        }
    }

    fn view_at(&self, section: SectionId, protection: u32) -> u64 {
        let (status, range) = self.map_view_with(self.view_of(section, protection));
        assert_eq!(status, SUCCESS);
        range.expect("a view").base
    }

    fn unmap_view(&self, base: u64) -> u32 {
        let call = UnmapViewOfSection::new(self.caller, self.process(), base);
        self.host.run(call).expect("such calls never raise").code()
    }

    /// Code, base, attributes and size.
    fn section_query(&self, section: SectionId) -> (u32, Option<(u64, u32, u64)>) {
        let parameters = QuerySectionParameters {
            section: all_access(section),
            class: 0,
            buffer: Ok(()),
            length: 0x18,
            return_length: Ok(()),
        };
        let call = QuerySection::new(self.caller, parameters);
        let outcome = self.host.run(call).expect("such calls never raise");
        let basic = outcome.information.map(|basic| (basic.base, basic.attributes, basic.size));
        (outcome.status.code(), basic)
    }

    /// A file of so many bytes that may be used this way.
    fn file(&self, bytes: usize, access: FileAccess) -> File {
        self.host.machine().files.borrow_mut().insert(FILE, (0..bytes).map(|_| 1).collect());
        Ok(FileTarget { file: Ok(FileId(FILE)), access })
    }
}

fn all_access(section: SectionId) -> Section {
    Ok(SectionTarget { section, access: SectionAccess::ALL })
}

in_every_mode! {
    fn attributes_are_checked_before_the_protection<M>() {
        let program = Program::<M>::legacy();
        for attributes in [0, COMMIT | RESERVE, IMAGE | COMMIT, 0x1000_0000, LARGE, 1 << 23 | COMMIT] {
            let outcome = program.created(1, 0, attributes);
            assert_eq!(outcome.status.code(), P6, "{attributes:#x}");
            assert_eq!(outcome.handle, HandleVariable::Untouched);
        }
        for protection in [0, 1, 3, 0x104, 0x204, 0x800] {
            assert_eq!(program.created(1, protection, COMMIT).status.code(), BAD_PROTECTION);
        }
        let no_file = program.created(1, READWRITE, IMAGE);
        assert_eq!(no_file.status, NtStatus::INVALID_FILE_FOR_SECTION);
        assert_eq!(no_file.handle, HandleVariable::Cleared);
        assert_eq!(program.created(0, READWRITE, COMMIT).status.code(), P4);
        assert_eq!(program.created(1, READWRITE, COMMIT | LARGE).status.code(), P4);
        assert_eq!(program.created(u64::MAX, READWRITE, COMMIT).status, NtStatus::SECTION_TOO_BIG);
        let outcome = program.create(CreateSectionParameters {
            handle: BAD_POINTER.map(|_| ()),
            maximum_size: Ok(Some(0)),
            protection: READWRITE,
            attributes: COMMIT,
            file: None,
        });
        assert_eq!(outcome.status, NtStatus::ACCESS_VIOLATION);
        program.host.audit_at_rest();
    }

    fn image_without_execution_is_for_modern_systems<M>() {
        const UNCACHED: u32 = 0x1000_0000;
        let legacy = Program::<M>::legacy().created(0, 2, IMAGE | UNCACHED);
        assert_eq!(legacy.status.code(), P6);
        let modern = Program::<M>::modern().created(0, 2, IMAGE | UNCACHED);
        assert_eq!(modern.status, NtStatus::INVALID_FILE_FOR_SECTION);
    }

    fn section_tells_what_it_was_asked_for<M>() {
        let program = Program::<M>::legacy();
        let section = program.section_with(0x1001, READWRITE, RESERVE | NO_CHANGE);
        assert_eq!(program.section_query(section), (SUCCESS, Some((0, RESERVE, 0x2000))));
        let file = program.file(0x123, FileAccess::READ_DATA);
        let outcome = program.create(CreateSectionParameters {
            handle: Ok(()),
            maximum_size: Ok(None),
            protection: 2,
            attributes: COMMIT,
            file: Some(file),
        });
        let section = outcome.section.expect("a section");
        assert_eq!(program.section_query(section), (SUCCESS, Some((0, 1 << 23, 0x123))));
    }

    fn file_has_to_grant_what_the_section_will<M>() {
        let program = Program::<M>::legacy();
        let file = program.file(0x2000, FileAccess::READ_DATA);
        let of = |protection, size, file| {
            let parameters = CreateSectionParameters {
                handle: Ok(()),
                maximum_size: Ok(Some(size)),
                protection,
                attributes: COMMIT,
                file: Some(file),
            };
            program.create(parameters).status.code()
        };
        assert_eq!(of(2, 0, file), SUCCESS);
        assert_eq!(of(8, 0, file), SUCCESS);
        for protection in [4, 0x10, 0x20, 0x40, 0x80] {
            assert_eq!(of(protection, 0, file), ACCESS_DENIED);
        }
        assert_eq!(of(2, 0x2001, file), NtStatus::SECTION_TOO_BIG.code());
        assert_eq!(of(2, 0, Err(NtStatus::INVALID_HANDLE)), NtStatus::INVALID_HANDLE.code());
        let writable = program.file(0x2000, FileAccess::all());
        assert_eq!(of(4, 0x5001, writable), SUCCESS);
        assert_eq!(program.host.machine().files.borrow()[&FILE].len(), 0x5001);
        assert_eq!(of(2, 0, program.file(0, FileAccess::all())), 0xC000_011E);
    }

    fn views_are_checked_in_order<M>() {
        let program = Program::<M>::legacy();
        let section = program.section_with(0x2_0000, READWRITE, COMMIT);
        let view = program.view_of(section, READWRITE);
        let status = |view| program.map_view_with(view).0;
        assert_eq!(status(MapViewParameters { inherit: 3, kind: 0x1000, ..view }), 0xC000_00F6);
        let committing = MapViewParameters { kind: 0x1000, protection: 0, ..view };
        assert_eq!(status(committing), 0xC000_00F7);
        assert_eq!(status(MapViewParameters { protection: 0, ..view }), BAD_PROTECTION);
        let highest = M::HIGHEST_USER_ADDRESS.get();
        assert_eq!(status(MapViewParameters { base: Ok(highest + 1), ..view }), 0xC000_00F1);
        let limited = MapViewParameters { base: Ok(0x3000_1000), zero_bits: 3, ..view };
        assert_eq!(status(limited), P4);
        let denied = SectionTarget { section, access: SectionAccess::MAP_WRITE };
        let read = MapViewParameters { section: Ok(denied), protection: 2, ..view };
        assert_eq!(status(MapViewParameters { offset: Ok(Some(1)), ..read }), ACCESS_DENIED);
        assert_eq!(status(MapViewParameters { protection: 4, ..read }), SUCCESS);
        let misaligned = MapViewParameters { offset: Ok(Some(1)), ..view };
        assert_eq!(status(misaligned), NtStatus::MAPPED_ALIGNMENT.code());
        let misaligned = MapViewParameters { base: Ok(0x3000_1000), ..view };
        assert_eq!(status(misaligned), NtStatus::MAPPED_ALIGNMENT.code());
        let executable = MapViewParameters { protection: 0x20, ..view };
        assert_eq!(status(executable), NtStatus::SECTION_PROTECTION.code());
        assert_eq!(status(MapViewParameters { kind: 0x2000, ..view }), 0xC000_00F7);
        let long = MapViewParameters { view_size: Ok(0x2_0001), ..view };
        assert_eq!(status(long), NtStatus::INVALID_VIEW_SIZE.code());
        assert_eq!(status(MapViewParameters { commit_size: 0x2_0001, ..view }), 0xC000_00F3);
        program.host.audit_at_rest();
    }

    fn view_is_unmapped_by_any_of_its_addresses<M>() {
        let program = Program::<M>::legacy();
        let section = program.section_with(0x2001, READWRITE, COMMIT);
        let base = program.view_at(section, READWRITE);
        assert_eq!(program.store(base + 0x2008), SUCCESS);
        assert_eq!(program.unmap_view(base + 0x1234), SUCCESS);
        assert_eq!(program.unmap_view(base), NtStatus::NOT_MAPPED_VIEW.code());
        let private = program.memory(0x1000, 0x3000, 4);
        assert_eq!(program.unmap_view(private), NtStatus::NOT_MAPPED_VIEW.code());
        program.host.audit_at_rest();
    }

    fn view_of_reserved_pages_is_committed_as_far_as_asked<M>() {
        let program = Program::<M>::legacy();
        let section = program.section_with(0x1_0000, READWRITE, RESERVE);
        let view = program.view_of(section, READWRITE);
        let (status, range) = program.map_view_with(MapViewParameters { commit_size: 0x1001, ..view });
        assert_eq!(status, SUCCESS);
        let base = range.expect("a view").base;
        assert_eq!(program.store(base + 0x1000), SUCCESS);
        assert_eq!(program.store(base + 0x2000), NtStatus::ACCESS_VIOLATION.code());
        assert_eq!(program.page(base), (0x1000, 4));
        assert_eq!(program.page(base + 0x2000), (0x2000, 0));
    }

    fn based_sections_lie_below_each_other<M>() {
        let program = Program::<M>::legacy();
        let first = program.section_with(0x1_0001, READWRITE, COMMIT | BASED);
        let second = program.section_with(0x1000, READWRITE, COMMIT | BASED);
        let base = |section| program.section_query(section).1.expect("a section").0;
        let (high, low) = (base(first), base(second));
        assert_eq!(high - low, 0x1_0000);
        assert_eq!(program.view_at(first, READWRITE), high);
        let again = program.map_view_with(program.view_of(first, READWRITE)).0;
        assert_eq!(again, NtStatus::CONFLICTING_ADDRESSES.code());
        program.host.manager.close_section(first).expect("it is there");
        // The hole is used again.
        let third = program.section_with(0x2_0000, READWRITE, COMMIT | BASED);
        assert_eq!(base(third), high);
    }

    fn sections_of_files_become_longer<M>() {
        let program = Program::<M>::legacy();
        let file = program.file(0x1000, FileAccess::all());
        let outcome = program.create(CreateSectionParameters {
            handle: Ok(()),
            maximum_size: Ok(None),
            protection: READWRITE,
            attributes: COMMIT,
            file: Some(file),
        });
        let section = outcome.section.expect("a section");
        let base = program.view_at(section, READWRITE);
        let extend = |section, size| {
            let call = ExtendSectionCall::new(program.caller, section, size);
            let outcome = program.host.run(call).expect("such calls never raise");
            (outcome.status.code(), outcome.output)
        };
        assert_eq!(extend(all_access(section), Ok(0x10)), (SUCCESS, Some(0x1000)));
        assert_eq!(extend(all_access(section), Ok(0x3004)), (SUCCESS, Some(0x3004)));
        assert_eq!(program.host.machine().files.borrow()[&FILE].len(), 0x3004);
        assert_eq!(program.store(base + 0x1000), NtStatus::ACCESS_VIOLATION.code());
        let longer = program.view_at(section, READWRITE);
        assert_eq!(program.store(longer + 0x3000), SUCCESS);
        let weak = SectionTarget { section, access: SectionAccess::QUERY };
        assert_eq!(extend(Ok(weak), Ok(0x5000)), (ACCESS_DENIED, None));
        let pages = program.section_with(0x1000, READWRITE, COMMIT);
        let refused = (NtStatus::SECTION_NOT_EXTENDED.code(), None);
        assert_eq!(extend(all_access(pages), Ok(0x5000)), refused);
    }

    fn view_takes_the_place_of_a_placeholder_and_leaves_it<M>() {
        let program = Program::<M>::modern();
        let section = program.section_with(0x4000, READWRITE, COMMIT);
        let (status, range) = program.allocate_ex(0, 0x4000, 0x4_2000, 1, &[]);
        assert_eq!(status, SUCCESS);
        let place = range.expect("a placeholder").0;
        let map = |size| {
            let parameters = MapViewParameters {
                base: Ok(place),
                offset: Ok(Some(0x1000)),
                view_size: Ok(size),
                kind: 0x4000,
                ..program.view_of(section, READWRITE)
            };
            let call = MapViewOfSection::extended(program.caller, parameters, None, 0);
            program.host.run(call).expect("such calls never raise").status.code()
        };
        assert_eq!(map(0x3000), NtStatus::CONFLICTING_ADDRESSES.code());
        assert_eq!(program.free(place, 0x3000, 0x8002).0, SUCCESS);
        assert_eq!(map(0x3000), SUCCESS);
        assert_eq!(program.store(place + 0x2000), SUCCESS);
        let unmap = |flags| {
            let process = program.process();
            let call = UnmapViewOfSection::extended(program.caller, process, place, flags);
            program.host.run(call).expect("such calls never raise").code()
        };
        assert_eq!(unmap(4), NtStatus::INVALID_PARAMETER.code());
        assert_eq!(unmap(2), SUCCESS);
        assert_eq!(program.page(place), (0x2000, 0));
        assert_eq!(unmap(2), NtStatus::NOT_MAPPED_VIEW.code());
        assert_eq!(map(0x3000), SUCCESS);
        assert_eq!(unmap(0), SUCCESS);
        program.host.audit_at_rest();
    }

    fn two_views_are_not_the_same_file<M>() {
        let program = Program::<M>::modern();
        let section = program.section_with(0x1000, READWRITE, COMMIT);
        let (one, two) = (program.view_at(section, 2), program.view_at(section, 2));
        let private = program.memory(0x1000, 0x3000, 4);
        let compare = |one, two| {
            let call = AreMappedFilesTheSame::new(program.caller, program.space, one, two);
            program.host.run(call).expect("such calls never raise")
        };
        assert_eq!(compare(one, one + 30), NtStatus::SUCCESS);
        assert_eq!(compare(one, two), NtStatus::NOT_SAME_DEVICE);
        assert_eq!(compare(one, private), NtStatus::CONFLICTING_ADDRESSES);
        assert_eq!(compare(private, 0), NtStatus::INVALID_ADDRESS);
    }
}

/// One name in one directory.
#[derive(Default)]
struct OneName {
    named: Option<(Vec<u16>, SectionId)>,
}

impl Namespace for OneName {
    type Directory = ();

    fn find(&self, place: Place<'_, ()>) -> Result<Named, NtStatus> {
        assert_eq!(place.letter_case, LetterCase::Matters);
        Ok(match &self.named {
            Some((name, section)) if name == place.path => Named::Section(*section),
            _ => Named::Nothing,
        })
    }

    fn insert(&mut self, place: Place<'_, ()>, section: SectionId) -> Result<(), NtStatus> {
        self.named = Some((place.path.to_vec(), section));
        Ok(())
    }
}

in_every_mode! {
    fn names_are_checked_in_order<M>() {
        let program = Program::<M>::legacy();
        let names = OneName::default();
        let length = if M::ADDRESS_BITS == 32 { 0x18 } else { 0x30 };
        type Name<'n> = Captured<Option<(u16, Captured<&'n [u16]>)>>;
        let open = |length, root, name: Name<'_>| {
            let name = name.map(|name| name.map(|(length, buffer)| ObjectName { length, buffer }));
            let attributes = ObjectAttributes { length, root, name, attributes: 0 };
            let access = SectionAccess::QUERY;
            open_section(&names, &program.caller, Ok(()), Ok(Some(attributes)), access)
                .expect_err("there is no section")
        };
        let bad = Err(NtStatus::INVALID_HANDLE);
        let violation = Err(NtStatus::ACCESS_VIOLATION);
        assert_eq!(open(length - 1, None, Ok(None)), NtStatus::INVALID_PARAMETER);
        assert_eq!(open(length, None, Ok(None)), NtStatus::OBJECT_PATH_SYNTAX_BAD);
        assert_eq!(open(length, Some(bad), Ok(None)), NtStatus::OBJECT_NAME_INVALID);
        assert_eq!(open(length, None, violation), NtStatus::ACCESS_VIOLATION);
        let odd = Ok(Some((3, Ok(&[65][..]))));
        assert_eq!(open(length, Some(bad), odd), NtStatus::OBJECT_NAME_INVALID);
        let good = Ok(Some((2, Ok(&[65][..]))));
        assert_eq!(open(length, Some(bad), good), NtStatus::INVALID_HANDLE);
        assert_eq!(open(length, None, good), NtStatus::OBJECT_PATH_SYNTAX_BAD);
        assert_eq!(open(length, Some(Ok(())), good), NtStatus::OBJECT_NAME_NOT_FOUND);
        let empty = Ok(Some((0, Err(NtStatus::ACCESS_VIOLATION))));
        assert_eq!(open(length, Some(Ok(())), empty), NtStatus::OBJECT_TYPE_MISMATCH);
    }

    fn section_with_the_name_is_opened_instead<M>() {
        const OPEN_IF: u32 = 0x80;
        let program = Program::<M>::of(Profile::Legacy);
        let mut names = OneName::default();
        let path = [u16::from(b'\\'), 65];
        let length = if M::ADDRESS_BITS == 32 { 0x18 } else { 0x30 };
        let mut name = |attributes, desired| {
            let section = program.section_with(0x1000, READWRITE, COMMIT);
            let attributes = ObjectAttributes {
                length,
                root: None,
                name: Ok(Some(ObjectName { length: 4, buffer: Ok(&path) })),
                attributes,
            };
            let made = (section, Ok(Some(attributes)));
            let manager = &program.host.manager;
            (section, name_section(manager, &mut names, &program.caller, made, desired))
        };
        let (first, named) = name(0, SectionAccess::empty());
        assert_eq!(named, Ok((first, NtStatus::SUCCESS)));
        let (second, named) = name(OPEN_IF, SectionAccess::QUERY);
        assert_eq!(named, Ok((first, NtStatus::OBJECT_NAME_EXISTS)));
        assert_eq!(program.section_query(second).0, NtStatus::INVALID_HANDLE.code());
        let (_, named) = name(OPEN_IF, SectionAccess::empty());
        assert_eq!(named, Err(NtStatus::ACCESS_DENIED));
        let (_, named) = name(0, SectionAccess::QUERY);
        assert_eq!(named, Err(NtStatus::OBJECT_NAME_COLLISION));
        assert_eq!(program.section_query(first).0, SUCCESS);
    }
}
