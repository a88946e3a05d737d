//! The machine and the processes of a run, and their text form: one `name value...` a line.

use std::fmt;
use std::str::FromStr;

use ntmm::working_set::limits::{Hardness, WorkingSetLimits};
use ntmm_machine::{Adversary, Behaviour, Chance, Preemption, Reach};

use crate::rights::FetchCheck;
use crate::sabotage::Sabotage;

/// Paging mode of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Paging {
    /// Two levels, 4-byte entries.
    I386,
    /// Three levels, 8-byte entries.
    Pae,
    /// Four levels, 8-byte entries.
    Amd64,
}

impl Paging {
    /// All modes.
    pub const ALL: [Self; 3] = [Self::I386, Self::Pae, Self::Amd64];

    /// The name users write.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::I386 => "i386",
            Self::Pae => "pae",
            Self::Amd64 => "amd64",
        }
    }

    /// Whether its processors tell fetches from loads.
    #[must_use]
    pub const fn fetch_check(self) -> FetchCheck {
        match self {
            Self::I386 => FetchCheck::LikeLoads,
            Self::Pae | Self::Amd64 => FetchCheck::NoExecute,
        }
    }
}

impl fmt::Display for Paging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The name is no paging mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the paging modes are i386, pae and amd64")]
pub struct UnknownPaging;

impl FromStr for Paging {
    type Err = UnknownPaging;

    fn from_str(text: &str) -> Result<Self, UnknownPaging> {
        Self::ALL.into_iter().find(|paging| paging.name() == text).ok_or(UnknownPaging)
    }
}

/// Liberties of the machine. Chances are in parts per million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// None.
    Plain,
    /// All that hardware has.
    Adversarial {
        /// Points between changes of the processor on average; 0: never inside the manager.
        preempt: u32,
        /// Chance that a held translation is passed over.
        forget: u32,
        /// Chance that a translation is taken up unasked.
        speculate: u32,
        /// Chance of a fault for a translation that has become allowed.
        spurious: u32,
        /// Chance that translations outlive a switch of address spaces.
        retain: u32,
    },
}

/// The machine and the processes of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setup {
    /// Paging mode.
    pub paging: Paging,
    /// Frames above those the manager needs to boot.
    pub frames: u32,
    /// Frames behind them that the host lends only at run time.
    pub withheld: u32,
    /// Processors, 1 to 32.
    pub cpus: u32,
    /// Seed of the machine.
    pub seed: u64,
    /// Most references of a thread's turn.
    pub quantum: u32,
    /// Liberties of the machine.
    pub conduct: Conduct,
    /// Chance in parts per million that a read from the paging file fails.
    pub read_errors: u32,
    /// The same for writes.
    pub write_errors: u32,
    /// Chance in parts per million that an allocation inside the manager fails.
    pub allocation_errors: u32,
    /// Microseconds a transfer takes.
    pub transfer: u32,
    /// Pages of the paging file; 0 for none, otherwise 256 at least.
    pub paging_file: u32,
    /// Working-set minimum of each process.
    pub minimum: u32,
    /// Working-set maximum of each process.
    pub maximum: u32,
    /// Whether the maximum may be exceeded.
    pub hardness: Hardness,
    /// Pages read at once.
    pub read_cluster: u32,
    /// Pages written at once.
    pub write_cluster: u32,
    /// Modified pages at which writing starts; 0 for the manager's own choice.
    pub modified_maximum: u32,
    /// Pages from one region's slot to the next: 16 or a multiple.
    pub stride: u32,
    /// Threads that share the pages of shared regions.
    pub threads: u8,
    /// In a preemptive machine, steps between two moments at which all processors are brought
    /// to rest for an audit.
    pub audit_every: u32,
    /// What is broken on purpose.
    pub sabotage: Option<Sabotage>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            paging: Paging::Amd64,
            frames: 64,
            withheld: 0,
            cpus: 1,
            seed: 0,
            quantum: 16,
            conduct: Conduct::Plain,
            read_errors: 0,
            write_errors: 0,
            allocation_errors: 0,
            transfer: 20,
            paging_file: 256,
            minimum: 20,
            maximum: 40,
            hardness: Hardness::Soft,
            read_cluster: 8,
            write_cluster: 16,
            modified_maximum: 0,
            stride: 64,
            threads: 2,
            audit_every: 16,
            sabotage: None,
        }
    }
}

impl Setup {
    /// Working-set limits of each process.
    #[must_use]
    pub fn limits(&self) -> WorkingSetLimits {
        WorkingSetLimits::new(self.minimum, self.maximum.max(self.minimum), self.hardness)
            .unwrap_or_else(|_| WorkingSetLimits::for_memory(0))
    }

    /// The machine's behaviour.
    #[must_use]
    pub const fn behaviour(&self) -> Behaviour {
        match self.conduct {
            Conduct::Plain => Behaviour::Plain,
            Conduct::Adversarial { preempt, forget, speculate, spurious, retain } => {
                Behaviour::Adversarial(Adversary {
                    preemption: match preempt {
                        0 => Preemption::Never,
                        mean => Preemption::AtPoints { mean },
                    },
                    forget: Chance::per_million(forget),
                    speculate: Chance::per_million(speculate),
                    reach: Reach::Everything,
                    spurious: Chance::per_million(spurious),
                    retain: Chance::per_million(retain),
                })
            }
        }
    }

