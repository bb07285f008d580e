/* Reads the archive's header and index. Everything in them is bounded before it is used, although the digest was
 * checked first: a wrong digest is the usual sign of a file that was cut short on its way here. */

#include "launcher.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    HEADER_BYTES = 40,
    MOST_INDEX_BYTES = 16 << 20,
    MOST_ENTRIES = 1 << 17,
    MOST_BLOCK_BYTES = 16 << 20,
    BLOCK_RECORD_BYTES = 4 + DIGEST_BYTES,
};

static const char MAGIC[8] = "HEARTHPA";

struct cursor {
    const uint8_t *at, *end;
    bool short_of_bytes;
};

static const uint8_t *take(struct cursor *cursor, size_t count)
{
    static const uint8_t nothing[DIGEST_BYTES];
    if ((size_t)(cursor->end - cursor->at) < count) {
        cursor->short_of_bytes = true;
        return nothing;
    }
    cursor->at += count;
    return cursor->at - count;
}

static uint64_t number(struct cursor *cursor, size_t bytes)
{
    uint64_t value = 0;
    memcpy(&value, take(cursor, bytes), bytes);
    return le64toh(value);
}

static const char *text(struct cursor *cursor)
{
    size_t length = number(cursor, 2);
    const char *start = (const char *)take(cursor, length + 1);
    if (cursor->short_of_bytes || start[length] != '\0' || strlen(start) != length)
        cursor->short_of_bytes = true;
    return start;
}

static bool is_inside(const char *path)
{
    if (*path == '\0' || *path == '/')
        return false;
    for (const char *part = path; part; part = strchr(part, '/') ? strchr(part, '/') + 1 : NULL) {
        size_t length = strcspn(part, "/");
        if (length == 0 || (length == 1 && part[0] == '.') || (length == 2 && !memcmp(part, "..", 2)))
            return false;
    }
    return true;
}

static bool read_entries(struct archive *archive, struct cursor *index)
{
    uint64_t at = 0;
    for (uint32_t i = 0; i < archive->entry_count && !index->short_of_bytes; i++) {
        struct entry *entry = &archive->entries[i];
        entry->kind = (char)number(index, 1);
        entry->path = text(index);
        entry->start = at;
        if (entry->kind == KIND_LINK)
            entry->target = text(index);
        else
            entry->size = number(index, 8);
        if (!is_inside(entry->path) || entry->size > archive->unpacked - at)
            return false;
        if (entry->kind != KIND_FILE && entry->kind != KIND_PROGRAM && entry->kind != KIND_LINK)
            return false;
        at += entry->size;
    }
    return at == archive->unpacked;
}

static bool read_blocks(struct archive *archive, struct cursor *index, uint64_t at, uint64_t end)
{
    for (uint32_t i = 0; i < archive->block_count && !index->short_of_bytes; i++) {
        struct block *block = &archive->blocks[i];
        block->offset = at;
        block->packed = (uint32_t)number(index, 4);
        block->digest = take(index, DIGEST_BYTES);
        if (block->packed > end - at || block->packed > 2 * MOST_BLOCK_BYTES)
            return false;
        at += block->packed;
    }
    return at == end;
}

bool archive_open(struct archive *archive, int file, uint64_t offset, uint64_t size,
                  const uint8_t digest[DIGEST_BYTES], struct reason *reason)
{
    uint8_t header[HEADER_BYTES];
    if (size < HEADER_BYTES || pread(file, header, HEADER_BYTES, (off_t)offset) != HEADER_BYTES ||
        memcmp(header, MAGIC, sizeof MAGIC))
        return fail(reason, "the file is damaged: it holds no program");
    struct cursor fields = {header + sizeof MAGIC, header + HEADER_BYTES, false};
    archive->file = file;
    archive->glibc_minor = (unsigned)number(&fields, 4);
    archive->entry_count = (uint32_t)number(&fields, 4);
    archive->block_count = (uint32_t)number(&fields, 4);
    archive->block_size = (uint32_t)number(&fields, 4);
    archive->unpacked = number(&fields, 8);
    uint64_t index_size = number(&fields, 8);
    if (index_size > MOST_INDEX_BYTES || index_size > size - HEADER_BYTES || !archive->block_size ||
        archive->entry_count > MOST_ENTRIES || archive->block_size > MOST_BLOCK_BYTES ||
        archive->block_count != archive->unpacked / archive->block_size + !!(archive->unpacked % archive->block_size) ||
        archive->block_count > index_size / BLOCK_RECORD_BYTES)
        return fail(reason, "the file is damaged: its program index is out of bounds");

    size_t head_size = HEADER_BYTES + (size_t)index_size;
    uint8_t *head = malloc(head_size); /* kept: entries and blocks point into it */
    archive->entries = calloc(archive->entry_count + 1, sizeof *archive->entries);
    archive->blocks = calloc(archive->block_count + 1, sizeof *archive->blocks);
    if (!head || !archive->entries || !archive->blocks)
        return fail(reason, "there is no memory for its index");
    if (pread(file, head, head_size, (off_t)offset) != (ssize_t)head_size)
        return fail(reason, "the file is damaged: its program index cannot be read");
    sha256(head, head_size, archive->digest);
    if (memcmp(archive->digest, digest, DIGEST_BYTES))
        return fail(reason, "the file is damaged: its program index is not what was built");
    struct cursor index = {head + HEADER_BYTES, head + head_size, false};
    if (!read_entries(archive, &index) || !read_blocks(archive, &index, offset + head_size, offset + size) ||
        index.short_of_bytes || index.at != index.end)
        return fail(reason, "the file is damaged: its program index is malformed");
    return true;
}
