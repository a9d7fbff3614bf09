/* value_test.c - Lua values to JSON and back, and the module catga.json. */
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

/* Pushes nil, code and message of an error. */
static int push_error(lua_State *L, const struct cg_err *err) {
  lua_pushnil(L);
  lua_pushstring(L, cg_code_name(err->code));
  lua_pushstring(L, err->message);
  return 3;
}

/* encode(value, name?, size_max?) -> text | nil, code, message */
static int lua_encode(lua_State *L) {
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  cg_buf_append(buf, "keep", 4);
  struct cg_err err;
  int top = lua_gettop(L);
  const char *name = lua_tostring(L, 2);
  size_t size_max = lua_isnumber(L, 3) ? (size_t)lua_tonumber(L, 3) : CG_VALUE_BYTES_MAX;
  enum cg_code code = cg_value_encode(L, 1, name, buf, size_max, &err);
  assert_int_equal(lua_gettop(L), top);
  assert_memory_equal(buf->data, "keep", 4);
  if (code != CG_OK) {
    assert_int_equal(code, err.code);
    assert_int_equal(buf->size, 4);
    assert_int_equal(cg_value_encode(L, 1 - top - 1, name, buf, size_max, NULL), code);
  } else {
    lua_pushlstring(L, (const char *)buf->data + 4, buf->size - 4);
  }
  cg_buf_unref(buf);
  return code == CG_OK ? 1 : push_error(L, &err);
}

/* decode(text, name?) -> value | nil, code, message. The text is given without a zero at its end,
 * at the very end of its memory, so that a sanitizer sees a byte too many. */
static int lua_decode(lua_State *L) {
  size_t size;
  const char *text = lua_tolstring(L, 1, &size);
  char *copy = malloc(size + 1);
  memcpy(copy + 1, text, size);
  struct cg_err err;
  int top = lua_gettop(L);
  enum cg_code code = cg_value_decode(L, lua_tostring(L, 2), copy + 1, size, &err);
  free(copy);
  assert_int_equal(lua_gettop(L), code == CG_OK ? top + 1 : top);
  return code == CG_OK ? 1 : push_error(L, &err);
}

/* encode_args(...) -> text | nil, code, message */
static int lua_encode_args(lua_State *L) {
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  struct cg_err err;
  int top = lua_gettop(L);
  enum cg_code code = cg_value_encode_args(L, 1, top, buf, 1000, &err);
  assert_int_equal(lua_gettop(L), top);
  if (code == CG_OK)
    lua_pushlstring(L, (const char *)buf->data, buf->size);
  cg_buf_unref(buf);
  return code == CG_OK ? 1 : push_error(L, &err);
}

/* decode_args(text) -> true, values... | nil, code, message */
static int lua_decode_args(lua_State *L) {
  size_t size;
  const char *text = lua_tolstring(L, 1, &size);
  struct cg_err err;
  int count = -1;
  lua_pushboolean(L, 1);
  int top = lua_gettop(L);
  if (cg_value_decode_args(L, text, size, &count, &err) != CG_OK) {
    assert_int_equal(lua_gettop(L), top);
    assert_int_equal(count, 0);
    return push_error(L, &err);
  }
  assert_int_equal(lua_gettop(L), top + count);
  return count + 1;
}

