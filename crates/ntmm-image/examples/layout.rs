//! Prints what NT makes of PE files: `layout FILE...`.

use ntmm_image::{
    Host, HostMachine, ImageLayout, ParseError, Profile, RelocationTable, Subsection,
};

#[path = "../tests/image/map.rs"]
mod mapping;

fn parse(file: &[u8], host: Host) -> Result<ImageLayout, ParseError<&'static str>> {
    ImageLayout::parse(file.len() as u64, host, |offset, buffer| {
        let rest = usize::try_from(offset).ok().and_then(|offset| file.get(offset..));
        let bytes = rest.and_then(|rest| rest.get(..buffer.len())).ok_or("outside the file")?;
        buffer.copy_from_slice(bytes);
        Ok(())
    })
}

fn print_part(part: &Subsection) {
    println!(
        "    page {:#6x}  {:#6x} pages ({:#x} unused)  file {:#9x} + {:#9x}  {:?}  {:?}",
        part.first_page().get(),
        part.pages().get(),
        part.unused_pages().get(),
        part.data().offset().get(),
        part.data().length().get(),
        part.protection(),
        part.sharing(),
    );
}

fn print(layout: &ImageLayout, file: &[u8]) {
    let information = layout.information();
    println!(
        "    {:?} {:?} base {:#x}, {:#x} pages, commitment {:#x}, entry {:#x}, machine {:#x}, \
         subsystem {} flags {:?}",
        layout.format(),
        layout.mapping(),
        layout.base().get(),
        layout.pages().get(),
        layout.commitment().get(),
        information.transfer_address,
        information.machine,
        information.subsystem,
        information.flags,
    );
    layout.subsections().iter().for_each(print_part);
    let Some(directory) = layout.relocations() else {
        println!("    no relocations, movable: {}", layout.is_movable());
        return;
    };
    let memory = mapping::map(layout, file);
    let table = RelocationTable::survey(directory, layout.pages(), |rva, buffer| {
        buffer.copy_from_slice(&memory[rva as usize..][..buffer.len()]);
        Ok::<(), ()>(())
    });
    println!("    relocations {directory:x?}: {table:x?}");
}

fn main() {
    for path in std::env::args().skip(1) {
        let file = std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        println!("{path}: {} bytes", file.len());
        for machine in [HostMachine::I386, HostMachine::Amd64] {
            for profile in [Profile::Legacy, Profile::Modern] {
                match parse(&file, Host { machine, profile }) {
                    Ok(layout) => {
                        println!("  {machine:?} {profile:?}: an image");
                        print(&layout, &file);
                    }
                    Err(ParseError::Image(error)) => {
                        println!("  {machine:?} {profile:?}: {:#010X}, {error}", error.status())
                    }
                    Err(error) => println!("  {machine:?} {profile:?}: {error}"),
                }
            }
        }
    }
}
