//! The builds of nginx that the tests run: what each is made of, as data. Every one has a test of
//! its name in `tests/tests/builds.rs`.

/// A way to build nginx.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Build {
    /// The folder under `target/builds`, and the test.
    pub(crate) name: &'static str,
    /// What sets it apart, as the table says it.
    pub(crate) what: &'static str,
    /// The suite of Debian whose source it is.
    pub(super) suite: &'static str,
    pub(super) configure: &'static [&'static str],
    pub(super) compiler: Compiler,
    /// Of the compiler.
    pub(super) flags: &'static [&'static str],
    /// Of the compiler where it links.
    pub(super) linking: &'static str,
    pub(super) patches: &'static [&'static [Patch]],
    /// Symbols are taken away once it is linked; what it exports stays.
    pub(super) is_stripped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compiler {
    /// The host's `cc`, which rust needs too.
    Host,
    Clang,
    /// The host's `cc` with another libc, and without any other library.
    Musl,
}

/// A text that is in a file of nginx's, and what takes its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patch {
    pub(super) file: &'static str,
    pub(super) from: &'static str,
    pub(super) to: &'static str,
}

/// What the whole test has of it.
pub(crate) const SHORT: [&str; 3] = ["no_ssl_no_compat", "sndbuf_inserted", "os"];

/// What every build has: all that makes requests of an upstream, and little else, so that it is
/// quick to compile.
pub(super) const CONFIGURE: [&str; 16] = [
    "--prefix=/usr/local/nginx",
    "--error-log-path=stderr",
    "--with-http_v2_module",
    "--with-stream",
    "--without-http_charset_module",
    "--without-http_ssi_module",
    "--without-http_userid_module",
    "--without-http_autoindex_module",
    "--without-http_geo_module",
    "--without-http_split_clients_module",
    "--without-http_referer_module",
    "--without-http_memcached_module",
    "--without-http_empty_gif_module",
    "--without-http_browser_module",
    "--without-stream_geo_module",
    "--without-stream_split_clients_module",
];

const USUAL: [&str; 3] = [
    "--with-http_ssl_module",
    "--with-stream_ssl_module",
    "--with-compat",
];

const BASE: Build = Build {
    name: "usual",
    what: "ssl, compat, gcc -O2",
    suite: "trixie",
    configure: &USUAL,
    compiler: Compiler::Host,
    flags: &["-O2"],
    linking: "",
    patches: &[],
    is_stripped: false,
};

/// As Ubuntu's packages are compiled and linked.
const UBUNTU: &str = "-flto=auto -ffat-lto-objects -fstack-protector-strong -fstack-clash-protection -fcf-protection \
                      -D_FORTIFY_SOURCE=2 -fPIC";
const UBUNTU_LINKING: &str =
    "-Wl,-Bsymbolic-functions -flto=auto -ffat-lto-objects -Wl,-z,relro -Wl,-z,now -fPIC";

/// As nginx has it since 1.31.3.
const SNDBUF: Patch = Patch {
    file: "src/event/ngx_event_connect.h",
    from: "    ngx_log_t                       *log;\n",
    to: "    int                              sndbuf;\n\n    ngx_log_t                       *log;\n",
};
/// With it, and with ssl or compat, `log` is where Angie has it: at 136.
const TWO_POINTERS: Patch = Patch {
    file: "src/event/ngx_event_connect.h",
    from: "    ngx_uint_t                       tries;\n",
    to: "    void                            *sid;\n    void                            *hint;\n\n    \
         ngx_uint_t                       tries;\n",
};
/// Then `data` is where freenginx has it: at 32.
const DISK_FULL_TIME: [Patch; 2] = [
    Patch {
        file: "src/core/ngx_log.h",
        from: "    time_t               disk_full_time;\n\n",
        to: "",
    },
    Patch {
        file: "src/core/ngx_log.h",
        from: "    ngx_log_t           *next;\n",
        to: "    ngx_log_t           *next;\n\n    time_t               disk_full_time;\n",
    },
];
/// A version that no table of offsets can know.
const NEWEST: [Patch; 2] = [
    Patch {
        file: "src/core/nginx.h",
        from: "\"1.26.3\"",
        to: "\"1.31.3\"",
    },
    Patch {
        file: "src/core/nginx.h",
        from: "1026003",
        to: "1031003",
    },
];
const NO_EXPORTS: Patch = Patch {
    file: "auto/cc/conf",
    from: "MAIN_LINK=\"-Wl,-E\"",
    to: "MAIN_LINK=",
};
/// Debian's musl has none.
const NO_CRYPT: Patch = Patch {
    file: "src/os/unix/ngx_linux_config.h",
    from: "#include <crypt.h>\n",
    to: "",
};