/* What every script below may use. */
static const char prelude[] =
    "null = json.null\n"
    "function ok(value, text)\n"
    "  local got, code, message = encode(value)\n"
    "  if got ~= text then error(tostring(got or message) .. ' is not ' .. text, 2) end\n"
    "end\n"
    "function refused(value, code, message, size_max)\n"
    "  local got, got_code, got_message = encode(value, 'result', size_max)\n"
    "  if got then error('accepted: ' .. got:sub(1, 200), 2) end\n"
    "  if got_code ~= code or got_message ~= message then\n"
    "    error(got_code .. ': ' .. got_message .. '\\nis not ' .. code .. ': ' .. message, 2)\n"
    "  end\n"
    "end\n"
    "function unread(text, code, message)\n"
    "  local got, got_code, got_message = decode(text, 'input')\n"
    "  if got ~= nil then error('accepted: ' .. text:sub(1, 200), 2) end\n"
    "  if got_code ~= code or got_message ~= message then\n"
    "    error(got_code .. ': ' .. got_message .. '\\nis not ' .. code .. ': ' .. message, 2)\n"
    "  end\n"
    "end\n"
    "function same(a, b)\n"
    "  if type(a) ~= type(b) then return false end\n"
    "  if type(a) ~= 'table' then return a == b and (a ~= 0 or 1 / a == 1 / b) end\n"
    "  for k, v in pairs(a) do if not same(v, b[k]) then return false end end\n"
    "  for k in pairs(b) do if a[k] == nil then return false end end\n"
    "  return true\n"
    "end\n";

/* Runs Lua source; fails the test with its error. */
static void run(lua_State *L, const char *source) {
  if (luaL_loadstring(L, source) != 0 || lua_pcall(L, 0, 0, 0) != 0)
    fail_msg("%s", lua_tostring(L, -1));
  assert_int_equal(lua_gettop(L), 0);
}

/* A new state with the functions above and the module as `json`. */
static lua_State *new_state(void) {
  lua_State *L = luaL_newstate();
  luaL_openlibs(L);
  lua_register(L, "encode", lua_encode);
  lua_register(L, "decode", lua_decode);
  lua_register(L, "encode_args", lua_encode_args);
  lua_register(L, "decode_args", lua_decode_args);
  lua_pushcfunction(L, cg_bind_json);
  lua_call(L, 0, 1);
  lua_setglobal(L, "json");
  run(L, prelude);
  return L;
}

static int setup(void **state) {
  *state = new_state();
  return 0;
}

static int teardown(void **state) {
  lua_close(*state);
  return 0;
}

static void values_are_written(void **state) {
  run(*state, "ok(nil, 'null') ok(null, 'null') ok(true, 'true') ok(false, 'false')\n"
              "ok(0, '0') ok(-0.0, '-0.0') ok(1.5, '1.5') ok(2^53, '9007199254740992')\n"
              "ok('', '\"\"') ok('a\"\\n\\0', '\"a\\\\\"\\\\n\\\\u0000\"')\n"
              "ok({}, '{}') ok(json.array(), '[]') ok(json.empty_array, '[]')\n"
              "ok({1, 'a', {}}, '[1,\"a\",{}]') ok({a = 1}, '{\"a\":1}')\n"
              "ok({b = 1, a = 2, ['a\\0'] = 3, aa = 4, [''] = 5, ['\\195\\164'] = 6},\n"
              "   '{\"\":5,\"a\":2,\"a\\\\u0000\":3,\"aa\":4,\"b\":1,\"\\195\\164\":6}')\n"
              "ok({id = 'x', items = {{sku = 'a', n = 1}, {sku = 'b', n = 2}}},\n"
              "   '{\"id\":\"x\",\"items\":[{\"n\":1,\"sku\":\"a\"},{\"n\":2,\"sku\":\"b\"}]}')\n"
              "ok({null, null}, '[null,null]')\n"
              "ok(setmetatable({a = 1}, {__index = {b = 2}, __pairs = error}), '{\"a\":1}')\n"
              "ok(setmetatable({}, {}), '{}')\n");
}

static void lists_in_any_order_are_written(void **state) {
  run(*state, "local t = {} for i = 5, 1, -1 do t[i] = i end ok(t, '[1,2,3,4,5]')\n"
              "t = {} t[3] = 3 t[1] = 1 t[2] = 2 ok(t, '[1,2,3]')\n"
              "t = {x = 1} t[1] = 'a' t[2] = 'b' t.x = nil ok(t, '[\"a\",\"b\"]')\n"
              "t = {} for i = 1, 1000 do t[1001 - i] = 'v' end\n"
              "assert(#decode(encode(t)) == 1000)\n"
              "t = {1, 2, 3, nil, nil} ok(t, '[1,2,3]') ok({json.array{1}, 2}, '[[1],2]')\n");
}

