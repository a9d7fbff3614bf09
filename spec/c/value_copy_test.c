/* value_copy_test.c - the copy that encoding makes: as its bytes decode, sharing no table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bind/bind_json.h"
#include "bind/value.h"
#include "codec/codec.h"

/* encode_copy(value, size_max?) -> copy, text | nil, code, message. Encodes without a copy too,
 * which must end in the same way and leave the same bytes. */
static int lua_encode_copy(lua_State *L) {
  size_t size_max = lua_isnumber(L, 2) ? (size_t)lua_tonumber(L, 2) : CG_VALUE_BYTES_MAX;
  lua_settop(L, 1);
  lua_pushboolean(L, 1); /* The index below is negative, and not the top. */
  struct cg_buf *plain = cg_buf_take(NULL, 0);
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  struct cg_err plain_err, err;
  cg_buf_append(plain, "keep", 4);
  cg_buf_append(buf, "keep", 4);
  enum cg_code code = cg_value_encode(L, -2, "result", plain, size_max, &plain_err);
  assert_int_equal(cg_value_encode_copy(L, -2, "result", buf, size_max, &err), code);
  assert_int_equal(lua_gettop(L), code == CG_OK ? 3 : 2);
  assert_int_equal(buf->size, plain->size);
  assert_memory_equal(buf->data, plain->data, buf->size);
  if (code == CG_OK) {
    lua_pushlstring(L, (const char *)buf->data + 4, buf->size - 4);
  } else {
    assert_int_equal(buf->size, 4);
    assert_string_equal(err.message, plain_err.message);
    assert_int_equal(cg_value_encode_copy(L, -2, NULL, buf, size_max, NULL), code);
    lua_pushnil(L);
    lua_pushstring(L, cg_code_name(err.code));
    lua_pushstring(L, err.message);
  }
  cg_buf_unref(plain);
  cg_buf_unref(buf);
  return code == CG_OK ? 2 : 3;
}

/* What every script below may use. */
static const char prelude[] =
    "jit.off() null = json.null\n" /* Traces of such short runs only cost. */
    "local function same(a, b)\n"
    "  if type(a) ~= type(b) then return false end\n"
    "  if type(a) ~= 'table' then return a == b and (a ~= 0 or 1 / a == 1 / b) end\n"
    "  if debug.getmetatable(a) ~= debug.getmetatable(b) then return false end\n"
    "  for k, v in next, a do if not same(v, rawget(b, k)) then return false end end\n"
    "  for k in next, b do if rawget(a, k) == nil then return false end end\n"
    "  return true\n"
    "end\n"
    "local function note(t, seen)\n"
    "  if type(t) ~= 'table' or seen[t] then return end\n"
    "  seen[t] = true for _, v in next, t do note(v, seen) end\n"
    "end\n"
    "local function check_fresh(t, seen)\n" /* Also within itself. */
    "  if type(t) ~= 'table' then return end\n"
    "  if seen[t] then error('a table is shared') end\n"
    "  seen[t] = true for _, v in next, t do check_fresh(v, seen) end\n"
    "end\n"
    "function copied(value)\n"
    "  local copy, text, message = encode_copy(value)\n"
    "  if copy == nil then error(message, 2) end\n"
    "  local seen = {} note(value, seen) check_fresh(copy, seen)\n"
    "  assert(same(json.decode(text), copy), text)\n"
    "  assert(json.encode(copy) == text)\n"
    "  return copy\n"
    "end\n";

/* Runs Lua source; fails the test with its error. */
static void run(lua_State *L, const char *source) {
  if (luaL_loadstring(L, source) != 0 || lua_pcall(L, 0, 0, 0) != 0)
    fail_msg("%s", lua_tostring(L, -1));
  assert_int_equal(lua_gettop(L), 0);
}

static int setup(void **state) {
  lua_State *L = luaL_newstate();
  luaL_openlibs(L);
  lua_register(L, "encode_copy", lua_encode_copy);
  lua_pushcfunction(L, cg_bind_json);
  lua_call(L, 0, 1);
  lua_setglobal(L, "json");
  run(L, prelude);
  *state = L;
  return 0;
}

static int teardown(void **state) {
  lua_close(*state);
  return 0;
}

