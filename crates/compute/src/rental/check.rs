//! What no provider is to be sent, whoever asks for it.

use super::{
    bootstrap::OUR_VARIABLES,
    bounds::{
        DISK_GB_MAX, IMAGE_BYTES_MAX, KEY_BYTES_MAX, PORTS_MAX, VARIABLE_BYTES_MAX, VARIABLE_NAME_BYTES_MAX,
        VARIABLES_MAX,
    },
    types::{CreateRequest, Done},
};
use forebay_domain::{Code, Failure};
use std::collections::BTreeMap;

/// Refuses what no provider is to be sent.
pub(super) fn request(request: &CreateRequest) -> Done<()> {
    let wrong = |message: String| Err(Failure::new(Code::InvalidArguments, message));
    if request.ports.len() > PORTS_MAX || request.ports.contains(&0) {
        return wrong(format!(
            "`ports` has at most {PORTS_MAX} ports, each between 1 and 65535"
        ));
    }
    if request.env.len() > VARIABLES_MAX {
        return wrong(format!("`env` has at most {VARIABLES_MAX} variables"));
    }
    key(request.idempotency_key.as_deref())?;
    variables(&request.env)?;
    wish(request.image.as_deref(), request.disk_gb.unwrap_or(1))
}

/// A name that somebody gives to a wish.
pub(super) fn key(key: Option<&str>) -> Done<()> {
    let is_key = |key: &str| !key.is_empty() && key.len() <= KEY_BYTES_MAX && !key.chars().any(char::is_control);
    if key.is_none_or(is_key) {
        return Ok(());
    }
    let message = format!("an idempotency key has 1 to {KEY_BYTES_MAX} printable characters");
    Err(Failure::new(Code::InvalidArguments, message))
}

fn variables(env: &BTreeMap<String, String>) -> Done<()> {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    for (name, value) in env {
        let shown: String = name.chars().take(80).collect();
        if !is_name(name) || name.len() > VARIABLE_NAME_BYTES_MAX || name.starts_with(OUR_VARIABLES) {
            let message =
                format!("`env` cannot set {shown:?}: names are letters, digits and `_`, and FOREBAY_… is ours");
            return Err(Failure::new(Code::InvalidArguments, message));
        }
        if value.len() > VARIABLE_BYTES_MAX || value.contains('\0') {
            let message = format!("the value of {shown} has at most {VARIABLE_BYTES_MAX} bytes, and no NUL");
            return Err(Failure::new(Code::InvalidArguments, message));
        }
    }
    Ok(())
}

pub(super) fn wish(image: Option<&str>, disk_gb: u32) -> Done<()> {
    let is_image = |image: &str| {
        !image.is_empty() && image.len() <= IMAGE_BYTES_MAX && image.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if !image.is_none_or(is_image) {
        let message =
            format!("`image` is the name of an image: 1 to {IMAGE_BYTES_MAX} characters, none of them a space");
        return Err(Failure::new(Code::InvalidArguments, message));
    }
    if !(1..=DISK_GB_MAX).contains(&disk_gb) {
        let message = format!("`disk_gb` is between 1 and {DISK_GB_MAX}");
        return Err(Failure::new(Code::InvalidArguments, message));
    }
    Ok(())
}
