//! The configurations of `docs/deploy.md`, taken from the page and tried: restarts, drains and
//! deaths under load.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::folder::Folder;
use crate::common::{peers, wait_for};
use crate::load::{CLIENTS, Load, Numbers, is_possible};
use crate::process::Running;
use crate::server::{BINARY, EchoServer, End};
use crate::systemd::Manager;

// What the page says.

#[test]
fn systemd_finds_no_fault_with_the_units() {
    if !peers::require("systemd-analyze", "systemd") {
        return;
    }
    let folder = Folder::new();
    // It asks for the program as well.
    write_units(&folder, Path::new(BINARY), |text| text);
    let output = Command::new("systemd-analyze")
        .arg("verify")
        .args(UNITS.map(|unit| folder.path(unit)))
        .output()
        .unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    let ours: Vec<_> = complaint
        .lines()
        .filter(|line| line.contains("echo-server"))
        .collect();
    assert!(output.status.success() && ours.is_empty(), "{complaint}");
}

#[test]
#[cfg(target_os = "linux")]
fn the_kernel_has_every_setting() {
    let settings = block(SYSCTL);
    let names = settings.lines().filter(|line| !line.starts_with('#'));
    let names: Vec<_> = names.filter_map(|line| line.split_once(" = ")).collect();
    assert!(names.len() > 4, "{settings}");
    for (name, _) in names {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        // A module that is not loaded has none, and inside a container not all are shown.
        let is_optional = name.contains("nf_conntrack");
        assert!(is_optional || Path::new(&path).exists(), "{path}");
    }
}

// Restarts, on a socket that we keep as systemd does.

