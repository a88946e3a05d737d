//! The two ways into the kernel.
//!
//! Both take the service number in `eax` and up to six arguments in `rdi`, `rsi`, `rdx`, `r10`,
//! `r8` and `r9`, and return the status in `rax`. As in a function call all registers are lost but
//! those that a function keeps. `syscall` is the quick way, `int 0x2e` NT's old one.

use crate::NtStatus;

/// Makes a service by instruction `$gate`, loading only the registers it has arguments for.
macro_rules! enter {
    ($gate:literal, $number:expr $(, $register:tt = $value:expr)*) => {{
        let status: u64;
        core::arch::asm!(
            $gate,
            inlateout("rax") u64::from($number) => status,
            $(inlateout($register) $crate::gate::Argument::register($value) => _,)*
            clobber_abi("sysv64"),
            options(nostack),
        );
        $crate::NtStatus::new(status as u32)
    }};
}

/// Makes a service by `syscall`, with the arguments it has.
macro_rules! call {
    ($number:expr) => {
        $crate::gate::enter!("syscall", $number)
    };
    ($number:expr, $a:expr) => {
        $crate::gate::enter!("syscall", $number, "rdi" = $a)
    };
    ($number:expr, $a:expr, $b:expr) => {
        $crate::gate::enter!("syscall", $number, "rdi" = $a, "rsi" = $b)
    };
    ($number:expr, $a:expr, $b:expr, $c:expr) => {
        $crate::gate::enter!("syscall", $number, "rdi" = $a, "rsi" = $b, "rdx" = $c)
    };
    ($number:expr, $a:expr, $b:expr, $c:expr, $d:expr) => {
        $crate::gate::enter!("syscall", $number, "rdi" = $a, "rsi" = $b, "rdx" = $c, "r10" = $d)
    };
    ($number:expr, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => {
        $crate::gate::enter!(
            "syscall",
            $number,
            "rdi" = $a,
            "rsi" = $b,
            "rdx" = $c,
            "r10" = $d,
            "r8" = $e
        )
    };
    ($number:expr, $a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr) => {
        $crate::gate::enter!(
            "syscall",
            $number,
            "rdi" = $a,
            "rsi" = $b,
            "rdx" = $c,
            "r10" = $d,
            "r8" = $e,
            "r9" = $f
        )
    };
}

pub(crate) use {call, enter};

/// What can be passed in a register.
pub(crate) trait Argument {
    /// As the register holds it.
    fn register(self) -> u64;
}

impl Argument for u64 {
    fn register(self) -> u64 {
        self
    }
}

impl Argument for u32 {
    fn register(self) -> u64 {
        u64::from(self)
    }
}

impl Argument for NtStatus {
    fn register(self) -> u64 {
        u64::from(self.code())
    }
}

impl Argument for crate::structures::Handle {
    fn register(self) -> u64 {
        self.0.cast_unsigned()
    }
}

impl<T> Argument for *const T {
    fn register(self) -> u64 {
        self.expose_provenance() as u64
    }
}

impl<T> Argument for *mut T {
    fn register(self) -> u64 {
        self.expose_provenance() as u64
    }
}

/// Makes service `number` by `syscall` with six arguments, whatever they are.
///
/// # Safety
/// The service, given these arguments, must do nothing to memory that anything else in the
/// program relies on.
pub unsafe fn system_call(number: u32, arguments: [u64; 6]) -> NtStatus {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the caller answers for what the service does; the gate itself changes registers as a
    // function does.
    unsafe { call!(number, a, b, c, d, e, f) }
}

/// Makes service `number` by `int 0x2e` with six arguments, whatever they are.
///
/// # Safety
/// As of [`system_call`].
pub unsafe fn interrupt(number: u32, arguments: [u64; 6]) -> NtStatus {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: as in `system_call`.
    unsafe {
        enter!("int 0x2e", number, "rdi" = a, "rsi" = b, "rdx" = c, "r10" = d, "r8" = e, "r9" = f)
    }
}