static void values_that_json_cannot_hold_are_refused(void **state) {
  lua_pushlightuserdata(*state, *state);
  lua_setglobal(*state, "light");
  run(*state,
      "local no = ' cannot be stored; return data only'\n"
      "refused(print, 'invalid', 'result: a function' .. no)\n"
      "refused({items = {1, 2, {callback = print}}}, 'invalid',\n"
      "        'result.items[3].callback: a function' .. no)\n"
      "refused({light}, 'invalid', 'result[1]: a light userdata' .. no)\n"
      "refused({io.stdout}, 'invalid', 'result[1]: a userdata' .. no)\n"
      "refused({['my key'] = coroutine.create(print)}, 'invalid',\n"
      "        'result[\"my key\"]: a coroutine' .. no)\n"
      "refused({a = {b = require('ffi').new('int64_t', 1)}}, 'invalid', 'result.a.b: a cdata' .. "
      "no)\n"
      "refused({a = 0/0}, 'invalid', 'result.a: NaN is not a number that JSON can hold')\n"
      "refused({1/0}, 'invalid', 'result[1]: infinity is not a number that JSON can hold')\n"
      "refused({-1/0}, 'invalid', 'result[1]: -infinity is not a number that JSON can hold')\n"
      "refused({['\\233\\162\\132'] = 'ab\\255'}, 'invalid',\n"
      "        'result.\\233\\162\\132: the text is not UTF-8 (byte 0xFF at offset 2)')\n"
      "refused({['a\\255'] = 1}, 'invalid',\n"
      "        'result[\"a\\\\xFF\"]: the text is not UTF-8 (byte 0xFF at offset 1)')\n"
      "refused({a = {[true] = 1}}, 'invalid', 'result.a: a boolean cannot be a key; use strings')\n"
      "refused({1, [{}] = 1}, 'invalid', 'result: a table cannot be a key; use strings')\n");
}

static void tables_that_are_neither_list_nor_object_are_refused(void **state) {
  run(*state,
      "local both = 'result.t: a table with both number keys and named keys cannot be stored; "
      "use one or the other'\n"
      "refused({t = {1, 2, x = 1}}, 'invalid', both)\n"
      "local t = {x = 1} t[7] = 1 refused({t = t}, 'invalid', both)\n"
      "local function gaps(t, key)\n"
      "  refused(t, 'invalid', 'result: a list with gaps or a table with number keys cannot be '\n"
      "    .. 'stored; fill gaps with catga.null, use strings as keys (the key ' .. key .. ')')\n"
      "end\n"
      "gaps({[0] = 1}, 0) gaps({[0] = 0, 1, 2}, 0) gaps({[-1] = 1}, -1) gaps({[1.5] = 1}, 1.5)\n"
      "gaps({1, [1.5] = 1}, 1.5) gaps({1, nil, 3}, 3) gaps({[5] = 1}, 5) gaps({[2^60] = 1}, 2^60)\n"
      "gaps({1, 2, nil, 4}, 4) gaps({[1/0] = 1}, 'inf') gaps({1, 2, nil, nil, 5, [100] = 1}, 5)\n"
      "refused({t = json.array {x = 1}}, 'invalid',\n"
      "        'result.t: a table made by catga.json.array has named keys')\n");
}

