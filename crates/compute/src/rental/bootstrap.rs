//! What a rented machine gets to come home with: the gateway's address, a token that is good once, and a script that
//! fetches the gateway's own binary with it and runs the agent.

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

/// The script. It needs a shell and one of curl, wget and python3, and leaves the machine as it is where there is none.
/// The token never stands in it, nor in the arguments of a program that outlives a moment.
pub(crate) const ON_START: &str = r#"#!/bin/sh
# Fetches the gateway's own binary and runs the agent, which reports this machine once.
dir=/opt/forebay
bin="$dir/forebay"
mkdir -p "$dir" || exit 0
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
        return 2
    fi
}
tries=0
while [ ! -x "$bin" ] && [ "$tries" -lt 20 ]; do
    if fetch; then
        chmod 755 "$bin.part" && mv "$bin.part" "$bin"
    else
        tries=$((tries + 1))
        sleep 15
    fi
done
[ -x "$bin" ] && nohup "$bin" instance-agent >"$dir/agent.log" 2>&1 &
"#;

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(ON_START.len() <= 4_048, "{}", ON_START.len());
        for word in [DIST_PATH, URL_VARIABLE, TOKEN_VARIABLE, AGENT_WORDS[0]] {
            assert!(ON_START.contains(word), "{word}");
        }
    }
}