/// As Alpine builds it, with what its C library lacks left out.
const MUSL: Build = Build {
    name: "musl",
    what: "musl, -Os, no ssl",
    configure: &[
        "--with-compat",
        "--without-http_gzip_module",
        "--without-http_auth_basic_module",
    ],
    compiler: Compiler::Musl,
    flags: &["-Os"],
    patches: &[&[NO_CRYPT]],
    ..BASE
};

pub(crate) const BUILDS: [Build; 27] = [
    BASE,
    Build {
        name: "usual_1_22",
        what: "1.22, otherwise the same",
        suite: "bookworm",
        ..BASE
    },
    Build {
        name: "no_ssl_no_compat",
        what: "neither ssl nor compat",
        configure: &[],
        ..BASE
    },
    Build {
        name: "compat_without_ssl",
        what: "compat, no ssl",
        configure: &["--with-compat"],
        ..BASE
    },
    Build {
        name: "ssl_without_compat",
        what: "ssl, no compat",
        configure: &["--with-http_ssl_module", "--with-stream_ssl_module"],
        ..BASE
    },
    Build {
        name: "no_cache",
        what: "no cache",
        configure: &[
            "--with-http_ssl_module",
            "--with-stream_ssl_module",
            "--without-http-cache",
        ],
        ..BASE
    },
    Build {
        name: "debug",
        what: "--with-debug",
        configure: &[
            "--with-http_ssl_module",
            "--with-stream_ssl_module",
            "--with-compat",
            "--with-debug",
        ],
        ..BASE
    },
    Build {
        name: "o0",
        what: "gcc -O0",
        flags: &["-O0"],
        ..BASE
    },
    Build {
        name: "os",
        what: "gcc -Os",
        flags: &["-Os"],
        ..BASE
    },
    Build {
        name: "o3",
        what: "gcc -O3",
        flags: &["-O3"],
        ..BASE
    },
    Build {
        name: "lto_o2",
        what: "gcc LTO -O2, Ubuntu's flags",
        flags: &[UBUNTU, "-O2"],
        linking: UBUNTU_LINKING,
        ..BASE
    },
    Build {
        name: "lto_o3",
        what: "gcc LTO -O3, Ubuntu's flags",
        flags: &[UBUNTU, "-O3"],
        linking: UBUNTU_LINKING,
        ..BASE
    },
    Build {
        name: "lto_o2_stripped",
        what: "the same, stripped, as Ubuntu ships it",
        flags: &[UBUNTU, "-O2"],
        linking: UBUNTU_LINKING,
        is_stripped: true,
        ..BASE
    },
    Build {
        name: "clang",
        what: "clang -O2",
        compiler: Compiler::Clang,
        ..BASE
    },
    MUSL,
    Build {
        name: "musl_stripped",
        what: "the same, stripped, as Alpine ships it",
        is_stripped: true,
        ..MUSL
    },
    Build {
        name: "static_glibc",
        what: "static",
        linking: "-static",
        ..BASE
    },
    Build {
        name: "static_stripped",
        what: "static, stripped",
        linking: "-static",
        is_stripped: true,
        ..BASE
    },
    Build {
        name: "stripped_with_exports",
        what: "stripped, as Debian ships it",
        is_stripped: true,
        ..BASE
    },
    Build {
        name: "stripped_without_exports",
        what: "stripped, exports nothing",
        patches: &[&[NO_EXPORTS]],
        is_stripped: true,
        ..BASE
    },
    Build {
        name: "sndbuf_inserted",
        what: "`sndbuf` before the peer's `log`",
        patches: &[&[SNDBUF]],
        ..BASE
    },
    Build {
        name: "sndbuf_inserted_1_31",
        what: "the same, says 1.31.3",
        patches: &[&[SNDBUF], &NEWEST],
        ..BASE
    },
    Build {
        name: "data_moved",
        what: "the log's `data` at 32, as freenginx",
        patches: &[&DISK_FULL_TIME],
        ..BASE
    },
    Build {
        name: "data_moved_1_31",
        what: "the same, says 1.31.3",
        patches: &[&DISK_FULL_TIME, &NEWEST],
        ..BASE
    },
    Build {
        name: "angie_like",
        what: "the peer's `log` at 136, as Angie",
        patches: &[&[TWO_POINTERS, SNDBUF]],
        ..BASE
    },
    Build {
        name: "angie_like_1_31",
        what: "the same, says 1.31.3",
        patches: &[&[TWO_POINTERS, SNDBUF], &NEWEST],
        ..BASE
    },
    Build {
        name: "all_moved_stripped",
        what: "`sndbuf` and `data` moved, says 1.31.3, stripped",
        patches: &[&[SNDBUF], &DISK_FULL_TIME, &NEWEST],
        is_stripped: true,
        ..BASE
    },
];
