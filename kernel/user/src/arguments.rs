//! The arguments of a program: words, of which most are `key=value`.

use core::ops::RangeBounds;

use crate::NtStatus;
use crate::println;

/// The argument string of a process.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    text: &'a str,
}

impl<'a> Arguments<'a> {
    /// The arguments in `text`, separated by blanks.
    #[must_use]
    pub const fn new(text: &'a str) -> Self {
        Self { text }
    }

    /// The words, in order.
    pub fn words(&self) -> impl Iterator<Item = &'a str> {
        self.text.split_ascii_whitespace()
    }

    /// Every word is one of these keys with a value.
    ///
    /// # Errors
    /// [`NtStatus::INVALID_PARAMETER`], after saying so, when one is not.
    pub fn only(&self, keys: &[&str]) -> Result<(), NtStatus> {
        let is_known =
            |word: &str| word.split_once('=').is_some_and(|(key, _)| keys.contains(&key));
        match self.words().find(|word| !is_known(word)) {
            None => Ok(()),
            Some(word) => {
                println!("{word}: none of the arguments {keys:?}");
                Err(NtStatus::INVALID_PARAMETER)
            }
        }
    }

    /// The value of the last word `key=value`.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&'a str> {
        let value = |word: &'a str| word.strip_prefix(key)?.strip_prefix('=');
        self.words().filter_map(value).last()
    }

    /// As [`number`](Self::number), of a range.
    ///
    /// # Errors
    /// [`NtStatus::INVALID_PARAMETER`], after saying so, also when the number is out of the range.
    pub fn number_in<R>(&self, key: &str, default: u64, range: R) -> Result<u64, NtStatus>
    where
        R: RangeBounds<u64>,
    {
        let number = self.number(key, default)?;
        if range.contains(&number) {
            Ok(number)
        } else {
            println!("{key}={number}: cannot be");
            Err(NtStatus::INVALID_PARAMETER)
        }
    }

    /// The number in the last word `key=value`, decimal or with `0x` hexadecimal; `default` when
    /// there is none.
    ///
    /// # Errors
    /// [`NtStatus::INVALID_PARAMETER`], after saying so, when the value is no number.
    pub fn number(&self, key: &str, default: u64) -> Result<u64, NtStatus> {
        let Some(text) = self.text(key) else { return Ok(default) };
        let parsed = match text.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16),
            None => text.parse(),
        };
        parsed.map_err(|_| {
            println!("{key}={text}: not a number");
            NtStatus::INVALID_PARAMETER
        })
    }
}
