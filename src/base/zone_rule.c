/* zone_rule.c - reads POSIX TZ strings, and finds the changes of the years around a moment. */
#include "base/zone_rule.h"

#include <string.h>

#define DAY_SECONDS 86400
#define HOURS_MAX 167 /* Of the time of a change; RFC 8536, 3.3.1. */
#define OFFSET_HOURS_MAX 24
#define NAME_CHARS_MIN 3
#define YEARS_AROUND 2 /* Before and after that of a moment: changes may lie in another year. */
#define CHANGES (2 * (2 * YEARS_AROUND + 1))

/* What is left of the text. */
struct reader {
  const char *at;  /* The next character. */
  const char *end; /* Behind the last. */
};

static bool take(struct reader *reader, char wanted) {
  if (reader->at == reader->end || *reader->at != wanted)
    return false;
  reader->at++;
  return true;
}

static bool is_digit(const struct reader *reader) {
  return reader->at < reader->end && *reader->at >= '0' && *reader->at <= '9';
}

/* A number of 1 to 3 digits from `least` to `most`. */
static bool take_number(struct reader *reader, int least, int most, int *number) {
  int value = 0, digits = 0;
  for (; digits < 3 && is_digit(reader); digits++)
    value = value * 10 + (*reader->at++ - '0');
  *number = value;
  return digits > 0 && !is_digit(reader) && value >= least && value <= most;
}

static bool is_letter(char byte) {
  return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z');
}

/* "CET" or "<+03>"; nobody asks for names. */
static bool take_name(struct reader *reader) {
  const char *begin = reader->at;
  if (!take(reader, '<')) {
    while (reader->at < reader->end && is_letter(*reader->at))
      reader->at++;
    return reader->at - begin >= NAME_CHARS_MIN;
  }
  while (reader->at < reader->end && *reader->at != '>')
    reader->at++;
  return reader->at - begin > NAME_CHARS_MIN && take(reader, '>');
}

/* [+-]hh[:mm[:ss]] */
static bool take_time(struct reader *reader, int hours_max, int32_t *seconds) {
  bool is_negative = take(reader, '-');
  if (!is_negative)
    take(reader, '+');
  int hours, minutes = 0, rest = 0;
  if (!take_number(reader, 0, hours_max, &hours))
    return false;
  if (take(reader, ':')) {
    if (!take_number(reader, 0, 59, &minutes))
      return false;
    if (take(reader, ':') && !take_number(reader, 0, 59, &rest))
      return false;
  }
  *seconds = hours * 3600 + minutes * 60 + rest;
  if (is_negative)
    *seconds = -*seconds;
  return true;
}

/* West of Greenwich is positive there, and negative here. */
static bool take_offset(struct reader *reader, int32_t *offset) {
  if (!take_time(reader, OFFSET_HOURS_MAX, offset))
    return false;
  *offset = -*offset;
  return true;
}

static bool take_weekday(struct reader *reader, struct cg_zone_rule_date *date) {
  date->kind = CG_ZONE_RULE_WEEKDAY;
  return take_number(reader, 1, 12, &date->month) && take(reader, '.') &&
         take_number(reader, 1, 5, &date->week) && take(reader, '.') &&
         take_number(reader, 0, 6, &date->day);
}

static bool take_date(struct reader *reader, struct cg_zone_rule_date *date) {
  bool is_fine;
  if (take(reader, 'M')) {
    is_fine = take_weekday(reader, date);
  } else if (take(reader, 'J')) {
    date->kind = CG_ZONE_RULE_JULIAN;
    is_fine = take_number(reader, 1, 365, &date->day);
  } else {
    date->kind = CG_ZONE_RULE_DAY;
    is_fine = take_number(reader, 0, 365, &date->day);
  }
  date->seconds = 2 * 3600;
  return is_fine && (!take(reader, '/') || take_time(reader, HOURS_MAX, &date->seconds));
}

