//! The calls on sections.

use ntmm::nt::section::{
    AreMappedFilesTheSame, CreateSectionCall, CreateSectionParameters, ExtendSectionCall,
    HandleVariable, KernelCreateSection, KernelSectionParameters, LetterCase, Manner,
    MapViewOfSection, MapViewParameters, MappedRange, QuerySection, QuerySectionParameters,
    Section, SectionAccess, UnmapViewOfSection, name_section, open_section,
};
use ntmm::nt::{Captured, Outcome, Target};
use ntmm::{NtStatus, SectionId};
use ntmm_machine::Hardware;

use super::super::Windows;
use super::super::attributes::borrowed;
use super::super::handles::Object;
use super::super::names::Found;
use super::super::parameters::{extended, in_out, optional_out, out, wide};
use crate::system::{Answer, Refusal};
use crate::value::{Arguments, Pointer, Value, unfit};

/// SEC_IMAGE.
const IMAGE: u32 = 0x100_0000;

/// The information classes, by number.
const CLASSES: [&str; 5] = [
    "SectionBasicInformation",
    "SectionImageInformation",
    "SectionRelocationInformation",
    "SectionOriginalBaseInformation",
    "SectionInternalImageInformation",
];

/// Most bytes of a buffer of a case.
const LARGEST_BUFFER: u64 = 0x1_0000;

/// Bytes behind whose end there is nothing: what stands for "all of it" in a case.
const CURRENT: &str = "current";

fn images_come_later(status: NtStatus, attributes: u32) -> Result<(), Refusal> {
    if status == NtStatus::NOT_SUPPORTED && attributes & IMAGE != 0 {
        return Err(Refusal::Later("images come later".to_owned()));
    }
    Ok(())
}

impl<M: Hardware> Windows<M> {
    pub(in super::super) fn section_call(
        &mut self,
        name: &str,
        arguments: &Arguments,
    ) -> Result<Answer, Refusal> {
        match name {
            "MmCreateSection" => self.create_section_object(arguments),
            "MmMapViewOfSection" => self.map_view_of_object(arguments),
            "NtAreMappedFilesTheSame" => self.compare_files(arguments),
            "NtCreateSection" => self.create_section(arguments),
            "NtExtendSection" => self.extend_section(arguments),
            "NtMapViewOfSection" => self.map_view(arguments),
            "NtMapViewOfSectionEx" => self.map_view_extended(arguments),
            "NtOpenDirectoryObject" => self.open_named(arguments, "DirectoryHandle"),
            "NtOpenSection" => self.open_section(arguments),
            "NtOpenSymbolicLinkObject" => self.open_named(arguments, "LinkHandle"),
            "NtQuerySection" => self.query_section(arguments),
            "MmUnmapViewOfSection" | "NtUnmapViewOfSection" => {
                let (process, base) = (self.target(arguments)?, arguments.word("BaseAddress")?);
                let call = UnmapViewOfSection::new(self.caller(arguments), process, base);
                Ok(Answer::returned(self.host.complete_call(call)?))
            }
            "NtUnmapViewOfSectionEx" => {
                let (process, base) = (self.target(arguments)?, arguments.word("BaseAddress")?);
                let (caller, flags) = (self.caller(arguments), arguments.ulong("Flags")?);
                let call = UnmapViewOfSection::extended(caller, process, base, flags);
                Ok(Answer::returned(self.host.complete_call(call)?))
            }
            "section.map" => self.map_whole(arguments),
            _ => Err(Refusal::Unknown(format!("nobody makes the call {name}"))),
        }
    }

    /// The process of a call, which the kernel may name by its object.
    fn target(&self, arguments: &Arguments) -> Result<Result<Target, NtStatus>, Refusal> {
        match arguments.get("Process") {
            Some(Value::Text(text)) if text == CURRENT => {
                Ok(Ok(Target::current(self.processes.current())))
            }
            Some(other) => Err(unfit("Process", other)),
            None => self.process(arguments),
        }
    }

    /// The section of a call, by a handle or, in the kernel, by its object.
    fn section(&self, arguments: &Arguments) -> Result<Section, Refusal> {
        let name = match arguments.get("SectionObject") {
            Some(_) => "SectionObject",
            None => "SectionHandle",
        };
        let handle = arguments.word(name)?;
        if handle == arguments.width.truncate(-1) {
            // The calling process.
            return Ok(Err(NtStatus::OBJECT_TYPE_MISMATCH));
        }
        Ok(self.handles.section(handle))
    }

