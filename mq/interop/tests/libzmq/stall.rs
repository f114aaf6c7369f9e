//! The only worker of ours computes for two seconds: libzmq, which asks ten times a second whether we
//! are there, notices nothing.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use sward_mq::{Pull, Push};
use sward_runtime::Runtime;

use crate::support::{DISCONNECTED, Kind, Library, Opt, SUCCEEDED, within};
use crate::theirs::Libzmq;

const STALL: Duration = Duration::from_secs(2);

fn compute() {
    let begun = Instant::now();
    while begun.elapsed() < STALL {
        std::hint::spin_loop();
    }
}

#[test]
fn it_stays_while_our_worker_computes() {
    within("it_stays_while_our_worker_computes", || {
        let runtime = Runtime::builder()
            .workers(1)
            .on_stall(|_| {})
            .build()
            .unwrap();
        let (tell, told) = channel();
        let (go, gone) = channel();
        let task = runtime.spawn(move || {
            let pull = Pull::bound("tcp://127.0.0.1:*").unwrap();
            let push = Push::bound("tcp://127.0.0.1:*").unwrap();
            let endpoints = [pull.last_endpoint(), push.last_endpoint()];
            tell.send(endpoints.map(|endpoint| endpoint.unwrap().to_string()))
                .unwrap();
            assert_eq!(pull.recv().unwrap().first(), "before");
            push.send("before").unwrap();
            compute();
            go.send(()).unwrap();
            assert_eq!(pull.recv().unwrap().first(), "after");
            push.send("after").unwrap();
            (pull, push)
        });
        let library = Libzmq::default();
        let (push, pull) = (library.socket(Kind::Push), library.socket(Kind::Pull));
        let [to, from] = told.recv().unwrap();
        for (socket, endpoint) in [(&push, to), (&pull, from)] {
            socket.with([
                Opt::HeartbeatIvl(100),
                Opt::HeartbeatTimeout(400),
                Opt::HeartbeatTtl(400),
            ]);
            socket.dial(&endpoint);
        }
        push.put("before");
        assert_eq!(pull.one(), "before");
        // From another thread than the worker, as it computes.
        gone.recv().unwrap();
        push.put("after");
        assert_eq!(pull.one(), "after");
        // Ours live until libzmq's events have been seen: it would notice their end.
        let ours = task.join().unwrap();
        assert_eq!((ours.0.stats().peers, ours.1.stats().peers), (1, 1));
        for socket in [&push, &pull] {
            let seen = socket.wait_for(SUCCEEDED, 1);
            assert!(
                seen.iter().all(|(code, _)| *code != DISCONNECTED),
                "{seen:x?}"
            );
        }
    });
}
