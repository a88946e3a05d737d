//! Requests that wait for room in the device's ring, in order of submission.
//!
//! Waiting requests exist only while the ring is full: whenever one leaves the ring, as many
//! waiting ones as fit take its place. So while any wait, some are with the device, and their
//! completion brings the next look at those that wait.

use alloc::collections::VecDeque;

use ntmm::NtStatus;
use virtio_drivers::transport::Transport;

use super::device::{BlockDevice, Start, Transfer};

/// Room for waiting requests that is there from the beginning; more comes from the heap.
const WAITING: usize = 64;

/// The device and the requests for it. `Token` names a request to its submitter.
pub struct Requests<T: Transport, Token> {
    device: BlockDevice<T, Token>,
    waiting: VecDeque<Transfer<Token>>,
}

impl<T: Transport, Token: Copy> Requests<T, Token> {
    /// No requests yet.
    pub fn new(device: BlockDevice<T, Token>) -> Self {
        Self { device, waiting: VecDeque::with_capacity(WAITING) }
    }

    /// Hands a transfer to the device, after those that wait. A refused one will not be handed
    /// back.
    pub fn submit(&mut self, transfer: &Transfer<Token>) -> Result<(), NtStatus> {
        if self.device.is_broken() {
            return Err(NtStatus::IO_DEVICE_ERROR);
        }
        if self.waiting.is_empty() && self.device.start(transfer) == Start::Started {
            return Ok(());
        }
        if self.waiting.try_reserve(1).is_err() {
            return Err(NtStatus::INSUFFICIENT_RESOURCES);
        }
        self.waiting.push_back(transfer.clone());
        Ok(())
    }

    /// Acknowledges an interrupt.
    pub fn interrupt(&mut self) {
        self.device.interrupt();
    }

    /// A request that is complete, and how it ended.
    pub fn take_completion(&mut self) -> Option<(Token, Result<(), NtStatus>)> {
        let completion = self.device.take_completion();
        if self.device.is_broken() {
            return completion.or_else(|| {
                let transfer = self.waiting.pop_front()?;
                Some((transfer.token(), Err(NtStatus::IO_DEVICE_ERROR)))
            });
        }
        self.start_waiting();
        completion
    }

    fn start_waiting(&mut self) {
        while let Some(transfer) = self.waiting.front()
            && self.device.start(transfer) == Start::Started
        {
            self.waiting.pop_front();
        }
    }
}
