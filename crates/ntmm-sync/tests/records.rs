//! Records: fields that share a word do not touch each other, and the declaration is the list a
//! debugger reads memory with.
#![cfg(not(loom))]

use ntmm_sync::atomic::{AtomicU64, Ordering};
use ntmm_sync::frame::{FrameWords, WORDS_PER_FRAME, WordIndex, word};
use ntmm_sync::record::{FieldInfo, View};

ntmm_sync::record! {
    /// Fields of every width, two words.
    record Sample [2] {
        /// A flag in the lowest bit.
        low, set_low: u8 = 0, 0, 1;
        /// In the middle of the first word.
        middle, set_middle: u64 = 0, 1, 51;
        /// Up to the highest bit.
        high, set_high: u16 = 0, 52, 12;
        /// A word of its own.
        whole, set_whole: u64 = 1, 0, 64;
    }
}

fn frame() -> FrameWords {
    std::array::from_fn(|_| AtomicU64::new(0))
}

#[test]
fn every_field_keeps_its_value_while_the_others_change() {
    let frame = frame();
    let sample = Sample::new(&frame, 5);
    for values in [[1, u64::MAX >> 13, 0xFFF, u64::MAX], [0, 5, 0xABC, 7], [1, 0, 0, 0]] {
        sample.set_low(values[0] as u8);
        sample.set_middle(values[1]);
        sample.set_high(values[2] as u16);
        sample.set_whole(values[3]);
        let read = [sample.low().into(), sample.middle(), sample.high().into(), sample.whole()];
        assert_eq!(read, values);
    }
}

#[test]
fn value_too_wide_is_cut_to_its_field() {
    let frame = frame();
    let sample = Sample::new(&frame, 0);
    sample.set_high(0xFABC);
    assert_eq!((sample.high(), sample.middle(), sample.low()), (0xABC, 0, 0));
    assert_eq!(sample.view().word(0).load(Ordering::Relaxed), 0xABC << 52);
}

#[test]
fn fields_are_listed_as_declared_and_cover_no_bit_twice() {
    let names: Vec<_> = Sample::FIELDS.iter().map(|field| field.name).collect();
    assert_eq!(names, ["low", "middle", "high", "whole"]);
    for word in 0..2 {
        let of_word = || Sample::FIELDS.iter().filter(|field| field.word == word);
        let bits: u32 = of_word().map(|field| field.mask().count_ones()).sum();
        let together = of_word().fold(0, |mask, field| mask | field.mask());
        assert_eq!(bits, together.count_ones());
    }
    let middle = FieldInfo { name: "middle", word: 0, low: 1, bits: 51 };
    assert_eq!(Sample::FIELDS[1], middle);
    assert_eq!(middle.get(middle.set(u64::MAX, 6)), 6);
}

#[test]
fn records_lie_side_by_side_in_their_frame() {
    let frame = frame();
    for number in 0..WORDS_PER_FRAME / 2 {
        let sample = Sample::new(&frame, number);
        sample.set_middle(number as u64);
        sample.set_whole(!(number as u64));
    }
    for number in 0..WORDS_PER_FRAME / 2 {
        let view = View::<2>::new(&frame, number);
        assert_eq!(view.word(0).load(Ordering::Relaxed), (number as u64) << 1);
        let second = word(&frame, WordIndex::wrapping(2 * number + 1));
        assert_eq!(second.load(Ordering::Relaxed), !(number as u64));
    }
}
