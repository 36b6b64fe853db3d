//! `forebay mcp` on files as clients and people leave them: one entry changes, everything else stays.

use crate::{err, options, out};
use forebay_testkit::gateway::command;
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Output,
};
use tempfile::TempDir;

pub(crate) const KEY: &str = "fb_0123456789abcdef_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// The half of it that nobody may see.
const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A user's home folder, and nothing else of an environment.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let mut command = command(&options(""), self.0.path());
        command.arg("mcp").args(arguments);
        command
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().await.unwrap()
    }

    /// Runs a command that works, and gives what it prints.
    pub(crate) async fn done(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["-o", "json"]].concat()).await;
        assert!(output.status.success(), "{arguments:?}: {}", err(&output));
        serde_json::from_str(&out(&output)).unwrap()
    }

    /// Installs with a key that is given, so that no gateway is asked.
    async fn install(&self, client: &str, more: &[&str]) -> Value {
        let embed = ["install", client, "--embed-key", "--key", KEY];
        self.done(&[&embed[..], more].concat()).await
    }

    async fn uninstall(&self, client: &str, more: &[&str]) -> Value {
        let gateway = ["--url", "http://127.0.0.1:1", "--key", KEY];
        self.done(&[&["uninstall", client][..], &gateway, more].concat()).await
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn each_client_gets_the_file_that_it_reads() {
    let program = env!("CARGO_BIN_EXE_forebay");
    let http = format!(
        r#"      "url": "http://127.0.0.1:8080/mcp",
      "headers": {{
        "Authorization": "Bearer {KEY}"
      }}
"#
    );
    let typed = format!("      \"type\": \"http\",\n{http}");
    let stdio = format!(
        r#"      "command": "{program}",
      "args": ["stdio", "--url", "http://127.0.0.1:8080"],
      "env": {{
        "FOREBAY_KEY": "{KEY}"
      }}
"#
    );
    for (client, file, section, entry) in [
        (
            "claude-desktop",
            ".config/Claude/claude_desktop_config.json",
            "mcpServers",
            &stdio,
        ),
        ("claude-code", ".claude.json", "mcpServers", &typed),
        ("cursor", ".cursor/mcp.json", "mcpServers", &http),
        ("vscode", ".config/Code/User/mcp.json", "servers", &typed),
        ("crush", ".config/crush/crush.json", "mcp", &typed),
    ] {
        let home = Home::new();
        let done = home.install(client, &[]).await;
        assert_eq!(done["done"], "added", "{done}");
        assert_eq!(done["key"], "0123456789abcdef", "{done}");
        assert_eq!(done["file"], home.path(file).display().to_string());
        let expected = format!("{{\n  \"{section}\": {{\n    \"forebay\": {{\n{entry}    }}\n  }}\n}}\n");
        assert_eq!(home.read(file), expected, "{client}");
        assert_eq!(mode(&home.path(file)), 0o600, "{client}: it holds a key");
        assert_eq!(home.uninstall(client, &[]).await["done"], "restored");
        assert!(!home.path(file).exists(), "{client}: there was no file before");
    }
}

#[tokio::test]
async fn a_file_for_a_project_holds_no_key() {
    for (client, file, credential) in [
        ("claude-code", "p/.mcp.json", "Bearer ${FOREBAY_KEY}"),
        ("cursor", "p/.cursor/mcp.json", "Bearer ${env:FOREBAY_KEY}"),
        ("vscode", "p/.vscode/mcp.json", "Bearer ${input:forebay-key}"),
        ("crush", "p/crush.json", "Bearer $FOREBAY_KEY"),
    ] {
        let home = Home::new();
        fs::create_dir(home.path("p")).unwrap();
        home.done(&["install", client, "--project", "p", "--key", KEY]).await;
        let text = home.read(file);
        assert!(!text.contains(SECRET), "{text}");
        assert!(text.contains(credential), "{client}: {text}");
        assert_eq!(text.contains("\"password\": true"), client == "vscode", "{text}");
        let again = home.done(&["install", client, "--project", "p", "--key", KEY]).await;
        assert_eq!(again["done"], "nothing", "{client}");
        home.done(&["uninstall", client, "--project", "p"]).await;
        assert!(!home.path(file).exists(), "{client}");
    }
    let home = Home::new();
    home.done(&["install", "cursor", "--key-env", "MY_KEY", "--server", "compose"])
        .await;
    let entry = &home.json(".cursor/mcp.json")["mcpServers"]["forebay-compose"];
    assert_eq!(
        *entry,
        json!({
            "url": "http://127.0.0.1:8080/servers/compose/mcp",
            "headers": {"Authorization": "Bearer ${env:MY_KEY}"},
        })
    );
}

#[tokio::test]
async fn what_others_wrote_survives_byte_for_byte() {
    let before = "// Servers of mine.
{
\t\"servers\": {
\t\t/* keep */
\t\t\"other\" : {\"url\":\"http://x\" , \"n\": 1e2},   // as I like it
\t},
\t\"inputs\": [ ], \"more\":[1,2 , 3],
}

";
    let after = format!(
        "// Servers of mine.
{{
\t\"servers\": {{
\t\t/* keep */
\t\t\"other\" : {{\"url\":\"http://x\" , \"n\": 1e2}},   // as I like it
\t\t\"forebay\": {{
\t\t\t\"type\": \"http\",
\t\t\t\"url\": \"http://127.0.0.1:8080/mcp\",
\t\t\t\"headers\": {{
\t\t\t\t\"Authorization\": \"Bearer {KEY}\",
\t\t\t}},
\t\t}},
\t}},
\t\"inputs\": [ ], \"more\":[1,2 , 3],
}}

