/* crc32c.c - CRC32C by the processor's instruction where it has one, else by slicing-by-8 tables.
 *
 * Slicing by 8 (Kounavis and Berry, 2005): table k holds, for each byte value, what that byte does
 * to the checksum when k more zero bytes follow it; eight bytes are then eight independent
 * look-ups. A checksum is linear over exclusive or, so a table's 256 entries follow from the eight
 * entries of its single-bit bytes: only those (BASIS_k) are written here, the compiler works out
 * the rest.
 * Owns: constant tables. Thread: any. */
#include "base/crc32c.h"

#include "base/bytes.h"

#if defined(__aarch64__)
#include <sys/auxv.h>
#endif

/* Table k at bytes 0x01, 0x02, 0x04, ... 0x80, for the reflected polynomial 0x82F63B78. */
/* clang-format off */
#define BASIS_0 \
  0xF26B8303, 0xE13B70F7, 0xC79A971F, 0x8AD958CF, \
  0x105EC76F, 0x20BD8EDE, 0x417B1DBC, 0x82F63B78
#define BASIS_1 \
  0x13A29877, 0x274530EE, 0x4E8A61DC, 0x9D14C3B8, \
  0x3FC5F181, 0x7F8BE302, 0xFF17C604, 0xFBC3FAF9
#define BASIS_2 \
  0xA541927E, 0x4F6F520D, 0x9EDEA41A, 0x38513EC5, \
  0x70A27D8A, 0xE144FB14, 0xC76580D9, 0x8B277743
#define BASIS_3 \
  0xDD45AAB8, 0xBF672381, 0x7B2231F3, 0xF64463E6, \
  0xE964B13D, 0xD725148B, 0xABA65FE7, 0x52A0C93F
#define BASIS_4 \
  0x38116FAC, 0x7022DF58, 0xE045BEB0, 0xC5670B91, \
  0x8F2261D3, 0x1BA8B557, 0x37516AAE, 0x6EA2D55C
#define BASIS_5 \
  0xEF306B19, 0xDB8CA0C3, 0xB2F53777, 0x6006181F, \
  0xC00C303E, 0x85F4168D, 0x0E045BEB, 0x1C08B7D6
#define BASIS_6 \
  0x68032CC8, 0xD0065990, 0xA5E0C5D1, 0x4E2DFD53, \
  0x9C5BFAA6, 0x3D5B83BD, 0x7AB7077A, 0xF56E0EF4
#define BASIS_7 \
  0x493C7D27, 0x9278FA4E, 0x211D826D, 0x423B04DA, \
  0x847609B4, 0x0D006599, 0x1A00CB32, 0x34019664
/* clang-format on */

#define BIT(byte, bit, value) (((byte) >> (bit)) & 1 ? (value) : 0u)
#define SUM(byte, a, b, c, d, e, f, g, h)                                                          \
  (BIT(byte, 0, a) ^ BIT(byte, 1, b) ^ BIT(byte, 2, c) ^ BIT(byte, 3, d) ^ BIT(byte, 4, e) ^       \
   BIT(byte, 5, f) ^ BIT(byte, 6, g) ^ BIT(byte, 7, h))
#define ENTRY(byte, ...) SUM(byte, __VA_ARGS__)
#define ENTRIES_4(byte, ...)                                                                       \
  ENTRY((byte), __VA_ARGS__), ENTRY((byte) + 1, __VA_ARGS__), ENTRY((byte) + 2, __VA_ARGS__),      \
      ENTRY((byte) + 3, __VA_ARGS__)
#define ENTRIES_16(byte, ...)                                                                      \
  ENTRIES_4((byte), __VA_ARGS__), ENTRIES_4((byte) + 4, __VA_ARGS__),                              \
      ENTRIES_4((byte) + 8, __VA_ARGS__), ENTRIES_4((byte) + 12, __VA_ARGS__)
#define ENTRIES_64(byte, ...)                                                                      \
  ENTRIES_16((byte), __VA_ARGS__), ENTRIES_16((byte) + 16, __VA_ARGS__),                           \
      ENTRIES_16((byte) + 32, __VA_ARGS__), ENTRIES_16((byte) + 48, __VA_ARGS__)
#define TABLE(...)                                                                                 \
  {                                                                                                \
    ENTRIES_64(0, __VA_ARGS__), ENTRIES_64(64, __VA_ARGS__), ENTRIES_64(128, __VA_ARGS__),         \
        ENTRIES_64(192, __VA_ARGS__)                                                               \
  }

static const uint32_t tables[8][256] = {TABLE(BASIS_0), TABLE(BASIS_1), TABLE(BASIS_2),
                                        TABLE(BASIS_3), TABLE(BASIS_4), TABLE(BASIS_5),
                                        TABLE(BASIS_6), TABLE(BASIS_7)};

#if defined(__x86_64__)
static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *bytes, size_t size);

uint32_t cg_crc32c(uint32_t crc, const void *bytes, size_t size) {
  if (__builtin_cpu_supports("sse4.2"))
    return crc32c_sse42(crc, bytes, size);
  return cg_crc32c_software(crc, bytes, size);
}
#elif defined(__aarch64__)
#define HWCAP_CRC32_BIT (1ul << 7) /* Linux's HWCAP_CRC32. */

static uint32_t crc32c_armv8(uint32_t crc, const uint8_t *bytes, size_t size);

uint32_t cg_crc32c(uint32_t crc, const void *bytes, size_t size) {
  if (getauxval(AT_HWCAP) & HWCAP_CRC32_BIT)
    return crc32c_armv8(crc, bytes, size);
  return cg_crc32c_software(crc, bytes, size);
}
#else
uint32_t cg_crc32c(uint32_t crc, const void *bytes, size_t size) {
  return cg_crc32c_software(crc, bytes, size);
}
#endif

uint32_t cg_crc32c_software(uint32_t crc, const void *bytes, size_t size) {
  const uint8_t *at = bytes;
  crc = ~crc;
  for (; size >= 8; size -= 8, at += 8) {
    uint64_t word = cg_bytes_load_64(at) ^ crc;
    crc = tables[7][word & 0xFF] ^ tables[6][word >> 8 & 0xFF] ^ tables[5][word >> 16 & 0xFF] ^
          tables[4][word >> 24 & 0xFF] ^ tables[3][word >> 32 & 0xFF] ^
          tables[2][word >> 40 & 0xFF] ^ tables[1][word >> 48 & 0xFF] ^ tables[0][word >> 56];
  }
  for (; size > 0; size--, at++)
    crc = crc >> 8 ^ tables[0][(crc ^ *at) & 0xFF];
  return ~crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *bytes,
                                                               size_t size) {
  uint64_t wide = ~crc;
  for (; size >= 8; size -= 8, bytes += 8)
    wide = __builtin_ia32_crc32di(wide, cg_bytes_load_64(bytes));
  crc = (uint32_t)wide;
  for (; size > 0; size--, bytes++)
    crc = __builtin_ia32_crc32qi(crc, *bytes);
  return ~crc;
}
#endif

#if defined(__aarch64__)
/* Assembly, because gcc and clang spell the builtin and its target attribute differently. */
static uint32_t crc32c_armv8(uint32_t crc, const uint8_t *bytes, size_t size) {
  crc = ~crc;
  for (; size >= 8; size -= 8, bytes += 8)
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1"
            : "+r"(crc)
            : "r"(cg_bytes_load_64(bytes)));
  for (; size > 0; size--, bytes++)
    __asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"((uint32_t)*bytes));
  return ~crc;
}
#endif