    /// Takes one `name value...` line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn set(&mut self, line: &str) -> Result<(), BadSetting> {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap_or_default();
        let values: Vec<&str> = words.collect();
        match (name, values.as_slice()) {
            ("paging", [mode]) => self.paging = number(name, mode)?,
            ("frames", [value]) => self.frames = number(name, value)?,
            ("withheld", [value]) => self.withheld = within(name, value, 0..=1 << 16)?,
            ("cpus", [value]) => self.cpus = within(name, value, 1..=32)?,
            ("seed", [value]) => self.seed = number(name, value)?,
            ("quantum", [value]) => self.quantum = number::<u32>(name, value)?.max(1),
            ("conduct", ["plain"]) => self.conduct = Conduct::Plain,
            ("conduct", ["adversarial", preempt, forget, speculate, spurious, retain]) => {
                self.conduct = Conduct::Adversarial {
                    preempt: number(name, preempt)?,
                    forget: number(name, forget)?,
                    speculate: number(name, speculate)?,
                    spurious: number(name, spurious)?,
                    retain: number(name, retain)?,
                }
            }
            ("io-errors", [read, write]) => {
                self.read_errors = number(name, read)?;
                self.write_errors = number(name, write)?;
            }
            ("allocation-errors", [value]) => self.allocation_errors = number(name, value)?,
            ("transfer", [value]) => self.transfer = number(name, value)?,
            ("paging-file", [value]) => self.paging_file = number(name, value)?,
            ("working-set", [minimum, maximum, hardness]) => {
                self.minimum = number(name, minimum)?;
                self.maximum = number(name, maximum)?;
                self.hardness = match *hardness {
                    "soft" => Hardness::Soft,
                    "hard" => Hardness::Hard,
                    other => return Err(bad(name, other)),
                };
            }
            ("clusters", [read, write]) => {
                self.read_cluster = within(name, read, 1..=16)?;
                self.write_cluster = within(name, write, 1..=16)?;
            }
            ("modified-maximum", [value]) => self.modified_maximum = number(name, value)?,
            ("stride", [value]) => {
                self.stride = within::<u32>(name, value, 16..=4096)?.next_multiple_of(16);
            }
            ("threads", [value]) => self.threads = within(name, value, 1..=8)?,
            ("audit-every", [value]) => self.audit_every = number::<u32>(name, value)?.max(1),
            ("sabotage", [saboteur, chance]) => {
                let saboteur = saboteur.parse().map_err(|()| bad(name, saboteur))?;
                self.sabotage = Some(Sabotage { saboteur, chance: number(name, chance)? });
            }
            _ => return Err(BadSetting::Unknown(line.to_owned())),
        }
        Ok(())
    }
}

/// Why a line is no setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSetting {
    /// There is no such setting, or it has not so many values.
    #[error("{0:?} is no setting")]
    Unknown(String),
    /// The value does not suit it.
    #[error("{value:?} is no value for {name}")]
    Value {
        /// The setting.
        name: String,
        /// The value.
        value: String,
    },
}

fn bad(name: &str, value: &str) -> BadSetting {
    BadSetting::Value { name: name.to_owned(), value: value.to_owned() }
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, BadSetting> {
    value.parse().map_err(|_| bad(name, value))
}

fn within<T: FromStr + PartialOrd>(
    name: &str,
    value: &str,
    range: std::ops::RangeInclusive<T>,
) -> Result<T, BadSetting> {
    let number = number(name, value)?;
    if range.contains(&number) { Ok(number) } else { Err(bad(name, value)) }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "paging {}", self.paging)?;
        writeln!(f, "frames {}", self.frames)?;
        writeln!(f, "withheld {}", self.withheld)?;
        writeln!(f, "cpus {}", self.cpus)?;
        writeln!(f, "seed {}", self.seed)?;
        writeln!(f, "quantum {}", self.quantum)?;
        match self.conduct {
            Conduct::Plain => writeln!(f, "conduct plain")?,
            Conduct::Adversarial { preempt, forget, speculate, spurious, retain } => writeln!(
                f,
                "conduct adversarial {preempt} {forget} {speculate} {spurious} {retain}"
            )?,
        }
        writeln!(f, "io-errors {} {}", self.read_errors, self.write_errors)?;
        writeln!(f, "allocation-errors {}", self.allocation_errors)?;
        writeln!(f, "transfer {}", self.transfer)?;
        writeln!(f, "paging-file {}", self.paging_file)?;
        let hardness = match self.hardness {
            Hardness::Soft => "soft",
            Hardness::Hard => "hard",
        };
        writeln!(f, "working-set {} {} {hardness}", self.minimum, self.maximum)?;
        writeln!(f, "clusters {} {}", self.read_cluster, self.write_cluster)?;
        writeln!(f, "modified-maximum {}", self.modified_maximum)?;
        writeln!(f, "stride {}", self.stride)?;
        writeln!(f, "threads {}", self.threads)?;
        writeln!(f, "audit-every {}", self.audit_every)?;
        match self.sabotage {
            None => Ok(()),
            Some(Sabotage { saboteur, chance }) => writeln!(f, "sabotage {saboteur} {chance}"),
        }
    }
}
