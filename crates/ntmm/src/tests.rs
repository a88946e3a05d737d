//! Tests that look inside: each states a rule of the manager and runs in the three paging modes.

mod audit;
mod host;
mod machine;

/// Makes each function a test in every paging mode: `name::i386`, `name::pae`, `name::amd64`.
macro_rules! in_every_mode {
    ($($(#[$attribute:meta])* fn $name:ident<$mode:ident>() $body:block)*) => {$(
        mod $name {
            use super::*;

            fn run<$mode: ntmm_pte::PagingMode>() $body

            $(#[$attribute])*
            #[test]
            fn i386() {
                run::<ntmm_pte::I386>();
            }

            $(#[$attribute])*
            #[test]
            fn pae() {
                run::<ntmm_pte::Pae>();
            }

            $(#[$attribute])*
            #[test]
            fn amd64() {
                run::<ntmm_pte::Amd64>();
            }
        }
    )*};
}

mod abandoned_calls;
mod address_spaces;
mod allocating;
mod faults;
mod freeing;
mod hard_faults;
mod images;
mod lists;
mod mapped_files;
mod memory_at_run_time;
mod nt;
mod page_tables;
mod paging_files;
mod protecting;
mod resetting;
mod sections;
mod securing;
mod stacks;
mod transitions;
mod violations;
mod working_set_hash;
mod working_sets;
