//! Reads from two sockets at once: tasks of `zmq_taskvent`, weather of `zmq_wuserver`. In three ways:
//! with a poller, as the original, with a task for each socket, and with `select!`.
//!
//! ```sh
//! cargo run --release --example zmq_mspoller -- poller | tasks | select
//! cargo run --release --example zmq_mspoller -- poller VENTILATOR WEATHER_SERVER
//! ```

use sward::mq::{Error, Message, PollEvents, Poller, Pull, Sub};
use sward::{select, spawn};

fn do_task(task: &Message) {
    println!("task: {}", task[0]);
}

fn update_weather(update: &Message) {
    println!("weather: {}", update[0]);
}

fn with_poller(receiver: &Pull, subscriber: &Sub) -> Result<(), Error> {
    let mut poller = Poller::new();
    poller.add("tasks", receiver, PollEvents::IN);
    poller.add("weather", subscriber, PollEvents::IN);
    loop {
        for (ready, _) in poller.poll(None)? {
            match ready {
                "tasks" => do_task(&receiver.recv()?),
                _ => update_weather(&subscriber.recv()?),
            }
        }
    }
}

fn with_tasks(receiver: Pull, subscriber: Sub) {
    let tasks = spawn(move || receiver.iter().for_each(|task| do_task(&task)));
    let weather = spawn(move || subscriber.iter().for_each(|update| update_weather(&update)));
    let _ = (tasks.join(), weather.join());
}

fn with_select(receiver: &Pull, subscriber: &Sub) -> Result<(), Error> {
    loop {
        select! {
            task = receiver.receiving() => do_task(&task?),
            update = subscriber.receiving() => update_weather(&update?),
        }
    }
}

#[sward::main]
fn main() -> Result<(), Error> {
    let mut args = std::env::args().skip(1);
    let way = args.next().unwrap_or_default();
    let mut endpoint = |usual: &str| args.next().unwrap_or_else(|| usual.to_owned());

    let receiver = Pull::connected(endpoint("tcp://localhost:5557"))?;
    let subscriber = Sub::connected(endpoint("tcp://localhost:5556"))?;
    subscriber.subscribe("10001")?;
    match &way[..] {
        "tasks" => with_tasks(receiver, subscriber),
        "select" => with_select(&receiver, &subscriber)?,
        _ => with_poller(&receiver, &subscriber)?,
    }
    Ok(())
}