"
    );
    let file = ".config/Code/User/mcp.json";
    for ending in ["\n", "\r\n"] {
        for mark in ["", "\u{feff}"] {
            let home = Home::new();
            let text = |text: &str| format!("{mark}{}", text.replace('\n', ending));
            home.write(file, &text(before));
            home.install("vscode", &[]).await;
            assert_eq!(home.read(file), text(&after), "{ending:?} {mark:?}");
            assert_eq!(home.uninstall("vscode", &[]).await["done"], "restored");
            assert_eq!(home.read(file), text(before), "{ending:?} {mark:?}");
            assert_eq!(home.names(".config/Code/User"), ["mcp.json"], "nothing is left over");
        }
    }
}

#[tokio::test]
async fn a_second_install_touches_nothing() {
    let home = Home::new();
    home.write(".cursor/mcp.json", "{}");
    home.install("cursor", &[]).await;
    let seen = |home: &Home| {
        let status = fs::metadata(home.path(".cursor/mcp.json")).unwrap();
        (status.modified().unwrap(), home.names(".cursor"))
    };
    let first = seen(&home);
    assert_eq!(home.install("cursor", &[]).await["done"], "nothing");
    assert_eq!(seen(&home), first);
}

#[tokio::test]
async fn an_entry_of_ours_is_brought_up_to_date_and_keeps_what_its_owner_added() {
    let home = Home::new();
    home.install("crush", &[]).await;
    let file = ".config/crush/crush.json";
    let mine = home.read(file).replace(
        "\"headers\": {",
        "\"disabled_tools\": [\"x\"], // too slow\n      \"headers\": {\n        \"X-Mine\": \"1\",",
    );
    home.write(file, &mine);
    let done = home.install("crush", &["--url", "http://127.0.0.1:9090"]).await;
    assert_eq!(done["done"], "updated");
    assert_eq!(home.read(file), mine.replace(":8080", ":9090"));
    home.install("crush", &["--transport", "stdio"]).await;
    let text = home.read(file);
    assert!(text.contains("// too slow") && text.contains("X-Mine"), "{text}");
    assert!(!text.contains("Bearer") && !text.contains("\"url\""), "{text}");
    assert!(
        text.contains("\"type\": \"stdio\"") && text.contains("FOREBAY_KEY"),
        "{text}"
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_left_alone() {
    for (text, place) in [
        (
            "{\n  \"mcpServers\": {\n    \"a\": {} \"b\": {}\n  }\n}\n",
            "line 3, column 12",
        ),
        ("{ 'a': 1 }", "line 1, column 3"),
        ("{\"a\": [1, 2}", "line 1"),
        ("[]", "the whole file is not an object"),
        ("{\"mcpServers\": []}", "`mcpServers` is not an object"),
        ("{\"mcpServers\": {}, \"mcpServers\": {}}", "names `mcpServers` twice"),
        (
            "{\"mcpServers\": {\"forebay\": {}, \"forebay\": {}}}",
            "names `forebay` twice",
        ),
    ] {
        let home = Home::new();
        home.write(".cursor/mcp.json", text);
        for verb in ["install", "uninstall"] {
            let arguments = [verb, "cursor", "--url", "http://127.0.0.1:1", "--force"];
            let embed = ["--embed-key", "--key", KEY];
            let more: &[&str] = if verb == "install" { &embed } else { &[] };
            let refused = home.run(&[&arguments[..], more].concat()).await;
            assert_eq!(refused.status.code(), Some(1), "{verb} {text}: {}", err(&refused));
            assert!(err(&refused).contains(place), "{verb} {text}: {}", err(&refused));
            assert_eq!(out(&refused), "");
            assert_eq!(home.read(".cursor/mcp.json"), text);
            assert_eq!(home.names(".cursor"), ["mcp.json"]);
        }
    }
}

#[tokio::test]
async fn an_entry_of_somebody_else_is_replaced_only_by_force() {
    let home = Home::new();
    let text = "{\"mcpServers\": {\"forebay\": {\"command\": \"tent\", \"args\": [\"sk-4711\"]}}}";
    home.write(".cursor/mcp.json", text);
    let embed = ["install", "cursor", "--embed-key", "--key", KEY];
    for arguments in [&embed[..], &["uninstall", "cursor"]] {
        let refused = home.run(arguments).await;
        assert_eq!(refused.status.code(), Some(5), "{}", err(&refused));
        assert!(
            err(&refused).contains("--force") && err(&refused).contains("--name"),
            "{}",
            err(&refused)
        );
        assert_eq!(home.read(".cursor/mcp.json"), text);
    }
    home.install("cursor", &["--name", "gate"]).await;
    assert_eq!(
        home.json(".cursor/mcp.json")["mcpServers"]["forebay"]["command"],
        "tent"
    );
    let forced = home.run(&[&embed[..], &["--force"]].concat()).await;
    assert!(forced.status.success(), "{}", err(&forced));
    assert!(!err(&forced).contains("sk-4711"), "{}", err(&forced));
    let entry = &home.json(".cursor/mcp.json")["mcpServers"]["forebay"];
    assert_eq!(entry.as_object().unwrap().len(), 2, "{entry}");
}

#[tokio::test]
async fn a_dry_run_shows_the_difference_and_no_secret_and_writes_nothing() {
    let home = Home::new();
    home.write(".cursor/mcp.json", "{\n  \"token\": \"sk-4711\"\n}\n");
    let install = ["install", "cursor", "--embed-key", "--key", KEY];
    let shown = home.run(&[&install[..], &["--dry-run", "-o", "json"]].concat()).await;
    assert!(shown.status.success());
    let words = err(&shown);
    assert!(
        words.contains("+      \"url\": \"http://127.0.0.1:8080/mcp\","),
        "{words}"
    );
    assert!(words.contains("Bearer fb_0123456789abcdef_***"), "{words}");
    assert!(!words.contains(SECRET) && !words.contains("sk-4711"), "{words}");
    let told: Value = serde_json::from_str(&out(&shown)).unwrap();
    assert_eq!(told["done"], "dry_run");
    assert_eq!(home.names(".cursor"), ["mcp.json"]);
    assert_eq!(home.read(".cursor/mcp.json"), "{\n  \"token\": \"sk-4711\"\n}\n");
    let new = Home::new();
    assert!(new.run(&[&install[..], &["--dry-run"]].concat()).await.status.success());
    assert!(!new.path(".cursor").exists(), "not even the folder is made");
}

#[tokio::test]
async fn permissions_links_and_the_former_version_are_kept() {
    let home = Home::new();
    home.write("dotfiles/mcp.json", "{\"mcpServers\": {}}");
    fs::set_permissions(home.path("dotfiles/mcp.json"), fs::Permissions::from_mode(0o644)).unwrap();
    fs::create_dir(home.path(".cursor")).unwrap();
    symlink("../dotfiles/mcp.json", home.path(".cursor/mcp.json")).unwrap();
    let install = ["install", "cursor", "--embed-key", "--key", KEY, "-o", "json"];
    let output = home.run(&install).await;
    assert!(
        err(&output).contains("others on this machine can read"),
        "{}",
        err(&output)
    );
    let told: Value = serde_json::from_str(&out(&output)).unwrap();
    let backup = PathBuf::from(told["backup"].as_str().unwrap());
    assert_eq!(fs::read_to_string(&backup).unwrap(), "{\"mcpServers\": {}}");
    assert_eq!(backup.parent().unwrap().file_name().unwrap(), "dotfiles");
    assert_eq!((mode(&backup), mode(&home.path("dotfiles/mcp.json"))), (0o644, 0o644));
    assert!(
        fs::symlink_metadata(home.path(".cursor/mcp.json"))
            .unwrap()
            .is_symlink()
    );
    assert!(home.read("dotfiles/mcp.json").contains(KEY));
    fs::remove_file(home.path("dotfiles/mcp.json")).unwrap();
    let nowhere = home.run(&install).await;
    assert_eq!(nowhere.status.code(), Some(1), "{}", err(&nowhere));
    assert!(
        fs::symlink_metadata(home.path(".cursor/mcp.json"))
            .unwrap()
            .is_symlink()
    );
}

#[tokio::test]
async fn an_uninstall_takes_only_the_entry_where_something_else_has_changed() {
    let home = Home::new();
    let file = ".config/Code/User/mcp.json";
    home.write(file, "{\n  \"servers\": {\n    \"a\": {} // first\n  }\n}\n");
    home.done(&["install", "vscode", "--key", KEY]).await;
    assert_eq!(home.json_with_comments(file)["inputs"][0]["id"], "forebay-key");
    let changed = home.read(file).replace("\"a\": {}", "\"a\": {\"url\": \"x\"}");
    home.write(file, &changed);
    let done = home.done(&["uninstall", "vscode"]).await;
    assert_eq!(done["done"], "removed");
    assert_eq!(fs::read_to_string(done["backup"].as_str().unwrap()).unwrap(), changed);
    let left = home.read(file);
    assert!(
        left.contains("\"a\": {\"url\": \"x\"}") && left.contains("// first"),
        "{left}"
    );
    assert!(!left.contains("forebay") && !left.contains("inputs"), "{left}");
    assert_eq!(home.done(&["uninstall", "vscode"]).await["done"], "nothing");
}

impl Home {
    fn json_with_comments(&self, name: &str) -> Value {
        let text: String = self
            .read(name)
            .lines()
            .map(|line| line.split(" // ").next().unwrap())
            .collect();
        serde_json::from_str(&text).unwrap()
    }
}

#[tokio::test]
async fn installs_at_one_time_lose_nothing() {
    let home = Home::new();
    home.write(".cursor/mcp.json", "{}");
    let names = ["a", "b", "c", "d"];
    let runs = names.map(async |name| home.install("cursor", &["--name", name]).await);
    for one in futures_util::future::join_all(runs).await {
        assert_eq!(one["done"], "added", "{one}");
    }
    let servers = home.json(".cursor/mcp.json")["mcpServers"].clone();
    assert_eq!(servers.as_object().unwrap().keys().collect::<Vec<_>>(), names);
}

#[tokio::test]
async fn what_cannot_be_is_refused_before_anything_begins() {
    let home = Home::new();
    for (arguments, word) in [
        (
            &["install", "claude-desktop", "--transport", "http"][..],
            "takes no URL",
        ),
        (&["install", "claude-desktop", "--key-env", "K"], "--embed-key"),
        (
            &["install", "claude-desktop", "--project", "."],
            "no file for a project",
        ),
        (&["install", "cursor", "--scope", "user", "--project", "."], "--project"),
        (&["install", "cursor", "--name", "a b"], "--name"),
        (&["install", "cursor", "--server", "../x"], "--server"),
        (&["install", "cursor", "--key-env", "A}"], "--key-env"),
        (&["install", "cursor", "--role", "user", "--embed-key"], "--role"),
        (&["install", "emacs"], "emacs"),
        (&["export", "crush", "--form", "link"], "no such form"),
    ] {
        let refused = home.run(arguments).await;
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}: {}", err(&refused));
        assert!(err(&refused).contains(word), "{arguments:?}: {}", err(&refused));
        assert_eq!(home.names("."), [""; 0], "{arguments:?}");
    }
    let keyless = home.run(&["install", "cursor", "--embed-key"]).await;
    assert_eq!(keyless.status.code(), Some(3), "{}", err(&keyless));
    let nobody = home
        .run(&["install", "cursor", "--key", KEY, "--url", "http://127.0.0.1:1"])
        .await;
    assert_eq!(nobody.status.code(), Some(4), "{}", err(&nobody));
    assert!(err(&nobody).contains("--embed-key"), "{}", err(&nobody));
    assert_eq!(home.names("."), [""; 0]);
}
