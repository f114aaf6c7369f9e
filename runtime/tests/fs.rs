//! Files: std's names, and what they do to a file is what std's do, whoever calls and however the
//! call ends.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::mem_forget,
    clippy::type_complexity,
    clippy::disallowed_methods,
    dropping_copy_types
)]

mod common;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, BufWriter, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use common::{Random, until, within};
use sward_runtime::fs::{self, File};
use sward_runtime::{Runtime, WaitKind, join_all, spawn, stats, timeout, yield_now};

/// A directory of the test's own, removed at the end.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let (pid, n) = (std::process::id(), NEXT.fetch_add(1, SeqCst));
        let path = std::env::temp_dir().join(format!("sward-fs-{pid}-{n}"));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn runtime(workers: usize) -> Runtime {
    Runtime::builder().workers(workers).build().unwrap()
}

fn everywhere(check: impl Fn(&Dir) + Send + Sync) {
    check(&Dir::new());
    runtime(1).run(|| check(&Dir::new()));
    runtime(2).run(|| check(&Dir::new()));
}

#[test]
fn whole_files_and_paths() {
    within("whole_files_and_paths", || {
        everywhere(|dir| {
            let (a, b, deep) = (dir.at("a"), dir.at("b"), dir.at("x/y/z"));
            assert!(!fs::exists(&a).unwrap());
            assert_eq!(fs::read(&a).unwrap_err().kind(), ErrorKind::NotFound);
            fs::write(&a, "some text").unwrap();
            assert_eq!(fs::read(&a).unwrap(), b"some text");
            assert_eq!(fs::read_to_string(&a).unwrap(), "some text");
            assert_eq!(fs::metadata(&a).unwrap().len(), 9);
            assert_eq!(fs::copy(&a, &b).unwrap(), 9);
            fs::rename(&b, dir.at("c")).unwrap();
            assert!(!fs::exists(&b).unwrap());
            fs::hard_link(&a, &b).unwrap();
            assert_eq!(fs::metadata(&b).unwrap().nlink(), 2);
            fs::symlink(&a, dir.at("link")).unwrap();
            assert_eq!(fs::read_link(dir.at("link")).unwrap(), a);
            let link = fs::symlink_metadata(dir.at("link")).unwrap();
            assert!(link.is_symlink());
            let real = fs::canonicalize(dir.at("link")).unwrap();
            assert_eq!(real, std::fs::canonicalize(&a).unwrap());
            fs::set_permissions(&a, fs::Permissions::from_mode(0o600)).unwrap();
            assert_eq!(
                fs::metadata(&a).unwrap().permissions().mode() & 0o777,
                0o600
            );
            fs::create_dir(dir.at("d")).unwrap();
            let again = fs::create_dir(dir.at("d")).unwrap_err();
            assert_eq!(again.kind(), ErrorKind::AlreadyExists);
            fs::remove_dir(dir.at("d")).unwrap();
            fs::create_dir_all(&deep).unwrap();
            assert!(fs::remove_dir(dir.at("x")).is_err());
            fs::remove_dir_all(dir.at("x")).unwrap();
            fs::remove_file(&a).unwrap();
            assert_eq!(fs::remove_file(&a).unwrap_err().kind(), ErrorKind::NotFound);
            fs::write(&a, [0xff, 0xfe]).unwrap();
            let text = fs::read_to_string(&a).unwrap_err();
            assert_eq!(text.kind(), ErrorKind::InvalidData);
        });
    });
}

#[test]
fn an_open_file() {
    within("an_open_file", || {
        everywhere(|dir| {
            let path = dir.at("f");
            assert!(File::open(&path).is_err());
            let mut file = File::create_new(&path).unwrap();
            assert!(File::create_new(&path).is_err());
            assert_eq!(file.write(b"0123456789").unwrap(), 10);
            file.flush().unwrap();
            file.sync_all().unwrap();
            file.sync_data().unwrap();
            file.set_len(8).unwrap();
            assert_eq!(file.metadata().unwrap().len(), 8);
            file.set_permissions(fs::Permissions::from_mode(0o640))
                .unwrap();
            file.set_times(fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH))
                .unwrap();
            assert_eq!(file.metadata().unwrap().mtime(), 0);
            assert_eq!(file.read(&mut [0; 4]).unwrap(), 0);
            let mut only = File::create(dir.at("w")).unwrap();
            assert!(only.read(&mut [0; 4]).is_err(), "opened for writing only");
            drop(file);

            let file = File::open(&path).unwrap();
            let mut four = [0; 4];
            assert_eq!((&file).read(&mut four).unwrap(), 4);
            assert_eq!(&four, b"0123");
            assert_eq!((&file).stream_position().unwrap(), 4);
            assert_eq!((&file).seek(SeekFrom::End(-2)).unwrap(), 6);
            assert_eq!((&file).read(&mut four).unwrap(), 2);
            assert_eq!((&file).read(&mut four).unwrap(), 0, "the end");
            assert_eq!((&file).read(&mut []).unwrap(), 0);
            assert!((&file).seek(SeekFrom::Current(-100)).is_err());
            // Offsets do not move the position; clones share it.
            assert_eq!(file.read_at(&mut four, 3).unwrap(), 4);
            assert_eq!(&four, b"3456");
            assert!(file.read_at(&mut four, u64::MAX).is_err());
            file.read_exact_at(&mut four, 4).unwrap();
            assert_eq!((&file).stream_position().unwrap(), 8);
            let mut twin = file.try_clone().unwrap();
            twin.rewind().unwrap();
            let mut text = String::from("text: ");
            assert_eq!((&file).read_to_string(&mut text).unwrap(), 8);
            assert_eq!(text, "text: 01234567");
            assert_eq!(twin.stream_position().unwrap(), 8);
            twin.seek(SeekFrom::Start(6)).unwrap();
            let mut rest = vec![b'>'];
            assert_eq!(twin.read_to_end(&mut rest).unwrap(), 2);
            assert_eq!(rest, b">67");
            assert!((&file).write(b"x").is_err(), "opened for reading only");
            assert!(format!("{file:?}").contains("File"));
        });
    });
}

