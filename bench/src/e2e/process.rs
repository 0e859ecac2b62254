//! The processes that are measured, and what the system says of them.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::Result;

/// What is measured. A server in processes of its own, but for tests of the bench itself.
pub trait Target {
    /// Where it listens.
    fn addresses(&self) -> Vec<SocketAddr>;
    /// What it has spent so far.
    ///
    /// # Errors
    /// The system does not say.
    fn spent(&self) -> Result<Spent>;
    /// The bytes of memory it occupies.
    ///
    /// # Errors
    /// The system does not say.
    fn resident_bytes(&self) -> Result<u64>;
}

/// Nanoseconds of CPU, in user and kernel, by thread.
#[derive(Debug, Default)]
pub struct Spent(BTreeMap<u32, u64>);

impl Spent {
    /// Of every thread of these processes. One that has ended is forgotten with what it
    /// has spent; none of the servers ends threads under load.
    ///
    /// # Errors
    /// The system does not say.
    pub fn by(processes: &[u32]) -> Result<Self> {
        let mut threads = BTreeMap::new();
        for process in processes {
            for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
                let thread = thread?;
                // Where the scheduler counts in nanoseconds; the columns of `stat` are hundredths of a second.
                let Ok(text) = std::fs::read_to_string(thread.path().join("schedstat")) else {
                    continue;
                };
                let spent = text
                    .split_whitespace()
                    .next()
                    .ok_or("an empty schedstat: is CONFIG_SCHED_INFO off?")?;
                threads.insert(thread.file_name().to_string_lossy().parse()?, spent.parse()?);
            }
        }
        Ok(Self(threads))
    }

    /// With what others have spent.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Of all threads since then, and of the one that spent most, in nanoseconds.
    #[must_use]
    pub fn since(&self, before: &Self) -> (u64, u64) {
        let spent = self.0.iter().map(|(thread, spent)| {
            spent.saturating_sub(before.0.get(thread).copied().unwrap_or(0))
        });
        (spent.clone().sum(), spent.max().unwrap_or(0))
    }
}

/// A server and the processes it started. It ends when this is dropped.
pub struct Server {
    child: Child,
    address: SocketAddr,
    processes: Vec<u32>,
}

impl Server {
    /// Starts a server that will listen on this port of the loopback address. It is not
    /// waited for: [`Server::has_started`] says when all of it is there.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(words: &[String], port: u16, core: Option<usize>) -> Result<Self> {
        // It ends with us, however we end.
        let mut line = vec!["setpriv".to_owned(), "--pdeathsig".into(), "TERM".into()];
        if let Some(core) = core {
            line.extend(["taskset".into(), "-c".into(), core.to_string()]);
        }
        line.extend_from_slice(words);
        let child = Command::new(&line[0])
            .args(&line[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let child = child.map_err(|error| format!("{}: {error}", line.join(" ")))?;
        let processes = vec![child.id()];
        Ok(Self { child, address: (Ipv4Addr::LOCALHOST, port).into(), processes })
    }

    /// Finds the processes it is made of, once it answers.
    ///
    /// # Errors
    /// It has ended, or the system does not say.
    pub fn has_started(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            return Err(format!("it ended: {status}").into());
        }
        self.processes = descendants(self.child.id())?;
        Ok(())
    }
}

impl Target for Server {
    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.address]
    }

    fn spent(&self) -> Result<Spent> {
        Spent::by(&self.processes)
    }

    fn resident_bytes(&self) -> Result<u64> {
        self.processes.iter().map(|process| resident(*process)).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(3);
        let signal = |process: &u32, signal| {
            if let Some(process) = i32::try_from(*process).ok().and_then(Pid::from_raw) {
                let _already_gone = kill_process(process, signal);
            }
        };
        // The first ends the others: a master that lost a worker would start another.
        signal(&self.child.id(), Signal::TERM);
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            self.processes.iter().for_each(|process| signal(process, Signal::KILL));
            drop(self.child.wait());
        }
    }
}

/// Several servers that share the load and nothing else.
impl Target for Vec<Server> {
    fn addresses(&self) -> Vec<SocketAddr> {
        self.iter().flat_map(Server::addresses).collect()
    }

    fn spent(&self) -> Result<Spent> {
        self.iter().try_fold(Spent::default(), |spent, server| Ok(spent.and(server.spent()?)))
    }

    fn resident_bytes(&self) -> Result<u64> {
        self.iter().map(Server::resident_bytes).sum()
    }
}

/// A port that nobody listens on.
///
/// # Errors
/// There is none.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// The bytes of memory that a process occupies.
///
/// # Errors
/// There is no such process.
pub fn resident(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let kilobytes = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok()
    });
    Ok(kilobytes.ok_or("no VmRSS")? * 1024)
}

/// A process, its children, and theirs.
fn descendants(first: u32) -> Result<Vec<u32>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(process) = entry?.file_name().to_string_lossy().parse() else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { continue };
        // After the name, which may hold anything: the state, then the parent.
        let parent =
            stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        children.entry(parent.unwrap_or(0)).or_default().push(process);
    }
    let mut found = vec![first];
    let mut next = 0;
    while let Some(process) = found.get(next) {
        found.extend(children.remove(process).unwrap_or_default());
        next += 1;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_child_spends_is_counted_and_it_ends() {
        let words = ["sh", "-c", "sh -c 'while :; do :; done' & wait"].map(str::to_owned);
        let mut server = Server::start(&words, 1, None).unwrap();
        let busy = |server: &mut Server| {
            server.has_started().unwrap();
            server.processes.len() == 2
                && server.spent().unwrap().since(&Spent::default()).0 > 20_000_000
        };
        while !busy(&mut server) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let (all, busiest) = server.spent().unwrap().since(&Spent::default());
        assert!(busiest <= all && busiest > all / 2, "{all} {busiest}");
        assert!(server.resident_bytes().unwrap() > 100_000);
        let first = server.processes[0];
        for process in server.processes.clone() {
            // The shell does not hand on its signal; ours does.
            kill_process(Pid::from_raw(i32::try_from(process).unwrap()).unwrap(), Signal::TERM)
                .unwrap();
        }
        drop(server);
        assert!(resident(first).is_err());
    }

    #[test]
    fn a_program_that_ends_is_not_taken_for_a_server() {
        let mut server = Server::start(&["false".to_owned()], 1, None).unwrap();
        while server.has_started().is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
