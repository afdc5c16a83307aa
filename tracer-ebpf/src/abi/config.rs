//! Constants that the loader fills in from the running kernel's BTF before the programs load.

/// The value of a field offset that this kernel does not have.
pub const ABSENT: u16 = u16::MAX;

macro_rules! offsets {
    ($($(#[$doc:meta])* $name:ident: $structure:literal . $member:literal,)*) => {
        /// Byte offsets of kernel structure members, [`ABSENT`] where this kernel lacks one.
        #[repr(C)]
        #[derive(Clone, Copy, Debug)]
        pub struct Offsets {
            $($(#[$doc])* pub $name: u16,)*
        }

        impl Offsets {
            /// All members absent.
            pub const NONE: Self = Self { $($name: ABSENT,)* };

            /// Field, structure and member path, in the order of the fields: `a.b` is a nested
            /// member, `a[e.n]` the element of an array of pointers that the enumerator `n` of
            /// `enum e` names, `a|b` the one that there is.
            pub const MEMBERS: &'static [(&'static str, &'static str, &'static str)] =
                &[$((stringify!($name), $structure, $member),)*];

            /// From offsets in the order of [`Self::MEMBERS`].
            #[must_use]
            pub fn from_slice(values: &[u16]) -> Self {
                let mut values = values.iter().copied();
                Self { $($name: values.next().unwrap_or(ABSENT),)* }
            }
        }
    };
}

offsets! {
    /// `sock_common.skc_family`
    family: "sock_common"."skc_family",
    /// `sock_common.skc_state`
    state: "sock_common"."skc_state",
    /// `sock_common.skc_dport`, network order
    dport: "sock_common"."skc_dport",
    /// `sock_common.skc_num`, host order
    num: "sock_common"."skc_num",
    /// `sock_common.skc_daddr`
    daddr: "sock_common"."skc_daddr",
    /// `sock_common.skc_rcv_saddr`
    rcv_saddr: "sock_common"."skc_rcv_saddr",
    /// `sock_common.skc_v6_daddr`
    v6_daddr: "sock_common"."skc_v6_daddr",
    /// `sock_common.skc_v6_rcv_saddr`
    v6_rcv_saddr: "sock_common"."skc_v6_rcv_saddr",
    /// `sock_common.skc_net.net`
    net: "sock_common"."skc_net.net",
    /// `sock.sk_protocol`
    protocol: "sock"."sk_protocol",
    /// `sock.sk_ack_backlog`: of a listener, how many wait to be accepted
    ack_backlog: "sock"."sk_ack_backlog",
    /// `sock.sk_max_ack_backlog`: of a listener, how many may
    max_ack_backlog: "sock"."sk_max_ack_backlog",
    /// `sock.sk_err`
    err: "sock"."sk_err",
    /// `sock.sk_err_soft`
    err_soft: "sock"."sk_err_soft",
    /// `inet_sock.inet_sport`, network order
    sport: "inet_sock"."inet_sport",
    /// `tcp_sock.bytes_received`
    bytes_received: "tcp_sock"."bytes_received",
    /// `tcp_sock.bytes_sent`
    bytes_sent: "tcp_sock"."bytes_sent",
    /// `tcp_sock.rcv_nxt`
    rcv_nxt: "tcp_sock"."rcv_nxt",
    /// `tcp_sock.copied_seq`: what lies between them was not read
    copied_seq: "tcp_sock"."copied_seq",
    /// `tcp_sock.snd_una`: of a SYN that was not acknowledged its sequence number
    snd_una: "tcp_sock"."snd_una",
    /// `net.ns.inum`
    netns_inum: "net"."ns.inum",
    /// `sk_buff.head`
    skb_head: "sk_buff"."head",
    /// `sk_buff.network_header`
    network_header: "sk_buff"."network_header",
    /// `sk_buff.sk`
    skb_sk: "sk_buff"."sk",
    /// `sk_buff.dev`
    skb_dev: "sk_buff"."dev",
    /// `sk_buff._skb_refdst`: a pointer, and flags in its low bit
    skb_dst: "sk_buff"."_skb_refdst",
    /// `net_device.nd_net.net`
    device_net: "net_device"."nd_net.net",
    /// `dst_entry.dev`
    dst_dev: "dst_entry"."dev",
    /// `fib6_result.fib6_type`
    fib6_type: "fib6_result"."fib6_type",
    /// `task_struct.tgid`
    tgid: "task_struct"."tgid",
    /// `task_struct.pid`
    pid: "task_struct"."pid",
    /// `task_struct.group_leader`
    group_leader: "task_struct"."group_leader",
    /// `task_struct.comm`
    comm: "task_struct"."comm",
    /// `task_struct.exit_code`
    exit_code: "task_struct"."exit_code",
    /// `task_struct.flags`
    task_flags: "task_struct"."flags",
    /// `task_struct.real_parent`
    real_parent: "task_struct"."real_parent",
    /// `task_struct.stack`
    stack: "task_struct"."stack",
    /// `task_struct.mm`
    mm: "task_struct"."mm",
    /// `mm_struct.exe_file`
    exe_file: "mm_struct"."exe_file",
    /// `mm_struct.start_code`
    start_code: "mm_struct"."start_code",
    /// `file.f_inode`
    file_inode: "file"."f_inode",
    /// `inode.i_ino`
    inode_number: "inode"."i_ino",
    /// `inode.i_sb`
    inode_super: "inode"."i_sb",
    /// `super_block.s_dev`
    super_device: "super_block"."s_dev",
    /// `task_struct.files`
    files: "task_struct"."files",
    /// `task_struct.thread.fsbase` (x86-64)
    fsbase: "task_struct"."thread.fsbase",
    /// `files_struct.fdt`
    fdt: "files_struct"."fdt",
    /// `fdtable.fd`
    fd_array: "fdtable"."fd",
    /// `fdtable.max_fds`
    max_fds: "fdtable"."max_fds",
    /// `file.private_data`
    private_data: "file"."private_data",
    /// `sock.sk_peer_pid`
    peer_pid: "sock"."sk_peer_pid",
    /// `pid.numbers[0].nr`
    pid_numbers: "pid"."numbers",
    /// `socket.sk`
    socket_sk: "socket"."sk",
    /// `sock.sk_socket`
    sk_socket: "sock"."sk_socket",
    /// `socket_alloc.vfs_inode.i_ino`: a socket's inode lies behind it
    socket_inode: "socket_alloc"."vfs_inode.i_ino",
    /// `task_struct.cgroups`
    task_cgroups: "task_struct"."cgroups",
    /// `css_set.subsys[memory_cgrp_id]`
    css_set_memory: "css_set"."subsys[cgroup_subsys_id.memory_cgrp_id]",
    /// `cgroup_subsys_state.cgroup`
    css_cgroup: "cgroup_subsys_state"."cgroup",
    /// `cgroup.kn`
    cgroup_node: "cgroup"."kn",
    /// `kernfs_node.name`
    node_name: "kernfs_node"."name",
    /// `kernfs_node.__parent`, before 6.15 `parent`
    node_parent: "kernfs_node"."__parent|parent",
    /// `mem_cgroup.memory`
    memcg_memory: "mem_cgroup"."memory",
    /// `page_counter.usage`
    counter_usage: "page_counter"."usage",
    /// `page_counter.max`
    counter_max: "page_counter"."max",
    /// `page_counter.parent`
    counter_parent: "page_counter"."parent",
    /// `unix_sock.peer`
    unix_peer: "unix_sock"."peer",
    /// `unix_sock.addr`
    unix_addr: "unix_sock"."addr",
    /// `sock.sk_wq`
    sk_wq: "sock"."sk_wq",
    /// `socket_wq.wait.head`: who waits for the socket
    wait_head: "socket_wq"."wait.head",
    /// `eppoll_entry.wait.entry`: epoll among them
    wait_entry: "eppoll_entry"."wait.entry",
    /// `eppoll_entry.base`
    wait_item: "eppoll_entry"."base",
    /// `epitem.event.data`: what `epoll_ctl()` was given
    epoll_data: "epitem"."event.data",
    /// `flowi4.flowi4_proto`
    flow_protocol: "flowi4"."__fl_common.flowic_proto",
    /// `flowi6.flowi6_proto`
    flow6_protocol: "flowi6"."__fl_common.flowic_proto",
}

/// Reasons of drops that tracer itself names, where this kernel has no number for them: beyond all
/// of its own.
pub mod own_reason {
    /// The listener's accept queue was full: seen in `tcp_conn_request` and `tcp_v4_syn_recv_sock`.
    pub const LISTEN_OVERFLOW: u32 = 1 << 16;
    /// netfilter dropped the packet: freed in `nf_hook_slow`.
    pub const NETFILTER_DROP: u32 = LISTEN_OVERFLOW + 1;
    /// The neighbour did not answer: freed in `arp_error_report` or `ndisc_error_report`.
    pub const NEIGH_FAILED: u32 = NETFILTER_DROP + 1;
}

/// A kernel function in which packets are dropped for one reason.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct DropSite {
    /// Its first address; 0: none.
    pub start: u64,
    /// The first address after it.
    pub end: u64,
    /// [`own_reason`].
    pub reason: u32,
    /// Zero.
    pub padding: u32,
}

/// How many sites there are at most.
pub const DROP_SITES: usize = 3;

/// Which `enum skb_drop_reason` numbers are worth keeping: one bit each.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct WantedDrops {
    /// Of any packet: bit `n % 64` of word `n / 64`.
    pub any: [u64; 4],
    /// Of those alone with which nginx opens a connection: its SYNs and ACKs.
    pub opening: [u64; 4],
}
