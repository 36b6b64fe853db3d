//! Machines over REST: what is for rent, quotes, and the machines that somebody has.

mod home;
mod instances;
mod offers;

pub(crate) use home::{__path_binary, __path_report, binary, report};
pub(crate) use instances::{
    __path_create, __path_destroy, __path_extend, __path_list, __path_logs, __path_show, create, destroy, extend, list,
    logs, show,
};
pub(crate) use offers::{__path_offers, __path_quote, offers, quote};
