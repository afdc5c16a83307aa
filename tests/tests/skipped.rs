//! Runs of tracer's programs that the kernel skipped, as an interrupt came in their midst: counted,
//! and said.

use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests::counters::Counters;
use tests::expected::Expected;
use tests::faults::firewall;
use tests::netns::Netns;
use tests::stage::{Fault, Stage};
use tests::tracer::Tracer;

/// The longest time that the kernel gets to skip a run.
const PATIENCE: Duration = Duration::from_secs(5);
const DROPPED: &str = "127.0.0.1:9009";
/// Connections whose SYNs are sent again by timers.
const WAITING: usize = 200;

/// Drops packets in processes' own calls as fast as they go, while timers drop others in
/// interrupts: until runs were skipped, or for [`PATIENCE`].
fn drop_in_interrupts(netns: &Netns, skipped: impl Fn() -> Result<u64>) -> Result<()> {
    let begun = Instant::now();
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let floods: Vec<_> = (0..cpus)
            .map(|_| scope.spawn(|| netns.enter(|| flood(&over))))
            .collect();
        let waiting = scope.spawn(|| netns.enter(|| wait(&over)));
        let watched = (|| {
            while begun.elapsed() < PATIENCE && skipped()? == 0 {
                std::thread::sleep(Duration::from_millis(100));
            }
            Ok(())
        })();
        over.store(true, Ordering::Relaxed);
        let mut ended = Ok(());
        for thread in floods.into_iter().chain([waiting]) {
            let result = thread
                .join()
                .unwrap_or_else(|_| anyhow::bail!("a thread panicked"));
            ended = ended.and(result);
        }
        ended.and(watched)
    })
}

fn flood(over: &AtomicBool) -> Result<()> {
    let socket = UdpSocket::bind("127.0.0.1:0").context("a socket to flood from")?;
    while !over.load(Ordering::Relaxed) {
        // The firewall drops it, which the call tells.
        let _ = socket.send_to(&[0], DROPPED);
    }
    Ok(())
}

fn wait(over: &AtomicBool) -> Result<()> {
    let address: SocketAddr = DROPPED.parse()?;
    let connect = || TcpStream::connect_timeout(&address, Duration::from_millis(1200));
    while !over.load(Ordering::Relaxed) {
        std::thread::scope(|scope| {
            for _ in 0..WAITING {
                scope.spawn(connect);
            }
        });
    }
    Ok(())
}

#[test]
fn what_the_kernel_skips_is_counted() -> Result<()> {
    let stage = Stage::new()?;
    for protocol in ["udp", "tcp"] {
        firewall::rule(
            &stage.netns,
            "output",
            &format!("{protocol} dport 9009 drop"),
        )?;
    }
    let expected = Expected::new("no-listener", "127.0.0.1:9001", "ECONNREFUSED");
    let site = stage.start(vec![Fault::proxy(expected, "")])?;
    let counters = Counters::new()?;
    let tracer = Tracer::follow(site.nginx.master)?;
    let pid = tracer.pid();
    drop_in_interrupts(&site.netns, || counters.skipped(pid))?;
    let sent = site.send(tests::stage::Load::default())?;
    site.verdict_lines(&sent, &tracer)?;
    let counted = counters.skipped(pid)?;
    let ended = tracer.stop(libc::SIGINT)?;
    let said = ended.stderr.lines().find_map(|line| {
        let (count, rest) = line.split_once(" hook run")?;
        rest.contains("skipped by the kernel")
            .then(|| count.parse::<u64>())
    });
    let said = said.transpose()?.unwrap_or(0);
    // Some may have been skipped after the count here.
    ensure!(
        said >= counted,
        "{counted} were skipped, tracer says {said}"
    );
    if counted == 0 {
        ensure!(said == 0, "none was skipped, tracer says {said}");
        println!(
            "SKIPPED: what_the_kernel_skips_is_counted: this kernel skipped no run in {PATIENCE:?}"
        );
    } else {
        println!("NOTE: {counted} runs were skipped under a flood, {said} said");
    }
    Ok(())
}