static void cycles_and_depth_are_refused(void **state) {
  run(*state,
      "local t = {} t.self = t\n"
      "refused(t, 'invalid', 'result.self: a cycle: this table contains itself (1 levels up)')\n"
      "local a, b = {}, {} a.list = {1, b} b.back = a\n"
      "refused({a = a}, 'invalid',\n"
      "        'result.a.list[2].back: a cycle: this table contains itself (3 levels up)')\n"
      "local function nest(depth, leaf) for i = 1, depth do leaf = {leaf} end return leaf end\n"
      "ok(nest(128, 1), ('['):rep(128) .. '1' .. (']'):rep(128))\n"
      "assert(same(decode(encode(nest(128, 1))), nest(128, 1)))\n"
      "local _, code, message = encode(nest(129, 1), 'result')\n"
      "assert(code == 'limit' and message:find('nested deeper than 128 levels', 1, true), "
      "message)\n"
      "assert(message:find('^result%.%.%.%[1%]%[1%]'), message)\n"
      "local d = {1} for i = 1, 100 do d = {d, d} end\n"
      "_, code = encode(d, 'x', 1000000) assert(code == 'limit')\n");
}

static void size_has_a_bound(void **state) {
  run(*state,
      "assert(encode('12345678', nil, 10) == '\"12345678\"')\n"
      "refused('123456789', 'limit',\n"
      "        'result: here the JSON passes 10 bytes, the setting message_size_max', 10)\n"
      "refused({a = ('x'):rep(100)}, 'limit',\n"
      "        'result.a: here the JSON passes 50 bytes, the setting message_size_max', 50)\n"
      "assert(encode({1, 2}, nil, 5)) assert(not encode({1, 2}, nil, 4))\n"
      "assert(encode({a = 1}, nil, 7)) assert(not encode({a = 1}, nil, 6))\n"
      "assert(not encode({}, nil, 1)) assert(encode({}, nil, 2))\n"
      "local _, code, message = encode_args(('x'):rep(500), ('x'):rep(500))\n"
      "assert(code == 'limit' and message:find('^argument 2: '), message)\n");
}

static void json_is_read(void **state) {
  run(*state,
      "assert(decode('null') == null) assert(decode(' true ') == true)\n"
      "assert(decode('false') == false) assert(decode('-1.5e2') == -150)\n"
      "assert(decode('\"a\\\\u00e9\\\\n\"') == 'a\\195\\169\\n')\n"
      "assert(same(decode('{\"a\":[1,{\"b\":null}],\"c\":{}}'), {a = {1, {b = null}}, c = {}}))\n"
      "assert(encode(decode('[]')) == '[]' and encode(decode('{}')) == '{}')\n"
      "assert(encode(decode('{\"a\":[[],{}]}')) == '{\"a\":[[],{}]}')\n"
      "assert(getmetatable(decode('[1]')) == json.array_mt)\n"
      "assert(getmetatable(decode('{}')) == nil)\n");
}

/* Sizes around every change of method: held on the stack or not, local notes or userdata. */
static void all_sizes_come_back(void **state) {
  run(*state,
      "for count = 0, 70 do\n"
      "  local list, object = json.array(), {}\n"
      "  for i = 1, count do list[i] = i * 3 object['key' .. i] = {i} end\n"
      "  local value = {list = list, object = object}\n"
      "  local text = assert(encode(value))\n"
      "  assert(same(decode(text), value), count) assert(encode(decode(text)) == text)\n"
      "  local keys = {} for k in pairs(object) do keys[#keys + 1] = k end table.sort(keys)\n"
      "  local at = 1\n"
      "  for _, k in ipairs(keys) do at = assert(text:find('\"' .. k .. '\":', at, true)) end\n"
      "end\n"
      "local big = {} for i = 1, 20000 do big['k' .. i] = 'v' .. i end\n"
      "assert(same(decode(encode(big)), big))\n"
      "local long = ('\"\\\\a\\n'):rep(2000) assert(decode(encode(long)) == long)\n"
      "assert(same(decode(encode({long, {long}})), {long, {long}}))\n");
}

