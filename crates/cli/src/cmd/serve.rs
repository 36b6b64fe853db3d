//! `forebay serve`: the gateway, in the foreground, until a signal.

use crate::{
    config::{FlagValue, Hangups, Watch},
    connect::Context,
    exit::exit_code,
    files::{UrlNote, make_data_dir},
    report,
};
use forebay_domain::{Code, ErrorKind, Failure};
use forebay_runtime::{
    Clock, Entropy, Tasks, child,
    lifecycle::{self, Ending, Signal},
    looping::{Nudge, drive},
    telemetry::{self, Telemetry},
};
use forebay_server::{ChildrenParts, Gateway, GatewayParts, Opens, first_start::FirstKey};
use futures_util::Stream;
use std::{
    io::{IsTerminal, stderr},
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};

const LOOK_AT_CONFIG_EVERY: Duration = Duration::from_secs(2);

/// Start a gateway
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  forebay serve
  forebay serve --config forebay.yaml --data /var/lib/forebay --listen 0.0.0.0:8080
  FOREBAY__LIMITS__REQUESTS_PER_MINUTE=600 forebay serve

SIGTERM or Ctrl-C finishes what is under way and exits 0; a second one ends at once. SIGHUP reads the configuration
again; so does a change of the file.")]
pub(crate) struct Args {
    /// Listen here instead of at `server.listen`; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    // From here on no signal ends the process in its default way.
    let signals = lifecycle::signals();
    let wanted = Wanted {
        opens: Opens::Listeners,
        flags: args.listen.iter().map(listen_flag).collect(),
    };
    let started = Box::pin(start(wanted, context)).await?;
    Ok(code(started.run(signals).await))
}

/// What is to be started, beside what the configuration says.
pub(super) struct Wanted {
    pub(super) opens: Opens,
    pub(super) flags: Vec<FlagValue>,
}

/// A gateway in this process, with what it leaves behind and takes away again.
pub(super) struct Started {
    pub(super) gateway: Gateway,
    telemetry: Arc<Telemetry>,
    note: Option<UrlNote>,
}

/// Starts the gateway of the configuration, which follows it from then on.
pub(super) async fn start(Wanted { opens, flags }: Wanted, context: &Context) -> Result<Started, Failure> {
    let mut sources = context.sources();
    sources.flags = flags;
    let loaded = sources.load()?;
    let secrets = context.env.secrets();
    let store_url = loaded.config.store.resolve(&context.data, &secrets)?;
    if opens == Opens::Work {
        shared(&store_url)?;
    }
    make_data_dir(&context.data)?;
    let telemetry = Arc::new(telemetry::init(&loaded.config.telemetry, &secrets)?);
    let gateway = Gateway::start(GatewayParts {
        config: loaded.config.app(),
        metrics: loaded.config.metrics.clone(),
        data: context.data.clone(),
        store_url,
        secrets,
        children: children(context)?,
        opens,
        clock: Clock::system(),
        entropy: Entropy::system(),
    })
    .await?;
    let hangups = Hangups::default();
    let nudge = on_hangup(gateway.tasks(), hangups.clone());
    let watch = Watch::new(sources, &loaded, gateway.app.clone(), telemetry.clone(), hangups);
    drive(gateway.tasks(), watch, LOOK_AT_CONFIG_EVERY, nudge);
    let file = loaded
        .file
        .as_ref()
        .map_or_else(|| "none".to_owned(), |file| file.display().to_string());
    let note = match opens {
        Opens::Listeners => tell_where(&gateway, &file, context),
        Opens::Nothing => {
            tracing::info!(config = file, "serving without a listener");
            None
        }
        Opens::Work => {
            let worker = gateway.app.work.worker();
            tracing::info!(config = file, worker.id = %worker, "working on tasks");
            None
        }
    };
    Ok(Started {
        gateway,
        telemetry,
        note,
    })
}

/// Says where it listens: to the log, to whoever sits there, and to later commands.
fn tell_where(gateway: &Gateway, file: &str, context: &Context) -> Option<UrlNote> {
    let url = gateway.url();
    let note = UrlNote::leave(&context.data, &url)
        .inspect_err(|error| tracing::warn!(%error, "commands have to be told where this gateway listens"));
    tracing::info!(config = file, "listening on {url}");
    tell_first_key(&gateway.first_key, &url);
    note.ok()
}

impl Started {
    /// Serves until a signal, or somebody else, asks to stop.
    pub(super) async fn run(self, signals: impl Stream<Item = Signal> + Unpin) -> Ending {
        let ending = self.gateway.run(signals).await;
        drop(self.note);
        if let Some(telemetry) = Arc::into_inner(self.telemetry) {
            telemetry.shut_down().await;
        }
        ending
    }
}

/// What programs beside the gateway are started with: this binary as their guard, and this process's environment, of
/// which they get a short list.
fn children(context: &Context) -> Result<ChildrenParts, Failure> {
    let guard = child::own_binary()
        .map_err(|error| Failure::new(Code::InternalError, "This binary cannot find itself.").caused_by(error))?;
    let env = context.env.clone();
    Ok(ChildrenParts {
        guard,
        environment: Box::new(move |name| env.get(name).map(str::to_owned)),
    })
}

/// Whoever works beside a gateway needs a database that several processes can share.
fn shared(store_url: &str) -> Result<(), Failure> {
    if !store_url.starts_with("sqlite:") {
        return Ok(());
    }
    let message = "A worker of its own needs PostgreSQL: a SQLite database belongs to one gateway.";
    Err(Failure::new(Code::InvalidConfig, message).hint(
        "Set `store.url` to the PostgreSQL database of your gateways. With SQLite the gateway works on its tasks itself \
         (`tasks.workers`).",
    ))
}

pub(super) fn listen_flag(address: &SocketAddr) -> FlagValue {
    FlagValue {
        flag: "--listen",
        path: &["server", "listen"],
        value: address.to_string().into(),
    }
}

/// Whoever asks once is answered with 0, within the patience that the configuration gives; the log says what was
/// dropped. Whoever asks twice interrupted the draining.
pub(super) fn code(ending: Ending) -> ExitCode {
    match ending {
        Ending::Drained | Ending::TimedOut => ExitCode::SUCCESS,
        Ending::SecondSignal => exit_code(ErrorKind::Unavailable),
    }
}

/// Counts SIGHUPs and wakes the loop that looks at the count.
fn on_hangup(tasks: &Tasks, hangups: Hangups) -> Nudge {
    let nudge = Nudge::new();
    let waker = nudge.clone();
    let mut signals = signal(SignalKind::hangup()).expect("SIGHUP may be handled, and tokio drives signals");
    tasks.spawn("hangup", |stop| async move {
        loop {
            tokio::select! {
                Some(()) = signals.recv() => {
                    hangups.add();
                    waker.nudge();
                }
                () = stop.draining() => return,
            }
        }
    });
    nudge
}

/// Shows the administrator's key, once. Where nobody sits at a terminal the log would keep it, so there it is only said
/// where it stands.
fn tell_first_key(first: &FirstKey, url: &str) {
    let FirstKey::Made { key, file } = first else { return };
    if !stderr().is_terminal() {
        tracing::info!(file = %file.display(), "first start: the administrator's key was made and stands there");
        return;
    }
    let (key, file) = (key.reveal(), file.display());
    report::say(&format!(
        "\nFirst start. The administrator's key, shown this once (it stands in {file}):\n\n  {key}\n\n\
         Gateway  {url}\n\
         Connect  claude mcp add --transport http forebay {url}/mcp --header \"Authorization: Bearer {key}\"\n"
    ));
}
