//! The serial console (COM1), and the ways out.

use core::fmt::{self, Write};

use x86_64::instructions::port::Port;

use crate::sync::SpinLock;

const DATA: u16 = 0x3F8;
const LINE_STATUS: u16 = 0x3FD;
const TRANSMITTER_EMPTY: u8 = 1 << 5;
/// QEMU's isa-debug-exit: its status becomes the value twice plus one.
const EXIT: u16 = 0xF4;

/// How the kernel ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Every program ended well.
    Good = 0x10,
    /// A program ended with a status that is an error.
    ProgramFailed = 0x11,
    /// A bug check.
    BugCheck = 0x12,
    /// The machine cannot be used.
    CannotBoot = 0x13,
    /// A word of the command line means nothing.
    BadWord = 0x14,
}

struct Console;

static CONSOLE: SpinLock<Console> = SpinLock::new(Console);

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: reading the status and writing the data register of the serial port has no
            // effect on memory.
            unsafe {
                while Port::<u8>::new(LINE_STATUS).read() & TRANSMITTER_EMPTY == 0 {}
                Port::<u8>::new(DATA).write(byte);
            }
        }
        Ok(())
    }
}

/// Writes to the console; a call's text is not broken up by another processor's.
pub fn write(text: fmt::Arguments<'_>) {
    // The console never fails.
    let _ = CONSOLE.lock().write_fmt(text);
}

/// Writes though somebody may hold the console and never give it back.
pub fn write_at_the_end(text: fmt::Arguments<'_>) {
    let _ = Console.write_fmt(text);
}

/// Writes a line to the console.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => {
        $crate::console::write(format_args!("{}\n", format_args!($($text)*)))
    };
}

/// Ends the machine.
pub fn exit(how: Exit) -> ! {
    // SAFETY: the port belongs to a device that ends QEMU.
    unsafe { Port::<u8>::new(EXIT).write(how as u8) };
    loop {
        x86_64::instructions::hlt();
    }
}
