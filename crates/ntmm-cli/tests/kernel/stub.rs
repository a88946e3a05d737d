//! The least kernel there can be: it prints a text and ends. It is made of bytes by hand, so that
//! the tests of the emulator need nothing but QEMU.

use std::fs;
use std::path::{Path, PathBuf};

/// How a stub ends.
#[derive(Clone, Copy)]
pub enum End {
    /// It writes a number to QEMU's exit port.
    Exit(u8),
    /// It loops.
    Hang,
    /// It faults, without anything that could handle a fault.
    Fault,
}

/// Where the image lies in memory and begins to run.
const BASE: u32 = 0x10_0000;

/// Sizes of an ELF-64 header, a program header and the note.
const HEADER: usize = 64;
const SEGMENT: usize = 56;
const NOTE: usize = 24;

/// Writes the image of a kernel that prints `text`.
pub fn write(directory: &Path, text: &str, end: End) -> PathBuf {
    let path = directory.join("stub");
    fs::write(&path, image(text, end)).expect("temporary files can be written");
    path
}

/// An ELF file with one segment to load and the note that tells QEMU where to enter it.
fn image(text: &str, end: End) -> Vec<u8> {
    let before = HEADER + 2 * SEGMENT;
    let entry = BASE + (before + NOTE) as u32;
    let code = code(text, end, entry);
    let size = before + NOTE + code.len();
    let mut image = header(entry);
    image.extend(segment(1, 0, size));
    image.extend(segment(4, before, NOTE));
    image.extend(note(entry));
    image.extend(code);
    image
}

fn header(entry: u32) -> Vec<u8> {
    let mut header = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    // An executable for x86-64, version 1.
    header.extend([2, 0, 62, 0, 1, 0, 0, 0]);
    // Where it begins; where the program headers are; no sections.
    for word in [u64::from(entry), HEADER as u64, 0] {
        header.extend(word.to_le_bytes());
    }
    header.extend([0; 4]);
    for half in [HEADER as u16, SEGMENT as u16, 2, 0, 0, 0] {
        header.extend(half.to_le_bytes());
    }
    header
}

fn segment(kind: u32, offset: usize, size: usize) -> Vec<u8> {
    let everything_allowed = 7_u32;
    let mut segment = [kind.to_le_bytes(), everything_allowed.to_le_bytes()].concat();
    let address = u64::from(BASE) + offset as u64;
    for word in [offset as u64, address, address, size as u64, size as u64, 4] {
        segment.extend(word.to_le_bytes());
    }
    segment
}

/// The note of Xen's that says where 32-bit code begins.
fn note(entry: u32) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [4_u32, 8, 18] {
        note.extend(word.to_le_bytes());
    }
    note.extend(b"Xen\0");
    note.extend(u64::from(entry).to_le_bytes());
    note
}

/// Machine code at `entry`, and the text after it.
fn code(text: &str, end: End, entry: u32) -> Vec<u8> {
    let end: &[u8] = match end {
        // mov al, n; out 0xf4, al
        End::Exit(number) => &[0xB0, number, 0xE6, 0xF4],
        // jmp to itself
        End::Hang => &[0xEB, 0xFE],
        // ud2
        End::Fault => &[0x0F, 0x0B],
    };
    let before_end = 17;
    let text_address = entry + before_end + end.len() as u32;
    // mov dx, 0x3f8; mov esi, text; mov ecx, length; cld; rep outsb
    let mut code = vec![0x66, 0xBA, 0xF8, 0x03, 0xBE];
    code.extend(text_address.to_le_bytes());
    code.push(0xB9);
    code.extend((text.len() as u32).to_le_bytes());
    code.extend([0xFC, 0xF3, 0x6E]);
    code.extend(end);
    code.extend(text.as_bytes());
    code
}
