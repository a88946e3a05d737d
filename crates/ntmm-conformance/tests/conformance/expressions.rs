//! Expressions come to what arithmetic says.

use ntmm::NtStatus;
use ntmm_conformance::case::{Call, CallerMode};
use ntmm_conformance::environment::{Environment, Place};
use ntmm_conformance::expression::{Expression, Operator};
use ntmm_conformance::system::{Answer, Refusal, System};
use ntmm_conformance::value::{Arguments, Pointer, Value};
use ntmm_conformance::version::{Layout, Paging};
use proptest::prelude::*;

/// Knows the thread's stack limit and nothing else.
struct Nothing;

impl System for Nothing {
    fn call(&mut self, name: &str, arguments: &Arguments) -> Result<Answer, Refusal> {
        match (name, arguments.text("field")) {
            ("teb.read", Ok("StackLimit")) => {
                Ok(Answer::returned(NtStatus::SUCCESS).with("value", 0x7_0000_u64))
            }
            _ => Err(Refusal::Unknown(name.to_owned())),
        }
    }
}

fn call(arguments: &[(&str, Expression)]) -> Call {
    let arguments =
        arguments.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Call { name: "NtQueryVirtualMemory".to_owned(), arguments }
}

fn evaluate_in(paging: Paging, call: &Call, text: &str) -> Result<Value, Refusal> {
    let mut environment = Environment::new(Layout::new(paging), CallerMode::User);
    environment.bind("base", Value::Integer(0x5000_0000));
    environment.bind("view", Value::Integer(0x2FFF_0000));
    let expression = Expression::parse(text).expect("an expression");
    environment.evaluate(&expression, Place::argument(call), &mut Nothing)
}

fn evaluate(text: &str) -> Result<Value, Refusal> {
    evaluate_in(Paging::Amd64, &call(&[]), text)
}

fn number(text: &str) -> i128 {
    match evaluate(text) {
        Ok(Value::Integer(number)) => number,
        other => panic!("{text} comes to {other:?}"),
    }
}

#[test]
fn every_form_of_the_format_comes_to_its_value() {
    for (text, expected) in [
        ("7", 7),
        ("-1", -1),
        ("0xDEADBEEFDEADBEEF", 0xDEAD_BEEF_DEAD_BEEF),
        ("$base", 0x5000_0000),
        ("$base+0x1001", 0x5000_1001),
        ("$base+30", 0x5000_001E),
        ("@MaxAppAddress+0x1000", 0x7FF_FFFF_0FFF),
        ("@HighestUserAddress", 0x7FF_FFFE_FFFF),
        ("@LowestUserAddress", 0x1_0000),
        ("@HighestUserPage-16*0x1000", 0x7FF_FFFD_F000),
        ("@teb.StackLimit+0x2000", 0x7_2000),
        ("@zero_bits($view)", 2),
        ("@zero_bits(0)", 32),
        ("@zero_bits(0x100000000)", 0),
        ("@align_up($base+1,0x1000)", 0x5000_1000),
        ("@align_up(0x1000, 0x1000)", 0x1000),
        ("@align_up(@align_up(1,16),64)/2", 32),
        ("10-3-2", 5),
        ("2+3*4", 14),
        ("100/7/2", 7),
        (" 1 + 2 ", 3),
    ] {
        assert_eq!(number(text), expected, "{text}");
    }
}

#[test]
fn pointers_are_values() {
    for (text, pointer) in [
        ("@null", Pointer::Null),
        ("@bad", Pointer::Bad),
        ("@misaligned", Pointer::Misaligned),
        ("@out", Pointer::Good),
        ("@buf8192", Pointer::Buffer(8192)),
        ("@ulong0", Pointer::Number(0)),
    ] {
        assert_eq!(evaluate(text), Ok(Value::Pointer(pointer)), "{text}");
    }
}

