//! What a message costs on its way through the wire code: encode, cut out, check, read the header.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use keyway::base::{HandlerId, MessageTypeId};
use keyway::wire::{
    CHUNK_BYTES, Chunk, Deframed, Fields, FrameKind, HEADER_BYTES, Header, WireType, deframe,
    encode,
};
use rkyv::ser::allocator::Arena;
use rkyv::{Archive, Serialize};

const LIMIT: u32 = 1 << 20;
const MESSAGE: MessageTypeId = MessageTypeId(7);
const TARGET: HandlerId = HandlerId(3);

/// A body of exactly 64 bytes, as a counter or an order is.
#[derive(Archive, Serialize)]
struct Small {
    key: u64,
    rest: [u64; 7],
}

/// About 1 KiB, most of it text.
#[derive(Archive, Serialize)]
struct Large {
    key: u64,
    text: String,
    list: Vec<u32>,
}

fn small() -> Small {
    Small { key: 1, rest: [2; 7] }
}

fn large() -> Large {
    Large { key: 1, text: "x".repeat(736), list: vec![3; 64] }
}

/// A chunk filled with copies of one message.
fn full<B: WireType>(body: &B) -> Chunk {
    let mut chunk = Chunk::with_capacity(CHUNK_BYTES);
    let mut arena = Arena::new();
    let fields = Fields::default();
    while encode(&mut chunk, &mut arena, FrameKind::Tell, &fields, MESSAGE, TARGET, body).is_ok() {}
    chunk
}

fn body_bytes(chunk: &Chunk) -> usize {
    match deframe(chunk.bytes(), LIMIT) {
        Ok(Deframed::Frame(frame, _)) => frame.body().len(),
        other => panic!("{other:?}"),
    }
}

fn encoding<B: WireType>(criterion: &mut Criterion, name: &str, body: &B) {
    let mut group = criterion.benchmark_group("wire_encode");
    let mut arena = Arena::new();
    let mut chunk = Chunk::with_capacity(CHUNK_BYTES);
    for (with, fields) in [
        ("tell", Fields::default()),
        ("ask", Fields { deadline_us: Some(1_000_000), ..Fields::correlated(9) }),
    ] {
        let id = BenchmarkId::new(with, name);
        group.throughput(Throughput::Elements(1));
        group.bench_function(id, |bench| {
            bench.iter(|| {
                let kind = FrameKind::Tell;
                let body = black_box(body);
                if encode(&mut chunk, &mut arena, kind, &fields, MESSAGE, TARGET, body).is_err() {
                    chunk.clear();
                }
            });
        });
    }
    group.finish();
}

fn reading<B: WireType>(criterion: &mut Criterion, name: &str, body: &B) {
    let chunk = full(body);
    let mut group = criterion.benchmark_group("wire_read");
    group.throughput(Throughput::Elements(u64::from(chunk.frames())));
    group.bench_function(BenchmarkId::new("deframe_a_chunk", name), |bench| {
        bench.iter(|| {
            let mut rest = black_box(chunk.bytes());
            let mut frames = 0;
            while let Ok(Deframed::Frame(frame, full)) = deframe(rest, LIMIT) {
                black_box(frame.header.target);
                rest = &rest[full..];
                frames += 1;
            }
            assert_eq!(frames, chunk.frames());
        });
    });
    group.bench_function(BenchmarkId::new("deframe_and_check_a_chunk", name), |bench| {
        bench.iter(|| {
            let mut rest = black_box(chunk.bytes());
            while let Ok(Deframed::Frame(frame, full)) = deframe(rest, LIMIT) {
                assert!(B::access(black_box(frame.body())).is_some());
                rest = &rest[full..];
            }
        });
    });
    group.finish();
    let Ok(Deframed::Frame(frame, _)) = deframe(chunk.bytes(), LIMIT) else { return };
    let mut group = criterion.benchmark_group("wire_check");
    group.bench_function(name, |bench| {
        bench.iter(|| B::access(black_box(frame.body())).is_some());
    });
    group.finish();
}

fn wire(criterion: &mut Criterion) {
    let (small, large) = (small(), large());
    assert_eq!(body_bytes(&full(&small)), 64);
    let large_bytes = body_bytes(&full(&large));
    assert!((960..=1024).contains(&large_bytes), "{large_bytes}");
    encoding(criterion, "64_B", &small);
    encoding(criterion, "1_KiB", &large);
    reading(criterion, "64_B", &small);
    reading(criterion, "1_KiB", &large);

    let chunk = full(&small);
    let header: [u8; HEADER_BYTES] =
        chunk.bytes()[..HEADER_BYTES].try_into().expect("a chunk begins with a header");
    criterion.bench_function("wire_header_parse", |bench| {
        bench.iter(|| Header::parse(black_box(&header), LIMIT));
    });
}

criterion_group!(benches, wire);
criterion_main!(benches);
