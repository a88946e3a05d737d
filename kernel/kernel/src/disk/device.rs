//! The block device: starting it, handing it transfers, taking them back.
//!
//! A transfer in the descriptor ring is a chain of buffers: a header that says what to do and
//! where, the frames in file order, and one byte for the device's answer. Header and answer lie
//! in an [`Envelope`]; the envelopes of all slots share one page. A slot is free, or its transfer
//! lies with the device, which is then named by the number of its first descriptor.
//!
//! The library's interrupt suppression (event index) is not used, because its comparison fails
//! when the ring's index wraps; nor are indirect descriptors, because they would be allocated
//! for each transfer.
//!
//! Virtio 1.1: initialisation 3.1.1, rings 2.6, block device 5.2.

use alloc::boxed::Box;
use core::array;
use core::slice;
use core::sync::atomic::{Ordering, fence};

use arrayvec::ArrayVec;
use ntmm::NtStatus;
use ntmm::platform::{Direction, SECTOR};
use ntmm::transfer::CLUSTER;
use ntmm_pte::Pfn;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{BufferDirection, Hal, PhysAddr};

use super::dma::DirectMap;
use crate::memory::{self, PAGE};

/// The number of the only ring.
const QUEUE: u16 = 0;
/// Descriptors in the ring: enough for seven of the longest transfers.
const DESCRIPTORS: usize = 128;
/// Transfers with the device at most.
const SLOTS: usize = 32;

const SECTORS_PER_PAGE: u64 = PAGE / SECTOR;

/// Features: the device limits the buffers of a request.
const SEGMENT_LIMIT: u64 = 1 << 2;
/// The device can flush its write cache. Nothing on a paging disk outlives the machine, so it is
/// never flushed; but a driver that does not know of flushing is given no write cache at all.
const FLUSH: u64 = 1 << 9;
/// The device follows the standard, not its drafts.
const VERSION_1: u64 = 1 << 32;

/// Offset of the disk's size in sectors, two words, in the configuration.
const CAPACITY: usize = 0;
/// Offset of the limit on buffers in a request.
const SEGMENTS: usize = 12;

/// Header: read.
const READ: u32 = 0;
/// Header: write.
const WRITE: u32 = 1;

/// Answer: done.
const DONE: u8 = 0;
/// Not an answer: stands there until the device gives one.
const UNANSWERED: u8 = 0xFF;

/// What goes around the frames of a transfer. Only its address is used: the device reads and
/// writes it while a transfer is with it.
#[repr(C, align(16))]
struct Envelope {
    /// What to do (4 bytes), 0 (4 bytes), first sector (8 bytes), all little-endian.
    header: [u8; 16],
    answer: u8,
}

const _: () = assert!(size_of::<Envelope>() * SLOTS <= PAGE as usize);

/// A transfer between frames and the disk.
#[derive(Clone)]
pub struct Transfer<Token> {
    token: Token,
    direction: Direction,
    first_sector: u64,
    frames: ArrayVec<Pfn, CLUSTER>,
}

impl<Token: Copy> Transfer<Token> {
    /// A transfer of `frames`, in order, from or to the disk at `first_sector`.
    ///
    /// # Safety
    /// The frames are distinct and in the direct map. Until the token is handed back they may be
    /// read by the device and, when reading from the disk, are written by nobody else.
    pub unsafe fn new(
        token: Token,
        direction: Direction,
        first_sector: u64,
        frames: ArrayVec<Pfn, CLUSTER>,
    ) -> Self {
        Self { token, direction, first_sector, frames }
    }

    /// Its name to the submitter.
    pub fn token(&self) -> Token {
        self.token
    }
}

/// A transfer that is with the device.
struct InFlight<Token> {
    /// Its first descriptor.
    descriptor: u16,
    transfer: Transfer<Token>,
}

/// What became of a transfer that was to be handed to the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It is with the device.
    Started,
    /// It does not fit beside what is with the device now.
    NoRoom,
}

/// Whether the device can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// It broke the protocol and has been reset.
    Broken,
}