#[test]
fn sizes_are_those_of_the_class_and_the_width() {
    let class = |name: &str| call(&[("MemoryInformationClass", Expression::Text(name.to_owned()))]);
    for (name, narrow, wide) in [
        ("MemoryBasicInformation", 0x1C, 0x30),
        ("MemoryRegionInformation", 0x1C, 0x30),
        ("MemoryImageInformation", 0xC, 0x18),
        ("MemoryWorkingSetExInformation", 8, 0x10),
    ] {
        let value = |paging| evaluate_in(paging, &class(name), "@sizeof-1");
        assert_eq!(value(Paging::Pae), Ok(Value::Integer(narrow - 1)), "{name}");
        assert_eq!(value(Paging::Amd64), Ok(Value::Integer(wide - 1)), "{name}");
    }
    let mut list = class("MemoryWorkingSetExInformation");
    let addresses = vec![Expression::Integer(0), Expression::Integer(1)];
    list.arguments.insert("VirtualAddresses".to_owned(), Expression::List(addresses));
    assert_eq!(evaluate_in(Paging::Amd64, &list, "@n*sizeof"), Ok(Value::Integer(0x20)));
    assert!(evaluate("@sizeof").is_err());
}

#[test]
fn what_cannot_be_computed_is_an_error() {
    for text in ["$unbound", "@nobody", "1/0", "@null+1", "@f(1)", "@align_up(1,0)", "@teb.Other"] {
        assert!(matches!(evaluate(text), Err(Refusal::Unknown(_))), "{text}");
    }
}

#[test]
fn what_is_no_expression_is_refused() {
    let deep = format!("{}1{}", "@f(".repeat(200), ")".repeat(200));
    for text in ["", "$", "@", "1+", "+1", "1 2", "(1)", "@f(", "@f(1", "@f()", "0x", "1x", &deep] {
        assert!(Expression::parse(text).is_err(), "{text}");
    }
}

#[test]
fn other_text_stays_text() {
    for text in ["MemoryBasicInformation", "rw", "", "system32\\ntdll.dll", "section[2].Name"] {
        assert_eq!(Expression::from_text(text), Ok(Expression::Text(text.to_owned())));
    }
}

/// Expressions with what they come to.
fn arithmetic() -> impl Strategy<Value = (Expression, Option<i128>)> {
    let leaf = any::<u32>().prop_map(|number| {
        let number = i128::from(number);
        (Expression::Integer(number), Some(number))
    });
    leaf.prop_recursive(4, 8, 2, |inner| {
        let operator = prop_oneof![
            Just(Operator::Add),
            Just(Operator::Subtract),
            Just(Operator::Multiply),
            Just(Operator::Divide)
        ];
        // Without parentheses only a chain to the left can be written.
        let leaf = any::<u16>();
        (inner, operator, leaf).prop_map(|((left, value), operator, right)| {
            let right = i128::from(right);
            let value = value.and_then(|value| match operator {
                Operator::Add => Some(value + right),
                Operator::Subtract => Some(value - right),
                Operator::Multiply => Some(value * right),
                Operator::Divide => (right != 0).then(|| value / right),
            });
            let right = Box::new(Expression::Integer(right));
            (Expression::Arithmetic(Box::new(left), operator, right), value)
        })
    })
}

proptest! {
    #[test]
    fn arithmetic_is_that_of_numbers((expression, expected) in arithmetic()) {
        let environment = Environment::new(Layout::new(Paging::Amd64), CallerMode::User);
        let call = call(&[]);
        let found = environment.evaluate(&expression, Place::argument(&call), &mut Nothing).ok();
        prop_assert_eq!(found, expected.map(Value::Integer));
    }

    #[test]
    fn sums_are_read_as_they_are_written(first in any::<u32>(), rest in prop::collection::vec((any::<bool>(), any::<u32>()), 0..6)) {
        let mut text = first.to_string();
        let mut expected = i128::from(first);
        for (add, number) in rest {
            text += &format!("{}{number:#x}", if add { '+' } else { '-' });
            expected += if add { i128::from(number) } else { -i128::from(number) };
        }
        prop_assert_eq!(number(&text), expected);
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in ".{0,40}") {
        let _ = Expression::from_text(&text);
    }

    #[test]
    fn aligning_up_is_the_least_multiple(number_ in 0u64..1 << 40, shift in 0u32..20) {
        let unit = 1_i128 << shift;
        let up = number(&format!("@align_up({number_},{unit})"));
        prop_assert!(up >= i128::from(number_) && up - i128::from(number_) < unit && up % unit == 0);
    }

    #[test]
    fn zero_bits_bounds_its_number(number_ in 1u64..1 << 32) {
        let bits = number(&format!("@zero_bits({number_})"));
        prop_assert!(u128::from(number_) < 1 << (32 - bits) && u128::from(number_) >= 1 << (31 - bits));
    }
}
