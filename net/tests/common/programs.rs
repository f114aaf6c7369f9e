//! Real clients and servers that tests start.
#![allow(dead_code, unreachable_pub)]

use std::env;
use std::path::PathBuf;

/// Returns where a program is that `.ci/packages` names.
///
/// # Panics
/// When it is not there: says which package to install.
#[track_caller]
pub fn program(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    // Servers lie where a user's PATH may not lead.
    let servers = ["/usr/sbin".into(), "/sbin".into()];
    program_in(env::split_paths(&path).chain(servers), name)
}

/// As [`program`], in these directories.
#[track_caller]
pub fn program_in(directories: impl IntoIterator<Item = PathBuf>, name: &str) -> PathBuf {
    let mut files = directories.into_iter().map(|d| d.join(name));
    files.find(|file| file.is_file()).unwrap_or_else(|| {
        let packages = include_str!("../../../.ci/packages");
        let package = packages.lines().find_map(|row| {
            let mut words = row.split_whitespace();
            let package = words.next()?;
            (words.next() == Some(name)).then_some(package)
        });
        let package = package.unwrap_or("(.ci/packages does not name it)");
        panic!("this test needs the program '{name}': apt-get install {package}")
    })
}
