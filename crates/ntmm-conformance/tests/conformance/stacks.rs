//! The stack of the calling thread: it grows, it overflows, and guards of the thread's own making
//! end it (spec API 3.5 and 6).

use ntmm_conformance::{Options, Outcome, Paging, Profile, read, run};

/// A case, by its steps and its call as JSON, and the outputs that are expected of a success.
fn case(setup: &str, call: &str, args: &str, expect: &str) -> String {
    format!(
        r#"{{"id":"s","source":"","api":"stack","arch":"any","os":"any","mode":"user","setup":[{setup}],"call":"{call}","args":{{{args}}},"expect":{expect},"notes":""}}"#
    )
}

/// Runs a case in every paging mode of a profile.
#[track_caller]
fn passes(profile: Profile, modes: &[Paging], text: &str) {
    for &paging in modes {
        let options = Options { paging, profile, filter: None };
        let report = run(&read(text).expect("a case"), &options);
        assert_eq!(report.cases[0].outcome, Outcome::Passed, "{paging}, {profile}");
    }
}

#[track_caller]
fn passes_everywhere(text: &str) {
    Profile::ALL.into_iter().for_each(|profile| passes(profile, &Paging::ALL, text));
}

const GROW: &str = r#"{"call":"thread.grow_stack","args":{"bytes":32768},"status":"0x00000000"}"#;
const OVERFLOW: &str = r#"{"call":"stack.overflow","args":{},"status":"0xC00000FD"}"#;

#[test]
fn touching_the_guard_lets_the_stack_grow() {
    let outputs = r#"{"status":"0x00000000","outputs":{"teb.StackLimit":"@teb.StackBase-0x3000"}}"#;
    let below = r#""addr":"@teb.StackLimit-0x10""#;
    passes_everywhere(&case("", "mem.read8", below, outputs));
    let outputs = r#"{"status":"0x00000000","outputs":{"teb.StackLimit":"@teb.StackBase-0x9000"}}"#;
    passes_everywhere(&case("", "thread.grow_stack", r#""bytes":32768"#, outputs));
}

#[test]
fn kernel_grows_the_stack_it_writes_to() {
    let buffer = r#""addr":"@teb.StackLimit-0x1000","size":8192"#;
    let outputs = r#"{"status":"0x00000000","outputs":{"teb.StackLimit":"@teb.StackBase-0x3000"}}"#;
    passes_everywhere(&case("", "io.read_file_into", buffer, outputs));
}

#[test]
fn recursion_without_end_is_a_stack_overflow() {
    let ends_at = |page: &str| {
        let limit = r#""teb.StackLimit":"@teb.DeallocationStack+0x1000""#;
        let fault = format!(
            r#""address":{{"ge":"@teb.DeallocationStack+{page}-0x1000","lt":"@teb.DeallocationStack+{page}"}}"#
        );
        format!(r#"{{"status":"0xC00000FD","raised":true,"outputs":{{{limit},{fault}}}}}"#)
    };
    for profile in Profile::ALL {
        let narrow = case("", "stack.overflow", "", &ends_at("0x3000"));
        passes(profile, &[Paging::I386, Paging::Pae], &narrow);
        let wide = case("", "stack.overflow", "", &ends_at("0x4000"));
        passes(profile, &[Paging::Amd64], &wide);
    }
}

#[test]
fn pages_are_kept_for_the_handler_of_an_overflow_and_the_lowest_is_not() {
    let success = r#"{"status":"0x00000000","outputs":{}}"#;
    let violation = r#"{"status":"0xC0000005","raised":true,"outputs":{}}"#;
    let write = |address| format!(r#""addr":"{address}","value":1"#);
    let kept = write("@teb.DeallocationStack+0x1000");
    passes_everywhere(&case(OVERFLOW, "mem.write8", &kept, success));
    let lowest = write("@teb.DeallocationStack+0xFFF");
    passes_everywhere(&case(OVERFLOW, "mem.write8", &lowest, violation));
}

#[test]
fn guard_in_the_stack_ends_it_on_newer_windows() {
    let protect = r#""ProcessHandle":-1,"BaseAddress":"@teb.StackLimit+0x2000","NumberOfBytesToProtect":4096,"NewAccessProtection":260"#;
    let commit = r#""ProcessHandle":-1,"BaseAddress":"@teb.StackLimit+0x2000","ZeroBits":0,"RegionSize":4096,"AllocationType":4096,"Protect":260"#;
    let moved = r#"{"status":"0x00000000","outputs":{"teb.StackLimit":"@arg.BaseAddress+0x1000"}}"#;
    let stays = r#"{"status":"0x00000000","outputs":{"teb.StackLimit":"@teb.StackBase-0x9000"}}"#;
    for (call, args) in [("NtProtectVirtualMemory", protect), ("NtAllocateVirtualMemory", commit)] {
        passes(Profile::Modern, &Paging::ALL, &case(GROW, call, args, moved));
        passes(Profile::Legacy, &Paging::ALL, &case(GROW, call, args, stays));
    }
}

#[test]
fn guards_elsewhere_are_not_the_stacks() {
    let setup = format!(
        r#"{GROW},{{"call":"NtAllocateVirtualMemory","args":{{"ProcessHandle":-1,"BaseAddress":0,"ZeroBits":0,"RegionSize":4096,"AllocationType":12288,"Protect":260}},"status":"0x00000000","bind":{{"BaseAddress":"$base"}}}}"#
    );
    let raised = r#"{"status":"0x80000001","raised":true,"outputs":{"address":"$base+0x10"}}"#;
    passes_everywhere(&case(&setup, "mem.read8", r#""addr":"$base+0x10""#, raised));
}
