//! Child processes: their ends, their pipes, signals to them; nothing is left of them, and nothing
//! blocks a worker.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::ExitStatusExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Random, assert_passed, is_child, rerun, stderr, until, within};
use sward_runtime::io::{is_closed, pipe};
use sward_runtime::process::{Child, Command, Failed, Stdio};
use sward_runtime::signal::{SIGKILL, SIGTERM, SIGUSR1};
use sward_runtime::{Runtime, join_all, sleep, spawn, timeout};

const LONG: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_millis(20);

fn everywhere(check: impl Fn() + Send + Sync) {
    check();
    for workers in [1, 2] {
        let runtime = Runtime::builder().workers(workers).build().unwrap();
        runtime.run(&check);
    }
}

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn sleeper() -> Child {
    let mut command = Command::new("sleep");
    command.arg("3600").kill_on_drop(true).spawn().unwrap()
}

/// `R`, `S`, `Z`, ...; `None`: there is no such process.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.trim_start().chars().next()
}

fn until_gone(pid: u32) {
    until(|| state(pid).is_none());
}

/// The first byte that a child prints: it is up.
fn until_up(child: &mut Child) {
    let mut byte = [0];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut byte)
        .unwrap();
}

fn bytes(n: usize) -> Vec<u8> {
    let mut random = Random::new(n as u64);
    (0..n).map(|_| random.below(256) as u8).collect()
}

#[test]
fn shapes_of_std() {
    within("shapes_of_std", || {
        everywhere(|| {
            assert!(Command::new("true").status().unwrap().success());
            assert_eq!(sh("exit 7").status().unwrap().code(), Some(7));
            let output = sh("echo $GREEN; pwd; cat; echo bad >&2")
                .env("GREEN", "yes")
                .current_dir("/")
                .output()
                .unwrap();
            assert_eq!(output.stdout, b"yes\n/\n");
            assert_eq!(output.stderr, b"bad\n");
            // A chosen stream stays chosen; the others are std's default again afterwards.
            let mut command = sh("echo out; echo err >&2");
            command.stderr(Stdio::null());
            let output = command.output().unwrap();
            assert_eq!(
                (&output.stdout[..], &output.stderr[..]),
                (&b"out\n"[..], &b""[..])
            );
            let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
            assert!(child.stdin.is_none() && child.stderr.is_none());
            let mut text = String::new();
            child
                .stdout
                .take()
                .unwrap()
                .read_to_string(&mut text)
                .unwrap();
            assert_eq!(text, "out\n");
            assert!(child.wait().unwrap().success());
            assert!(child.wait().unwrap().success());
            assert!(child.try_wait().unwrap().unwrap().success());
            child.kill().unwrap();
            child.signal(SIGUSR1).unwrap();
            let running = sleeper();
            assert!(running.signal(12345).is_err());
            running.process().kill().unwrap();
        });
    });
}

#[test]
fn errors_of_exec_are_those_of_std() {
    within("errors_of_exec_are_those_of_std", || {
        everywhere(|| {
            let missing = Command::new("/no/such/program").spawn().unwrap_err();
            assert_eq!(missing.kind(), ErrorKind::NotFound);
            assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
            let denied = Command::new("/etc/passwd").output().unwrap_err();
            assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
            let nowhere = Command::new("true").current_dir("/no/such").status();
            assert_eq!(nowhere.unwrap_err().kind(), ErrorKind::NotFound);
        });
    });
}

#[test]
fn checked_calls() {
    within("checked_calls", || {
        everywhere(|| {
            assert_eq!(sh("echo fine").check_output().unwrap(), b"fine\n");
            sh("exit 0").check_call().unwrap();
            let error = sh("echo one >&2; echo two >&2; exit 3").check_output();
            let error = error.unwrap_err();
            assert_eq!(error.to_string(), "\"sh\" failed: exit status: 3: two");
            let failed = error.get_ref().unwrap().downcast_ref::<Failed>().unwrap();
            assert_eq!(failed.status().code(), Some(3));
            assert_eq!(failed.stderr(), b"one\ntwo\n");
            assert!(sh("exit 1").check_call().is_err());
            let output = Command::new("cat").run("in and out", LONG).unwrap();
            assert_eq!(output.stdout, b"in and out");
        });
    });
}

