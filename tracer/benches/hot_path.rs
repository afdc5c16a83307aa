//! What the collector does with a healthy connection, step by step: `cargo bench -p tracer`.

#[allow(missing_docs, reason = "a module that a program includes")]
mod stream;

use std::{hint::black_box, io::Cursor};

use criterion::{BatchSize, Criterion, Throughput};
use tracer::internals::{
    Correlator, Event, Item, KernelNames, Reader, Time, Writer, decode_record,
};

/// Connections a round.
const ROUND: u64 = 10_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    measure(&mut criterion);
    criterion.final_summary();
}

fn measure(criterion: &mut Criterion) {
    let names = KernelNames::default();
    let records: Vec<Vec<u8>> = (0..ROUND).map(stream::record).collect();
    let events: Vec<Event> = records
        .iter()
        .map(|record| decode_record(record, &names).expect("a record of this version"))
        .collect();
    let capture = written(&events);
    let mut group = criterion.benchmark_group("a healthy connection");
    group.throughput(Throughput::Elements(ROUND));
    group.bench_function("decode", |bencher| {
        bencher.iter(|| {
            for record in &records {
                black_box(decode_record(black_box(record), &names)).ok();
            }
        });
    });
    group.bench_function("correlate", |bencher| {
        bencher.iter_batched(
            || (Correlator::default(), events.clone()),
            |(mut correlator, events)| {
                for event in events {
                    let at = event.at();
                    black_box(correlator.feed(event));
                    if at.0.is_multiple_of(20_000_000) {
                        black_box(correlator.feed(Event::Tick(Time(at.0))));
                    }
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("capture, write", |bencher| {
        bencher.iter(|| black_box(written(black_box(&events))));
    });
    group.bench_function("capture, read", |bencher| {
        bencher.iter(|| {
            let mut reader = Reader::new(Cursor::new(&capture)).expect("a capture");
            while let Some(item) = reader.next_item().expect("a whole capture") {
                if let Item::Event(event) = item {
                    black_box(event);
                }
            }
        });
    });
    group.finish();
}

fn written(events: &[Event]) -> Vec<u8> {
    let mut capture = Vec::new();
    let mut writer = Writer::new(&mut capture, &stream::header()).expect("memory takes it");
    for event in events {
        writer.add(event).expect("memory takes it");
    }
    let end = events.last().map_or(Time(0), Event::at);
    writer.finish(end).expect("memory takes it");
    capture
}
