//! QEMU: the emulated PC, its console and its end.
//!
//! A [`Machine`] says what is emulated; [`run`] starts QEMU for it, hands over every line of the
//! serial console as it comes, and returns how the guest ended. The guest ends the machine itself
//! by writing a number to the port of QEMU's device `isa-debug-exit`, and QEMU's exit status says
//! which number it was ([`Ending`]).
//!
//! QEMU does not outlive this program. When [`run`] returns, in whatever way, it has ended or is
//! killed; and should this program be killed first, the system kills QEMU: it is started through
//! `setpriv --pdeathsig`, of the package util-linux, where there is one.
//!
//! Where instructions are counted, how many of them pass before a disk answers would be up to the
//! host, and the guest would find its answer now before it begins to wait, now after. So the disk
//! is made slow: it is a quorum of three, of which two are the paging file and agree, while the
//! third knows nothing and takes its time.
//!
//! A machine that hangs says nothing. So a console that has been silent for longer than the
//! caller thinks right is taken for a hang: QEMU is killed and the error says so.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ntmm_pte::Bytes;

/// The program.
const QEMU: &str = "qemu-system-x86_64";

/// What a line of the console is cut at, in bytes, so that a guest cannot fill our memory.
const LONGEST_LINE: u64 = 1 << 16;

/// How much is kept of what QEMU says on standard error, in bytes.
const LONGEST_COMPLAINT: u64 = 1 << 14;

/// How long a transfer takes where instructions are counted.
const DISK_LATENCY: Duration = Duration::from_millis(1);

/// What QEMU emulates.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The board.
    pub board: Board,
    /// Memory; whole KiB.
    pub ram: Bytes,
    /// Processors.
    pub cpus: u32,
    /// The raw file under the paging disk; without one there is no disk.
    pub paging_file: Option<PathBuf>,
    /// Rules of QEMU's driver blkdebug: the errors the paging disk answers with.
    pub disk_errors: Option<PathBuf>,
    /// What time is made of.
    pub counting: Counting,
    /// The kernel image.
    pub kernel: PathBuf,
    /// The archive beside it.
    pub initrd: Option<PathBuf>,
    /// Words of the kernel's command line.
    pub words: Vec<String>,
}

/// A board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Board {
    /// The least there is: local APICs, one I/O APIC, a serial port, virtio.
    Microvm,
    /// A PC with its old timers and a clock that begins at a fixed date, for kernels that want
    /// them; the paging disk is on the PCI bus.
    Pc,
}

/// What time is made of in the emulated machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counting {
    /// The host's time; processors run beside one another.
    HostTime,
    /// Instructions: the processors take turns, the time-stamp counter counts instructions, and
    /// the same run gives the same counts. The word `rr` is put on the command line, which tells
    /// the kernel that a processor that waits must pause.
    Instructions,
}

/// How a guest ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every program ended with status 0.
    Good,
    /// A program ended with another status.
    ProgramFailed,
    /// The kernel stopped with a bug check.
    BugCheck,
    /// The kernel could not boot.
    CouldNotBoot,
    /// A word of the kernel's command line means nothing to it.
    BadWord,
}

/// Why a machine has no [`Ending`].
#[derive(Debug, thiserror::Error)]
pub enum QemuError {
    /// QEMU is not installed.
    #[error(
        "{QEMU} is not installed; Debian has it in the package qemu-system-x86: \
         apt-get install --no-install-recommends qemu-system-x86"
    )]
    Missing,
    /// The host does not start it.
    #[error("cannot start {QEMU}: {0}")]
    Start(#[source] io::Error),
    /// It does not accept what it was asked to emulate.
    #[error("{QEMU} refuses: {complaint}")]
    Refused {
        /// What it said.
        complaint: String,
    },
    /// The console was silent for too long.
    #[error(
        "no line on the machine's console for {}: it hangs, or is busy (see --timeout){}",
        seconds(silence),
        said(complaint)
    )]
    Silent {
        /// How long that was.
        silence: Duration,
        /// What QEMU said.
        complaint: String,
    },
    /// The guest reset the machine.
    #[error("the machine reset itself, as a processor does after three faults in a row")]
    Reset,
    /// Somebody on the host ended QEMU by a signal that it understands.
    #[error("{QEMU} was ended from outside: {complaint}")]
    Terminated {
        /// What it said.
        complaint: String,
    },
    /// QEMU ended otherwise.
    #[error("{QEMU} ended with {status}{}", said(complaint))]
    Ended {
        /// Its exit status.
        status: ExitStatus,
        /// What it said.
        complaint: String,
    },
}

