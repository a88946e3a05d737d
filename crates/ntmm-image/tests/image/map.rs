//! The bytes of an image that lies at its preferred base.

use ntmm_image::ImageLayout;
use ntmm_pte::Pages;

/// The image's bytes as they are in memory before relocation.
pub fn map(layout: &ImageLayout, file: &[u8]) -> Vec<u8> {
    let mut memory = Vec::new();
    for part in layout.subsections() {
        for page in 0..part.pages().get() {
            let data = part.data_of_page(Pages::new(page));
            let start = data.offset().get() as usize;
            let mut bytes = [0; 4096];
            let length = data.length().get() as usize;
            bytes[..length].copy_from_slice(&file[start..start + length]);
            layout.patch_headers(part.first_page().saturating_add(Pages::new(page)), &mut bytes);
            memory.extend(bytes);
        }
    }
    memory
}
