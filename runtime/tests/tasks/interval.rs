//! The interval: its ticks come at their moments, and what follows missed ones.

use std::time::{Duration, Instant};

use crate::common::within;
use sward_runtime::MissedTickBehavior::{Burst, Delay, Skip};
use sward_runtime::{
    Interval, MissedTickBehavior, Runtime, TimedOut, advance, interval, interval_at, now, sleep,
    spawn, timeout,
};

const MS: Duration = Duration::from_millis(1);

fn on_virtual<T: Send>(name: &str, f: impl FnOnce() -> T + Send) -> T {
    within(name, || {
        Runtime::builder().virtual_clock().build().unwrap().run(f)
    })
}

/// Takes ticks and says when, and which moments they told, in milliseconds since the first.
fn take(ticks: &mut Interval, begun: Instant, n: usize) -> Vec<(u128, u128)> {
    (0..n)
        .map(|_| {
            let moment = ticks.tick();
            ((now() - begun).as_millis(), (moment - begun).as_millis())
        })
        .collect()
}

#[test]
fn ticks_come_at_their_moments() {
    on_virtual("ticks_come_at_their_moments", || {
        for missed in [Burst, Delay, Skip] {
            let begun = now();
            let mut ticks = interval(10 * MS);
            ticks.set_missed_tick_behavior(missed);
            assert_eq!(take(&mut ticks, begun, 1), [(0, 0)]);
            // Work between ticks is part of the period, whether it parks or not.
            sleep(3 * MS);
            assert_eq!(take(&mut ticks, begun, 1), [(10, 10)]);
            advance(9 * MS);
            assert_eq!(take(&mut ticks, begun, 2), [(20, 20), (30, 30)]);
            // Exactly a period is not too long.
            sleep(10 * MS);
            assert_eq!(take(&mut ticks, begun, 2), [(40, 40), (50, 50)]);
        }
    });
}

/// The table of [`MissedTickBehavior`], and the moments that the ticks tell.
#[test]
fn what_follows_missed_ticks() {
    on_virtual("what_follows_missed_ticks", || {
        let cases = [
            (Burst, [(35, 10), (35, 20), (35, 30), (40, 40), (50, 50)]),
            (Delay, [(35, 10), (45, 45), (55, 55), (65, 65), (75, 75)]),
            (Skip, [(35, 10), (40, 40), (50, 50), (60, 60), (70, 70)]),
        ];
        for (missed, expected) in cases {
            for busy in [sleep as fn(Duration), advance] {
                let begun = now();
                let mut ticks = interval(10 * MS);
                ticks.set_missed_tick_behavior(missed);
                assert_eq!(ticks.missed_tick_behavior(), missed);
                ticks.tick();
                busy(35 * MS);
                assert_eq!(take(&mut ticks, begun, 5), expected, "{missed:?}");
            }
        }
        assert_eq!(MissedTickBehavior::default(), Burst);
    });
}

#[test]
fn missed_by_a_whole_number_of_periods_or_by_little() {
    on_virtual("missed_by_a_whole_number_of_periods_or_by_little", || {
        let late = |missed, by: Duration| {
            let begun = now();
            let mut ticks = interval(10 * MS);
            ticks.set_missed_tick_behavior(missed);
            ticks.tick();
            advance(by);
            take(&mut ticks, begun, 3)
        };
        assert_eq!(late(Skip, 30 * MS), [(30, 10), (40, 40), (50, 50)]);
        assert_eq!(late(Delay, 30 * MS), [(30, 10), (40, 40), (50, 50)]);
        assert_eq!(late(Burst, 30 * MS), [(30, 10), (30, 20), (30, 30)]);
        // Less than 5 ms: late, not missed.
        assert_eq!(late(Delay, 14 * MS), [(14, 10), (20, 20), (30, 30)]);
        assert_eq!(late(Skip, 14 * MS), [(14, 10), (20, 20), (30, 30)]);
        assert_eq!(late(Delay, 16 * MS), [(16, 10), (26, 26), (36, 36)]);
    });
}

#[test]
fn resets() {
    on_virtual("resets", || {
        let begun = now();
        let mut ticks = interval_at(begun + 5 * MS, 10 * MS);
        assert_eq!(ticks.period(), 10 * MS);
        assert_eq!(take(&mut ticks, begun, 2), [(5, 5), (15, 15)]);
        sleep(2 * MS);
        ticks.reset();
        assert_eq!(take(&mut ticks, begun, 1), [(27, 27)]);
        ticks.reset_immediately();
        assert_eq!(take(&mut ticks, begun, 2), [(27, 27), (37, 37)]);
        ticks.reset_after(MS);
        assert_eq!(take(&mut ticks, begun, 2), [(38, 38), (48, 48)]);
        ticks.reset_at(begun + 100 * MS);
        assert_eq!(take(&mut ticks, begun, 2), [(100, 100), (110, 110)]);
        // A start that has passed is a missed tick like any other.
        let mut ticks = interval_at(begun + 80 * MS, 10 * MS);
        ticks.set_missed_tick_behavior(Skip);
        assert_eq!(take(&mut ticks, begun, 2), [(110, 80), (120, 120)]);
    });
}

/// A tick that a kill or a time-out interrupts is not lost.
#[test]
fn an_interrupted_tick_comes_again() {
    on_virtual("an_interrupted_tick_comes_again", || {
        let begun = now();
        let mut ticks = interval(10 * MS);
        ticks.tick();
        assert_eq!(timeout(4 * MS, || ticks.tick()), Err(TimedOut));
        assert_eq!((now() - begun).as_millis(), 4);
        assert_eq!(take(&mut ticks, begun, 2), [(10, 10), (20, 20)]);
        let task = spawn(move || for _ in ticks {});
        sleep(25 * MS);
        task.kill();
        assert!(task.join().unwrap_err().is_killed());
        assert_eq!((now() - begun).as_millis(), 45);
    });
}

#[test]
fn beyond_what_the_clock_can_tell() {
    on_virtual("beyond_what_the_clock_can_tell", || {
        for missed in [Burst, Delay, Skip] {
            let mut ticks = interval(Duration::MAX);
            ticks.set_missed_tick_behavior(missed);
            ticks.tick();
            let year = Duration::from_secs(365 * 86_400);
            assert_eq!(timeout(year, || ticks.tick()), Err(TimedOut));
            ticks.reset();
            assert_eq!(timeout(year, || ticks.tick()), Err(TimedOut));
        }
    });
}

#[test]
fn a_period_of_zero_is_refused() {
    let refused = std::panic::catch_unwind(|| interval(Duration::ZERO)).unwrap_err();
    let text = refused.downcast_ref::<&str>().unwrap();
    assert!(text.contains("a period of zero"), "{text}");
    assert!(std::panic::catch_unwind(|| interval_at(now(), Duration::ZERO)).is_err());
}

/// Real time: never early, on tasks and on ordinary threads.
#[test]
fn on_a_real_clock() {
    within("on_a_real_clock", || {
        let check = || {
            let begun = Instant::now();
            let moments: Vec<_> = interval(2 * MS)
                .take(5)
                .inspect(|&moment| assert!(Instant::now() >= moment))
                .collect();
            assert!(begun.elapsed() >= 8 * MS);
            assert!(moments.windows(2).all(|w| w[1] - w[0] == 2 * MS));
            assert!(format!("{:?}", interval(MS)).contains("1ms"));
        };
        check();
        sward_runtime::run(check);
    });
}
