//! Statuses and bug checks.
//!
//! What a caller can cause is an [`NtStatus`]. What only a corrupt manager or a broken driver
//! can cause is a [`BugCheck`] with NT's code and parameters: the machine stops.

use core::fmt;

/// An NT status code. Beside the manager's own there are names for those that a machine around it
/// gives its programs.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct NtStatus(u32);

macro_rules! statuses {
    ($($(#[$doc:meta])* $name:ident = $value:expr;)*) => {
        impl NtStatus {
            $($(#[$doc])* pub const $name: Self = Self($value);)*

            /// The name without its `STATUS_` prefix, when the code is listed here.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self.0 {
                    $($value => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

statuses! {
    /// The call did what it was asked.
    SUCCESS = 0;
    /// The name named an object already, which was opened.
    OBJECT_NAME_EXISTS = 0x4000_0000;
    /// A limit was clamped to the system's range.
    WORKING_SET_LIMIT_RANGE = 0x4000_0002;
    /// The image lies elsewhere than it wants to.
    IMAGE_NOT_AT_BASE = 0x4000_0003;
    /// The image is for another processor.
    IMAGE_MACHINE_TYPE_MISMATCH = 0x4000_000E;
    /// The range was not locked before.
    WAS_UNLOCKED = 0x4000_0017;
    /// Some of the range was locked before.
    WAS_LOCKED = 0x4000_0019;
    /// No other thread wanted to run.
    NO_YIELD_PERFORMED = 0x4000_0024;
    /// A guard page was touched; the guard is gone now.
    GUARD_PAGE_VIOLATION = 0x8000_0001;
    /// An address is not aligned as the instruction, or the call, demands.
    DATATYPE_MISALIGNMENT = 0x8000_0002;
    /// A breakpoint was executed.
    BREAKPOINT = 0x8000_0003;
    /// An instruction was executed with the trap flag set.
    SINGLE_STEP = 0x8000_0004;
    /// The buffer has room for a part only.
    BUFFER_OVERFLOW = 0x8000_0005;
    /// Only a part was copied.
    PARTIAL_COPY = 0x8000_000D;
    /// It did not work.
    UNSUCCESSFUL = 0xC000_0001;
    /// The call does not exist.
    NOT_IMPLEMENTED = 0xC000_0002;
    /// There is no such class of information.
    INVALID_INFO_CLASS = 0xC000_0003;
    /// The buffer does not have the length of the information.
    INFO_LENGTH_MISMATCH = 0xC000_0004;
    /// The address may not be accessed this way.
    ACCESS_VIOLATION = 0xC000_0005;
    /// A page could not be read; raised in the thread that touched it.
    IN_PAGE_ERROR = 0xC000_0006;
    /// The handle names nothing.
    INVALID_HANDLE = 0xC000_0008;
    /// A parameter is wrong.
    INVALID_PARAMETER = 0xC000_000D;
    /// There is no such file.
    NO_SUCH_FILE = 0xC000_000F;
    /// The end of the file was reached.
    END_OF_FILE = 0xC000_0011;
    /// No address range or memory is left.
    NO_MEMORY = 0xC000_0017;
    /// The range overlaps, or does not lie inside, an allocation.
    CONFLICTING_ADDRESSES = 0xC000_0018;
    /// The range is no view.
    NOT_MAPPED_VIEW = 0xC000_0019;
    /// The range crosses the end of its allocation.
    UNABLE_TO_FREE_VM = 0xC000_001A;
    /// The range is a view and cannot be freed this way.
    UNABLE_TO_DELETE_SECTION = 0xC000_001B;
    /// There is no such service.
    INVALID_SYSTEM_SERVICE = 0xC000_001C;
    /// The instruction does not exist.
    ILLEGAL_INSTRUCTION = 0xC000_001D;
    /// The view reaches behind the end of its section.
    INVALID_VIEW_SIZE = 0xC000_001F;
    /// The file cannot be mapped.
    INVALID_FILE_FOR_SECTION = 0xC000_0020;
    /// Memory of this kind is always committed.
    ALREADY_COMMITTED = 0xC000_0021;
    /// The handle does not grant the right.
    ACCESS_DENIED = 0xC000_0022;
    /// The buffer is too small.
    BUFFER_TOO_SMALL = 0xC000_0023;
    /// The handle names something of another kind.
    OBJECT_TYPE_MISMATCH = 0xC000_0024;
    /// The page is not locked.
    NOT_LOCKED = 0xC000_002A;
    /// A page of the range is not committed.
    NOT_COMMITTED = 0xC000_002D;
    /// The parameters contradict each other.
    INVALID_PARAMETER_MIX = 0xC000_0030;
    /// The name is no name.
    OBJECT_NAME_INVALID = 0xC000_0033;
    /// Nothing has the name.
    OBJECT_NAME_NOT_FOUND = 0xC000_0034;
    /// Something has the name already.
    OBJECT_NAME_COLLISION = 0xC000_0035;
    /// A directory on the way to a name does not exist.
    OBJECT_PATH_NOT_FOUND = 0xC000_003A;
    /// The name is no path.
    OBJECT_PATH_SYNTAX_BAD = 0xC000_003B;
    /// Data are not what they were.
    DATA_ERROR = 0xC000_003E;
    /// The section would be larger than it can be.
    SECTION_TOO_BIG = 0xC000_0040;
    /// Somebody uses the file in a way that excludes this one.
    SHARING_VIOLATION = 0xC000_0043;
    /// The protection is not valid here.
    INVALID_PAGE_PROTECTION = 0xC000_0045;
    /// The section is not of an image.
    SECTION_NOT_IMAGE = 0xC000_0049;
    /// The minimum lies above the maximum.
    BAD_WORKING_SET_LIMIT = 0xC000_004C;
    /// Memory of this kind cannot be locked.
    INCOMPATIBLE_FILE_MAP = 0xC000_004D;
    /// The section, or the view, does not allow the protection.
    SECTION_PROTECTION = 0xC000_004E;
    /// The file is locked.
    FILE_LOCK_CONFLICT = 0xC000_0054;
    /// The caller lacks a privilege.
    PRIVILEGE_NOT_HELD = 0xC000_0061;
    /// The file is no program.
    INVALID_IMAGE_FORMAT = 0xC000_007B;
    /// The disk is full.
    DISK_FULL = 0xC000_007F;
    /// The section cannot be made longer.
    SECTION_NOT_EXTENDED = 0xC000_0087;
    /// The view is not of a data file.
    NOT_MAPPED_DATA = 0xC000_0088;
    /// An index lies outside its array.
    ARRAY_BOUNDS_EXCEEDED = 0xC000_008C;
    /// A floating-point number was divided by zero.
    FLOAT_DIVIDE_BY_ZERO = 0xC000_008E;
    /// A floating-point operation means nothing.
    FLOAT_INVALID_OPERATION = 0xC000_0090;
    /// An integer was divided by zero.
    INTEGER_DIVIDE_BY_ZERO = 0xC000_0094;
    /// A result does not fit.
    INTEGER_OVERFLOW = 0xC000_0095;
    /// The instruction is the kernel's alone.
    PRIVILEGED_INSTRUCTION = 0xC000_0096;
    /// All sixteen paging files exist.
    TOO_MANY_PAGING_FILES = 0xC000_0097;
    /// The memory has no file.
    FILE_INVALID = 0xC000_0098;
    /// The manager has no frame or record left for this.
    INSUFFICIENT_RESOURCES = 0xC000_009A;
    /// The base is not the start of the allocation.
    FREE_VM_NOT_AT_BASE = 0xC000_009F;
    /// Nothing is allocated at the base.
    MEMORY_NOT_ALLOCATED = 0xC000_00A0;
    /// Locked pages may not exceed the working set minimum.
    WORKING_SET_QUOTA = 0xC000_00A1;
    /// It is not supported.
    NOT_SUPPORTED = 0xC000_00BB;
    /// The files are different ones.
    NOT_SAME_DEVICE = 0xC000_00D4;
    /// Parameter 1 is wrong.
    INVALID_PARAMETER_1 = 0xC000_00EF;
    /// Parameter 2 is wrong.
    INVALID_PARAMETER_2 = 0xC000_00F0;
    /// Parameter 3 is wrong.
    INVALID_PARAMETER_3 = 0xC000_00F1;
    /// Parameter 4 is wrong.
    INVALID_PARAMETER_4 = 0xC000_00F2;
    /// Parameter 5 is wrong.
    INVALID_PARAMETER_5 = 0xC000_00F3;
    /// Parameter 6 is wrong.
    INVALID_PARAMETER_6 = 0xC000_00F4;
    /// Parameter 7 is wrong.
    INVALID_PARAMETER_7 = 0xC000_00F5;
    /// Parameter 8 is wrong.
    INVALID_PARAMETER_8 = 0xC000_00F6;
    /// Parameter 9 is wrong.
    INVALID_PARAMETER_9 = 0xC000_00F7;
    /// The stack cannot grow further.
    STACK_OVERFLOW = 0xC000_00FD;
    /// The process is going away.
    PROCESS_IS_TERMINATING = 0xC000_010A;
    /// The image is a 16-bit one of another system.
    INVALID_IMAGE_NE_FORMAT = 0xC000_011B;
    /// The file is empty.
    MAPPED_FILE_SIZE_ZERO = 0xC000_011E;
    /// The file is mapped.
    CANNOT_DELETE = 0xC000_0121;
    /// The commitment limit would be exceeded.
    COMMITMENT_LIMIT = 0xC000_012D;
    /// The image is in the LE format.
    INVALID_IMAGE_LE_FORMAT = 0xC000_012E;
    /// The file does not begin as an image.
    INVALID_IMAGE_NOT_MZ = 0xC000_012F;
    /// The image has no header of a kind that is known.
    INVALID_IMAGE_PROTECT = 0xC000_0130;
    /// The image is for 16-bit Windows.
    INVALID_IMAGE_WIN_16 = 0xC000_0131;
    /// Nothing is allocated at the address.
    INVALID_ADDRESS = 0xC000_0141;
    /// A device failed.
    IO_DEVICE_ERROR = 0xC000_0185;
    /// The wait would never end.
    POSSIBLE_DEADLOCK = 0xC000_0194;
    /// An address or offset is not a multiple of 64 KiB.
    MAPPED_ALIGNMENT = 0xC000_0220;
    /// The file is mapped by a program.
    USER_MAPPED_FILE = 0xC000_0243;
    /// Several floating-point exceptions at once.
    FLOAT_MULTIPLE_TRAPS = 0xC000_02B5;
    /// The image is a 32-bit one.
    INVALID_IMAGE_WIN_32 = 0xC000_0359;
    /// The image is a 64-bit one.
    INVALID_IMAGE_WIN_64 = 0xC000_035A;
}

impl NtStatus {
    /// A status from its code.
    #[must_use]
    pub const fn new(code: u32) -> Self {
        Self(code)
    }

    /// The code.
    #[must_use]
    pub const fn code(self) -> u32 {
        self.0
    }

    /// Whether the status is a success or information (NT_SUCCESS).
    #[must_use]
    pub const fn is_success(self) -> bool {
        self.0 < 0x8000_0000
    }

    /// The status as a result.
    ///
    /// # Errors
    /// The status itself, when it is a warning or an error.
    pub const fn into_result(self) -> Result<(), Self> {
        if self.is_success() { Ok(()) } else { Err(self) }
    }
}

impl From<Result<(), NtStatus>> for NtStatus {
    fn from(result: Result<(), NtStatus>) -> Self {
        result.err().unwrap_or(Self::SUCCESS)
    }
}

impl fmt::Display for NtStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "STATUS_{name} (0x{:08X})", self.0),
            None => write!(f, "status 0x{:08X}", self.0),
        }
    }
}

impl fmt::Debug for NtStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl core::error::Error for NtStatus {}

/// A bug check: NT's code and four parameters (spec Appendix B).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BugCheck {
    /// Which one.
    pub code: BugCheckCode,
    /// Its parameters.
    pub parameters: [u64; 4],
}

/// Bug-check codes the manager raises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum BugCheckCode {
    /// Pageable memory touched at DISPATCH_LEVEL or above.
    IrqlNotLessOrEqual = 0x0A,
    /// An internal inconsistency; parameter 1 is the subcode.
    MemoryManagement = 0x1A,
    /// No page became available for a long time.
    NoPagesAvailable = 0x4D,
    /// A page list or PFN entry is corrupt; parameter 1 is the type.
    PfnListCorrupt = 0x4E,
}

impl fmt::Display for BugCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d] = self.parameters;
        write!(
            f,
            "bug check 0x{:X} {:?} ({a:#x}, {b:#x}, {c:#x}, {d:#x})",
            self.code as u32, self.code
        )
    }
}
