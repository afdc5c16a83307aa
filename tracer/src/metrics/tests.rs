//! What is counted, and how it is shown: bounded, whatever comes.

use std::{net::SocketAddr, sync::Arc};

use super::{
    counts::Counts,
    exposition::{Exposition, Format, page},
    snapshot::{Run, Snapshot},
};
use crate::{
    event::{Connection, Lost, RequestId, RouteLookup, Time, Upstream},
    source::Depth,
    verdict::{Confidence, Verdict},
};

const MS: u64 = 1_000_000;

fn address(number: u32) -> SocketAddr {
    let [_, high, middle, low] = number.to_be_bytes();
    SocketAddr::from(([10, high, middle, low], 8080))
}

fn verdict(upstream: Option<String>, cause: &'static str, masked: bool) -> Verdict {
    Verdict {
        time: Time(MS),
        status: Some(if masked { 200 } else { 502 }),
        masked,
        cause,
        confidence: Confidence::Proven,
        worker: 7,
        unit: None,
        connection: None,
        request: None,
        upstream,
        upstream_name: None,
        errno: None,
        attempts: Vec::new(),
        summary: String::new(),
        evidence: Vec::new(),
        advice: Vec::new(),
        lost_events: 0,
    }
}

/// One that connected in 2 ms and was answered 30 ms after it began.
fn connection(remote: Upstream) -> Connection {
    Connection {
        socket: 1,
        worker: 7,
        request: Some(RequestId(1)),
        start: Time(1000 * MS),
        closed: Time(1040 * MS),
        local: None,
        remote,
        netns: 1,
        established: Some(Time(1002 * MS)),
        first_byte: Some(Time(1030 * MS)),
        status: None,
        fin_received: None,
        rst_received: None,
        rst_in_syn_sent: false,
        error: None,
        state: 7,
        syn_retransmits: 0,
        last_retransmit: None,
        bytes_received: 0,
        bytes_sent: 0,
        unread: 0,
        asked: 0,
        last_sent: None,
        last_received: None,
        end_read: None,
        transfer_error: None,
        first_sent: None,
        first_received: None,
        tls_alert: None,
        tls_data: false,
        broke_off: false,
        whole: false,
        body: None,
        listener_pid: None,
        accepted: None,
        holder: None,
        open: false,
        reuses: 0,
        reused_at: None,
        idle: None,
        rst_sent: None,
        drops: Vec::new(),
        icmp_sent: None,
        full_queue: None,
        translated: None,
        routes: RouteLookup::default(),
    }
}

/// A snapshot with so many upstreams.
pub(super) fn with_upstreams(count: u32) -> Snapshot {
    let mut counts = Counts::new(count as usize);
    for number in 0..count {
        counts.connection(&connection(Upstream::Inet(address(number))));
    }
    Snapshot::of(&counts, 1.5e9, Time(1), Run::default())
}

/// What a scraper read.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) bytes: usize,
    /// As many as were announced.
    pub(super) is_whole: bool,
}

impl Seen {
    /// Of an answer.
    pub(super) fn of(answer: &str) -> Self {
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        Self {
            bytes: body.len(),
            is_whole: length.is_some_and(|length| length.parse() == Ok(body.len())),
        }
    }
}

fn shown(counts: &Counts, queues: Vec<Depth>, format: Format) -> String {
    let run = Run {
        hooks: vec![("send_reset", true), ("overflow", false)],
        masters: 1,
        workers: 2,
        is_blind: true,
        ..Run::default()
    };
    let exposition = Exposition {
        snapshot: Arc::new(Snapshot::of(counts, 1.5e9, Time(1000 * MS), run)),
        queues: Arc::new(queues),
        now: Time(1500 * MS),
        cpu: 2_500 * MS,
        resident: Some(4096),
    };
    page(exposition, format).unwrap()
}