    fn create_section(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        const HANDLE: &str = "SectionHandle";
        let caller = self.caller(arguments);
        let attributes = arguments.ulong("AllocationAttributes")?;
        let parameters = CreateSectionParameters {
            handle: out(arguments, HANDLE)?,
            maximum_size: wide(arguments, "MaximumSize")?,
            protection: arguments.ulong("SectionPageProtection")?,
            attributes,
            file: self.file_argument(arguments, "FileHandle")?,
        };
        let outcome = self.host.complete_call(CreateSectionCall::new(caller, parameters))?;
        images_come_later(outcome.status, attributes)?;
        let cleared = |answer: Answer| match outcome.handle {
            HandleVariable::Cleared => answer.with(HANDLE, 0_u64),
            HandleVariable::Untouched => answer,
        };
        let Some(section) = outcome.section else {
            return Ok(cleared(Answer::returned(outcome.status)));
        };
        self.note_writer(arguments, section, parameters.protection)?;
        let captured = self.object_attributes(arguments)?;
        let desired = SectionAccess::of_desired(arguments.ulong("DesiredAccess")?);
        let made = (section, borrowed(&captured));
        let names = &mut self.names;
        match name_section(self.host.manager(), names, &caller, made, desired) {
            Ok((section, status)) => {
                let handle = self.handles.open_section(section, desired);
                Ok(Answer::returned(status).with(HANDLE, handle))
            }
            Err(status) => Ok(cleared(Answer::returned(status))),
        }
    }

    /// Notes that a section may write a file.
    fn note_writer(
        &mut self,
        arguments: &Arguments,
        section: SectionId,
        protection: u32,
    ) -> Result<(), Refusal> {
        const WRITABLE: u32 = 0x44;
        let handle = match arguments.get("FileHandle") {
            None | Some(Value::Nothing) => 0,
            Some(_) => arguments.word("FileHandle")?,
        };
        if let Ok(open) = self.handles.file(handle)
            && protection & WRITABLE != 0
        {
            self.writers.push((section, open.file));
        }
        Ok(())
    }

    fn create_section_object(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let file_object = self.file_argument(arguments, "FileObject")?;
        let attributes = arguments.ulong("AllocationAttributes")?;
        let parameters = KernelSectionParameters {
            object: out(arguments, "SectionObject")?,
            maximum_size: wide(arguments, "MaximumSize")?
                .and_then(|size| size.ok_or(NtStatus::ACCESS_VIOLATION)),
            protection: arguments.ulong("SectionPageProtection")?,
            attributes,
            file: self.file_argument(arguments, "FileHandle")?,
            file_object: file_object.and_then(|file| file.ok()?.file.ok()),
        };
        let call = KernelCreateSection::new(self.caller(arguments), parameters);
        match self.host.complete_call(call)? {
            Ok(section) => {
                let object = self.handles.open_section(section, SectionAccess::ALL);
                Ok(Answer::returned(NtStatus::SUCCESS).with("SectionObject", object))
            }
            Err((status, Manner::Raised)) => Ok(Answer::raised(status)),
            Err((status, Manner::Returned)) => {
                images_come_later(status, attributes)?;
                Ok(Answer::returned(status))
            }
        }
    }

    fn open_section(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        const HANDLE: &str = "SectionHandle";
        let caller = self.caller(arguments);
        let variable = out(arguments, HANDLE)?;
        let captured = self.object_attributes(arguments)?;
        let desired = SectionAccess::of_desired(arguments.ulong("DesiredAccess")?);
        let names = borrowed(&captured);
        Ok(match open_section(&self.names, &caller, variable, names, desired) {
            Ok(section) => {
                let handle = self.handles.open_section(section, desired);
                Answer::returned(NtStatus::SUCCESS).with(HANDLE, handle)
            }
            Err(status) if variable.is_ok() => Answer::returned(status).with(HANDLE, 0_u64),
            Err(status) => Answer::returned(status),
        })
    }

    /// Opens a directory or a link.
    fn open_named(&mut self, arguments: &Arguments, output: &str) -> Result<Answer, Refusal> {
        let Some(Value::Structure(fields)) = arguments.get("ObjectAttributes") else {
            return Ok(Answer::returned(NtStatus::INVALID_PARAMETER));
        };
        let Some(Value::Text(path)) = fields.get("ObjectName") else {
            return Ok(Answer::returned(NtStatus::OBJECT_PATH_SYNTAX_BAD));
        };
        let path: Vec<String> =
            path.split('\\').filter(|name| !name.is_empty()).map(str::to_owned).collect();
        let object = match self.names.look_up(&path, LetterCase::Ignored) {
            Some(Found::Directory(number)) if output == "DirectoryHandle" => {
                Object::Directory(number)
            }
            Some(Found::Link) if output == "LinkHandle" => Object::Link,
            Some(_) => return Ok(Answer::returned(NtStatus::OBJECT_TYPE_MISMATCH)),
            None => return Ok(Answer::returned(NtStatus::OBJECT_NAME_NOT_FOUND)),
        };
        let handle = self.handles.open(object);
        Ok(Answer::returned(NtStatus::SUCCESS).with(output, handle))
    }

