//! NT status codes, as far as programs here meet them.

use core::fmt;

/// An NT status code (NTSTATUS).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
#[must_use]
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
    /// The service did what it was asked.
    SUCCESS = 0;
    /// A limit was clamped to the system's range.
    WORKING_SET_LIMIT_RANGE = 0x4000_0002;
    /// A guard page was touched; the guard is gone now.
    GUARD_PAGE_VIOLATION = 0x8000_0001;
    /// An address is not aligned as the instruction demands.
    DATATYPE_MISALIGNMENT = 0x8000_0002;
    /// `int3` was executed.
    BREAKPOINT = 0x8000_0003;
    /// An instruction was executed with the trap flag set.
    SINGLE_STEP = 0x8000_0004;
    /// The program gave up.
    UNSUCCESSFUL = 0xC000_0001;
    /// The system does not have this.
    NOT_IMPLEMENTED = 0xC000_0002;
    /// The class of information is unknown.
    INVALID_INFO_CLASS = 0xC000_0003;
    /// The length does not fit the class of information.
    INFO_LENGTH_MISMATCH = 0xC000_0004;
    /// The address may not be accessed this way.
    ACCESS_VIOLATION = 0xC000_0005;
    /// A page could not be read.
    IN_PAGE_ERROR = 0xC000_0006;
    /// The handle names nothing.
    INVALID_HANDLE = 0xC000_0008;
    /// A parameter is wrong.
    INVALID_PARAMETER = 0xC000_000D;
    /// No such file.
    NO_SUCH_FILE = 0xC000_000F;
    /// No address range or memory is left.
    NO_MEMORY = 0xC000_0017;
    /// The range overlaps, or does not lie inside, an allocation.
    CONFLICTING_ADDRESSES = 0xC000_0018;
    /// The range crosses the end of its allocation.
    UNABLE_TO_FREE_VM = 0xC000_001A;
    /// There is no such service.
    INVALID_SYSTEM_SERVICE = 0xC000_001C;
    /// The instruction does not exist.
    ILLEGAL_INSTRUCTION = 0xC000_001D;
    /// The buffer is too small.
    BUFFER_TOO_SMALL = 0xC000_0023;
    /// A page of the range is not committed.
    NOT_COMMITTED = 0xC000_002D;
    /// Memory did not hold what was written.
    DATA_ERROR = 0xC000_003E;
    /// The protection is not valid here.
    INVALID_PAGE_PROTECTION = 0xC000_0045;
    /// A floating-point number was divided by zero.
    FLOAT_DIVIDE_BY_ZERO = 0xC000_008E;
    /// A floating-point operation went wrong.
    FLOAT_INVALID_OPERATION = 0xC000_0090;
    /// An integer was divided by zero.
    INTEGER_DIVIDE_BY_ZERO = 0xC000_0094;
    /// A quotient does not fit.
    INTEGER_OVERFLOW = 0xC000_0095;
    /// The instruction is the kernel's alone.
    PRIVILEGED_INSTRUCTION = 0xC000_0096;
    /// The system has no memory or record left for this.
    INSUFFICIENT_RESOURCES = 0xC000_009A;
    /// The base is not the start of the allocation.
    FREE_VM_NOT_AT_BASE = 0xC000_009F;
    /// Nothing is allocated at the base.
    MEMORY_NOT_ALLOCATED = 0xC000_00A0;
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
    /// The stack cannot grow any further.
    STACK_OVERFLOW = 0xC000_00FD;
    /// The commitment limit would be exceeded.
    COMMITMENT_LIMIT = 0xC000_012D;
    /// Several floating-point exceptions at once.
    FLOAT_MULTIPLE_TRAPS = 0xC000_02B5;
}

impl NtStatus {
    /// A status from its code.
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
