// dbos.mjs - measures DBOS on a PostgreSQL of its own, both with the settings that they ship; flows
// and callers are in this process, as they are in an app with DBOS.
//
// Usage: node dbos.mjs plain|command IN_FLIGHT DIRECTORY
// Plain: each step is a `runStep` of a function. Command: of the handler that is found by the name
// of the command; DBOS has no command of its own, and a child workflow would be dearer.
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { chownSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { DBOS } from "@dbos-inc/dbos-sdk";
import pg from "pg";
import { measure } from "./load.mjs";
import { handlers, makeOrder, makeResult, steps } from "./order.mjs";
import { freePorts, waitFor, withServers } from "./servers.mjs";

const SECONDS_MAX = 240;
const DEBIAN_POSTGRESQL = "/usr/lib/postgresql";
const POSTGRESQL_USER = "postgres"; // Whom it runs as when this is run by root, which it refuses.

const [kind, inFlightText, directory] = process.argv.slice(2);
const inFlight = Number(inFlightText);

/** Where the latest PostgreSQL of Debian has its programs, with a slash; else "", for the PATH. */
function postgresqlPrograms() {
  if (!existsSync(DEBIAN_POSTGRESQL)) return "";
  const versions = readdirSync(DEBIAN_POSTGRESQL)
    .filter((version) => existsSync(`${DEBIAN_POSTGRESQL}/${version}/bin/initdb`))
    .sort((a, b) => Number(b) - Number(a));
  return versions.length > 0 ? `${DEBIAN_POSTGRESQL}/${versions[0]}/bin/` : "";
}

/** Makes a directory that the server may write. */
function makeHome(home, user) {
  mkdirSync(home, { mode: 0o700 });
  if (!user) return;
  const [uid, gid] = ["-u", "-g"].map((option) => Number(execFileSync("id", [option, user])));
  chownSync(home, uid, gid);
}

/** Starts PostgreSQL with a new cluster; returns the address of a database that DBOS may make. */
async function startPostgresql(servers) {
  const programs = postgresqlPrograms();
  const user = process.getuid() === 0 ? POSTGRESQL_USER : null;
  const home = `${directory}/postgresql`;
  const password = randomBytes(16).toString("hex");
  const passwordFile = `${directory}/password`;
  makeHome(home, user);
  writeFileSync(passwordFile, password, { mode: 0o644 });

  await servers.run("initdb", `${programs}initdb`, [
    "-D", `${home}/data`, "-U", "bench", "-A", "scram-sha-256", `--pwfile=${passwordFile}`,
    "-E", "UTF8", "--locale=C",
  ], { user });
  const [port] = await freePorts(1);
  servers.start("postgres", `${programs}postgres`, [
    "-D", `${home}/data`, "-p", String(port), "-c", "listen_addresses=127.0.0.1",
    "-c", "unix_socket_directories=",
  ], { user, signal: "SIGINT" });
  const address = `postgresql://bench:${password}@127.0.0.1:${port}`;
  await waitFor(() => checkDurable(`${address}/postgres`));
  return `${address}/flows`;
}

/** Connects, and throws unless commits wait for the disk. */
async function checkDurable(address) {
  const client = new pg.Client({ connectionString: address });
  await client.connect();
  try {
    for (const setting of ["fsync", "synchronous_commit"]) {
      const { rows } = await client.query(`SHOW ${setting}`);
      if (rows[0][setting] !== "on") throw new Error(`${setting} of PostgreSQL is not on`);
    }
  } finally {
    await client.end();
  }
}

const commandHandlers = new Map(Object.entries(handlers));

/** Does one step durably and resolves to its result. */
function doStep(step, order) {
  const command = step.command(order);
  if (kind === "command") {
    return DBOS.runStep(async () => commandHandlers.get(step.handler)(command),
      { name: step.handler });
  }
  return DBOS.runStep(async () => handlers[step.handler](command), { name: step.name });
}

async function orderProcess(order) {
  const results = [];
  for (const step of steps) results.push(await doStep(step, order));
  return makeResult(order, results);
}

const what = `dbos ${kind} ${inFlight} in flight`;
await withServers({ what, directory, seconds: SECONDS_MAX }, async (servers) => {
  const flow = DBOS.registerWorkflow(orderProcess, { name: "OrderProcess" });
  DBOS.setConfig({
    name: "flows", systemDatabaseUrl: await startPostgresql(servers), logLevel: "error",
  });
  await DBOS.launch();
  await measure("dbos", kind, inFlight, async (number) => {
    const handle = await DBOS.startWorkflow(flow, { workflowID: `o${number}` })(makeOrder(number));
    return handle.getResult();
  });
  await DBOS.shutdown();
});
