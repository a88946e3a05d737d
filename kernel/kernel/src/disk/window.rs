//! Where the loader put the virtio devices: `virtio_mmio.device=SIZE@ADDRESS:IRQ` words.
//!
//! A machine without firmware tables (QEMU's microvm) tells of its devices on the kernel's
//! command line, in the form Linux reads. Words that are not of this form are passed over.

/// The word's beginning.
const WORD: &str = "virtio_mmio.device=";

/// End of the addresses at which devices are looked for: the direct map has all below.
const END: u64 = 1 << 32;

/// The registers of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Physical address, a multiple of 4. The window ends below 4 GiB.
    pub address: u64,
    /// Bytes.
    pub size: usize,
    /// Interrupt line.
    pub irq: u8,
}

/// The devices named on a command line, in its order.
pub fn windows(command_line: &str) -> impl Iterator<Item = Window> {
    command_line
        .split_ascii_whitespace()
        .filter_map(|word| word.strip_prefix(WORD))
        .filter_map(window)
}

fn window(text: &str) -> Option<Window> {
    let (size, rest) = text.split_once('@')?;
    let mut rest = rest.split(':');
    let size = number(size)?;
    let address = number(rest.next()?)?;
    let irq = number(rest.next()?)?.try_into().ok()?;
    let fits = address.checked_add(size).is_some_and(|end| end <= END);
    (fits && address % 4 == 0).then_some(Window { address, size: size as usize, irq })
}

/// A number, decimal or with `0x`.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}
