//! Interrupt controllers: the local APIC of each processor and the one I/O APIC.
//!
//! Their registers lie where QEMU's machines have them. A processor's local number is its place in
//! [`crate::processor::ALL`].

use core::ptr;

use crate::memory::direct;

const LOCAL: u64 = 0xFEE0_0000;
const IO: u64 = 0xFEC0_0000;

const ID: u64 = 0x20;
const END_OF_INTERRUPT: u64 = 0xB0;
const SPURIOUS: u64 = 0xF0;
const COMMAND_LOW: u64 = 0x300;
const COMMAND_HIGH: u64 = 0x310;
const TIMER: u64 = 0x320;
const TIMER_INITIAL: u64 = 0x380;
const TIMER_CURRENT: u64 = 0x390;
const TIMER_DIVIDE: u64 = 0x3E0;

const ENABLED: u32 = 1 << 8;
const PERIODIC: u32 = 1 << 17;
const MASKED: u32 = 1 << 16;
const DIVIDE_BY_ONE: u32 = 0b1011;
const DELIVERY_PENDING: u32 = 1 << 12;
const INIT: u32 = 0x4500;
const STARTUP: u32 = 0x4600;

const IO_DATA: u64 = 0x10;
const IO_REDIRECTION: u32 = 0x10;

/// Ticks of the local timer in a second: QEMU's counts nanoseconds.
pub const TIMER_FREQUENCY: u64 = 1_000_000_000;

/// The local timer.
pub const TIMER_VECTOR: u8 = 0x40;
/// Another processor wants translations removed.
pub const FLUSH_VECTOR: u8 = 0x41;
/// Another processor has found something for this one to do.
pub const RESCHEDULE_VECTOR: u8 = 0x42;
/// Another processor has stopped the machine.
pub const STOP_VECTOR: u8 = 0x43;
/// Line 0 of the I/O APIC; the others follow.
pub const DEVICE_VECTOR: u8 = 0x50;
/// An interrupt that went away.
pub const SPURIOUS_VECTOR: u8 = 0xFF;

fn read(register: u64) -> u32 {
    // SAFETY: a register of the local APIC, which the direct map has uncached.
    unsafe { ptr::read_volatile(direct(LOCAL + register).cast()) }
}

fn write(register: u64, value: u32) {
    // SAFETY: a register of the local APIC; what is written to it has no effect on memory.
    unsafe { ptr::write_volatile(direct(LOCAL + register).cast(), value) };
}

fn write_io(register: u32, value: u32) {
    // SAFETY: the two registers of the I/O APIC, through which its others are reached.
    unsafe {
        ptr::write_volatile(direct(IO).cast(), register);
        ptr::write_volatile(direct(IO + IO_DATA).cast(), value);
    }
}

/// Turns this processor's local APIC on.
pub fn enable() {
    write(SPURIOUS, ENABLED | u32::from(SPURIOUS_VECTOR));
}

/// This processor's number.
pub fn number() -> usize {
    (read(ID) >> 24) as usize
}

/// Says that the interrupt has been dealt with.
pub fn end_of_interrupt() {
    write(END_OF_INTERRUPT, 0);
}

/// Lets this processor's timer interrupt every so many ticks.
pub fn start_timer(ticks: u32) {
    write(TIMER_DIVIDE, DIVIDE_BY_ONE);
    write(TIMER, PERIODIC | u32::from(TIMER_VECTOR));
    write(TIMER_INITIAL, ticks);
}

/// Waits so many ticks of the local timer, without interrupts; says how many it were.
pub fn spin(ticks: u32) -> u32 {
    write(TIMER_DIVIDE, DIVIDE_BY_ONE);
    write(TIMER, MASKED);
    write(TIMER_INITIAL, u32::MAX);
    let passed = loop {
        let passed = u32::MAX - read(TIMER_CURRENT);
        if passed >= ticks {
            break passed;
        }
        core::hint::spin_loop();
    };
    write(TIMER_INITIAL, 0);
    passed
}

fn command(processor: usize, low: u32) {
    x86_64::instructions::interrupts::without_interrupts(|| {
        while read(COMMAND_LOW) & DELIVERY_PENDING != 0 {
            core::hint::spin_loop();
        }
        write(COMMAND_HIGH, (processor as u32) << 24);
        write(COMMAND_LOW, low);
    });
}

/// Interrupts another processor.
pub fn interrupt(processor: usize, vector: u8) {
    command(processor, 0x4000 | u32::from(vector));
}

/// Starts another processor in real mode at `page * 4096`.
pub fn start_processor(processor: usize, page: u8) {
    command(processor, INIT);
    spin(10_000_000);
    for _ in 0..2 {
        command(processor, STARTUP | u32::from(page));
        spin(200_000);
    }
}

/// Sends the interrupts of a device's line to the first processor.
pub fn route(line: u8) {
    let register = IO_REDIRECTION + 2 * u32::from(line);
    write_io(register + 1, 0);
    write_io(register, u32::from(DEVICE_VECTOR + line));
}
