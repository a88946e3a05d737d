//! Files become layouts, or the status NT gives for them.

mod cases;
mod checks;
mod contents;
mod examine;
mod hostile;
mod information;
mod map;
mod relocations;

use map::map;
use ntmm_image::build::{Architecture, PeBuilder};
use ntmm_image::{Host, HostMachine, ImageError, ImageLayout, ParseError, Profile};

/// A 32-bit system of the old kind, and a 64-bit system of the new.
const I386: Host = Host { machine: HostMachine::I386, profile: Profile::Legacy };
const AMD64: Host = Host { machine: HostMachine::Amd64, profile: Profile::Modern };

/// Every system there is.
const HOSTS: [Host; 4] = [
    I386,
    Host { machine: HostMachine::I386, profile: Profile::Modern },
    Host { machine: HostMachine::Amd64, profile: Profile::Legacy },
    AMD64,
];

/// What runs on a system as it is.
fn native(host: Host) -> Architecture {
    match host.machine {
        HostMachine::I386 => Architecture::I386,
        HostMachine::Amd64 => Architecture::Amd64,
    }
}

/// The default image for a system, with some fields overridden.
fn image(architecture: Architecture, fields: &[(&str, u64)]) -> PeBuilder {
    let mut image = PeBuilder::new(architecture);
    for (name, value) in fields {
        image.set(name, *value).expect("the field exists");
    }
    image
}

/// Parses a file that can always be read.
fn parse(host: Host, file: &[u8]) -> Result<ImageLayout, ImageError> {
    let parsed = ImageLayout::parse(file.len() as u64, host, |offset, buffer| {
        let start = usize::try_from(offset).expect("inside the file");
        buffer.copy_from_slice(&file[start..start + buffer.len()]);
        Ok::<(), std::convert::Infallible>(())
    });
    parsed.map_err(|error| match error {
        ParseError::Image(error) => error,
        ParseError::Read(never) => match never {},
    })
}