bool cg_zone_rule_parse(struct cg_zone_rule *rule, const char *text, size_t size) {
  struct reader reader = {.at = text, .end = text + size};
  *rule = (struct cg_zone_rule){0};
  if (!take_name(&reader) || !take_offset(&reader, &rule->standard))
    return false;
  if (reader.at == reader.end)
    return true;
  rule->has_daylight = true;
  rule->daylight = rule->standard + 3600;
  if (!take_name(&reader))
    return false;
  if (reader.at < reader.end && *reader.at != ',' && !take_offset(&reader, &rule->daylight))
    return false;
  return take(&reader, ',') && take_date(&reader, &rule->start) && take(&reader, ',') &&
         take_date(&reader, &rule->end) && reader.at == reader.end;
}

static bool is_leap(int64_t year) {
  return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

/* Days from 1970-01-01 to January 1 of a year from -399 on: counted 400 years later, where all
 * numbers are positive. */
static int64_t days_before(int64_t year) {
  int64_t before = year + 400 - 1;
  return 365 * (year + 400) + before / 4 - before / 100 + before / 400 + 1 - 719528 - 146097;
}

static int64_t year_of(int64_t time) {
  int64_t days = time / DAY_SECONDS - (time % DAY_SECONDS < 0);
  int64_t year = 1970 + days / 366; /* Too low after 1970, too high before it: steps do the rest. */
  if (days < 0)
    year = 1970 + days / 365 - 1;
  if (year < 0)
    year = 0;
  while (days_before(year + 1) <= days)
    year++;
  return year;
}

/* Days into the year. */
static int64_t day_of_year(const struct cg_zone_rule_date *date, int64_t year) {
  static const int starts[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365};
  if (date->kind == CG_ZONE_RULE_DAY)
    return date->day;
  if (date->kind == CG_ZONE_RULE_JULIAN)
    return date->day - 1 + (date->day >= 60 && is_leap(year));
  int leap_before = date->month > 2 && is_leap(year), leap_after = date->month > 1 && is_leap(year);
  int64_t first = starts[date->month - 1] + leap_before, next = starts[date->month] + leap_after;
  /* 1970-01-01 was a Thursday; days may be negative. */
  int64_t weekday = ((days_before(year) + first) % 7 + 7 + 4) % 7;
  int64_t day = first + (date->day - weekday + 7) % 7 + (date->week - 1) * 7;
  return day >= next ? day - 7 : day;
}

/* A change of the offset. */
struct change {
  int64_t time;   /* From when on. */
  int32_t offset; /* Which. */
};

/* The changes of the years around one, in the order of time; of two at the same moment the
 * beginning of daylight saving time is the later, so that a rule can have it all the year. */
static void find_changes(const struct cg_zone_rule *rule, int64_t year,
                         struct change changes[CHANGES]) {
  for (int i = 0; i < CHANGES; i++) {
    bool is_start = i % 2 == 1;
    const struct cg_zone_rule_date *date = is_start ? &rule->start : &rule->end;
    int64_t of_year = year - YEARS_AROUND + i / 2;
    struct change change = {.time =
                                (days_before(of_year) + day_of_year(date, of_year)) * DAY_SECONDS +
                                date->seconds - (is_start ? rule->standard : rule->daylight),
                            .offset = is_start ? rule->daylight : rule->standard};
    int at = i;
    for (; at > 0 && (changes[at - 1].time > change.time ||
                      (changes[at - 1].time == change.time && !is_start));
         at--)
      changes[at] = changes[at - 1];
    changes[at] = change;
  }
}

void cg_zone_rule_span(const struct cg_zone_rule *rule, int64_t time, struct cg_zone_span *span) {
  *span =
      (struct cg_zone_span){CG_ZONE_TIME_MIN, CG_ZONE_TIME_MAX + 1, rule->standard, rule->standard};
  if (!rule->has_daylight)
    return;
  struct change changes[CHANGES];
  find_changes(rule, year_of(time + rule->standard), changes);
  int at = 0;
  while (at + 1 < CHANGES && changes[at + 1].time <= time)
    at++;
  int before = at;
  while (before > 0 && changes[before].time == changes[at].time)
    before--;
  span->offset = changes[at].offset;
  span->before = changes[before].offset;
  if (changes[at].time > span->begin)
    span->begin = changes[at].time;
  if (at + 1 < CHANGES && changes[at + 1].time < span->end)
    span->end = changes[at + 1].time;
}