/// Both pipes are full most of the time.
#[test]
fn communicate_with_ten_megabytes_both_ways() {
    within("communicate_with_ten_megabytes_both_ways", || {
        let input = Arc::new(bytes(10 << 20));
        everywhere(|| {
            let mut child = sh("tee /dev/stderr")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let output = child.communicate(&input[..]).unwrap();
            assert!(output.status.success());
            assert!(output.stdout == **input && output.stderr == **input);
        });
    });
}

#[test]
fn a_time_out_of_communicate_loses_nothing() {
    within("a_time_out_of_communicate_loses_nothing", || {
        everywhere(|| {
            let mut child = sh("echo first; read line; cat; exit 5")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            // Its input stays open, so it does not end.
            let stdin = child.stdin.take().unwrap();
            let error = child.communicate_timeout([], SHORT).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(error.to_string().contains("is not done"), "{error}");
            // A kill of the task around it leaves it as it is, too.
            let cut = timeout(SHORT, || child.communicate([]).map(drop));
            assert!(cut.is_err());
            child.stdin = Some(stdin);
            let big = vec![b'x'; 1 << 20];
            let mut input = b"line\n".to_vec();
            input.extend(&big);
            let output = child.communicate(input).unwrap();
            assert_eq!(output.status.code(), Some(5));
            assert!(output.stdout == [b"first\n", &big[..]].concat());
        });
    });
}

/// Part of the input is written when the time is over; the rest follows in the next call.
#[test]
fn input_that_is_left_is_written_later() {
    within("input_that_is_left_is_written_later", || {
        everywhere(|| {
            let (gate, mut key) = pipe().unwrap();
            // The child gets the gate as its stderr, and reads from it.
            let mut child = sh("exec 3<&2 2>/dev/null; read go <&3; cat")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(gate)
                .spawn()
                .unwrap();
            let first = bytes(300_000);
            let error = child.communicate_timeout(&first[..], SHORT).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(error.to_string().contains("bytes to be written"), "{error}");
            key.write_all(b"go\n").unwrap();
            let output = child.communicate("the end").unwrap();
            assert!(output.stdout == [&first[..], b"the end"].concat());
        });
    });
}

#[test]
fn a_child_that_reads_no_input() {
    within("a_child_that_reads_no_input", || {
        everywhere(|| {
            let input = vec![b'y'; 4 << 20];
            let output = Command::new("head").args(["-c", "5"]).run(&input[..], LONG);
            assert_eq!(output.unwrap().stdout, b"yyyyy");
            // Written to directly, it is an error, and no SIGPIPE.
            let mut child = sh("exec <&-; echo up; exec sleep 3600")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            until_up(&mut child);
            let mut stdin = child.stdin.take().unwrap();
            // A process that is being started beside may have the reading end until its exec.
            let error = loop {
                if let Err(error) = stdin.write_all(b"x") {
                    break error;
                }
            };
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            child.kill().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(SIGKILL));
        });
    });
}

#[test]
fn an_endless_child_is_cut_short() {
    within("an_endless_child_is_cut_short", || {
        everywhere(|| {
            let mut yes = Command::new("yes").stdout(Stdio::piped()).spawn().unwrap();
            let head = Command::new("head")
                .args(["-n", "3"])
                .stdin(yes.stdout.take().unwrap())
                .output()
                .unwrap();
            assert_eq!(head.stdout, b"y\ny\ny\n");
            assert_eq!(yes.wait().unwrap().signal(), Some(libc::SIGPIPE));
            // Always ready, and still the time-out fires and others run.
            let beside = spawn(|| sleep(Duration::from_millis(1)));
            let error = Command::new("yes").run([], SHORT).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            beside.join().unwrap();
        });
    });
}

#[test]
fn a_child_that_ignores_sigterm() {
    within("a_child_that_ignores_sigterm", || {
        everywhere(|| {
            let mut child = sh("trap '' TERM; echo up; while :; do sleep 1; done")
                .stdout(Stdio::piped())
                .process_group(0)
                .spawn()
                .unwrap();
            until_up(&mut child);
            let process = child.process();
            let begun = Instant::now();
            let status = process.terminate(Duration::from_millis(50)).unwrap();
            assert_eq!(status.signal(), Some(SIGKILL));
            assert!(begun.elapsed() >= Duration::from_millis(50));
            // One that does not is not waited for.
            let status = { sleeper() }.terminate(LONG).unwrap();
            assert_eq!(status.signal(), Some(SIGTERM));
            // Nobody is left to signal, and no stranger is hit.
            process.kill().unwrap();
            assert_eq!(
                process.signal_group(SIGKILL).unwrap_err().kind(),
                ErrorKind::NotFound
            );
        });
    });
}

