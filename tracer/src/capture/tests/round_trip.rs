//! What was written comes back.

use proptest::{option, prelude::*};

use super::{examples, file, read};
use crate::event::{Connection, Event, Holder, RequestId, RouteLookup, Time, Upstream};

#[test]
fn every_kind_of_event_comes_back() {
    let events = examples::all();
    let read = read(&file(&[&events])).unwrap();
    assert_eq!(read.events, events);
    assert!(read.damage.is_none(), "{:?}", read.damage);
    assert_eq!(read.ended, Some(Time(99)));
}

fn time() -> impl Strategy<Value = Time> {
    prop_oneof![4 => 5_000_000_000..5_100_000_000u64, 1 => any::<u64>(), 1 => Just(0)]
        .prop_map(Time)
}

fn remote() -> impl Strategy<Value = Upstream> {
    prop_oneof![
        (any::<u32>(), any::<u16>())
            .prop_map(|(ip, port)| Upstream::Inet((ip.to_be_bytes(), port).into())),
        (any::<u128>(), any::<u16>())
            .prop_map(|(ip, port)| Upstream::Inet((ip.to_be_bytes(), port).into())),
        Just(Upstream::Unix("@abstract".to_owned())),
        Just(Upstream::Unix(String::new())),
    ]
}

prop_compose! {
    fn connection()(
        ids in (any::<u64>(), 0..3u32, option::of(time()), any::<u32>()),
        ends in (time(), time(), option::of(any::<(u32, u16)>()), remote()),
        times in prop::array::uniform9(option::of(time())),
        errors in prop::array::uniform2(option::of((any::<u32>(), time()))),
        bytes in (any::<u64>(), any::<u64>(), option::of(any::<u8>()), option::of(any::<u8>())),
        rest in (option::of(any::<u16>()), any::<u8>(), any::<bool>(), any::<bool>(), any::<u32>(),
                 option::of(any::<u64>()), any::<(u32, i32, u8)>()),
    ) -> Connection {
        let (socket, worker, request, netns) = ids;
        let (start, closed, local, remote) = ends;
        let [established, first_byte, fin_received, rst_received, last_retransmit, last_sent, last_received, end_read, reused_at] = times;
        let (status, state, open, rst_in_syn_sent, count, idle, (lookups, error, kind)) = rest;
        Connection {
            socket, worker, netns, start, closed, remote, established, first_byte, fin_received, rst_received,
            last_retransmit, last_sent, last_received, end_read, reused_at, status, state, open, rst_in_syn_sent, idle,
            request: request.map(|at| RequestId(at.0)),
            local: local.map(|(ip, port)| (ip.to_be_bytes(), port).into()),
            error: errors[0],
            transfer_error: errors[1],
            syn_retransmits: count,
            bytes_received: bytes.0,
            bytes_sent: bytes.1,
            unread: 0,
        asked: 0,
            first_sent: bytes.2,
            first_received: bytes.3,
            listener_pid: local.map(|(ip, _)| ip),
            reuses: count,
            tls_alert: bytes.2,
            tls_data: rst_in_syn_sent,
            broke_off: open,
            whole: open,
            body: None,
            accepted: (count % 3 != 0).then_some(open),
            holder: local.map(|(ip, port)| Holder { signal: None,  pid: ip, name: format!("app-{}", port % 3) }),
            rst_sent: None,
            drops: Vec::new(),
            icmp_sent: None,
            full_queue: None,
            translated: None,
            routes: RouteLookup { lookups, error, kind, security: None, unseen: false },
        }
    }
}

proptest! {
    #[test]
    fn every_connection_comes_back(connections in prop::collection::vec(connection(), 1..40), pieces in 1..5usize) {
        let events: Vec<Event> = connections.into_iter().map(|one| Event::Connection(Box::new(one))).collect();
        let pieces: Vec<&[Event]> = events.chunks(events.len().div_ceil(pieces)).collect();
        let read = read(&file(&pieces)).unwrap();
        prop_assert!(read.damage.is_none());
        prop_assert_eq!(read.events, events);
    }
}
