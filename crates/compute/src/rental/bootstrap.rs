//! What a rented machine gets to come home with: the gateway's address, a token that is good once, and a script that
//! fetches the gateway's own binary with it and runs the agent.

use forebay_domain::market::Provider;
use forebay_runtime::Entropy;
use sha2::{Digest, Sha256};

/// Where the gateway answers the agent's report.
pub const REPORT_PATH: &str = "/api/v1/gpu/agent";
/// Where the gateway hands out its own binary.
pub const DIST_PATH: &str = "/dist/forebay";
/// The words by which our own binary is told to be the agent of a rented machine.
pub const AGENT_WORDS: [&str; 1] = ["instance-agent"];

/// The variables that a machine gets; nobody else may set them.
pub(crate) const URL_VARIABLE: &str = "FOREBAY_URL";
pub(crate) const TOKEN_VARIABLE: &str = "FOREBAY_TOKEN";
/// Where the agent keeps what it drew for itself; set by the script.
pub const DIR_VARIABLE: &str = "FOREBAY_DIR";
/// Names of variables that are the gateway's.
pub(crate) const OUR_VARIABLES: &str = "FOREBAY_";

const TOKEN_MARK: &str = "fbi_";

/// A token that is good once, and what the store keeps of it.
pub(crate) struct Token {
    pub text: String,
    pub hash: [u8; 32],
}

impl Token {
    pub(crate) fn draw(entropy: &Entropy) -> Self {
        let text = format!("{TOKEN_MARK}{}", hex::encode(entropy.bytes::<32>()));
        let hash = hash(&text);
        Self { text, hash }
    }
}

pub(crate) fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The script for a machine of this provider. At io.net and RunPod it is the first process of a container, which ends
/// with it: the agent takes its place, and where there is no agent it stays itself, so that the log can be read. vast.ai
/// runs it beside its own first process, and waits for it.
pub(crate) fn on_start(provider: Provider) -> String {
    let last = match provider {
        Provider::IoNet | Provider::RunPod => STAY,
        Provider::Vast | Provider::Local => LEAVE,
    };
    format!("{FETCH}{last}")
}

const STAY: &str = r#"[ -x "$bin" ] && exec "$bin" instance-agent
while :; do sleep 3600; done
"#;
const LEAVE: &str = r#"[ -x "$bin" ] && nohup "$bin" instance-agent >"$dir/agent.log" 2>&1 &
"#;

/// It needs a shell and one of curl, wget and python3, and leaves the machine as it is where there is none. The token
/// never stands in it, nor in the arguments of a program that outlives a moment.
const FETCH: &str = r#"#!/bin/sh
# Fetches the gateway's own binary and runs the agent, which reports this machine.
dir="${FOREBAY_DIR:-/opt/forebay}"
mkdir -p "$dir" 2>/dev/null || dir="$(mktemp -d)"
export FOREBAY_DIR="$dir"
bin="$dir/forebay"
url="$FOREBAY_URL/dist/forebay?os=linux&arch=$(uname -m)"
fetch() {
    if command -v curl >/dev/null 2>&1; then
        printf 'header = "Authorization: Bearer %s"\n' "$FOREBAY_TOKEN" |
            curl -fsS --max-time 300 -K - -o "$bin.part" "$url"
    elif command -v python3 >/dev/null 2>&1; then
        python3 - "$url" "$bin.part" <<'END'
import os, sys, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"Authorization": "Bearer " + os.environ["FOREBAY_TOKEN"]})
with urllib.request.urlopen(request, timeout=300) as answer, open(sys.argv[2], "wb") as file:
    while chunk := answer.read(1 << 20):
        file.write(chunk)
END
    elif command -v wget >/dev/null 2>&1; then
        wget -q -T 300 --header "Authorization: Bearer $FOREBAY_TOKEN" -O "$bin.part" "$url"
    else
        echo "forebay: neither curl nor python3 nor wget is here" >&2
        tries=20
        return 1
    fi
}
tries=0
while [ ! -x "$bin" ] && [ "$tries" -lt 20 ]; do
    if fetch; then
        chmod 755 "$bin.part" && mv "$bin.part" "$bin"
    else
        tries=$((tries + 1))
        [ "$tries" -lt 20 ] && sleep 15
    fi
