//! What does it cost to read one `stream::set`?
//!
//! `set` is the whole way from a message's text to a checked input. `value` compares what checks
//! the value alone: serde_json's `RawValue` with `value::check` behind it, and simd-json's tape
//! with the copy that it needs. Both on records and on one long string.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use iii_stream::protocol::call::{self, EngineMessage};
use iii_stream::protocol::input::{self, InputLimits, StreamFunction};
use iii_stream::protocol::json::value;
use serde_json::value::RawValue;
use simd_json::{Buffers, Tape};

const SIZES: [(&str, usize); 4] = [
    ("100B", 100),
    ("1KB", 1 << 10),
    ("64KB", 64 << 10),
    ("1MB", 1 << 20),
];

const LIMITS: InputLimits = InputLimits {
    name_bytes: 1024,
    json_depth: 125,
    value_bytes: 16 << 20,
    update_ops: 1000,
};

/// An array of records of about this many bytes.
fn records(bytes: usize) -> String {
    let mut text = String::from("[");
    let mut id = 0;
    while text.len() < bytes.saturating_sub(30) {
        if id > 0 {
            text.push(',');
        }
        id += 1;
        text += &format!(
            r#"{{"id":{id},"name":"user {id} é","x":{id}.25,"on":true,"tags":["a","b\n"]}}"#
        );
    }
    text + "]"
}

fn string(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

/// Name of a bench, and its value.
fn values() -> Vec<(String, String)> {
    let records = SIZES.map(|(name, bytes)| (format!("records/{name}"), records(bytes)));
    let strings = SIZES.map(|(name, bytes)| (format!("string/{name}"), string(bytes)));
    records.into_iter().chain(strings).collect()
}

fn set(c: &mut Criterion) {
    let mut group = c.benchmark_group("set");
    for (name, value) in values() {
        let message = format!(
            concat!(
                r#"{{"type":"invokefunction","invocation_id":"3f2504e0-4f89-11d3-9a0c-0305e82c3301","#,
                r#""function_id":"stream::set","data":{{"stream_name":"presence","#,
                r#""group_id":"room-1","item_id":"user-1","data":{}}}}}"#
            ),
            value
        );
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |b| {
            b.iter(|| {
                let EngineMessage::Invoke(call) = call::parse(black_box(&message)).unwrap() else {
                    unreachable!();
                };
                let function = StreamFunction::from_id(&call.function_id).unwrap();
                black_box(input::parse(function, call.data, &LIMITS).unwrap());
            });
        });
    }
}

fn checked(c: &mut Criterion) {
    let mut group = c.benchmark_group("value");
    for (name, text) in values() {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::new("raw", &name), |b| {
            b.iter(|| serde_json::from_str::<&RawValue>(black_box(&text)).unwrap());
        });
        group.bench_function(BenchmarkId::new("check", &name), |b| {
            b.iter(|| value::check(black_box(&text), 125).unwrap());
        });
        group.bench_function(BenchmarkId::new("raw+check", &name), |b| {
            b.iter(|| value::parse(black_box(&text), 125).unwrap());
        });
        group.bench_function(BenchmarkId::new("simd-json", &name), |b| {
            let mut copy = Vec::new();
            let mut buffers = Buffers::with_max_depth(text.len(), 125);
            let mut tape = Some(Tape(Vec::new()).reset());
            b.iter(|| {
                copy.clear();
                copy.extend_from_slice(black_box(&text).as_bytes());
                let mut filled = tape.take().unwrap();
                simd_json::fill_tape(&mut copy, &mut buffers, &mut filled).unwrap();
                black_box(filled.0.len());
                tape = Some(filled.reset());
            });
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(200))
        .measurement_time(std::time::Duration::from_millis(600))
        .sample_size(20);
    targets = set, checked
}
criterion_main!(benches);
