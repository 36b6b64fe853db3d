//! `file_reader`: reads a part of a file below the allowed folders.

use super::{
    definition::{Answer, Definition, Job, World},
    typed,
};
use crate::files::{Content, Files, Range, Slice};
use forebay_domain::Failure;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

pub(crate) struct FileReader {
    files: Arc<Files>,
}

#[derive(Deserialize)]
struct Arguments {
    path: String,
    #[serde(default)]
    offset: u64,
    length: Option<u64>,
}

impl FileReader {
    pub(crate) fn new(files: Arc<Files>) -> Self {
        Self { files }
    }

    pub(crate) fn definition(&self) -> Definition {
        let bytes_max = self.files.bytes_max();
        Definition {
            name: "file_reader",
            title: "File reader",
            description: format!(
                "Reads a file below the folders that the operator has allowed, up to {bytes_max} bytes at a time. Text \
                 comes as text, anything else as Base64. Read on with `offset` where `truncated` is true."
            ),
            input: json!({
                "type": "object",
                "properties": {
                    "path": {
                        "type": "string",
                        "description": "The file: a path relative to an allowed folder, or an absolute path inside one.",
                        "minLength": 1,
                        "maxLength": 4096
                    },
                    "offset": {"type": "integer", "description": "Bytes to skip at the start (default 0).", "minimum": 0},
                    "length": {
                        "type": "integer",
                        "description": format!("Bytes to read at most (default and maximum {bytes_max})."),
                        "minimum": 1
                    }
                },
                "required": ["path"],
                "additionalProperties": false
            }),
            output: json!({
                "type": "object",
                "properties": {
                    "path": {"type": "string"},
                    "size": {"type": "integer", "description": "Bytes in the whole file."},
                    "offset": {"type": "integer", "description": "Where this part begins."},
                    "length": {"type": "integer", "description": "Bytes in this part."},
                    "truncated": {"type": "boolean", "description": "Whether the file goes on after this part."},
                    "encoding": {"type": "string", "enum": ["utf-8", "base64"]},
                    "content": {"type": "string"}
                },
                "required": ["path", "size", "offset", "length", "truncated", "encoding", "content"],
                "additionalProperties": false
            }),
            world: World::Closed,
        }
    }

    pub(crate) async fn run(&self, job: Job<'_>) -> Result<Answer, Failure> {
        let wanted: Arguments = typed(job.arguments)?;
        let range = Range {
            offset: wanted.offset,
            length: wanted.length,
        };
        let slice = self.files.read(wanted.path.clone(), range).await?;
        Ok(Answer {
            text: None,
            structured: structured(wanted.path, slice),
        })
    }
}

fn structured(path: String, slice: Slice) -> Map<String, Value> {
    let (encoding, content) = match slice.content {
        Content::Text(text) => ("utf-8", text),
        Content::Base64(blob) => ("base64", blob),
    };
    let members = [
        ("path", Value::String(path)),
        ("size", slice.size.into()),
        ("offset", slice.offset.into()),
        ("length", slice.length.into()),
        ("truncated", (slice.offset + slice.length < slice.size).into()),
        ("encoding", encoding.into()),
        ("content", Value::String(content)),
    ];
    members
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect()
}
