/* codec.h - the door of the codec folder: JSON and UTF-8, without Lua.
 *
 * How to use: other folders include this file and no other of the folder. Owns: nothing. Thread:
 * any. */
#ifndef CG_CODEC_CODEC_H
#define CG_CODEC_CODEC_H

#include "codec/json.h" /* IWYU pragma: export */
#include "codec/utf8.h" /* IWYU pragma: export */

#endif
