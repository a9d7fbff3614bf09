// restate_service.mjs - the flow and its handlers as services of Restate.
//
// Usage: node restate_service.mjs plain|command PORT
// Plain: each step is a `ctx.run`. Command: each step is a call of a handler of another service.
import { createServer } from "node:http2";
import { createEndpointHandler, service, workflow } from "@restatedev/restate-sdk";
import { handlers, makeResult, steps } from "./order.mjs";

const [kind, port] = process.argv.slice(2);

const orders = service({
  name: "Orders",
  handlers: Object.fromEntries(
    Object.entries(handlers).map(([name, handler]) => [
      name, async (_ctx, command) => handler(command),
    ]),
  ),
});

/** Does one step durably and resolves to its result. */
function doStep(ctx, step, order) {
  const command = step.command(order);
  if (kind === "command") return ctx.serviceClient(orders)[step.handler](command);
  return ctx.run(step.name, () => handlers[step.handler](command));
}

const orderProcess = workflow({
  name: "OrderProcess",
  handlers: {
    run: async (ctx, order) => {
      const results = [];
      for (const step of steps) results.push(await doStep(ctx, step, order));
      return makeResult(order, results);
    },
  },
});

createServer(createEndpointHandler({ services: [orders, orderProcess] }))
  .listen(Number(port), "127.0.0.1");
