//! Objects that carry values: `select!` over two channels, and the three queues.

use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use sward_runtime::sync::queue::{GetTimeoutError, JoinableQueue, Order};
use sward_runtime::sync::{Receiver, Sender, after, bounded, rendezvous};
use sward_runtime::{now, select, yield_now};

use super::objects::{Object, count, short, wrong};
use super::world::{Me, Value, Waiting, World};

// ---- select -------------------------------------------------------------------------------------

/// Bits of what a select waits for: to receive from channel 0 or 1, to send to it.
const RECV: [usize; 2] = [1, 2];
const SEND: [usize; 2] = [4, 8];

/// Two channels, used through `select!` and without.
pub(crate) struct Choice {
    id: usize,
    capacity: [usize; 2],
    ends: [(Sender<Value>, Receiver<Value>); 2],
}

impl Choice {
    pub(crate) fn make(id: usize, seed: u64) -> Arc<dyn Object> {
        let capacity = [0, (seed % 2) as usize];
        let ends = capacity.map(|n| if n == 0 { rendezvous() } else { bounded(n) });
        Arc::new(Self { id, capacity, ends })
    }

    fn got(&self, me: &Me, k: usize, value: Option<Value>) {
        if let Some(value) = value {
            // Each channel has an order of its own.
            value.received(me.index, self.id + 100 * k);
        }
    }

    /// Receives from one of them.
    fn receive(&self, me: &Me, choice: u64, a: usize, limited: bool) {
        let (b, limit, begun) = (1 - a, short(choice), now());
        let [from_a, from_b] = [&self.ends[a].1, &self.ends[b].1];
        let select = || {
            select! {
                value = from_a.receiving() => Some((a, value.ok())),
                value = from_b.receiving() => Some((b, value.ok())),
                _ = after(limit), if limited => None,
            }
        };
        let what = if limited { "limited" } else { "select" };
        match me.wait(self.id, what, RECV[0] | RECV[1], select).0 {
            Some((k, value)) => self.got(me, k, value),
            None => me.on_time(begun, limit),
        }
    }

    /// Sends to one of them, a value of its own to each.
    fn send(&self, me: &Me, choice: u64, a: usize, limited: bool) {
        let (b, limit, begun) = (1 - a, short(choice), now());
        let (one, other) = (me.make(), me.make());
        let offers = [me.offer(&one, self.id), me.offer(&other, self.id)];
        let [to_a, to_b] = [&self.ends[a].0, &self.ends[b].0];
        let select = || {
            select! {
                sent = to_a.sending(one) => Some((0, sent.err().map(|e| e.into_inner()))),
                sent = to_b.sending(other) => Some((1, sent.err().map(|e| e.into_inner()))),
                _ = after(limit), if limited => None,
            }
        };
        let what = if limited { "limited" } else { "select" };
        let (done, _) = me.wait(self.id, what, SEND[0] | SEND[1], select);
        if done.is_none() {
            me.on_time(begun, limit);
        }
        // What was not chosen has been dropped: `Offer` looks.
        for (i, offer) in offers.into_iter().enumerate() {
            if let Some((chosen, back)) = &done
                && *chosen == i
            {
                offer.ended(back.as_ref());
            }
        }
    }

    /// Sends to one and receives from the other.
    fn exchange(&self, me: &Me, choice: u64, a: usize, limited: bool) {
        let (b, limit, begun) = (1 - a, short(choice), now());
        let value = me.make();
        let offer = me.offer(&value, self.id);
        let (to, from) = (&self.ends[a].0, &self.ends[b].1);
        let select = || {
            select! {
                value = from.receiving() => Some(Err(value.ok())),
                sent = to.sending(value) => Some(Ok(sent.err().map(|e| e.into_inner()))),
                _ = after(limit), if limited => None,
            }
        };
        let what = if limited { "limited" } else { "select" };
        match me.wait(self.id, what, SEND[a] | RECV[b], select).0 {
            Some(Ok(back)) => offer.ended(back.as_ref()),
            Some(Err(value)) => {
                drop(offer);
                self.got(me, b, value);
            }
            None => me.on_time(begun, limit),
        }
    }
}

