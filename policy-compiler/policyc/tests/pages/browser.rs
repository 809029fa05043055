//! A headless Chromium, spoken to in its `DevTools` protocol over a pipe: no port, no network.
//!
//! Each browser is in a process group of its own, which ends with the value; nothing waits for longer
//! than [`PATIENCE`].

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use base64::Engine as _;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// How long a browser may take to answer, on a machine that has more to do.
const PATIENCE: Duration = Duration::from_mins(1);

/// A browser with one page open.
pub(crate) struct Browser {
    child: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    sent: u64,
    session: Option<String>,
    events: Vec<Value>,
    home: tempfile::TempDir,
}

/// Descriptors 3 and 4 are where Chromium reads commands and writes answers.
const LAUNCH: &str = "exec \"$0\" \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>/dev/null";

impl Browser {
    /// Starts a browser and opens `html` in it.
    pub(crate) fn open(html: &str) -> Self {
        let home = tempfile::tempdir().expect("a directory can be made");
        let program = std::env::var("CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
        let mut child = Command::new("sh")
            .args(["-c", LAUNCH, &program, "--headless", "--no-sandbox", "--disable-gpu"])
            .args(["--remote-debugging-pipe", "--no-first-run", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-sync", "--disable-breakpad"])
            .args(["--window-size=1300,850", "--hide-scrollbars"])
            .arg(format!("--user-data-dir={}", home.path().join("profile").display()))
            .env("HOME", home.path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let input = child.stdin.take().expect("piped");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in output.split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { continue };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let path = home.path().join("page.html");
        std::fs::write(&path, html).expect("the page can be written");
        let mut browser =
            Self { child, input, messages, sent: 0, session: None, events: Vec::new(), home };
        browser.attach();
        browser.show(&path);
        browser
    }

    fn attach(&mut self) {
        let target = self.call("Target.createTarget", &json!({"url": "about:blank"}));
        let target = json!({"targetId": target["targetId"], "flatten": true});
        let session = self.call("Target.attachToTarget", &target);
        self.session = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            self.call(&format!("{domain}.enable"), &json!({}));
        }
    }

    fn show(&mut self, path: &Path) {
        self.call("Page.navigate", &json!({"url": format!("file://{}", path.display())}));
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let message = self.receive();
            self.events.push(message);
        }
    }

    fn receive(&mut self) -> Value {
        self.messages
            .recv_timeout(PATIENCE)
            .expect("Chromium answers: `.ci/setup` installs it, or CHROMIUM names the program")
    }

    /// Calls a method of the protocol; what happens meanwhile is kept.
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.sent += 1;
        let mut message = json!({"id": self.sent, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            message["sessionId"] = Value::from(session.as_str());
        }
        let written = self.input.write_all(format!("{message}\0").as_bytes());
        written
            .and_then(|()| self.input.flush())
            .expect("Chromium runs: `.ci/setup` installs it, or CHROMIUM names the program");
        loop {
            let answer = self.receive();
            if answer["id"] == self.sent {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.events.push(answer);
        }
    }

    /// The value of an expression in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "returnByValue": true});
        let answer = self.call("Runtime.evaluate", &asked);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The text of the first element that `selector` finds.
    pub(crate) fn text(&mut self, selector: &str) -> String {
        let quoted = Value::from(selector);
        let value = self.value(&format!("document.querySelector({quoted})?.textContent ?? ''"));
        value.as_str().unwrap_or_default().to_owned()
    }

    /// Clicks in the middle of the first element that `selector` finds.
    pub(crate) fn click(&mut self, selector: &str) {
        let quoted = Value::from(selector);
        let at = self.value(&format!(
            "(() => {{ const one = document.querySelector({quoted}); if (!one) return null; \
             one.scrollIntoView({{block: 'center', inline: 'center'}}); \
             const box = one.getBoundingClientRect(); \
             return [box.x + box.width / 2, box.y + box.height / 2]; }})()"
        ));
        assert!(at.is_array(), "{selector} is not there");
        for kind in ["mousePressed", "mouseReleased"] {
            let event =
                json!({"type": kind, "x": at[0], "y": at[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", &event);
        }
    }

    /// Presses a key.
    pub(crate) fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Enter" => (13, "\r"),
            "Tab" => (9, ""),
            "ArrowRight" => (39, ""),
            "ArrowDown" => (40, ""),
            "/" => (191, "/"),
            other => panic!("no such key: {other}"),
        };
        let mut event = json!({"type": "keyDown", "key": key, "windowsVirtualKeyCode": code});
        if !text.is_empty() {
            event["text"] = Value::from(text);
        }
        self.call("Input.dispatchKeyEvent", &event);
        event = json!({"type": "keyUp", "key": key, "windowsVirtualKeyCode": code});
        self.call("Input.dispatchKeyEvent", &event);
    }

    /// Types where the focus is.
    pub(crate) fn enter(&mut self, text: &str) {
        self.call("Input.insertText", &json!({"text": text}));
    }

    /// Has the page believe that the system is `light` or `dark`.
    pub(crate) fn prefer(&mut self, scheme: &str) {
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.call("Emulation.setEmulatedMedia", &json!({"features": [feature]}));
    }

    /// Keeps an image of the page among what tests leave behind, for people to look at.
    pub(crate) fn photograph(&mut self, name: &str) -> PathBuf {
        let image = self.call("Page.captureScreenshot", &json!({"format": "png"}));
        let image = image["data"].as_str().unwrap_or_default();
        let image = base64::engine::general_purpose::STANDARD.decode(image).expect("an image");
        assert!(image.starts_with(b"\x89PNG"));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.png"));
        std::fs::write(&path, image).expect("the image can be kept");
        path
    }

    /// Whatever the page had to complain of, and every address but its own that it asked for.
    pub(crate) fn complaints(&mut self) -> Vec<String> {
        // Whatever is on its way has come by the time that this is answered.
        self.value("0");
        let own = format!("file://{}", self.home.path().join("page.html").display());
        let complaint = |event: &Value| match event["method"].as_str()? {
            "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded" => {
                Some(event["params"].to_string())
            }
            "Network.requestWillBeSent" => {
                let url = event["params"]["request"]["url"].as_str().unwrap_or_default();
                (url != own && url != "data:,").then(|| format!("asked for {url}"))
            }
            _ => None,
        };
        self.events.iter().filter_map(complaint).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The group is the browser's own, so nobody else's processes are in it.
        let group = i32::try_from(self.child.id()).map(Pid::from_raw);
        let _ = group.map(|group| killpg(group, Signal::SIGKILL));
        let _ = self.child.wait();
    }
}