#[test]
fn options_and_std() {
    within("options_and_std", || {
        everywhere(|dir| {
            let path = dir.at("log");
            let append = File::options().create(true).append(true).mode(0o600);
            for line in ["one\n", "two\n"] {
                append
                    .open(&path)
                    .unwrap()
                    .write_all(line.as_bytes())
                    .unwrap();
            }
            let file = File::options().read(true).write(true).open(&path).unwrap();
            assert_eq!(file.write_at(b"ONE", 0).unwrap(), 3);
            let lines: Vec<_> = BufReader::new(&file).lines().map(Result::unwrap).collect();
            assert_eq!(lines, ["ONE", "two"]);
            let number = file.as_raw_fd();
            let std = file.into_std().unwrap();
            assert_eq!(std.as_raw_fd(), number, "not duplicated");
            let mut back = File::from(std);
            back.rewind().unwrap();
            back.set_len(0).unwrap();
            assert_eq!(back.read_to_end(&mut Vec::new()).unwrap(), 0);
            drop(
                File::options()
                    .write(true)
                    .truncate(true)
                    .custom_flags(libc::O_SYNC)
                    .open(&path),
            );
        });
    });
}

/// Buffers of every size, larger than what one call moves too, beside what std reads.
#[test]
fn bytes_are_bytes() {
    within("bytes_are_bytes", || {
        everywhere(|dir| {
            let mut random = Random::new(11);
            let bytes: Vec<u8> = (0..3_000_001).map(|_| random.below(256) as u8).collect();
            let path = dir.at("big");
            let mut file = BufWriter::new(File::create(&path).unwrap());
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let n = (random.below(200_000) as usize).min(rest.len());
                file.write_all(&rest[..n]).unwrap();
                rest = &rest[n..];
            }
            file.into_inner().unwrap().sync_all().unwrap();
            assert!(std::fs::read(&path).unwrap() == bytes);
            let mut file = File::open(&path).unwrap();
            // Out of the page cache, as far as the kernel listens: the slow way.
            // SAFETY: numbers.
            unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
            let mut back = vec![0; bytes.len()];
            let mut at = 0;
            loop {
                let n = random.below(1_500_000) as usize + 1;
                let end = (at + n).min(back.len());
                let got = file.read(&mut back[at..end]).unwrap();
                at += got;
                if got == 0 {
                    break;
                }
            }
            assert!(at == bytes.len() && back == bytes);
            assert!(fs::read(&path).unwrap() == bytes);
            file.rewind().unwrap();
            let mut all = Vec::new();
            file.read_to_end(&mut all).unwrap();
            assert!(all == bytes);
        });
    });
}

#[test]
fn directories() {
    within("directories", || {
        everywhere(|dir| {
            let names: BTreeSet<String> = (0..1000).map(|i| format!("file-{i}")).collect();
            for name in &names {
                std::fs::write(dir.at(name), name).unwrap();
            }
            std::fs::create_dir(dir.at("sub")).unwrap();
            let mut seen = BTreeSet::new();
            for entry in fs::read_dir(&dir.0).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                assert_eq!(entry.path(), dir.at(&name));
                assert!(entry.ino() > 0);
                if entry.file_type().unwrap().is_dir() {
                    assert_eq!(name, "sub");
                } else {
                    assert_eq!(entry.metadata().unwrap().len(), name.len() as u64);
                    assert!(seen.insert(name), "listed twice");
                }
            }
            assert!(seen == names);
            let mut empty = fs::read_dir(dir.at("sub")).unwrap();
            assert!(empty.next().is_none() && empty.next().is_none());
            assert!(fs::read_dir(dir.at("none")).is_err());
            // Half used, and gone.
            let mut some = fs::read_dir(&dir.0).unwrap();
            some.next().unwrap().unwrap();
            drop(some);
        });
    });
}