/// How QEMU's last words begin when a signal ends it; its exit status is then that of a reset.
const TERMINATED: &str = "terminating on signal";

fn seconds(time: &Duration) -> String {
    match time.as_secs() {
        1 => "1 second".to_owned(),
        seconds => format!("{seconds} seconds"),
    }
}

/// QEMU's words at the end of a message.
fn said(complaint: &str) -> String {
    if complaint.is_empty() { String::new() } else { format!("; {QEMU} says: {complaint}") }
}

impl Ending {
    /// How the guest ended, by QEMU's exit status: the number it wrote, doubled, plus one.
    #[must_use]
    pub const fn of_exit_status(status: i32) -> Option<Self> {
        match status {
            33 => Some(Self::Good),
            35 => Some(Self::ProgramFailed),
            37 => Some(Self::BugCheck),
            39 => Some(Self::CouldNotBoot),
            41 => Some(Self::BadWord),
            _ => None,
        }
    }
}

impl Machine {
    /// QEMU's arguments.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments = Arguments::default();
        match self.board {
            Board::Microvm => {
                arguments.option("-M", "microvm,acpi=off,rtc=off,pit=off,pic=off");
                arguments.option("-global", "virtio-mmio.force-legacy=false");
            }
            Board::Pc => {
                arguments.option("-M", "pc");
                arguments.option("-rtc", "base=2020-01-01T00:00:00,clock=vm");
                // The usual firmware looks at the disk, and how long that takes is up to the host.
                arguments.option("-bios", "qboot.rom");
                arguments.option("-seed", "0");
            }
        }
        arguments.option("-cpu", "qemu64");
        arguments.option("-m", format!("{}K", self.ram.get() / 1024));
        arguments.option("-smp", self.cpus.to_string());
        for word in ["-no-reboot", "-nodefaults"] {
            arguments.0.push(word.into());
        }
        arguments.option("-display", "none");
        arguments.option("-serial", "stdio");
        arguments.option("-device", "isa-debug-exit,iobase=0xf4,iosize=0x04");
        match self.counting {
            Counting::HostTime => arguments.option("-accel", "tcg,thread=multi"),
            Counting::Instructions => {
                arguments.option("-accel", "tcg,thread=single");
                arguments.option("-icount", "shift=0,sleep=off");
            }
        }
        arguments.option("-kernel", &self.kernel);
        arguments.option("-append", self.command_line());
        if let Some(initrd) = &self.initrd {
            arguments.option("-initrd", initrd);
        }
        if let Some(drive) = self.drive() {
            arguments.option("-drive", drive);
            // An error is the guest's to handle. QEMU's usual answer to a full host is to stop the
            // machine, which looks like a hang.
            let errors = "rerror=report,werror=report";
            let device = match self.board {
                Board::Microvm => "virtio-blk-device",
                Board::Pc => "virtio-blk-pci,disable-legacy=on",
            };
            arguments.option("-device", format!("{device},drive=page,{errors}"));
        }
        arguments.0
    }

    fn command_line(&self) -> String {
        let turns = (self.counting == Counting::Instructions).then_some("rr");
        let words = self.words.iter().map(String::as_str).chain(turns);
        words.collect::<Vec<_>>().join(" ")
    }

    /// The paging disk, as QEMU's tree of block drivers.
    fn drive(&self) -> Option<OsString> {
        let path = self.paging_file.as_ref()?;
        let mut drive = Settings("if=none,id=page".into());
        match self.counting {
            Counting::HostTime => self.disk("", path, &mut drive),
            Counting::Instructions => {
                drive.set("driver", "quorum");
                drive.set("vote-threshold", "2");
                for child in ["children.0.", "children.1."] {
                    self.disk(child, path, &mut drive);
                    drive.set(&format!("{child}file.locking"), "off");
                }
                // A file that is not there is for QEMU to complain about.
                let size = fs::metadata(path).map_or(0, |metadata| metadata.len());
                drive.set("children.2.driver", "null-co");
                drive.set("children.2.size", size.to_string());
                drive.set("children.2.latency-ns", DISK_LATENCY.as_nanos().to_string());
            }
        }
        Some(drive.0)
    }

    /// The paging file as a disk whose settings have this prefix.
    fn disk(&self, prefix: &str, path: &Path, drive: &mut Settings) {
        drive.set(&format!("{prefix}driver"), "raw");
        let file = match &self.disk_errors {
            None => format!("{prefix}file"),
            Some(rules) => {
                drive.set(&format!("{prefix}file.driver"), "blkdebug");
                drive.set(&format!("{prefix}file.config"), rules);
                format!("{prefix}file.image")
            }
        };
        drive.set(&format!("{file}.driver"), "file");
        drive.set(&format!("{file}.filename"), path);
    }
}