#[test]
fn a_group_is_signalled() {
    within("a_group_is_signalled", || {
        everywhere(|| {
            let mut child = sh("sleep 3600 & echo $!; wait")
                .stdout(Stdio::piped())
                .process_group(0)
                .spawn()
                .unwrap();
            let mut line = String::new();
            let mut out = child.stdout.take().unwrap();
            while !line.ends_with('\n') {
                let mut byte = [0];
                out.read_exact(&mut byte).unwrap();
                line.push(byte[0].into());
            }
            let grandchild: u32 = line.trim().parse().unwrap();
            assert!(state(grandchild).is_some());
            child.process().signal_group(SIGKILL).unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(SIGKILL));
            until(|| state(grandchild).is_none_or(|state| state == 'Z'));
        });
    });
}

#[test]
fn waits_and_their_time_outs() {
    within("waits_and_their_time_outs", || {
        everywhere(|| {
            let mut child = sleeper();
            let error = child.wait_timeout(SHORT).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(error.to_string().contains("still runs"), "{error}");
            assert!(child.try_wait().unwrap().is_none());
            assert!(timeout(SHORT, || child.process().wait()).is_err());
            let process = child.process();
            let victim = spawn(move || process.wait().map(drop));
            sleep(Duration::from_millis(2));
            victim.kill();
            assert!(victim.join().unwrap_err().is_killed());
            child.kill().unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(SIGKILL));
            // It had ended before anybody waited.
            let mut child = Command::new("true").spawn().unwrap();
            let pid = child.id();
            until(|| state(pid) == Some('Z'));
            assert!(child.wait_timeout(Duration::ZERO).unwrap().success());
            assert_eq!(state(pid), None);
        });
    });
}

#[test]
fn many_wait_for_one() {
    within("many_wait_for_one", || {
        everywhere(|| {
            let child = sleeper();
            let tasks: Vec<_> = (0..50)
                .map(|i| {
                    let process = child.process();
                    let limit = if i % 5 == 0 { SHORT } else { LONG };
                    spawn(move || process.wait_timeout(limit))
                })
                .collect();
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    let process = child.process();
                    std::thread::spawn(move || process.wait())
                })
                .collect();
            sleep(Duration::from_millis(60));
            child.signal(SIGTERM).unwrap();
            for (i, ended) in join_all(tasks).into_iter().enumerate() {
                match ended.unwrap() {
                    Ok(status) => assert_eq!(status.signal(), Some(SIGTERM)),
                    Err(e) => assert!(i % 5 == 0 && e.kind() == ErrorKind::TimedOut),
                }
            }
            for thread in threads {
                let status = thread.join().unwrap().unwrap();
                assert_eq!(status.signal(), Some(SIGTERM));
            }
        });
    });
}

#[test]
fn two_hundred_at_once() {
    within("two_hundred_at_once", || {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let tasks: Vec<_> = (0..200)
            .map(|i| {
                runtime.spawn(move || {
                    let mut child = sh("read x; echo $x; exit $x")
                        .stdin(Stdio::piped())
                        .stdout(Stdio::piped())
                        .spawn()
                        .unwrap();
                    let output = child.communicate(format!("{i}\n")).unwrap();
                    assert_eq!(output.stdout, format!("{i}\n").into_bytes());
                    assert_eq!(output.status.code(), Some(i % 256));
                    child.id()
                })
            })
            .collect();
        for pid in join_all(tasks) {
            assert_eq!(state(pid.unwrap()), None);
        }
    });
}

#[test]
fn dropped_children_leave_no_zombie() {
    within("dropped_children_leave_no_zombie", || {
        everywhere(|| {
            // Killed by the drop.
            let child = Command::new("sleep")
                .arg("3600")
                .kill_on_drop(true)
                .spawn()
                .unwrap();
            let pid = child.id();
            let process = child.process();
            drop(child);
            assert_eq!(process.wait().unwrap().signal(), Some(SIGKILL));
            drop(process);
            assert_eq!(state(pid), None);
            // Killed by the drop, reaped by nobody that we know.
            let mut child = sleeper();
            child.kill_on_drop(true);
            let pid = child.id();
            drop(child);
            until_gone(pid);
            // Left running, in several waves, and reaped when they end.
            for _ in 0..3 {
                let mut pids = Vec::new();
                let mut gates = Vec::new();
                for _ in 0..10 {
                    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
                    gates.push(child.stdin.take().unwrap());
                    pids.push(child.id());
                }
                assert!(pids.iter().all(|pid| state(*pid).is_some_and(|s| s != 'Z')));
                drop(gates);
                pids.into_iter().for_each(until_gone);
            }
            // Ended before it is dropped.
            let child = Command::new("true").spawn().unwrap();
            let pid = child.id();
            until(|| state(pid) == Some('Z'));
            drop(child);
            assert_eq!(state(pid), None);
        });
    });
}

