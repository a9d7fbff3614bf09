/* zone_rule.h - the rule at the end of a TZif file: a POSIX TZ string such as
 * "CET-1CEST,M3.5.0,M10.5.0/3", which holds for all times beyond the file's table.
 *
 * How to use: for zone.c; parse a string once, then ask for spans.
 * Owns: nothing. Thread: any. */
#ifndef CG_BASE_ZONE_RULE_H
#define CG_BASE_ZONE_RULE_H

#include "base/zone.h"

/* How a day of a year is given. */
enum cg_zone_rule_kind {
  CG_ZONE_RULE_JULIAN, /* Jn: 1 to 365, February 29 is never counted. */
  CG_ZONE_RULE_DAY,    /* n: 0 to 365, it is. */
  CG_ZONE_RULE_WEEKDAY /* Mm.w.d: the w-th weekday d of month m; w of 5: the last. */
};

/* A moment of each year, in local time. */
struct cg_zone_rule_date {
  enum cg_zone_rule_kind kind; /* Which of these are used. */
  int day;                     /* Of the year, or of the week (0 is Sunday). */
  int week;                    /* 1 to 5. */
  int month;                   /* 1 to 12. */
  int32_t seconds;             /* Into that day; from -167 to 167 hours. */
};

/* A rule. */
struct cg_zone_rule {
  int32_t standard;               /* Offset of standard time in seconds. */
  int32_t daylight;               /* Of daylight saving time. */
  bool has_daylight;              /* Is there any? The fields below hold only then. */
  struct cg_zone_rule_date start; /* Daylight saving time begins, in standard time. */
  struct cg_zone_rule_date end;   /* It ends, in daylight saving time. */
};

/* Reads a rule; false when the text is none. */
bool cg_zone_rule_parse(struct cg_zone_rule *rule, const char *text, size_t size);
/* The span of `time`, which must be from CG_ZONE_TIME_MIN to CG_ZONE_TIME_MAX. */
void cg_zone_rule_span(const struct cg_zone_rule *rule, int64_t time, struct cg_zone_span *span);

#endif
