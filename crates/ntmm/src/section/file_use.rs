//! What file systems ask before they change a file that may be mapped (API 16).

use super::control_area::ControlAreaId;
use crate::manager::Manager;
use crate::platform::{FileId, Platform};
use crate::status::NtStatus;

impl<P: Platform> Manager<P> {
    /// Whether a file may be made shorter: not while a program has a section or a view of its
    /// data (MmCanFileBeTruncated).
    ///
    /// # Errors
    /// [`NtStatus::USER_MAPPED_FILE`].
    pub fn check_truncation(&self, file: FileId) -> Result<(), NtStatus> {
        let mut entry = self.enter();
        let sections = self.lock_sections(entry.token());
        let used = |id: ControlAreaId| self.control_area(id).user_references() > 0;
        match sections.find_area(file).is_some_and(used) {
            true => Err(NtStatus::USER_MAPPED_FILE),
            false => Ok(()),
        }
    }
}
