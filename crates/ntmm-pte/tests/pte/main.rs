//! Tests of the words, one module per concern. Expected values come from the
//! specification's tables by hand or from the plain reference in [`reference`], never
//! from the crate's own constants.

mod address;
mod classify;
mod constructors;
mod hand_words;
mod layout;
mod protection;
mod reference;
mod round_trip;
mod self_map;
mod strategies;

/// Runs a generic check, `fn check<M: PagingMode>()`, once in each paging mode.
#[macro_export]
macro_rules! in_every_mode {
    ($($name:ident => $check:ident;)*) => {$(
        mod $name {
            #[test]
            fn i386() {
                super::$check::<ntmm_pte::I386>();
            }
            #[test]
            fn pae() {
                super::$check::<ntmm_pte::Pae>();
            }
            #[test]
            fn amd64() {
                super::$check::<ntmm_pte::Amd64>();
            }
        }
    )*};
}
