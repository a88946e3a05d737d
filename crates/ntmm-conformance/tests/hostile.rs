//! Whatever is passed to a call, the machine survives it: there is a status, nothing is broken
//! behind the call, and everything is given back when the processes end.

use ntmm_conformance::case::CallerMode;
use ntmm_conformance::system::{Refusal, Systems};
use ntmm_conformance::value::{Arguments, Pointer, Value};
use ntmm_conformance::version::{Paging, Profile};
use ntmm_conformance::vocabulary::MEMORY_CALLS;
use ntmm_conformance::windows::Machines;
use proptest::prelude::*;

/// The calls and their parameters.
const CALLS: [(&str, &[&str]); 22] = [
    (
        "NtAllocateVirtualMemory",
        &["ProcessHandle", "BaseAddress", "ZeroBits", "RegionSize", "AllocationType", "Protect"],
    ),
    (
        "NtAllocateVirtualMemoryEx",
        &[
            "ProcessHandle",
            "BaseAddress",
            "RegionSize",
            "AllocationType",
            "PageProtection",
            "ExtendedParameters",
            "ExtendedParameterCount",
        ],
    ),
    ("NtFreeVirtualMemory", &["ProcessHandle", "BaseAddress", "RegionSize", "FreeType"]),
    (
        "NtProtectVirtualMemory",
        &["ProcessHandle", "BaseAddress", "NumberOfBytesToProtect", "NewAccessProtection"],
    ),
    (
        "NtQueryVirtualMemory",
        &[
            "ProcessHandle",
            "BaseAddress",
            "MemoryInformationClass",
            "MemoryInformationLength",
            "VirtualAddresses",
        ],
    ),
    ("NtLockVirtualMemory", &["ProcessHandle", "BaseAddress", "NumberOfBytesToLock", "MapType"]),
    (
        "NtUnlockVirtualMemory",
        &["ProcessHandle", "BaseAddress", "NumberOfBytesToUnlock", "MapType"],
    ),
    ("NtFlushVirtualMemory", &["ProcessHandle", "BaseAddress", "RegionSize", "IoStatus"]),
    (
        "NtGetWriteWatch",
        &[
            "ProcessHandle",
            "Flags",
            "BaseAddress",
            "RegionSize",
            "UserAddressArray",
            "EntriesInUserAddressArray",
            "Granularity",
        ],
    ),
    ("NtResetWriteWatch", &["ProcessHandle", "BaseAddress", "RegionSize"]),
    ("NtClose", &["Handle"]),
    ("NtReadVirtualMemory", &["ProcessHandle", "BaseAddress", "Buffer", "Size"]),
    ("NtWriteVirtualMemory", &["ProcessHandle", "BaseAddress", "Buffer", "Size"]),
    ("NtAllocateUserPhysicalPages", &["ProcessHandle", "NumberOfPages", "UserPfnArray"]),
    ("NtFreeUserPhysicalPages", &["ProcessHandle", "NumberOfPages", "UserPfnArray"]),
    ("NtMapUserPhysicalPages", &["VirtualAddress", "NumberOfPages", "UserPfnArray"]),
    ("NtMapUserPhysicalPagesScatter", &["VirtualAddresses", "NumberOfPages", "UserPfnArray"]),
    (
        "NtSetInformationVirtualMemory",
        &[
            "ProcessHandle",
            "VmInformationClass",
            "NumberOfEntries",
            "VirtualAddresses",
            "VmInformation",
            "VmInformationLength",
        ],
    ),
    ("token.enable", &["privilege"]),
    ("token.disable", &["privilege"]),
    ("mem.read8", &["addr"]),
    ("mem.write32", &["addr", "value"]),
];

/// Numbers near which calls change their minds.
fn number() -> impl Strategy<Value = i128> {
    let edge = prop_oneof![
        Just(0_i128),
        Just(0x1_0000),
        Just(0x5000_0000),
        Just(0x5001_0000),
        Just(0x7FFE_0000),
        Just(0x7FFF_0000),
        Just(0x8000_0000),
        Just(1 << 32),
        Just(0x7FF_FFFE_0000),
        Just(0x7FF_FFFF_0000),
        Just(1 << 47),
        Just(1 << 63),
        Just(1 << 64),
    ];
    let near = prop_oneof![Just(0_i128), -2_i128..3, -0x2001_i128..0x2001];
    (edge, near).prop_map(|(edge, near)| edge + near)
}

/// Whole pages from `start` on, often so few that calls meet, and a byte more or less now and then.
fn pages(start: i128) -> impl Strategy<Value = i128> {
    let count =
        prop_oneof![4 => 0_i128..4, 2 => (0_i128..4).prop_map(|units| units * 16), 1 => 0_i128..48];
    let off = prop_oneof![6 => Just(0_i128), 1 => Just(1), 1 => Just(-1), 1 => -0x800_i128..0x800];
    (count, off).prop_map(move |(count, off)| start + count * 0x1000 + off)
}

