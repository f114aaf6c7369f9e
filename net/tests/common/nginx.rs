//! A real nginx that a test starts.
//!
//! It gets its listening socket from the test, as it gets that of its predecessor when it is
//! upgraded (the variable `NGINX`; not with `master_process off`, where nginx 1.22 crashes of it).
//! So the port is free, and a connection that is made before nginx has started only waits.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::print_stderr)]

use std::fs;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use sward_net::TcpListener;
use sward_runtime::process::{Child, Command};
use sward_runtime::signal::SIGKILL;

use super::programs::program;

/// A running nginx: `/echo/...` answers with its own path, `/large` is a file of [`LARGE`] bytes,
/// `/slow/large` the same at 128 KiB a second, `/slow/medium` one of [`MEDIUM`] bytes.
pub struct Nginx {
    pub child: Child,
    pub address: SocketAddr,
    directory: PathBuf,
}

pub const LARGE: usize = 8 << 20;
pub const MEDIUM: usize = 192 << 10;

/// What a file of this size contains.
pub fn contents(size: usize) -> Vec<u8> {
    let mut bytes = (0..=250).collect::<Vec<u8>>().repeat(size / 251 + 1);
    bytes.truncate(size);
    bytes
}

impl Nginx {
    pub fn start() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let name = format!("sward-nginx-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        fs::create_dir_all(directory.join("slow")).unwrap();
        fs::write(directory.join("large"), contents(LARGE)).unwrap();
        fs::write(directory.join("slow/medium"), contents(MEDIUM)).unwrap();
        fs::hard_link(directory.join("large"), directory.join("slow/large")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let root = directory.display();
        let configuration = format!(
            "daemon off;
             user root;
             worker_processes 1;
             pid {root}/pid;
             error_log stderr;
             events {{ worker_connections 1024; }}
             http {{
                 access_log off;
                 client_body_temp_path {root}/1;
                 proxy_temp_path {root}/2;
                 fastcgi_temp_path {root}/3;
                 uwsgi_temp_path {root}/4;
                 scgi_temp_path {root}/5;
                 server {{
                     listen {address};
                     root {root};
                     location /echo/ {{ return 200 $request_uri; }}
                     location /slow/ {{ limit_rate 128k; }}
                 }}
             }}"
        );
        let file = directory.join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let errors = fs::File::create(directory.join("errors")).unwrap();
        let child = Command::new(program("nginx"))
            .args(["-e", "stderr", "-c"])
            .arg(file)
            .stdin(OwnedFd::from(listener))
            .env("NGINX", "0;")
            .stdout(Stdio::null())
            .stderr(errors)
            .process_group(0)
            .spawn()
            .unwrap();
        Self {
            child,
            address,
            directory,
        }
    }

    pub fn stop(mut self) {
        let status = self.child.terminate(Duration::from_secs(10)).unwrap();
        assert!(status.success(), "{status}");
    }
}

/// Shows what nginx said, if the test fails, and leaves nothing behind.
impl Drop for Nginx {
    fn drop(&mut self) {
        // The master and its worker; an error if the master has ended, which waits for its worker.
        let _ = self.child.process().signal_group(SIGKILL);
        if std::thread::panicking() {
            let errors = fs::read_to_string(self.directory.join("errors"));
            eprintln!("nginx said: {}", errors.unwrap_or_default());
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}