impl Object for Choice {
    fn name(&self) -> &'static str {
        "select"
    }

    fn act(&self, me: &Me, choice: u64) {
        let a = (choice >> 12) as usize % 2;
        let limited = (choice >> 16).is_multiple_of(4);
        let (sender, receiver) = &self.ends[a];
        match (choice >> 4) % 8 {
            0 | 1 => self.receive(me, choice, a, limited),
            2 | 3 => self.send(me, choice, a, limited),
            4 | 5 => self.exchange(me, choice, a, limited),
            6 => {
                let value = me.make();
                let offer = me.offer(&value, self.id);
                let (sent, _) = me.wait(self.id, "select", SEND[a], || sender.send(value));
                offer.ended(sent.err().map(|e| e.into_inner()).as_ref());
            }
            _ => {
                let (got, _) = me.wait(self.id, "select", RECV[a], || receiver.recv());
                self.got(me, a, got.ok());
            }
        }
        me.point();
    }

    fn quiet(&self, _: &World, waiting: &[(usize, Waiting)]) -> Result<(), String> {
        wrong(count(waiting, "limited") > 0, "a timer has not fired")?;
        for k in 0..2 {
            let who = |bit: usize| waiting.iter().filter(move |w| w.1.detail & bit != 0);
            let (sends, receives) = (who(SEND[k]).count(), who(RECV[k]).count());
            let pair = who(SEND[k]).any(|s| who(RECV[k]).any(|r| s.0 != r.0));
            wrong(pair, "a sender and a receiver wait")?;
            let (sender, receiver) = &self.ends[k];
            let len = sender.len();
            wrong(receives > 0 && len > 0, "there is a value")?;
            wrong(sends > 0 && len < self.capacity[k], "there is room")?;
            let lines = (sender.waiting_senders(), receiver.waiting_receivers());
            if lines != (sends, receives) {
                return Err(format!("{lines:?} in line {k}, not {sends} and {receives}"));
            }
        }
        Ok(())
    }

    fn release(&self, _: &World) {
        self.ends.iter().for_each(|end| end.0.close());
    }

    fn end(&self, _: &World) -> Result<(), String> {
        for (k, (sender, receiver)) in self.ends.iter().enumerate() {
            while let Ok(value) = receiver.try_recv() {
                value.received(usize::MAX, self.id + 100 * k);
            }
            let lines = (sender.waiting_senders(), receiver.waiting_receivers());
            wrong(lines != (0, 0), "somebody is left in line")?;
        }
        Ok(())
    }
}

// ---- queues -------------------------------------------------------------------------------------

/// A value with a rank, for the queue that orders by it.
pub(crate) struct Ranked(u64, Value);

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

pub(crate) struct Jobs<O: Order<Value = Ranked>> {
    id: usize,
    fifo: bool,
    capacity: usize,
    queue: JoinableQueue<O>,
    /// Got, and not called done.
    working: AtomicUsize,
    /// How often nothing was left to do.
    zeros: AtomicUsize,
}

impl<O: Order<Value = Ranked> + Send + 'static> Jobs<O> {
    pub(crate) fn make(id: usize, seed: u64) -> Arc<dyn Object> {
        let capacity = match seed % 3 {
            0 => usize::MAX,
            n => n as usize,
        };
        let queue = match capacity {
            usize::MAX => JoinableQueue::unbounded(),
            n => JoinableQueue::bounded(n),
        };
        Arc::new(Self {
            id,
            fifo: std::any::type_name::<O>().contains("Fifo"),
            capacity,
            queue,
            working: AtomicUsize::new(0),
            zeros: AtomicUsize::new(0),
        })
    }

    fn look_for_zero(&self, world: &World) {
        if self.queue.unfinished_tasks() == 0 {
            self.zeros.fetch_add(1, Relaxed);
            world.owe(self.id, "join");
        }
    }

    fn put(&self, me: &Me, choice: u64) {
        let value = me.make();
        let offer = me.offer(&value, self.id);
        let job = Ranked((choice >> 20) % 4, value);
        let (begun, limit) = (now(), short(choice));
        let (put, _) = match choice % 4 {
            0 | 1 => me.wait(self.id, "put", 0, || {
                self.queue.put(job).map_err(|e| e.into_inner())
            }),
            2 => me.wait(self.id, "put", 0, || {
                self.queue.put_timeout(job, limit).map_err(|e| {
                    if e.to_string().contains("time") {
                        me.on_time(begun, limit);
                    }
                    e.into_inner()
                })
            }),
            _ => (self.queue.try_put(job).map_err(|e| e.into_inner()), false),
        };
        offer.ended(put.as_ref().err().map(|job| &job.1));
    }

    fn get(&self, me: &Me, choice: u64) {
        let (begun, limit) = (now(), short(choice));
        let (got, _) = match choice % 4 {
            0 | 1 => me.wait(self.id, "get", 0, || self.queue.get().ok()),
            2 => me.wait(self.id, "get", 0, || {
                let got = self.queue.get_timeout(limit);
                if matches!(got, Err(GetTimeoutError::TimedOut)) {
                    me.on_time(begun, limit);
                }
                got.ok()
            }),
            _ => (self.queue.try_get().ok(), false),
        };
        let Some(job) = got else { return };
        let _done = Working::begin(self, &me.world);
        match self.fifo {
            true => job.1.received(me.index, self.id),
            false => job.1.taken(),
        }
        me.point();
        if (choice >> 12).is_multiple_of(2) {
            yield_now();
        }
    }

    fn join(&self, me: &Me, choice: u64) {
        let zeros = self.zeros.load(Relaxed);
        let (begun, limit) = (now(), short(choice));
        let (done, owed) = match choice % 2 {
            0 => me.wait(self.id, "join", 0, || {
                self.queue.join();
                true
            }),
            _ => me.wait(self.id, "join", 0, || self.queue.join_timeout(limit)),
        };
        if !done {
            me.on_time(begun, limit);
            if owed {
                me.world.fail(format!("task {} missed the end", me.index));
            }
        } else if self.queue.unfinished_tasks() > 0 && self.zeros.load(Relaxed) == zeros {
            me.world.fail(format!("task {} joined too early", me.index));
        }
    }
}

