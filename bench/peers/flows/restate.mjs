// restate.mjs - measures Restate: its server with the settings that it ships, the flow as a
// workflow in a process of its own, callers that wait for the result over HTTP/2.
//
// Usage: node restate.mjs plain|command IN_FLIGHT DIRECTORY
import { once } from "node:events";
import { connect } from "node:http2";
import { measure } from "./load.mjs";
import { makeOrder } from "./order.mjs";
import { freePorts, waitFor, withServers } from "./servers.mjs";

const SECONDS_MAX = 240;
const STREAMS_A_CONNECTION = 100; // Below the 128 or more that servers allow.

const [kind, inFlightText, directory] = process.argv.slice(2);
const inFlight = Number(inFlightText);

/** The program in the package for this machine. */
function serverProgram() {
  const name = `@restatedev/restate-server-${process.platform}-${process.arch}`;
  return new URL(`node_modules/${name}/bin/restate-server`, import.meta.url).pathname;
}

/** Starts the server and the service, and makes them known to each other. */
async function startServers(servers) {
  const [ingress, admin, node, service] = await freePorts(4);
  servers.start("restate-server", serverProgram(), [
    "--no-logo", "--listen-mode", "tcp", "--base-dir", `${directory}/restate`,
    "--bind-address", `127.0.0.1:${node}`, "--advertised-address", `http://127.0.0.1:${node}`,
  ], {
    env: {
      RESTATE_INGRESS__BIND_ADDRESS: `127.0.0.1:${ingress}`,
      RESTATE_ADMIN__BIND_ADDRESS: `127.0.0.1:${admin}`,
      RESTATE_DISABLE_TELEMETRY: "true",
      RESTATE_LOG_FILTER: "error",
    },
  });
  servers.start("restate-service", process.execPath, [
    new URL("restate_service.mjs", import.meta.url).pathname, kind, String(service),
  ]);
  await waitFor(() => register(admin, service));
  return ingress;
}

async function register(admin, service) {
  const answer = await fetch(`http://127.0.0.1:${admin}/deployments`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ uri: `http://127.0.0.1:${service}` }),
  });
  if (!answer.ok) throw new Error(`cannot register the service: ${await answer.text()}`);
}

/** Opens as many connections as the callers need; returns a function that runs one flow. */
async function openCaller(ingress) {
  const connections = await Promise.all(
    Array.from({ length: Math.ceil(inFlight / STREAMS_A_CONNECTION) }, async () => {
      const connection = connect(`http://127.0.0.1:${ingress}`);
      await once(connection, "connect");
      return connection;
    }),
  );
  return (number) => post(connections[number % connections.length],
    `/OrderProcess/o${number}/run`, makeOrder(number));
}

/** Posts JSON; resolves to the JSON of the answer. */
function post(connection, path, body) {
  return new Promise((resolve, reject) => {
    const stream = connection.request({
      ":method": "POST", ":path": path, "content-type": "application/json",
    });
    let status;
    let text = "";
    stream.setEncoding("utf8");
    stream.on("response", (headers) => { status = headers[":status"]; });
    stream.on("data", (chunk) => { text += chunk; });
    stream.on("error", reject);
    stream.on("end", () => {
      if (status === 200) resolve(JSON.parse(text));
      else reject(new Error(`${path}: ${status} ${text}`));
    });
    stream.end(JSON.stringify(body));
  });
}

const what = `restate ${kind} ${inFlight} in flight`;
await withServers({ what, directory, seconds: SECONDS_MAX }, async (servers) => {
  const runOne = await openCaller(await startServers(servers));
  // A server that has just learnt of the service may not route to it yet.
  await waitFor(() => runOne(0));
  await measure("restate", kind, inFlight, runOne);
});
