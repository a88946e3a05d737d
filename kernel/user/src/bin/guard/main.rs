//! Guard pages and access violations, each handled and gone on from.
//!
//! No arguments. Every case makes one access that must raise, with a handler that knows how to
//! mend it, and checks: that the exception came once, with the right code, kind of access and
//! address; that the access was made after all, once it was mended; that nothing else changed,
//! registers included. Ends with success only when all of that was so.
#![no_std]
#![no_main]

mod handler;
mod registers;
mod violations;

use ntmm_user::findings::Findings;
use ntmm_user::{Arguments, NtStatus};

ntmm_user::entry!(main);

fn main(arguments: Arguments<'_>) -> NtStatus {
    let mut findings = Findings::new("guard");
    let ended = arguments.only(&[]).and_then(|()| run(&mut findings));
    findings.conclude(ended)
}

fn run(findings: &mut Findings) -> Result<(), NtStatus> {
    handler::install()?;
    violations::guard_pages(findings)?;
    violations::guard_page_in_a_service(findings)?;
    violations::no_access(findings)?;
    violations::read_only(findings)?;
    violations::no_execute(findings)?;
    violations::not_committed(findings)?;
    violations::across_two_pages(findings)?;
    violations::nobodys_addresses(findings)?;
    violations::inside_a_handler(findings)?;
    registers::survive(findings)?;
    registers::string_copy_goes_on(findings)
}
