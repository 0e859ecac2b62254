//! Server processes, and their CPU time and memory.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::Result;

/// A server whose CPU time and memory are measured. It runs in processes of its own, except in the
/// benchmark's own tests.
pub trait MeasuredServer {
    /// Returns the addresses it listens on.
    fn addresses(&self) -> Vec<SocketAddr>;
    /// Returns the CPU time it has used so far.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    fn cpu_time(&self) -> Result<CpuTime>;
    /// Returns its resident memory in bytes.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    fn resident_bytes(&self) -> Result<u64>;
}

/// CPU time in nanoseconds, user and kernel, by thread.
#[derive(Debug, Default)]
pub struct CpuTime(BTreeMap<u32, u64>);

impl CpuTime {
    /// Reads the CPU time of every thread of these processes. The time of a thread that has ended
    /// is lost; none of the servers ends threads under load.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn of(processes: &[u32]) -> Result<Self> {
        let mut threads = BTreeMap::new();
        for process in processes {
            for thread in std::fs::read_dir(format!("/proc/{process}/task"))? {
                let thread = thread?;
                // `schedstat` counts in nanoseconds, `stat` only in hundredths of a second.
                let Ok(text) = std::fs::read_to_string(thread.path().join("schedstat")) else {
                    continue;
                };
                let used = text
                    .split_whitespace()
                    .next()
                    .ok_or("an empty schedstat: is CONFIG_SCHED_INFO off?")?;
                threads.insert(thread.file_name().to_string_lossy().parse()?, used.parse()?);
            }
        }
        Ok(Self(threads))
    }

    /// Returns this time together with that of other threads.
    #[must_use]
    pub fn plus(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Returns the nanoseconds since `before`: of all threads, and of the busiest one.
    #[must_use]
    pub fn since(&self, before: &Self) -> (u64, u64) {
        let used = self
            .0
            .iter()
            .map(|(thread, used)| used.saturating_sub(before.0.get(thread).copied().unwrap_or(0)));
        (used.clone().sum(), used.max().unwrap_or(0))
    }
}

/// A server and its child processes. Dropping it stops them.
pub struct Server {
    child: Child,
    address: SocketAddr,
    processes: Vec<u32>,
}

impl Server {
    /// Starts a server that will listen on this loopback port. This does not wait until it is
    /// ready: call [`Server::find_processes`] once it answers.
    ///
    /// # Errors
    /// The program cannot be started.
    pub fn start(words: &[String], port: u16, core: Option<usize>) -> Result<Self> {
        // The kernel terminates the server when this process ends, for whatever reason.
        let mut command_line = vec!["setpriv".to_owned(), "--pdeathsig".into(), "TERM".into()];
        if let Some(core) = core {
            command_line.extend(["taskset".into(), "-c".into(), core.to_string()]);
        }
        command_line.extend_from_slice(words);
        let child = Command::new(&command_line[0])
            .args(&command_line[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        let child = child.map_err(|error| format!("{}: {error}", command_line.join(" ")))?;
        let processes = vec![child.id()];
        Ok(Self { child, address: (Ipv4Addr::LOCALHOST, port).into(), processes })
    }

    /// Finds the server's processes, once it answers.
    ///
    /// # Errors
    /// The server has ended, or `/proc` cannot be read.
    pub fn find_processes(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            return Err(format!("the server exited: {status}").into());
        }
        self.processes = descendants(self.child.id())?;
        Ok(())
    }
}

impl MeasuredServer for Server {
    fn addresses(&self) -> Vec<SocketAddr> {
        vec![self.address]
    }

    fn cpu_time(&self) -> Result<CpuTime> {
        CpuTime::of(&self.processes)
    }

    fn resident_bytes(&self) -> Result<u64> {
        self.processes.iter().map(|process| resident(*process)).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
        let signal = |process: &u32, signal| {
            if let Some(process) = i32::try_from(*process).ok().and_then(Pid::from_raw) {
                let _ignored = kill_process(process, signal);
            }
        };
        // The first process stops the others. A master process that lost a worker would start
        // another.
        signal(&self.child.id(), Signal::TERM);
        let end = Instant::now() + SHUTDOWN_TIMEOUT;
        while Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            self.processes.iter().for_each(|process| signal(process, Signal::KILL));
            drop(self.child.wait());
        }
    }
}

/// Several servers that share the load, and nothing else.
impl MeasuredServer for Vec<Server> {
    fn addresses(&self) -> Vec<SocketAddr> {
        self.iter().flat_map(Server::addresses).collect()
    }

    fn cpu_time(&self) -> Result<CpuTime> {
        self.iter().try_fold(CpuTime::default(), |used, server| Ok(used.plus(server.cpu_time()?)))
    }

    fn resident_bytes(&self) -> Result<u64> {
        self.iter().map(Server::resident_bytes).sum()
    }
}

/// Returns a free port of the loopback address.
///
/// # Errors
/// No port is free.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// Returns the resident memory of a process in bytes (VmRSS).
///
/// # Errors
/// The process does not exist.
pub fn resident(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let kilobytes = status.lines().find_map(|line| {
        line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok()
    });
    Ok(kilobytes.ok_or("no VmRSS")? * 1024)
}

/// Returns a process and all its descendants.
fn descendants(first: u32) -> Result<Vec<u32>> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc")? {
        let Ok(process) = entry?.file_name().to_string_lossy().parse() else { continue };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { continue };
        // After the name, which may contain any character: the state, then the parent.
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
    fn child_cpu_time_is_counted_and_drop_stops_it() {
        let words = ["sh", "-c", "sh -c 'while :; do :; done' & wait"].map(str::to_owned);
        let mut server = Server::start(&words, 1, None).unwrap();
        let busy = |server: &mut Server| {
            server.find_processes().unwrap();
            server.processes.len() == 2
                && server.cpu_time().unwrap().since(&CpuTime::default()).0 > 20_000_000
        };
        while !busy(&mut server) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let (all, busiest) = server.cpu_time().unwrap().since(&CpuTime::default());
        assert!(busiest <= all && busiest > all / 2, "{all} {busiest}");
        assert!(server.resident_bytes().unwrap() > 100_000);
        let first = server.processes[0];
        for process in server.processes.clone() {
            // The shell does not pass its signal on to its child; our server does.
            kill_process(Pid::from_raw(i32::try_from(process).unwrap()).unwrap(), Signal::TERM)
                .unwrap();
        }
        drop(server);
        assert!(resident(first).is_err());
    }

    #[test]
    fn program_that_exits_is_not_a_server() {
        let mut server = Server::start(&["false".to_owned()], 1, None).unwrap();
        while server.find_processes().is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