    fn extend_section(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        const SIZE: &str = "NewSectionSize";
        let size = wide(arguments, SIZE)?.and_then(|size| size.ok_or(NtStatus::ACCESS_VIOLATION));
        let call = ExtendSectionCall::new(self.caller(arguments), self.section(arguments)?, size);
        let Outcome { status, output } = self.host.complete_call(call)?;
        let answer = Answer::returned(status);
        Ok(match output {
            Some(size) => answer.with(SIZE, size),
            None => answer,
        })
    }

    fn query_section(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        const CLASS: &str = "SectionInformationClass";
        let class = match arguments.value(CLASS)? {
            Value::Text(text) => {
                let number = CLASSES.iter().position(|class| class == text);
                number.ok_or_else(|| unfit(CLASS, &Value::Text(text.clone())))? as u32
            }
            _ => arguments.ulong(CLASS)?,
        };
        let length = match arguments.get("SectionInformationLength") {
            None => LARGEST_BUFFER,
            Some(_) => arguments.word("SectionInformationLength")?,
        };
        let buffer = out(arguments, "SectionInformation")?;
        let parameters = QuerySectionParameters {
            section: self.section(arguments)?,
            class,
            buffer: if length > LARGEST_BUFFER { Err(NtStatus::ACCESS_VIOLATION) } else { buffer },
            length,
            return_length: optional_out(arguments, "ReturnLength")?,
        };
        let call = QuerySection::new(self.caller(arguments), parameters);
        let outcome = self.host.complete_call(call)?;
        let mut answer = Answer::returned(outcome.status);
        if let Some(basic) = outcome.information {
            answer = answer
                .with("BaseAddress", basic.base)
                .with("Attributes", basic.attributes)
                .with("Size", basic.size);
        }
        Ok(match outcome.return_length {
            Some(length) => answer.with("ReturnLength", length),
            None => answer,
        })
    }

    fn view_parameters(
        &self,
        arguments: &Arguments,
        protection: &str,
    ) -> Result<MapViewParameters, Refusal> {
        let optional = |name| match arguments.get(name) {
            None => Ok(0),
            Some(_) => arguments.word(name),
        };
        Ok(MapViewParameters {
            section: self.section(arguments)?,
            process: self.target(arguments)?,
            base: in_out(arguments, "BaseAddress")?,
            zero_bits: optional("ZeroBits")?,
            commit_size: optional("CommitSize")?,
            offset: wide(arguments, "SectionOffset")?,
            view_size: in_out(arguments, "ViewSize")?,
            inherit: optional("InheritDisposition")? as u32,
            kind: arguments.ulong("AllocationType")?,
            protection: arguments.ulong(protection)?,
        })
    }

    fn map(&mut self, arguments: &Arguments, call: MapViewOfSection) -> Result<Answer, Refusal> {
        let Outcome { status, output } = self.host.complete_call(call)?;
        let answer = Answer::returned(status);
        let Some(MappedRange { base, size, offset }) = output else { return Ok(answer) };
        let answer = answer.with("BaseAddress", base).with("ViewSize", size);
        Ok(match arguments.get("SectionOffset") {
            None | Some(Value::Nothing | Value::Pointer(Pointer::Null)) => answer,
            Some(_) => answer.with("SectionOffset", offset),
        })
    }

    fn map_view(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let parameters = self.view_parameters(arguments, "Win32Protect")?;
        let call = MapViewOfSection::new(self.caller(arguments), parameters);
        self.map(arguments, call)
    }

    fn map_view_extended(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let parameters = self.view_parameters(arguments, "PageProtection")?;
        let extended = extended(arguments)?;
        let count = arguments.ulong("ExtendedParameterCount")?.into();
        let caller = self.caller(arguments);
        let call = MapViewOfSection::extended(caller, parameters, extended.as_deref(), count);
        self.map(arguments, call)
    }

    fn map_view_of_object(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let parameters = self.view_parameters(arguments, "Protect")?;
        let call = MapViewOfSection::of_kernel(self.caller(arguments), parameters);
        self.map(arguments, call)
    }

    /// A read-only view of all of a section.
    fn map_whole(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        const VIEW_SHARE: u32 = 1;
        const PAGE_READONLY: u32 = 2;
        let zero: Captured = Ok(0);
        let parameters = MapViewParameters {
            section: self.section(arguments)?,
            process: Ok(Target::current(self.processes.current())),
            base: zero,
            zero_bits: 0,
            commit_size: 0,
            offset: Ok(None),
            view_size: zero,
            inherit: VIEW_SHARE,
            kind: 0,
            protection: PAGE_READONLY,
        };
        let call = MapViewOfSection::new(self.caller(arguments), parameters);
        self.map(arguments, call)
    }

    fn compare_files(&mut self, arguments: &Arguments) -> Result<Answer, Refusal> {
        let image = arguments.word("File1MappedAsAnImage")?;
        let file = arguments.word("File2MappedAsFile")?;
        let (caller, space) = (self.caller(arguments), self.processes.current());
        let call = AreMappedFilesTheSame::new(caller, space, image, file);
        Ok(Answer::returned(self.host.complete_call(call)?))
    }
}