/// A block device. `Token` names a transfer to its submitter.
///
/// The transport is dropped before the ring: that resets the device, so the ring's memory can go.
pub struct BlockDevice<T: Transport, Token> {
    transport: T,
    queue: Box<VirtQueue<DirectMap, DESCRIPTORS>>,
    /// Address of the page of envelopes.
    envelopes: PhysAddr,
    in_flight: Box<[Option<InFlight<Token>>]>,
    sectors: u64,
    state: State,
}

impl<T: Transport, Token: Copy> BlockDevice<T, Token> {
    /// Starts the device, if it is a block device that this driver can use.
    pub fn open(mut transport: T) -> Option<Self> {
        if transport.device_type() != DeviceType::Block {
            return None;
        }
        let mut status = DeviceStatus::empty();
        transport.set_status(status);
        status |= DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
        transport.set_status(status);

        let features = transport.read_device_features() & (SEGMENT_LIMIT | FLUSH | VERSION_1);
        transport.write_driver_features(features);
        status |= DeviceStatus::FEATURES_OK;
        transport.set_status(status);
        let accepted = transport.get_status().contains(DeviceStatus::FEATURES_OK);
        if !accepted || features & VERSION_1 == 0 {
            return None;
        }

        let sectors = transport
            .read_consistent(|| {
                let low = transport.read_config_space::<u32>(CAPACITY)?;
                let high = transport.read_config_space::<u32>(CAPACITY + 4)?;
                Ok(u64::from(high) << 32 | u64::from(low))
            })
            .ok()?;
        if features & SEGMENT_LIMIT != 0
            && transport.read_config_space::<u32>(SEGMENTS).ok()? < CLUSTER as u32
        {
            return None;
        }

        let queue = Box::new(VirtQueue::new(&mut transport, QUEUE, false, false).ok()?);
        let (envelopes, _) = DirectMap::dma_alloc(1, BufferDirection::Both);
        if envelopes == 0 {
            transport.set_status(DeviceStatus::empty());
            return None;
        }
        status |= DeviceStatus::DRIVER_OK;
        transport.set_status(status);
        let in_flight = (0..SLOTS).map(|_| None).collect();
        Some(Self { transport, queue, envelopes, in_flight, sectors, state: State::Running })
    }

    /// Whole pages on the disk.
    pub fn pages(&self) -> u64 {
        self.sectors / SECTORS_PER_PAGE
    }

    /// Whether the device has broken down: it takes nothing more.
    pub fn is_broken(&self) -> bool {
        self.state == State::Broken
    }

    /// Hands a transfer inside the disk to the device, which runs, if there is room.
    pub fn start(&mut self, transfer: &Transfer<Token>) -> Start {
        let Some(slot) = self.in_flight.iter().position(Option::is_none) else {
            return Start::NoRoom;
        };
        let envelope = self.envelope(slot);
        let operation = match transfer.direction {
            Direction::Read => READ,
            Direction::Write => WRITE,
        };
        let header = u128::from(operation) | u128::from(transfer.first_sector) << 64;
        // SAFETY: the slot is free, so the device does not touch its envelope, and nobody else
        // ever does.
        unsafe {
            envelope.write_volatile(Envelope { header: header.to_le_bytes(), answer: UNANSWERED });
        }
        let queue = &mut self.queue;
        let added = with_buffers(envelope, transfer, |inputs, outputs| {
            // SAFETY: `take_completion` takes the transfer back with the same buffers. Until then
            // the slot keeps the envelope, and the transfer its frames.
            unsafe { queue.add(inputs, outputs) }
        });
        let Ok(descriptor) = added else { return Start::NoRoom };
        self.in_flight[slot] = Some(InFlight { descriptor, transfer: transfer.clone() });
        // The device publishes that it wants to be notified and then looks at the ring once more;
        // here the order is the other way round, and neither may miss the other.
        fence(Ordering::SeqCst);
        if self.queue.should_notify() {
            self.transport.notify(QUEUE);
        }
        Start::Started
    }

    /// Acknowledges an interrupt, if the device has raised one.
    pub fn interrupt(&mut self) {
        let causes = self.transport.ack_interrupt();
        if causes.contains(InterruptStatus::DEVICE_CONFIGURATION_INTERRUPT)
            && self.transport.get_status().contains(DeviceStatus::DEVICE_NEEDS_RESET)
        {
            self.break_off();
        }
    }