/// An address where the calls of a case play.
fn place() -> impl Strategy<Value = i128> {
    pages(0x5000_0000)
}

/// A pointer to nothing that can be read or written.
fn pointer() -> impl Strategy<Value = Value> {
    prop::sample::select(vec![Pointer::Null, Pointer::Bad, Pointer::Misaligned])
        .prop_map(Value::Pointer)
}

/// A short list of numbers.
fn list(numbers: BoxedStrategy<i128>) -> impl Strategy<Value = Value> {
    prop::collection::vec(numbers.prop_map(Value::Integer), 0..5).prop_map(Value::List)
}

/// A value for a parameter: mostly one that a program might pass.
fn value(parameter: &str) -> BoxedStrategy<Value> {
    let integer = |strategy: BoxedStrategy<i128>| strategy.prop_map(Value::Integer).boxed();
    let bits = |choices: &'static [i128]| {
        let some = prop::collection::vec(prop::sample::select(choices), 1..3);
        let sum = some.prop_map(|bits| bits.into_iter().fold(0, |sum, bit| sum | bit));
        prop_oneof![9 => sum, 1 => number()].boxed()
    };
    match parameter {
        "ProcessHandle" => {
            integer(prop_oneof![8 => Just(-1_i128), 1 => 0_i128..12, 1 => number()].boxed())
        }
        "AllocationType" => {
            let usual = prop::sample::select(vec![
                0x1000_i128,
                0x2000,
                0x3000,
                0x8_0000,
                0x4_2000,
                0x6000,
                0x7000,
                0x20_3000,
                0x40_2000,
                0x40_2000,
            ]);
            let any = bits(&[
                0x1000,
                0x2000,
                0x4000,
                0x4_0000,
                0x8_0000,
                0x10_0000,
                0x20_0000,
                0x40_0000,
                0x100_0000,
                0x2000_0000,
            ]);
            integer(prop_oneof![3 => usual, 1 => any].boxed())
        }
        "FreeType" => {
            let usual = prop::sample::select(vec![0x4000_i128, 0x8000, 0x8001, 0x8002]);
            integer(prop_oneof![4 => usual, 1 => bits(&[0x4000, 0x8000, 1, 2])].boxed())
        }
        "Protect" | "PageProtection" | "NewAccessProtection" => {
            let usual = prop::sample::select(vec![1_i128, 1, 2, 4, 4, 0x40, 0x104]);
            let any = bits(&[1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x100, 0x200, 0x400]);
            integer(prop_oneof![3 => usual, 1 => any].boxed())
        }
        "MapType" => integer((0_i128..5).boxed()),
        "Flags" => integer(prop_oneof![6 => 0_i128..2, 1 => number()].boxed()),
        "EntriesInUserAddressArray" => {
            integer(prop_oneof![4 => Just(16_i128), 1 => 0_i128..3, 1 => number()].boxed())
        }
        "Handle" => integer((0_i128..12).boxed()),
        "IoStatus" | "UserAddressArray" | "Granularity" => {
            let pointers = vec![Pointer::Good, Pointer::Good, Pointer::Null, Pointer::Bad];
            prop::sample::select(pointers).prop_map(Value::Pointer).boxed()
        }
        "MemoryInformationClass" => integer((0_i128..12).boxed()),
        "ExtendedParameterCount" => integer(prop_oneof![3 => Just(0_i128), 1 => 0_i128..3].boxed()),
        "ExtendedParameters" => prop_oneof![
            Just(Value::Nothing),
            (number(), number(), number(), 0_i128..8).prop_map(|(low, high, alignment, kind)| {
                let field = |name: &str, number| (name.to_owned(), Value::Integer(number));
                Value::List(vec![Value::Structure(
                    [
                        field("Type", kind),
                        field("Low", low),
                        field("High", high),
                        field("Alignment", alignment),
                    ]
                    .into(),
                )])
            }),
        ]
        .boxed(),
        "VirtualAddresses" => {
            let pair = (place(), pages(0))
                .prop_map(|(at, size)| Value::List([at, size].map(Value::Integer).to_vec()));
            prop_oneof![
                2 => list(prop_oneof![3 => place(), 1 => number()].boxed()),
                1 => prop::collection::vec(pair, 0..3).prop_map(Value::List),
                1 => pointer(),
            ]
            .boxed()
        }
        "UserPfnArray" => {
            let frame = prop_oneof![12 => -8_i128..0, 1 => 0_i128..0x1000, 1 => number()];
            prop_oneof![6 => list(frame.boxed()), 1 => pointer()].boxed()
        }
        "NumberOfPages" | "NumberOfEntries" => {
            integer(prop_oneof![8 => 0_i128..4, 2 => 0_i128..0x2000, 1 => number()].boxed())
        }
        "VmInformationClass" => integer(prop_oneof![6 => Just(0_i128), 1 => number()].boxed()),
        "VmInformation" => {
            prop_oneof![3 => Just(Value::Pointer(Pointer::Number(0))), 1 => pointer()].boxed()
        }
        "VmInformationLength" => integer(prop_oneof![4 => Just(4_i128), 1 => number()].boxed()),
        "privilege" => Just(Value::Text("SeLockMemoryPrivilege".to_owned())).boxed(),
        "BaseAddress" | "RegionSize" => {
            // What comes after an in/out parameter that cannot be read is looked at too.
            let (place, size) = (place().boxed(), pages(0).boxed());
            let usual = if parameter == "BaseAddress" { place } else { size };
            prop_oneof![12 => integer(usual), 4 => integer(number().boxed()), 1 => pointer()]
                .boxed()
        }
        "addr" | "Buffer" | "VirtualAddress" => {
            integer(prop_oneof![3 => place(), 1 => number()].boxed())
        }
        _ => integer(prop_oneof![3 => pages(0), 1 => number()].boxed()),
    }
}

