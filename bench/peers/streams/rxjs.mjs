// rxjs.mjs - the chains of the group `streams` in RxJS.
import { Observable, bufferCount, filter, groupBy, map, mergeMap, scan } from "rxjs";
import { WINDOW_MS, count, event, isEven, report, triple } from "./work.mjs";

const source = () =>
  new Observable((subscriber) => {
    for (let i = 0; i < count; i++) subscriber.next(event(i));
    subscriber.complete();
  });

// RxJS has no windows in event time: an operator of its own, the shortest that does the same.
const tumbling = (size) => (input) =>
  new Observable((subscriber) => {
    let start;
    let sum = 0;
    return input.subscribe({
      next(e) {
        const own = e.at - (e.at % size);
        if (own !== start) {
          if (start !== undefined) subscriber.next(sum);
          start = own;
          sum = 0;
        }
        sum += e.amount;
      },
      complete() {
        subscriber.next(sum);
        subscriber.complete();
      },
    });
  });

const chains = {
  plain: (add) => source().pipe(filter(isEven), map(triple), bufferCount(100)).subscribe((list) => add(list.length)),
  scan: (_, set) => source().pipe(scan((sum, e) => sum + e.amount, 0)).subscribe(set),
  group: (add) =>
    source()
      .pipe(
        groupBy((e) => e.key),
        mergeMap((group) => group.pipe(bufferCount(100))),
      )
      .subscribe((list) => add(list.length)),
  tumbling: (add) => source().pipe(tumbling(WINDOW_MS)).subscribe(add),
};

for (const [kind, run] of Object.entries(chains)) {
  let result = 0;
  const begun = process.hrtime.bigint();
  run(
    (n) => (result += n),
    (n) => (result = n),
  );
  report("rxjs", kind, begun, result);
}
