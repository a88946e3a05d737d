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
const CALLS: [(&str, &[&str]); 15] = [
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
        "VirtualAddresses" => prop::collection::vec(number().prop_map(Value::Integer), 0..3)
            .prop_map(Value::List)
            .boxed(),
        "BaseAddress" | "RegionSize" => {
            // What comes after an in/out parameter that cannot be read is looked at too.
            let pointer =
                prop::sample::select(vec![Pointer::Null, Pointer::Bad, Pointer::Misaligned]);
            let (place, size) = (place().boxed(), pages(0).boxed());
            let usual = if parameter == "BaseAddress" { place } else { size };
            prop_oneof![12 => integer(usual), 4 => integer(number().boxed()), 1 => pointer.prop_map(Value::Pointer)]
                .boxed()
        }
        "addr" | "Buffer" => integer(prop_oneof![3 => place(), 1 => number()].boxed()),
        _ => integer(prop_oneof![3 => pages(0), 1 => number()].boxed()),
    }
}

fn call() -> impl Strategy<Value = (&'static str, Vec<(&'static str, Value)>)> {
    prop::sample::select(CALLS.to_vec()).prop_flat_map(|(name, parameters)| {
        let values: Vec<_> =
            parameters.iter().map(|parameter| (Just(*parameter), value(parameter))).collect();
        (Just(name), values)
    })
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
    for (name, values) in calls {
        let mut arguments = Arguments::new(mode, width);
        for (parameter, value) in values {
            arguments.insert(parameter, value.clone());
        }
        if let Err(Refusal::Stopped(why)) = system.call(name, &arguments) {
            return Err(TestCaseError::fail(format!("{name}: {why}")));
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
        calls in prop::collection::vec(call(), 1..24),
    ) {
        survives(paging, profile, mode, &calls)?;
    }
}