/// A pipe opened as a file: reads wait on the pool, other tasks run, a kill and a time-out end the
/// wait, and the descriptor stays until the job is done.
#[test]
fn a_read_that_waits() {
    within("a_read_that_waits", || {
        for workers in [1, 2] {
            runtime(workers).run(|| {
                let (reader, mut writer) = std::io::pipe().unwrap();
                let file = Arc::new(File::from(std::os::fd::OwnedFd::from(reader)));
                let (reads, from) = (file.clone(), file.clone());
                let task = spawn(move || {
                    let mut buffer = [0; 8];
                    let n = (&*reads).read(&mut buffer).unwrap();
                    buffer[..n].to_vec()
                });
                let parked = |id| {
                    let dump = sward_runtime::dump().tasks();
                    let shown = dump.into_iter().find(|t| t.id == id);
                    shown.is_some_and(|t| t.reason.kind() == WaitKind::Blocking)
                };
                until(|| parked(task.id()) && stats().blocking_jobs == 1);
                writer.write_all(b"first").unwrap();
                assert_eq!(task.join().unwrap(), b"first");

                let limit = Duration::from_millis(5);
                assert!(timeout(limit, || (&*file).read(&mut [0; 8])).is_err());
                let task = spawn(move || (&*from).read(&mut [0; 8]));
                until(|| stats().blocking_jobs == 2);
                task.kill();
                assert!(task.join().unwrap_err().is_killed());
                // Both jobs still read: the file cannot be taken out of their hands.
                let file = Arc::into_inner(file).unwrap();
                let number = file.as_raw_fd();
                assert_ne!(file.into_std().unwrap().as_raw_fd(), number);
                // Eight bytes for each, if it had begun when it was left.
                writer.write_all(&[0; 16]).unwrap();
                until(|| stats().blocking_jobs == 0);
                let closed = writer.write(b"x").unwrap_err();
                assert_eq!(closed.kind(), ErrorKind::BrokenPipe, "left open");
            });
        }
    });
}

/// A file that others read slowly: a call that would wait for its position does so on the pool.
#[test]
fn a_busy_position_holds_up_nobody() {
    within("a_busy_position_holds_up_nobody", || {
        runtime(1).run(|| {
            let (reader, mut writer) = std::io::pipe().unwrap();
            let file = Arc::new(File::from(std::os::fd::OwnedFd::from(reader)));
            let tasks: Vec<_> = (0..4)
                .map(|_| {
                    let file = file.clone();
                    spawn(move || (&*file).read(&mut [0; 1]).unwrap())
                })
                .collect();
            until(|| stats().blocking_jobs == 4);
            assert!(
                (&*file).seek(SeekFrom::Start(0)).is_err(),
                "a pipe has no position"
            );
            writer.write_all(b"1234").unwrap();
            let got = join_all(tasks).into_iter().map(Result::unwrap);
            assert_eq!(got.sum::<usize>(), 4);
        });
    });
}

/// Cached reads do not keep others from running, and a loop of them can be killed.
#[test]
fn cached_reads_give_way() {
    within("cached_reads_give_way", || {
        runtime(1).run(|| {
            let dir = Dir::new();
            std::fs::write(dir.at("f"), [1; 100]).unwrap();
            let file = File::open(dir.at("f")).unwrap();
            let task = spawn(move || {
                loop {
                    assert_eq!(file.read_at(&mut [0; 100], 0).unwrap(), 100);
                }
            });
            (0..3).for_each(|_| yield_now());
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
        });
    });
}

#[test]
fn many_at_once() {
    within("many_at_once", || {
        runtime(2).run(|| {
            let dir = Arc::new(Dir::new());
            let tasks = (0..200).map(|i| {
                let dir = dir.clone();
                spawn(move || {
                    let path = dir.at(format!("{i}"));
                    let text = format!("{i}").repeat(i);
                    fs::write(&path, &text).unwrap();
                    assert_eq!(fs::read_to_string(&path).unwrap(), text);
                    fs::remove_file(path).unwrap();
                })
            });
            join_all(tasks).into_iter().for_each(|task| task.unwrap());
            assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 0);
        });
    });
}

/// What a buffered writer has left is written when its task is killed.
#[test]
fn written_in_a_destructor() {
    within("written_in_a_destructor", || {
        runtime(1).run(|| {
            let dir = Dir::new();
            let path = dir.at("f");
            let mut file = BufWriter::new(File::create(&path).unwrap());
            let task = spawn(move || {
                file.write_all(b"the last words").unwrap();
                sward_runtime::park();
            });
            yield_now();
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
            assert_eq!(fs::read(&path).unwrap(), b"the last words");
        });
    });
}