static void plain_values_are_their_own_copies(void **state) {
  run(*state,
      "assert(copied(nil) == null and copied(null) == null and copied('x') == 'x')\n"
      "assert(copied(true) == true and copied(false) == false and 1 / copied(-0.0) == -1 / 0)\n"
      "assert(copied(2^53 + 2) == 2^53 + 2 and copied(5e-324) == 5e-324 and copied('') == '')\n"
      "assert(copied('a\\0\"\\\\\\195\\169') == 'a\\0\"\\\\\\195\\169')\n");
}

static void tables_are_made_anew_with_the_metatables_of_decoding(void **state) {
  run(*state,
      "assert(getmetatable(copied({1})) == json.array_mt and getmetatable(copied({})) == nil)\n"
      "assert(getmetatable(copied(json.array())) == json.array_mt)\n"
      "assert(getmetatable(copied({a = json.array()}).a) == json.array_mt)\n"
      "copied(setmetatable({a = 1}, {__index = {b = 2}, __newindex = error}))\n"
      "copied(setmetatable({setmetatable({}, {__metatable = 1})}, {__len = error}))\n"
      "local t = {1, 2} copied({t, t, {a = t, b = {t}}})\n");
}

static void lists_in_any_order_are_copied(void **state) {
  run(*state,
      "local t = {} for i = 50, 1, -1 do t[i] = {i} end copied(t)\n"
      "t = {x = 1} t[1] = {} t[2] = {{}} t[3] = false t.x = nil copied(t)\n"
      "t = {{}, {}, {}, nil, nil} t[4] = {4} copied(t) copied({t, {t = t}, 3, null, -0.0})\n"
      "t = {} for i = 1, 5000 do t[i] = i end copied(t) t[1], t[3000] = {{}}, {a = {}} "
      "copied(t)\n");
}

/* Sizes around every change of method: held on the stack or not, local notes or userdata. */
static void all_sizes_are_copied(void **state) {
  run(*state,
      "for count = 0, 70 do\n"
      "  local list, object, flat = {}, {}, {}\n"
      "  for i = 1, count do list[i] = {i} object['key' .. i] = {i} flat['k' .. i] = null end\n"
      "  copied(list) copied(object) copied(flat) copied({list, object, {o = object, f = flat}})\n"
      "end\n");
}

static void what_cannot_be_encoded_leaves_nothing(void **state) {
  run(*state,
      "local function refused(value, want, size_max)\n"
      "  local copy, code = encode_copy(value, size_max)\n"
      "  if copy ~= nil or code ~= want then error(tostring(code), 2) end\n"
      "end\n"
      "local wide = {} for i = 1, 40 do wide['k' .. i] = {i} end wide.z = {{a = print}}\n"
      "for _, bad in ipairs {print, {print}, {a = {1, {b = print}}}, {{}, {[2] = 1}}, wide,\n"
      "  {1, 2, x = 1}, {a = 0/0}, {a = {'\\255'}}, {['\\255'] = {}}, {json.array {x = {}}},\n"
      "  {{}, {}, {}, nil, {}}} do\n"
      "  refused(bad, 'invalid')\n"
      "end\n"
      "local t = {{}} t[1].t = t refused(t, 'invalid')\n"
      "t = {} for i = 1, 128 do t = {a = t} end refused(t, 'limit')\n"
      "refused({a = {('x'):rep(100)}}, 'limit', 50) refused({{1}, {2}}, 'limit', 8)\n"
      "t = require('table.new')(4, 32) for i = 1, 4 do t[i] = i end\n"
      "for i = 0, 25 do t[5 * 2 ^ i] = true end assert(#t > 2 ^ 27)\n" /* No room for so many. */
      "refused(t, 'invalid')\n");
}

