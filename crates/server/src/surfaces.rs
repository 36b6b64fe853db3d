//! The surfaces that stand open, for the start-up line: an operator should see at once what can be reached from where.

use std::{fmt, net::SocketAddr};

/// One thing that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenSurface {
    pub name: &'static str,
    pub url: String,
    /// What it asks of whoever calls.
    pub asks: &'static str,
}

impl fmt::Display for OpenSurface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.name, self.url, self.asks)
    }
}

/// All that is open on these listeners.
pub fn open(main: SocketAddr, mcp: Option<SocketAddr>, metrics: Option<SocketAddr>) -> Vec<OpenSurface> {
    let key = "key or token";
    let at = |path: &str| format!("http://{main}{path}");
    let mut surfaces = vec![
        OpenSurface {
            name: "mcp",
            url: at("/mcp"),
            asks: key,
        },
        OpenSurface {
            name: "mcp-sse",
            url: at("/mcp/sse"),
            asks: key,
        },
        OpenSurface {
            name: "mcp-websocket",
            url: format!("ws://{main}/mcp/ws"),
            asks: key,
        },
        OpenSurface {
            name: "json-rpc",
            url: at("/api/v1/mcp"),
            asks: key,
        },
        OpenSurface {
            name: "openai",
            url: at("/v1"),
            asks: key,
        },
        OpenSurface {
            name: "api",
            url: at("/api/v1"),
            asks: key,
        },
        OpenSurface {
            name: "health",
            url: at("/health"),
            asks: "nothing",
        },
    ];
    if let Some(address) = mcp {
        surfaces.push(OpenSurface {
            name: "mcp-port",
            url: format!("http://{address}/mcp"),
            asks: key,
        });
    }
    if let Some(address) = metrics {
        surfaces.push(OpenSurface {
            name: "metrics",
            url: format!("http://{address}/metrics"),
            asks: "nothing",
        });
    }
    surfaces
}

/// The start-up line.
pub fn line(surfaces: &[OpenSurface]) -> String {
    if surfaces.is_empty() {
        return "open surfaces: none".to_owned();
    }
    let list = surfaces.iter().map(ToString::to_string).collect::<Vec<_>>();
    format!("open surfaces: {}", list.join(", "))
}
