//! The Win32 error of a status (spec API 1.5).
//!
//! Some facts were seen through Win32 only; a case then accepts any status with the same error.

use ntmm::NtStatus;

const INVALID_PARAMETER: u32 = 87;
const INVALID_ADDRESS: u32 = 487;
const BAD_EXE_FORMAT: u32 = 193;

/// The Win32 error that a status maps to; none for those that no case needs.
#[must_use]
pub const fn error_of(status: NtStatus) -> Option<u32> {
    Some(match status.code() {
        0 => 0,
        0xC000_000D | 0xC000_00EF..=0xC000_00FA => INVALID_PARAMETER,
        0xC000_001A | 0xC000_001B | 0xC000_0045 | 0xC000_004E => INVALID_PARAMETER,
        0xC000_0018 | 0xC000_0019 | 0xC000_002D | 0xC000_009F | 0xC000_00A0 | 0xC000_0141 => {
            INVALID_ADDRESS
        }
        0xC000_0021 | 0xC000_0022 | 0xC000_0121 => 5,
        0xC000_0008 => 6,
        0xC000_0017 => 8,
        0xC000_0043 => 32,
        0xC000_0005 => 998,
        0xC000_002A => 158,
        0x8000_000D => 299,
        0xC000_011E => 1006,
        0xC000_0220 => 1132,
        0xC000_0243 => 1224,
        0xC000_0061 => 1314,
        0xC000_00A1 => 1453,
        0xC000_012D => 1455,
        0xC000_0020 | 0xC000_007B => BAD_EXE_FORMAT,
        0xC000_011B | 0xC000_012E..=0xC000_0131 | 0xC000_0359 | 0xC000_035A => BAD_EXE_FORMAT,
        _ => return None,
    })
}
