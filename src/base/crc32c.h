/* crc32c.h - the CRC32C checksum (Castagnoli polynomial 0x1EDC6F41, reflected; RFC 3720 B.4).
 *
 * Uses the SSE4.2 or ARMv8 instruction where the machine has it, else tables (slicing by 8).
 * Owns: constant tables. Thread: any. */
#ifndef CG_BASE_CRC32C_H
#define CG_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Checksum of `size` bytes, going on from `crc` (0 to begin, or a salt, or an earlier result). */
uint32_t cg_crc32c(uint32_t crc, const void *bytes, size_t size);
/* The same by tables only; for tests. */
uint32_t cg_crc32c_software(uint32_t crc, const void *bytes, size_t size);

#endif