static void duplicate_keys_are_refused(void **state) {
  run(*state,
      "unread('{\"a\":1,\"a\":2}', 'invalid', 'input.a: this key is there twice')\n"
      "unread('{\"o\":[1,{\"x\":1,\"y\":2,\"x\":3}]}', 'invalid',\n"
      "       'input.o[2].x: this key is there twice')\n"
      "unread('{\"a\":null,\"\\\\u0061\":1}', 'invalid', 'input.a: this key is there twice')\n"
      "for count = 1, 40 do\n"
      "  for again = 1, count do\n"
      "    local parts = {} for i = 1, count do parts[i] = ('\"k%d\":false'):format(i) end\n"
      "    parts[count + 1] = ('\"k%d\":1'):format(again)\n"
      "    unread('{' .. table.concat(parts, ',') .. '}', 'invalid',\n"
      "           'input.k' .. again .. ': this key is there twice')\n"
      "  end\n"
      "end\n");
}

static void what_is_not_json_is_refused_with_its_path(void **state) {
  run(*state,
      "unread('{\"a\":[1,9007199254740993]}', 'invalid', 'input.a[2]: line 1, column 9: the "
      "integer '\n"
      "  .. '9007199254740993 is beyond 2^53 and would be rounded; send it as a string')\n"
      "unread('', 'invalid', 'input: line 1, column 1: the text ends where a value is expected')\n"
      "unread('[1,]', 'invalid', \"input[2]: line 1, column 4: a value is expected, not ']'\")\n"
      "unread('{\"a\":1 2}', 'invalid',\n"
      "       \"input: line 1, column 8: a comma or } is expected, not '2'\")\n"
      "unread('{\"a\":tru}', 'invalid', \"input.a: line 1, column 6: a value is expected, not "
      "'t'\")\n"
      "unread('1 2', 'invalid', \"input: line 1, column 3: the end of the text is expected, not "
      "'2'\")\n"
      "unread(']', 'invalid', \"input: line 1, column 1: a value is expected, not ']'\")\n"
      "for _, open in ipairs { '[', '{\"a\":', '[{\"\":' } do\n"
      "  local value, code, message = decode(open:rep(100000), 'input')\n"
      "  assert(value == nil and code == 'limit')\n"
      "  assert(message:find('nested deeper than 128 levels', 1, true), message)\n"
      "end\n");
}

/* The room for unescaped strings is not taken when there is no backslash. */
static void a_long_text_with_a_broken_string_is_refused(void **state) {
  run(*state, "local long = ('x'):rep(2000)\n"
              "for _, tail in ipairs { '', '\\n\"', '\\255\"', '\\195', '\\0\"' } do\n"
              "  local value, code = decode('{\"a\":\"' .. long .. tail)\n"
              "  assert(value == nil and code == 'invalid')\n"
              "end\n"
              "assert(decode('\"' .. long .. '\\195\\169\"') == long .. '\\195\\169')\n"
              "for size = 500, 520 do\n"
              "  local text = ('x'):rep(size) .. '\\n'\n"
              "  assert(decode(encode(text)) == text)\n"
              "end\n");
}

static void paths_stay_short(void **state) {
  run(*state,
      "local _, _, message = encode({[('k'):rep(500)] = {[('\\1'):rep(500)] = print}}, 'result')\n"
      "assert(#message < 300, message) assert(message:find('kkk...', 1, true), message)\n"
      "assert(message:find('\\\\x01...\"]: a function', 1, true), message)\n"
      "_, _, message = encode({[('\\233\\162\\132'):rep(20)] = print}, 'result')\n"
      "assert(message == 'result.' .. ('\\233\\162\\132'):rep(13) .. '...: a function cannot be '\n"
      "  .. 'stored; return data only', message)\n"
      "_, _, message = encode({['end'] = {['1a'] = {[''] = print}}})\n"
      "assert(message:find('^value.end%[\"1a\"%]%[\"\"%]: '), message)\n");
}

