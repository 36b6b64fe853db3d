//! What goes wrong between a client and a provider, and when.

use super::Answer;
use std::str::FromStr;

/// What happens to a request instead of its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// None: it is answered as ever.
    Pass,
    /// The connection ends; nothing is done.
    DropBefore,
    /// It is done, and the connection ends without an answer.
    DropAfter,
    /// This is the answer; nothing is done.
    Instead(Answer),
    /// It is done, and this is the answer.
    Afterwards(Answer),
    /// It is done; the answer has its status and no body.
    Empty,
    /// It is done; the answer has its status, and a page of a proxy as its body.
    Garbage,
    /// It is done; the connection ends in the middle of the answer.
    Truncated,
    /// It is done; the answer never ends.
    Endless,
    /// It waits at the gate before anything is done.
    Held,
    /// It is done, and the answer waits at the gate.
    HeldAfter,
    /// One that only this vendor knows.
    Special(&'static str),
}

/// A fault that can be asked for by its name.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    pub name: &'static str,
    /// One line, for people.
    pub what: &'static str,
    pub make: fn() -> Fault,
}

impl Named {
    pub const fn new(name: &'static str, what: &'static str, make: fn() -> Fault) -> Self {
        Self { name, what, make }
    }
}

/// What every provider can do wrong.
pub const COMMON: &[Named] = &[
    Named::new(
        "pass",
        "answers as ever, so that a later fault meets a later request",
        || Fault::Pass,
    ),
    Named::new("drop-before", "hangs up and does nothing", || Fault::DropBefore),
    Named::new("drop-after", "does it and hangs up without an answer", || {
        Fault::DropAfter
    }),
    Named::new("held", "waits for POST /_fake/open before doing anything", || {
        Fault::Held
    }),
    Named::new(
        "held-after",
        "does it, and waits for POST /_fake/open before answering",
        || Fault::HeldAfter,
    ),
    Named::new("empty", "does it and answers without a body", || Fault::Empty),
    Named::new(
        "garbage",
        "does it and answers with a proxy's page under the right status",
        || Fault::Garbage,
    ),
    Named::new("truncated", "does it and cuts the answer in the middle", || {
        Fault::Truncated
    }),
    Named::new("endless", "does it and answers without end", || Fault::Endless),
    Named::new("empty-500", "answers 500 without a body, does nothing", || {
        Fault::Instead(Answer::empty(500))
    }),
    Named::new("html-502", "answers a proxy's page, does nothing", || {
        Fault::Instead(Answer::html(502))
    }),
    Named::new("empty-503", "answers 503 without a body, does nothing", || {
        Fault::Instead(Answer::empty(503))
    }),
    Named::new("html-404", "answers a proxy's page, does nothing", || {
        Fault::Instead(Answer::html(404))
    }),
    Named::new("done-500", "does it and answers 500", || {
        Fault::Afterwards(Answer::empty(500))
    }),
    Named::new("done-504", "does it and answers a proxy's 504", || {
        Fault::Afterwards(Answer::html(504))
    }),
];

/// The fault of this name, of all providers or of this one.
pub fn by_name(name: &str, own: &[Named]) -> Option<Fault> {
    let named = COMMON.iter().chain(own).find(|known| known.name == name)?;
    Some((named.make)())
}

/// A fault as it is written on a command line: `ROUTE=FAULT`, `ROUTE=FAULT:3`, `ROUTE=FAULT:*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    pub route: String,
    pub fault: String,
    /// All from now on where there is no number.
    pub times: Option<u32>,
}

impl FromStr for Spec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?} is not of the form ROUTE=FAULT, ROUTE=FAULT:3 or ROUTE=FAULT:*");
        let (route, rest) = text.split_once('=').ok_or_else(form)?;
        let (fault, times) = rest.split_once(':').unwrap_or((rest, "1"));
        let times = match times {
            "*" => None,
            number => Some(number.parse().map_err(|_| form())?),
        };
        Ok(Self {
            route: route.to_owned(),
            fault: fault.to_owned(),
            times,
        })
    }
}

/// Which requests are to meet which faults.
#[derive(Debug, Default)]
pub(super) struct Script(Vec<Planned>);

#[derive(Debug)]
struct Planned {
    route: String,
    fault: Fault,
    left: Option<u32>,
}

impl Script {
    pub(super) fn push(&mut self, route: &str, fault: Fault, times: Option<u32>) {
        self.0.push(Planned {
            route: route.to_owned(),
            fault,
            left: times,
        });
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// What the next request of this route meets.
    pub(super) fn next(&mut self, route: &str) -> Fault {
        self.0.retain(|planned| planned.left != Some(0));
        let next = self
            .0
            .iter_mut()
            .find(|planned| planned.route == route || planned.route == "*");
        next.map_or(Fault::Pass, |planned| {
            planned.left = planned.left.map(|left| left - 1);
            planned.fault.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_come_in_their_order_and_number() {
        let mut script = Script::default();
        script.push("list", Fault::Pass, Some(1));
        script.push("list", Fault::DropAfter, Some(2));
        script.push("*", Fault::Empty, None);
        assert_eq!(script.next("create"), Fault::Empty);
        let list = [(); 4].map(|()| script.next("list"));
        assert_eq!(list, [Fault::Pass, Fault::DropAfter, Fault::DropAfter, Fault::Empty]);
    }

    #[test]
    fn a_fault_is_read_as_it_is_written() {
        let spec = |text: &str| text.parse::<Spec>().map(|spec| (spec.route, spec.fault, spec.times));
        let is = |route: &str, fault: &str, times| Ok((route.to_owned(), fault.to_owned(), times));
        assert_eq!(spec("create=drop-after"), is("create", "drop-after", Some(1)));
        assert_eq!(spec("list=empty:12"), is("list", "empty", Some(12)));
        assert_eq!(spec("*=empty-503:*"), is("*", "empty-503", None));
        assert!(spec("create").is_err() && spec("create=x:y").is_err());
        for named in COMMON {
            assert!(by_name(named.name, &[]).is_some());
        }
    }
}
