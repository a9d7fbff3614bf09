// servers.mjs - starts the programs that a peer needs, and ends them whatever happens.
//
// How to use: withServers gives its body a Servers; what that has started ends when the body does,
// when it fails, when one of the servers ends, when time is up and when a signal asks for it.
// Should this program be killed, the kernel ends them: setpriv starts each with --pdeathsig.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync, readFileSync } from "node:fs";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

const STOP_SECONDS_MAX = 5; // Of one server, until it is killed.
const POLL_MS = 50;
const START_SECONDS_MAX = 60;
const LOG_LINES_SHOWN = 5;

/** So many TCP ports on the loopback address that were free just now. */
export async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => once(server.close(), "close")));
  return ports;
}

/** Calls `attempt` until it does not throw; throws what it threw last when it takes too long. */
export async function waitFor(attempt) {
  const end = performance.now() + START_SECONDS_MAX * 1000;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (performance.now() > end) throw error;
      await sleep(POLL_MS);
    }
  }
}

function lastLines(path) {
  return readFileSync(path, "utf8").trim().split("\n").slice(-LOG_LINES_SHOWN).join("\n");
}

/** The programs that run for one measurement. */
class Servers {
  #directory;
  #running = []; // The latest last.
  #onEnd;

  constructor(directory, onEnd) {
    this.#directory = directory;
    this.#onEnd = onEnd;
  }

  /**
   * Starts a program whose output goes to a file of its name; `user` is whom it is to run as, null
   * for who runs this, `signal` the one that ends it. Returns the process.
   */
  start(name, program, programArguments, { user = null, signal = "SIGKILL", env = {} } = {}) {
    const logPath = `${this.#directory}/${name}.log`;
    const log = openSync(logPath, "a");
    const as = user ? [`--reuid=${user}`, `--regid=${user}`, "--init-groups"] : [];
    const child = spawn(
      "setpriv",
      [...as, "--pdeathsig", signal.replace("SIG", ""), program, ...programArguments],
      {
        cwd: this.#directory,
        env: { ...process.env, TMPDIR: this.#directory, ...env },
        stdio: ["ignore", log, log],
      },
    );
    closeSync(log);
    this.#running.push({ child, signal });
    const ended = (error) => {
      this.#running = this.#running.filter((server) => server.child !== child);
      this.#onEnd(error);
    };
    child.once("error", ended);
    child.once("exit", (code, by) => {
      ended(new Error(`${name} ended (${code ?? by}): ${lastLines(logPath)}`));
    });
    return child;
  }

  /** Runs a program to its end, as `start` does; throws when it fails. */
  async run(name, program, programArguments, { user = null } = {}) {
    const alone = new Servers(this.#directory, () => {});
    const child = alone.start(name, program, programArguments, { user });
    const [code] = await once(child, "exit");
    if (code !== 0) throw new Error(`${name}: ${lastLines(`${this.#directory}/${name}.log`)}`);
  }

  /** Ends them all, the latest first, and waits for it. */
  async stop() {
    for (const { child, signal } of [...this.#running].reverse()) {
      const ended = once(child, "exit");
      child.kill(signal);
      const timer = setTimeout(() => child.kill("SIGKILL"), STOP_SECONDS_MAX * 1000);
      await ended;
      clearTimeout(timer);
    }
  }
}

/**
 * Runs `body(servers)` for at most `seconds`, ends all servers, then this program: with exit code
 * 0, or 1 and what went wrong on stderr, where `what` names what is measured. Logs go to
 * `directory`.
 */
export async function withServers({ what, directory, seconds }, body) {
  const { promise: cut, reject: stop } = Promise.withResolvers();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) {
    process.on(signal, () => stop(new Error(`ended by ${signal}`)));
  }
  process.stdout.on("error", stop); // Nobody reads what is measured any more.
  setTimeout(() => stop(new Error(`not done after ${seconds} seconds`)), seconds * 1000);

  const servers = new Servers(directory, stop);
  let code = 0;
  try {
    await Promise.race([body(servers), cut]);
  } catch (error) {
    console.error(`bench: ${what} is not measured: ${error.message}`);
    code = 1;
  }
  await servers.stop();
  process.exit(code);
}
