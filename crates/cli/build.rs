//! Makes a table of the pages in `docs/errors/`, so that `forebay explain CODE` needs no network.

use std::{
    error::Error,
    ffi::OsStr,
    fmt::Write,
    fs, io,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn Error>> {
    let pages = Path::new(&of_cargo("CARGO_MANIFEST_DIR")?)
        .join("../../docs/errors")
        .canonicalize()?;
    println!("cargo:rerun-if-changed={}", pages.display());
    let mut files: Vec<PathBuf> = fs::read_dir(&pages)?
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<_>>()?;
    files.sort();
    let mut table = String::from("&[\n");
    for file in files {
        let name = file.file_stem().and_then(OsStr::to_str).unwrap_or_default();
        let is_page = file.extension() == Some(OsStr::new("md")) && name != "README";
        if is_page {
            writeln!(table, "    ({name:?}, include_str!({:?})),", file.to_string_lossy())?;
        }
    }
    table.push_str("]\n");
    let out = of_cargo("OUT_DIR")?;
    fs::write(Path::new(&out).join("error_pages.rs"), table)?;
    Ok(())
}

/// Asked when it runs: what was compiled in would name the checkout that it was compiled in, which may be gone where
/// several share their build output.
#[expect(
    clippy::disallowed_methods,
    reason = "cargo names the folders for a build script only in this way"
)]
fn of_cargo(name: &str) -> Result<String, std::env::VarError> {
    std::env::var(name)
}
