//! How much a wish to rent may have. Whoever describes wishes to others says the same.

/// Longest name of an image.
pub const IMAGE_BYTES_MAX: usize = 1_024;
pub const DISK_GB_MAX: u32 = 16_384;
pub const IDLE_MINUTES_MAX: u32 = 525_600;
pub const PORTS_MAX: usize = 16;
pub const VARIABLES_MAX: usize = 64;
pub const VARIABLE_NAME_BYTES_MAX: usize = 256;
pub const VARIABLE_BYTES_MAX: usize = 4_096;
/// Longest name that somebody gives to a wish.
pub const KEY_BYTES_MAX: usize = 255;