done
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{BufRead, BufReader, Write},
        net::{Ipv4Addr, TcpListener},
        path::Path,
        process::{Child, Command, Stdio},
        thread::{self, JoinHandle},
    };

    #[test]
    fn a_token_is_kept_as_its_hash() {
        let entropy = Entropy::seeded(1);
        let (one, two) = (Token::draw(&entropy), Token::draw(&entropy));
        assert_ne!(one.text, two.text);
        assert_eq!(hash(&one.text), one.hash);
        assert_eq!(one.text.len(), TOKEN_MARK.len() + 64);
    }

    #[test]
    fn the_script_fits_what_providers_take_and_names_what_is_here() {
        for provider in Provider::ALL {
            let script = on_start(provider);
            assert!(script.len() <= 4_048, "{}", script.len());
            for word in [DIST_PATH, URL_VARIABLE, TOKEN_VARIABLE, AGENT_WORDS[0]] {
                assert!(script.contains(word), "{word}");
            }
        }
    }

    /// What the gateway hands out in these tests: it says who it is, and stays.
    const AGENT: &str = "#!/bin/sh\necho \"$$ $* $FOREBAY_TOKEN\" >\"$FOREBAY_DIR/told\"\nexec sleep 300\n";

    /// A gateway that answers one request, and gives what it was asked.
    fn gateway() -> (String, JoinHandle<String>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let asked: Vec<String> = lines
                .map(|line| line.unwrap())
                .take_while(|line| !line.is_empty())
                .collect();
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close",
                AGENT.len()
            );
            write!(stream, "{head}\r\n\r\n{AGENT}").unwrap();
            asked.join("\n")
        });
        (url, asked)
    }

    /// The script as this provider runs it, until the agent has told who it is; and the agent's process.
    fn started(provider: Provider, dir: &Path) -> (Child, u32) {
        let (url, asked) = gateway();
        let told = dir.join("told");
        assert!(Command::new("mkfifo").arg(&told).status().unwrap().success());
        let script = on_start(provider);
        // RunPod is given the script in a variable.
        let words = match provider {
            Provider::RunPod => "eval \"$FOREBAY_ON_START\"",
            _ => &script,
        };
        let child = Command::new("/bin/sh")
            .args(["-c", words])
            .env("FOREBAY_ON_START", &script)
            .env("FOREBAY_DIR", dir)
            .env(URL_VARIABLE, url)
            .env(TOKEN_VARIABLE, "fbi_1")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let told = std::fs::read_to_string(told).unwrap();
        let asked = asked.join().unwrap();
        assert!(asked.starts_with("GET /dist/forebay?os=linux&arch="), "{asked}");
        assert!(asked.to_lowercase().contains("authorization: bearer fbi_1"), "{asked}");
        let (pid, rest) = told.trim().split_once(' ').unwrap();
        assert_eq!(rest, "instance-agent fbi_1");
        (child, pid.parse().unwrap())
    }

    #[test]
    fn the_first_process_of_a_container_becomes_the_agent() {
        for provider in [Provider::IoNet, Provider::RunPod] {
            let dir = tempfile::tempdir().unwrap();
            let (mut child, agent) = started(provider, dir.path());
            let first = child.id();
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(agent, first, "{provider:?}");
        }
    }

    #[test]
    fn a_script_beside_the_first_process_ends_and_leaves_the_agent() {
        let dir = tempfile::tempdir().unwrap();
        let (mut child, agent) = started(Provider::Vast, dir.path());
        assert!(child.wait().unwrap().success());
        let is_there = Path::new(&format!("/proc/{agent}")).exists();
        assert!(Command::new("kill").arg(agent.to_string()).status().unwrap().success());
        assert!(is_there && agent != child.id());
    }
}
