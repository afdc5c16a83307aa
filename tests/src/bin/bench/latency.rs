//! Latency at 70 % of the peak rate: requests leave at fixed times, whatever became of those
//! before, and are timed from when they were due.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::Length;
use crate::beside::Beside;
use crate::figures::{Target, median, quantile, spread, told};
use crate::load;
use crate::scene::{Kind, Scene, other_cpus};
use crate::{cpu, scene};

/// Client connections.
const CLIENTS: u32 = 16;
const REQUEST: &[u8] = b"GET /bench/ HTTP/1.1\r\nHost: bench\r\n\r\n";

/// p99 with tracer, against a sham of the same repetition.
pub(crate) fn run(length: &Length) -> Result<()> {
    let peak = {
        let scene = Scene::new(Kind::Fresh, None)?;
        load::wrk(&scene, 1, &[])?;
        load::wrk(&scene, length.seconds, &[])?.rate
    };
    let rate = peak * 0.7;
    println!(
        "\nlatency at {rate:.0} requests/s, 70 % of the peak, a new upstream connection each; {} CPUs",
        scene::cpus()
    );
    let (mut ratios, mut noise, mut shams, mut traced) = (vec![], vec![], vec![], vec![]);
    for _ in 0..length.repetitions {
        let sham = one(Beside::Sham, rate, length.seconds)?;
        let again = one(Beside::Sham2, rate, length.seconds)?;
        let live = one(Beside::Live, rate, length.seconds)?;
        ratios.push(live / sham);
        noise.push(again / sham);
        shams.push(sham);
        traced.push(live);
    }
    told("p99 beside sleep", median(shams) * 1e3, "ms", Target::None);
    told(
        "p99 beside tracer live",
        median(traced) * 1e3,
        "ms",
        Target::None,
    );
    println!(
        "  {:52} {:>12}",
        "sham against sham (noise)",
        spread(&noise)
    );
    println!(
        "  {:52} {:>12}",
        "tracer live against sham",
        spread(&ratios)
    );
    told(
        "p99 against the sham",
        median(ratios),
        "",
        Target::AtMost(1.03),
    );
    Ok(())
}

/// Seconds that 99 of 100 requests do not exceed.
fn one(beside: Beside, rate: f64, seconds: u64) -> Result<f64> {
    let scene = Scene::new(Kind::Fresh, None)?;
    let running = beside.start(&scene)?.context("it cannot be started")?;
    load::wrk(&scene, 1, &[])?;
    let each = Duration::from_secs_f64(f64::from(CLIENTS) / rate);
    let times = scene.netns.enter(|| {
        // The clients' threads take this over.
        cpu::keep_to(&other_cpus())?;
        let start = Instant::now();
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..CLIENTS)
                .map(|client| {
                    let first = start + each.mul_f64(f64::from(client) / f64::from(CLIENTS));
                    let end = start + Duration::from_secs(seconds);
                    scope.spawn(move || paced(first, each, end))
                })
                .collect();
            let mut times = Vec::new();
            for client in clients {
                times.extend(client.join().map_err(|_| anyhow!("a client panicked"))??);
            }
            Ok(times)
        })
    })?;
    running.end()?;
    ensure!(!times.is_empty(), "no request was answered");
    Ok(quantile(times, 0.99))
}

fn paced(first: Instant, each: Duration, end: Instant) -> Result<Vec<f64>> {
    let mut stream = TcpStream::connect("127.0.0.1:80").context("connecting to the proxy")?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut buffer = [0u8; 4096];
    let mut times = Vec::new();
    let mut due = first;
    while due < end {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        stream.write_all(REQUEST)?;
        let mut had = 0;
        // The answer is short and of one piece: header, empty line, `ok`.
        while had < 4 || buffer[had - 2..had] != *b"ok" {
            let read = stream.read(&mut buffer[had..])?;
            ensure!(read > 0, "the proxy closed the connection");
            had += read;
        }
        times.push(due.elapsed().as_secs_f64());
        due += each;
    }
    Ok(times)
}
