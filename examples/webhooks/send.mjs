// send.mjs - sends webhook payloads to a running program, as GitHub would: one request each.
//
// Usage: node send.mjs SOCKET INDEX.json...
// An index is a list of { name, examples: [payload, ...] }. Prints how many were sent; a refused one
// ends it with exit code 1. The id of a delivery is its file, name and place, so sending the same
// files again changes nothing.
import http from "node:http";
import fs from "node:fs";
import path from "node:path";

const AT_ONCE = 16;
const [socketPath, ...files] = process.argv.slice(2);

// A keep-alive connection each, so that a request costs little.
const agent = new http.Agent({ keepAlive: true, maxSockets: AT_ONCE });

function send(event, delivery, payload) {
  const body = JSON.stringify({ event, payload });
  const headers = { "Content-Type": "application/json", "Idempotency-Key": delivery };
  return new Promise((resolve, reject) => {
    const request = http.request({ socketPath, agent, method: "POST", headers,
      path: "/commands/ReceiveWebhook" }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (part) => (text += part));
      response.on("end", () => response.statusCode === 200 ? resolve()
        : reject(new Error(`${delivery}: status ${response.statusCode}: ${text}`)));
    });
    request.on("error", reject);
    request.end(body);
  });
}

const queue = [];
for (const file of files)
  for (const { name, examples } of JSON.parse(fs.readFileSync(file, "utf8")))
    examples.forEach((payload, place) =>
      queue.push([name, `${path.basename(path.dirname(file))}/${name}/${place}`, payload]));

const count = queue.length;
async function work() {
  while (queue.length > 0) await send(...queue.shift());
}
try {
  await Promise.all(Array.from({ length: AT_ONCE }, work));
} catch (error) {
  console.error(`send: ${error.message}`);
  process.exit(1);
}
agent.destroy();
console.log(count);
