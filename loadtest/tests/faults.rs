//! The program against a server that does one thing wrong: it says what, and exits with 1.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests may")]

#[path = "../src/test_server.rs"]
mod test_server;

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use test_server::{Planted, Ports, serve};

/// Cases at a time: more would wait for each other's cores.
const AT_A_TIME: usize = 6;
/// Two groups of three subscribers, 20 sets: change 7 is sequence 3 of group 1.
const FANOUT: &str = "fanout --groups 2 --subscribers 3 --rate 10 --seconds 1 --warmup 1 \
    --drain-timeout 3 --late 1";
/// Two groups of three subscribers: six `sync`s and some 66 changes.
const FLIPPED: &str = "fanout --groups 2 --subscribers 3 --rate 20 --seconds 1 --warmup 0.1 \
    --drain-timeout 1 --join-timeout 2 --threads 1";
/// The same for subscribers that what comes is merged for.
const PACED: &str = "fanout --groups 2 --subscribers 3 --rate 10 --seconds 1 --warmup 1 \
    --drain-timeout 3 --late 1 --pace-ms 20";
const STORM: &str = "storm --members 12 --rooms 3 --every 0.3 --seconds 1 --warmup 0.2 \
    --drain-timeout 1";

/// The exit code, and all that was said.
fn loadtest(flags: &str, ports: Ports) -> (Option<i32>, String) {
    let Ports { engine, stream } = ports;
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(flags.split_ascii_whitespace())
        .args(["--engine", &format!("ws://{engine}")])
        .args(["--stream", &format!("ws://{stream}")])
        .output()
        .unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(told).unwrap())
}

#[test]
fn a_good_server_ends_with_0_and_a_bad_one_with_1_and_the_right_words() {
    let delay = Duration::from_secs(2);
    let missed = "missed 3, duplicated 0, reordered 0, before sync 0, late 0, time went back 0, \
        altered 0, wrong sync 0, model differs 0,";
    let cases = [
        (
            FANOUT,
            Planted::Nothing,
            "missed 0, duplicated 0, reordered 0",
        ),
        (FANOUT, Planted::Drops(7), missed),
        (
            FANOUT,
            Planted::Drops(7),
            "! group 1 subscriber 0: sequence 3 never came",
        ),
        (
            FANOUT,
            Planted::Repeats(7),
            "! group 1 subscriber 0: sequence 3 came again",
        ),
        (
            FANOUT,
            Planted::Swaps(7),
            "! group 1 subscriber 0: sequence 3 was overtaken",
        ),
        (
            FANOUT,
            Planted::Delays(7, delay),
            "! group 1 subscriber 0: sequence 3 came after 2",
        ),
        (
            FANOUT,
            Planted::Alters(7),
            "! group 1 subscriber 0: sequence 3 was not published so: {",
        ),
        (
            FANOUT,
            Planted::GoesBack(7),
            "sequence 3 has an earlier time than one before it",
        ),
        (
            FANOUT,
            Planted::StampsAlike(5),
            "and stream::list has sequence 9",
        ),
        (
            FANOUT,
            Planted::LiesInList,
            "the value of item 0 was not published so",
        ),
        (
            FANOUT,
            Planted::ListsAnOldValue,
            "stream::get and stream::list differ: item 0",
        ),
        (FANOUT, Planted::Refuses(7), "! call 7: {"),
        (
            FANOUT,
            Planted::AnswersNot(7),
            "! call 7: it was not answered",
        ),
        (
            FANOUT,
            Planted::HangsUp(7),
            "the server closed the connection",
        ),
        (PACED, Planted::Nothing, "missed 0, duplicated 0"),
        (
            PACED,
            Planted::Drops(19),
            "! group 1 subscriber 0: sequence 9 never came",
        ),
        (
            PACED,
            Planted::Repeats(7),
            "! group 1 subscriber 0: sequence 3 came again",
        ),
        (
            PACED,
            Planted::Swaps(7),
            "! group 1 subscriber 0: sequence 3 came again",
        ),
        (
            PACED,
            Planted::Alters(7),
            "! group 1 subscriber 0: sequence 3 was not published so: {",
        ),
        (
            PACED,
            Planted::Delays(19, delay),
            "! group 1 subscriber 0: sequence 9 came after 2",
        ),
        (
            STORM,
            Planted::Nothing,
            "missed 0, duplicated 0, reordered 0",
        ),
        (STORM, Planted::SpeaksBeforeSync, "came before the sync"),
        (
            STORM,
            Planted::AltersSync,
            "the sync holds item 0 as never published",
        ),
        (STORM, Planted::CutsSyncShort, ": its sync "),
    ];
    for some in cases.chunks(AT_A_TIME) {
        thread::scope(|scope| {
            for (flags, planted, words) in some {
                scope.spawn(move || {
                    let (code, told) = loadtest(flags, serve(*planted));
                    let expected = i32::from(*planted != Planted::Nothing);
                    assert_eq!(code, Some(expected), "{planted:?}: {told}");
                    assert!(told.contains(words), "{planted:?}, {words}: {told}");
                });
            }
        });
    }
}

/// A splitmix generator: the same seed, the same flips.
fn random(seed: u64) -> u64 {
    let word = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// Of all frames to six subscribers, their headers and `sync`s included, one bit of one is changed.
/// `FLIPS` says how many are tried.
#[test]
fn one_bit_changed_anywhere_ends_with_an_error() {
    let flips: u64 = std::env::var("FLIPS").map_or(36, |flips| flips.parse().unwrap());
    let passed = Mutex::new(Vec::new());
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..2 * AT_A_TIME {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= flips {
                        return;
                    }
                    let planted = Planted::FlipsBit(random(2 * seed) % 60, random(2 * seed + 1));
                    let (code, _) = loadtest(FLIPPED, serve(planted));
                    if code == Some(0) {
                        passed.lock().unwrap().push((seed, planted));
                    }
                }
            });
        }
    });
    assert_eq!(*passed.lock().unwrap(), []);
}

#[test]
fn wrong_flags_end_with_2_and_a_server_that_is_not_there_with_3() {
    let ports = serve(Planted::Nothing);
    let (code, told) = loadtest("fanout --rate 5 --in-flight 5", ports);
    assert_eq!(code, Some(2), "{told}");
    let nobody = Ports {
        engine: "127.0.0.1:1".parse().unwrap(),
        ..ports
    };
    let (code, told) = loadtest("fanout --seconds 1", nobody);
    assert_eq!(code, Some(3), "{told}");
    assert!(told.contains("is the server running?"), "{told}");
}
