// load.mjs - runs flows, so many in flight, and prints how many a second, for bench/run.lua.
//
// A measurement follows a warm-up of WARM_UP_SECONDS, which also tells how many flows take about
// MEASURE_SECONDS; there are at least as many as are in flight, so that it has an end in any case.
import { checkResult } from "./order.mjs";

const WARM_UP_SECONDS = 2;
const WARM_UP_IN_FLIGHT_MAX = 1000; // More of them would make the warm-up a measurement.
const MEASURE_SECONDS = 5;
const FLOWS_MAX = 200000;

/**
 * Runs flows from number `first` on until `count` are started or `seconds` are over, each of
 * `inFlight` callers one after the other, and waits for all. Resolves to how many, the seconds they
 * took together, and the milliseconds that each took.
 */
async function runMany(runOne, { first, count, seconds, inFlight }) {
  const samples = [];
  const begin = performance.now();
  const end = begin + seconds * 1000;
  let started = 0;

  async function call() {
    while (started < count && performance.now() < end) {
      const number = first + started++;
      const begun = performance.now();
      checkResult(number, await runOne(number));
      samples.push(performance.now() - begun);
    }
  }

  await Promise.all(Array.from({ length: inFlight }, call));
  return { count: started, seconds: (performance.now() - begin) / 1000, samples };
}

function percentile(sorted, part) {
  return sorted[Math.max(0, Math.floor(sorted.length * part) - 1)];
}

/**
 * Measures one peer and prints its lines. `runOne(number)` runs a flow and resolves to its result;
 * numbers begin with 1, and none is given twice.
 */
export async function measure(peer, kind, inFlight, runOne) {
  const warmUp = await runMany(runOne, {
    first: 1,
    count: FLOWS_MAX,
    seconds: WARM_UP_SECONDS,
    inFlight: Math.min(inFlight, WARM_UP_IN_FLIGHT_MAX),
  });
  const expected = Math.round((warmUp.count / warmUp.seconds) * MEASURE_SECONDS);
  const measured = await runMany(runOne, {
    first: 1 + warmUp.count,
    count: Math.min(Math.max(expected, inFlight), FLOWS_MAX),
    seconds: Infinity,
    inFlight,
  });

  const rate = measured.count / measured.seconds;
  console.log(`${peer} ${kind} ${inFlight} in flight: ${rate.toFixed(1)} a second`);
  if (inFlight === 1) {
    const sorted = measured.samples.sort((a, b) => a - b);
    for (const [name, part] of [["p50", 0.5], ["p99", 0.99]]) {
      const us = percentile(sorted, part) * 1000;
      console.log(`${peer} ${kind} alone, ${name}: ${us.toFixed(1)} us`);
    }
  }
}
