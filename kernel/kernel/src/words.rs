//! The words of the command line.
//!
//! `docs/your-own-kernel.md` has the table of them. A word that is unknown, or whose value means
//! nothing, is refused before anything has begun. The loader's own words, which say where the
//! virtio devices are, are read where they are needed ([`crate::disk`]).

use core::fmt;
use core::str::FromStr;

use ntmm::nt::Profile;

use crate::selftest;

/// What the loader's words begin with.
const LOADERS: &str = "virtio_mmio.device=";

/// What the words ask for.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// Pages the manager gets at most, from the beginning of memory on.
    pub ram: Option<u64>,
    /// Pages to withhold at boot, to lend them and take them back.
    pub balloon: Option<u64>,
    /// An address space settles for good in what is lent.
    pub squatter: bool,
    /// What the manager's random numbers follow from.
    pub seed: u64,
    /// The version of Windows that the services behave as.
    pub profile: Profile,
    /// Least and greatest size of the paging file in pages.
    pub pagefile: Option<(u64, u64)>,
    /// Seconds until it is a hang.
    pub patience: Option<u64>,
    /// Processors take turns.
    pub takes_turns: bool,
    /// Walk the page tables in the archive, and nothing else.
    pub probe: bool,
    /// A way to break the kernel.
    pub selftest: Option<&'static str>,
}

/// A word that means nothing.
#[derive(Clone, Copy, Debug)]
pub struct BadWord {
    /// The word.
    pub word: &'static str,
    /// What would have meant something.
    pub expected: &'static str,
}

impl fmt::Display for BadWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the word {}: expected {}", self.word, self.expected)
    }
}

impl Words {
    /// Reads a command line.
    ///
    /// # Errors
    /// The first word that means nothing.
    pub fn read(line: &'static str) -> Result<Self, BadWord> {
        let mut words = Self {
            ram: None,
            balloon: None,
            squatter: false,
            seed: 0,
            profile: Profile::Legacy,
            pagefile: None,
            patience: None,
            takes_turns: false,
            probe: false,
            selftest: None,
        };
        for word in line.split_ascii_whitespace().filter(|word| !word.starts_with(LOADERS)) {
            words.take(word).map_err(|expected| BadWord { word, expected })?;
        }
        if words.squatter && words.balloon.is_none() {
            return Err(BadWord { word: "squatter", expected: "balloon=PAGES beside it" });
        }
        Ok(words)
    }

    /// Takes a word, or says what was expected.
    fn take(&mut self, word: &'static str) -> Result<(), &'static str> {
        let (name, value) =
            word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        match (name, value) {
            ("squatter", None) => self.squatter = true,
            ("rr", None) => self.takes_turns = true,
            ("probe", None) => self.probe = true,
            ("ram", Some(pages)) => self.ram = Some(positive(pages)?),
            ("balloon", Some(pages)) => self.balloon = Some(positive(pages)?),
            ("patience", Some(seconds)) => self.patience = Some(positive(seconds)?),
            ("seed", Some(seed)) => self.seed = number(seed)?,
            ("profile", Some(profile)) => {
                self.profile = Profile::from_name(profile).ok_or("legacy or modern")?;
            }
            ("pagefile", Some(sizes)) => {
                let (minimum, maximum) = sizes.split_once(':').unwrap_or((sizes, sizes));
                let (minimum, maximum) = (positive(minimum)?, positive(maximum)?);
                if maximum < minimum {
                    return Err("a greatest size that is not below the least");
                }
                self.pagefile = Some((minimum, maximum));
            }
            ("selftest", Some(kind)) => {
                let known = selftest::is_known(kind);
                self.selftest = Some(known.then_some(kind).ok_or("a kind of self-test")?);
            }
            _ => return Err("one of the kernel's words"),
        }
        Ok(())
    }
}

fn number<T: FromStr>(text: &str) -> Result<T, &'static str> {
    text.parse().map_err(|_| "a number")
}

fn positive(text: &str) -> Result<u64, &'static str> {
    number(text).ok().filter(|number| *number > 0).ok_or("a number from 1 on")
}
