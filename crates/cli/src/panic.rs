//! A panic is a bug of ours. It is told in a sentence, never as a dump, and ends with exit code 70.

use crate::{exit::exit_code, report};
use forebay_domain::ErrorKind;
use std::{
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    path::Path,
    process::ExitCode,
};

/// Runs what must not panic.
pub(crate) fn caught(work: impl FnOnce() -> ExitCode) -> ExitCode {
    panic::set_hook(Box::new(|info| report::say(&words(info))));
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| exit_code(ErrorKind::Bug))
}

/// The place helps whoever mends it. The panic's own words may hold somebody's data, and are not shown.
fn words(info: &PanicHookInfo<'_>) -> String {
    let place = info.location().map_or_else(String::new, |place| {
        let file = Path::new(place.file()).file_name().unwrap_or_default();
        format!(" ({}, line {})", file.display(), place.line())
    });
    format!(
        "error: a bug in Forebay {}{place}\n  help: please report it, with what you did",
        forebay_server::VERSION
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_exit_code_70() {
        let code = caught(|| panic!("on purpose"));
        assert_eq!(format!("{code:?}"), format!("{:?}", ExitCode::from(70)));
    }
}