/// A command line in the making.
#[derive(Default)]
struct Arguments(Vec<OsString>);

impl Arguments {
    fn option(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.0.extend([OsString::from(name), value.as_ref().to_owned()]);
    }
}

/// A list of settings in the making.
struct Settings(OsString);

impl Settings {
    /// Adds a setting. A comma in its value is written twice.
    fn set(&mut self, key: &str, value: impl AsRef<OsStr>) {
        self.0.push(format!(",{key}="));
        let mut doubled = Vec::new();
        for byte in value.as_ref().as_bytes() {
            doubled.extend(std::iter::repeat_n(byte, 1 + usize::from(*byte == b',')));
        }
        self.0.push(OsString::from_vec(doubled));
    }
}

/// Finds QEMU, for whoever wants to know before there is a machine.
///
/// # Errors
/// It is not installed.
pub fn installed() -> Result<PathBuf, QemuError> {
    find(QEMU).ok_or(QemuError::Missing)
}

/// Starts QEMU and follows the machine to its end. Every line of the console goes to `on_line`,
/// without its end of line; bytes that are no UTF-8 are replaced.
///
/// # Errors
/// QEMU is missing or does not start, the machine ends in a way that is no [`Ending`], or the
/// console has been silent for `silence`.
pub fn run(
    machine: &Machine,
    on_line: &mut dyn FnMut(&str),
    silence: Duration,
) -> Result<Ending, QemuError> {
    let mut emulator = Emulator::start(machine)?;
    loop {
        match emulator.lines.recv_timeout(silence) {
            Ok(line) => on_line(&line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                emulator.kill();
                // The last words may be a line that has no end.
                emulator.lines.iter().for_each(|line| on_line(&line));
                return Err(QemuError::Silent { silence, complaint: emulator.complaint() });
            }
        }
    }
    let status = emulator.child.wait().map_err(QemuError::Start)?;
    let complaint = emulator.complaint();
    match status.code() {
        Some(0) if complaint.contains(TERMINATED) => Err(QemuError::Terminated { complaint }),
        Some(0) => Err(QemuError::Reset),
        Some(1) => Err(QemuError::Refused { complaint }),
        Some(code) => Ending::of_exit_status(code).ok_or(QemuError::Ended { status, complaint }),
        None => Err(QemuError::Ended { status, complaint }),
    }
}

/// A running QEMU. Dropped, it is killed.
struct Emulator {
    child: Child,
    /// Lines of the console; it ends when QEMU does.
    lines: Receiver<String>,
    /// Reads standard error.
    complaints: Option<JoinHandle<String>>,
}

impl Emulator {
    fn start(machine: &Machine) -> Result<Self, QemuError> {
        let qemu = installed()?;
        let mut command = match find("setpriv") {
            Some(setpriv) => {
                let mut command = Command::new(setpriv);
                command.args(["--pdeathsig", "KILL", "--"]).arg(qemu);
                command
            }
            None => Command::new(qemu),
        };
        command.args(machine.arguments()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(QemuError::Start)?;
        let (sender, lines) = mpsc::channel();
        if let Some(console) = child.stdout.take() {
            thread::spawn(move || send_lines(console, &sender));
        }
        let complaints = child.stderr.take().map(|stderr| thread::spawn(move || words(stderr)));
        Ok(Self { child, lines, complaints })
    }

    fn kill(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// What QEMU said on standard error, on one line. It has ended.
    fn complaint(&mut self) -> String {
        let words = self.complaints.take().and_then(|reader| reader.join().ok());
        let words = words.unwrap_or_default();
        let lines = words.lines().map(|line| {
            let line = line.trim();
            line.strip_prefix(QEMU).map_or(line, |rest| rest.trim_start_matches([':', ' ']))
        });
        lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; ")
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A program in the directories of PATH.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let directories = env::split_paths(&path).filter(|directory| directory.is_absolute());
    directories.map(|directory| directory.join(program)).find(|file| file.is_file())
}

/// Sends the lines of a console until it closes or nobody listens.
fn send_lines(console: impl Read, lines: &Sender<String>) {
    let mut console = BufReader::new(console);
    let mut line = Vec::new();
    loop {
        line.clear();
        match console.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&line);
        if lines.send(text.trim_end_matches(['\r', '\n']).to_owned()).is_err() {
            return;
        }
    }
}

/// The first words on standard error; what follows is read and forgotten, so that QEMU never
/// waits for us.
fn words(mut stderr: impl Read) -> String {
    let mut words = Vec::new();
    // What was read before an error is what there is.
    let _ = stderr.by_ref().take(LONGEST_COMPLAINT).read_to_end(&mut words);
    let _ = io::copy(&mut stderr, &mut io::sink());
    String::from_utf8_lossy(&words).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            board: Board::Microvm,
            ram: Bytes::new(32 << 20),
            cpus: 2,
            paging_file: None,
            disk_errors: None,
            counting: Counting::HostTime,
            kernel: "kernel".into(),
            initrd: None,
            words: vec!["seed=7".to_owned()],
        }
    }