static void arguments_keep_nil_in_its_place(void **state) {
  run(*state, "local function go(text, ...)\n"
              "  local count = select('#', ...)\n"
              "  local got = assert(encode_args(...)) assert(got == text, got)\n"
              "  local back = {decode_args(got)}\n"
              "  assert(select('#', decode_args(got)) == count + 1)\n"
              "  for i = 1, count do assert(same(back[i + 1], (select(i, ...))), i) end\n"
              "end\n"
              "go('[]') go('[1]', 1) go('[null]', null) go('[1,\"a\",{\"b\":[]}]', 1, 'a', {b = "
              "json.array()})\n"
              "go('{\"args\":[null],\"nils\":[1]}', nil)\n"
              "go('{\"args\":[1,null,null],\"nils\":[2]}', 1, nil, null)\n"
              "go('{\"args\":[null,null,{}],\"nils\":[1,2]}', nil, nil, {})\n"
              "go('{\"args\":[1,null],\"nils\":[2]}', 1, nil)\n"
              "go('[{\"args\":1}]', {args = 1})\n"
              "local long = ('\\n'):rep(300) go('[\"' .. ('\\\\n'):rep(300) .. '\"]', long)\n"
              "local _, code, message = encode_args(1, {f = print})\n"
              "assert(code == 'invalid' and message:find('^argument 2.f: a function'), message)\n"
              "_, code = encode_args(unpack({}, 1, 201)) assert(code == 'limit')\n"
              "assert(encode_args(unpack({}, 1, 60)))\n");
}

static void damaged_arguments_are_refused(void **state) {
  run(*state,
      "for _, text in ipairs {\n"
      "  '', '1', '{}', '[1', '[1]]', '{\"args\":[1]}', '{\"args\":[1],\"nils\":[1]}',\n"
      "  '{\"args\":[null],\"nils\":[2]}', '{\"args\":[null],\"nils\":[0]}',\n"
      "  '{\"args\":[null,null],\"nils\":[2,1]}', '{\"args\":[null],\"nils\":[1,1]}',\n"
      "  '{\"args\":[null],\"nils\":[1.5]}', '{\"args\":[null],\"nils\":[\"1\"]}',\n"
      "  '{\"nils\":[1],\"args\":[null]}', '{\"args\":[null],\"nils\":[1],\"x\":1}',\n"
      "  '{\"args\":{},\"nils\":[]}', '{\"args\":[null],\"nils\":[1]} 1',\n"
      "  '{\"args\":[null],\"nils\":[-1]}', '{\"args\":[null],\"nils\":[1e300]}',\n"
      "} do\n"
      "  local value, code = decode_args(text)\n"
      "  assert(value == nil and code == 'invalid', text)\n"
      "end\n"
      "local _, code = decode_args('[' .. ('1,'):rep(200) .. '1]') assert(code == 'limit')\n"
      "assert(select('#', decode_args('[' .. ('1,'):rep(199) .. '1]')) == 201)\n"
      "local _, _, message = decode_args('[1,{\"a\":[2,]}]')\n"
      "assert(message:find('^argument 2.a%[2%]: line 1, column 12'), message)\n");
}

static void the_module_is_as_annotated(void **state) {
  run(*state,
      "local text = assert(json.encode({a = {1}})) assert(text == '{\"a\":[1]}')\n"
      "assert(json.encode(nil) == 'null' and json.decode('null') == json.null)\n"
      "local value, err = json.encode({print}) assert(value == nil and err.code == 'invalid')\n"
      "assert(err.retryable == false)\n"
      "assert(err.message == 'value[1]: a function cannot be stored; return data only')\n"
      "assert(tostring(err) == 'invalid: ' .. err.message)\n"
      "value, err = json.decode('[') assert(value == nil and err.code == 'invalid')\n"
      "err.code, err.message = nil, {} assert(tostring(err) == '?: ?')\n"
      "assert(not pcall(json.encode)) assert(not pcall(json.decode)) assert(not pcall(json.decode, "
      "1))\n"
      "assert(not pcall(json.array, 1)) assert(json.empty_array_mt == json.array_mt)\n"
      "local t = {} assert(json.array(t) == t and json.encode(t) == '[]')\n"
      "local long = ('x'):rep(200000) assert(json.decode(json.encode(long)) == long)\n"
      "assert(json.encode({1}) == '[1]')\n"
      "assert(require('cjson').null == json.null)\n");
}

