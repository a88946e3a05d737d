//! The manager's background engines, each a kernel thread (MiModifiedPageWriter, the balance set
//! manager, MmZeroPageThread).
//!
//! A thread takes the request for its engine and steps it until it is idle, then parks until the
//! next request. A request that comes in between is not lost: it is looked at before parking.

use ntmm::platform::Engine;
use ntmm::platform::EngineStep;

use crate::kernel;
use crate::scheduler::{self, Priority};

/// Starts the threads of all engines.
pub fn start() {
    for engine in Engine::ALL {
        let priority = match engine {
            Engine::Zeroing => Priority::Low,
            Engine::Dereference => Priority::Normal,
            Engine::ModifiedWriter | Engine::Balance | Engine::Retire => Priority::High,
        };
        scheduler::spawn(priority, None, run, engine as u64).expect("there are places for threads");
    }
}

extern "C" fn run(number: u64) -> ! {
    let engine = Engine::ALL[number as usize];
    loop {
        scheduler::take_request(engine);
        while kernel().manager.step_engine(engine) == EngineStep::Worked {}
        scheduler::wait_for_work(engine);
    }
}
