//! Linux's kernel out of Debian's package, fetched by the package client.
//!
//! The package client knows which version is current; the package is downloaded and unpacked once
//! per version, under the user's cache directory. Nothing is installed.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;

/// The package that depends on the current kernel. It is the kernel without the drivers of real
/// hardware; the operations measured take as many instructions in the other, to a percent or two.
const CURRENT: &str = "linux-image-cloud-amd64";

/// What to do instead.
const INSTEAD: &str = "name a kernel with --linux PATH, or leave Linux out with --no-linux";

/// A version of a kernel package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

impl Package {
    /// The current kernel.
    ///
    /// # Errors
    /// There is no package client, or it knows no kernel.
    pub fn current() -> Result<Self, Failure> {
        let record = output("apt-cache", ["show", "--no-all-versions", CURRENT], Path::new("."));
        let record = record.map_err(|problem| wanting(&problem))?;
        Self::of_record(&record).ok_or_else(|| {
            wanting(&format!("apt-cache knows no kernel in {CURRENT}; apt-get update may help"))
        })
    }

    /// The kernel that a package record depends on: the field `Depends: NAME (= VERSION)`.
    fn of_record(record: &str) -> Option<Self> {
        let depends = record.lines().find_map(|line| line.strip_prefix("Depends: "))?;
        let mut dependencies = depends.split(',').map(str::trim);
        let kernel = dependencies.find(|dependency| dependency.starts_with("linux-image-"))?;
        let (name, version) = kernel.strip_suffix(')')?.split_once(" (= ")?;
        // Both become part of a path.
        let plain = |text: &str| !text.is_empty() && !text.contains('/');
        (plain(name) && plain(version))
            .then(|| Self { name: name.to_owned(), version: version.to_owned() })
    }

    /// The directory with what is in the package; it is fetched if it is not there.
    ///
    /// # Errors
    /// It cannot be downloaded or unpacked.
    pub fn unpacked(&self) -> Result<PathBuf, Failure> {
        let directory = cache_directory()?.join(format!("{}_{}", self.name, self.version));
        if !directory.is_dir() {
            let part = directory.with_extension(format!("{}.part", std::process::id()));
            let fetched = self.fetch(&part, &directory);
            // It is gone already if all went well.
            let _ = fs::remove_dir_all(&part);
            fetched?;
        }
        Ok(directory)
    }

    /// Downloads and unpacks below `part` and moves what is complete to `directory`.
    fn fetch(&self, part: &Path, directory: &Path) -> Result<(), Failure> {
        let refuse = |error| Failure::host("cannot keep Linux's kernel in", directory, error);
        fs::create_dir_all(part).map_err(refuse)?;
        let package = format!("{}={}", self.name, self.version);
        let done = output("apt-get", ["download", &package], part);
        done.map_err(|problem| wanting(&problem))?;
        let files = fs::read_dir(part).map_err(refuse)?.flatten().map(|entry| entry.path());
        let mut archives = files.filter(|path| path.extension() == Some(OsStr::new("deb")));
        let archive = archives.next();
        let archive = archive.ok_or_else(|| wanting("apt-get downloaded no package"))?;
        let tree = part.join("tree");
        let arguments = [OsStr::new("-x"), archive.as_os_str(), tree.as_os_str()];
        let done = output("dpkg-deb", arguments, part);
        done.map_err(|problem| wanting(&problem))?;
        match fs::rename(&tree, directory) {
            // Another run was quicker.
            Err(_) if directory.is_dir() => Ok(()),
            result => result.map_err(refuse),
        }
    }
}

/// Why Linux cannot be measured.
fn wanting(problem: &str) -> Failure {
    Failure::Usage(format!("cannot get Debian's Linux kernel: {problem}; {INSTEAD}"))
}

fn cache_directory() -> Result<PathBuf, Failure> {
    let variable = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = variable("XDG_CACHE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))
        .ok_or_else(|| wanting("there is no cache directory, since HOME is not set"))?;
    Ok(cache.join("ntmm/linux"))
}

/// What a program prints, or one line about why it failed.
pub(super) fn output<Argument: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = Argument>,
    directory: &Path,
) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).env("LC_ALL", "C");
    let output = command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("{program} is not installed"),
        _ => format!("cannot start {program}: {error}"),
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = complaint(&String::from_utf8_lossy(&output.stderr));
    Err(complaint.map_or_else(
        || format!("{program} ended with {}", output.status),
        |complaint| format!("{program}: {complaint}"),
    ))
}

/// The line of a program's complaints that says most: the first about an error, else the last.
fn complaint(text: &str) -> Option<String> {
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines().find(|line| line.starts_with("E:") || line.contains("error"));
    error.or_else(|| lines().next_back()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_what_the_package_depends_on() {
        let record = "Package: linux-image-cloud-amd64\n\
                      Version: 6.1.1-1\n\
                      Depends: initramfs-tools, linux-image-6.1.0-1-cloud-amd64 (= 6.1.1-1)\n\
                      Description: Linux\n";
        let package = Package::of_record(record).expect("a kernel");
        assert_eq!(package.name, "linux-image-6.1.0-1-cloud-amd64");
        assert_eq!(package.version, "6.1.1-1");
        for wrong in [
            "",
            "Depends: initramfs-tools\n",
            "Depends: linux-image-6.1.0-1-cloud-amd64\n",
            "Depends: linux-image-6.1.0-1-cloud-amd64 (= )\n",
            "Depends: linux-image-/../x (= 1)\n",
        ] {
            assert_eq!(Package::of_record(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_failed_program_is_told_in_one_line() {
        let here = Path::new(".");
        let told = |script| output("sh", ["-c", script], here);
        assert_eq!(told("echo good"), Ok("good\n".to_owned()));
        assert_eq!(told("echo one >&2; echo two >&2; exit 3"), Err("sh: two".to_owned()));
        assert_eq!(
            told("printf 'W: x\\nE: no\\nlast\\n' >&2; exit 1"),
            Err("sh: E: no".to_owned())
        );
        assert_eq!(told("exit 3"), Err("sh ended with exit status: 3".to_owned()));
        let missing = output("no-such-program-of-ntmm", [""; 0], here);
        assert_eq!(missing, Err("no-such-program-of-ntmm is not installed".to_owned()));
    }
}