static void random_values_come_back(void **state) {
  run(*state,
      "math.randomseed(42) local random = math.random\n"
      "local ffi = require 'ffi' local u = ffi.new('union { double d; uint32_t w[2]; }')\n"
      "local function number()\n"
      "  if random(2) == 1 then return random(-1000000, 1000000) / 10 ^ random(0, 4) end\n"
      "  u.w[0] = random(0, 2 ^ 32 - 1)\n" /* Finite: a NaN of other bits breaks LuaJIT. */
      "  u.w[1] = random(0, 2047 * 2 ^ 20 - 1) + random(0, 1) * 2 ^ 31\n"
      "  return u.d\n"
      "end\n"
      "local parts = {'a', '\"', '\\\\', '\\n', '\\0', '\\31', '\\127', '\\195\\169',\n"
      "               '\\233\\162\\132', '\\240\\159\\152\\128', 'order', '/', ' '}\n"
      "local function text() local t = {}\n"
      "  for i = 1, random(0, 12) do t[i] = parts[random(#parts)] end return table.concat(t) end\n"
      "local function value(depth)\n"
      "  local kind = random(depth > 5 and 5 or 8)\n"
      "  if kind == 1 then return number() elseif kind == 2 then return text()\n"
      "  elseif kind == 3 then return random(2) == 1 elseif kind == 4 then return null\n"
      "  elseif kind == 5 then return number()\n"
      "  elseif kind == 6 then local t = json.array()\n"
      "    for i = 1, random(0, 20) do t[i] = value(depth + 1) end return t\n"
      "  else local t = {} for i = 1, random(0, 20) do t[text()] = value(depth + 1) end return t "
      "end\n"
      "end\n"
      "for i = 1, 400 do local v = value(3) local t = assert(encode(v))\n"
      "  local back, _, message = decode(t) assert(same(v, back), message or t)\n"
      "  assert(encode(back) == t) end\n");
}

static void cjson_agrees_where_it_is_exact(void **state) {
  run(*state,
      "local cjson = require 'cjson' math.randomseed(7) local random = math.random\n"
      "local function value(depth)\n"
      "  local kind = random(depth > 4 and 4 or 6)\n"
      "  if kind == 1 then return random(-100000, 100000) / 8\n"
      "  elseif kind == 2 then return ('text \\195\\169 \"\\\\\\n' .. random(1000)):sub(random(4) "
      "* 5)\n"
      "  elseif kind == 3 then return random(2) == 1 elseif kind == 4 then return null end\n"
      "  local t = {}\n"
      "  for i = 1, random(12) do t[kind == 5 and i or 'k' .. random(100)] = value(depth + 1) end\n"
      "  return t\n"
      "end\n"
      "for i = 1, 500 do\n"
      "  local v = {value(1)}\n"
      "  local ours, theirs = json.encode(v), cjson.encode(v)\n"
      "  if ours then\n"
      "    assert(same(cjson.decode(ours), v)) assert(same(json.decode(theirs), v))\n"
      "    assert(json.encode(cjson.decode(ours)) == ours)\n"
      "  end\n"
      "end\n");
}

