// work.mjs - the input and the output that all peers share; see bench/apps/streams/main.lua.
const POOL = 1024;

export const count = Number(process.env.BENCH_EVENTS ?? 10000000);

const pool = Array.from({ length: POOL }, (_, i) => ({ amount: i, key: (i * 7) % POOL, at: 0 }));

// Event number i, from 0.
export function event(i) {
  const one = pool[i % POOL];
  one.at = i;
  return one;
}

export const isEven = (e) => e.amount % 2 === 0;
export const triple = (e) => e.amount * 3;
export const WINDOW_MS = 1000;

// What a run must come to, so that nobody measures half the work.
export function expected(kind) {
  const rounds = count / POOL;
  if (!Number.isInteger(rounds)) return undefined;
  return kind === "plain" ? rounds * (POOL / 2) : rounds * ((POOL * (POOL - 1)) / 2);
}

export function report(peer, kind, begun, result) {
  const wanted = kind === "group" ? undefined : expected(kind);
  if (wanted !== undefined && result !== wanted) {
    console.error(`bench: ${peer} ${kind} came to ${result}, not ${wanted}`);
    process.exit(1);
  }
  const seconds = Number(process.hrtime.bigint() - begun) / 1e9;
  console.log(`${peer} ${kind}: ${Math.round(count / seconds)} events/s`);
}