/// Who is killed while it waits in a call that gave it no handle takes the child along.
#[test]
fn a_killed_call_kills_its_child() {
    within("a_killed_call_kills_its_child", || {
        everywhere(|| {
            let (mut heard, told) = pipe().unwrap();
            let told = Stdio::from(told);
            let task = spawn(move || sh("echo $$ >&2; exec sleep 3600").stderr(told).status());
            let mut line = String::new();
            while !line.ends_with('\n') {
                let mut byte = [0];
                heard.read_exact(&mut byte).unwrap();
                line.push(byte[0].into());
            }
            task.kill();
            assert!(task.join().unwrap_err().is_killed());
            until_gone(line.trim().parse().unwrap());
        });
    });
}

#[test]
fn another_ones_children_are_left_alone() {
    within("another_ones_children_are_left_alone", || {
        everywhere(|| {
            let mut other = std::process::Command::new("true").spawn().unwrap();
            until(|| state(other.id()) == Some('Z'));
            drop(sleeper_that_ends());
            assert!(Command::new("true").status().unwrap().success());
            assert_eq!(state(other.id()), Some('Z'));
            assert!(other.wait().unwrap().success());
        });
    });
}

fn sleeper_that_ends() -> Child {
    Command::new("sleep").arg("0.01").spawn().unwrap()
}

#[test]
fn a_status_that_somebody_else_fetched() {
    within("a_status_that_somebody_else_fetched", || {
        let mut child = Command::new("true").spawn().unwrap();
        let pid = libc::pid_t::try_from(child.id()).unwrap();
        let mut status = 0;
        // SAFETY: a child of this process, and a local to be written.
        assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
        let error = child.wait().unwrap_err();
        assert!(error.to_string().contains("is lost"), "{error}");
        // Its number may be anybody's by now: nobody is hit.
        child.kill().unwrap();
    });
}

#[test]
fn pipes_of_a_child() {
    within("pipes_of_a_child", || {
        everywhere(|| {
            let mut child = Command::new("cat")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
            let stdout = Arc::new(stdout);
            let mut byte = [0; 10];
            assert_eq!(
                stdout.try_read(&mut byte).unwrap_err().kind(),
                ErrorKind::WouldBlock
            );
            let late = stdout.read_timeout(&mut byte, SHORT).unwrap_err();
            assert_eq!(late.kind(), ErrorKind::TimedOut);
            stdout.set_timeout(Some(SHORT)).unwrap();
            assert_eq!(stdout.timeout(), Some(SHORT));
            assert_eq!(
                (&*stdout).read(&mut byte).unwrap_err().kind(),
                ErrorKind::TimedOut
            );
            assert!(stdout.set_timeout(Some(Duration::ZERO)).is_err());
            stdout.set_timeout(None).unwrap();
            // Ping-pong.
            for i in 0..100_u8 {
                (&stdin).write_all(&[i, i]).unwrap();
                (&*stdout).read_exact(&mut byte[..2]).unwrap();
                assert_eq!(byte[..2], [i, i]);
            }
            // Full: a write waits, and its time-out has moved nothing.
            let block = [7; 1 << 16];
            let mut written = 0;
            loop {
                match stdin.write_timeout(&block, SHORT) {
                    Ok(n) => written += n,
                    Err(e) => break assert_eq!(e.kind(), ErrorKind::TimedOut),
                }
            }
            assert_eq!(
                stdin.try_write(&[1]).unwrap_err().kind(),
                ErrorKind::WouldBlock
            );
            // Closed under a reader.
            let closing = stdout.clone();
            let reading = spawn(move || {
                let mut total = 0;
                let mut buffer = vec![0; 1 << 16];
                loop {
                    match (&*closing).read(&mut buffer) {
                        Ok(n) => total += n,
                        Err(e) => return (total, e),
                    }
                }
            });
            until(|| {
                format!("{stdout:?}").contains("waiting: [1, 0]") && stdin.try_write(&[]).is_ok()
            });
            sleep(SHORT);
            stdout.close().unwrap();
            let (total, error) = reading.join().unwrap();
            assert!(is_closed(&error), "{error}");
            assert!(total <= written);
            drop(stdin);
            child.wait().unwrap();
        });
    });
}