    /// A transfer that is no longer with the device, and how it ended.
    pub fn take_completion(&mut self) -> Option<(Token, Result<(), NtStatus>)> {
        if self.state == State::Running {
            let descriptor = self.queue.peek_used()?;
            if let Some(completion) = self.finish(descriptor) {
                return Some(completion);
            }
            self.break_off();
        }
        let abandoned = self.in_flight.iter_mut().find_map(Option::take)?;
        Some((abandoned.transfer.token, Err(NtStatus::IO_DEVICE_ERROR)))
    }

    /// Takes back the transfer that begins at `descriptor`, the next used one. None when there is
    /// no such transfer.
    fn finish(&mut self, descriptor: u16) -> Option<(Token, Result<(), NtStatus>)> {
        let is_it = |place: &Option<InFlight<Token>>| {
            place.as_ref().is_some_and(|in_flight| in_flight.descriptor == descriptor)
        };
        let slot = self.in_flight.iter().position(is_it)?;
        let envelope = self.envelope(slot);
        let place = &mut self.in_flight[slot];
        let transfer = &place.as_ref()?.transfer;
        let token = transfer.token;
        let queue = &mut self.queue;
        let popped = with_buffers(envelope, transfer, |inputs, outputs| {
            // SAFETY: these are the buffers that were added when this descriptor was handed out.
            unsafe { queue.pop_used(descriptor, inputs, outputs) }
        });
        *place = None;
        // SAFETY: the slot is free again, so the device does not touch its envelope.
        let answer = unsafe { (&raw const (*envelope).answer).read_volatile() };
        let result = match (popped, answer) {
            (Ok(_), DONE) => Ok(()),
            _ => Err(NtStatus::IO_DEVICE_ERROR),
        };
        Some((token, result))
    }

    /// Resets the device for good. It touches no memory afterwards.
    fn break_off(&mut self) {
        self.state = State::Broken;
        self.transport.set_status(DeviceStatus::empty());
        while !self.transport.get_status().is_empty() {
            core::hint::spin_loop();
        }
    }

    fn envelope(&self, slot: usize) -> *mut Envelope {
        memory::direct(self.envelopes).cast::<Envelope>().wrapping_add(slot)
    }
}

/// Calls `action` with the buffers of a transfer: those the device reads, and those it writes.
///
/// The library takes slices, of which it uses only address and length. So that none of them is
/// held while the device is at work they are made here, again for each call.
fn with_buffers<Token, Outcome>(
    envelope: *mut Envelope,
    transfer: &Transfer<Token>,
    action: impl for<'a> FnOnce(&'a [&'a [u8]], &'a mut [&'a mut [u8]]) -> Outcome,
) -> Outcome {
    let count = transfer.frames.len();
    let frames = transfer.frames.iter().map(|pfn| memory::direct(u64::from(pfn.get()) * PAGE));
    // SAFETY: header and answer are parts of an envelope of this device, a frame has one page and
    // lies in the direct map; all are distinct. The slices live for this call, in which nobody
    // reads or writes through them (a program may still write, through its own mappings, what is
    // being written to the disk).
    unsafe {
        let header: &[u8] = &(*envelope).header;
        let answer = slice::from_mut(&mut (*envelope).answer);
        match transfer.direction {
            Direction::Read => {
                let mut written: [&mut [u8]; CLUSTER + 1] = array::from_fn(|_| &mut [][..]);
                for (buffer, frame) in written.iter_mut().zip(frames) {
                    *buffer = slice::from_raw_parts_mut(frame, PAGE as usize);
                }
                written[count] = answer;
                action(&[header], &mut written[..=count])
            }
            Direction::Write => {
                let mut read: [&[u8]; CLUSTER + 1] = [header; CLUSTER + 1];
                for (buffer, frame) in read[1..].iter_mut().zip(frames) {
                    *buffer = slice::from_raw_parts(frame, PAGE as usize);
                }
                action(&read[..=count], &mut [answer])
            }
        }
    }
}
