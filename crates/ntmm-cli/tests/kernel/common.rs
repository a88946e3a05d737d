//! What the tests stand on: QEMU, the kernel built once, and the `ntmm` program.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

/// A test that cannot do without QEMU fails when this is set, instead of being skipped.
const REQUIRED: &str = "NTMM_REQUIRE_QEMU";

/// What would lead the build of the kernel astray: what cargo and its users set for the build of
/// these tests.
const MISLEADING: [&str; 7] = [
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_ENCODED_RUSTFLAGS",
    "RUSTFLAGS",
    "RUSTC_WORKSPACE_WRAPPER",
];

/// Whether there is a QEMU to test with. A test returns when there is none.
pub fn qemu_is_here() -> bool {
    let here = Command::new("qemu-system-x86_64").arg("--version").output().is_ok();
    if !here {
        assert!(env::var_os(REQUIRED).is_none(), "{REQUIRED} is set and QEMU is not installed");
        println!("skipped: qemu-system-x86_64 is not installed");
    }
    here
}

/// The kernel image, built the first time somebody asks.
pub fn kernel() -> &'static Path {
    static KERNEL: OnceLock<PathBuf> = OnceLock::new();
    KERNEL.get_or_init(|| {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernel");
        let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--release"]).current_dir(&workspace);
        for variable in MISLEADING {
            build.env_remove(variable);
        }
        let output = build.output().expect("cargo starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "the kernel does not build:\n{said}");
        workspace.join("target/x86_64-unknown-linux-gnu/release/ntmm-kernel")
    })
}

/// An empty directory for a test.
pub fn directory(test: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernel").join(test);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).expect("the directory for temporary files can be written");
    path
}

/// A path as an argument.
pub fn argument(path: &Path) -> &str {
    path.to_str().expect("paths of tests are text")
}

/// What a run of the program left behind.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Standard output as JSON of a run that ended with this status.
    pub fn json(&self, code: i32) -> Value {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        serde_json::from_str(&self.stdout).expect("standard output is JSON")
    }

    /// The last line of standard error, after the exit status was found right.
    pub fn complaint(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{}{}", self.stdout, self.stderr);
        let last = self.stderr.lines().last().unwrap_or_default();
        last.strip_prefix("ntmm: ").expect("complaints are signed")
    }
}

/// The program `ntmm boot` with this kernel.
pub fn boot_command(kernel: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ntmm"));
    command.args(["boot", "--kernel", argument(kernel)]).args(arguments);
    command
}

/// Runs a program to its end.
pub fn outcome(command: &mut Command) -> Outcome {
    let output = command.output().expect("the program starts");
    Outcome {
        code: output.status.code().expect("the program ends by itself"),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs `ntmm boot` with this kernel.
pub fn boot(kernel: &Path, arguments: &[&str]) -> Outcome {
    outcome(&mut boot_command(kernel, arguments))
}

/// A number of a JSON object.
pub fn number(value: &Value, path: &str) -> u64 {
    let found = value.pointer(path).and_then(Value::as_u64);
    found.unwrap_or_else(|| panic!("no number at {path} in {value}"))
}