/// A child must see blocking streams, and none of our descriptors.
#[test]
fn what_a_child_inherits() {
    within("what_a_child_inherits", || {
        everywhere(|| {
            let (reader, writer) = pipe().unwrap();
            let (ours, _other_end) = pipe().unwrap();
            let listing =
                sh("cat /proc/self/fdinfo/0 /proc/self/fdinfo/1 >&2; ls -l /proc/$$/fd >&2")
                    .stdin(reader)
                    .stdout(writer)
                    .stderr(Stdio::piped())
                    .output()
                    .unwrap();
            let text = String::from_utf8(listing.stderr).unwrap();
            let mut flags = text.lines().filter_map(|line| line.strip_prefix("flags:"));
            for flags in flags.by_ref().take(2) {
                let flags = i32::from_str_radix(flags.trim(), 8).unwrap();
                assert_eq!(flags & libc::O_NONBLOCK, 0);
            }
            let link = format!("/proc/self/fd/{}", ours.as_fd().as_raw_fd());
            let inode = std::fs::read_link(link).unwrap();
            let inode = inode.to_str().unwrap();
            assert!(
                inode.starts_with("pipe:") && !text.contains(inode),
                "{text}"
            );
            for anonymous in ["pidfd", "eventpoll", "eventfd"] {
                assert!(!text.contains(anonymous), "{text}");
            }
        });
    });
}

#[test]
fn descriptors_are_exhausted() {
    const NAME: &str = "descriptors_are_exhausted";
    if !is_child() {
        return within(NAME, || {
            let out = rerun(NAME, &[]);
            assert_passed(&out);
            assert!(!stderr(&out).contains("panicked"), "{}", stderr(&out));
        });
    }
    within(NAME, || {
        // The runtime's own are there before they run out.
        spawn(|| ()).join().unwrap();
        assert!(Command::new("true").status().unwrap().success());
        let mut hoard: Vec<std::fs::File> = Vec::new();
        let limit = libc::rlimit {
            rlim_cur: 64,
            rlim_max: 64,
        };
        // SAFETY: a pointer to a local.
        let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
        assert_eq!(set, 0);
        while let Ok(file) = std::fs::File::open("/dev/null") {
            hoard.push(file);
        }
        let error = pipe().unwrap_err();
        assert!(error.to_string().contains("ulimit -n"), "{error}");
        // Whatever is still to be had when it fails, nothing stays behind.
        for _ in 0..10 {
            match Command::new("cat")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
            {
                Ok(mut child) => {
                    let output = child.communicate("x");
                    if let Err(error) = output {
                        assert!(error.to_string().contains("descriptor"), "{error}");
                        child.kill().unwrap();
                    }
                }
                Err(error) => assert!(error.to_string().contains("ulimit -n"), "{error}"),
            }
            hoard.pop();
        }
        hoard.clear();
        assert!(Command::new("true").status().unwrap().success());
        let me = std::process::id();
        let children = format!("/proc/{me}/task/{me}/children");
        until(|| std::fs::read_to_string(&children).is_ok_and(|text| text.is_empty()));
    });
}

/// A forked child refuses what is the parent's, and starts children of its own.
#[test]
fn in_a_forked_child() {
    const NAME: &str = "in_a_forked_child";
    if !is_child() {
        return within(NAME, || assert_passed(&rerun(NAME, &[])));
    }
    within(NAME, || {
        let mut child = sleeper();
        // SAFETY: the child uses memory, and its own processes; then it exits.
        let forked = unsafe { libc::fork() };
        if forked == 0 {
            let refused = |e: std::io::Error| e.to_string().contains("forked child");
            let ok = refused(child.try_wait().unwrap_err())
                && refused(child.wait().unwrap_err())
                && refused(child.kill().unwrap_err());
            drop(child);
            let runtime = Runtime::builder().workers(1).build().unwrap();
            let own = runtime.run(|| Command::new("cat").run("own", LONG).unwrap().stdout);
            let status = if ok && own == b"own" { 0 } else { 1 };
            // SAFETY: a number.
            unsafe { libc::_exit(status) };
        }
        let mut status = 0;
        // SAFETY: our own child, and a local.
        assert_eq!(unsafe { libc::waitpid(forked, &raw mut status, 0) }, forked);
        assert_eq!(status, 0);
        assert!(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    });
}
