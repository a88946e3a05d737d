//! Exact instruction counts: every operation has one, and the program itself insists that two
//! boots give the same.

use std::process::Command;

use crate::common::{argument, kernel, outcome, qemu_is_here};

#[test]
fn operations_have_exact_counts() {
    if !qemu_is_here() {
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_ntmm"));
    command.args(["bench", "kernel", "--no-linux", "--json", "--kernel", argument(kernel())]);
    let json = outcome(&mut command).json(0);
    let operations = json["operations"].as_array().expect("a list");
    let count = |name: &str| {
        let operation = operations.iter().find(|operation| operation["name"] == name);
        operation.and_then(|operation| operation["ntmm"].as_u64()).expect("a count")
    };
    for operation in operations {
        assert!(operation["linux"].is_null() && operation["ratio"].is_null(), "{operation}");
    }
    // Zeroing a page is 512 instructions and a few more, which a page that is zeroed needs not.
    let zeroing = count("demand_zero_fault") - count("demand_zero_fault_zeroed");
    assert!((512..700).contains(&zeroing), "{zeroing}");
    assert!(count("null_system_call") < count("null_system_call_interrupt"));
    for name in ["transition_fault", "page_file_fault", "protect_page", "decommit_page"] {
        assert!(count(name) > 0, "{name}");
    }
}
