// node_streams.mjs - the chains of the group `streams` in Node.js streams of objects.
import { Readable, Transform, Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { WINDOW_MS, count, event, isEven, report, triple } from "./work.mjs";

function source() {
  let i = 0;
  return new Readable({
    objectMode: true,
    read() {
      while (i < count) if (!this.push(event(i++))) return;
      this.push(null);
    },
  });
}

const transform = (each, end) =>
  new Transform({
    objectMode: true,
    transform(e, _, done) {
      each(this, e);
      done();
    },
    flush(done) {
      if (end) end(this);
      done();
    },
  });

const sink = (take) =>
  new Writable({
    objectMode: true,
    write(e, _, done) {
      take(e);
      done();
    },
  });

function buffer(size) {
  let list = [];
  return transform(
    (out, e) => {
      list.push(e);
      if (list.length === size) {
        out.push(list);
        list = [];
      }
    },
    (out) => list.length > 0 && out.push(list),
  );
}

function groups(size) {
  const lists = new Map();
  return transform(
    (out, e) => {
      let list = lists.get(e.key);
      if (!list) lists.set(e.key, (list = []));
      list.push(e);
      if (list.length === size) {
        lists.delete(e.key);
        out.push(list);
      }
    },
    (out) => lists.forEach((list) => out.push(list)),
  );
}

function tumbling(size) {
  let start;
  let sum = 0;
  return transform(
    (out, e) => {
      const own = e.at - (e.at % size);
      if (own !== start) {
        if (start !== undefined) out.push(sum);
        start = own;
        sum = 0;
      }
      sum += e.amount;
    },
    (out) => out.push(sum),
  );
}

let sum;
const chains = {
  plain: () => [
    transform((out, e) => isEven(e) && out.push(e)),
    transform((out, e) => out.push(triple(e))),
    buffer(100),
    sink((list) => (sum += list.length)),
  ],
  scan: () => {
    let total = 0;
    return [transform((out, e) => out.push((total += e.amount))), sink((value) => (sum = value))];
  },
  group: () => [groups(100), sink((list) => (sum += list.length))],
  tumbling: () => [tumbling(WINDOW_MS), sink((value) => (sum += value))],
};

for (const [kind, stages] of Object.entries(chains)) {
  sum = 0;
  const begun = process.hrtime.bigint();
  await pipeline(source(), ...stages());
  report("node", kind, begun, sum);
}
