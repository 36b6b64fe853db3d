//! `calculator`: arithmetic with units, exact where it can be.
//!
//! It has no memory, no clock and no dice, and every expression has a bound: on its length, on its time, and on how many
//! of them work hard at once. What defines functions or variables is refused, because that is how a short text becomes endless.

use super::definition::{Answer, Definition, Job, World};
use fend_core::{Context, Interrupt};
use forebay_domain::{Code, Failure};
use forebay_runtime::Clock;
use serde_json::{Map, Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Semaphore, oneshot};

const EXPRESSION_BYTES_MAX: usize = 500;
const RESULT_BYTES_MAX: usize = 10_000;
/// What is no longer than this, and done in this time, is worth doing on the spot.
const QUICK_TOKENS_MAX: usize = 16;
const QUICK_TIME_MAX: Duration = Duration::from_millis(2);
const SLOW_TIME_MAX: Duration = Duration::from_millis(500);
/// The engine recurses with every token; the longest expression needs a quarter of this.
const SLOW_STACK_BYTES: usize = 64 << 20;
/// Slow evaluations at once. The engine overruns its time where one single step is huge, so others wait their turn.
const SLOW_AT_ONCE: usize = 2;

pub(crate) struct Calculator {
    clock: Clock,
    slow: Arc<Semaphore>,
}

impl Calculator {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            slow: Arc::new(Semaphore::new(SLOW_AT_ONCE)),
        }
    }

    pub(crate) fn definition() -> Definition {
        Definition {
            name: "calculator",
            title: "Calculator",
            description:
                "Evaluates an arithmetic expression exactly: + - * / ^ %, parentheses, functions such as sqrt, \
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
        let quick = if tokens(&expression) <= QUICK_TOKENS_MAX {
            evaluate(&expression, &Budget::new(QUICK_TIME_MAX, &self.clock))
        } else {
            Err(Fault::OverBudget)
        };
        let result = match quick {
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

    /// Evaluates off the event loop, with more time and more stack. The thread ends with its budget.
    async fn slowly(&self, expression: String) -> Result<String, Failure> {
        let broken = || Failure::new(Code::InternalError, "The calculator broke down.");
        let turn = self
            .slow
            .clone()
            .acquire_owned()
            .await
            .map_err(|fault| broken().caused_by(fault))?;
        let clock = self.clock.clone();
        let (sender, receiver) = oneshot::channel();
        std::thread::Builder::new()
            .name("calculator".to_owned())
            .stack_size(SLOW_STACK_BYTES)
            .spawn(move || {
                let result = evaluate(&expression, &Budget::new(SLOW_TIME_MAX, &clock));
                drop(turn);
                // Whoever asked may be gone.
                let _unheard = sender.send(result);
            })
            .map_err(|fault| broken().caused_by(fault))?;
        let result = receiver.await.map_err(|fault| broken().caused_by(fault))?;
        result.map_err(Failure::from)
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
            Fault::Expression(message) => Failure::new(
                Code::InvalidArguments,
                format!("The expression cannot be evaluated: {message}."),
            ),
        }
    }
}

fn refused(message: &str) -> Failure {
    Failure::new(Code::ToolRefused, message).hint("Ask for something smaller, or in several steps.")
}

/// Refuses what has no bound before the engine sees it.
fn check(expression: &str) -> Result<(), Failure> {
    if expression.len() > EXPRESSION_BYTES_MAX {
        return Err(refused(&format!(
            "The expression is longer than {EXPRESSION_BYTES_MAX} bytes."
        )));
    }
    let strange = expression
        .chars()
        .find(|c| !(c.is_alphanumeric() || " +-*/^%().,!°µ²³√π×÷−".contains(*c)));
    if let Some(strange) = strange {
        return Err(refused(&format!(
            "The expression holds {strange:?}; it may hold numbers, operators, functions and units only."
        )));
    }
    if rolls_dice(expression) {
        return Err(refused(
            "The expression rolls dice; only what has one value can be calculated.",
        ));
    }
    Ok(())
}

/// Dice (`4d6`) are distributions to the engine, and it does not ask for its budget while it works them out.
fn rolls_dice(expression: &str) -> bool {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|word| !word.starts_with("0x")).any(|word| {
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit());
        rest.strip_prefix('d')
            .is_some_and(|faces| faces.starts_with(|c: char| c.is_ascii_digit()))
    })
}

