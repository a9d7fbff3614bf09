/* zone_fuzz.c - any bytes as a TZif file: reading must not crash, and a zone that is read has, at
 * every moment, a span that holds it and that its neighbours agree with.
 *
 * Owns: nothing between calls. Thread: one. */
#include <stdlib.h>
#include <string.h>

#include "base/zone.h"
#include "base/zone_rule.h"

#define SPANS_MAX 300

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void require(bool is_true) {
  if (!is_true)
    abort();
}

/* Walks spans from a moment on. */
static void walk(const struct cg_zone *zone, int64_t time) {
  struct cg_zone_span span, next;
  cg_zone_span(zone, time, &span);
  for (int i = 0; i < SPANS_MAX; i++) {
    require(span.begin <= time && time < span.end);
    if (span.end > CG_ZONE_TIME_MAX)
      return;
    cg_zone_span(zone, span.end, &next);
    require(next.begin == span.end && next.before == span.offset);
    time = span.end;
    span = next;
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  struct cg_zone *zone;
  struct cg_err err;
  struct cg_zone_rule rule;
  cg_zone_is_name((const char *)bytes, size);
  if (cg_zone_rule_parse(&rule, (const char *)bytes, size)) {
    struct cg_zone_span span;
    cg_zone_rule_span(&rule, 0, &span);
    require(span.begin <= 0 && span.end > 0);
  }
  if (cg_zone_parse(&zone, bytes, size, &err) != CG_OK)
    return 0;
  walk(zone, CG_ZONE_TIME_MIN);
  walk(zone, INT64_C(-5000000000));
  walk(zone, 0);
  walk(zone, INT64_C(4000000000));
  walk(zone, CG_ZONE_TIME_MAX - INT64_C(31536000) * 5);
  cg_zone_free(zone);
  return 0;
}
