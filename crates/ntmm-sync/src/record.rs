//! Records of atomic words with typed fields.
//!
//! The manager keeps its own records on frames. A record type is declared once with
//! [`record!`](crate::record!): the declaration gives typed accessors and a list of its fields
//! (name, word, bits), which a debugger reads live memory and saved images with. It also says of
//! how many words a record consists: records of one kind lie side by side in their frame, and
//! where a word of one lies is known when the program is compiled.
//!
//! A setter rewrites its word with a plain load and store: the lock that protects the record
//! must be held. A field that is shared with others without a lock is declared as a word of its
//! own and changed through [`View::word`].

use crate::atomic::{AtomicU64, Ordering};
use crate::frame::{FrameWords, WORDS_PER_FRAME};

/// Where a field of a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldInfo {
    /// Name of the field in the declaration.
    pub name: &'static str,
    /// Word of the record that holds it.
    pub word: u16,
    /// Lowest bit of the field in its word.
    pub low: u32,
    /// Number of bits.
    pub bits: u32,
}

impl FieldInfo {
    /// The field's bits in place.
    #[must_use]
    pub const fn mask(&self) -> u64 {
        (u64::MAX >> (64 - self.bits)) << self.low
    }

    /// The field's value in the word `value`.
    #[inline]
    #[must_use]
    pub const fn get(&self, value: u64) -> u64 {
        (value & self.mask()) >> self.low
    }

    /// `value` with the field set to `field`, cut to the field's width.
    #[inline]
    #[must_use]
    pub const fn set(&self, value: u64, field: u64) -> u64 {
        (value & !self.mask()) | ((field << self.low) & self.mask())
    }
}

/// A record of `WORDS` words, where it lies.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, const WORDS: usize>(&'a [AtomicU64; WORDS]);

impl<'a, const WORDS: usize> View<'a, WORDS> {
    /// Record number `number` of those that lie side by side in `frame`, taken modulo as many as
    /// there are.
    #[inline]
    #[must_use]
    // The remainder is below the number of records by construction.
    #[allow(clippy::indexing_slicing)]
    pub fn new(frame: &'a FrameWords, number: usize) -> Self {
        const { assert!(0 < WORDS && WORDS <= WORDS_PER_FRAME) };
        let (records, _) = frame.as_chunks::<WORDS>();
        Self(&records[number % (WORDS_PER_FRAME / WORDS)])
    }

    /// The record that consists of `words`.
    #[inline]
    #[must_use]
    pub const fn over(words: &'a [AtomicU64; WORDS]) -> Self {
        Self(words)
    }

    /// Word number `offset` of the record, taken modulo `WORDS`.
    #[inline]
    #[must_use]
    // As above.
    #[allow(clippy::indexing_slicing)]
    pub const fn word(&self, offset: u16) -> &'a AtomicU64 {
        &self.0[offset as usize % WORDS]
    }

    /// The value of a field.
    #[inline]
    #[must_use]
    pub fn get(&self, field: FieldInfo) -> u64 {
        field.get(self.word(field.word).load(Ordering::Relaxed))
    }

    /// Changes a field. The lock that protects the record is held.
    #[inline]
    pub fn set(&self, field: FieldInfo, value: u64) {
        let word = self.word(field.word);
        // A field that fills its word needs nothing of what the word holds.
        let rest = if field.bits == u64::BITS { 0 } else { word.load(Ordering::Relaxed) };
        word.store(field.set(rest, value), Ordering::Relaxed);
    }
}

/// Declares a record of atomic words.
///
/// ```
/// ntmm_sync::record! {
///     /// A pair.
///     pub record Pair [1] {
///         /// Left half.
///         left, set_left: u32 = 0, 0, 32;
///         /// Right half.
///         right, set_right: u32 = 0, 32, 32;
///     }
/// }
/// # use ntmm_sync::atomic::AtomicU64;
/// let frame: [AtomicU64; 512] = std::array::from_fn(|_| AtomicU64::new(0));
/// let pair = Pair::new(&frame, 4);
/// pair.set_right(7);
/// assert_eq!((pair.left(), pair.right()), (0, 7));
/// assert_eq!(Pair::FIELDS[1].name, "right");
/// ```
#[macro_export]
macro_rules! record {
    (
        $(#[$doc:meta])*
        $vis:vis record $name:ident [$words:expr] {
            $($(#[$field_doc:meta])* $get:ident, $set:ident: $ty:ty = $word:expr, $low:expr, $bits:expr;)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        $vis struct $name<'a>($crate::record::View<'a, { $words }>);

        impl<'a> $name<'a> {
            /// The fields, in the order of their declaration.
            pub const FIELDS: [$crate::record::FieldInfo; [$($word),*].len()] = [
                $($crate::record::FieldInfo { name: stringify!($get), word: $word, low: $low, bits: $bits },)*
            ];

            /// Record number `number` of those that lie side by side in `frame`, taken modulo as
            /// many as there are.
            #[inline]
            #[must_use]
            pub fn new(frame: &'a $crate::frame::FrameWords, number: usize) -> Self {
                Self($crate::record::View::new(frame, number))
            }

            /// The record that `view` looks at.
            #[inline]
            #[must_use]
            pub const fn of(view: $crate::record::View<'a, { $words }>) -> Self {
                Self(view)
            }

            /// The words under the fields.
            #[inline]
            #[must_use]
            pub const fn view(&self) -> $crate::record::View<'a, { $words }> {
                self.0
            }

            $(
                $(#[$field_doc])*
                #[inline]
                #[must_use]
                pub fn $get(&self) -> $ty {
                    self.0.get($crate::record::FieldInfo {
                        name: stringify!($get), word: $word, low: $low, bits: $bits,
                    }) as $ty
                }

                #[doc = concat!("Sets [`", stringify!($get), "`](Self::", stringify!($get), "). The record's lock is held.")]
                #[inline]
                pub fn $set(&self, value: $ty) {
                    self.0.set($crate::record::FieldInfo {
                        name: stringify!($get), word: $word, low: $low, bits: $bits,
                    }, value as u64);
                }
            )*
        }
    };
}
