/* What the launcher's parts share. The launcher is the first part of the one-file executable: it finds the
 * program archive in its own file, unpacks it once per build into a private directory, and becomes it.
 * It knows neither models nor settings, and links nothing that a bare machine could lack. */

#ifndef HEARTH_LAUNCHER_H
#define HEARTH_LAUNCHER_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_BYTES 32
#define REASON_BYTES (PATH_MAX + 512)

/* A sentence on why something cannot be done; empty while nothing failed. */
struct reason {
    char text[REASON_BYTES];
};

bool fail(struct reason *reason, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* launcher_sha256.c */
void sha256(const uint8_t *bytes, size_t count, uint8_t digest[DIGEST_BYTES]);

/* launcher_archive.c: the program archive as build/program_archive.py writes it. */
enum { KIND_FILE = 'f', KIND_PROGRAM = 'x', KIND_LINK = 'l' };

struct entry {
    char kind;
    const char *path;   /* relative, no "." or ".." parts */
    const char *target; /* of a link */
    uint64_t start;     /* of its bytes in the unpacked stream */
    uint64_t size;
};

struct block {
    uint64_t offset; /* in the executable */
    uint32_t packed;
    const uint8_t *digest;
};

struct archive {
    int file;
    unsigned glibc_minor; /* needs glibc 2.<this> */
    uint32_t entry_count, block_count, block_size;
    uint64_t unpacked; /* bytes of all files */
    struct entry *entries;
    struct block *blocks;
    uint8_t digest[DIGEST_BYTES]; /* of header and index, and through the blocks' digests of everything */
};

bool archive_open(struct archive *archive, int file, uint64_t offset, uint64_t size,
                  const uint8_t digest[DIGEST_BYTES], struct reason *reason);

/* launcher_unpack.c: between the archive and a directory. `*hopeless`: the file itself is damaged. */
bool unpack(const struct archive *archive, int directory, bool *hopeless, struct reason *reason);
bool is_whole(const struct archive *archive, int directory);      /* every entry is there in its size */
bool is_unchanged(const struct archive *archive, int directory); /* every byte is what the archive says */

/* launcher_place.c: the directories that may hold the unpacked program. */
enum { MOST_PLACES = 6 };

struct place {
    char path[PATH_MAX];
};

int list_places(struct place places[MOST_PLACES]);

/* Puts the program's directory into `program`. The lock that protects it stays open for the life of the process.
 * `*hopeless`: no other place would do better. */
bool prepare(const struct place *place, const struct archive *archive, char program[PATH_MAX], bool *unpacked,
             bool *hopeless, struct reason *reason);

#endif
