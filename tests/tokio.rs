//! Bridges to tokio: its types used from sward's tasks, and sward's tasks awaited in its runtime.
//! tokio's runtime runs on threads of its own; a task enters it for the time of a poll only.
#![allow(clippy::unwrap_used, clippy::disallowed_types)]

use std::future::{Future, IntoFuture};
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use sward::{block_on, join_all, sleep, spawn, timeout, yield_now};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{mpsc, oneshot};

/// The handle of a tokio runtime on a thread of its own, as docs/async.md has it.
fn tokio() -> &'static Handle {
    static HANDLE: OnceLock<Handle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        handle
    })
}

/// A future that has tokio's runtime entered while it is polled, and not while its task is parked:
/// what `enter` sets is the thread's, and so every task's.
struct Entered<F>(Pin<Box<F>>);

impl<F: Future> Future for Entered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let _guard = tokio().enter();
        self.0.as_mut().poll(context)
    }
}

fn on_tokio<F: Future>(future: F) -> F::Output {
    block_on(Entered(Box::pin(future)))
}

#[sward::test(workers = 2, timeout = "60s")]
fn sleeping_by_tokios_clock() {
    let begun = Instant::now();
    let pause = Duration::from_millis(30);
    let tasks = (0..50).map(|_| {
        spawn(move || {
            for _ in 0..2 {
                on_tokio(async { tokio::time::sleep(pause).await });
            }
        })
    });
    join_all(tasks).into_iter().for_each(|task| task.unwrap());
    assert!(begun.elapsed() >= pause * 2);
    // Together, not one after the other: that would take 3 s.
    assert!(begun.elapsed() < pause * 50, "{:?}", begun.elapsed());
    let late = on_tokio(async { tokio::time::timeout(pause, std::future::pending::<()>()).await });
    assert!(late.is_err());
}

#[sward::test(workers = 2, timeout = "60s")]
fn sockets_on_loopback() {
    let listener = on_tokio(async { TcpListener::bind("127.0.0.1:0").await.unwrap() });
    let address = listener.local_addr().unwrap();
    let server = spawn(move || {
        let echo = |mut stream: TcpStream| {
            let mut buffer = [0; 1024];
            loop {
                let n = on_tokio(stream.read(&mut buffer)).unwrap();
                if n == 0 {
                    return;
                }
                on_tokio(stream.write_all(&buffer[..n])).unwrap();
            }
        };
        let serve = |_| {
            let (stream, _) = on_tokio(listener.accept()).unwrap();
            spawn(move || echo(stream))
        };
        let connections: Vec<_> = (0..20).map(serve).collect();
        join_all(connections)
            .into_iter()
            .for_each(|end| end.unwrap());
    });
    let clients = (0..20).map(|i: u8| {
        spawn(move || {
            let mut stream = on_tokio(TcpStream::connect(address)).unwrap();
            for round in 0..20 {
                let sent = [i ^ round; 100];
                on_tokio(stream.write_all(&sent)).unwrap();
                let mut got = [0; 100];
                on_tokio(stream.read_exact(&mut got)).unwrap();
                assert_eq!(got, sent);
            }
        })
    });
    join_all(clients)
        .into_iter()
        .for_each(|client| client.unwrap());
    server.join().unwrap();
}

/// tokio's channels need no runtime: plain `block_on`.
#[sward::test(workers = 2, timeout = "60s")]
fn channels_between_both() {
    let (to_tokio, mut numbers) = mpsc::channel::<(u64, oneshot::Sender<u64>)>(4);
    let doubler = tokio().spawn(async move {
        let mut count = 0;
        while let Some((n, reply)) = numbers.recv().await {
            tokio::task::yield_now().await;
            let _ = reply.send(n * 2);
            count += 1;
        }
        count
    });
    let tasks = (0..20).map(|i| {
        let to_tokio = to_tokio.clone();
        spawn(move || {
            for k in 0..50 {
                let (reply, answer) = oneshot::channel();
                block_on(to_tokio.send((i * k, reply))).unwrap();
                assert_eq!(block_on(answer).unwrap(), i * k * 2);
            }
        })
    });
    let tasks: Vec<_> = tasks.collect();
    drop(to_tokio);
    join_all(tasks).into_iter().for_each(|task| task.unwrap());
    // tokio's own handle is a future as any.
    assert_eq!(block_on(doubler).unwrap(), 1000);
}

/// Killed and timed out in a future of tokio's: it is dropped, as by tokio's own `select!`.
#[sward::test(timeout = "60s")]
fn kill_and_timeout() {
    let (held, mut alive) = mpsc::channel::<()>(1);
    let for_ever = move || {
        on_tokio(async move {
            let _held = held;
            tokio::time::sleep(Duration::from_secs(3600)).await;
        });
    };
    let task = spawn(for_ever.clone());
    yield_now();
    task.kill();
    assert!(task.join().unwrap_err().is_killed());
    assert!(timeout(Duration::from_millis(10), for_ever).is_err());
    assert_eq!(block_on(alive.recv()), None, "a future was not dropped");
}

#[sward::test(workers = 2, timeout = "60s")]
fn sward_tasks_awaited_in_tokio() {
    let sum = tokio().spawn(async {
        let mut sum = 0;
        for i in 0..50 {
            let task = spawn(move || {
                sleep(Duration::from_micros(200));
                i
            });
            sum += task.await.unwrap();
        }
        let (slow, quick) = (spawn(sward::park), spawn(|| 5));
        let wakes = slow.task();
        let mut slow = pin!(slow.into_future());
        tokio::select! {
            _ = &mut slow => unreachable!(),
            five = quick.into_future() => sum += five.unwrap(),
        }
        wakes.unpark();
        slow.await.unwrap();
        let failed = spawn(|| -> () { panic!("seen in tokio") }).await;
        assert_eq!(failed.unwrap_err().panic_message(), Some("seen in tokio"));
        let job = sward::spawn_blocking(|| 1).await;
        sum + job.unwrap()
    });
    assert_eq!(block_on(sum).unwrap(), 1225 + 5 + 1);
}
