//! The MCP clients that `forebay mcp` knows: where each keeps its servers, and in which form.
//!
//! Facts about other people's programs, and nothing else; `docs/clients.md` names the page that each was taken from.
//! No client is asked or started: a file at its usual place is all there is.

use crate::env::Env;
use clap::ValueEnum;
use forebay_domain::{Code, Failure};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A program that uses MCP servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum McpClient {
    ClaudeDesktop,
    ClaudeCode,
    Cursor,
    #[value(name = "vscode", alias = "vs-code")]
    #[serde(rename = "vscode")]
    VsCode,
    Crush,
}

/// For whom a server is installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    /// For this user, everywhere
    User,
    /// For whoever works in one folder
    Project,
}

/// How the client talks to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// Over Streamable HTTP
    Http,
    /// Through `forebay stdio`, which the client starts
    Stdio,
}

impl Transport {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Stdio => "stdio",
        }
    }
}

impl McpClient {
    pub(super) const ALL: [Self; 5] = [
        Self::ClaudeDesktop,
        Self::ClaudeCode,
        Self::Cursor,
        Self::VsCode,
        Self::Crush,
    ];

    /// As it is written on the command line.
    pub(super) fn id(self) -> &'static str {
        match self {
            Self::ClaudeDesktop => "claude-desktop",
            Self::ClaudeCode => "claude-code",
            Self::Cursor => "cursor",
            Self::VsCode => "vscode",
            Self::Crush => "crush",
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::ClaudeDesktop => "Claude Desktop",
            Self::ClaudeCode => "Claude Code",
            Self::Cursor => "Cursor",
            Self::VsCode => "VS Code",
            Self::Crush => "Crush",
        }
    }

    /// The member of the file that holds the servers by their names.
    pub(super) fn section(self) -> &'static str {
        match self {
            Self::ClaudeDesktop | Self::ClaudeCode | Self::Cursor => "mcpServers",
            Self::VsCode => "servers",
            Self::Crush => "mcp",
        }
    }

    /// An entry says which transport it is for; with the others, `url` or `command` says it.
    pub(super) fn names_transport(self) -> bool {
        match self {
            Self::ClaudeDesktop | Self::Cursor => false,
            Self::ClaudeCode | Self::VsCode | Self::Crush => true,
        }
    }

    /// The client's file takes servers that are reached over HTTP.
    pub(super) fn speaks_http(self) -> bool {
        match self {
            Self::ClaudeDesktop => false,
            Self::ClaudeCode | Self::Cursor | Self::VsCode | Self::Crush => true,
        }
    }

    /// How its file refers to a variable of the environment; `None` where it cannot.
    pub(super) fn reference(self, variable: &str) -> Option<String> {
        match self {
            Self::ClaudeDesktop => None,
            Self::ClaudeCode => Some(format!("${{{variable}}}")),
            Self::Cursor | Self::VsCode => Some(format!("${{env:{variable}}}")),
            Self::Crush => Some(format!("${variable}")),
        }
    }

    /// It can ask its user for a secret, and keep it elsewhere than in the file.
    pub(super) fn prompts(self) -> bool {
        match self {
            Self::VsCode => true,
            Self::ClaudeDesktop | Self::ClaudeCode | Self::Cursor | Self::Crush => false,
        }
    }

    /// What its user has to do before a change is seen.
    pub(super) fn afterwards(self) -> &'static str {
        match self {
            Self::ClaudeDesktop => "Quit Claude Desktop and start it again to load it.",
            Self::ClaudeCode => "Sessions of Claude Code that start from now on load it; `/mcp` shows it.",
            Self::Cursor => "Reload Cursor's window to load it.",
            Self::VsCode => "VS Code offers to start it when the file is opened, or by `MCP: List Servers`.",
            Self::Crush => "Start Crush again to load it.",
        }
    }

    /// A program of it that stands on `PATH` where it is installed.
    fn program(self) -> Option<&'static str> {
        match self {
            Self::ClaudeDesktop => None,
            Self::ClaudeCode => Some("claude"),
            Self::Cursor => Some("cursor"),
            Self::VsCode => Some("code"),
            Self::Crush => Some("crush"),
        }
    }
}

/// Whose conventions for folders hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Os {
    MacOs,
    /// Linux, and others that follow the XDG base directories.
    Xdg,
}

impl Os {
    pub(super) fn this() -> Self {
        if cfg!(target_os = "macos") {
            Self::MacOs
        } else {
            Self::Xdg
        }
    }
}

/// Where this user's files are.
pub(super) struct Places<'a> {
    env: &'a Env,
    os: Os,
}

impl<'a> Places<'a> {
    pub(super) fn new(env: &'a Env, os: Os) -> Self {
        Self { env, os }
    }

    /// The file that holds the client's servers.
    pub(super) fn file(&self, client: McpClient, scope: Scope, project: &Path) -> Result<PathBuf, Failure> {
        match scope {
            Scope::User => self.of_user(client).ok_or_else(|| {
                Failure::new(Code::InvalidConfig, "HOME is not set, so there is no place of yours.")
                    .hint("Name the file with --config-file.")
            }),
            Scope::Project => of_project(client, project).ok_or_else(|| {
                let message = format!("{} has no file for a project.", client.title());
                Failure::new(Code::InvalidConfig, message).hint("Leave --scope and --project out.")
            }),
        }
    }

