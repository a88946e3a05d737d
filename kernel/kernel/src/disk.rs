//! The paging disk: a virtio block device that transfers straight from and to the frames.
//!
//! | Module | What |
//! |---|---|
//! | [`window`] | where the device is: words on the command line |
//! | [`device`] | the device: features, descriptor ring, what lies with the device now |
//! | [`requests`] | what waits for room in the ring |
//! | [`dma`] | memory the device reads and writes |
//!
//! Life of a request: [`Disk::submit`] turns it into a [`device::Transfer`] and, if the ring has
//! room, hands it to the device; otherwise it waits, and is handed over in order of submission as
//! completed ones leave the ring. The device moves the pages in its own time, several requests at
//! once and completes them in any order, then interrupts. [`Disk::interrupt`] only acknowledges:
//! the manager may not be called from an interrupt. Later, at DISPATCH level, the kernel calls
//! [`Disk::take_completion`] until there is none left, and tells the manager of each. A request
//! that is refused ([`Disk::submit`] returns an error) has never begun, and the caller completes
//! it with that error at once; every other one is handed back by `take_completion` exactly once.
//!
//! A completion is never overlooked: the interrupt is acknowledged before the ring is read, so
//! whatever the device adds to the ring after the last look causes another interrupt.
//!
//! Everything is under one spin lock, held with interrupts off for the few instructions that
//! touch the ring and the device's registers. The heap's lock may be taken inside it (many
//! requests waiting), no other. Nothing here blocks, and only [`Disk::find`] touches the heap
//! while few requests wait.
//!
//! A request that the device answers with an error ends with IO_DEVICE_ERROR. A device that
//! breaks the protocol, or asks to be reset, is reset, which ends its access to memory, and is
//! not used again: what was outstanding and whatever follows fails with IO_DEVICE_ERROR.

mod device;
mod dma;
mod requests;
mod window;

use core::ptr::NonNull;

use arrayvec::ArrayVec;
use ntmm::NtStatus;
use ntmm::platform::{IoToken, PagingRequest, SECTOR};
use virtio_drivers::transport::mmio::MmioTransport;

use crate::memory::{self, PAGE};
use crate::sync::SpinLock;
use device::{BlockDevice, Transfer};
use requests::Requests;
use window::{Window, windows};

/// A disk for paging. Its file is the whole disk, page 0 first.
#[derive(Debug)]
pub struct Disk {
    requests: SpinLock<Requests<MmioTransport<'static>, IoToken>>,
    pages: u64,
    irq: u8,
}

impl Disk {
    /// Starts the first block device among the `virtio_mmio.device=` words of the command line.
    ///
    /// Called once, during boot, when the direct map and the heap are there. The device may
    /// interrupt from the first request on.
    pub fn find(command_line: &str) -> Option<Self> {
        windows(command_line).find_map(Self::open)
    }

    fn open(window: Window) -> Option<Self> {
        let header = NonNull::new(memory::direct(window.address))?.cast();
        // SAFETY: the loader says that a virtio device's registers, `window.size` bytes, are at
        // this address, which is a multiple of four below 4 GiB and so in the direct map. The
        // direct map stays, and nothing else of the kernel uses these registers.
        let transport = unsafe { MmioTransport::new(header, window.size) }.ok()?;
        let device = BlockDevice::open(transport)?;
        let pages = device.pages();
        Some(Self { requests: SpinLock::new(Requests::new(device)), pages, irq: window.irq })
    }

    /// Whole pages on the disk.
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// The interrupt line of the device, an input of the I/O APIC; it is edge triggered.
    pub fn irq(&self) -> u8 {
        self.irq
    }

    /// Starts a transfer, or queues it. Called on any processor, with no lock of the kernel held,
    /// at any level below the device's.
    ///
    /// The frames belong to the transfer until [`Self::take_completion`] has handed back the
    /// token.
    ///
    /// # Errors
    /// The request was refused, nothing was transferred and the token will not be handed back:
    /// * END_OF_FILE: it reaches beyond the end of the disk.
    /// * INVALID_PARAMETER: it has no frame or more than [`CLUSTER`](ntmm::transfer::CLUSTER), not
    ///   whole frames, or does not begin at a sector.
    /// * IO_DEVICE_ERROR: the device has broken down.
    /// * INSUFFICIENT_RESOURCES: very many requests wait and the heap is exhausted.
    pub fn submit(&self, request: &PagingRequest<'_>) -> Result<(), NtStatus> {
        let end = request.offset.checked_add(request.length);
        if end.is_none_or(|end| end > self.pages * PAGE) {
            return Err(NtStatus::END_OF_FILE);
        }
        let whole = request.length == request.frames.len() as u64 * PAGE;
        if !whole || !request.offset.is_multiple_of(SECTOR) {
            return Err(NtStatus::INVALID_PARAMETER);
        }
        let frames = match ArrayVec::try_from(request.frames) {
            Ok(frames) if !frames.is_empty() => frames,
            _ => return Err(NtStatus::INVALID_PARAMETER),
        };
        // SAFETY: only the manager can make a request, because only it can make a token. It
        // submits distinct frames of the memory it was given, which lies in the direct map; they
        // stay the transfer's until it is told of the completion.
        let transfer = unsafe {
            Transfer::new(request.token, request.direction, request.offset / SECTOR, frames)
        };
        self.requests.lock().submit(&transfer)
    }

    /// Acknowledges the device's interrupt. Called in interrupt context on whichever processor
    /// got it; [`Self::take_completion`] is to be called afterwards, and has something to give
    /// unless another processor was quicker.
    pub fn interrupt(&self) {
        self.requests.lock().interrupt();
    }

    /// The next request that is complete and has not been handed back, and how it ended. Called
    /// at DISPATCH level, on one processor or several, until there is none.
    pub fn take_completion(&self) -> Option<(IoToken, Result<(), NtStatus>)> {
        self.requests.lock().take_completion()
    }
}