static void random_values_are_copied(void **state) {
  run(*state,
      "math.randomseed(42) local random = math.random\n"
      "local ffi = require 'ffi' local u = ffi.new('union { double d; uint32_t w[2]; }')\n"
      "local function number()\n"
      "  if random(2) == 1 then return random(-1000000, 1000000) / 10 ^ random(0, 4) end\n"
      "  u.w[0] = random(0, 2 ^ 32 - 1)\n" /* Finite: a NaN of other bits breaks LuaJIT. */
      "  u.w[1] = random(0, 2047 * 2 ^ 20 - 1) + random(0, 1) * 2 ^ 31\n"
      "  return u.d\n"
      "end\n"
      "local parts = {'a', '\"', '\\\\', '\\n', '\\0', '\\195\\169', '\\240\\159\\152\\128', "
      "'order'}\n"
      "local function text() local t = {}\n"
      "  for i = 1, random(0, 12) do t[i] = parts[random(#parts)] end return table.concat(t) end\n"
      "local function value(depth)\n"
      "  local kind = random(depth > 5 and 4 or 8)\n"
      "  if kind == 1 then return number() elseif kind == 2 then return text()\n"
      "  elseif kind == 3 then return random(2) == 1 elseif kind == 4 then return null end\n"
      "  local t = kind == 5 and json.array() or {}\n"
      "  if kind == 6 then for i = random(0, 20), 1, -1 do t[i] = value(depth + 1) end\n"
      "  else for i = 1, random(0, 20) do t[kind == 5 and i or text()] = value(depth + 1) end end\n"
      "  return t\n"
      "end\n"
      "for i = 1, 6000 do copied(value(4 + i % 3)) end for i = 1, 40 do copied(value(2)) end\n");
}

static void the_widest_and_deepest_value_is_copied(void **state) {
  run(*state,
      "local value, list = 0, 0\n"
      "for depth = 1, 128 do\n"
      "  value, list = {z = value}, {1, list}\n"
      "  for i = 1, 15 do value['k' .. i] = i end\n"
      "end\n"
      "copied(value) copied(list)\n"
      "local thread = coroutine.wrap(function() copied(value) copied(list) end) thread()\n");
}

/* An allocator that refuses after a number of bytes. */
struct budget {
  size_t left; /* Bytes that may still be taken. */
};

static void *allocate(void *context, void *memory, size_t old_size, size_t size) {
  struct budget *budget = context;
  if (size == 0) {
    free(memory);
    return NULL;
  }
  if (size > old_size && size - old_size > budget->left)
    return NULL;
  if (size > old_size)
    budget->left -= size - old_size;
  return realloc(memory, size);
}

/* Copies the value of a text many times, keeping all. */
static int use_memory(lua_State *L) {
  size_t size;
  const char *text = lua_tolstring(L, 1, &size);
  struct cg_buf *buf = lua_touserdata(L, 2);
  struct cg_err err;
  lua_newtable(L);
  assert_int_equal(cg_value_decode(L, NULL, text, size, &err), CG_OK);
  for (int i = 1;; i++) {
    buf->size = 0;
    assert_int_equal(cg_value_encode_copy(L, 4, NULL, buf, 10000, &err), CG_OK);
    lua_rawseti(L, 3, i);
  }
  return 0;
}

static void lack_of_memory_is_raised_and_leaks_nothing(void **state) {
  (void)state;
  struct cg_buf *buf = cg_buf_take(NULL, 10000);
  for (size_t bytes = 0; bytes < 40000; bytes += 617) {
    struct budget budget = {SIZE_MAX};
    lua_State *L = lua_newstate(allocate, &budget);
    if (L == NULL) /* A build of LuaJIT that takes no allocator. */
      skip();
    lua_pushcfunction(L, use_memory);
    char text[2000] = "{";
    for (int i = 0; i < 40; i++)
      sprintf(text + strlen(text), "\"k%d\":[\"\\n%d\"],", i, i);
    strcat(text, "\"z\":[]}");
    lua_pushstring(L, text);
    lua_pushlightuserdata(L, buf);
    budget.left = bytes;
    assert_int_equal(lua_pcall(L, 2, 0, 0), LUA_ERRMEM);
    budget.left = SIZE_MAX;
    lua_close(L);
  }
  cg_buf_unref(buf);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(plain_values_are_their_own_copies),
      TEST(tables_are_made_anew_with_the_metatables_of_decoding),
      TEST(lists_in_any_order_are_copied),
      TEST(all_sizes_are_copied),
      TEST(what_cannot_be_encoded_leaves_nothing),
      TEST(random_values_are_copied),
      TEST(the_widest_and_deepest_value_is_copied),
      TEST(lack_of_memory_is_raised_and_leaks_nothing),
  };
#undef TEST
  return cmocka_run_group_tests(tests, NULL, NULL);
}