    fn of_user(&self, client: McpClient) -> Option<PathBuf> {
        match client {
            McpClient::ClaudeDesktop => Some(self.programs()?.join("Claude/claude_desktop_config.json")),
            McpClient::ClaudeCode => {
                let folder = self.env.path("CLAUDE_CONFIG_DIR").or_else(|| self.home());
                Some(folder?.join(".claude.json"))
            }
            McpClient::Cursor => Some(self.home()?.join(".cursor/mcp.json")),
            McpClient::VsCode => Some(self.programs()?.join("Code/User/mcp.json")),
            McpClient::Crush => Some(self.xdg()?.join("crush/crush.json")),
        }
    }

    /// Whether the client seems to be on this machine: it has left a folder, or its program can be started.
    pub(super) fn seen(&self, client: McpClient) -> bool {
        let folder = match client {
            McpClient::ClaudeDesktop => self.programs().map(|folder| folder.join("Claude")),
            McpClient::ClaudeCode => self.of_user(client).filter(|file| file.exists()).or_else(|| {
                let folder = self.env.path("CLAUDE_CONFIG_DIR");
                folder.or_else(|| Some(self.home()?.join(".claude")))
            }),
            McpClient::Cursor => self.home().map(|home| home.join(".cursor")),
            McpClient::VsCode => self.programs().map(|folder| folder.join("Code")),
            McpClient::Crush => self.xdg().map(|folder| folder.join("crush")),
        };
        folder.is_some_and(|folder| folder.exists()) || client.program().is_some_and(|program| self.on_path(program))
    }

    fn on_path(&self, program: &str) -> bool {
        let path = self.env.get("PATH").unwrap_or_default();
        path.split(':')
            .filter(|folder| !folder.is_empty())
            .any(|folder| Path::new(folder).join(program).is_file())
    }

    fn home(&self) -> Option<PathBuf> {
        self.env.path("HOME")
    }

    fn xdg(&self) -> Option<PathBuf> {
        self.env
            .path("XDG_CONFIG_HOME")
            .or_else(|| Some(self.home()?.join(".config")))
    }

    /// Where desktop programs keep their settings.
    fn programs(&self) -> Option<PathBuf> {
        match self.os {
            Os::MacOs => Some(self.home()?.join("Library/Application Support")),
            Os::Xdg => self.xdg(),
        }
    }
}

fn of_project(client: McpClient, project: &Path) -> Option<PathBuf> {
    match client {
        McpClient::ClaudeDesktop => None,
        McpClient::ClaudeCode => Some(project.join(".mcp.json")),
        McpClient::Cursor => Some(project.join(".cursor/mcp.json")),
        McpClient::VsCode => Some(project.join(".vscode/mcp.json")),
        McpClient::Crush => {
            // Crush reads both, and the hidden one wins.
            let hidden = project.join(".crush.json");
            Some(if hidden.exists() {
                hidden
            } else {
                project.join("crush.json")
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(variables: &[(&str, &str)]) -> Env {
        variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn user_files(os: Os, variables: &[(&str, &str)]) -> Vec<String> {
        let env = env(variables);
        let places = Places::new(&env, os);
        let file = |client| places.file(client, Scope::User, Path::new("/p"));
        McpClient::ALL
            .into_iter()
            .map(|client| file(client).unwrap().display().to_string())
            .collect()
    }

    #[test]
    fn each_client_keeps_its_file_where_its_system_says() {
        assert_eq!(
            user_files(Os::Xdg, &[("HOME", "/h")]),
            [
                "/h/.config/Claude/claude_desktop_config.json",
                "/h/.claude.json",
                "/h/.cursor/mcp.json",
                "/h/.config/Code/User/mcp.json",
                "/h/.config/crush/crush.json",
            ]
        );
        assert_eq!(
            user_files(Os::MacOs, &[("HOME", "/h")]),
            [
                "/h/Library/Application Support/Claude/claude_desktop_config.json",
                "/h/.claude.json",
                "/h/.cursor/mcp.json",
                "/h/Library/Application Support/Code/User/mcp.json",
                "/h/.config/crush/crush.json",
            ]
        );
        let moved = [("HOME", "/h"), ("XDG_CONFIG_HOME", "/x"), ("CLAUDE_CONFIG_DIR", "/c")];
        assert_eq!(
            user_files(Os::Xdg, &moved),
            [
                "/x/Claude/claude_desktop_config.json",
                "/c/.claude.json",
                "/h/.cursor/mcp.json",
                "/x/Code/User/mcp.json",
                "/x/crush/crush.json",
            ]
        );
    }

    #[test]
    fn a_project_has_its_own_files_where_the_client_knows_projects() {
        let folder = tempfile::tempdir().unwrap();
        let env = env(&[]);
        let places = Places::new(&env, Os::Xdg);
        let file = |client| places.file(client, Scope::Project, folder.path());
        for (client, expected) in [
            (McpClient::ClaudeCode, ".mcp.json"),
            (McpClient::Cursor, ".cursor/mcp.json"),
            (McpClient::VsCode, ".vscode/mcp.json"),
            (McpClient::Crush, "crush.json"),
        ] {
            assert_eq!(file(client).unwrap(), folder.path().join(expected), "{client:?}");
        }
        assert!(file(McpClient::ClaudeDesktop).is_err());
        std::fs::write(folder.path().join(".crush.json"), "{}").unwrap();
        assert_eq!(file(McpClient::Crush).unwrap(), folder.path().join(".crush.json"));
        assert!(places.file(McpClient::Cursor, Scope::User, folder.path()).is_err());
    }
}
