//! `calculator`: arithmetic with units, exact where it can be.
//!
//! It has no memory, no clock and no dice, and every expression has a bound: on its length, on its nesting, and on the
//! work it makes. What defines functions or variables is refused, because that is how a short text becomes endless.

use super::definition::{Answer, Definition, Job, World};
use fend_core::{Context, Interrupt};
use forebay_domain::{Code, Failure};
use forebay_runtime::Clock;
use serde_json::{Map, Value, json};
use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

const EXPRESSION_BYTES_MAX: usize = 500;
const NESTING_MAX: usize = 40;
const RESULT_BYTES_MAX: usize = 10_000;
/// Checks of the engine that are worth doing on the spot; anything longer moves off the event loop.
const QUICK_CHECKS_MAX: u32 = 4_000;
const SLOW_CHECKS_MAX: u32 = 100_000_000;
const SLOW_TIME_MAX: Duration = Duration::from_millis(500);

pub(crate) struct Calculator {
    clock: Clock,
}

impl Calculator {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { clock }
    }

    pub(crate) fn definition() -> Definition {
        Definition {
            name: "calculator",
            title: "Calculator",
            description: "Evaluates an arithmetic expression exactly: + - * / ^ %, parentheses, functions such as sqrt, \
                          sin and log, constants such as pi, and units (`5 km to miles`). Use it for any calculation \
                          instead of working it out yourself."
                .to_owned(),
            input: json!({
                "type": "object",
                "properties": {
                    "expression": {
                        "type": "string",
                        "description": "The expression, for example `2 + 2` or `sqrt(2) * 10 cm to inches`.",
                        "minLength": 1,
                        "maxLength": EXPRESSION_BYTES_MAX
                    }
                },
                "required": ["expression"],
                "additionalProperties": false
            }),
            output: json!({
                "type": "object",
                "properties": {
                    "expression": {"type": "string", "description": "What was evaluated."},
                    "result": {"type": "string", "description": "Its value; `approx.` in front where it is rounded."}
                },
                "required": ["expression", "result"],
                "additionalProperties": false
            }),
            world: World::Closed,
        }
    }

    pub(crate) async fn run(&self, job: Job<'_>) -> Result<Answer, Failure> {
        let expression = job.arguments["expression"].as_str().unwrap_or_default().to_owned();
        check(&expression)?;
        let result = match evaluate(&expression, &Budget::checks(QUICK_CHECKS_MAX)) {
            Err(Fault::OverBudget) => self.slowly(expression.clone()).await?,
            Err(fault) => return Err(fault.into()),
            Ok(result) => result,
        };
        let mut structured = Map::new();
        structured.insert("expression".to_owned(), Value::String(expression));
        structured.insert("result".to_owned(), Value::String(result.clone()));
        Ok(Answer {
            text: Some(result),
            structured,
        })
    }

    /// Evaluates once more, off the event loop and with more time.
    async fn slowly(&self, expression: String) -> Result<String, Failure> {
        let budget = Budget::time(SLOW_TIME_MAX, &self.clock);
        tokio::task::spawn_blocking(move || evaluate(&expression, &budget))
            .await
            .map_err(|fault| Failure::new(Code::InternalError, "The calculator broke down.").caused_by(fault))?
            .map_err(Failure::from)
    }
}

enum Fault {
    OverBudget,
    Expression(String),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::OverBudget => refused("The expression takes too long to evaluate."),
            Fault::Expression(message) => {
                Failure::new(Code::InvalidArguments, format!("The expression cannot be evaluated: {message}."))
            }
        }
    }
}

fn refused(message: &str) -> Failure {
    Failure::new(Code::ToolRefused, message).hint("Ask for something smaller, or in several steps.")
}

/// Refuses what has no bound before the engine sees it.
fn check(expression: &str) -> Result<(), Failure> {
    if expression.len() > EXPRESSION_BYTES_MAX {
        return Err(refused(&format!("The expression is longer than {EXPRESSION_BYTES_MAX} bytes.")));
    }
    let strange = expression
        .chars()
        .find(|c| !(c.is_alphanumeric() || " +-*/^%().,!°µ²³√π×÷−".contains(*c)));
    if let Some(strange) = strange {
        return Err(refused(&format!(
            "The expression holds {strange:?}; it may hold numbers, operators, functions and units only."
        )));
    }
    let mut depth = 0_usize;
    for c in expression.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            return Err(refused(&format!("The expression nests deeper than {NESTING_MAX} parentheses.")));
        }
    }
    Ok(())
}

fn evaluate(expression: &str, budget: &Budget) -> Result<String, Fault> {
    let mut context = Context::new();
    let outcome = fend_core::evaluate_with_interrupt(expression, &mut context, budget);
    if budget.is_spent() {
        return Err(Fault::OverBudget);
    }
    match outcome {
        Ok(result) if result.get_main_result().len() > RESULT_BYTES_MAX => Err(Fault::OverBudget),
        Ok(result) => Ok(result.get_main_result().to_owned()),
        Err(message) => Err(Fault::Expression(message)),
    }
}

/// How much work an evaluation may make. The engine asks often; each time counts.
struct Budget {
    checks_left: AtomicU32,
    until: Option<(Clock, Duration)>,
}

impl Budget {
    fn checks(checks: u32) -> Self {
        Self {
            checks_left: AtomicU32::new(checks),
            until: None,
        }
    }

    fn time(time: Duration, clock: &Clock) -> Self {
        Self {
            checks_left: AtomicU32::new(SLOW_CHECKS_MAX),
            until: Some((clock.clone(), clock.monotonic() + time)),
        }
    }

    fn is_spent(&self) -> bool {
        self.checks_left.load(Ordering::Relaxed) == 0
    }
}

impl Interrupt for Budget {
    fn should_interrupt(&self) -> bool {
        let late = self.until.as_ref().is_some_and(|(clock, until)| clock.monotonic() >= *until);
        if late {
            self.checks_left.store(0, Ordering::Relaxed);
        }
        let spend = |left: u32| left.checked_sub(1);
        self.checks_left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend)
            .is_err()
    }
}