    fn arguments(machine: &Machine) -> String {
        let arguments = machine.arguments();
        let arguments = arguments.iter().map(|argument| argument.to_string_lossy());
        arguments.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_machine_is_put_in_arguments() {
        let plain = arguments(&machine());
        assert!(plain.contains("-m 32768K -smp 2 "), "{plain}");
        assert!(plain.contains("-accel tcg,thread=multi "), "{plain}");
        assert!(plain.ends_with("-kernel kernel -append seed=7"), "{plain}");
        let counting = Machine { counting: Counting::Instructions, cpus: 1, ..machine() };
        let counting = arguments(&counting);
        assert!(counting.contains("-icount shift=0,sleep=off"), "{counting}");
        assert!(counting.contains("-append seed=7 rr"), "{counting}");
    }

    #[test]
    fn commas_and_colons_in_paths_mean_nothing() {
        let disk = Machine { paging_file: Some("a,b:c".into()), ..machine() };
        let text = arguments(&disk);
        assert!(text.contains("file.driver=file,file.filename=a,,b:c -device"), "{text}");
        let failing = arguments(&Machine { disk_errors: Some("r,s".into()), ..disk });
        assert!(
            failing.contains(
                "file.driver=blkdebug,file.config=r,,s,\
                 file.image.driver=file,file.image.filename=a,,b:c -device"
            ),
            "{failing}"
        );
    }

    #[test]
    fn a_disk_is_slow_where_instructions_are_counted() {
        let counting = Machine { counting: Counting::Instructions, cpus: 1, ..machine() };
        let text = arguments(&Machine { paging_file: Some("page".into()), ..counting });
        assert!(
            text.contains(
                "-drive if=none,id=page,driver=quorum,vote-threshold=2,\
                 children.0.driver=raw,children.0.file.driver=file,\
                 children.0.file.filename=page,children.0.file.locking=off,\
                 children.1.driver=raw,children.1.file.driver=file,\
                 children.1.file.filename=page,children.1.file.locking=off,\
                 children.2.driver=null-co,children.2.size=0,children.2.latency-ns=1000000 "
            ),
            "{text}"
        );
    }

    #[test]
    fn the_guest_chooses_the_exit_status() {
        // The device answers a write of n with the status 2n + 1.
        let endings = [
            (0x10, Ending::Good),
            (0x11, Ending::ProgramFailed),
            (0x12, Ending::BugCheck),
            (0x13, Ending::CouldNotBoot),
            (0x14, Ending::BadWord),
        ];
        for (written, ending) in endings {
            assert_eq!(Ending::of_exit_status(2 * written + 1), Some(ending));
        }
        for other in [0, 1, 2, 31, 34, 43, 255] {
            assert_eq!(Ending::of_exit_status(other), None);
        }
    }

    #[test]
    fn lines_are_cut_and_never_lost() {
        let (sender, lines) = mpsc::channel();
        let long = "x".repeat(LONGEST_LINE as usize + 5);
        let text = format!("one\r\n\n{long}\nno end");
        send_lines(text.as_bytes(), &sender);
        drop(sender);
        let lines: Vec<String> = lines.iter().collect();
        let (head, tail) = long.split_at(LONGEST_LINE as usize);
        assert_eq!(lines, ["one", "", head, tail, "no end"]);
    }
}
