//! The file system that `make rootfs` lays out, run as the DaemonSet runs the image: read-only, with the
//! capabilities of the manifest, without a way to more, and with nothing of the host's but the lock.
//!
//! `make test-long` lays it out and names it by [`ROOTFS`]; a plain `make test` leaves these out.

use std::fs::{self, File};
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use policy_tests::daemon::Daemon;
use policy_tests::enforcement::Backend;
use policy_tests::namespace::Namespace;
use policy_tests::privilege::kernel_test;

use crate::daemon::{PATIENCE, Scene, policy};

/// The variable that names the file system.
const ROOTFS: &str = "POLICYD_ROOTFS";

/// Becomes the container: what an engine does between `clone` and the entry point.
/// Arguments: the root, the lock, the manifests, the account, the capabilities, then the command.
const ENTER: &str = r#"
root=$1 lock=$2 source=$3 account=$4 capabilities=$5; shift 5
mount --bind "$root" "$root"
mount --bind "$lock" "$root/run/xtables.lock"
mount --bind "$source" "$root/mnt"
mount --bind "$account" "$root/run/secrets/kubernetes.io/serviceaccount"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount --bind /dev/null "$root/dev/null"
mount -o remount,bind,ro "$root"
exec chroot "$root" setpriv --no-new-privs --inh-caps=-all --bounding-set="-all$capabilities" -- "$@"
"#;

/// The file system, what is mounted into it, and what it may.
struct Image {
    root: PathBuf,
    host: tempfile::TempDir,
    /// As `setpriv` takes them: `,+net_admin,+net_raw`.
    capabilities: String,
}

impl Image {
    fn new(capabilities: &[String]) -> Self {
        let root =
            PathBuf::from(std::env::var_os(ROOTFS).expect("`make test-long` names a rootfs"));
        // An engine makes the places that it mounts over.
        let account = root.join("run/secrets/kubernetes.io/serviceaccount");
        fs::create_dir_all(account).unwrap();
        for file in ["run/xtables.lock", "dev/null"] {
            File::options().append(true).create(true).open(root.join(file)).unwrap();
        }
        let host = tempfile::tempdir().unwrap();
        File::create(host.path().join("lock")).unwrap();
        fs::create_dir(host.path().join("account")).unwrap();
        fs::create_dir(host.path().join("source")).unwrap();
        let added: Vec<String> = capabilities.iter().map(|name| name.to_lowercase()).collect();
        let capabilities = format!(",+{}", added.join(",+"));
        Self { root, host, capabilities }
    }

    /// As the manifest has it.
    fn of_the_manifest() -> Self {
        Self::new(&capabilities())
    }

    fn account(&self, name: &str, text: &str) {
        fs::write(self.host.path().join("account").join(name), text).unwrap();
    }

    /// A command in it, over the manifests of a directory.
    fn command(&self, source: Option<&Path>, words: &[&str]) -> Command {
        let empty = self.host.path().join("source");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--propagation=private", "--"]);
        command.args(["sh", "-euc", ENTER, "sh"]).arg(&self.root);
        command.arg(self.host.path().join("lock")).arg(source.unwrap_or(&empty));
        command.arg(self.host.path().join("account")).arg(&self.capabilities);
        command.args(words).env_clear().env("NO_COLOR", "1").env("NODE_NAME", "n1");
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }
}

/// What the DaemonSet adds after dropping all.
fn capabilities() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/base/daemonset.yaml");
    let text = fs::read_to_string(path).unwrap();
    let (_, list) = text.split_once("            add:\n").expect("capabilities");
    list.lines()
        .take_while(|line| line.starts_with("            "))
        .filter_map(|line| line.trim().strip_prefix("- "))
        .map(str::to_owned)
        .collect()
}

/// The process that was started in the container, which `unshare` waits for.
fn inner(daemon: &Daemon) -> Pid {
    let outer = daemon.id().unwrap();
    let children = format!("/proc/{outer}/task/{outer}/children");
    let children = fs::read_to_string(children).unwrap();
    Pid::from_raw(children.trim().parse().unwrap())
}

/// A line of a process's status.
fn status(process: Pid, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    value.unwrap().trim().to_owned()
}

fn word(backend: Backend) -> &'static str {
    match backend {
        Backend::Nft => "nft",
        Backend::Legacy => "legacy",
    }
}

/// Runs policyd over the scene's manifests until it is ready.
fn start(image: &Image, scene: &Scene, backend: Backend) -> Daemon {
    let words = ["policyd", "run", "--source", "/mnt", "--iptables-backend", word(backend)];
    let mut command = image.command(Some(scene.directory.path()), &words);
    let daemon = Daemon::start(scene.node(), &mut command).unwrap();
    daemon.await_line(" ready ", 0, PATIENCE).unwrap();
    daemon
}

