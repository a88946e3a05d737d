//! The auditors on small machines: silent through everything the manager does, in every paging
//! mode, and loud when a single word of its records is wrong.

mod large_pages;
mod machine;
mod mutations;
mod random;
mod sample;
mod scenarios;
mod sections;