/// How many tokens there are at most: runs of letters, runs of digits, and every other character by itself.
fn tokens(expression: &str) -> usize {
    let mut count = 0;
    let mut last = Run::Nothing;
    for c in expression.chars() {
        let run = match c {
            ' ' => Run::Nothing,
            '0'..='9' | '.' => Run::Digits,
            'a'..='z' | 'A'..='Z' => Run::Letters,
            _ => Run::Single,
        };
        let begins = run != last || run == Run::Single;
        count += usize::from(begins && run != Run::Nothing);
        last = run;
    }
    count
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Run {
    Nothing,
    Digits,
    Letters,
    Single,
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

/// How long an evaluation may take. The engine asks often whether it should stop.
struct Budget {
    clock: Clock,
    until: Duration,
    spent: AtomicBool,
}

impl Budget {
    fn new(time: Duration, clock: &Clock) -> Self {
        Self {
            clock: clock.clone(),
            until: clock.monotonic() + time,
            spent: AtomicBool::new(false),
        }
    }

    fn is_spent(&self) -> bool {
        self.spent.load(Ordering::Relaxed)
    }
}

impl Interrupt for Budget {
    fn should_interrupt(&self) -> bool {
        let spent = self.clock.monotonic() >= self.until;
        if spent {
            self.spent.store(true, Ordering::Relaxed);
        }
        spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use forebay_domain::{
        Principal, Role,
        event::Surface,
        id::{SubjectId, TenantId, TraceId},
        port::Via,
    };

    async fn calculate(expression: &str) -> Result<String, Failure> {
        let principal = Principal {
            tenant: TenantId::try_from("t").unwrap(),
            project: None,
            subject: SubjectId::try_from("s").unwrap(),
            key: None,
            session: None,
            role: Role::User,
            grants: Vec::new(),
            shown: Vec::new(),
            good_until: None,
        };
        let job = Job {
            principal: &principal,
            arguments: json!({"expression": expression}),
            via: Via {
                surface: Surface::Mcp,
                trace: TraceId::from_bytes([1; 16]).unwrap(),
                in_task: false,
            },
            client: crate::call::Client::nobody(),
        };
        let answer = Calculator::new(Clock::system()).run(job).await?;
        assert_eq!(answer.structured["expression"], expression);
        Ok(answer.text.unwrap())
    }

    #[tokio::test]
    async fn it_calculates() {
        for (expression, expected) in [
            ("2+2", "4"),
            ("2^100", "1267650600228229401496703205376"),
            ("1/4", "0.25"),
            ("sqrt(16)", "4"),
            ("5 km to m", "5000 m"),
            ("0xd6 to decimal", "214"),
            (&format!("1{}", "+1".repeat(240)), "241"),
        ] {
            assert_eq!(calculate(expression).await.unwrap(), expected, "{expression}");
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_said() {
        for (expression, code) in [
            ("2+", Code::InvalidArguments),
            ("foo bar", Code::InvalidArguments),
            ("roll d6", Code::ToolRefused),
            ("100d100", Code::ToolRefused),
            ("f = 2", Code::ToolRefused),
            ("(x: x x) (x: x x)", Code::ToolRefused),
            ("\\x.x", Code::ToolRefused),
            ("9^9^9^9", Code::ToolRefused),
            ("1000000!", Code::ToolRefused),
            (&"1".repeat(501), Code::ToolRefused),
        ] {
            assert_eq!(calculate(expression).await.unwrap_err().code, code, "{expression}");
        }
    }

    /// Each of these overflows an ordinary stack; none may bring the process down.
    #[tokio::test]
    async fn nothing_overflows_the_stack() {
        let pair = |open: &str, n| format!("{}1{}", open.repeat(n), ")".repeat(n));
        for expression in [
            pair("(", 249),
            pair("(-", 166),
            pair("sqrt(", 82),
            pair("√(", 120),
            format!("{}1", "-".repeat(499)),
            format!("{}1", "2^".repeat(249)),
            format!("{}1", "2^-".repeat(166)),
            format!("{}1", "1/".repeat(249)),
            format!("{}1", "/".repeat(499)),
            format!("5{}", "!".repeat(499)),
            format!("1{}", "%".repeat(499)),
            "π".repeat(250),
            format!("{}m", "1 to ".repeat(99)),
            format!("{}1", "sin cos ".repeat(62)),
            format!("{}1", "not ".repeat(120)),
            format!("{}1", "per ".repeat(120)),
            "m ".repeat(249),
        ] {
            let outcome = calculate(&expression).await.map_err(|failure| failure.code);
            assert!(
                matches!(outcome, Ok(_) | Err(Code::InvalidArguments | Code::ToolRefused)),
                "{expression}: {outcome:?}"
            );
        }
    }
}
