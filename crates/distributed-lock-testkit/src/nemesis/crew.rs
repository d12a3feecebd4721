//! The workers: started, told, killed, stopped. Signals go to nobody else.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command as Program, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};

use super::record::Record;
use crate::history::{Event, What, now};
use crate::worker::{Command, SAYS};

/// How soon a worker has ended its random load once told to.
const RESTS_WITHIN: Duration = Duration::from_secs(10);

/// Processes that use the same locks. All are killed when it is dropped.
#[derive(Debug)]
pub struct Crew {
    record: Arc<Record>,
    /// How to start the worker program.
    program: fn() -> Program,
    url: String,
    resources: PathBuf,
    workers: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    /// Whose successor gets another name: a history knows nobody twice.
    who: String,
    lives: u32,
    child: Child,
    input: Option<ChildStdin>,
    listener: Option<JoinHandle<()>>,
}

impl Crew {
    /// Starts workers that connect to `url` and write to resources in a directory.
    ///
    /// # Panics
    /// If one cannot be started.
    pub fn start(
        program: fn() -> Program,
        url: impl Into<String>,
        resources: impl Into<PathBuf>,
        count: usize,
    ) -> Self {
        let (record, url, resources) = (Arc::default(), url.into(), resources.into());
        let mut crew = Self { record, program, url, resources, workers: Vec::new() };
        crew.workers = (0..count).map(|number| crew.hire(number, 1)).collect();
        crew
    }

    /// What everybody has logged.
    #[must_use]
    pub fn record(&self) -> &Arc<Record> {
        &self.record
    }

    /// How many workers there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.workers.len()
    }

    /// What a worker is called in the history, in its present life.
    #[must_use]
    pub fn who(&self, number: usize) -> &str {
        &self.workers[number].who
    }

    /// Which worker is called so now.
    #[must_use]
    pub fn number_of(&self, who: &str) -> Option<usize> {
        self.workers.iter().position(|worker| worker.who == who)
    }

    /// Tells a worker what to do.
    ///
    /// # Panics
    /// If it does not listen: it has died, and nobody killed it.
    pub fn tell(&mut self, number: usize, command: &Command) {
        self.workers[number].tell(command);
    }

    /// Kills a worker with whatever it holds and starts another in its place; the time just before.
    pub fn kill(&mut self, number: usize) -> Duration {
        let lives = self.workers[number].lives + 1;
        let died = self.record.log(self.who(number), "", What::Died);
        self.workers[number].end();
        self.workers[number] = self.hire(number, lives);
        died
    }

    /// Stops a worker where it is, and waits until it stands; the time just before.
    pub fn stop(&self, number: usize) -> Duration {
        let log = || {
            let what = What::Fault { kind: "stopped".into() };
            self.record.log(self.who(number), "", what)
        };
        let at = log();
        self.workers[number].signal(Signal::STOP);
        self.workers[number].has_stopped();
        // Once more: what it began in between is held up, too.
        log();
        at
    }

    /// Lets a stopped worker go on; the time just before.
    pub fn resume(&self, number: usize) -> Duration {
        let at = now();
        self.workers[number].signal(Signal::CONT);
        at
    }

    /// Ends the random load of all workers.
    ///
    /// # Panics
    /// If one does not end in time.
    pub fn rest(&mut self) {
        for number in 0..self.size() {
            self.tell(number, &Command::Rest);
        }
        for number in 0..self.size() {
            let who = self.who(number);
            let rests = self.record.wait_rest(who, RESTS_WITHIN);
            assert!(rests.is_some(), "{who} does not come to rest");
        }
    }

    fn hire(&self, number: usize, lives: u32) -> Worker {
        let who = format!("w{number}.{lives}");
        let mut child = (self.program)()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the worker program starts");
        let output = child.stdout.take().expect("its output is piped");
        let (record, name) = (Arc::clone(&self.record), who.clone());
        let listener = std::thread::spawn(move || listen(output, &record, &name));
        let input = child.stdin.take();
        let mut worker = Worker { who: who.clone(), lives, child, input, listener: Some(listener) };
        let (url, resources) = (self.url.clone(), self.resources.clone());
        worker.tell(&Command::Connect { who, resources, url });
        worker
    }
}

/// Passes on what a worker says until its output ends.
fn listen(output: ChildStdout, record: &Record, who: &str) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        // A test harness says other things on the same output.
        let Some((_, said)) = line.split_once(SAYS) else { continue };
        if said == "resting" {
            record.rests(who);
            continue;
        }
        match Event::parse(said) {
            Ok(event) => record.add(event),
            Err(error) => panic!("{who}: {error}"),
        }
    }
}

impl Worker {
    fn tell(&mut self, command: &Command) {
        let input = self.input.as_mut().expect("it is open until the worker is ended");
        if let Err(error) = writeln!(input, "{command}") {
            panic!("{} has died by itself: {error}", self.who);
        }
    }

    /// Not for one that has been reaped: its number may be another's by now.
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is ours and not reaped");
    }

    /// A signal is sent before it has arrived: threads may go on for a little.
    fn has_stopped(&self) {
        let worker = WaitId::Pid(Pid::from_child(&self.child));
        waitid(worker, WaitIdOptions::STOPPED).expect("it is ours and not reaped");
    }

    /// Kills it, and waits for its last words.
    fn end(&mut self) {
        self.child.kill().expect("it is ours and not reaped");
        self.child.wait().expect("it is ours and not reaped");
        if let Some(listener) = self.listener.take() {
            listener.join().expect("what the worker said was understood");
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Already ended and reaped, if another took its place.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