fn it_enforces_and_cleans_up(backend: Backend) {
    let scene = Scene::new(backend);
    scene.others_rules();
    let before = scene.everything();
    let image = Image::of_the_manifest();
    let daemon = start(&image, &scene, backend);
    let process = inner(&daemon);
    // CAP_NET_ADMIN is the 12th bit, CAP_NET_RAW the 13th.
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(status(process, set), "0000000000003000", "{set}");
    }
    assert_eq!(status(process, "NoNewPrivs"), "1");
    assert_eq!(scene.let_in(), (true, false));
    scene.write("policy.yaml", &policy("other"));
    scene.await_let_in((false, true), "an edit");

    let mut clean = image.command(None, &["policyd", "cleanup"]);
    let refused = scene.node().output(&mut clean, "").unwrap();
    assert_eq!(refused.status.code(), Some(2), "while the agent runs");

    kill(process, Signal::SIGTERM).unwrap();
    // What waits for it passes its status on, and takes no notice of this signal itself.
    assert!(daemon.stop(Signal::SIGCONT).unwrap().success());
    assert_eq!(scene.let_in(), (false, true), "rules stay");
    let done = scene.node().output(&mut clean, "").unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(scene.everything(), before);
    assert_eq!(scene.let_in(), (true, true));
}

#[test]
fn it_enforces_and_cleans_up_with_nft() {
    kernel_test("image::it_enforces_and_cleans_up_with_nft", || {
        it_enforces_and_cleans_up(Backend::Nft);
    });
}

#[test]
fn it_enforces_and_cleans_up_with_legacy() {
    kernel_test("image::it_enforces_and_cleans_up_with_legacy", || {
        it_enforces_and_cleans_up(Backend::Legacy);
    });
}

/// Nothing of the manifest's capabilities could be left out, with either backend.
#[test]
fn without_one_of_its_capabilities_it_says_which_it_lacks() {
    let name = "image::without_one_of_its_capabilities_it_says_which_it_lacks";
    kernel_test(name, || {
        let node = Namespace::create().unwrap();
        for (given, lacking) in [("NET_ADMIN", "CAP_NET_RAW"), ("NET_RAW", "CAP_NET_ADMIN")] {
            let image = Image::new(&[given.to_owned()]);
            for backend in Backend::ALL {
                let backend = word(backend);
                let words = ["policyd", "run", "--source=/mnt", "--iptables-backend", backend];
                let ended = node.output(&mut image.command(None, &words), "").unwrap();
                let said = String::from_utf8_lossy(&ended.stderr).into_owned();
                assert_eq!(ended.status.code(), Some(2), "{given} {backend}: {said}");
                assert!(
                    said.contains(&format!("{lacking} is needed")),
                    "{given} {backend}: {said}"
                );
            }
        }
    });
}

#[test]
fn it_has_policyc_and_the_licences() {
    kernel_test("image::it_has_policyc_and_the_licences", || {
        let image = Image::of_the_manifest();
        let node = Namespace::create().unwrap();
        let run = |words: &[&str]| node.run(&mut image.command(None, words), "").unwrap();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(run(&["policyd", "--version"]), format!("policyd {version}\n"));
        assert_eq!(run(&["policyc", "--version"]), format!("policyc {version}\n"));
        let licences = "LICENSE-APACHE\nLICENSE-MIT\ncopyright\n";
        assert_eq!(run(&["ls", "/usr/share/doc/policyd"]), licences);
    });
}

#[test]
fn without_a_source_it_goes_to_the_api_server_of_its_cluster() {
    kernel_test("image::without_a_source_it_goes_to_the_api_server_of_its_cluster", || {
        let image = Image::of_the_manifest();
        let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        image.account("ca.crt", &key.cert.pem());
        image.account("token", "the token of an account");
        image.account("namespace", "kube-system");
        let node = Namespace::create().unwrap();
        let listener = node.enter(|| TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let mut command = image.command(None, &["policyd", "run"]);
        command.env("KUBERNETES_SERVICE_HOST", "127.0.0.1").env("KUBERNETES_SERVICE_PORT", port);
        let daemon = Daemon::start(&node, &mut command).unwrap();
        assert_eq!(first_byte(&listener, &daemon), 0x16, "the begin of a TLS handshake");
    });
}

/// The first byte that somebody sends.
fn first_byte(listener: &TcpListener, daemon: &Daemon) -> u8 {
    listener.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((mut stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                return byte[0];
            }
            Err(error) => {
                assert!(Instant::now() < deadline, "{error}: {:#?}", daemon.lines());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