static void equal_values_are_equal_bytes_in_every_state(void **state) {
  (void)state;
  const char *source =
      "local t = {} for i = 1, 30 do t['key' .. (i * 7) % 31] = {x = i, y = 2, z = 3} end\n"
      "t.order_id, t.customer, t.amount, t.items = '42', {name = 'a', id = 'b'}, 1.25,\n"
      "  {{sku = 's', quantity = 2, price = 9.99}}\n"
      "return json.encode(t)\n";
  char *first = NULL;
  for (int i = 0; i < 100; i++) {
    lua_State *L = new_state();
    if (luaL_loadstring(L, source) != 0 || lua_pcall(L, 0, 1, 0) != 0)
      fail_msg("%s", lua_tostring(L, -1));
    const char *text = lua_tostring(L, -1);
    assert_non_null(text);
    if (first == NULL)
      first = strdup(text);
    assert_string_equal(text, first);
    lua_close(L);
  }
  free(first);
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

/* Decodes and encodes the text in upvalue 1 many times, keeping all. */
static int use_memory(lua_State *L) {
  size_t size;
  const char *text = lua_tolstring(L, 1, &size);
  struct cg_buf *buf = lua_touserdata(L, 2);
  lua_newtable(L);
  for (int i = 1;; i++) {
    struct cg_err err;
    assert_int_equal(cg_value_decode(L, NULL, text, size, &err), CG_OK);
    buf->size = 0;
    assert_int_equal(cg_value_encode(L, -1, NULL, buf, 10000, &err), CG_OK);
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

static void the_widest_and_deepest_value_fits_the_stack(void **state) {
  run(*state, "local head = {} for i = 1, 15 do head[i] = ('\"k%02d\":%d'):format(i, i) end\n"
              "local level = '{' .. table.concat(head, ',') .. ',\"z\":'\n"
              "local text = level:rep(128) .. '0' .. ('}'):rep(128)\n"
              "local value, code, message = decode(text)\n"
              "assert(value, message) assert(encode(value) == text)\n");
}

static void a_small_stack_is_grown(void **state) {
  lua_State *L = *state;
  char text[4 * CG_JSON_DEPTH_MAX + 1] = "";
  for (int i = 0; i < CG_JSON_DEPTH_MAX; i++)
    strcat(text, "[1,");
  text[strlen(text) - 1] = '\0';
  for (int i = 0; i < CG_JSON_DEPTH_MAX; i++)
    strcat(text, "]");
  lua_State *thread = lua_newthread(L);
  struct cg_err err;
  struct cg_buf *buf = cg_buf_take(NULL, 0);
  assert_int_equal(cg_value_decode(thread, NULL, text, strlen(text), &err), CG_OK);
  assert_int_equal(lua_gettop(thread), 1);
  assert_int_equal(cg_value_encode(thread, 1, NULL, buf, 10000, &err), CG_OK);
  assert_int_equal(buf->size, strlen(text));
  assert_memory_equal(buf->data, text, buf->size);
  cg_buf_unref(buf);
  lua_pop(L, 1);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
  const struct CMUnitTest tests[] = {
      TEST(values_are_written),
      TEST(lists_in_any_order_are_written),
      TEST(values_that_json_cannot_hold_are_refused),
      TEST(tables_that_are_neither_list_nor_object_are_refused),
      TEST(cycles_and_depth_are_refused),
      TEST(size_has_a_bound),
      TEST(json_is_read),
      TEST(all_sizes_come_back),
      TEST(duplicate_keys_are_refused),
      TEST(what_is_not_json_is_refused_with_its_path),
      TEST(a_long_text_with_a_broken_string_is_refused),
      TEST(paths_stay_short),
      TEST(arguments_keep_nil_in_its_place),
      TEST(damaged_arguments_are_refused),
      TEST(the_module_is_as_annotated),
      TEST(random_values_come_back),
      TEST(cjson_agrees_where_it_is_exact),
      TEST(equal_values_are_equal_bytes_in_every_state),
      TEST(lack_of_memory_is_raised_and_leaks_nothing),
      TEST(the_widest_and_deepest_value_fits_the_stack),
      TEST(a_small_stack_is_grown),
  };
#undef TEST
  return cmocka_run_group_tests(tests, NULL, NULL);
}
