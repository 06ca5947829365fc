//! Tells a story on the terminal: what happens next, the very command that a user would type, what it printed,
//! and how long it took.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::cluster::Client;
use crate::command::{self, CommandError};

/// The teller, and the folder and the client that its commands run with.
#[derive(Debug)]
pub struct Narrator {
    client: Client,
    folder: PathBuf,
    start: Instant,
    steps: usize,
}

impl Narrator {
    /// Begins now. Commands run in `folder`.
    pub fn new(client: Client, folder: PathBuf) -> Self {
        Self { client, folder, start: Instant::now(), steps: 0 }
    }

    /// Announces what the next commands are for.
    pub fn step(&mut self, title: &str) {
        self.steps += 1;
        println!("\n\x1b[1m{}. {title}\x1b[0m", self.steps);
    }

    /// Adds a sentence.
    pub fn say(&self, words: &str) {
        println!("   {words}");
    }

    /// Runs a command that must succeed and returns what it printed.
    pub fn run(&self, line: &[&str]) -> Result<String, CommandError> {
        let started = Instant::now();
        Self::show(line);
        let printed = command::run(&mut self.command(line))?;
        Self::quote(&printed);
        self.took(started);
        Ok(printed)
    }

    /// Runs a command that must be refused, and returns what it said.
    pub fn refused(&self, line: &[&str]) -> Result<String, String> {
        let started = Instant::now();
        Self::show(line);
        match command::run(&mut self.command(line)) {
            Ok(printed) => Err(format!("`{}` should have been refused, but: {printed}", line.join(" "))),
            Err(error) => {
                Self::quote(error.stderr());
                self.took(started);
                Ok(error.stderr().to_owned())
            }
        }
    }

    /// Seconds since the story began.
    pub fn elapsed(&self) -> f32 {
        self.start.elapsed().as_secs_f32()
    }

    fn command(&self, line: &[&str]) -> Command {
        let (program, arguments) =
            line.split_first().map_or(("true", line), |(program, rest)| (*program, rest));
        let mut command = self.client.command(program);
        command.args(arguments).current_dir(&self.folder).env("COSIGN_PASSWORD", "").stdin(Stdio::null());
        command
    }

    fn show(line: &[&str]) {
        let words = line.iter().map(|word| {
            let plain = word.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./:=@,%+".contains(&b));
            if plain { (*word).to_owned() } else { format!("'{word}'") }
        });
        println!("   \x1b[36m$ {}\x1b[0m", words.collect::<Vec<_>>().join(" "));
    }

    fn quote(text: &str) {
        for line in text.lines() {
            println!("     {line}");
        }
    }

    fn took(&self, started: Instant) {
        println!(
            "     \x1b[2m({:.1} s, {:.0} s since the beginning)\x1b[0m",
            started.elapsed().as_secs_f32(),
            self.elapsed()
        );
    }
}