#[test]
fn a_restart_on_a_socket_that_stays_refuses_nobody() {
    if !is_possible() {
        return;
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let old = activated(&listener, &["--workers", "2"]);
    let mut load = Load::start(old.address());
    let old = old.stop();
    load.mark();
    let new = activated(&listener, &["--workers", "2"]);
    load.wait_for_late(CLIENTS);
    assert_all_served(&load.stop(), [old, new.stop()]);
}

#[test]
fn a_new_server_takes_over_beside_the_old_one() {
    if !is_possible() {
        return;
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let old = activated(&listener, &["--workers", "2"]);
    let mut load = Load::start(old.address());
    let new = activated(&listener, &["--workers", "2", "--api", "protocol"]);
    let old = old.stop();
    load.mark();
    load.wait_for_late(CLIENTS);
    assert_all_served(&load.stop(), [old, new.stop()]);
}

#[test]
fn an_instance_is_drained_while_another_serves() {
    if !is_possible() {
        return;
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let [one, two] = [&[][..], &["--api", "protocol"]].map(|face| activated(&listener, face));
    let mut load = Load::start(one.address());
    let one = one.stop();
    load.mark();
    load.wait_for_late(CLIENTS);
    assert_all_served(&load.stop(), [one, two.stop()]);
}

/// systemd itself: the socket starts a server, one is restarted, one takes over, one hangs.
#[test]
fn systemd_restarts_the_units_and_nobody_is_refused() {
    if !is_possible() {
        return;
    }
    let folder = Folder::new();
    let port = free_port();
    write_units(&folder, Path::new(Manager::PROGRAM), |text| {
        let text = text.replace(
            "ListenStream=7007",
            &format!("ListenStream=127.0.0.1:{port}"),
        );
        let text = text.replace("WatchdogSec=10", "WatchdogSec=5");
        text.replace("--workers 0", "--workers 2")
    });
    let Some(mut manager) = Manager::start(folder.as_ref()) else {
        return;
    };
    let [blue, green] = ["echo-server@blue.service", "echo-server@green.service"];
    manager.ask("start echo-server.socket");
    // The first of them starts it.
    let mut load = Load::start(([127, 0, 0, 1], port).into());
    wait_for("blue is ready", || {
        (manager.state(blue) == "active").then_some(())
    });
    manager.ask(&format!("restart {blue}"));
    load.mark();
    load.wait_for_late(CLIENTS);
    manager.ask(&format!("start {green}"));
    manager.ask(&format!("stop {blue}"));
    assert_eq!(manager.state(blue), "inactive");
    load.wait_for_late(CLIENTS);
    load.stop().assert_nobody_failed();
    // Nobody has started it again, though somebody came.
    assert_eq!(manager.state(blue), "inactive");

    let restarts = |manager: &mut Manager| manager.ask(&format!("show -P NRestarts {green}"));
    assert_eq!(restarts(&mut manager), "0");
    manager.ask(&format!("kill -s STOP --kill-whom=main {green}"));
    wait_for("the watchdog", || {
        (restarts(&mut manager) == "1").then_some(())
    });
    manager.end();
}

// Balancers.

#[test]
fn haproxy_goes_on_with_one_instance_when_the_other_is_killed() {
    if is_possible() && peers::require("haproxy", "haproxy") {
        one_of_two_is_killed_behind(Balancer::haproxy);
    }
}

#[test]
fn nginx_goes_on_with_one_instance_when_the_other_is_killed() {
    if is_possible() && Balancer::has_nginx() {
        one_of_two_is_killed_behind(Balancer::nginx);
    }
}

#[test]
fn haproxy_drains_an_instance_that_is_stopped_then() {
    if !is_possible() || !peers::require("haproxy", "haproxy") {
        return;
    }
    let [one, two] = [proxied(0), proxied(0)];
    let balancer = Balancer::haproxy([one.address(), two.address()]);
    let mut load = Load::start(balancer.address);
    assert!(balancer.connections_to("one") > 0);
    balancer.tell("set server instances/one state drain");
    wait_for("one has nobody", || {
        (balancer.connections_to("one") == 0).then_some(())
    });
    let port = one.address().port();
    one.stop();
    load.mark();
    load.wait_for_late(CLIENTS);

    let one = proxied(port);
    balancer.tell("set server instances/one state ready");
    wait_for("one has somebody", || {
        (balancer.connections_to("one") > 0).then_some(())
    });
    load.stop().assert_nobody_failed();
    for server in [one, two] {
        assert_quiet(&server.stop());
    }
}

#[test]
fn nginx_leaves_out_an_instance_that_is_marked_down() {
    if !is_possible() || !Balancer::has_nginx() {
        return;
    }
    let [one, two] = [proxied(0), proxied(0)];
    let addresses = [one.address(), two.address()];
    let balancer = Balancer::nginx(addresses);
    let mut load = Load::start(balancer.address);
    let text = fs::read_to_string(balancer.file()).unwrap();
    let server = format!("server {}", addresses[0]);
    let marked = text.replace(&server, &format!("{server} down"));
    assert_ne!(text, marked);
    fs::write(balancer.file(), marked).unwrap();
    let before = balancer.children();
    balancer.process.signal("HUP");
    wait_for("the old worker process ends", || {
        let now = balancer.children();
        before
            .iter()
            .all(|process| !now.contains(process))
            .then_some(())
    });
    one.stop();
    load.mark();
    load.wait_for_late(CLIENTS);
    load.stop().assert_nobody_failed();
    assert_quiet(&two.stop());
}

#[track_caller]
fn one_of_two_is_killed_behind(balancer: fn([SocketAddr; 2]) -> Balancer) {
    let [mut one, two] = [proxied(0), proxied(0)];
    let balancer = balancer([one.address(), two.address()]);
    let mut load = Load::start(balancer.address);
    one.process.signal("KILL");
    one.process.wait();
    load.mark();
    load.wait_for_late(2 * CLIENTS);
    let numbers = load.stop();
    // Those whom it had, about a half, and nobody else.
    numbers.assert_others_served(&["early_broken"]);
    let broken = numbers.early("broken");
    assert!((1..CLIENTS * 3 / 4).contains(&broken), "{numbers:?}");
    let two = two.stop();
    assert_quiet(&two);
    assert!(two.stderr.contains(" by way of "), "{}", two.stderr);
}

/// HAProxy or nginx with the page's configuration, and with other addresses.
struct Balancer {
    process: Running,
    address: SocketAddr,
    folder: Folder,
}

impl Balancer {
    fn haproxy(instances: [SocketAddr; 2]) -> Self {
        let folder = Folder::new();
        let socket = folder.path("admin.sock");
        // What Debian's file has in it already.
        let before = format!(
            "global\n    stats socket {} level admin\n",
            socket.display()
        );
        let mut command = Command::new("haproxy");
        command.args(["-q", "-db", "-f"]);
        let text = before + &block("/etc/haproxy/haproxy.cfg");
        Self::start(
            folder,
            command,
            &text,
            ["bind :", "bind 127.0.0.1:"],
            instances,
        )
    }

    fn nginx(instances: [SocketAddr; 2]) -> Self {
        let folder = Folder::new();
        let log = folder.path("log").display().to_string();
        let before = format!(
            "load_module {NGINX_STREAM}; daemon off; worker_processes 1; error_log {log};\n\
             pid {}; worker_rlimit_nofile {}; events {{ worker_connections {}; }}\n",
            folder.path("pid").display(),
            3 * CLIENTS,
            3 * CLIENTS - 100,
        );
        let mut command = Command::new("nginx");
        command.args(["-e", &log, "-c"]);
        let text = before + &block("/etc/nginx/nginx.conf");
        Self::start(
            folder,
            command,
            &text,
            ["listen ", "listen 127.0.0.1:"],
            instances,
        )
    }

    fn has_nginx() -> bool {
        if !peers::require("nginx", "nginx") {
            return false;
        }
        let has_stream = Path::new(NGINX_STREAM).exists();
        if !has_stream {
            peers::lack("nginx's stream module (Debian package libnginx-mod-stream)");
        }
        has_stream
    }

    #[track_caller]
    fn start(
        folder: Folder,
        mut command: Command,
        text: &str,
        listen: [&str; 2],
        instances: [SocketAddr; 2],
    ) -> Self {
        let port = free_port();
        let text = text
            .replace("10.0.0.1:7007", &instances[0].to_string())
            .replace("10.0.0.2:7007", &instances[1].to_string())
            .replace(
                &format!("{}7007", listen[0]),
                &format!("{}{port}", listen[1]),
            );
        assert!(!text.contains("7007"), "{text}");
        let file = folder.path("config");
        fs::write(&file, text).unwrap();
        let process = Running::spawn(command.arg(file).stdin(Stdio::null()));
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let balancer = Self {
            process,
            address,
            folder,
        };
        wait_for("the balancer listens", || TcpStream::connect(address).ok());
        balancer
    }

    fn file(&self) -> PathBuf {
        self.folder.path("config")
    }

    /// Its processes but the first.
    fn children(&self) -> Vec<String> {
        let id = self.process.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        children.split_whitespace().map(str::to_owned).collect()
    }

    /// A command for HAProxy, and its answer.
    #[track_caller]
    fn tell(&self, command: &str) -> String {
        let mut socket = UnixStream::connect(self.folder.path("admin.sock")).unwrap();
        writeln!(socket, "{command}").unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// How many HAProxy has to an instance now.
    #[track_caller]
    fn connections_to(&self, instance: &str) -> u64 {
        let table = self.tell("show stat");
        let columns = table.trim_start_matches("# ").lines().next().unwrap();
        let scur = columns.split(',').position(|column| column == "scur");
        let row = table
            .lines()
            .find(|line| line.starts_with(&format!("instances,{instance},")))
            .unwrap_or_else(|| panic!("{table}"));
        row.split(',').nth(scur.unwrap()).unwrap().parse().unwrap()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // nginx is several processes, and the first one ends the others if it is asked.
        let script = format!("kill {} 2>&1", self.process.id());
        let _ = Command::new("sh").args(["-c", &script]).output();
        let deadline = Instant::now() + Duration::from_secs(5);
        while matches!(self.process.0.try_wait(), Ok(None)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

// Servers.

/// One that is given a socket, as systemd gives it.
#[track_caller]
fn activated(listener: &TcpListener, arguments: &[&str]) -> EchoServer {
    let server = EchoServer::start_activated(listener, &[arguments, DRAIN].concat());
    assert_eq!(server.address(), listener.local_addr().unwrap());
    server
}

/// One behind a balancer.
#[track_caller]
fn proxied(port: u16) -> EchoServer {
    let mut command = Command::new(BINARY);
    command
        .args([
            "--port",
            &port.to_string(),
            "--workers",
            "2",
            "--proxy-protocol",
        ])
        .args(DRAIN);
    EchoServer::start_with(command, 1)
}

/// What the clients saw is what these two did, and both had a part in it.
#[track_caller]
fn assert_all_served(numbers: &Numbers, servers: [End; 2]) {
    numbers.assert_nobody_failed();
    let totals = servers.map(|end| {
        assert_quiet(&end);
        Total::of(&end)
    });
    let sum = |part: fn(&Total) -> u64| totals.iter().map(part).sum::<u64>();
    assert!(totals.iter().all(|total| total.accepted > 0), "{totals:?}");
    assert_eq!(sum(|total| total.accepted), numbers.done());
    assert_eq!(sum(|total| total.received), numbers.bytes());
    assert_eq!(sum(|total| total.sent), numbers.bytes());
}

/// It had nothing to complain of but a machine that was busy.
#[track_caller]
fn assert_quiet(end: &End) {
    let complaints = ["WARN", "ERROR"];
    let complaint = |line: &&str| {
        complaints.iter().any(|word| line.contains(word)) && !line.contains("::slow]")
    };
    let first = end.stderr.lines().find(complaint);
    assert_eq!(first, None, "{}", end.stderr);
}

/// The last line of `--stats`.
#[derive(Debug)]
struct Total {
    accepted: u64,
    received: u64,
    sent: u64,
}

impl Total {
    #[track_caller]
    fn of(end: &End) -> Self {
        let line = end
            .stderr
            .lines()
            .find_map(|line| line.split_once("stats in all: "));
        let (_, line) = line.unwrap_or_else(|| panic!("{}", end.stderr));
        let number = |name: &str| {
            let (before, _) = line.split_once(name).unwrap_or_else(|| panic!("{line}"));
            before.rsplit(' ').next().unwrap().parse().unwrap()
        };
        Self {
            accepted: number(" accepted"),
            received: number(" bytes in"),
            sent: number(" bytes out"),
        }
    }
}

// The page.

/// The block that begins with the name of this file.
#[track_caller]
fn block(file: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/deploy.md");
    let page = fs::read_to_string(page).unwrap();
    let head = format!("\n# {file}\n");
    let (_, rest) = page
        .split_once(&head)
        .unwrap_or_else(|| panic!("no block {file}"));
    let (text, _) = rest.split_once("```").unwrap();
    text.to_owned()
}

/// The units, with another program and what else has to be changed.
#[track_caller]
fn write_units(folder: &Folder, program: &Path, change: impl Fn(String) -> String) {
    for unit in UNITS {
        let text = block(&format!("/etc/systemd/system/{unit}"));
        let text = text.replace("/usr/local/bin/echo-server", program.to_str().unwrap());
        fs::write(folder.path(unit), change(text)).unwrap();
    }
    // Whoever a unit runs as has to get in.
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
}

/// A port on which nobody listens, and which the system gives to nobody by itself.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = (std::process::id() % 10_000) as u16;
    loop {
        let port = 12_000 + (first + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

const UNITS: [&str; 2] = ["echo-server.socket", "echo-server@.service"];
const SYSCTL: &str = "/etc/sysctl.d/60-echo-server.conf";
const NGINX_STREAM: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
/// Time enough for a connection, and the numbers at the end.
const DRAIN: &[&str] = &[
    "--backlog",
    "4096",
    "--shutdown-timeout",
    "60",
    "--stats",
    "3600",
];
