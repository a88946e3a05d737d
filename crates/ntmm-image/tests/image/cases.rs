//! The image cases that hold on real Windows: each image they build comes to the status they
//! expect of the section's creation.

use std::collections::BTreeMap;

use ntmm_image::build::{Architecture, Clr, PeBuilder, Preset, Section};
use ntmm_image::{Host, HostMachine, Profile};
use serde_json::{Map, Value};

use crate::{native, parse};

const SEC_IMAGE: u64 = 0x100_0000;

fn cases() -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../ntmm-conformance/cases.jsonl");
    let text = std::fs::read_to_string(path).expect("the cases can be read");
    text.lines().map(|line| serde_json::from_str(line).expect("a case is JSON")).collect()
}

fn number(value: &Value) -> u64 {
    match value {
        // The base of a module that is there already; any will do here.
        Value::String(text) if text == "@module(exe)" => 0x40_0000,
        value => value.as_u64().unwrap_or_else(|| panic!("{value} is a number")),
    }
}

fn section(fields: &Value) -> Section {
    let mut section = Section::default();
    for (name, value) in fields.as_object().expect("a section is an object") {
        if name == "name" {
            section.name = value.as_str().expect("a name is text").to_owned();
            continue;
        }
        let value = u32::try_from(number(value)).expect("32 bits");
        match name.as_str() {
            "VirtualSize" => section.virtual_size = value,
            "VirtualAddress" => section.virtual_address = value,
            "SizeOfRawData" => section.size_of_raw_data = value,
            "PointerToRawData" => section.pointer_to_raw_data = value,
            "Characteristics" => section.characteristics = value,
            other => panic!("unknown field {other} of a section"),
        }
    }
    section
}

fn build(args: &Map<String, Value>, architecture: Architecture) -> Vec<u8> {
    let text = |name: &str| args.get(name).and_then(Value::as_str);
    let architecture =
        text("arch").map_or(architecture, |name| Architecture::from_name(name).expect(name));
    let mut image = match text("preset") {
        Some(name) => Preset::from_name(name).expect(name).builder(),
        None => PeBuilder::new(architecture),
    };
    for (name, value) in args {
        match name.as_str() {
            "arch" | "preset" => {}
            "sections" => {
                image.sections(value.as_array().expect("a list").iter().map(section).collect());
            }
            "clr" => {
                let field = |name: &str| number(&value[name]);
                image.clr(Clr {
                    major: field("Major") as u16,
                    minor: field("Minor") as u16,
                    flags: field("Flags") as u32,
                });
            }
            name => {
                image.set(name, number(value)).unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }
    image.build()
}

/// The systems a case holds on.
fn hosts(case: &Value) -> Vec<Host> {
    let profiles: &[Profile] = match case["os"].as_str() {
        Some("any") => &[Profile::Legacy, Profile::Modern],
        other => panic!("image cases hold everywhere, not on {other:?}"),
    };
    let machines: &[HostMachine] = match case["arch"].as_str() {
        Some("any") => &[HostMachine::I386, HostMachine::Amd64],
        Some("x86") => &[HostMachine::I386],
        // A 32-bit program of a 64-bit system asks the same kernel.
        Some("x64" | "wow64") => &[HostMachine::Amd64],
        other => panic!("unknown architecture {other:?}"),
    };
    let all = machines
        .iter()
        .flat_map(|&machine| profiles.iter().map(move |&profile| Host { machine, profile }));
    all.collect()
}

fn status(value: &Value) -> Option<u32> {
    let text = value.as_str()?;
    Some(u32::from_str_radix(text.strip_prefix("0x")?, 16).expect("a status"))
}

#[test]
fn images_of_the_cases_come_to_the_statuses_they_expect() {
    let mut statuses = BTreeMap::new();
    for case in cases() {
        let id = case["id"].as_str().expect("an id");
        let setup = case["setup"].as_array().expect("a list of steps");
        let mut steps: Vec<(&str, &Map<String, Value>, &Value)> = setup
            .iter()
            .map(|step| {
                let call = step["call"].as_str().expect("a call");
                (call, step["args"].as_object().expect("arguments"), &step["status"])
            })
            .collect();
        let call = case["call"].as_str().expect("a call");
        let arguments = case["args"].as_object().expect("arguments");
        steps.push((call, arguments, &case["expect"]["status"]));
        let Some((_, image, _)) = steps.iter().find(|(call, ..)| *call == "pe.build") else {
            continue;
        };
        let creation = steps.iter().find(|(call, args, _)| {
            *call == "NtCreateSection"
                && args["AllocationAttributes"].as_u64().is_some_and(|all| all & SEC_IMAGE != 0)
        });
        let (_, _, expected) = creation.unwrap_or_else(|| panic!("{id} creates no image section"));
        let expected = status(expected).unwrap_or_else(|| panic!("{id} expects no status"));
        for host in hosts(&case) {
            let parsed = parse(host, &build(image, native(host)));
            let got = parsed.as_ref().map_or_else(|error| error.status(), |_| 0);
            assert_eq!(got, expected, "{id} on {host:?}: {:?}", parsed.err());
        }
        *statuses.entry(expected).or_insert(0) += 1;
    }
    assert!(statuses.values().sum::<u32>() >= 70, "there were image cases: {statuses:x?}");
    assert!(statuses.len() >= 5, "with several statuses: {statuses:x?}");
}