/// A call and the values of its parameters.
type Call = (&'static str, Vec<(&'static str, Value)>);

fn call(among: impl Fn(&str) -> bool) -> impl Strategy<Value = Call> {
    let calls: Vec<_> = CALLS.into_iter().filter(|(name, _)| among(name)).collect();
    prop::sample::select(calls).prop_flat_map(|(name, parameters)| {
        let values: Vec<_> =
            parameters.iter().map(|parameter| (Just(*parameter), value(parameter))).collect();
        (Just(name), values)
    })
}

/// A program that may lock memory, with a window and some physical pages.
fn window() -> Vec<Call> {
    let numbers = |values: &[(&'static str, i128)]| {
        values.iter().map(|&(name, number)| (name, Value::Integer(number))).collect()
    };
    let privilege = Value::Text("SeLockMemoryPrivilege".to_owned());
    let mut pages: Vec<_> = numbers(&[("ProcessHandle", -1), ("NumberOfPages", 6)]);
    pages.push(("UserPfnArray", Value::Pointer(Pointer::Good)));
    let window = [
        ("ProcessHandle", -1),
        ("BaseAddress", 0x5000_0000),
        ("ZeroBits", 0),
        ("RegionSize", 0x8000),
        ("AllocationType", 0x40_2000),
        ("Protect", 4),
    ];
    vec![
        ("token.enable", vec![("privilege", privilege)]),
        ("NtAllocateVirtualMemory", numbers(&window)),
        ("NtAllocateUserPhysicalPages", pages),
    ]
}

/// Puts pages that the machine has granted in the place of negative frame numbers.
fn name_granted(value: &Value, granted: &[Value]) -> Value {
    let named = |item: &Value| match item {
        Value::Integer(number @ ..0) if !granted.is_empty() => {
            granted[(-*number - 1) as usize % granted.len()].clone()
        }
        other => other.clone(),
    };
    match value {
        Value::List(items) => Value::List(items.iter().map(named).collect()),
        other => other.clone(),
    }
}

#[test]
fn every_memory_call_is_made() {
    for call in MEMORY_CALLS {
        assert!(CALLS.iter().any(|(name, _)| *name == call), "nobody makes {call}");
    }
}

fn survives(
    paging: Paging,
    profile: Profile,
    mode: CallerMode,
    calls: &[(&str, Vec<(&str, Value)>)],
) -> Result<(), TestCaseError> {
    let machines = Machines::new(paging, profile);
    let mut system = machines.fresh().expect("a machine");
    let width = machines.layout().width;
    let mut granted = Vec::new();
    for (name, values) in calls {
        let mut arguments = Arguments::new(mode, width);
        for (parameter, value) in values {
            arguments.insert(parameter, name_granted(value, &granted));
        }
        match system.call(name, &arguments) {
            Err(Refusal::Stopped(why)) => {
                return Err(TestCaseError::fail(format!("{name}: {why}")));
            }
            Ok(answer) => {
                if let Some(Value::List(pages)) = answer.outputs.get("UserPfnArray") {
                    granted.extend(pages.iter().take(4).cloned());
                }
            }
            Err(_) => {}
        }
    }
    system.finish().map_err(|why| TestCaseError::fail(why.to_string()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn every_machine_survives(
        paging in prop::sample::select(Paging::ALL.to_vec()),
        profile in prop::sample::select(Profile::ALL.to_vec()),
        mode in prop::sample::select(vec![CallerMode::User, CallerMode::Kernel]),
        calls in prop::collection::vec(call(|_| true), 1..24),
    ) {
        survives(paging, profile, mode, &calls)?;
    }

    #[test]
    fn windows_and_physical_pages_survive(
        paging in prop::sample::select(Paging::ALL.to_vec()),
        calls in prop::collection::vec(
            call(|name| {
                name.contains("UserPhysical")
                    || name.starts_with("mem.")
                    || ["NtFreeVirtualMemory", "NtAllocateVirtualMemory"].contains(&name)
            }),
            1..24,
        ),
    ) {
        let calls: Vec<_> = window().into_iter().chain(calls).collect();
        survives(paging, Profile::Legacy, CallerMode::User, &calls)?;
    }
}