#[test]
fn a_page_shows_what_was_counted_in_both_formats() {
    let mut counts = Counts::new(200);
    let upstream = Upstream::Inet("127.0.0.1:3000".parse().unwrap());
    counts.connection(&connection(upstream.clone()));
    let kept = Connection {
        reuses: 3,
        ..connection(upstream.clone())
    };
    counts.connection(&kept);
    // It comes again when it is closed; and one that was never used.
    counts.connection(&Connection {
        open: true,
        ..connection(upstream.clone())
    });
    counts.connection(&Connection {
        request: None,
        ..connection(upstream.clone())
    });
    counts.verdict(&verdict(Some(upstream.to_string()), "backend-slow", false));
    counts.verdict(&verdict(Some(upstream.to_string()), "no-listener", true));
    counts.verdict(&verdict(None, "no-live-upstreams", false));
    counts.lost(&Lost {
        events: 5,
        healthy: 6,
        bare: 7,
        unexplained: 8,
        ..Lost::default()
    });
    let depth = Depth {
        upstream: upstream.to_string(),
        listener: "0.0.0.0:3000".to_owned(),
        queue: 3,
        limit: 128,
    };
    let text = shown(&counts, vec![depth.clone()], Format::Text);
    for line in [
        "tracer_failed_requests_total{cause=\"backend-slow\",status=\"502\",confidence=\"proven\",upstream=\"127.0.0.1:3000\"} 1",
        "tracer_failed_requests_total{cause=\"no-live-upstreams\",status=\"502\",confidence=\"proven\",upstream=\"none\"} 1",
        "tracer_masked_failures_total{cause=\"no-listener\",status=\"200\",confidence=\"proven\",upstream=\"127.0.0.1:3000\"} 1",
        "tracer_attempts_total{upstream=\"127.0.0.1:3000\",outcome=\"answered\"} 5",
        "tracer_connect_duration_seconds_bucket{upstream=\"127.0.0.1:3000\",le=\"0.001\"} 0",
        "tracer_connect_duration_seconds_bucket{upstream=\"127.0.0.1:3000\",le=\"0.005\"} 2",
        "tracer_connect_duration_seconds_count{upstream=\"127.0.0.1:3000\"} 2",
        "tracer_first_byte_duration_seconds_sum{upstream=\"127.0.0.1:3000\"} 0.06",
        "tracer_accept_queue_depth{upstream=\"127.0.0.1:3000\",listener=\"0.0.0.0:3000\"} 3",
        "tracer_accept_queue_limit{upstream=\"127.0.0.1:3000\",listener=\"0.0.0.0:3000\"} 128",
        "tracer_hook_attached{hook=\"send_reset\"} 1",
        "tracer_hook_attached{hook=\"overflow\"} 0",
        "tracer_blind 1",
        "tracer_nginx_processes{kind=\"worker\"} 2",
        "tracer_lost_records_total 5",
        "tracer_shed_total{what=\"healthy-connections\"} 6",
        "tracer_shed_total{what=\"request-details\"} 7",
        "tracer_shed_total{what=\"failures\"} 8",
        "tracer_snapshot_age_seconds 0.5",
        "process_cpu_seconds_total 2.5",
        "process_resident_memory_bytes 4096",
        "process_start_time_seconds 1500000000.0",
        "# TYPE tracer_failed_requests_total counter",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} in:\n{text}");
    }
    let open = shown(&counts, vec![depth], Format::OpenMetrics);
    assert!(open.contains("# TYPE tracer_failed_requests counter\n"));
    assert!(open.contains("# UNIT tracer_connect_duration_seconds seconds\n"));
    assert!(open.ends_with("# EOF\n") && !text.contains("# EOF"));
    let samples = |page: &str| page.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(samples(&open), samples(&text));
}

#[test]
fn ten_thousand_upstreams_stay_bounded() {
    const UPSTREAMS: u32 = 10_000;
    const LABELS: usize = 200;
    let mut counts = Counts::new(LABELS);
    let causes = ["no-listener", "backend-slow", "backend-reset"];
    for number in 0..UPSTREAMS {
        let upstream = Upstream::Inet(address(number));
        counts.connection(&connection(upstream.clone()));
        for cause in causes {
            for masked in [false, true] {
                counts.verdict(&verdict(Some(upstream.to_string()), cause, masked));
            }
        }
    }
    let page = shown(&counts, Vec::new(), Format::OpenMetrics);
    let series = |name: &str| page.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!(
        series("tracer_failed_requests_total"),
        (LABELS + 1) * causes.len()
    );
    assert_eq!(
        series("tracer_masked_failures_total"),
        (LABELS + 1) * causes.len()
    );
    assert_eq!(series("tracer_attempts_total"), (LABELS + 1) * 5);
    assert_eq!(series("tracer_connect_duration_seconds_count"), LABELS + 1);
    println!("{} bytes", page.len());
    assert!(page.len() < 1 << 20, "{} bytes", page.len());
    let folded = u64::from(UPSTREAMS) - LABELS as u64;
    for line in [
        format!("tracer_folded_upstreams {folded}"),
        format!("tracer_attempts_total{{upstream=\"other\",outcome=\"answered\"}} {folded}"),
    ] {
        assert!(page.lines().any(|one| one == line), "{line}");
    }
    // No failure is missing.
    let failed = page
        .lines()
        .filter(|line| line.starts_with("tracer_failed_requests_total"));
    let values = failed.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    assert_eq!(
        values.sum::<u64>(),
        u64::from(UPSTREAMS) * causes.len() as u64
    );
}

#[test]
fn statuses_without_end_stay_bounded() {
    let mut counts = Counts::new(10_000);
    for number in 0..20_000_u32 {
        let upstream = Some(address(number % 100).to_string());
        counts.verdict(&Verdict {
            status: Some((number / 100) as u16 + 400),
            ..verdict(upstream, "passed-through", false)
        });
    }
    assert!(counts.failed.len() <= 4097, "{}", counts.failed.len());
    assert_eq!(counts.failed.values().sum::<u64>(), 20_000);
    for status in 0..=u16::MAX {
        counts.verdict(&Verdict {
            status: Some(status),
            ..verdict(None, "passed-through", false)
        });
    }
    assert!(counts.failed.len() <= 4098, "{}", counts.failed.len());
}

#[test]
fn a_worker_that_ended_is_asked_about_no_queue() {
    let mut counts = Counts::new(1);
    let upstream = Upstream::Inet(address(1));
    counts.connection(&connection(upstream.clone()));
    counts.connection(&connection(Upstream::Inet(address(2))));
    let asked = |counts: &Counts| {
        let used = counts.upstreams.values();
        let used = used.filter_map(|one| one.used_by.clone());
        used.collect::<Vec<_>>()
    };
    assert_eq!(asked(&counts), [(upstream, 7)]);
    counts.ended(8);
    assert_eq!(asked(&counts).len(), 1);
    counts.ended(7);
    assert_eq!(asked(&counts), []);
}