/// A job that somebody does: done when it is dropped.
struct Working<'a, O: Order<Value = Ranked> + Send + 'static>(&'a Jobs<O>, &'a World);

impl<'a, O: Order<Value = Ranked> + Send + 'static> Working<'a, O> {
    fn begin(jobs: &'a Jobs<O>, world: &'a World) -> Self {
        jobs.working.fetch_add(1, Relaxed);
        Self(jobs, world)
    }
}

impl<O: Order<Value = Ranked> + Send + 'static> Drop for Working<'_, O> {
    fn drop(&mut self) {
        self.0.working.fetch_sub(1, Relaxed);
        self.0.queue.task_done();
        self.0.look_for_zero(self.1);
    }
}

impl<O: Order<Value = Ranked> + Send + 'static> Object for Jobs<O> {
    fn name(&self) -> &'static str {
        std::any::type_name::<O>()
    }

    fn act(&self, me: &Me, choice: u64) {
        match (choice >> 4) % 32 {
            0 => {
                // What is left is dropped, and nobody has lost it.
                let immediate = choice.is_multiple_of(2);
                me.world.state.lock().closed[self.id] |= immediate;
                self.queue.shutdown(immediate);
                self.look_for_zero(&me.world);
            }
            1..=13 => self.put(me, choice),
            14..=24 => self.get(me, choice),
            25..=27 => drop(me.wait(self.id, "peek", 0, || self.queue.peek(|job| job.0))),
            _ => self.join(me, choice),
        }
        me.point();
    }

    fn quiet(&self, _: &World, waiting: &[(usize, Waiting)]) -> Result<(), String> {
        let here = |what| count(waiting, what) > 0;
        let (len, left) = (self.queue.len(), self.queue.unfinished_tasks());
        let working = self.working.load(Relaxed);
        wrong(len + working != left, "the unfinished are counted wrong")?;
        wrong(here("join") && left == 0, "all is done")?;
        wrong((here("get") || here("peek")) && len > 0, "there is a value")?;
        wrong(here("put") && len < self.capacity, "there is room")?;
        wrong(len > self.capacity, "there is more than there is room for")?;
        let closed = self.queue.is_closed();
        let waits = here("get") || here("peek") || here("put");
        wrong(closed && waits, "it is closed")?;
        let lines = (self.queue.waiting_putters(), self.queue.waiting_getters());
        let right = (count(waiting, "put"), count(waiting, "get"));
        wrong(lines != right, "the lines are not those who wait")
    }

    fn release(&self, world: &World) {
        self.queue.close();
        while let Ok(job) = self.queue.try_get() {
            let _done = Working::begin(self, world);
            job.1.taken();
        }
    }

    fn end(&self, _: &World) -> Result<(), String> {
        let left = (self.queue.len(), self.queue.unfinished_tasks());
        wrong(left != (0, 0), "something is left at the end")
    }
}
